# SPDX-License-Identifier: Apache-2.0
"""Runs the server: refuses what is not safe, prints the first admin's link, serves until it is to end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from expunge.errors import InputError
from expunge.web import accounts, links
from expunge.web.settings import ServerSettings

if TYPE_CHECKING:
    from expunge.workspace import Workspace

TERMINATORS = "127.0.0.1,::1"  # whose word about the client's address is taken


def check_safe(workspace: Workspace, settings: ServerSettings) -> None:
    """Refuse to listen where others could reach it before it is safe to.

    Raises:
        InputError: If it would listen beyond this machine without an account, or without TLS in front.
    """
    if settings.is_loopback:
        return
    if not settings.behind_tls:
        raise InputError(
            f"The desk does not listen on {settings.host} without TLS in front of it.",
            "Passwords and the data of people who asked for erasure would cross the network in the clear.",
            "Put a TLS terminator in front, and name its host: --behind-tls HOST. See docs/serve.md.",
        )
    if not accounts.has_admin(workspace):
        raise InputError(
            f"The desk does not listen on {settings.host} before there is an account.",
            "Whoever came first could make it theirs.",
            "Start it once without --host, and make the first account on this machine.",
        )


def run(
    workspace: Workspace,
    settings: ServerSettings,
    say: Callable[[str], None],
    link_for: str | None = None,
) -> None:
    """Serve until the process is told to end; workers go on with what they do.

    Args:
        workspace: What is served.
        settings: What was given on the command line.
        say: Tells the person who started it.
        link_for: The account whose owner is to choose a new password: the last admin's was lost, say.

    Raises:
        InputError: If it is not safe, or the address cannot be listened on.
        NotFound: If there is no such account.
    """
    check_safe(workspace, settings)
    if link_for is not None:
        accounts.find(workspace, link_for)  # an unknown one, before anything is begun
    listening = _listen(settings)
    settings = replace(settings, port=listening.getsockname()[1])
    import uvicorn

    from expunge.web.app import create_app

    say(f"The desk of {workspace.root}: {settings.address}")
    if not accounts.has_admin(workspace):
        minutes = int(settings.link_lifetime.total_seconds() // 60)
        secret = links.first(workspace, settings)
        say(f"Nobody has an account yet. Make the first admin's within {minutes} minutes, once, at:")
        say(f"  {settings.address}/link/{secret}")
    if link_for is not None:
        say(f"By this link {link_for} chooses a new password, once, within ten minutes:")
        say(
            f"  {settings.address}/link/{links.invite(workspace, settings, link_for, settings.link_lifetime)}"
        )
    config = uvicorn.Config(
        create_app(workspace, settings),
        log_level="warning",
        access_log=False,  # its lines hold addresses and queries; the desk's own trail holds neither
        server_header=False,
        date_header=True,
        proxy_headers=settings.behind_tls is not None,
        forwarded_allow_ips=TERMINATORS,
        timeout_graceful_shutdown=5,  # somebody may follow a job for hours
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen()  # whoever opens the link at once waits for the server, and is not turned away
    except OSError as error:
        listening.close()
        raise InputError(
            f"{settings.host}:{settings.port} cannot be listened on.",
            error.strerror or os.strerror(error.errno or 0),
            "Choose another --host or --port; perhaps a desk runs there already.",
        ) from error
    return listening

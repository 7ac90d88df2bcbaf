# SPDX-License-Identifier: Apache-2.0
"""Run the web server: check that it is safe, print the first admin's link, and serve."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from expunge.errors import InputError
from expunge.web.auth import accounts, links
from expunge.web.settings import ServerSettings

if TYPE_CHECKING:
    from expunge.workspace import Workspace

TERMINATORS = "127.0.0.1,::1"  # proxies whose forwarded client addresses are trusted


def check_safe(workspace: Workspace, settings: ServerSettings) -> None:
    """Check that the server may listen on its address.

    Raises:
        InputError: If other machines could reach it and there is no admin account or no TLS in front.
    """
    if settings.is_loopback:
        return
    if not settings.behind_tls:
        raise InputError(
            f"The desk does not listen on {settings.host} without TLS in front of it.",
            "Passwords and personal data would cross the network unencrypted.",
            "Put a TLS terminator in front, and name its host: --behind-tls HOST. See docs/serve.md.",
        )
    if not accounts.has_admin(workspace):
        raise InputError(
            f"The desk does not listen on {settings.host} before there is an account.",
            "The first visitor could create the admin account.",
            "Start it once without --host, and make the first account on this machine.",
        )


def run(
    workspace: Workspace,
    settings: ServerSettings,
    say: Callable[[str], None],
    link_for: str | None = None,
) -> None:
    """Serve until the process is stopped. Workers continue their jobs after that.

    Args:
        workspace: The workspace to serve.
        settings: The server's settings.
        say: Prints a line for the user.
        link_for: Name of an account for which to print a link for choosing a new password.

    Raises:
        InputError: If it is not safe to serve, or the address is not available.
        NotFound: If the account does not exist.
    """
    check_safe(workspace, settings)
    if link_for is not None:
        accounts.find(workspace, link_for)  # fail early if the account does not exist
    listening = _listen(settings)
    settings = replace(settings, port=listening.getsockname()[1])
    import uvicorn

    from expunge.web.app import create_app

    say(f"The desk of {workspace.root}: {settings.address}")
    if not accounts.has_admin(workspace):
        minutes = int(settings.link_lifetime.total_seconds() // 60)
        secret = links.first_admin_link(workspace, settings)
        say(f"There is no account yet. Create the first admin's within {minutes} minutes, once, at:")
        say(f"  {settings.address}/link/{secret}")
    if link_for is not None:
        say(f"With this link {link_for} can choose a new password, once, within ten minutes:")
        say(
            f"  {settings.address}/link/{links.invite(workspace, settings, link_for, settings.link_lifetime)}"
        )
    config = uvicorn.Config(
        create_app(workspace, settings),
        log_level="warning",
        access_log=False,  # it would hold addresses and queries; the desk's own access log holds neither
        server_header=False,
        date_header=True,
        proxy_headers=settings.behind_tls is not None,
        forwarded_allow_ips=TERMINATORS,
        timeout_graceful_shutdown=5,  # event streams may be open for hours
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen()  # connections made before the server is ready wait instead of failing
    except OSError as error:
        listening.close()
        raise InputError(
            f"The desk cannot listen on {settings.host}:{settings.port}.",
            error.strerror or os.strerror(error.errno or 0),
            "Choose another --host or --port; perhaps a desk is already running there.",
        ) from error
    return listening

# SPDX-License-Identifier: Apache-2.0
"""The command ``serve``: the officer's desk."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from expunge.cli.output import Context, common_options
from expunge.errors import InputError

NEEDED = ("argon2", "fastapi", "python_multipart", "uvicorn")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8017, show_default=True, help="The port; 0: any."
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Officers may see pictures of datasets below this folder. May be repeated.",
)
@click.option(
    "--behind-tls",
    metavar="HOST",
    help="A TLS proxy forwards requests for HOST to this server; required to listen on other addresses than"
    " localhost.",
)
@click.option(
    "--link-for", metavar="NAME", help="Also print a one-time link with which NAME sets a new password."
)
@common_options
def serve(
    context: Context,
    host: str,
    port: int,
    roots: tuple[Path, ...],
    behind_tls: str | None,
    link_for: str | None,
) -> None:
    """Serve the officer's desk: web pages for the queue, requests and evidence, and a REST API.

    At first start it prints a link, valid for ten minutes, with which the first admin sets a password. It
    listens on this machine only, unless there is an account and --behind-tls is given.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            "The desk's packages are not installed.",
            f"Missing: {', '.join(missing)}.",
            "Install them with: pip install 'expunge[serve]'",
        )
    from expunge.web.server import run
    from expunge.web.settings import ServerSettings

    workspace = context.workspace()
    settings = ServerSettings(
        host=host,
        port=port,
        roots=tuple(root.absolute() for root in roots),
        behind_tls=behind_tls.lower() if behind_tls else None,
        four_eyes=workspace.settings.approval.four_eyes,
    )
    run(workspace, settings, context.say, link_for)

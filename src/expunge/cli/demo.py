# SPDX-License-Identifier: Apache-2.0
"""The command ``demo``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from expunge.cli.output import Context, common_options


@click.command()
@click.option(
    "--out",
    metavar="DIR",
    default="demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the pictures, the workspace and the report go.",
)
@click.option("--quick", is_flag=True, help="Fewer people and epochs: under three minutes.")
@common_options
def demo(context: Context, out: Path, quick: bool) -> int:
    """Tell the whole story on real faces: train, forget a person, prove it.

    A YOLO26 face detector learns from people of whom one withdraws. It ends with a report in HTML.
    """
    from expunge.demo.settings import FULL, QUICK
    from expunge.demo.story import Story

    if context.workspace_path is not None:
        raise click.UsageError("The demo makes a workspace of its own: say where with --out.")
    given = {"--threads": context.threads, "--device": context.device}
    options = tuple(str(word) for pair in given.items() if pair[1] is not None for word in pair)
    settings = replace(QUICK if quick else FULL, options=options)
    result = Story(out.resolve(), settings, context.say).tell()
    context.emit(result)
    return 0 if result["equal"] else 1

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
    help="Folder for the pictures, the workspace and the report.",
)
@click.option("--quick", is_flag=True, help="Fewer people and epochs: under three minutes.")
@common_options
def demo(context: Context, out: Path, quick: bool) -> int:
    """Run a demo on real faces: train, forget a person, verify the result.

    A YOLO26 face detector is trained on people of whom one withdraws. The demo ends with a report in HTML.
    """
    from expunge.demo.settings import FULL, QUICK
    from expunge.demo.story import Story

    if context.workspace_path is not None:
        raise click.UsageError("The demo makes its own workspace: name its folder with --out.")
    given = {"--threads": context.threads, "--device": context.device}
    options = tuple(str(part) for pair in given.items() if pair[1] is not None for part in pair)
    settings = replace(QUICK if quick else FULL, options=options)
    result = Story(out.resolve(), settings, context.say).run()
    context.emit(result)
    return 0 if result["equal"] else 1

# SPDX-License-Identifier: Apache-2.0
"""Write the reference of all commands from the command line itself: ``commands.py docs/commands.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from expunge.cli.main import cli

WIDTH = 100
HEAD = "# Commands\n\nWritten by `make docs` from the command line's own help; do not edit it by hand.\n"


def main() -> None:
    """Write the reference, or print it."""
    text = reference()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def reference() -> str:
    """Return the reference as Markdown: a section for each command, groups before what is in them."""
    return HEAD + "".join(sections(cli, "expunge", None))


def sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """Yield the section of a command, then those of its sub-commands."""
    settings = {**command.context_settings, "terminal_width": WIDTH}
    context = click.Context(command, parent, name, **settings)
    yield f"\n## `{context.command_path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            child = command.get_command(context, sub)
            if child is not None:
                yield from sections(child, sub, context)


if __name__ == "__main__":
    main()

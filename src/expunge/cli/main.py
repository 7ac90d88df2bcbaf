# SPDX-License-Identifier: Apache-2.0
"""The entry point: a table of commands, each imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from expunge.cli import output

# name: (import path, one-line help)
COMMANDS = {
    "demo": ("expunge.cli.demo:demo", "Run a demo on real faces, in a few minutes."),
    "init": ("expunge.cli.data:init", "Make a workspace in a folder."),
    "data": ("expunge.cli.data:data", "Add, show and export datasets."),
    "plan": (
        "expunge.cli.training:plan",
        "Plan an erasable training and predict what erasures cost.",
    ),
    "train": ("expunge.cli.training:train", "Train an erasable model."),
    "adopt": ("expunge.cli.training:adopt", "Record a model that was trained elsewhere."),
    "models": ("expunge.cli.training:models", "List models, their versions and their lineage."),
    "status": ("expunge.cli.training:status", "Show whether weights are current or superseded."),
    "forget": ("expunge.cli.erasure:forget", "Make models forget a person, samples or a class."),
    "request": (
        "expunge.cli.request:request",
        "Manage the queue of erasure requests and their deadlines.",
    ),
    "repair": ("expunge.cli.erasure:repair", "Complete deferred or interrupted erasures."),
    "audit": (
        "expunge.cli.audit:audit",
        "Test whether a model still distinguishes forgotten from unseen data.",
    ),
    "verify": ("expunge.cli.erasure:verify", "Verify a certificate, a request or a model, also by replay."),
    "purge": ("expunge.cli.purge:purge", "Delete files that forgotten data left behind."),
    "export": (
        "expunge.cli.export:export",
        "Export a model to another format and check it against its weights.",
    ),
    "report": ("expunge.cli.evidence:report", "Write a human-readable report of a request."),
    "keys": ("expunge.cli.evidence:keys", "Show or change the key that signs certificates."),
    "restored": (
        "expunge.cli.evidence:restored",
        "After a backup was restored: erase again the people erased since.",
    ),
    "bias": ("expunge.cli.bias:bias", "Measure models by group and find harmful training data."),
    "serve": (
        "expunge.cli.serve:serve",
        "Serve the officer's desk: web pages and a REST API.",
    ),
    "bench": ("expunge.cli.bench:bench", "Measure speed and quality, from the project's repository."),
}


class LazyGroup(click.Group):
    """A group that lists its commands from a table, without importing them."""

    def __init__(self, *args: Any, table: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if it is not in the table."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands and their help from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run the command line; print an error as three lines or JSON, and exit with its code."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        run = super().main
        output.run(lambda: run(arguments, *rest, **extra), as_json="--json" in arguments)


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --workspace DIR, --device, --threads and --json. Exit codes: 0 done, 1 the"
    " verdict or check is negative, 2 bad usage or input.",
)
@click.version_option(package_name="expunge", prog_name="expunge")
def cli() -> None:
    """Make a trained vision model forget: a person, a set of files, a class."""


def main() -> NoReturn:
    """Run the command line."""
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes must not import from the current folder either
    cli.main(prog_name="expunge")


if __name__ == "__main__":
    main()

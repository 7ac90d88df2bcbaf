# SPDX-License-Identifier: Apache-2.0
"""The command ``bench``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from expunge import processes
from expunge.cli.output import Context, common_options
from expunge.errors import InputError


def checkout() -> Path:
    """Return the root folder of the project's repository.

    Raises:
        InputError: If the package is installed without the repository, which holds the benchmarks.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise InputError(
            "There are no benchmarks here.",
            "They are in the project's repository, not in the installed package.",
            "Clone it, run `make setup` there, and use its .venv/bin/expunge.",
        )
    return root


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("suite", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--quick", is_flag=True, help="A small run to check that it works, not for figures.")
@common_options
def bench(context: Context, suite: str | None, arguments: tuple[str, ...], quick: bool) -> int:
    """Measure speed and quality; without a SUITE, list the suites.

    Further arguments go to the suite: `expunge bench SUITE -- --help` shows its options. This command needs
    the project's repository.
    """
    root = checkout()
    if context.workspace_path is not None:
        raise click.UsageError("A benchmark makes its own data, and needs no workspace.")
    command = [*([suite] if suite else []), *arguments]
    command += ["--quick"] if quick else []
    command += ["--device", context.device] if context.device is not None else []
    if suite is None and command:
        raise click.UsageError("Which suite? Without options, `expunge bench` lists them.")
    stdout = sys.stderr.fileno() if context.json else None
    code = processes.run("benchmarks", *command, folder=root, paths=[root], stdout=stdout).returncode
    context.emit({"suite": suite, "exit_code": code})
    return code

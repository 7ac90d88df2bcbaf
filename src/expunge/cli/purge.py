# SPDX-License-Identifier: Apache-2.0
"""The command ``purge``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import Context, common_options

if TYPE_CHECKING:
    from rich.console import Group


MOST_SHOWN = 200


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and why; change nothing.")
@click.option(
    "--include",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Also search this folder for files of Ultralytics and copies. May be repeated.",
)
@click.option("--expect", metavar="PLAN", help="Digest of a dry run's plan: delete exactly these files.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@common_options
def purge(context: Context, dry_run: bool, include: tuple[Path, ...], expect: str | None, yes: bool) -> int:
    """Delete files that forgotten data left behind: superseded weights, checkpoints, exports, caches.

    Searches the workspace, folders and files that expunge exported, and folders named with --include. Links
    are not followed. Your originals are never deleted (use `expunge forget --delete-originals`). Exit code 1
    if a file could not be deleted, or had changed meanwhile.
    """
    from expunge.purge import run

    workspace = context.workspace()
    confirm = _confirm if sys.stdin.isatty() and not yes and not dry_run else None
    options = run.PurgeOptions(include, expect, confirm)
    result = run.dry_run(workspace, options) if dry_run else run.purge(workspace, options)
    context.emit(result, lambda: _result_table(result))
    return 1 if result.get("failed") else 0


def _confirm(preview: dict[str, Any]) -> bool:
    from rich.console import Console

    Console(stderr=True).print(_result_table(preview))
    return click.confirm("Delete this now?", err=True)


def _result_table(result: dict[str, Any]) -> Group:
    """Return a table of the files that were or would be deleted, with notes below it."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    done = not result["dry_run"]
    verb = "deleted" if done else "would be deleted"
    files = [x for x in result["leftovers"] if x["kind"] != "folder"]
    table = Table(title=f"{len(files)} files, {_size(result['bytes'])}: {verb}", title_justify="left")
    for column in ("kind", "size", "file", "why", *(("result",) if done else ())):
        table.add_column(column, overflow="fold")
    for entry in result["leftovers"][:MOST_SHOWN]:
        note = f"{entry['reason']}" + (
            f"; {entry['other_names']} other name(s) of it remain" if entry["other_names"] else ""
        )
        cells = [entry["kind"], _size(entry["bytes"]), escape(printable(entry["path"])), escape(note)]
        if done:
            cells.append(escape(entry["why"]) if entry["why"] else "overwritten, deleted")
        table.add_row(*cells)
    hidden = len(result["leftovers"]) - MOST_SHOWN
    table.caption = f"… and {hidden:,} more: --json lists them all" if hidden > 0 else None
    lines = [f"left alone: {printable(x['path'])}: {x['why']}" for x in result["left"]]
    lines += [f"busy, left alone: {name}" for name in result["busy"]]
    lines += [f"not searched: {printable(p)} (name it with --include)" for p in result["not_searched"]]
    lines += [f"outside [{'x' if x['confirmed'] else ' '}]: {x['place']}" for x in result["external"]]
    lines += [f"note: {caveat}" for caveat in result["caveats"]] if files else []
    lines.append(f"plan: {result['plan']}")
    return Group(*([table] if result["leftovers"] else ["Nothing is left over."]), *map(escape, lines))


def printable(path: str) -> str:
    """Return a path with control characters and undecodable bytes escaped, for a terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path
    )


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"

# SPDX-License-Identifier: Apache-2.0
"""The commands ``forget``, ``repair`` and ``verify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import BEGAN, Context, common_options
from expunge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.option("--subject", "subjects", multiple=True, metavar="ID", help="A data subject. May be repeated.")
@click.option("--sample", "samples", multiple=True, metavar="PATH", help="One image. May be repeated.")
@click.option(
    "--from", "listed", metavar="FILE", type=click.Path(path_type=Path), help="Ids or paths, a line each."
)
@click.option("--class", "class_name", metavar="NAME", help="All images of a class.")
@click.option("--dataset", metavar="NAME", help="Where to look.")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Only these. [all that saw it]")
@click.option("--method", default="auto", show_default=True, help="auto, exact or retrain.")
@click.option("--defer", is_flag=True, help="Publish the interim model now, repair later.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what it costs; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--delete-originals", is_flag=True, help="Also delete the images and labels from your folder.")
@common_options
def forget(context: Context, listed: Path | None, dry_run: bool, yes: bool, **values: Any) -> int:
    """Make models forget a person, samples or a class."""
    from expunge import pipeline
    from expunge.progress import Progress

    workspace = context.workspace()
    asks = sys.stdin.isatty() and not yes
    ask = pipeline.Ask(listed=_lines(listed), confirm=_confirm if asks else None, **values)
    if dry_run:
        preview = pipeline.dry_run(workspace, ask)
        context.emit(preview, lambda: _preview_table(preview))
        return 0
    outcome = pipeline.forget(workspace, ask, Progress(), BEGAN)
    context.emit(outcome, lambda: _outcome(outcome))
    return 0


@click.command()
@click.argument("models", nargs=-1)
@click.option("--due", is_flag=True, help="Only what is due: without a deadline on record, everything.")
@common_options
def repair(context: Context, models: tuple[str, ...], due: bool) -> int:
    """Finish what deferred or interrupted erasures left: one training for all that wait."""
    from expunge import pipeline
    from expunge.progress import Progress

    outcome = pipeline.repair(context.workspace(), models, Progress())
    context.emit(
        outcome,
        lambda: _models_table(outcome["models"]) if outcome["models"] else "Nothing waits for a repair.",
    )
    return 0


@click.command()
@click.argument("target")
@click.option("--replay", is_flag=True, help="Train again from what is retained, and compare digests.")
@common_options
def verify(context: Context, target: str, replay: bool) -> int:
    """Check a certificate, a request id or MODEL@V (exit 1 if a check fails)."""
    from expunge.evidence import verify as evidence
    from expunge.progress import Progress

    result = evidence.verify(context.workspace(), target, replay=replay, progress=Progress())
    context.emit(result, lambda: _check_table(result))
    return 0 if result["valid"] else 1


def _lines(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read.", type(error).__name__, "Check the path.") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise InputError(f"{path} is empty.", "It lists no subject and no sample.", "Put one in each line.")
    return found


def _confirm(preview: dict[str, Any]) -> bool:
    from rich.console import Console

    Console(stderr=True).print(_preview_table(preview))
    return click.confirm("Forget this now?", err=True)


def _preview_table(preview: dict[str, Any]) -> Table:
    from rich.table import Table

    title = f"{preview['samples']} samples, {preview['subjects']} subjects of {preview['dataset']}"
    table = Table(title=title, title_justify="left")
    for column in ("model", "saw", "to train again", "predicted cost"):
        table.add_column(column)
    for model in preview["models"]:
        again = [c for c in model["map"] if c["retrained"]]
        places = ", ".join(_place(c) for c in again) or "nothing"
        if model["public_data"]:
            places = "everything: the data is public, all shards start from it"
        table.add_row(
            model["model"], str(model["saw"]), places, f"{model['cost_predicted']:.1%} of a retrain"
        )
    return table


def _place(cell: dict[str, Any]) -> str:
    return f"shard {cell['shard']} stage {cell['stage']}" if cell["phase"] == "shard" else cell["phase"]


def _outcome(outcome: dict[str, Any]) -> Table | str:
    if not outcome["models"]:
        return f"Erased already: {', '.join(sorted(set(outcome.get('already_erased_by', {}).values())))}"
    table = _models_table(outcome["models"])
    left = outcome["originals_left"]
    table.caption = (
        f"request {outcome['request']}: {outcome['state']}\ncertificate: {outcome['certificate']}"
        + (
            f"\n{left} original files are still in your folder; delete them, or use --delete-originals"
            if left
            else ""
        )
    )
    table.caption_justify = "left"
    return table


def _models_table(models: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    for column in ("model", "guarantee", "digest", "cost", "before", "interim", "after"):
        table.add_column(column)
    for m in models:
        interim = m["interim"]
        cost = f"{m['cost_measured']:.1%}" if m["cost_measured"] is not None else "waits"
        table.add_row(
            m["model"] if m["digest"] else f"{interim['model'] if interim else m['model']} (repair waits)",
            "exact" if m["digest"] else m["guarantee"],
            (m["digest"] or (interim or {}).get("digest") or "–")[7:19],
            cost,
            _figure(m["metrics_before"]),
            f"{_figure(interim['metrics'])} after {interim['seconds'] or 0:.1f} s" if interim else "–",
            _figure(m["metrics_after"]),
        )
    return table


def _figure(metrics: dict[str, Any] | None) -> str:
    for key in ("mAP50-95", "top1"):
        if metrics and key in metrics:
            return f"{key} {metrics[key]:.3f}"
    return "–"


def _check_table(result: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title="valid" if result["valid"] else "NOT valid", title_justify="left")
    for column in ("check", "result", "detail"):
        table.add_column(column)
    for check in result["checks"]:
        word = {True: "ok", False: "FAILED", None: "not checked"}[check["ok"]]
        table.add_row(check["name"], word, check["detail"])
    return table

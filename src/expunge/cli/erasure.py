# SPDX-License-Identifier: Apache-2.0
"""The commands ``forget``, ``repair`` and ``verify``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import BEGAN, Context, common_options
from expunge.cli.selecting import actor_option, erasure_options, hyperparameters, lines
from expunge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from expunge.workspace import Workspace


@click.command()
@erasure_options
@click.option("--defer", is_flag=True, help="Publish the interim model now, repair later.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what it costs; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--delete-originals", is_flag=True, help="Also delete the images and labels from your folder.")
@click.option("--reason", metavar="TEXT", help="Why: kept with the request until it is closed.")
@click.option("--ground", metavar="NAME", help="Why: stays on record. data-quality, consent-withdrawn, …")
@click.option(
    "--group",
    "columns",
    multiple=True,
    metavar="COLUMN",
    help="Say first what is left of each group. Repeat.",
)
@click.option(
    "--groups", "groups_file", metavar="CSV", type=click.Path(path_type=Path), help="A table of its own."
)
@actor_option
@common_options
def forget(
    context: Context,
    listed: Path | None,
    dry_run: bool,
    yes: bool,
    reason: str | None,
    ground: str | None,
    columns: tuple[str, ...],
    groups_file: Path | None,
    accept: str | None,
    budget: float | None,
    settings: tuple[str, ...],
    seed: int,
    level: str,
    references: int | None,
    actor: str | None,
    **values: Any,
) -> int:
    """Make models forget a person, samples or a class.

    Models that `expunge train` made forget exactly. Adopted ones are unlearned by a method, which is judged:
    exit code 1 if the verdict is not good enough to close the request.
    """
    from expunge import pipeline
    from expunge.progress import Progress
    from expunge.steps.approximation import Settings

    workspace = context.workspace()
    asks = sys.stdin.isatty() and not yes
    how = Settings(
        budget=budget,
        accept_no_power=accept is not None,
        hyperparameters=hyperparameters(settings),
        seed=seed,
        device=context.device or "cpu",
        threads=context.threads,
        level=level,
        references=references,
    )
    ask = pipeline.Ask(listed=lines(listed), settings=how, **values)
    left: dict[str, Any] = {}
    if columns:
        from expunge.harm.fairness import removal_of

        left = {"groups": removal_of(workspace, ask, columns, groups_file)}
    if dry_run:
        preview = pipeline.dry_run(workspace, ask) | left
        context.emit(preview, lambda: _preview_table(preview))
        return 0
    if asks:
        ask = replace(ask, confirm=lambda preview: _confirm(preview | left))
    elif left and left["groups"]["loses_most"]:
        context.say(f"Note: {left['groups']['loses_most']} groups lose half or more of their training data."
                    " See --dry-run.")  # fmt: skip
    outcome = pipeline.forget(workspace, ask, Progress(), BEGAN, actor, ground, reason)
    context.emit(outcome, lambda: _outcome(outcome, _following(workspace, outcome)))
    return 0 if all(m.get("accepted", True) for m in outcome["models"]) else 1


def _following(workspace: Workspace, outcome: dict[str, Any]) -> str:
    """What to do next about a request that is not closed."""
    from expunge.queue.next_step import next_step

    return "" if outcome["state"] == "closed" else next_step(workspace, outcome["request"]).text


@click.command()
@click.argument("models", nargs=-1)
@click.option("--due", is_flag=True, help="Only what must be done now for a request to be answered in time.")
@common_options
def repair(context: Context, models: tuple[str, ...], due: bool) -> int:
    """Finish what deferred or interrupted erasures left: one training for all that wait."""
    from expunge.progress import Progress
    from expunge.queue.repair import repair as finish

    workspace = context.workspace()
    if due:
        from expunge.queue.docket import models_due

        models = tuple(name for name in models_due(workspace) if not models or name in models)
    nothing: dict[str, Any] = {"models": [], "requests": []}
    outcome = nothing if due and not models else finish(workspace, models, Progress())
    context.emit(
        outcome,
        lambda: _models_table(outcome["models"]) if outcome["models"] else "Nothing waits for a repair.",
    )
    return 0 if all(m.get("accepted", True) for m in outcome["models"]) else 1


@click.command()
@click.argument("target")
@click.option(
    "--public-key",
    metavar="PEM",
    type=click.Path(path_type=Path),
    help="Of the signer, from a source you trust.",
)
@click.option("--log", metavar="FILE", type=click.Path(path_type=Path), help="A copy of the signer's log.")
@click.option(
    "--tree-head", metavar="FILE", type=click.Path(path_type=Path), help="Of the log, kept from before."
)
@click.option("--replay", is_flag=True, help="Train again from what is retained, and compare digests.")
@common_options
def verify(context: Context, target: str, **options: Any) -> int:
    """Check a certificate, a request id or MODEL@V (exit 1 if a check fails).

    A certificate needs no workspace: the signer's public key is enough. The log shows that it was published,
    and an earlier tree head that nothing published was taken back since.
    """
    from expunge.evidence import verify as evidence
    from expunge.progress import Progress

    means = evidence.Means(**options)
    try:
        workspace = context.workspace()
    except InputError:
        if context.workspace_path is not None or means.public_key is None:
            raise
        workspace = None
    result = evidence.verify(workspace, target, means, Progress())
    context.emit(result, lambda: _check_table(result))
    return 0 if result["valid"] else 1


def _confirm(preview: dict[str, Any]) -> bool:
    from rich.console import Console

    Console(stderr=True).print(_preview_table(preview))
    return click.confirm("Forget this now?", err=True)


def _preview_table(preview: dict[str, Any]) -> Table:
    from rich.markup import escape
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
        if model["method"] == "withdraw":
            places = "withdrawn: it descends from a model that saw it"
        elif not model["map"] and model["saw"]:
            places = f"unlearned by {model['method']}"
        cost = model["cost_predicted"]
        price = "unknown" if cost is None else f"{cost:.1%} of a retrain"
        table.add_row(model["model"], str(model["saw"]), places, price)
    if "groups" in preview:
        table.caption, table.caption_justify = escape("\n".join(_group_lines(preview["groups"]))), "left"
    return table


def _group_lines(left: dict[str, Any]) -> list[str]:
    """What goes of each group's training samples, and what to think of it."""
    said = [
        f"{entry['group']}: {entry['removed']} of {entry['samples']} training samples go"
        if "share" in entry
        else f"{entry['group']}: {entry['why']}"
        for entry in left["groups"]
    ]
    return [*said, *(f"Note: {warning}" for warning in left["warnings"])]


def _place(cell: dict[str, Any]) -> str:
    return f"shard {cell['shard']} stage {cell['stage']}" if cell["phase"] == "shard" else cell["phase"]


def _outcome(outcome: dict[str, Any], following: str = "") -> Table | str:
    from rich.markup import escape

    if outcome.get("next"):
        return f"request {outcome['request']}: {outcome['state']}. {outcome['next']}"
    if not outcome["models"]:
        return f"Erased already: {', '.join(sorted(set(outcome.get('already_erased_by', {}).values())))}"
    table = _models_table(outcome["models"])
    left = outcome["originals_left"]
    unknown, elsewhere = outcome.get("originals_unknown", 0), outcome.get("same_bytes_in", [])
    lines = [f"request {outcome['request']}: {outcome['state']}", f"certificate: {outcome['certificate']}"]
    if left:
        lines.append(
            f"{left} original files are still in your folder; delete them, or use --delete-originals"
        )
    if unknown:
        lines.append(f"{unknown} folder(s) of the dataset could not be searched for originals")
    if elsewhere:
        lines.append(f"the same pictures are retained in: {', '.join(elsewhere)}")
    if following:
        lines.append(f"next: {following}")
    table.caption = escape("\n".join(lines))
    table.caption_justify = "left"
    return table


def _models_table(models: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    for column in ("model", "guarantee", "digest", "cost", "before", "interim", "after"):
        table.add_column(column)
    for m in models:
        interim = m["interim"]
        waits = "waits" if m["digest"] is None else "unknown"
        if m["method"] == "withdraw":
            table.add_row(
                f"{m['model']} (withdrawn)", "none", "–", "–", _figure(m["metrics_before"]), "–", "–"
            )
            continue
        cost = f"{m['cost_measured']:.1%}" if m["cost_measured"] is not None else waits
        promise = "exact" if m["digest"] and m["verdict"] is None and m["plan"] else m["guarantee"]
        table.add_row(
            m["model"] if m["digest"] else f"{interim['model'] if interim else m['model']} (repair waits)",
            promise + (f" ({m['method']}: {m['verdict']})" if m["verdict"] else ""),
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
            seen = " (not held out)" if metrics.get("held_out") is False else ""
            return f"{key} {metrics[key]:.3f}{seen}"
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

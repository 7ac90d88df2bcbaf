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
@click.option("--dry-run", is_flag=True, help="Show what would be done and its cost; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--delete-originals", is_flag=True, help="Also delete the images and labels from your folder.")
@click.option("--reason", metavar="TEXT", help="A reason, kept with the request until it is closed.")
@click.option(
    "--ground", metavar="NAME", help="The legal ground, kept on record: data-quality, consent-withdrawn, …"
)
@click.option(
    "--group",
    "columns",
    multiple=True,
    metavar="COLUMN",
    help="First show how much of each group is left. May be repeated.",
)
@click.option(
    "--groups",
    "groups_file",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="A separate table of groups.",
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

    Models made by `expunge train` forget exactly. Adopted models are unlearned by a method, and an audit
    judges the result: exit code 1 if its verdict does not allow to close the request.
    """
    from expunge.erasure import execution
    from expunge.erasure.method_settings import MethodSettings
    from expunge.erasure.scope import ErasureRequest
    from expunge.progress import Progress

    workspace = context.workspace()
    method_settings = MethodSettings(
        budget=budget,
        accept_no_power=accept is not None,
        hyperparameters=hyperparameters(settings),
        seed=seed,
        device=context.device or "cpu",
        threads=context.threads,
        level=level,
        references=references,
    )
    request = ErasureRequest(listed=lines(listed), settings=method_settings, **values)
    groups: dict[str, Any] = {}
    if columns:
        from expunge.bias.measure import removal_of

        groups = {"groups": removal_of(workspace, request, columns, groups_file)}
    if dry_run:
        preview = execution.dry_run(workspace, request) | groups
        context.emit(preview, lambda: _preview_table(preview))
        return 0
    if sys.stdin.isatty() and not yes:
        request = replace(request, confirm=lambda preview: _confirm(preview | groups))
    elif groups and groups["groups"]["loses_most"]:
        context.say(f"Note: {groups['groups']['loses_most']} groups lose half or more of their training data."
                    " See --dry-run.")  # fmt: skip
    outcome = execution.forget(workspace, request, Progress(), BEGAN, actor, ground, reason)
    context.emit(outcome, lambda: _outcome_table(outcome, _next_step(workspace, outcome)))
    return 0 if all(m.get("accepted", True) for m in outcome["models"]) else 1


def _next_step(workspace: Workspace, outcome: dict[str, Any]) -> str:
    """Return the next step of a request; empty if the request is closed."""
    from expunge.erasure.next_step import next_step

    return "" if outcome["state"] == "closed" else next_step(workspace, outcome["request"]).text


@click.command()
@click.argument("models", nargs=-1)
@click.option("--due", is_flag=True, help="Only the repairs that must start now to meet a due date.")
@common_options
def repair(context: Context, models: tuple[str, ...], due: bool) -> int:
    """Complete deferred or interrupted erasures, with one training per model for all that wait."""
    from expunge.erasure.repair import repair as run
    from expunge.progress import Progress

    workspace = context.workspace()
    if due:
        from expunge.erasure.status import models_due

        models = tuple(name for name in models_due(workspace) if not models or name in models)
    nothing: dict[str, Any] = {"models": [], "requests": []}
    outcome = nothing if due and not models else run(workspace, models, Progress())
    context.emit(
        outcome,
        lambda: _models_table(outcome["models"]) if outcome["models"] else "No model waits for a repair.",
    )
    return 0 if all(m.get("accepted", True) for m in outcome["models"]) else 1


@click.command()
@click.argument("target")
@click.option(
    "--public-key",
    metavar="PEM",
    type=click.Path(path_type=Path),
    help="The signer's public key, from a source you trust.",
)
@click.option("--log", metavar="FILE", type=click.Path(path_type=Path), help="A copy of the signer's log.")
@click.option(
    "--tree-head", metavar="FILE", type=click.Path(path_type=Path), help="An earlier tree head of the log."
)
@click.option("--replay", is_flag=True, help="Train again on the retained data, and compare digests.")
@common_options
def verify(context: Context, target: str, **options: Any) -> int:
    """Verify a certificate, a request id or MODEL@V (exit 1 if a check fails).

    A certificate needs no workspace: the signer's public key is enough. The log shows that the certificate
    was published. An earlier tree head shows that no entry of the log was changed or removed since.
    """
    from expunge.evidence import verifier
    from expunge.progress import Progress

    verify_options = verifier.VerifyOptions(**options)
    try:
        workspace = context.workspace()
    except InputError:
        if context.workspace_path is not None or verify_options.public_key is None:
            raise
        workspace = None
    result = verifier.verify(workspace, target, verify_options, Progress())
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


def _group_lines(groups: dict[str, Any]) -> list[str]:
    """Return a line for each group's removed training samples, and the warnings."""
    lines = [
        f"{entry['group']}: {entry['removed']} of {entry['samples']} training samples go"
        if "share" in entry
        else f"{entry['group']}: {entry['why']}"
        for entry in groups["groups"]
    ]
    return [*lines, *(f"Note: {warning}" for warning in groups["warnings"])]


def _place(cell: dict[str, Any]) -> str:
    return f"shard {cell['shard']} stage {cell['stage']}" if cell["phase"] == "shard" else cell["phase"]


def _outcome_table(outcome: dict[str, Any], next_step: str = "") -> Table | str:
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
    if next_step:
        lines.append(f"next: {next_step}")
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
        guarantee = "exact" if m["digest"] and m["verdict"] is None and m["plan"] else m["guarantee"]
        table.add_row(
            m["model"] if m["digest"] else f"{interim['model'] if interim else m['model']} (repair waits)",
            guarantee + (f" ({m['method']}: {m['verdict']})" if m["verdict"] else ""),
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

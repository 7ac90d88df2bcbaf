# SPDX-License-Identifier: Apache-2.0
"""The commands ``bias measure`` and ``bias compare``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import Context, common_options

if TYPE_CHECKING:
    from rich.table import Table

_OPTIONS = (
    click.option("--data", required=True, metavar="NAME[@V]", help="The dataset to measure on."),
    click.option(
        "--group",
        "columns",
        multiple=True,
        required=True,
        metavar="COLUMN",
        help="A column of the table of subjects, or of --groups. Repeat for combinations.",
    ),
    click.option(
        "--groups",
        "file",
        metavar="CSV",
        type=click.Path(path_type=Path),
        help="A separate table of groups: sample, subject or sample,box, and then columns.",
    ),
    click.option("--split", default="test", show_default=True, help="The split to measure on."),
    click.option(
        "--by",
        type=click.Choice(["image", "object"]),
        default="image",
        show_default=True,
        help="For detectors: whether images or objects are grouped.",
    ),
    click.option(
        "--confidence",
        type=click.FloatRange(0, 1),
        metavar="X",
        help="Minimum confidence of a detector's boxes. [where F1 is highest]",
    ),
    click.option(
        "--draws",
        type=click.IntRange(min=100),
        default=1000,
        show_default=True,
        help="Number of bootstrap samples and of shuffles.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of both."),
    click.option(
        "--plot",
        metavar="FILE.svg|png",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Also draw the figures.",
    ),
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("model", metavar="MODEL[@V]")
@_options
@common_options
def measure(context: Context, model: str, plot: Path | None, **values: Any) -> int:
    """Measure how well a model serves each group: the worst group and the gap, with intervals.

    Intervals resample subjects (samples, if there are no subjects). "by chance" is the 95th percentile of the
    gap between shuffled groups.
    """
    from expunge.bias.measure import MeasureOptions
    from expunge.bias.measure import measure as run
    from expunge.evidence.canvas import check_kind

    if plot is not None:
        check_kind(plot)
    found = run(context.workspace(), model, MeasureOptions(device=context.device or "cpu", **values))
    _draw_plot(found, plot)
    context.emit(found, lambda: _table(found, [found]))
    _warn(context, found)
    return 0


@click.command()
@click.argument("models", metavar="BEFORE AFTER [REFERENCE…]", nargs=-1, required=True)
@click.option("--request", metavar="ID", help="Add the figures to the certificate of this request.")
@_options
@common_options
def compare(
    context: Context, models: tuple[str, ...], plot: Path | None, request: str | None, **values: Any
) -> int:
    """Compare models on the same samples: before, after and, for example, a retrain.

    Exit code 1 if a group is served worse than before by more than chance explains.
    """
    from expunge.bias.measure import MeasureOptions
    from expunge.bias.measure import compare as run
    from expunge.evidence.canvas import check_kind

    if plot is not None:
        check_kind(plot)
    workspace = context.workspace()
    found = run(workspace, models, MeasureOptions(device=context.device or "cpu", **values))
    _draw_plot(found, plot)
    if request is not None:
        from expunge.bias.record import record_comparison

        found = {**found, "certificate": str(record_comparison(workspace, request, found))}
    context.emit(found, lambda: _table(found, found["models"]))
    _warn(context, found)
    return 1 if any(found["changes"]["harmed"]) else 0


def _draw_plot(found: dict[str, Any], plot: Path | None) -> None:
    if plot is not None:
        from expunge.evidence.group_plot import draw

        draw(found, plot)


def _warn(context: Context, found: dict[str, Any]) -> None:
    for warning in found["warnings"]:
        context.say(f"Note: {warning}")


def _table(found: dict[str, Any], models: list[dict[str, Any]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    metric = models[0]["metric"]
    others = [k for k in models[0]["overall"] if k != metric] if len(models) == 1 else []
    columns = [metric, *others] if len(models) == 1 else [m["model"] for m in models]
    title = f"{metric} on {found['data']} {found['split']}, by {' and '.join(found['group'])}"
    table = Table(title=title, title_justify="left", caption=escape("\n".join(_caption(found, models))),
                  caption_justify="left")  # fmt: skip
    table.add_column("group", min_width=9)
    table.add_column("images", justify="right")
    table.add_column("subjects", justify="right")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=name not in others)
    for entries in zip(*(m["groups"] for m in models), strict=True):
        first = entries[0]
        name = escape(first["group"])
        if first["figures"] is None:
            table.add_row(name, "–", "–", *["too few" for _ in columns])
            continue
        cells = _cells([e["figures"] for e in entries], metric, others)
        for i, model in enumerate(models):
            if model["worst"] and model["worst"]["group"] == first["group"]:
                cells[i] = f"[bold]worst {cells[i]}[/bold]"
        table.add_row(name, str(first["samples"]), str(first["subjects"]), *cells)
    table.add_section()
    cells = _cells([m["overall"] for m in models], metric, others)
    table.add_row("all", str(found["samples"]), str(found["subjects"]), *cells)
    return table


def _cells(figures: list[dict[str, Any]], metric: str, others: list[str]) -> list[str]:
    """Return the main figure of each model with its interval, and the other figures of a single model."""
    return [*(_cell(f[metric]) for f in figures), *(_cell({**figures[0][k], "low": None}) for k in others)]


def _caption(found: dict[str, Any], models: list[dict[str, Any]]) -> list[str]:
    """Return the lines below the table: gaps, changes and groups without figures."""
    lines = []
    for model in models:
        for name in ("gap", "equalised_odds_difference", "demographic_parity_difference"):
            value = model.get(name)
            if value is not None and value["value"] is not None:
                chance = "" if value["by_chance"] is None else f", by chance {value['by_chance']:.3f}"
                lines.append(f"{model['model']}: {name.replace('_', ' ')} {_cell(value)}{chance}")
    changes = found.get("changes") or {}
    for name in ("worst", "gap"):
        for model, value in zip(models[1:], changes.get(name) or [], strict=False):
            label = "worst group" if name == "worst" else name
            lines.append(f"{models[0]['model']} → {model['model']}: {label} changed by {_cell(value)}")
    for model, groups in zip(models[1:], changes.get("harmed", []), strict=False):
        if groups:
            lines.append(f"{model['model']} serves worse than before: {', '.join(groups)}")
    small = [e for e in models[0]["groups"] if e["figures"] is None]
    if small:
        lines.append(f"too few: under {models[0]['minimum']} subjects (samples, where there are none)")
    if found["training_only"]:
        lines.append(f"In training only, so not measured: {', '.join(found['training_only'])}")
    return lines


def _cell(value: dict[str, Any]) -> str:
    if value["value"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    between = " to " if value["low"] < 0 else "–"
    return f"{value['value']:.3f} ({value['low']:.2f}{between}{value['high']:.2f})"

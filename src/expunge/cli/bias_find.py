# SPDX-License-Identifier: Apache-2.0
"""The command ``bias find``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import Context, common_options

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("model", metavar="MODEL[@V]")
@click.option(
    "--target",
    required=True,
    metavar="WHAT",
    help="Validation samples whose loss should fall: errors (all), worst-group or group=VALUE.",
)
@click.option(
    "--group", "columns", multiple=True, metavar="COLUMN", help="A column of groups. Repeat for combinations."
)
@click.option(
    "--groups",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A separate table of groups (CSV), beside the table of subjects.",
)
@click.option(
    "--by", default="sample", show_default=True, metavar="sample|subject|COLUMN", help="The units to rank."
)
@click.option("--top", type=int, metavar="N", help="Number of top units. [50 samples, or 5 of anything else]")
@click.option(
    "--rank-by",
    "ranked_by",
    type=click.Choice(["trak", "tracin", "label-errors"]),
    default="trak",
    show_default=True,
    help="The estimate to rank by.",
)
@click.option(
    "--split",
    default="val",
    show_default=True,
    help="Only val: data used for the search must not judge the result.",
)
@click.option(
    "--folds",
    type=int,
    metavar="K",
    help="Judge labels by K new models, each trained without a part of the people; costs K − 1 retrains.",
)
@click.option(
    "--epochs", type=int, metavar="E", help="Epochs of each of these models. [as in the model's own training]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of sketches, folds and intervals.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the ranking, the list to forget and a contact sheet into a new folder.",
)
@click.option("--names", "named", is_flag=True, help="Also print the ids found, not only counts.")
@common_options
def find(context: Context, out: Path | None, named: bool, **values: Any) -> int:
    """Rank the training data by the harm that it does to validation samples.

    After a look at the contact sheet, give forget.csv in the folder of --out to `expunge forget --from`. Exit
    code 1 if nothing does harm.
    """
    from expunge.bias.find import find as run
    from expunge.bias.search import Search
    from expunge.progress import Progress

    search = Search(device=context.device or "cpu", **values)
    report = run(context.workspace(), search, Progress(), out, named=named)
    context.emit(report, lambda: _table(report))
    return 0 if report["top"] else 1


def _table(report: dict[str, Any]) -> Table:
    from rich.table import Table

    target = report["target"]
    group = f" of {target['group']}" if target["group"] else ""
    title = (
        f"{report['model']}: {report['ranked']} ranked by {report['by']}, {report['harmful']} do harm to "
        f"{target['samples']} validation samples{group} ({target['errors']} errors)"
    )
    lines = [
        f"Gradients: {report['gradients']}, at {report['checkpoints']['count']} of "
        f"{report['checkpoints']['are']}.",
        *report["warnings"],
    ]
    if report["files"]:
        lines += [f"To look at: {report['files']['sheet']}", f"To forget: {report['files']['forget']}"]
    table = Table(title=title, caption="\n".join(lines), caption_justify="left")
    if report.get("top_items"):
        keys = list(report["top_items"][0])
        for key in keys:
            table.add_column(key, justify="left" if key == report["by"] else "right")
        for item in report["top_items"]:
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in item.values()))
        return table
    for name in ("rankings", "Spearman (95 %)", "Kendall (95 %)", "shared top", "by chance"):
        table.add_column(name, justify="left" if name == "rankings" else "right")
    for pair, found in report["agreement"].items():
        table.add_row(
            pair,
            _interval(found["spearman"], found["spearman_interval"]),
            _interval(found["kendall"], found["kendall_interval"]),
            f"{found['overlap']:.0%} of {found['top']}",
            f"{found['overlap_by_chance']:.0%}",
        )
    return table


def _interval(value: float | None, bounds: list[float] | None) -> str:
    if value is None or bounds is None:
        return "–"
    return f"{value:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"

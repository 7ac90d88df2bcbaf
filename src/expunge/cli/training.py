# SPDX-License-Identifier: Apache-2.0
"""The commands ``plan``, ``train``, ``adopt``, ``models`` and ``status``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import Context, common_options
from expunge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from expunge.exact.planner import Options

DEFAULT_WEIGHTS = "yolo26n.pt"


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a training."""
    for option in reversed(
        (
            click.option("--weights", metavar="FILE", help="yolo26n.pt, yolo26n.yaml, yolo26n-cls.pt, …"),
            click.option("--shards", type=click.IntRange(1), default=4, show_default=True),
            click.option("--slices", type=click.IntRange(1), default=2, show_default=True),
            click.option("--epochs", type=click.IntRange(1), default=100, show_default=True),
            click.option("--imgsz", type=click.IntRange(32), help="Pixels. [640, or 224 to classify]"),
            click.option("--batch", type=click.IntRange(1), default=16, show_default=True),
            click.option("--seed", type=int, default=0, show_default=True),
            click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting."),
        )
    ):
        command = option(command)
    return command


def read_options(context: Context, values: dict[str, Any]) -> Options:
    """Return the training options.

    Raises:
        InputError: If the device is not the CPU, or no weights were given.
    """
    from expunge.exact.planner import Options

    if context.device not in (None, "cpu"):
        raise InputError(
            f"Erasable training does not run on '{context.device}'.",
            "That equal inputs give equal bytes is shown for the CPU only.",
            "Leave out --device.",
        )
    given = values.pop("weights")  # a known name is downloaded only if it was given explicitly
    weights = given or DEFAULT_WEIGHTS
    if given is None and not Path(weights).is_file():
        raise InputError(
            "No weights to start from were given.",
            f"{DEFAULT_WEIGHTS} is not in this folder.",
            f"Give --weights {DEFAULT_WEIGHTS} to fetch it, or --weights yolo26n.yaml to start from nothing.",
        )
    pairs = dict(pair.partition("=")[::2] for pair in values.pop("settings"))
    return Options(weights=weights, settings=pairs, threads=context.threads or 1, **values)


@click.command()
@click.argument("ref", metavar="NAME[@V]")
@training_options
@click.option(
    "--requests",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Subjects erased together, for the prediction.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan to this file.")
@common_options
def plan(context: Context, ref: str, requests: int, out: Path | None, **values: Any) -> None:
    """Plan an erasable training and predict what erasures cost."""
    from expunge.models import training

    training_plan, summary = training.plan(context.workspace(), ref, read_options(context, values), requests)
    if out is not None:
        training_plan.save(out)
        summary["plan"] = str(out)
    context.emit(summary, lambda: _price_table(summary))


@click.command()
@click.argument("ref", metavar="NAME[@V]")
@click.option("--name", required=True, help="The model's name.")
@click.option(
    "--plan", "from_plan", type=click.Path(path_type=Path, dir_okay=False), help="An existing plan."
)
@training_options
@common_options
def train(context: Context, ref: str, name: str, from_plan: Path | None, **values: Any) -> None:
    """Train an erasable model."""
    from expunge.models import training
    from expunge.progress import Progress

    workspace, options = context.workspace(), None
    if from_plan is None:
        options = read_options(context, dict(values))
    published = training.train(
        workspace,
        ref,
        name,
        options=options,
        from_plan=from_plan,
        weights=values["weights"],
        progress=Progress(),
    )
    result = training.as_json(workspace, published)
    context.emit(result, lambda: _facts(result))


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--data", "ref", required=True, metavar="NAME[@V]", help="The dataset it was trained on.")
@click.option("--name", required=True, help="The model's name.")
@click.option(
    "--unsafe-trust",
    is_flag=True,
    help="Unpickle the file although that may run code; only for a file that you trust.",
)
@common_options
def adopt(context: Context, weights: Path, ref: str, name: str, unsafe_trust: bool) -> None:
    """Record a model that was trained elsewhere and its training data, so that erasures include it."""
    from expunge.models import training

    workspace = context.workspace()
    published = training.adopt(
        workspace, weights, ref, name, unsafe_trust, say=lambda note: context.say(f"note: {note}")
    )
    result = training.as_json(workspace, published)
    context.emit(result, lambda: _facts(result))


@click.command()
@click.argument("model", required=False)
@common_options
def models(context: Context, model: str | None) -> None:
    """List models and their versions; with MODEL also the data that each version was trained on."""
    workspace = context.workspace()
    if model is None:
        rows = workspace.query(_LIST)  # plain SQL, since importing SQLAlchemy is slow
        for row in rows:
            row["weights"] = str(workspace.root / row["weights"])
    else:
        from expunge.models import training

        rows = training.describe(workspace, model)
        for row in rows:
            row["dataset"] = f"{row['dataset']}@{row['dataset_version']}"
    context.emit({"models": rows}, lambda: _model_table(rows))


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@common_options
def status(context: Context, weights: Path) -> int:
    """Show whether weights are current, interim, superseded or unknown (exit 1 if superseded)."""
    from expunge.models import training

    result = training.status(context.workspace(), weights)
    detail = result["model"] or result["reason"]
    context.emit(result, lambda: f"{result['status']}" + (f": {detail}" if detail else ""))
    return 1 if result["status"] == "superseded" else 0


_LIST = """
SELECT model.name || '@' || version.number AS model, model.task AS task,
       CASE WHEN version.state = 'interim' AND version.guarantee = 'none' THEN 'superseded'
            ELSE version.state END AS state,
       version.guarantee AS guarantee, version.method AS method, version.parent AS parent,
       dataset.name || '@' || version.dataset_version AS dataset, version.samples AS samples,
       version.subjects AS subjects, version.digest AS digest, version.weights AS weights,
       version.cpu_seconds AS cpu_seconds, version.request_id AS request_id, version.created AS created
FROM model_version AS version JOIN model ON model.id = version.model_id
JOIN dataset ON dataset.id = version.dataset_id ORDER BY model.name, version.number
"""


def _facts(result: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        table.add_row(key, "–" if value is None else str(value))
    return table


def _price_table(summary: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=f"Plan for {summary['dataset']}", title_justify="left")
    table.add_column("what")
    table.add_column("predicted", justify="right")
    table.add_row("forgetting one subject", f"{summary['cost_one']:.1%} of a retrain")
    table.add_row("forgetting the most expensive subject", f"{summary['cost_worst']:.1%} of a retrain")
    if summary["requests"] > 1:
        together = f"{summary['cost_several']:.1%} of a retrain"
        table.add_row(f"{summary['requests']} subjects together", together)
    table.add_row("training", f"{summary['image_passes']:,} image passes")
    table.add_row(
        "stored checkpoints", f"{summary['checkpoints']}, {summary['checkpoint_bytes'] / 1e6:,.0f} MB"
    )
    for note in summary["notes"]:
        table.add_row("note", note)
    return table


def _model_table(rows: list[dict[str, Any]]) -> Table | str:
    from rich.table import Table

    if not rows:
        return "No models yet. Train one with: expunge train"
    table = Table()
    for column in ("model", "state", "guarantee", "dataset", "from", "digest", "samples", "subjects"):
        table.add_column(column)
    for row in rows:
        parent = f"@{row['parent']}" if row["parent"] else "–"
        cells = [
            row["model"],
            row["state"],
            row["guarantee"],
            str(row["dataset"]),
            parent,
            row["digest"][7:19],
        ]
        table.add_row(*cells, str(row["samples"]), str(row["subjects"]))
    return table

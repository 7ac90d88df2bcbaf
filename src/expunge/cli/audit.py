# SPDX-License-Identifier: Apache-2.0
"""The command ``audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import Context, common_options

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("model", metavar="MODEL[@V]")
@click.option("--request", required=True, metavar="ID", help="The request that the audit is for.")
@click.option(
    "--level",
    type=click.Choice(["quick", "standard", "full"]),
    default="quick",
    show_default=True,
    help="quick: unseen people only; standard: with 1–4 references; full: 19 or more references.",
)
@click.option(
    "--references", type=click.IntRange(min=0), metavar="N", help="Number of reference models. [2, full: 19]"
)
@click.option(
    "--epochs", type=click.IntRange(min=1), metavar="E", help="Epochs of a reference. [as recorded]"
)
@click.option(
    "--allowed-drop", type=float, default=0.02, show_default=True, help="Largest allowed drop of the metric."
)
@click.option(
    "--jobs", type=click.IntRange(min=0), default=0, metavar="N", help="Parallel trainings. [number of cores]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of references and resampling.")
@click.option(
    "--probes",
    metavar="LIST",
    default="",
    help="Further figures, shown but not judged: relearn,linear,int8,onnx.",
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the report with plots as an HTML page.",
)
@common_options
def audit(context: Context, model: str, request: str, probes: str, page: Path | None, **values: Any) -> int:
    """Test whether a model still distinguishes a request's erased data from data that it never saw.

    Exit code 1 unless the verdict is "pass". "no-power" means that the test could not have detected a trace.
    """
    from expunge.erasure.audit import audit_model
    from expunge.erasure.audit_case import AuditOptions
    from expunge.progress import Progress

    question = AuditOptions(
        model,
        request,
        device=context.device or "cpu",
        threads=context.threads or 1,
        probes=tuple(dict.fromkeys(name.strip() for name in probes.split(",") if name.strip())),
        **values,
    )
    report = audit_model(context.workspace(), question, Progress(), page)
    context.emit(report, lambda: _table(report))
    return 0 if report["verdict"] == "pass" else 1


def _table(report: dict[str, Any]) -> Table:
    from rich.table import Table

    title = f"{report['model']}, request {report['request']}, level {report['level']}: {report['verdict']}"
    table = Table(title=title, caption="\n".join(report["reasons"]), caption_justify="left")
    for name in ("figure", "original", "candidate", "no trace", "left (90 %)", "null", "judged"):
        table.add_column(name, justify="left" if name in ("figure", "judged") else "right")
    for label, f in report["figures"].items():
        if "rho" not in f:
            table.add_row(label, "", _number(f["value"]), "0", "", f"n {f['n']}", "yes")
            continue
        low, high = f["rho_interval"]
        judged = "no power" if not f["power"] else "yes" if f["judged"] else "shown only"
        table.add_row(
            label,
            _number(f["original"]),
            _number(f["candidate"]),
            _number(f["baseline"]),
            f"{_number(f['rho'])} ({_number(low)} to {_number(high)})",
            f"{f['n_null']} {f['units']}",
            judged,
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

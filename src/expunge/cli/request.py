# SPDX-License-Identifier: Apache-2.0
"""The commands ``request``: the queue of erasure requests and their deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import BEGAN, Context, common_options
from expunge.cli.selecting import (
    accept_option,
    actor_option,
    budget_option,
    erasure_options,
    hyperparameters,
    lines,
    set_option,
)
from expunge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table


@click.group()
def request() -> None:
    """Open, decide and run erasure requests; see docs/requests.md."""


@request.command("open")
@erasure_options
@click.option(
    "--defer", is_flag=True, help="When the request runs, publish the interim model and repair later."
)
@click.option("--delete-originals", is_flag=True, help="When the request runs, delete your originals.")
@click.option("--received", metavar="DATE", help="Date of receipt: YYYY-MM-DD or ISO 8601. [now]")
@click.option("--due", metavar="DATE", help="An earlier due date than the legal one.")
@click.option("--ground", metavar="NAME", help="The ground of article 17(1): consent-withdrawn, objection, …")
@click.option("--key", metavar="KEY", help="An idempotency key: a repeated call returns the same request.")
@click.option("--note", metavar="TEXT", help="A note, deleted when the request is closed.")
@actor_option
@common_options
def open_(context: Context, /, **values: Any) -> None:
    """Add a request to the queue; nothing is erased yet."""
    from expunge.erasure.intake import Opening, open_request
    from expunge.erasure.method_settings import MethodSettings
    from expunge.erasure.scope import ErasureRequest

    opening = Opening(**{k: values.pop(k) for k in ("received", "key", "ground", "due", "actor", "note")})
    settings = MethodSettings(
        budget=values.pop("budget"),
        accept_no_power=values.pop("accept") is not None,
        hyperparameters=hyperparameters(values.pop("settings")),
        seed=values.pop("seed"),
        level=values.pop("level"),
        references=values.pop("references"),
        device=context.device or "cpu",
        threads=context.threads,
    )
    erasure = ErasureRequest(listed=lines(values.pop("listed")), settings=settings, **values)
    opened = open_request(context.workspace(), erasure, opening)
    context.emit(opened, lambda: _sentence(opened))


@request.command("list")
@click.option("--all", "every", is_flag=True, help="Include closed requests.")
@click.option("--no-plan", is_flag=True, help="Do not compute what waiting saves: faster on large data.")
@common_options
def list_(context: Context, every: bool, no_plan: bool) -> None:
    """List the queue, the most urgent request first, and what waiting saves."""
    from expunge.erasure.status import list_requests

    found = list_requests(context.workspace(), every, not no_plan)
    context.emit(found, lambda: _queue_table(found))


@request.command("show")
@click.argument("request_id", metavar="REQUEST")
@click.option("--selection", is_flag=True, help="Also show the selection: ids and paths.")
@common_options
def show(context: Context, request_id: str, selection: bool) -> None:
    """Show a request with its dates and events."""
    from expunge.erasure.intake import show as show_request

    found = show_request(context.workspace(), request_id, selection)
    context.emit(found, lambda: _events_table(found))


@request.command("approve")
@click.argument("request_ids", metavar="REQUEST…", nargs=-1, required=True)
@actor_option
@common_options
def approve(context: Context, request_ids: tuple[str, ...], actor: str | None) -> None:
    """Approve requests, so that the next run executes them."""
    from expunge.erasure.intake import approve as approve_request

    workspace = context.workspace()
    approved = [approve_request(workspace, request_id, actor) for request_id in request_ids]
    context.emit({"requests": approved}, lambda: "\n".join(map(_sentence, approved)))


@request.command("refuse")
@click.argument("request_id", metavar="REQUEST")
@click.option("--reason", metavar="NAME", help="unfounded, excessive, identity, legal-claims, …")
@click.option("--told", metavar="DATE", help="When the person was informed; this closes the request.")
@click.option("--note", metavar="TEXT", help="A note, deleted when the request is closed.")
@actor_option
@common_options
def refuse(context: Context, request_id: str, **values: Any) -> None:
    """Refuse a request for a legal reason, and later record when the person was informed."""
    from expunge.erasure.intake import refuse as refuse_request

    refused = refuse_request(context.workspace(), request_id, **values)
    context.emit(refused, lambda: _sentence(refused))


@request.command("extend")
@click.argument("request_id", metavar="REQUEST")
@click.option("--reason", metavar="NAME", required=True, help="complexity or number (of requests).")
@click.option(
    "--told", metavar="DATE", required=True, help="When the person was informed of it, with reasons."
)
@click.option("--months", type=int, metavar="N", help="Number of further months. [the legal maximum]")
@actor_option
@common_options
def extend(context: Context, request_id: str, **values: Any) -> None:
    """Extend the due date, if the person was informed within the first month."""
    from expunge.erasure.intake import extend as extend_request

    extended = extend_request(context.workspace(), request_id, **values)
    context.emit(extended, lambda: _sentence(extended))


@request.command("tell")
@click.argument("request_id", metavar="REQUEST")
@click.option("--recipient", metavar="NAME", required=True, help="A recipient of the data.")
@click.option("--on", metavar="DATE", help="When they were informed. [today]")
@click.option(
    "--why-not", type=click.Choice(["impossible", "disproportionate"]), help="Why they were not informed."
)
@actor_option
@common_options
def tell(context: Context, request_id: str, **values: Any) -> None:
    """Record that a recipient of the data was informed of the erasure (article 19)."""
    from expunge.erasure.intake import record_recipient_notice as record

    recorded = record(context.workspace(), request_id, **values)
    context.emit(recorded, lambda: f"{request_id}: {len(recorded['recipients'])} recipients on record")


@request.command("run")
@click.argument("request_ids", metavar="[REQUEST…]", nargs=-1)
@click.option("--due", is_flag=True, help="Requests that must start now to meet their due date.")
@click.option("--all", "every", is_flag=True, help="All approved requests and all repairs.")
@click.option("--method", metavar="NAME", help="Method for adopted models, instead of the request's.")
@accept_option
@budget_option
@set_option
@actor_option
@common_options
def run(
    context: Context,
    request_ids: tuple[str, ...],
    due: bool,
    every: bool,
    method: str | None,
    accept: str | None,
    budget: float | None,
    settings: tuple[str, ...],
    actor: str | None,
) -> int:
    """Execute requests together, with one training per model (exit 1 if a request is left).

    Requests that a killed or failed command left unfinished are completed first. A request whose result an
    audit did not accept is tried again only if it is named, with the given --method, --accept, --budget and
    --set.
    """
    from expunge.erasure.holds import MethodOverride
    from expunge.erasure.scheduler import QueueSelection
    from expunge.erasure.scheduler import run as execute
    from expunge.progress import Progress

    override = MethodOverride(method, hyperparameters(settings), budget, accept is not None)
    if override and not request_ids:
        raise InputError("No request was named.", "A method is chosen for one request, not for all.",
                         "Name the request.")  # fmt: skip
    selection = QueueSelection(request_ids, due, every, override)
    result = execute(context.workspace(), selection, Progress(), actor, BEGAN).as_json()
    context.emit(result, lambda: _results_table(result))
    accepted = all(m.get("accepted", True) for o in result["requests"] for m in o["models"])
    return 0 if accepted and not result["failed"] and not result["held"] else 1


def _sentence(found: dict[str, Any]) -> str:
    """Return a request's state and due date, with holds and the duty after a refusal, in one line."""
    if "due" not in found:
        return f"Erased already, by {found['request']}."
    text = f"{found['request']}: {found['state']}, due {found['due'][:10]}"
    text += "".join(f". Held: {hold['reason']} {hold['next']}" for hold in found["held"])
    refusal = found["refusal"]
    if refusal and not refusal["told"]:
        text += (
            f". Tell the person until {refusal['notice_due'][:10]}, with the reason ({refusal['article']}): "
            + refusal["complaint"]
        )
    return text


def _queue_table(found: dict[str, Any]) -> Table | str:
    from rich.table import Table

    if not found["requests"]:
        return "No request is open."
    table = Table()
    table.add_column("request", min_width=18)  # never cut off a request id
    for column in ("state", "dataset", "samples"):
        table.add_column(column)
    table.add_column("due", min_width=10)
    table.add_column("days left")
    for r in found["requests"]:
        left = "–" if r["days_left"] is None else str(r["days_left"])
        left += " OVERDUE" if r["overdue"] else " (remind)" if r["remind"] else ""
        state = r["state"] + (" (held)" if r["held"] else "")
        cells = (r["request"], state, r["dataset"], str(r["samples"]))
        table.add_row(*cells, r["due"][:10], left)
    table.caption = "\n".join(
        f"{w['model']}: {len(w['requests'])} wait; together {w['together']:.1%} of a retrain, one by one "
        f"{w['one_by_one']:.1%}; run by {w['run_by'][:10]} for {w['bound_by']}"
        for w in found["waiting"]
    )
    table.caption_justify = "left"
    return table


def _events_table(found: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=_sentence(found), title_justify="left")
    for column in ("at", "to", "by", "reason", "detail"):
        table.add_column(column)
    for e in found["events"]:
        detail = ", ".join(f"{k} {v}" for k, v in (e["detail"] or {}).items())
        table.add_row(e["at"], e["to"], e["actor"], e["reason"] or "", detail)
    captions = [f"Next: {found['next']}"] if found["next"] else []
    if "selection" in found:
        selection = found["selection"] or {}
        captions.append(", ".join(f"{k}: {v}" for k, v in selection.items() if v) or "forgotten")
    if captions:
        table.caption, table.caption_justify = escape("\n".join(captions)), "left"
    return table


def _results_table(result: dict[str, Any]) -> Table | str:
    from rich.table import Table

    if not result["requests"] and not result["failed"] and not result["held"]:
        return "Nothing has to run now."
    table = Table()
    table.add_column("request", min_width=18)
    for column in ("state", "models", "certificate"):
        table.add_column(column, overflow="fold")
    for r in result["requests"]:
        models = ", ".join(m["model"] for m in r["models"]) or "–"
        table.add_row(r["request"], r["state"], models, str(r["certificate"] or "–"))
    for f in result["failed"]:
        table.add_row(", ".join(f["requests"]), f"NOT DONE: {f['error']}", "", "")
    for h in result["held"]:
        table.add_row(", ".join(h["requests"]), "HELD", h["model"], "")
    table.caption = "\n".join(f"{h['reason']} {h['next']}" for h in result["held"])
    table.caption_justify = "left"
    return table

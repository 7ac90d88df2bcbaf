# SPDX-License-Identifier: Apache-2.0
"""The command ``request``: a queue of erasure requests, with their deadlines."""

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
@click.option("--defer", is_flag=True, help="When it runs, publish the interim model and repair later.")
@click.option("--delete-originals", is_flag=True, help="When it runs, delete the originals in your folder.")
@click.option("--received", metavar="DATE", help="When the request came: YYYY-MM-DD or ISO 8601. [now]")
@click.option("--due", metavar="DATE", help="An earlier due date than the law's.")
@click.option("--ground", metavar="NAME", help="Of article 17(1): consent-withdrawn, objection, …")
@click.option("--key", metavar="KEY", help="An idempotency key: the same call again is the same request.")
@click.option("--note", metavar="TEXT", help="Kept with the request until it is closed, and nowhere else.")
@actor_option
@common_options
def open_(context: Context, /, **values: Any) -> None:
    """Put a request in the queue; nothing is erased yet."""
    from expunge.queue.intake import Opening, open_request
    from expunge.steps.approximation import Settings
    from expunge.steps.scoping import Ask

    opening = Opening(**{k: values.pop(k) for k in ("received", "key", "ground", "due", "actor", "note")})
    how = Settings(
        budget=values.pop("budget"),
        accept_no_power=values.pop("accept") is not None,
        hyperparameters=hyperparameters(values.pop("settings")),
        seed=values.pop("seed"),
        level=values.pop("level"),
        references=values.pop("references"),
        device=context.device or "cpu",
        threads=context.threads,
    )
    ask = Ask(listed=lines(values.pop("listed")), settings=how, **values)
    opened = open_request(context.workspace(), ask, opening)
    context.emit(opened, lambda: _sentence(opened))


@request.command("list")
@click.option("--all", "every", is_flag=True, help="Closed requests as well.")
@click.option("--no-plan", is_flag=True, help="Do not work out what waiting saves: faster on large data.")
@common_options
def list_(context: Context, every: bool, no_plan: bool) -> None:
    """List the queue, the most pressing first, and what waiting saves."""
    from expunge.queue.docket import listing

    found = listing(context.workspace(), every, not no_plan)
    context.emit(found, lambda: _queue(found))


@request.command("show")
@click.argument("request_id", metavar="REQUEST")
@click.option("--selection", is_flag=True, help="Also what it asks for: ids and paths.")
@common_options
def show(context: Context, request_id: str, selection: bool) -> None:
    """Show a request with its dates and events."""
    from expunge.queue.intake import show as look

    found = look(context.workspace(), request_id, selection)
    context.emit(found, lambda: _events(found))


@request.command("approve")
@click.argument("request_ids", metavar="REQUEST…", nargs=-1, required=True)
@actor_option
@common_options
def approve(context: Context, request_ids: tuple[str, ...], actor: str | None) -> None:
    """Approve requests, so that the next run executes them."""
    from expunge.queue.intake import approve as decide

    workspace = context.workspace()
    done = [decide(workspace, request_id, actor) for request_id in request_ids]
    context.emit({"requests": done}, lambda: "\n".join(map(_sentence, done)))


@request.command("refuse")
@click.argument("request_id", metavar="REQUEST")
@click.option("--reason", metavar="NAME", help="unfounded, excessive, identity, legal-claims, …")
@click.option("--told", metavar="DATE", help="When the person was told; this closes the request.")
@click.option("--note", metavar="TEXT", help="Kept with the request until it is closed, and nowhere else.")
@actor_option
@common_options
def refuse(context: Context, request_id: str, **values: Any) -> None:
    """Refuse a request for a reason that the law knows; then record when the person was told."""
    from expunge.queue.intake import refuse as decide

    done = decide(context.workspace(), request_id, **values)
    context.emit(done, lambda: _sentence(done))


@request.command("extend")
@click.argument("request_id", metavar="REQUEST")
@click.option("--reason", metavar="NAME", required=True, help="complexity or number (of requests).")
@click.option("--told", metavar="DATE", required=True, help="When the person was told of it, with reasons.")
@click.option("--months", type=int, metavar="N", help="By how many further months. [as many as may be]")
@actor_option
@common_options
def extend(context: Context, request_id: str, **values: Any) -> None:
    """Put off the due date, if the person was told within the first month."""
    from expunge.queue.intake import extend as decide

    done = decide(context.workspace(), request_id, **values)
    context.emit(done, lambda: _sentence(done))


@request.command("tell")
@click.argument("request_id", metavar="REQUEST")
@click.option("--recipient", metavar="NAME", required=True, help="Who had received the data.")
@click.option("--on", metavar="DATE", help="When they were told. [today]")
@click.option("--why-not", type=click.Choice(["impossible", "disproportionate"]), help="They were not told.")
@actor_option
@common_options
def tell(context: Context, request_id: str, **values: Any) -> None:
    """Record that a recipient of the data was told of the erasure (article 19)."""
    from expunge.queue.intake import tell as record

    done = record(context.workspace(), request_id, **values)
    context.emit(done, lambda: f"{request_id}: {len(done['recipients'])} recipients on record")


@request.command("run")
@click.argument("request_ids", metavar="[REQUEST…]", nargs=-1)
@click.option("--due", is_flag=True, help="What must be executed now to be in time.")
@click.option("--all", "every", is_flag=True, help="Everything that is approved, and every repair.")
@click.option("--method", metavar="NAME", help="Unlearn adopted models so, not as REQUEST says.")
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
    """Execute requests together: one training per model for all of them (exit 1 if something is left).

    Requests that a killed or failed command left unfinished are finished first. What an audit did not accept
    is tried again only by name; --method, --accept, --budget and --set then say how.
    """
    from expunge.progress import Progress
    from expunge.queue.attempts import Other
    from expunge.queue.batch import Chosen
    from expunge.queue.batch import run as execute

    other = Other(method, hyperparameters(settings), budget, accept is not None)
    if other and not request_ids:
        raise InputError("For which request is that?", "Another way is chosen for one request, not for all.",
                         "Name the request.")  # fmt: skip
    chosen = Chosen(request_ids, due, every, other)
    ran = execute(context.workspace(), chosen, Progress(), actor, BEGAN)
    result = ran.as_json()
    context.emit(result, lambda: _ran(result))
    accepted = all(m.get("accepted", True) for o in result["requests"] for m in o["models"])
    return 0 if accepted and not result["failed"] and not result["held"] else 1


def _sentence(found: dict[str, Any]) -> str:
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


def _queue(found: dict[str, Any]) -> Table | str:
    from rich.table import Table

    if not found["requests"]:
        return "No request is open."
    table = Table()
    table.add_column("request", min_width=18)  # an id that is cut off is of no use
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


def _events(found: dict[str, Any]) -> Table:
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
        chosen = found["selection"] or {}
        captions.append(", ".join(f"{k}: {v}" for k, v in chosen.items() if v) or "forgotten")
    if captions:
        table.caption, table.caption_justify = escape("\n".join(captions)), "left"
    return table


def _ran(result: dict[str, Any]) -> Table | str:
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

# SPDX-License-Identifier: Apache-2.0
"""What an officer does with a request before it runs: open, approve, refuse, extend, tell the recipients."""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, states
from expunge.catalog import requests as catalog
from expunge.catalog.forgetting import mark_for_scrub, try_scrub
from expunge.catalog.models import get_request
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.errors import Conflict, InputError
from expunge.evidence import journal
from expunge.queue.docket import describe
from expunge.queue.next_step import next_step
from expunge.steps.scoping import Ask, Scope, check_budgets, check_method, concerned, scope_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

NAME_LENGTH = 200


@dataclass(frozen=True)
class Opening:
    """What is recorded when a request comes in, beside what it asks for.

    Attributes:
        received: When it came (a date, or ISO 8601); None: now.
        key: An idempotency key: the same call again gives the same request.
        ground: Of article 17(1), by its name in ``catalog.states.GROUNDS``.
        due: An earlier due date than the law's.
        actor: Who opens it; None: the user of the operating system.
        note: Free text, kept with the request until it is closed, and nowhere else.
        recipients: To whom the data was handed out; they are still to be told (article 19).
    """

    received: str | None = None
    key: str | None = None
    ground: str | None = None
    due: str | None = None
    actor: str | None = None
    note: str | None = None
    recipients: tuple[str, ...] = ()


def open_request(workspace: Workspace, ask: Ask, opening: Opening | None = None) -> dict[str, Any]:
    """Put a request in the queue; nothing is erased.

    Returns:
        What ``request open --json`` prints. If all was erased before, the request that did it.

    Raises:
        InputError: If what it selects, a date, a ground or the idempotency key does not fit.
    """
    opening = opening or Opening()
    actor, at = actor_name(opening.actor), workspace.clock()
    received, deadline = _dates(workspace, opening, at)
    if opening.ground is not None:
        states.reason_of(states.GROUNDS, opening.ground, "The ground")
    body: dict[str, Any] = {
        "ask": _body(ask),
        "received": opening.received,
        "ground": opening.ground,
        "due": opening.due,
    }
    if opening.recipients:
        body["recipients"] = list(opening.recipients)
    with workspace.session() as session:
        known = opening.key and catalog.known_key(session, workspace.key, opening.key, body)
    if known:
        return {**show(workspace, known), "reused": True}
    check_method(ask)
    journal.check_ready(workspace)
    scope = scope_of(workspace, ask)
    erased = scope.selection.already_erased_by
    if not scope.taken:
        first = next(iter(erased.values()))
        with workspace.session() as session:
            row = session.get(RequestRow, first)
            state = row.state if row else str(State.CLOSED)
        return {"request": first, "state": state, "already_erased_by": erased, "reused": False}
    models = concerned(workspace, ask, scope)
    check_budgets(workspace, ask, scope, models, scope.taken)
    names = [p.name for p in models]
    request_id = new_id()
    with workspace.session(write=True) as session:
        known = opening.key and catalog.known_key(session, workspace.key, opening.key, body)
        if not known:
            catalog.check_clock(session, at, workspace.settings.rules)
            row = add_row(session, ask, scope, request_id, names, (received, deadline), at, actor)
            row.ground, row.note = opening.ground, opening.note
            if opening.recipients:
                untold = [{"name": name, "told": None, "why_not": None} for name in opening.recipients]
                row.recipients = {"list": untold}
            if opening.key:
                row.key_mac = catalog.mac(workspace.key, "key", opening.key)
                row.body_mac = catalog.mac(workspace.key, "body", body)
    shown = show(workspace, known or request_id)
    return {**shown, "already_erased_by": erased, "reused": bool(known)}


def add_row(
    session: Session,
    ask: Ask,
    scope: Scope,
    request_id: str,
    models: Sequence[str],
    dates: tuple[datetime, datetime],
    at: datetime,
    actor: str,
) -> RequestRow:
    """Add a request with its first two events, ``open`` and ``scoped``.

    Args:
        session: A session that holds the write lock.
        ask: What is asked for.
        scope: What that means now.
        request_id: Its id.
        models: The models that it concerns.
        dates: When it was received, and when it is due.
        at: The present moment.
        actor: Who opens it.
    """
    version = scope.selection.version
    row = RequestRow(
        id=request_id,
        dataset_id=version.dataset_id,
        method=ask.method,
        selection={
            "samples": scope.samples,
            "subjects": len(scope.selection.subjects),
            "models": sorted(models),
            "defer": ask.defer,
            "class": ask.class_name,
            "settings": ask.settings.as_json(),
            "asked": replace(ask, dataset=version.name).as_json(),
        },
        version_before=version.number,
        received=dates[0],
        due=dates[1],
        opened_by=actor,
    )
    catalog.begin(session, row, at, actor)
    found = {"dataset": version.label, "samples": scope.samples, "models": len(models)}
    catalog.move(session, row, State.SCOPED, at, actor, detail=found)
    return row


def approve(workspace: Workspace, request_id: str, actor: str | None = None) -> dict[str, Any]:
    """Approve a request, so that the next run executes it.

    Raises:
        InputError: If it does not wait for that, or four eyes are wanted and these are the same two.
    """
    name = actor_name(actor)

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        four_eyes = workspace.settings.approval.four_eyes
        if four_eyes and row.opened_by == name and row.state == State.SCOPED:
            raise Conflict(
                f"{name} opened {request_id} and cannot approve it as well.",
                "This workspace wants two people for that (approval.four_eyes).",
                "Let somebody else approve it; --actor says who acts.",
            )
        catalog.move(session, row, State.APPROVED, at, name, detail={"four_eyes": four_eyes})

    return _change(workspace, request_id, change)


def refuse(
    workspace: Workspace,
    request_id: str,
    reason: str | None = None,
    note: str | None = None,
    told: str | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """Refuse a request, for a reason that the law knows; once the person was told, it is closed.

    Args:
        workspace: Where the request is known.
        request_id: Which.
        reason: A name in ``catalog.states.REFUSALS``; not needed to record the notice of a refusal.
        note: Free text.
        told: The day on which the person was told, with the reasons and the routes of complaint (12(4)).
        actor: Who refuses.

    Raises:
        InputError: If it is too late for that, or the reason or the date does not fit.
    """
    name = actor_name(actor)
    if reason is not None:
        states.reason_of(states.REFUSALS, reason, "The reason")

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        if row.state != State.REFUSED or told is None:
            if reason is None:
                raise InputError("A refusal needs a reason.", f"Known: {', '.join(states.REFUSALS)}.",
                                 "Give it with --reason.")  # fmt: skip
            if row.version_after is not None:
                raise Conflict(f"{request_id} has begun to be executed.", "What is erased is erased.",
                                 f"See it with: expunge request show {request_id}")  # fmt: skip
            article = {"article": states.REFUSALS[reason][0]}
            catalog.move(session, row, State.REFUSED, at, name, reason, article)
            row.refusal = {"reason": reason, "told": None}
            row.note = note or row.note
        if told is not None:
            day = _told(workspace, row, told, at)
            row.refusal = {**(row.refusal or {}), "told": day}
            catalog.move(session, row, State.CLOSED, at, name, "told", {"on": day})
            catalog.forget_recipients(row, workspace.key)
            row.key_mac = row.body_mac = None
            mark_for_scrub(workspace)

    shown = _change(workspace, request_id, change)
    try_scrub(workspace)
    return shown


def extend(
    workspace: Workspace,
    request_id: str,
    reason: str,
    told: str,
    months: int | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """Put off a request's due date, for a reason of which the person was told in time (12(3)).

    Args:
        workspace: Where the request is known.
        request_id: Which.
        reason: A name in ``catalog.states.EXTENSIONS``.
        told: The day on which the person was told of the extension and its reasons.
        months: By how many further months; None: as many as may be.
        actor: Who decides.

    Raises:
        InputError: If it was extended before, is done, or the notice came too late.
    """
    name, rules = actor_name(actor), workspace.settings.rules
    states.reason_of(states.EXTENSIONS, reason, "The reason")
    months = rules.extension_months if months is None else months

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        if State(row.state) not in (*states.WAITING, *states.UNDERWAY):
            raise Conflict(f"{request_id} is {row.state}.", "Nothing is left to put off.", "")
        if row.extension:
            raise Conflict(f"{request_id} was extended before.", "The law knows one extension.", "")
        if not 1 <= months <= rules.extension_months:
            raise InputError(f"{months} months do not fit.", f"At most {rules.extension_months} are allowed.",
                             "Choose fewer.")  # fmt: skip
        day = _told(workspace, row, told, at)
        row.extension = {"months": months, "reason": reason, "told": day}
        row.due = clock.due(row.received, rules, months)
        catalog.note(session, row, at, name, "extended", row.extension)

    return _change(workspace, request_id, change)


def tell(
    workspace: Workspace,
    request_id: str,
    recipient: str,
    on: str | None = None,
    why_not: str | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """Record that a recipient of the data was told of the erasure, or why not (article 19).

    Args:
        workspace: Where the request is known.
        request_id: Which.
        recipient: Who; told to the person on request.
        on: On which day; None: today.
        why_not: ``impossible`` or ``disproportionate``, where nobody could be told.
        actor: Who records it.
    """
    name, rules = actor_name(actor), workspace.settings.rules
    if not recipient.strip():
        raise InputError("The recipient has no name.", "", "Give it with --recipient.")

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        day = clock.parse_day(on, "--on").isoformat() if on else clock.local_day(at, rules).isoformat()
        closed = row.state == State.CLOSED
        shown = catalog.recipient_id(workspace.key, recipient) if closed else recipient
        entry = {"name": shown, "told": None if why_not else day, "why_not": why_not}
        known = [r for r in (row.recipients or {}).get("list", []) if r["name"] != shown]
        row.recipients = {"list": [*known, entry]}
        detail = {"count": len(known) + 1, "on": entry["told"], "why_not": why_not}
        catalog.note(session, row, at, name, "recipient", detail)

    return _change(workspace, request_id, change)


def show(workspace: Workspace, request_id: str, selection: bool = False) -> dict[str, Any]:
    """Return a request with its clock and events; what it selects only when that is asked for."""
    with workspace.session() as session:
        row = get_request(session, request_id)
        shown = describe(session, row, workspace.clock(), workspace.settings)
        shown["events"] = catalog.events(session, request_id)
        if selection:
            shown["selection"] = row.selection.get("asked")
    return {**shown, **next_step(workspace, request_id).as_json()}


def new_id() -> str:
    """Return a random request id: it tells nothing."""
    return f"r-{secrets.token_hex(8)}"


def actor_name(given: str | None) -> str:
    """Return who acts: the name given, or the user of the operating system.

    Raises:
        InputError: If the name is empty, too long, or more than a line.
    """
    if given is None:
        try:
            given = getpass.getuser()
        except (KeyError, OSError, ImportError):
            given = "unknown"
    if not given.strip() or len(given) > NAME_LENGTH or not given.isprintable():
        raise InputError("That is no name of a person who acts.", "", "Give a short name with --actor.")
    return given.strip()


def _change(
    workspace: Workspace, request_id: str, change: Callable[[Session, RequestRow, datetime], None]
) -> dict[str, Any]:
    at = workspace.clock()
    journal.check_ready(workspace)
    with workspace.session(write=True) as session:
        row = get_request(session, request_id)
        catalog.check_clock(session, at, workspace.settings.rules)
        change(session, row, at)
    return show(workspace, request_id)


def _dates(workspace: Workspace, opening: Opening, at: datetime) -> tuple[datetime, datetime]:
    """When the request was received, and when it is due."""
    rules = workspace.settings.rules
    received = at
    if opening.received is not None:
        received = clock.parse_moment(opening.received, "--received", rules)
    if received > at:
        raise InputError(
            f"--received {opening.received} is in the future.",
            f"It is {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC now.",
            "Give the day on which the request came.",
        )
    deadline = clock.due(received, rules)
    if opening.due is None:
        return received, deadline
    wanted = clock.end_of(clock.parse_day(opening.due, "--due"), rules)
    if wanted < at:
        raise InputError(f"--due {opening.due} is in the past.", "", "Give a day to come, or leave it out.")
    if wanted > deadline:
        raise InputError(
            f"--due {opening.due} is later than the law allows.",
            f"A request received then is due on {clock.local_day(deadline, rules)}.",
            "Leave it out, and use `expunge request extend` where there are reasons.",
        )
    return received, wanted


def _told(workspace: Workspace, row: RequestRow, told: str, at: datetime) -> str:
    """The day of a notice, if it was in time: between the receipt and the end of the first month."""
    rules = workspace.settings.rules
    day = clock.parse_day(told, "--told")
    if day > clock.local_day(at, rules):
        raise InputError(f"--told {told} is in the future.", "", "Record the notice once it was sent.")
    if day < clock.local_day(row.received, rules):
        raise InputError(f"--told {told} is before the receipt.", "", "Give the day of the notice.")
    last = clock.local_day(clock.notice_due(row.received, rules), rules)
    if day > last and row.state != State.REFUSED:
        raise InputError(
            f"--told {told} is too late.",
            f"An extension must be told within the first month, until {last} (article 12(3)).",
            "Execute the request now.",
        )
    return day.isoformat()


def _body(ask: Ask) -> dict[str, Any]:
    """All that a request asks for, in a form that does not depend on the order of what was named."""
    asked = ask.as_json()
    several = {name: sorted(asked[name]) for name in ("subjects", "samples", "listed", "models")}
    return {**asked, **several, "method": ask.method, "defer": ask.defer, "settings": ask.settings.as_json()}

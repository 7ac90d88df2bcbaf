# SPDX-License-Identifier: Apache-2.0
"""Step 1 of a request: open it, approve, refuse or extend it, and record notices to recipients."""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, request_store, states
from expunge.catalog.model_store import get_request
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.erasure.catalog_rows import mark_for_scrub, try_scrub
from expunge.erasure.deadlines import notice_day, request_dates
from expunge.erasure.next_step import next_step
from expunge.erasure.scope import (
    ErasureRequest,
    Scope,
    check_budgets,
    check_method,
    concerned_models,
    resolve_scope,
)
from expunge.erasure.status import describe
from expunge.errors import Conflict, InputError
from expunge.evidence import journal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

NAME_LENGTH = 200


@dataclass(frozen=True)
class Opening:
    """Data recorded when a request is received, besides its selection.

    Attributes:
        received: Moment of receipt (a date, or ISO 8601); None: now.
        key: Idempotency key: a repeated call with the same key returns the same request.
        ground: Ground for erasure under article 17(1), a name in ``catalog.states.GROUNDS``.
        due: A due date earlier than the legal one; None: the legal one.
        actor: Name of the person who opens the request; None: the user of the operating system.
        note: Free text, kept with the request until it is closed, and nowhere else.
        recipients: Names of those to whom the data was disclosed and who must still be notified (article 19).
    """

    received: str | None = None
    key: str | None = None
    ground: str | None = None
    due: str | None = None
    actor: str | None = None
    note: str | None = None
    recipients: tuple[str, ...] = ()


def open_request(
    workspace: Workspace, request: ErasureRequest, opening: Opening | None = None
) -> dict[str, Any]:
    """Add a request to the queue and return its record; nothing is erased.

    Returns:
        The JSON object that ``request open --json`` prints. If all selected samples were erased before, it
        names the request that erased them.

    Raises:
        InputError: If the selection, a date, the ground or the idempotency key is invalid.
    """
    opening = opening or Opening()
    actor, at = actor_name(opening.actor), workspace.clock()
    received, deadline = request_dates(workspace, opening.received, opening.due, at)
    if opening.ground is not None:
        states.reason_of(states.GROUNDS, opening.ground, "The ground")
    body: dict[str, Any] = {
        "ask": _body(request),
        "received": opening.received,
        "ground": opening.ground,
        "due": opening.due,
    }
    if opening.recipients:
        body["recipients"] = list(opening.recipients)
    with workspace.session() as session:
        known = opening.key and request_store.find_by_key(session, workspace.key, opening.key, body)
    if known:
        return {**show(workspace, known), "reused": True}
    check_method(request)
    journal.check_ready(workspace)
    scope = resolve_scope(workspace, request)
    erased = scope.selection.already_erased_by
    if not scope.taken:
        first = next(iter(erased.values()))
        with workspace.session() as session:
            row = session.get(RequestRow, first)
            state = row.state if row else str(State.CLOSED)
        return {"request": first, "state": state, "already_erased_by": erased, "reused": False}
    models = concerned_models(workspace, request, scope)
    check_budgets(workspace, request, scope, models, scope.taken)
    names = [p.name for p in models]
    request_id = new_id()
    with workspace.session(write=True) as session:
        known = opening.key and request_store.find_by_key(session, workspace.key, opening.key, body)
        if not known:
            request_store.check_clock(session, at, workspace.settings.rules)
            row = add_row(session, request, scope, request_id, names, (received, deadline), at, actor)
            row.ground, row.note = opening.ground, opening.note
            if opening.recipients:
                unnotified = [{"name": name, "told": None, "why_not": None} for name in opening.recipients]
                row.recipients = {"list": unnotified}
            if opening.key:
                row.key_mac = request_store.mac(workspace.key, "key", opening.key)
                row.body_mac = request_store.mac(workspace.key, "body", body)
    record = show(workspace, known or request_id)
    return {**record, "already_erased_by": erased, "reused": bool(known)}


def add_row(
    session: Session,
    request: ErasureRequest,
    scope: Scope,
    request_id: str,
    models: Sequence[str],
    dates: tuple[datetime, datetime],
    at: datetime,
    actor: str,
) -> RequestRow:
    """Add a request to the catalog with its first two events, ``open`` and ``scoped``; return its row.

    Args:
        session: A session that holds the write lock.
        request: Arguments of the request.
        scope: The samples that it takes out of the dataset.
        request_id: Id of the new request.
        models: Names of the models that it concerns.
        dates: Moments of receipt and of the deadline.
        at: The present moment.
        actor: Name of the person who opens it.
    """
    version = scope.selection.version
    row = RequestRow(
        id=request_id,
        dataset_id=version.dataset_id,
        method=request.method,
        selection={
            "samples": scope.samples,
            "subjects": len(scope.selection.subjects),
            "models": sorted(models),
            "defer": request.defer,
            "class": request.class_name,
            "settings": request.settings.as_json(),
            "asked": replace(request, dataset=version.name).as_json(),
        },
        version_before=version.number,
        received=dates[0],
        due=dates[1],
        opened_by=actor,
    )
    request_store.add_request(session, row, at, actor)
    detail = {"dataset": version.label, "samples": scope.samples, "models": len(models)}
    request_store.change_state(session, row, State.SCOPED, at, actor, detail=detail)
    return row


def approve(workspace: Workspace, request_id: str, actor: str | None = None) -> dict[str, Any]:
    """Approve a request, so that the next run executes it; return its record.

    Raises:
        InputError: If the request does not wait for approval, or the workspace requires a second person
            (``approval.four_eyes``) and the same person opened it.
    """
    name = actor_name(actor)

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        four_eyes = workspace.settings.approval.four_eyes
        if four_eyes and row.opened_by == name and row.state == State.SCOPED:
            raise Conflict(
                f"{name} opened {request_id} and cannot approve it as well.",
                "This workspace requires approval by a second person (approval.four_eyes).",
                "Let another person approve it; --actor gives the name of the person who acts.",
            )
        request_store.change_state(session, row, State.APPROVED, at, name, detail={"four_eyes": four_eyes})

    return _change(workspace, request_id, change)


def refuse(
    workspace: Workspace,
    request_id: str,
    reason: str | None = None,
    note: str | None = None,
    told: str | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """Refuse a request on a legal ground, or record the notice of a refusal; return its record.

    The request is closed once the notice to the person is recorded.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        reason: A name in ``catalog.states.REFUSALS``; not needed to record the notice of a refusal.
        note: Free text.
        told: Day on which the person was notified, with the reasons and the routes of complaint (12(4)).
        actor: Name of the person who refuses; None: the user of the operating system.

    Raises:
        InputError: If the request was already executed, or the reason or the date is invalid.
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
            request_store.change_state(session, row, State.REFUSED, at, name, reason, article)
            row.refusal = {"reason": reason, "told": None}
            row.note = note or row.note
        if told is not None:
            day = notice_day(workspace, row, told, at)
            row.refusal = {**(row.refusal or {}), "told": day}
            request_store.change_state(session, row, State.CLOSED, at, name, "told", {"on": day})
            request_store.forget_recipients(row, workspace.key)
            row.key_mac = row.body_mac = None
            mark_for_scrub(workspace)

    record = _change(workspace, request_id, change)
    try_scrub(workspace)
    return record


def extend(
    workspace: Workspace,
    request_id: str,
    reason: str,
    told: str,
    months: int | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """Extend the deadline of a request (article 12(3)); return its record.

    The person must have been notified of the extension and its reason within the first month.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        reason: A name in ``catalog.states.EXTENSIONS``.
        told: Day on which the person was notified of the extension and its reasons.
        months: Number of further months; None: the most that the settings allow.
        actor: Name of the person who decides; None: the user of the operating system.

    Raises:
        InputError: If the request was extended before or is finished, or the notice came too late.
    """
    name, rules = actor_name(actor), workspace.settings.rules
    states.reason_of(states.EXTENSIONS, reason, "The reason")
    months = rules.extension_months if months is None else months

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        if State(row.state) not in (*states.WAITING_STATES, *states.RUNNING_STATES):
            raise Conflict(f"{request_id} is {row.state}.", "Its deadline cannot be extended any more.", "")
        if row.extension:
            raise Conflict(f"{request_id} was extended before.", "The law allows one extension.", "")
        if not 1 <= months <= rules.extension_months:
            raise InputError(f"The extension by {months} months is out of range.",
                             f"Allowed: 1 to {rules.extension_months}.", "Choose fewer.")  # fmt: skip
        day = notice_day(workspace, row, told, at)
        row.extension = {"months": months, "reason": reason, "told": day}
        row.due = clock.due(row.received, rules, months)
        request_store.record_note(session, row, at, name, "extended", row.extension)

    return _change(workspace, request_id, change)


def record_recipient_notice(
    workspace: Workspace,
    request_id: str,
    recipient: str,
    on: str | None = None,
    why_not: str | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """Record that a recipient of the data was notified of the erasure, or why not (article 19).

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        recipient: Name of the recipient; disclosed to the person on request.
        on: Day of the notification; None: today.
        why_not: ``impossible`` or ``disproportionate``, if the recipient was not notified.
        actor: Name of the person who records it; None: the user of the operating system.

    Returns:
        The record of the request.
    """
    name, rules = actor_name(actor), workspace.settings.rules
    if not recipient.strip():
        raise InputError("The recipient has no name.", "", "Give it with --recipient.")

    def change(session: Session, row: RequestRow, at: datetime) -> None:
        day = clock.parse_day(on, "--on").isoformat() if on else clock.local_day(at, rules).isoformat()
        closed = row.state == State.CLOSED
        label = request_store.recipient_id(workspace.key, recipient) if closed else recipient
        entry = {"name": label, "told": None if why_not else day, "why_not": why_not}
        others = [r for r in (row.recipients or {}).get("list", []) if r["name"] != label]
        row.recipients = {"list": [*others, entry]}
        detail = {"count": len(others) + 1, "on": entry["told"], "why_not": why_not}
        request_store.record_note(session, row, at, name, "recipient", detail)

    return _change(workspace, request_id, change)


def show(workspace: Workspace, request_id: str, selection: bool = False) -> dict[str, Any]:
    """Return the record of a request: its status, deadline, events and next step.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        selection: Include the subjects and samples that it selects.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        record = describe(session, row, workspace.clock(), workspace.settings)
        record["events"] = request_store.events(session, request_id)
        if selection:
            record["selection"] = row.selection.get("asked")
    return {**record, **next_step(workspace, request_id).as_json()}


def new_id() -> str:
    """Return a random request id, which reveals nothing about the request."""
    return f"r-{secrets.token_hex(8)}"


def actor_name(name: str | None) -> str:
    """Return the validated name of the acting person; None: the user of the operating system.

    Raises:
        InputError: If the name is empty, too long, or has unprintable characters.
    """
    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError, ImportError):
            name = "unknown"
    if not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        raise InputError("The name of the acting person is invalid.", "", "Give a short name with --actor.")
    return name.strip()


def _change(
    workspace: Workspace, request_id: str, change: Callable[[Session, RequestRow, datetime], None]
) -> dict[str, Any]:
    """Apply a change to the request's row in one transaction and return the new record."""
    at = workspace.clock()
    journal.check_ready(workspace)
    with workspace.session(write=True) as session:
        row = get_request(session, request_id)
        request_store.check_clock(session, at, workspace.settings.rules)
        change(session, row, at)
    return show(workspace, request_id)


def _body(request: ErasureRequest) -> dict[str, Any]:
    """Return the arguments of a request in a form that does not depend on the order of its lists."""
    body = request.as_json()
    ordered = {name: sorted(body[name]) for name in ("subjects", "samples", "listed", "models")}
    return {
        **body,
        **ordered,
        "method": request.method,
        "defer": request.defer,
        "settings": request.settings.as_json(),
    }

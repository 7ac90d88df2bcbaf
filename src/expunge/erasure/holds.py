# SPDX-License-Identifier: Apache-2.0
"""Counts unlearning attempts that the audit rejected, and holds a model for a person after too many.

The seed is fixed: the same method with the same settings, from the same model, for the same requests, gives
the same result in every run. A rejected attempt is therefore not repeated automatically. It counts
as a new attempt with another method, other settings or a further request for the model.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import model_store, request_store
from expunge.catalog.dataset_store import get_version, load_erased
from expunge.catalog.model_store import ModelVersion, UnfinishedRequest
from expunge.catalog.states import RUNNING_STATES
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.errors import InputError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from expunge.erasure.method_settings import MethodSettings

TURNED_DOWN, HELD = "turned-down", "held"
MethodSpec = tuple[str, "MethodSettings"]  # a method and its settings


@dataclass(frozen=True)
class HeldModel:
    """A model whose unlearning waits for a person's decision.

    Attributes:
        model: Name of the model.
        requests: Ids of the requests that wait for it; the last one determines method and settings.
        method: Method of the rejected attempts.
        attempts: Number of rejected attempts with the same outcome.
    """

    model: str
    requests: tuple[str, ...]
    method: str
    attempts: int

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that commands print."""
        return {
            **asdict(self),
            "requests": list(self.requests),
            "reason": self.reason,
            "next": self.next_step,
        }

    @property
    def reason(self) -> str:
        """The reason why it waits, in one sentence."""
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        return (
            f"The audit did not accept the result of '{self.method}' for {self.model}, {times};"
            " another attempt with the same settings would give the same result."
        )

    @property
    def next_step(self) -> str:
        """Instructions for the person who decides."""
        run = self._run
        first = (
            f"`{run} --method retrain --set epochs=N` trains for longer; or take another method"
            if self.method == "retrain"
            else f"`{run} --method retrain`, or another method"
        )
        return (
            f"Decide: {first}; add `--accept no-power` to accept a result whose audit had no power."
            f" `{run}` repeats the same attempt once."
            " Or train the model elsewhere on the output of `expunge data export`, register it with"
            f" `expunge adopt WEIGHTS --data DATASET --name {self.model}`, and then run `{run}`."
        )

    def commands(self, dataset: str) -> tuple[str, ...]:
        """Return the commands to choose from, for a model of the named dataset."""
        return (
            f"{self._run} --method retrain" + (" --set epochs=N" if self.method == "retrain" else ""),
            f"expunge adopt WEIGHTS --data {dataset} --name {self.model}",
            self._run,
        )

    @property
    def _run(self) -> str:
        return f"expunge request run {self.requests[-1]}"


@dataclass(frozen=True)
class MethodOverride:
    """Method and settings that replace those of a request, for adopted models.

    Attributes:
        method: Name of the method; None: the request's own.
        hyperparameters: Hyper-parameters of the method; the request's own apply if this is empty and
            ``method`` is None.
        budget: Most compute, in units of a retrain; None: the request's own.
        accept_no_power: Accept a result with the verdict ``no-power``.
    """

    method: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    budget: float | None = None
    accept_no_power: bool = False

    def __bool__(self) -> bool:
        return self != MethodOverride()

    def instead_of(self, method: str, settings: MethodSettings) -> MethodSpec:
        """Return the replaced method and settings, given those of a request."""
        anew = self.method is not None or bool(self.hyperparameters)
        return self.method or method, replace(
            settings,
            hyperparameters=self.hyperparameters if anew else settings.hyperparameters,
            budget=settings.budget if self.budget is None else self.budget,
            accept_no_power=settings.accept_no_power or self.accept_no_power,
        )


def attempt_digest(session: Session, newest: ModelVersion, method: str, settings: MethodSettings) -> str:
    """Return a digest of everything on which the result of unlearning an adopted model depends.

    It covers the method, its settings, the start version, and the ids of the pending requests, but no
    personal data. Equal digests mean equal results.

    Args:
        session: A session on the catalog.
        newest: The newest version of the model.
        method: Name of the method.
        settings: Its settings.
    """
    start = model_store.last_accepted(session, newest.name)
    done = (start.composition or {}).get("forgotten", [])
    erased = load_erased(session, get_version(session, start.dataset, start.dataset_version))
    pending = sorted({by for sample, by in erased if sample.split == "train"} - set(done))
    text = json.dumps([method, settings.as_json(), start.label, start.digest, pending], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def requested_method(waiting: UnfinishedRequest) -> MethodSpec:
    """Return the method and settings of a request for adopted models."""
    from expunge.erasure.method_settings import MethodSettings

    # The request chose ``exact`` for its erasable models; it does not apply to adopted ones.
    method = "auto" if waiting.method == "exact" else waiting.method
    return method, MethodSettings(**waiting.selection.get("settings", {}))


def overridden_method(row: RequestRow, other: MethodOverride) -> MethodSpec:
    """Return the method and settings that replace those of a request.

    Raises:
        InputError: If they do not suit the request.
    """
    from expunge.erasure.scope import ErasureRequest, check_method

    method, settings = other.instead_of(
        *requested_method(UnfinishedRequest(row.id, row.method, row.selection))
    )
    check_method(ErasureRequest(class_name=row.selection.get("class"), method=method, settings=settings))
    return method, settings


def record(
    session: Session,
    row: RequestRow,
    entries: Sequence[Mapping[str, Any]],
    at: datetime,
    actor: str,
    limit: int,
) -> None:
    """Record rejected attempts as events of the request, and hold models that reach the limit.

    Args:
        session: A session that holds the write lock.
        row: The request of the attempts.
        entries: The result of each model, in the form of ``forget --json``.
        at: The present moment.
        actor: Name of the person or program that records it.
        limit: Number of equal attempts after which a model is held.
    """
    for entry in entries:
        digest = entry.get("attempt")
        if digest is None or entry.get("accepted", True):
            continue
        model = str(entry["parent"]).partition("@")[0]
        detail = {"model": model, "method": entry["method"], "verdict": entry["verdict"], "attempt": digest}
        request_store.record_note(session, row, at, actor, TURNED_DOWN, detail)
        if (count := _rejections(session, row.id)[model, digest]) >= limit:
            request_store.record_note(session, row, at, actor, HELD, {"model": model, "attempts": count})


def held(session: Session, limit: int) -> dict[str, HeldModel]:
    """Return by name the adopted models whose next attempt would repeat one that was rejected too often.

    Args:
        session: A session on the catalog.
        limit: Number of equal attempts after which a model is held.
    """
    rejections, found = _rejections(session), dict[str, HeldModel]()
    if not rejections:
        return found
    unfinished = model_store.unfinished_requests(session)
    for published in model_store.newest_versions(session):
        waiting = [w for w in unfinished if published.name in w.models]
        if published.plan_digest is not None or published.withdrawn or not waiting:
            continue
        method, settings = requested_method(waiting[-1])
        try:
            digest = attempt_digest(session, published, method, settings)
        except InputError:
            continue  # the next run reports the error
        if (count := rejections[published.name, digest]) >= limit:
            found[published.name] = HeldModel(published.name, tuple(w.id for w in waiting), method, count)
    return found


def _rejections(session: Session, request_id: str | None = None) -> Counter[tuple[str, str]]:
    """Return the number of rejected attempts by (model, attempt digest).

    Requests of one batch record the same attempt each, so the largest number of any request counts.

    Args:
        session: A session on the catalog.
        request_id: The request; None: all requests under way.
    """
    query = select(RequestEventRow.request_id, RequestEventRow.detail).where(
        RequestEventRow.reason == TURNED_DOWN
    )
    if request_id is None:
        query = query.join(RequestRow, RequestRow.id == RequestEventRow.request_id)
        query = query.where(RequestRow.state.in_([str(state) for state in RUNNING_STATES]))
    else:
        query = query.where(RequestEventRow.request_id == request_id)
    by_request: dict[str, Counter[tuple[str, str]]] = {}
    for request_id, detail in session.execute(query):
        by_request.setdefault(request_id, Counter())[detail["model"], detail["attempt"]] += 1
    largest: Counter[tuple[str, str]] = Counter()
    for counts in by_request.values():
        largest |= counts
    return largest

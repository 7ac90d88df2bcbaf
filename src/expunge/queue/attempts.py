# SPDX-License-Identifier: Apache-2.0
"""Unlearnings that their audit did not accept: counted, and after enough of them held for a person to decide.

The seed is fixed: the same method with the same settings, from the same model, for the same requests, gives
the same result every night. So what failed is not tried again by itself; another method, other settings or
one more request for the model is something new.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import models as catalog
from expunge.catalog import requests as queue
from expunge.catalog.datasets import get_version, load_erased
from expunge.catalog.models import Published, Waiting
from expunge.catalog.states import UNDERWAY
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.errors import InputError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from expunge.steps.approximation import Settings

TURNED_DOWN, HELD = "turned-down", "held"
How = tuple[str, "Settings"]  # a method, and its settings


@dataclass(frozen=True)
class Held:
    """A model whose unlearning waits for a person.

    Attributes:
        model: Its name.
        requests: Those that wait for it; the last one says how it is unlearned.
        method: What was tried.
        attempts: How often, with one and the same outcome.
    """

    model: str
    requests: tuple[str, ...]
    method: str
    attempts: int

    def as_json(self) -> dict[str, Any]:
        """Return what commands print of it."""
        return {
            **asdict(self),
            "requests": list(self.requests),
            "reason": self.reason,
            "next": self.next_step,
        }

    @property
    def reason(self) -> str:
        """Why it waits."""
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        return (
            f"The audit did not accept what '{self.method}' made of {self.model}, {times};"
            " the same again would give the same."
        )

    @property
    def next_step(self) -> str:
        """What a person can do."""
        run = self._run
        first = (
            f"`{run} --method retrain --set epochs=N` trains for longer; or take another method"
            if self.method == "retrain"
            else f"`{run} --method retrain`, or another method"
        )
        return (
            f"Decide: {first}; with `--accept no-power` where no trace"
            f" could be told even before. `{run}` tries the same once more."
            " Or train the model elsewhere on what `expunge data export` writes, hand it in with"
            f" `expunge adopt WEIGHTS --data DATASET --name {self.model}`, and then `{run}`."
        )

    def commands(self, dataset: str) -> tuple[str, ...]:
        """Return the commands among it, for a model of a dataset."""
        return (
            f"{self._run} --method retrain" + (" --set epochs=N" if self.method == "retrain" else ""),
            f"expunge adopt WEIGHTS --data {dataset} --name {self.model}",
            self._run,
        )

    @property
    def _run(self) -> str:
        return f"expunge request run {self.requests[-1]}"


@dataclass(frozen=True)
class Other:
    """Another way to unlearn adopted models than the one that a request says.

    Attributes:
        method: Its name; None: the request's own.
        hyperparameters: Of the method; with neither these nor a method the request's own.
        budget: Most work, in units of a retrain; None: the request's own.
        accept_no_power: Take a result also where the test could not have noticed a failure.
    """

    method: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    budget: float | None = None
    accept_no_power: bool = False

    def __bool__(self) -> bool:
        return self != Other()

    def instead_of(self, method: str, settings: Settings) -> How:
        """Return method and settings, where a request says these."""
        anew = self.method is not None or bool(self.hyperparameters)
        return self.method or method, replace(
            settings,
            hyperparameters=self.hyperparameters if anew else settings.hyperparameters,
            budget=settings.budget if self.budget is None else self.budget,
            accept_no_power=settings.accept_no_power or self.accept_no_power,
        )


def key_of(session: Session, newest: Published, method: str, settings: Settings) -> str:
    """Return a digest of all that the outcome of unlearning an adopted model depends on.

    It holds ids of requests, methods and models, and nothing of whom they concern.
    """
    start = catalog.last_accepted(session, newest.name)
    done = (start.composition or {}).get("forgotten", [])
    erased = load_erased(session, get_version(session, start.dataset, start.dataset_version))
    pending = sorted({by for sample, by in erased if sample.split == "train"} - set(done))
    text = json.dumps([method, settings.as_json(), start.label, start.digest, pending], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def how_of(waiting: Waiting) -> How:
    """Return method and settings with which a request wants adopted models unlearned."""
    from expunge.steps.approximation import Settings

    # ``exact`` was said for models with a plan, before this one was named.
    method = "auto" if waiting.method == "exact" else waiting.method
    return method, Settings(**waiting.selection.get("settings", {}))


def other_way(row: RequestRow, other: Other) -> How:
    """Return the way to unlearn in place of what a request says.

    Raises:
        InputError: If it does not fit the request.
    """
    from expunge.steps.scoping import Ask, check_method

    method, settings = other.instead_of(*how_of(Waiting(row.id, row.method, row.selection)))
    check_method(Ask(class_name=row.selection.get("class"), method=method, settings=settings))
    return method, settings


def record(
    session: Session,
    row: RequestRow,
    entries: Sequence[Mapping[str, Any]],
    at: datetime,
    actor: str,
    limit: int,
) -> None:
    """Write down which of the unlearnings that were just done the audit did not accept.

    Args:
        session: A session that holds the write lock.
        row: The request for which they were done.
        entries: Of each model, in the form of ``forget --json``.
        at: The present moment.
        actor: Who records it.
        limit: How often the same is tried before it is held.
    """
    for entry in entries:
        key = entry.get("attempt")
        if key is None or entry.get("accepted", True):
            continue
        model = str(entry["parent"]).partition("@")[0]
        told = {"model": model, "method": entry["method"], "verdict": entry["verdict"]}
        queue.note(session, row, at, actor, TURNED_DOWN, {**told, "attempt": key})
        if (count := _counts(session, row.id)[model, key]) >= limit:
            queue.note(session, row, at, actor, HELD, {"model": model, "attempts": count})


def held(session: Session, limit: int) -> dict[str, Held]:
    """Return by name the adopted models whose next unlearning would repeat what failed often enough.

    Args:
        session: A session on the catalog.
        limit: How often the same is tried.
    """
    tried, found = _counts(session), dict[str, Held]()
    if not tried:
        return found
    waiting = catalog.unfinished(session)
    for published in catalog.live(session):
        mine = [w for w in waiting if published.name in w.models]
        if published.plan_digest is not None or published.withdrawn or not mine:
            continue
        method, settings = how_of(mine[-1])
        try:
            key = key_of(session, published, method, settings)
        except InputError:
            continue  # its run will say what is wrong
        if (count := tried[published.name, key]) >= limit:
            found[published.name] = Held(published.name, tuple(w.id for w in mine), method, count)
    return found


def _counts(session: Session, request_id: str | None = None) -> Counter[tuple[str, str]]:
    """How often what was tried for each model, for one request or all under way; together counts once."""
    query = select(RequestEventRow.request_id, RequestEventRow.detail).where(
        RequestEventRow.reason == TURNED_DOWN
    )
    if request_id is None:
        query = query.join(RequestRow, RequestRow.id == RequestEventRow.request_id)
        query = query.where(RequestRow.state.in_([str(state) for state in UNDERWAY]))
    else:
        query = query.where(RequestEventRow.request_id == request_id)
    each: dict[str, Counter[tuple[str, str]]] = {}
    for request_id, detail in session.execute(query):
        each.setdefault(request_id, Counter())[detail["model"], detail["attempt"]] += 1
    most: Counter[tuple[str, str]] = Counter()
    for counted in each.values():
        most |= counted
    return most

# SPDX-License-Identifier: Apache-2.0
"""What the tests of the queue share: a clock, a data set without files, and models that take no training.

A model of paper is a digest of the samples that are retained, so two ways of forgetting that end with the
same samples end with the same digest, as the exact machinery promises for real ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version, get_version, load_samples
from expunge.catalog.tables import RequestEventRow
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.erasure import execution, scheduler
from expunge.erasure.closing import close_request
from expunge.erasure.workspace import Workspace
from expunge.evidence import certificates, log
from expunge.progress import Progress

PEOPLE = tuple(f"person-{i}" for i in range(8))
START = datetime(2026, 1, 31, 9, tzinfo=UTC)


class Clock:
    """Tells the time that it was set to."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def go(self, **span: float) -> None:
        """Let time pass (or run back)."""
        self.at += timedelta(**span)


def add_people(
    workspace: Workspace, people: Sequence[str], name: str = "shop", consent: bool = False
) -> None:
    """Add a data set in which every person has two samples, and nobody has two."""
    samples = [
        Sample(path, "train", hashlib.sha256(f"{name}/{path}".encode()).hexdigest(), "", None, who, False)
        for path, who in [
            *((f"train/{p}-{k}.png", (p,)) for p in people for k in range(2)),
            ("train/free-0.png", ()),
            ("train/free-1.png", ()),
        ]
    ]
    found = Scan(
        Path("/nowhere"), DatasetConfig("yolo", ("a", "b")), tuple(sorted(samples, key=lambda s: s.path))
    )
    with workspace.session(write=True) as session:
        add_version(session, name, found, key=workspace.key, new_consent=consent)


def in_child(job: Callable[[], object]) -> int:
    """Run a function in a process of its own; returns its exit code, negative after a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            job()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def told_once(workspace: Workspace) -> int:
    """Check that the log has every event of the catalog, once and in its order; returns how many."""
    with workspace.session() as session:
        rows = session.query(RequestEventRow).order_by(RequestEventRow.id).all()
        events = [
            (f"request-{row.target}" if row.source != row.target else "request-noted", row.request_id)
            for row in rows
        ]
        assert all(row.told for row in rows)
    entries = [e.event for e in log.entries_of(workspace) if e.event.kind.startswith("request-")]
    assert [(e.kind, e.request) for e in entries] == events
    return len(events)


@dataclass
class Paper:
    """Models of paper in a workspace."""

    workspace: Workspace
    names: tuple[str, ...] = ("m", "z")
    trainings: int = 0
    judged: bool = False  # as adopted models are, whose certificates need no plan

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Publish the models, and put paper in the place of what would train."""
        for name in self.names:
            with self.workspace.session(write=True) as session:
                model_store.ensure_model(session, name, "detect")
            self.publish(name, None)
        self.replace(patch)

    def replace(self, patch: pytest.MonkeyPatch) -> None:
        """Put paper in the place of what would train."""
        patch.setattr(execution, "affected_by", self._affected)
        patch.setattr(execution, "_executions", self._executions)
        patch.setattr(scheduler, "repair", self._repair)
        patch.setattr(execution, "repair", self._repair)

    def digest(self) -> str:
        """What every model is now: a function of the samples that are retained."""
        with self.workspace.session() as session:
            version = get_version(session, "shop")
            paths = [s.path for s in load_samples(session, version, without_erased=True)]
        return "sha256:" + hashlib.sha256("\n".join(paths).encode()).hexdigest()

    def newest(self, name: str = "m") -> model_store.ModelVersion:
        """A model's newest version."""
        with self.workspace.session() as session:
            return model_store.find_model(session, name)

    def publish(self, name: str, request_id: str | None) -> model_store.ModelVersion:
        """Write a model down."""
        self.trainings += 1
        digest = self.digest()
        with self.workspace.session(write=True) as session:
            model_id, version = (
                model_store.ensure_model(session, name, "detect"),
                get_version(session, "shop"),
            )
            number = model_store.next_number(session, model_id)
            model_store.publish(
                session, model_id, number=number, parent=number - 1 or None, dataset_id=version.dataset_id,
                dataset_version=version.number, retained_digest=digest[7:71], samples=1, subjects=1,
                plan_digest=None, method="exact", guarantee=self.guarantee, state="current", digest=digest,
                weights=f"models/{name}/{name}-{number}.pt", composition=None, metrics=None, cost=None,
                cpu_seconds=1.0, request_id=request_id, judged=self.judgement or None,
            )  # fmt: skip
        return self.newest(name)

    @property
    def guarantee(self) -> str:
        """What the models are said to be."""
        return "audited" if self.judged else "exact"

    @property
    def judgement(self) -> dict[str, Any]:
        """What an audit found, where there is one."""
        audit = dict.fromkeys(certificates.AUDIT_FIELDS)
        return {"verdict": "pass", "audit": audit} if self.judged else {}

    def _affected(
        self, workspace: Workspace, ask: Any, scope: Any, locked: Sequence[str] = (), gone: Any = None
    ) -> list[Any]:
        found = [self.newest(name) for name in locked or self.names]
        return [
            SimpleNamespace(published=p, after=SimpleNamespace(retained=p.retained_digest)) for p in found
        ]

    def _executions(
        self, workspace: Workspace, started: Any, found: Sequence[Any], *rest: Any
    ) -> list[PaperExecution]:
        return [PaperExecution(self, a.published, started[-1][0].request_id) for a in found]

    def _repair(
        self, workspace: Workspace, names: Sequence[str], progress: Progress, *how: object
    ) -> dict[str, Any]:
        with workspace.session() as session:
            waiting = model_store.unfinished_requests(session)
        for name in names:
            if self.newest(name).digest != self.digest():
                self.publish(name, waiting[-1].id)
        for w in waiting:
            if set(w.models) <= set(names):
                close_request(workspace, w.id, None, resumed=True)
        return {"models": []}


@dataclass
class PaperExecution:
    """Brings a model of paper to what is retained."""

    paper: Paper
    before: model_store.ModelVersion
    request_id: str

    def publish_interim(self) -> None:
        """There is none: the version before is withdrawn."""
        with self.paper.workspace.session(write=True) as session:
            model_store.supersede(session, model_store.ensure_model(session, self.before.name, "detect"))

    def repair(self, defer: bool = False) -> dict[str, Any]:
        """Publish, unless that shall wait."""
        entry = {
            "model": self.before.label, "parent": self.before.label, "parent_digest": self.before.digest,
            "method": "exact", "digest": None, "weights": None, "plan": self.before.plan_digest,
            "cost_predicted": None,
            "cost_measured": None, "metrics_before": None, "metrics_after": None, "verdict": None,
            "guarantee": "none", "interim": None, "composition": None,
        }  # fmt: skip
        if defer:
            return entry
        now = self.paper.publish(self.before.name, self.request_id)
        done = {"model": now.label, "digest": now.digest, "guarantee": now.guarantee}
        return {**entry, **done, **(now.judged or {})}

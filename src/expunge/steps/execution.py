# SPDX-License-Identifier: Apache-2.0
"""Brings one model to what is retained now: the interim model at once, then the repair."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from expunge.catalog import models as catalog
from expunge.catalog.locks import ModelLock
from expunge.catalog.models import Published
from expunge.errors import EnvironmentChanged, ExpungeError, Preempted
from expunge.exact.composition import Composition, final
from expunge.exact.model import ErasableModel
from expunge.exact.runner import missing
from expunge.steps.entries import made_from


@dataclass
class Execution:
    """One model under an erasure; both steps may be repeated without harm.

    Attributes:
        model: The model, with what is retained now.
        before: Its newest published version.
        model_id: Its row in the catalog.
        lock: Held.
        request_id: The request that asks for it.
        retrain: Train everything anew instead of what is missing (the bytes are the same).
        predicted: The predicted cost, in units of a retrain.
        began: When the command began, on the clock of ``time.monotonic``.
        preempted: Whether somebody waits to erase; None: from this model.
    """

    model: ErasableModel
    before: Published
    model_id: int
    lock: ModelLock
    request_id: str | None
    retrain: bool = False
    predicted: float | None = None
    began: float = 0.0
    preempted: Callable[[], bool] | None = None
    interim: dict[str, Any] | None = None

    @property
    def unchanged(self) -> bool:
        """The model never saw what was forgotten."""
        return self.before.retained_digest == self.model.retained

    def publish_interim(self) -> None:
        """Destroy the checkpoints that saw the forgotten, and publish what is left of the model at once."""
        if self._settled:
            return
        self.model.destroy_stale(self.model_id)
        if self.unchanged or not missing(self.model.graph, self.model.store):
            return
        composition = self.model.choose_interim() if self._at_home else None
        if composition is None:
            with self.model.workspace.session(write=True) as session:
                catalog.supersede(session, self.model_id)
            self.model.progress.say(
                "No checkpoint of this environment is free of what is forgotten: "
                f"withdraw {self.before.label} until the repair."
            )
            return
        states = self.model.weights(composition)
        published = self._publish(composition, states, "exact-interim", "interim", None, 0.0)
        seconds = round(time.monotonic() - self.began, 3)
        self.model.progress.say(
            f"published {published.label} after {seconds:.1f} s: interim, free of what is forgotten"
        )
        self.interim = {
            "model": published.label,
            "digest": published.digest,
            "weights": str(self.model.workspace.root / published.weights),
            "seconds": seconds,
            "metrics": None,
            "composition": composition.as_json(),
        }

    def repair(self, defer: bool = False) -> dict[str, Any]:
        """Train what is missing and publish it; returns the model's entry in ``forget --json``.

        The model is measured after it was published, and its metrics before are taken on the same files.
        """
        entry = self._entry()
        if self._settled:
            published, metrics = self.before, self._metrics_before()
            costs = {"cost_predicted": 0.0, "cost_measured": 0.0}
            entry |= {"metrics_before": metrics, "metrics_after": metrics}
            return {**entry, **self._result(published), **costs}
        if defer and missing(self.model.graph, self.model.store):
            self.model.progress.say("The repair waits for `expunge repair`, alone or with later requests.")
            return {**entry, "metrics_before": self._metrics_before()}
        if self.retrain:
            self.model.destroy_stale(self.model_id, everything=True)
        self.lock.say("repair")
        label = f"repairing {self.model.name}"
        try:
            asked = self.preempted or self.lock.preempted
            cpu = self.model.train(self.model_id, self.model.graph, label, asked)
        except Preempted:
            self.model.progress.say("The repair gave way to another erasure, and will be finished with it.")
            return {**entry, "preempted": True}
        whole = final(self.model.graph)
        states = self.model.weights(whole)
        full = self._retrain_cpu_seconds()
        cost = {"predicted": self.predicted, "measured": round(cpu / full, 4) if full else None}
        published = self._publish(whole, states, "exact", "current", cost, round(cpu, 2))
        entry |= self._parent_of(published)
        self.model.progress.say(f"published {published.label}: exact")
        metrics = self._measure(published.number, states)
        return {
            **entry,
            **self._result(published),
            "cost_measured": cost["measured"],
            "cpu_seconds": published.cpu_seconds,
            "metrics_before": self._metrics_before(),
            "metrics_after": metrics,
            "guarantee": "exact",
        }

    @property
    def _settled(self) -> bool:
        return self.unchanged and self.before.guarantee == "exact"

    @property
    def _at_home(self) -> bool:
        """Whether the checkpoints are of this environment: from others nothing is published as exact."""
        try:
            self.model.check_environment(self.model_id)
        except EnvironmentChanged:
            return False
        return True

    def _entry(self) -> dict[str, Any]:
        if self.interim:
            composition = Composition.from_json(self.interim["composition"])
            number = int(self.interim["model"].partition("@")[2])
            self.interim["metrics"] = self._measure(number, self.model.weights(composition))
        return {
            "model": self.before.label,
            "parent": self.before.label,
            "parent_digest": self.before.digest,
            "method": self._method,
            "digest": None,
            "weights": None,
            "plan": self.before.plan_digest,
            "cost_predicted": self.predicted,
            "cost_measured": None,
            "metrics_before": None,
            "metrics_after": None,
            "verdict": None,
            "guarantee": self._guarantee,
            "interim": self.interim,
            "composition": self.before.composition,
        }

    @property
    def _guarantee(self) -> str:
        """What is promised until the repair."""
        if self.interim:
            return "exact-interim"
        return self.before.guarantee if self.unchanged else "none"

    @property
    def _method(self) -> str:
        return "retrain" if self.retrain else "exact"

    def _result(self, published: Published) -> dict[str, Any]:
        return {
            "model": published.label,
            "digest": published.digest,
            "weights": str(self.model.workspace.root / published.weights),
            "composition": published.composition,
        }

    def _parent_of(self, published: Published) -> dict[str, Any]:
        """The version that a final one replaced."""
        with self.model.workspace.session() as session:
            versions = {p.number: p for p in catalog.history(session, published.name)}
        parent = made_from(published, versions) or self.before
        return {"parent": parent.label, "parent_digest": parent.digest}

    def _publish(
        self,
        composition: Composition,
        states: list[Any],
        guarantee: str,
        state: str,
        cost: dict[str, Any] | None,
        cpu: float,
    ) -> Published:
        return self.model.publish(
            self.model_id,
            composition,
            states,
            parent=self.before.number,
            method=self._method,
            guarantee=guarantee,
            state=state,
            metrics=None,
            cost=cost,
            cpu_seconds=cpu,
            request_id=self.request_id,
        )

    def _measure(self, number: int, states: list[Any]) -> dict[str, Any]:
        """Measure a version of this model and keep its metrics."""
        metrics = self.model.metrics(states)
        with self.model.workspace.session(write=True) as session:
            catalog.set_metrics(session, self.model.name, number, metrics)
        return metrics

    def _metrics_before(self) -> dict[str, Any]:
        """Metrics of the version before on the files that are retained and readable now."""
        from expunge.tasks.weights import states_of

        now, known = self.model.evaluation.as_json(), self.before.metrics
        same = known and "left_out" not in now | known and now.items() <= known.items()
        if known and same:
            return known
        try:
            states = states_of(self.model.workspace.root / self.before.weights)
        except ExpungeError as error:  # purged, or damaged
            return {**now, "images": 0, "reason": f"The weights cannot be read: {type(error).__name__}."}
        return self.model.metrics(states)

    def _retrain_cpu_seconds(self) -> float:
        """What a retrain on what is left takes: the sum of its stages as each was trained. 0 if unknown."""
        with self.model.workspace.session() as session:
            spent = {row.key: row.cpu_seconds for row in catalog.checkpoints(session, self.model_id)}
        keys = [node.key for node in self.model.graph.nodes]
        return sum(spent[key] for key in keys) if spent.keys() >= set(keys) else 0.0

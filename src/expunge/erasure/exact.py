# SPDX-License-Identifier: Apache-2.0
"""Updates one erasable model exactly: publishes an interim model at once, then repairs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from expunge.catalog import model_store
from expunge.catalog.model_store import ModelVersion
from expunge.erasure.model_results import replaced_version
from expunge.errors import EnvironmentChanged, ExpungeError, Preempted
from expunge.exact.composition import Composition, complete_composition
from expunge.exact.model import ErasableModel
from expunge.exact.runner import missing_nodes
from expunge.storage.locks import ModelLock


@dataclass
class Execution:
    """The exact update of one model; both of its steps can be repeated safely.

    Attributes:
        model: The model with the data retained now.
        before: Its newest published version.
        model_id: Row id of the model.
        lock: The held lock of the model.
        request_id: Id of the request.
        retrain: Train everything anew instead of only what is missing (the result is the same bit by bit).
        predicted: Predicted cost, in units of a retrain.
        began: Start of the command (``time.monotonic``).
        preempted: Returns whether another erasure waits; None: ask the lock of this model.
        interim: The published interim model, as in ``forget --json``; None: none was published.
    """

    model: ErasableModel
    before: ModelVersion
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
        """Whether the newest version was trained on exactly the data retained now."""
        return self.before.retained_digest == self.model.retained

    def publish_interim(self) -> None:
        """Destroy the checkpoints that hold erased data and publish an interim model from the others.

        If no checkpoint can be used, the model is superseded until the repair.
        """
        if self._finished:
            return
        self.model.destroy_stale(self.model_id)
        if self.unchanged or not missing_nodes(self.model.graph, self.model.store):
            return
        composition = self.model.choose_interim() if self._same_environment else None
        if composition is None:
            with self.model.workspace.session(write=True) as session:
                model_store.supersede(session, self.model_id)
            self.model.progress.say(
                "No checkpoint of this environment is free of the erased data: "
                f"do not use {self.before.label} until the repair."
            )
            return
        states = self.model.weights(composition)
        published = self._publish(composition, states, "exact-interim", "interim", None, 0.0)
        seconds = round(time.monotonic() - self.began, 3)
        self.model.progress.say(
            f"published {published.label} after {seconds:.1f} s: interim, free of the erased data"
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
        """Train the missing stages, publish the model and return its entry in ``forget --json``.

        The metrics are measured after publication; those before and after use the same files.

        Args:
            defer: Leave the training for ``expunge repair``.
        """
        entry = self._entry()
        if self._finished:
            published, metrics = self.before, self._metrics_before()
            costs = {"cost_predicted": 0.0, "cost_measured": 0.0}
            entry |= {"metrics_before": metrics, "metrics_after": metrics}
            return {**entry, **self._result(published), **costs}
        if defer and missing_nodes(self.model.graph, self.model.store):
            self.model.progress.say("The repair waits for `expunge repair`, alone or with later requests.")
            return {**entry, "metrics_before": self._metrics_before()}
        if self.retrain:
            self.model.destroy_stale(self.model_id, everything=True)
        self.lock.say("repair")
        label = f"repairing {self.model.name}"
        try:
            preempted = self.preempted or self.lock.preempted
            cpu = self.model.train(self.model_id, self.model.graph, label, preempted)
        except Preempted:
            self.model.progress.say(
                "The repair was interrupted by another erasure, and will be finished with it."
            )
            return {**entry, "preempted": True}
        composition = complete_composition(self.model.graph)
        states = self.model.weights(composition)
        retrain_cpu = self._retrain_cpu_seconds()
        cost = {"predicted": self.predicted, "measured": round(cpu / retrain_cpu, 4) if retrain_cpu else None}
        published = self._publish(composition, states, "exact", "current", cost, round(cpu, 2))
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
    def _finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.unchanged and self.before.guarantee == "exact"

    @property
    def _same_environment(self) -> bool:
        """Whether the checkpoints were made in this environment; others give no exact model."""
        try:
            self.model.check_environment(self.model_id)
        except EnvironmentChanged:
            return False
        return True

    def _entry(self) -> dict[str, Any]:
        """Return the entry of a model whose repair is not done; measures the interim model."""
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
        """The guarantee until the repair."""
        if self.interim:
            return "exact-interim"
        return self.before.guarantee if self.unchanged else "none"

    @property
    def _method(self) -> str:
        return "retrain" if self.retrain else "exact"

    def _result(self, published: ModelVersion) -> dict[str, Any]:
        """Return the fields of an entry that describe the published version."""
        return {
            "model": published.label,
            "digest": published.digest,
            "weights": str(self.model.workspace.root / published.weights),
            "composition": published.composition,
        }

    def _parent_of(self, published: ModelVersion) -> dict[str, Any]:
        """Return the fields of an entry that name the replaced version."""
        with self.model.workspace.session() as session:
            versions = {p.number: p for p in model_store.model_versions(session, published.name)}
        parent = replaced_version(published, versions) or self.before
        return {"parent": parent.label, "parent_digest": parent.digest}

    def _publish(
        self,
        composition: Composition,
        states: list[Any],
        guarantee: str,
        state: str,
        cost: dict[str, Any] | None,
        cpu: float,
    ) -> ModelVersion:
        """Publish a version of the model and return it."""
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
        """Measure a version of the model, store its metrics and return them."""
        metrics = self.model.metrics(states)
        with self.model.workspace.session(write=True) as session:
            model_store.set_metrics(session, self.model.name, number, metrics)
        return metrics

    def _metrics_before(self) -> dict[str, Any]:
        """Return the metrics of the version before, on the files that are retained and readable now."""
        from expunge.tasks.weights import states_of

        now, stored = self.model.evaluation.as_json(), self.before.metrics
        same_files = stored and "left_out" not in now | stored and now.items() <= stored.items()
        if stored and same_files:
            return stored
        try:
            states = states_of(self.model.workspace.root / self.before.weights)
        except ExpungeError as error:  # purged, or damaged
            return {**now, "images": 0, "reason": f"The weights cannot be read: {type(error).__name__}."}
        return self.model.metrics(states)

    def _retrain_cpu_seconds(self) -> float:
        """Return the CPU time of a retrain on the retained data, the sum over its stages; 0 if unknown."""
        with self.model.workspace.session() as session:
            cpu_seconds = {
                row.key: row.cpu_seconds for row in model_store.checkpoints(session, self.model_id)
            }
        keys = [node.key for node in self.model.graph.nodes]
        return sum(cpu_seconds[key] for key in keys) if cpu_seconds.keys() >= set(keys) else 0.0

# SPDX-License-Identifier: Apache-2.0
"""Updates one adopted model approximately: unlearns, audits the result, publishes it with its verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from expunge.audits.verdict import SAME_TENSORS
from expunge.catalog import model_store
from expunge.catalog.dataset_store import get_version, load_erased, load_samples
from expunge.catalog.model_store import ModelVersion
from expunge.data.types import Sample, Version
from expunge.erasure.audit import audit_candidate
from expunge.erasure.audit_case import AuditCase, AuditOptions
from expunge.erasure.holds import attempt_digest
from expunge.erasure.method_settings import MethodSettings
from expunge.errors import InputError
from expunge.exact.evaluation import describe_damage
from expunge.exact.graph import retained_digest
from expunge.exact.model import sample_counts
from expunge.exact.weight_files import remember_files
from expunge.progress import Progress
from expunge.storage.files import write_atomically
from expunge.storage.hashing import plain_json, tensor_digest
from expunge.storage.locks import ModelLock

if TYPE_CHECKING:
    from expunge.tasks.loaded_model import LoadedModel
    from expunge.unlearning.result import Result
    from expunge.unlearning.yolo import Measure
    from expunge.workspace import Workspace


class MissingOriginals(InputError):
    """Erased files that an unlearning method needs are missing or changed."""


STRONGER = "Use a stronger method, or --method retrain."


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set the number of torch threads for a block; None: unchanged."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Approximation:
    """The approximate update of one adopted model; the counterpart of ``erasure.exact.Execution``.

    Attributes:
        workspace: The workspace of the model.
        before: The model's newest published version.
        model_id: Row id of the model.
        lock: The held lock of the model.
        request_id: Id of the request.
        method: Name of the method, or ``auto``.
        progress: Receives progress reports.
        settings: Settings of the method and its audit.
        predicted: Predicted cost, in units of a retrain.
        subjects: Ids of the subjects to forget.
        class_name: The class to remove, if any.
        left_out: Number of unreadable retained files outside the training split.
    """

    workspace: Workspace
    before: ModelVersion
    model_id: int
    lock: ModelLock
    request_id: str
    method: str
    progress: Progress
    settings: MethodSettings = field(default_factory=MethodSettings)
    predicted: float | None = None
    subjects: Collection[str] = ()
    class_name: str | None = None
    left_out: int = field(default=0, init=False)

    @cached_property
    def version(self) -> Version:
        """The dataset version that the model was trained on."""
        with self.workspace.session() as session:
            return get_version(session, self.before.dataset, self.before.dataset_version)

    @cached_property
    def start(self) -> ModelVersion:
        """The last accepted version: rejected versions are neither a start nor a comparison."""
        with self.workspace.session() as session:
            return model_store.last_accepted(session, self.before.name)

    @cached_property
    def forgotten(self) -> list[str]:
        """Ids of the requests that earlier versions of the model have fulfilled."""
        return list((self.start.composition or {}).get("forgotten", []))

    @cached_property
    def erased(self) -> list[tuple[Sample, str]]:
        """The erased samples of the model that no version has forgotten, each with its request id."""
        with self.workspace.session() as session:
            found = load_erased(session, self.version)
        return [(sample, request) for sample, request in found if request not in self.forgotten]

    @property
    def pending(self) -> list[Sample]:
        """The erased training samples that no version has forgotten."""
        return [sample for sample, _ in self.erased if sample.split == "train"]

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to forget."""
        return not self.pending

    def publish_interim(self) -> None:
        """Mark earlier versions as superseded; an adopted model has no interim model."""
        if self.unchanged:
            return
        with self.workspace.session(write=True) as session:
            model_store.supersede(session, self.model_id)
        self.progress.say(
            f"{self.before.name} was adopted, so there is no interim model: do not use {self.before.label} "
            "until the result is published."
        )

    def repair(self, defer: bool = False) -> dict[str, Any]:
        """Unlearn, audit and publish the model; return its entry in ``forget --json``.

        Args:
            defer: Leave the unlearning for ``expunge repair``.
        """
        entry = self._entry()
        if self.unchanged:
            weights = str(self.workspace.root / self.before.weights)
            own = {"parent": self.before.label, "parent_digest": self.before.digest}
            return {
                **entry, **own, "method": "none", "digest": self.before.digest, "weights": weights,
                "cost_predicted": 0.0, "cost_measured": 0.0, "metrics_before": self.before.metrics,
                "metrics_after": self.before.metrics, "guarantee": self.before.guarantee,
                "composition": self.before.composition,
            }  # fmt: skip
        if defer:
            self.progress.say("The unlearning waits for `expunge repair`, alone or with later requests.")
            return entry
        with self.workspace.session() as session:
            attempt = attempt_digest(session, self.before, self.method, self.settings)
        with _threads(self.settings.threads):
            result, opened, metrics = self._unlearn()
        accepted = result.sound or (result.verdict == "no-power" and self.settings.accept_no_power)
        entry |= {
            "method": result.method,
            "cost_measured": result.cost,
            "metrics_before": metrics["before"],
            "verdict": result.verdict,
            "accepted": accepted,
            "attempt": attempt,
            "reasons": list(result.reasons),
            "audit": result.as_json(),
        }
        for line in (*result.reasons, *result.warnings):
            self.progress.say(line)
        if result.unchanged:
            self.progress.say(f"Nothing was published. {result.recommendation}")
            return entry
        published = self._publish(result, opened, accepted, metrics["after"])
        self.progress.say(f"published {published.label}: {result.method}, verdict {result.verdict}")
        if not accepted:
            self.progress.say(f"The request stays open. {result.recommendation}")
        return {
            **entry,
            "model": published.label,
            "digest": published.digest,
            "weights": str(self.workspace.root / published.weights),
            "guarantee": published.guarantee,
            "composition": published.composition,
            "metrics_after": published.metrics,
        }

    def _entry(self) -> dict[str, Any]:
        """Return the entry of a model that is not yet unlearned."""
        return {
            "model": self.before.label,
            "parent": self.start.label,  # a rejected version would equal the result of the same attempt
            "parent_digest": self.start.digest,
            "method": self.method,
            "digest": None,
            "weights": None,
            "plan": None,
            "cost_predicted": self.predicted,
            "cost_measured": None,
            "metrics_before": None,
            "metrics_after": None,
            "verdict": None,
            "guarantee": "none",
            "interim": None,
            "composition": None,
        }

    def _unlearn(self) -> tuple[Result, LoadedModel, dict[str, Any]]:
        """Unlearn and audit; return the result, the loaded start, and the metrics before and after.

        Raises:
            MissingOriginals: If erased files that the method needs are missing or changed.
        """
        from expunge.tasks.file_checks import check_files
        from expunge.tasks.yolo import open_model
        from expunge.unlearning.result import RETRAIN
        from expunge.unlearning.retraining import retrain_rows
        from expunge.unlearning.selecting import Selected
        from expunge.unlearning.yolo import unlearn_rows

        rows = self._retained()
        checked = check_files(self.version.root, self.version.config, self.pending)
        if checked.damaged and self.method != RETRAIN:
            raise MissingOriginals(
                f"{len(checked.damaged)} pictures that {self.before.name} has to forget are gone or changed.",
                "Unlearning methods and audits need them.",
                "Restore them for the time of the unlearning; --delete-originals deletes them afterwards."
                f" Or retrain, which does not need them: expunge request run {self.request_id}"
                f" --method {RETRAIN}",
            )
        opened = open_model(self.workspace.root / self.start.weights)
        settings, epochs = self.settings, (self.start.composition or {}).get("retrain_epochs")
        root, config = self.version.root, self.version.config
        if checked.damaged:
            result, measure = retrain_rows(
                opened, rows, config, root, settings=settings, progress=self.progress, epochs=epochs
            )
        else:
            classes = (self.class_name,) if self.class_name else ()
            selected = Selected(frozenset(s.path for s in self.pending), frozenset(self.subjects), classes)
            result, measure = unlearn_rows(
                opened,
                [*rows, *self.pending],
                config,
                root,
                selected,
                method=self.method,
                settings=settings,
                progress=self.progress,
                epochs=epochs,
            )
            if settings.level != "quick" and result.verdict != "fail" and not result.unchanged:
                result = self._audited(result, opened, rows)
        if tensor_digest(result.model.state_dict()) == self.start.digest:  # whatever the audit concluded
            result = replace(result, unchanged=True, verdict="fail", reasons=(SAME_TENSORS,))
        return result, opened, self._metrics(measure, opened, result)

    def _retained(self) -> list[Sample]:
        """Return the retained samples whose files can be read; the others are reported and left out."""
        from expunge.tasks.file_checks import check_files

        with self.workspace.session() as session:
            rows = load_samples(session, self.version, without_erased=True)
        checked = check_files(self.version.root, self.version.config, rows)
        if checked.damaged:
            count = f"{len(checked.damaged)} of {len(rows)}"
            self.progress.say(
                f"note: {count} retained files are left out: {describe_damage(checked.damaged)}"
            )
            splits = {s.path: s.split for s in rows}
            self.left_out = sum(splits[d.path] != "train" for d in checked.damaged)
        return list(checked.readable)

    def _metrics(self, measure: Measure, opened: LoadedModel, result: Result) -> dict[str, Any]:
        """Return the metrics ``before`` and ``after`` the unlearning, on the same files."""
        left_out = {"left_out": self.left_out} if self.left_out else {}
        models = {"before": opened.module, "after": result.model}
        return {when: {**measure(model), **left_out} for when, model in models.items()}

    def _question(self, opened: LoadedModel) -> AuditOptions:
        """Return the options of the audit of the result."""
        settings, level = self.settings, self.settings.level
        epochs = (self.start.composition or {}).get("retrain_epochs") or opened.train_args.get("epochs")
        if epochs is None and self.method == "retrain":
            epochs = settings.hyperparameters.get("epochs")
        return AuditOptions(
            self.before.label,
            self.request_id,
            level,
            settings.references,
            epochs,
            device=settings.device,
            threads=settings.threads or 1,
            seed=settings.seed,
        )

    def _audited(self, result: Result, opened: LoadedModel, rows: list[Sample]) -> Result:
        """Return the result with the verdict of an audit with references, which replaces the quick one."""
        question = self._question(opened)
        case = AuditCase(self.before, self.start, self.version, rows, self.pending, self.class_name)
        tests = max(1, sum(attempt.outcome != "not tried" for attempt in result.tried))
        audited = audit_candidate(
            self.workspace, case, opened, result.model, question, self.progress, tests=tests
        )
        verdict, used = audited.verdict, audited.references
        summary = f"Audit at the level {question.level} with {used['count']} reference(s), {used['origin']}."
        return replace(
            result,
            verdict=verdict.verdict,
            reasons=(summary, *verdict.reasons),
            audit=verdict,
            recommendation="" if verdict.verdict == "pass" else result.recommendation or STRONGER,
        )

    def _publish(self, result: Result, opened: LoadedModel, accepted: bool, metrics: Any) -> ModelVersion:
        """Publish the result as a version of the model; a rejected result is superseded from the start."""
        from expunge.tasks.yolo import write_model

        with self.workspace.session() as session:
            number = model_store.next_number(session, self.model_id)
            rows = load_samples(session, self.version, without_erased=True)
        file = self.workspace.models / self.before.name / f"{self.before.name}-{number}.pt"
        write_atomically(file, write_model(result.model, opened), "The model")
        forgotten = sorted({*self.forgotten, *(r for _, r in self.erased)}) if accepted else self.forgotten
        composition = {**(self.start.composition or {}), "forgotten": forgotten}
        seen = rows if accepted else [*rows, *self.pending]
        with self.workspace.session(write=True) as session:
            row_id = model_store.publish(
                session,
                self.model_id,
                number=number,
                parent=self.before.number,
                dataset_id=self.version.dataset_id,
                dataset_version=self.version.number,
                retained_digest=retained_digest(seen),
                **sample_counts(seen),
                plan_digest=None,
                method=result.method,
                guarantee="audited" if accepted else "none",
                state="current" if accepted else "superseded",  # rejected: not to be deployed
                digest=tensor_digest(result.model.state_dict()),
                weights=str(file.relative_to(self.workspace.root)),
                composition=composition,
                metrics=metrics,
                cost={"predicted": self.predicted, "measured": result.cost},
                cpu_seconds=0.0,
                request_id=self.request_id,
                judged=plain_json({"verdict": result.verdict, "audit": result.as_json()}),
            )
            remember_files(session, row_id, file, [result.model.state_dict()])
        with self.workspace.session() as session:
            return model_store.find_model(session, f"{self.before.name}@{number}")

# SPDX-License-Identifier: Apache-2.0
"""Unlearns one adopted model approximately, judges the result, and publishes it with its verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from expunge.audit.verdict import SAME_TENSORS
from expunge.catalog import models as catalog
from expunge.catalog.datasets import get_version, load_erased, load_samples
from expunge.catalog.locks import ModelLock
from expunge.catalog.models import Published
from expunge.data.types import Sample, Version
from expunge.errors import InputError
from expunge.exact.checkpoint import write_atomically
from expunge.exact.evaluation import named
from expunge.exact.graph import retained_digest
from expunge.exact.hashing import plain_json, tensor_digest
from expunge.exact.model import counts
from expunge.exact.weight_files import remember_files
from expunge.progress import Progress
from expunge.queue.attempts import key_of
from expunge.steps.audits import Case, Question, judge_case

if TYPE_CHECKING:
    from expunge.tasks.yolo import Opened
    from expunge.unlearning.result import Result
    from expunge.unlearning.yolo import Measure
    from expunge.workspace import Workspace


class MissingOriginals(InputError):
    """What an adopted model has to forget cannot be shown to it."""


STRONGER = "Take a stronger method, or --method retrain."


@dataclass(frozen=True)
class Settings:
    """How a model is to be unlearned approximately.

    Attributes:
        budget: Most work, in units of a retrain; None: the default.
        accept_no_power: Take a result also where the test could not have noticed a failure.
        hyperparameters: Of the method.
        seed: Of all randomness.
        device: Where to work.
        threads: Threads of torch; None: as they are. Bytes repeat for the same number.
        level: Of the audit that decides: ``quick``, ``standard`` or ``full``.
        references: With how many models it compares; None: the level's own number.
    """

    budget: float | None = None
    accept_no_power: bool = False
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    level: str = "quick"
    references: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the settings as they are kept with a request."""
        return asdict(self)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Approximation:
    """One adopted model under an erasure; the counterpart of :class:`expunge.steps.execution.Execution`.

    Attributes:
        workspace: Where everything is kept.
        before: The model's newest published version.
        model_id: Its row in the catalog.
        lock: Held.
        request_id: The request that asks for it.
        method: A method's name, or ``auto``.
        progress: Where to report.
        settings: Budget, hyper-parameters, device.
        predicted: The predicted cost, in units of a retrain.
        subjects: Who is to be forgotten, where the request names people.
        class_name: The class to remove, where the request names one.
    """

    workspace: Workspace
    before: Published
    model_id: int
    lock: ModelLock
    request_id: str
    method: str
    progress: Progress
    settings: Settings = field(default_factory=Settings)
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
    def start(self) -> Published:
        """The version to begin with: what a verdict turned down is neither built upon nor compared with."""
        with self.workspace.session() as session:
            return catalog.last_accepted(session, self.before.name)

    @cached_property
    def forgotten(self) -> list[str]:
        """The requests that earlier versions of the model have fulfilled."""
        return list((self.start.composition or {}).get("forgotten", []))

    @cached_property
    def erased(self) -> list[tuple[Sample, str]]:
        """What of the model's data was erased by requests that no version has fulfilled, with the request."""
        with self.workspace.session() as session:
            found = load_erased(session, self.version)
        return [(sample, request) for sample, request in found if request not in self.forgotten]

    @property
    def pending(self) -> list[Sample]:
        """The training samples among it."""
        return [sample for sample, _ in self.erased if sample.split == "train"]

    @property
    def settled(self) -> bool:
        """There is nothing to forget."""
        return not self.pending

    def publish_interim(self) -> None:
        """Mark the versions before as superseded: of an adopted model there is no clean state to publish."""
        if self.settled:
            return
        with self.workspace.session(write=True) as session:
            catalog.supersede(session, self.model_id)
        self.progress.say(
            f"{self.before.name} was adopted, so there is no interim model: withdraw {self.before.label} "
            "until the result is there."
        )

    def repair(self, defer: bool = False) -> dict[str, Any]:
        """Unlearn, judge and publish; returns the model's entry in ``forget --json``."""
        entry = self._entry()
        if self.settled:
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
            attempt = key_of(session, self.before, self.method, self.settings)
        with _threads(self.settings.threads):
            result, opened, judged = self._unlearn()
        accepted = result.sound or (result.verdict == "no-power" and self.settings.accept_no_power)
        entry |= {
            "method": result.method,
            "cost_measured": result.cost,
            "metrics_before": judged["before"],
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
        published = self._publish(result, opened, accepted, judged["after"])
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
        return {
            "model": self.before.label,
            "parent": self.start.label,  # not what was turned down: the same again would equal it
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

    def _unlearn(self) -> tuple[Result, Opened, dict[str, Any]]:
        from expunge.tasks.readable import check_files
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
                "Without them no method knows what to forget, and no audit can judge the result.",
                "Restore them for the time of the unlearning; --delete-originals deletes them afterwards."
                f" Or train anew, which opens none of them: expunge request run {self.request_id}"
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
                result = self._examined(result, opened, rows)
        if tensor_digest(result.model.state_dict()) == self.start.digest:  # whatever was made of it
            result = replace(result, unchanged=True, verdict="fail", reasons=(SAME_TENSORS,))
        return result, opened, self._measured(measure, opened, result)

    def _retained(self) -> list[Sample]:
        """The retained rows whose files can be read; the others are reported and left out."""
        from expunge.tasks.readable import check_files

        with self.workspace.session() as session:
            rows = load_samples(session, self.version, without_erased=True)
        checked = check_files(self.version.root, self.version.config, rows)
        if checked.damaged:
            count = f"{len(checked.damaged)} of {len(rows)}"
            self.progress.say(f"note: {count} retained files are left out: {named(checked.damaged)}")
            splits = {s.path: s.split for s in rows}
            self.left_out = sum(splits[d.path] != "train" for d in checked.damaged)
        return list(checked.readable)

    def _measured(self, measure: Measure, opened: Opened, result: Result) -> dict[str, Any]:
        """Metrics before and after, on the same files."""
        left_out = {"left_out": self.left_out} if self.left_out else {}
        models = {"before": opened.module, "after": result.model}
        return {when: {**measure(model), **left_out} for when, model in models.items()}

    def _question(self, opened: Opened) -> Question:
        """What the audit of the result will ask."""
        settings, level = self.settings, self.settings.level
        epochs = (self.start.composition or {}).get("retrain_epochs") or opened.train_args.get("epochs")
        if epochs is None and self.method == "retrain":
            epochs = settings.hyperparameters.get("epochs")
        return Question(
            self.before.label,
            self.request_id,
            level,
            settings.references,
            epochs,
            device=settings.device,
            threads=settings.threads or 1,
            seed=settings.seed,
        )

    def _examined(self, result: Result, opened: Opened, rows: list[Sample]) -> Result:
        """The result with the verdict of an audit by references, which replaces the quick one."""
        question = self._question(opened)
        case = Case(self.before, self.start, self.version, rows, self.pending, self.class_name)
        tests = max(1, sum(attempt.outcome != "not tried" for attempt in result.tried))
        found = judge_case(self.workspace, case, opened, result.model, question, self.progress, tests=tests)
        verdict, made = found.verdict, found.references
        said = f"Audit at the level {question.level} with {made['count']} reference(s), {made['origin']}."
        return replace(
            result,
            verdict=verdict.verdict,
            reasons=(said, *verdict.reasons),
            audit=verdict,
            recommendation="" if verdict.verdict == "pass" else result.recommendation or STRONGER,
        )

    def _publish(self, result: Result, opened: Opened, accepted: bool, metrics: Any) -> Published:
        from expunge.tasks.yolo import write_model

        with self.workspace.session() as session:
            number = catalog.next_number(session, self.model_id)
            rows = load_samples(session, self.version, without_erased=True)
        file = self.workspace.models / self.before.name / f"{self.before.name}-{number}.pt"
        write_atomically(file, write_model(result.model, opened), "The model")
        done = sorted({*self.forgotten, *(r for _, r in self.erased)}) if accepted else self.forgotten
        kept = {**(self.start.composition or {}), "forgotten": done}
        seen = rows if accepted else [*rows, *self.pending]
        with self.workspace.session(write=True) as session:
            row_id = catalog.publish(
                session,
                self.model_id,
                number=number,
                parent=self.before.number,
                dataset_id=self.version.dataset_id,
                dataset_version=self.version.number,
                retained_digest=retained_digest(seen),
                **counts(seen),
                plan_digest=None,
                method=result.method,
                guarantee="audited" if accepted else "none",
                state="current" if accepted else "superseded",  # rejected: not to be deployed
                digest=tensor_digest(result.model.state_dict()),
                weights=str(file.relative_to(self.workspace.root)),
                composition=kept,
                metrics=metrics,
                cost={"predicted": self.predicted, "measured": result.cost},
                cpu_seconds=0.0,
                request_id=self.request_id,
                judged=plain_json({"verdict": result.verdict, "audit": result.as_json()}),
            )
            remember_files(session, row_id, file, [result.model.state_dict()])
        with self.workspace.session() as session:
            return catalog.find_model(session, f"{self.before.name}@{number}")

# SPDX-License-Identifier: Apache-2.0
"""One erasable model of a workspace: what it was trained on, its checkpoints, and publishing it."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry
from expunge.catalog import models as catalog
from expunge.catalog.datasets import count_left, get_version, load_samples, subject_risks
from expunge.catalog.models import Published
from expunge.data.types import Sample, Version
from expunge.errors import EnvironmentChanged, ExpungeError, InputError, Preempted, StorageError
from expunge.exact import environment
from expunge.exact.checkpoint import write_atomically
from expunge.exact.composition import Composition, interim_candidates, weights_of
from expunge.exact.damage import check_training_files
from expunge.exact.evaluation import EvaluationSplit, evaluation_split
from expunge.exact.fingerprint import MEASURED, fingerprint, named
from expunge.exact.graph import Graph, build_graph
from expunge.exact.hashing import tensor_digest
from expunge.exact.plan import Plan, load_plan
from expunge.exact.runner import Finished, Training, missing, polish_start, train
from expunge.exact.store import CheckpointStore
from expunge.exact.weight_files import remember_files
from expunge.progress import Progress
from expunge.tasks.base import get_task

if TYPE_CHECKING:
    from expunge.workspace import Workspace

INTERIM_JUDGES = 64  # public validation images that choose between two interim candidates


class DataErased(ExpungeError):
    """Samples were erased while a model was trained on them."""


@dataclass
class ErasableModel:
    """A model as a function of (plan, retained samples).

    Attributes:
        workspace: Where everything is kept.
        name: The model's name.
        plan: Its plan.
        version: The dataset version that it was trained on.
        samples: That version's samples without everything erased since.
        risks: Risk of leaving by subject, from the data set.
    """

    workspace: Workspace
    name: str
    plan: Plan
    version: Version
    samples: list[Sample]
    risks: dict[str, float]
    progress: Progress = field(default_factory=lambda: Progress(quiet=True))
    forbidden: Sequence[Path] = ()
    _intact: set[str] = field(default_factory=set, init=False, repr=False)

    @classmethod
    def open(cls, workspace: Workspace, published: Published, progress: Progress) -> ErasableModel:
        """Open a published model with what is retained now.

        Raises:
            InputError: If it was not trained erasable.
        """
        if published.plan_digest is None:
            raise InputError(
                f"{published.label} was not trained erasable.",
                "It was adopted: there are no checkpoints from which it could be repeated.",
                "Train a model with `expunge train`, which can be erased from exactly.",
            )
        return cls.of_plan(
            workspace,
            published.name,
            published.plan_digest,
            (published.dataset, published.dataset_version),
            progress,
        )

    @classmethod
    def of_plan(
        cls, workspace: Workspace, name: str, digest: str, ref: tuple[str, int], progress: Progress
    ) -> ErasableModel:
        """Open what a known plan makes of what is retained now of a dataset version.

        Raises:
            InputError: If the plan's file is not what the catalog knows.
        """
        file = plan_file(workspace, digest)
        plan = load_plan(file)
        if plan.digest != digest:
            raise InputError(
                f"The plan of {name!r} was changed.",
                f"{file} is not the plan that the catalog knows.",
                "Restore it from a backup: with another plan nothing could be repeated.",
            )
        with workspace.session() as session:
            version = get_version(session, *ref)
            samples = load_samples(session, version, without_erased=True)
            risks = subject_risks(session, version)
        return cls(workspace, name, plan, version, samples, risks, progress)

    def without(self, gone: Container[tuple[str, int]]) -> ErasableModel:
        """Return the model as it will be without some samples, given by path and version of arrival."""
        left = [s for s in self.samples if (s.path, s.arrived) not in gone]
        return ErasableModel(
            self.workspace, self.name, self.plan, self.version, left, self.risks, self.progress
        )

    @cached_property
    def graph(self) -> Graph:
        """The training of what is retained."""
        return build_graph(self.plan, self.samples, self.risks)

    @cached_property
    def store(self) -> CheckpointStore:
        """The model's checkpoints."""
        return CheckpointStore(self.workspace.checkpoints / self.name)

    @property
    def initial(self) -> Path:
        """File of the initial weights."""
        return plan_file(self.workspace, self.plan.digest).with_name("initial.weights")

    @property
    def retained(self) -> str:
        """Digest of the training samples that the model is a function of."""
        return self.graph.digest

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The present environment."""
        pins = self.plan.threads, self.plan.isa
        return {**fingerprint(*pins), **named(*pins)}

    def missing_passes(self) -> int:
        """Image passes that are missing to the final model."""
        return sum(node.passes for node in missing(self.graph, self.store))

    def check_environment(self, model_id: int, measure: bool = False) -> None:
        """Refuse to mix checkpoints of another environment with new ones (see :mod:`.environment`).

        Args:
            model_id: The model's row in the catalog.
            measure: Measure the arithmetic also where nothing that is named differs.

        Raises:
            EnvironmentChanged: With what differs.
        """
        environment.check(self, model_id, measure)

    def destroy_stale(
        self, model_id: int, everything: bool = False, besides: Set[str] = frozenset()
    ) -> list[str]:
        """Delete the checkpoints that saw what is no longer retained; returns their keys.

        So go those that a killed command did not come to record: their environment and cost are not known.

        Args:
            model_id: The model's row in the catalog.
            everything: Delete those that saw nothing of it as well.
            besides: Keys of another training of this model, which are kept like its own.
        """
        wanted = set() if everything else {node.key for node in self.graph.nodes} | besides
        with self.workspace.session() as session:
            known = {c.key for c in catalog.checkpoints(session, model_id)}
        stored = self.store.stored()
        stale = [k for k in stored if k not in wanted or (self.store.has(k) and k not in known)]
        self.store.destroy(stale)
        polish_start(self.workspace.tmp, self.store).unlink(missing_ok=True)
        with self.workspace.session(write=True) as session:
            catalog.drop_checkpoints(session, model_id, [k for k in known if not self.store.has(k)])
        return stale

    def train(
        self, model_id: int, graph: Graph, label: str, preempted: Callable[[], bool] = lambda: False
    ) -> float:
        """Train what is missing of a graph (the model's own or a part of it); returns CPU seconds."""

        def node_done(done: Finished) -> None:
            with self.workspace.session(write=True) as session:
                catalog.record_checkpoint(
                    session,
                    key=done.node.key,
                    model_id=model_id,
                    phase=done.node.phase,
                    shard=done.node.shard,
                    stage=done.node.stage,
                    path=str(self.store.path(done.node.key)),
                    size_bytes=done.size_bytes,
                    digest=done.digest,
                    fingerprint={**self.fingerprint, MEASURED: done.measured},
                    cpu_seconds=done.cpu_seconds,
                    images=done.node.passes,
                )

        run = self.training(on_node=node_done, preempted=preempted)
        total = sum(node.passes for node in missing(graph, self.store))
        if not total:
            return 0.0
        self._check_initial()
        self.check_files(graph)
        environment.confirm_old(self, model_id, self.training(preempted=preempted))
        run = replace(run, expected=environment.expected(self, model_id))
        self.progress.begin(label, total)
        try:
            return sum(done.cpu_seconds for done in train(graph, run))
        except (Preempted, EnvironmentChanged):
            raise
        except ExpungeError:
            self._intact.clear()  # a file may have changed meanwhile: then that is the error to show
            self.check_files(graph)
            raise
        finally:
            self.progress.end()

    def training(self, **callbacks: Any) -> Training:
        """Return what a training of this model needs beside a graph."""
        return Training(
            plan=self.plan,
            config=self.version.config,
            root=self.version.root,
            store=self.store,
            initial=self.initial,
            scratch=self.workspace.tmp,
            fingerprint=self.fingerprint,
            forbidden=self.forbidden,
            on_images=self.progress.add,
            **callbacks,
        )

    def check_files(self, graph: Graph) -> None:
        """Refuse to train what is missing of a graph if a file of it is not what the manifest records.

        Raises:
            DamagedData: With all such files.
        """
        needed = {s.path: s for node in missing(graph, self.store) for s in node.samples}
        samples = [s for path, s in needed.items() if path not in self._intact]
        with self.workspace.session() as session:
            published = any(p.name == self.name for p in catalog.live(session))
        plan = plan_file(self.workspace, self.plan.digest) if published else None
        check_training_files(self.workspace, self.name, plan, self.version, samples)
        self._intact |= needed.keys()

    def _check_initial(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            whole = tensor_digest(load_file(str(self.initial))) == self.plan.initial.tensors
        except (OSError, SafetensorError):
            whole = False
        if not whole:
            raise StorageError(
                f"The initial weights of {self.name!r} are damaged.",
                f"{self.initial} is missing, or not what the plan names.",
                "Restore it from a backup, then run the command again.",
            )

    def choose_interim(self) -> Composition | None:
        """Return the best model that can be published at once; None if nothing trained is left."""
        candidates = interim_candidates(self.graph, self.store, self.plan)
        judges = [s for s in self.samples if s.public and s.split == "val"]
        if len(candidates) < 2 or not judges or self.plan.interim != "auto":
            return candidates[0] if candidates else None
        from expunge.tasks.readable import check_files

        judges = sorted(judges, key=lambda s: s.image_digest)[:INTERIM_JUDGES]
        readable = check_files(self.version.root, self.version.config, judges).readable
        try:
            scores = [main_metric(self.measure(self.weights(c), readable)) for c in candidates]
        except InputError:  # a file changed meanwhile: the first candidate needs no judge
            return candidates[0]
        return candidates[scores.index(max(scores))]

    def weights(self, composition: Composition) -> list[Any]:
        """Return the deployable weights of a composition."""
        return weights_of(self.graph, composition, self.store, self.initial, self.plan)

    @cached_property
    def evaluation(self) -> EvaluationSplit:
        """The split on which metrics are taken; its files are read once."""
        return evaluation_split(self.version, self.samples, self.progress)

    def measure(self, states: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
        """Return the task's metrics on samples."""
        return get_task(self.plan.task).evaluate(
            states, self.plan, self.version.config, self.version.root, samples
        )

    def metrics(self, states: Sequence[Any]) -> dict[str, Any]:
        """Return metrics on the evaluation split, with what they were taken on.

        It raises nothing: what was published stands, whether or not it can be measured. Files that cannot be
        read are left out and counted; where none is left, ``reason`` says so in place of the figures.
        """
        try:
            split = self.evaluation
            return {**self.measure(states, split.checked.readable), **split.as_json()}
        except Exception as error:  # whatever it is, it must not take back what was published
            reason = error.what if isinstance(error, ExpungeError) else type(error).__name__
            self.progress.say(f"note: the model could not be measured: {reason}")
            return {"images": 0, "reason": f"Measuring failed: {type(error).__name__}."}

    def publish(
        self, model_id: int, composition: Composition, states: Sequence[Any], **columns: Any
    ) -> Published:
        """Write the weights, then make them visible in the catalog; the versions before are superseded.

        Raises:
            DataErased: If something was erased since the samples were read.
        """
        with self.workspace.session() as session:
            number = catalog.next_number(session, model_id)
        file = self._write(number, states)
        with self.workspace.session(write=True) as session:
            if count_left(session, self.version) != len(self.samples):
                raise DataErased(
                    f"Some of the data of {self.name!r} was erased while it was trained.",
                    "Nothing was published.",
                    "Run the command again: only what saw the erased is trained anew.",
                )
            ancestry.check_plan(session, self.plan.digest, self.name)
            row_id = catalog.publish(
                session,
                model_id,
                number=number,
                dataset_id=self.version.dataset_id,
                dataset_version=self.version.number,
                retained_digest=self.retained,
                **counts(self.samples),
                plan_digest=self.plan.digest,
                digest=states_digest(states),
                parts=[tensor_digest(s) for s in states] if file.is_dir() else None,
                weights=str(file.relative_to(self.workspace.root)),
                composition=composition.as_json(),
                **columns,
            )
            remember_files(session, row_id, file, states)
        with self.workspace.session() as session:
            return catalog.find_model(session, f"{self.name}@{number}")

    def _write(self, number: int, states: Sequence[Any]) -> Path:
        task, folder = get_task(self.plan.task), self.workspace.models / self.name
        if self.plan.aggregate != "ensemble":
            path = folder / f"{self.name}-{number}.pt"
            write_atomically(path, task.deployable(states[0], self.plan), "The model")
            return path
        folder = folder / f"{self.name}-{number}-ensemble"
        for i, state in enumerate(states):
            write_atomically(folder / f"shard{i}.pt", task.deployable(state, self.plan), "The model")
        return folder


def counts(samples: Sequence[Sample]) -> dict[str, int]:
    """How many training samples and subjects a model has seen."""
    train = [s for s in samples if s.split == "train"]
    return {"samples": len(train), "subjects": len({who for s in train for who in s.subjects})}


def plan_file(workspace: Workspace, digest: str) -> Path:
    """Return where a plan lies; its initial weights are beside it."""
    return workspace.plans / digest / "plan.json"


def states_digest(states: Sequence[Any]) -> str:
    """Digest of one state, or of an ensemble's states in their order."""
    if len(states) == 1:
        return tensor_digest(states[0])
    return tensor_digest({f"{i}/{k}": v for i, state in enumerate(states) for k, v in state.items()})


def main_metric(metrics: dict[str, Any]) -> float:
    """The figure by which two models of a task are compared."""
    return float(metrics.get("mAP50-95", metrics.get("top1", 0.0)))

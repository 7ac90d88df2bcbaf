# SPDX-License-Identifier: Apache-2.0
"""An erasable model of a workspace: its training samples, checkpoints, and published versions."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, model_store
from expunge.catalog.dataset_store import count_retained, get_version, load_samples, subject_risks
from expunge.catalog.model_store import ModelVersion
from expunge.data.types import Sample, Version
from expunge.errors import EnvironmentChanged, ExpungeError, InputError, Preempted, StorageError
from expunge.exact import environment
from expunge.exact.composition import Composition, interim_candidates, weights_of
from expunge.exact.damaged_files import check_training_files
from expunge.exact.evaluation import EvaluationSplit, evaluation_split
from expunge.exact.graph import Graph, build_graph
from expunge.exact.runner import TrainedNode, Training, missing_nodes, polish_start, train
from expunge.exact.store import CheckpointStore
from expunge.exact.weight_files import remember_files
from expunge.progress import Progress
from expunge.storage.files import write_atomically
from expunge.storage.hashing import tensor_digest
from expunge.tasks.base import get_task
from expunge.training.fingerprint import MEASURED, environment_details, fingerprint
from expunge.training.plan import Plan, load_plan

if TYPE_CHECKING:
    from expunge.workspace import Workspace

INTERIM_IMAGES = 64  # public validation images that decide between interim candidates


class DataErased(ExpungeError):
    """Samples were erased while a model was being trained on them."""


@dataclass
class ErasableModel:
    """A model as a function of a plan and its retained samples.

    Attributes:
        workspace: The workspace.
        name: The model's name.
        plan: Its plan.
        version: The dataset version on which it was trained.
        samples: The version's samples that are still retained.
        risks: Risk of leaving by subject, from the dataset.
        progress: Receives messages and progress.
        forbidden: Folders that training processes must not read.
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
    def open(cls, workspace: Workspace, published: ModelVersion, progress: Progress) -> ErasableModel:
        """Return a published model with the samples that are retained now.

        Raises:
            InputError: If the model was not trained with a plan.
        """
        if published.plan_digest is None:
            raise InputError(
                f"{published.label} was not trained erasable.",
                "It was adopted and has no checkpoints, so that its training cannot be repeated.",
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
        """Return the model of a stored plan with the samples that are retained now.

        Args:
            workspace, name, progress: See :class:`ErasableModel`.
            digest: The plan's digest.
            ref: Name and number of the dataset version.

        Raises:
            InputError: If the plan file does not have this digest.
        """
        file = plan_file(workspace, digest)
        plan = load_plan(file)
        if plan.digest != digest:
            raise InputError(
                f"The plan of {name!r} was changed.",
                f"{file} is not the plan that the catalog knows.",
                "Restore it from a backup: no training can be repeated with another plan.",
            )
        with workspace.session() as session:
            version = get_version(session, *ref)
            samples = load_samples(session, version, without_erased=True)
            risks = subject_risks(session, version)
        return cls(workspace, name, plan, version, samples, risks, progress)

    def without(self, gone: Container[tuple[str, int]]) -> ErasableModel:
        """Return the model without some samples, given by path and version of arrival."""
        retained = [s for s in self.samples if (s.path, s.arrived) not in gone]
        return ErasableModel(
            self.workspace, self.name, self.plan, self.version, retained, self.risks, self.progress
        )

    @cached_property
    def graph(self) -> Graph:
        """The training graph of the retained samples."""
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
        """Digest of the training samples that determine the model."""
        return self.graph.digest

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the present environment."""
        pins = self.plan.threads, self.plan.isa
        return {**fingerprint(*pins), **environment_details(*pins)}

    def missing_passes(self) -> int:
        """Return the number of image passes that the final model still requires."""
        return sum(node.passes for node in missing_nodes(self.graph, self.store))

    def check_environment(self, model_id: int, measure: bool = False) -> None:
        """Check that new checkpoints can be combined with the existing ones (see :mod:`.environment`).

        Args:
            model_id: The model's row in the catalog.
            measure: Whether to measure the arithmetic even if the fingerprints are equal.

        Raises:
            EnvironmentChanged: If the environments differ; with the differences.
        """
        environment.check_environment(self, model_id, measure)

    def destroy_stale(
        self, model_id: int, everything: bool = False, besides: Set[str] = frozenset()
    ) -> list[str]:
        """Delete the checkpoints that depend on samples that are no longer retained, and return their keys.

        Checkpoints that a killed command did not record are deleted as well, since their environment and cost
        are unknown.

        Args:
            model_id: The model's row in the catalog.
            everything: Whether to delete all checkpoints.
            besides: Keys of another training of this model, which are kept too.
        """
        wanted = set() if everything else {node.key for node in self.graph.nodes} | besides
        with self.workspace.session() as session:
            known = {c.key for c in model_store.checkpoints(session, model_id)}
        stored = self.store.stored()
        stale = [k for k in stored if k not in wanted or (self.store.has(k) and k not in known)]
        self.store.destroy(stale)
        polish_start(self.workspace.tmp, self.store).unlink(missing_ok=True)
        with self.workspace.session(write=True) as session:
            model_store.drop_checkpoints(session, model_id, [k for k in known if not self.store.has(k)])
        return stale

    def train(
        self, model_id: int, graph: Graph, label: str, preempted: Callable[[], bool] = lambda: False
    ) -> float:
        """Train the missing checkpoints of a graph and return the CPU seconds spent.

        Args:
            model_id: The model's row in the catalog.
            graph: The model's graph or a part of it.
            label: Label of the progress display.
            preempted: Returns whether the training must stop.
        """

        def record_node(finished: TrainedNode) -> None:
            with self.workspace.session(write=True) as session:
                model_store.record_checkpoint(
                    session,
                    key=finished.node.key,
                    model_id=model_id,
                    phase=finished.node.phase,
                    shard=finished.node.shard,
                    stage=finished.node.stage,
                    path=str(self.store.path(finished.node.key)),
                    size_bytes=finished.size_bytes,
                    digest=finished.digest,
                    fingerprint={**self.fingerprint, MEASURED: finished.measured},
                    cpu_seconds=finished.cpu_seconds,
                    images=finished.node.passes,
                )

        run = self.training(on_node=record_node, preempted=preempted)
        total = sum(node.passes for node in missing_nodes(graph, self.store))
        if not total:
            return 0.0
        self._check_initial()
        self.check_files(graph)
        environment.verify_unmeasured(self, model_id, self.training(preempted=preempted))
        run = replace(run, expected=environment.recorded_measurements(self, model_id))
        self.progress.begin(label, total)
        try:
            return sum(finished.cpu_seconds for finished in train(graph, run))
        except (Preempted, EnvironmentChanged):
            raise
        except ExpungeError:
            self._intact.clear()  # if a file has changed since, report that instead
            self.check_files(graph)
            raise
        finally:
            self.progress.end()

    def training(self, **callbacks: Any) -> Training:
        """Return the settings of a training of this model; ``callbacks`` go to :class:`Training`."""
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
        """Check the files that the missing checkpoints of a graph require against the manifest.

        Raises:
            DamagedData: If files differ; with all of them.
        """
        needed = {s.path: s for node in missing_nodes(graph, self.store) for s in node.samples}
        samples = [s for path, s in needed.items() if path not in self._intact]
        with self.workspace.session() as session:
            published = any(p.name == self.name for p in model_store.newest_versions(session))
        plan = plan_file(self.workspace, self.plan.digest) if published else None
        check_training_files(self.workspace, self.name, plan, self.version, samples)
        self._intact |= needed.keys()

    def _check_initial(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            intact = tensor_digest(load_file(str(self.initial))) == self.plan.initial.tensors
        except (OSError, SafetensorError):
            intact = False
        if not intact:
            raise StorageError(
                f"The initial weights of {self.name!r} are damaged.",
                f"{self.initial} is missing, or not what the plan names.",
                "Restore it from a backup, then run the command again.",
            )

    def choose_interim(self) -> Composition | None:
        """Return the best composition that can be published immediately; None if no checkpoint is left."""
        candidates = interim_candidates(self.graph, self.store, self.plan)
        images = [s for s in self.samples if s.public and s.split == "val"]
        if len(candidates) < 2 or not images or self.plan.interim != "auto":
            return candidates[0] if candidates else None
        from expunge.tasks.file_checks import check_files

        images = sorted(images, key=lambda s: s.image_digest)[:INTERIM_IMAGES]
        readable = check_files(self.version.root, self.version.config, images).readable
        try:
            scores = [main_metric(self.measure(self.weights(c), readable)) for c in candidates]
        except InputError:  # a file has changed since: fall back to the first candidate
            return candidates[0]
        return candidates[scores.index(max(scores))]

    def weights(self, composition: Composition) -> list[Any]:
        """Return the deployable weights of a composition."""
        return weights_of(self.graph, composition, self.store, self.initial, self.plan)

    @cached_property
    def evaluation(self) -> EvaluationSplit:
        """The split on which metrics are taken; its files are checked once."""
        return evaluation_split(self.version, self.samples, self.progress)

    def measure(self, states: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
        """Return the task's metrics on samples."""
        return get_task(self.plan.task).evaluate(
            states, self.plan, self.version.config, self.version.root, samples
        )

    def metrics(self, states: Sequence[Any]) -> dict[str, Any]:
        """Return the metrics on the evaluation split, with a description of the split.

        It raises no errors, since a published model remains valid without metrics. Unreadable files are left
        out and counted; if none is readable, ``reason`` replaces the metrics.
        """
        try:
            split = self.evaluation
            return {**self.measure(states, split.checked.readable), **split.as_json()}
        except Exception as error:  # a failed measurement must not undo a publication
            reason = error.what if isinstance(error, ExpungeError) else type(error).__name__
            self.progress.say(f"note: the model could not be measured: {reason}")
            return {"images": 0, "reason": f"Measuring failed: {type(error).__name__}."}

    def publish(
        self, model_id: int, composition: Composition, states: Sequence[Any], **columns: Any
    ) -> ModelVersion:
        """Write the weights, publish them in the catalog, and return the published version.

        Earlier versions are superseded.

        Raises:
            DataErased: If a sample was erased since the samples were read.
        """
        with self.workspace.session() as session:
            number = model_store.next_number(session, model_id)
        file = self._write(number, states)
        with self.workspace.session(write=True) as session:
            if count_retained(session, self.version) != len(self.samples):
                raise DataErased(
                    f"Some of the data of {self.name!r} was erased while it was trained.",
                    "Nothing was published.",
                    "Run the command again: only the affected stages are trained again.",
                )
            ancestry.check_plan(session, self.plan.digest, self.name)
            row_id = model_store.publish(
                session,
                model_id,
                number=number,
                dataset_id=self.version.dataset_id,
                dataset_version=self.version.number,
                retained_digest=self.retained,
                **sample_counts(self.samples),
                plan_digest=self.plan.digest,
                digest=states_digest(states),
                parts=[tensor_digest(s) for s in states] if file.is_dir() else None,
                weights=str(file.relative_to(self.workspace.root)),
                composition=composition.as_json(),
                **columns,
            )
            remember_files(session, row_id, file, states)
        with self.workspace.session() as session:
            return model_store.find_model(session, f"{self.name}@{number}")

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


def sample_counts(samples: Sequence[Sample]) -> dict[str, int]:
    """Return the numbers of training samples and subjects of a model."""
    train = [s for s in samples if s.split == "train"]
    return {"samples": len(train), "subjects": len({who for s in train for who in s.subjects})}


def plan_file(workspace: Workspace, digest: str) -> Path:
    """Return the path of a plan; its initial weights are in the same folder."""
    return workspace.plans / digest / "plan.json"


def states_digest(states: Sequence[Any]) -> str:
    """Return the digest of one state, or of an ensemble's states in their order."""
    if len(states) == 1:
        return tensor_digest(states[0])
    return tensor_digest({f"{i}/{k}": v for i, state in enumerate(states) for k, v in state.items()})


def main_metric(metrics: dict[str, Any]) -> float:
    """Return the metric by which two models of a task are compared."""
    return float(metrics.get("mAP50-95", metrics.get("top1", 0.0)))

# SPDX-License-Identifier: Apache-2.0
"""Plan and train erasable models, adopt trained ones, and list models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, model_store
from expunge.catalog.dataset_store import get_version, load_samples, parse_ref, subject_risks
from expunge.catalog.model_store import ModelVersion
from expunge.data.label_counts import refuse_channels
from expunge.errors import InputError
from expunge.evidence import anchor
from expunge.exact.composition import Composition, complete_composition, restrict
from expunge.exact.cost import predict_costs
from expunge.exact.graph import retained_digest
from expunge.exact.model import DataErased, ErasableModel, plan_file, sample_counts
from expunge.exact.planner import Options, initial_weights, make_plan
from expunge.exact.runner import write_weights
from expunge.exact.weight_files import remember_files
from expunge.models import adoption, starts
from expunge.models.status import status
from expunge.progress import Progress
from expunge.storage.hashing import tensor_digest
from expunge.storage.locks import model_lock
from expunge.tasks.base import get_task
from expunge.training.plan import Plan, load_plan

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version
    from expunge.workspace import Workspace

__all__ = ["adopt", "as_json", "describe", "plan", "status", "train"]

CHECKPOINT_FACTOR = 4  # live weights, EMA and two moments of AdamW, each as large as the weights


def plan(workspace: Workspace, ref: str, options: Options, requests: int) -> tuple[Plan, dict[str, Any]]:
    """Return a plan and the predicted costs of training and of erasures, without training.

    Args:
        workspace: The workspace of the dataset.
        ref: ``NAME`` or ``NAME@V`` of the dataset.
        options: The training's options.
        requests: Number of subjects that are erased together in ``cost_several``.

    Returns:
        The plan, and a summary for ``plan --json``; costs are fractions of a retrain.

    Raises:
        InputError: If an option or the dataset does not fit.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = load_samples(session, version, without_erased=True)
        risks = subject_risks(session, version)
    training_plan, initial = make_plan(options, version, samples, risks)
    training_plan, _ = _with_start(workspace, training_plan, options.weights)
    _check_fits(training_plan, version, samples)
    price = predict_costs(training_plan, samples, risks, requests)
    size = sum(v.numel() * v.element_size() for v in initial.values())
    return training_plan, {
        "dataset": version.label,
        "digest": f"sha256:{training_plan.digest}",
        "cost_one": price.one,
        "cost_worst": price.worst,
        "cost_several": price.several,
        "requests": price.requests,
        "image_passes": price.passes,
        "checkpoints": price.checkpoints,
        "checkpoint_bytes": price.checkpoints * CHECKPOINT_FACTOR * size,
        "notes": list(training_plan.notes),
    }


def train(
    workspace: Workspace,
    ref: str,
    name: str,
    *,
    options: Options | None = None,
    from_plan: Path | None = None,
    weights: str | None = None,
    composition: Composition | None = None,
    forbidden: Sequence[Path] = (),
    progress: Progress,
) -> ModelVersion:
    """Train an erasable model and publish it.

    Args:
        workspace: The workspace of the dataset.
        ref: ``NAME`` or ``NAME@V`` of the dataset.
        name: The model's name.
        options: Options to make a plan from; not used with ``from_plan``.
        from_plan: An existing plan.
        weights: The start of the existing plan, if it is not stored beside the plan.
        composition: Train and publish only these stages (for the replay of an interim model).
        forbidden: Folders that must not be read.
        progress: Receives the progress.

    Raises:
        InputError: If something does not fit; nothing was changed.
    """
    parse_ref(name)
    anchor.check(workspace)
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = load_samples(session, version, without_erased=True)
        risks = subject_risks(session, version)
    if from_plan is not None:
        training_plan = load_plan(from_plan)
        _check_kind(training_plan, version)
        initial = _initial_of(training_plan, from_plan, weights)
        training_plan, start_digests = _with_start(workspace, training_plan, weights, initial)
    elif options is not None:
        training_plan, initial = make_plan(options, version, samples, risks)
        training_plan, start_digests = _with_start(workspace, training_plan, options.weights)
    else:
        raise InputError("Neither options nor a plan were given.", "", "Give --weights or --plan.")
    _check_fits(training_plan, version, samples)
    model = ErasableModel(workspace, name, training_plan, version, samples, risks, progress, tuple(forbidden))
    if not model.graph.nodes:
        raise InputError(
            f"{version.label} has nothing to train on.", "Its train split is empty.", "Add data."
        )
    for note in training_plan.notes:
        progress.say(f"note: {note}")
    with model_lock(workspace.locks, name, "train"):
        while True:
            try:
                return _train(model, initial, start_digests, composition)
            except DataErased:
                progress.say("Some of the data was erased meanwhile: stages that saw it are trained again.")
                with workspace.session() as session:
                    samples = load_samples(session, version, without_erased=True)
                model = replace(model, samples=samples)


def _check_kind(training_plan: Plan, version: Version) -> None:
    get_task(training_plan.task)
    refuse_channels(version.config, version.label)
    if (training_plan.task == "classify") != (version.config.kind == "folders"):
        raise InputError(
            f"The plan is for '{training_plan.task}', which {version.label} is not made for.",
            "Detection needs a data.yaml with boxes, classification a folder per class.",
            "Choose another plan or another dataset.",
        )


def _check_fits(training_plan: Plan, version: Version, samples: list[Sample]) -> None:
    """Check, before anything is written, that the plan has the dataset's classes and valid settings."""
    unknown = [name for name in version.config.names if name not in training_plan.names]
    if unknown:
        raise InputError(
            f"The plan has no class '{unknown[0]}'.",
            f"{version.label} names {len(unknown)} class(es) that are not in the plan.",
            "Make a new plan, or use data with the plan's classes.",
        )
    first = [replace(s, label_digest="") for s in samples if s.split == "train"][:1]  # no file is read
    try:
        get_task(training_plan.task).data(training_plan, version.config, version.root, first)
    except (ArithmeticError, AssertionError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(
            "A setting of the training does not fit.",
            str(error).strip().splitlines()[0],
            "Correct it.",
        ) from error


def _with_start(
    workspace: Workspace, training_plan: Plan, weights: str | None, initial: dict[str, Any] | None = None
) -> tuple[Plan, frozenset[str]]:
    """Return the plan, with a note if it starts from a model of this workspace, and its start's digests.

    Raises:
        InputError: If the start was trained on erased data.
    """
    start_digests: frozenset[str] = frozenset()
    if weights is not None and not weights.endswith(starts.ARCHITECTURES):
        start_digests = starts.origin(workspace, Path(weights)).every
    if initial is not None and not training_plan.initial.source.endswith(starts.ARCHITECTURES):
        start_digests |= starts.digests([initial])
    with workspace.session() as session:
        start_digests |= ancestry.starts_of_plan(session, training_plan.digest)
        known = starts.check_start(session, start_digests, f"The start {training_plan.initial.source}")
        note = starts.note_of(known)
    if note is not None and note not in training_plan.notes:
        training_plan = training_plan.model_copy(update={"notes": (*training_plan.notes, note)})
    return training_plan, start_digests


def _train(
    model: ErasableModel,
    initial: dict[str, Any],
    start_digests: frozenset[str],
    composition: Composition | None,
) -> ModelVersion:
    """Record the plan and train; return the current version if it has the same plan and data already."""
    file = plan_file(model.workspace, model.plan.digest)
    whole = composition or complete_composition(model.graph)
    with model.workspace.session() as session:
        before = {p.name: p for p in model_store.newest_versions(session)}.get(model.name)
    same = before and (before.plan_digest, before.retained_digest) == (model.plan.digest, model.retained)
    usable = before and same and before.guarantee == "exact" and not before.withdrawn
    known = before if usable else None
    if known is None:
        model.check_files(restrict(model.graph, whole))  # before anything is written
    with model.workspace.session(write=True) as session:
        starts.check_start(session, start_digests, f"The start {model.plan.initial.source}")
        model_id = model_store.ensure_model(session, model.name, model.plan.task)
        write_weights(model.initial, initial)
        model.plan.save(file)
        model_store.record_plan(session, model.plan.digest, str(file.relative_to(model.workspace.root)))
        ancestry.add_starts(session, start_digests, plan_digest=model.plan.digest)
        version = model.version
        model_store.begin_training(session, model_id, version.dataset_id, version.number, model.plan.digest)
    if known is not None:
        return known
    model.destroy_stale(model_id)
    model.check_environment(model_id)
    model.train(model_id, restrict(model.graph, whole), f"training {model.name}")
    states = model.weights(whole)
    with model.workspace.session() as session:
        rows = {c.key: c.cpu_seconds for c in model_store.checkpoints(session, model_id)}
    published = model.publish(
        model_id,
        whole,
        states,
        parent=before.number if before else None,
        method="train",
        guarantee="exact" if whole == complete_composition(model.graph) else "exact-interim",
        state="current" if whole == complete_composition(model.graph) else "interim",
        metrics=None,
        cost=None,
        cpu_seconds=round(sum(rows.values()), 2),
        request_id=None,
    )
    if composition is None:
        metrics = model.metrics(states)
        with model.workspace.session(write=True) as session:
            model_store.set_metrics(session, model.name, published.number, metrics)
    with model.workspace.session() as session:
        return model_store.find_model(session, published.label)


def _initial_of(training_plan: Plan, file: Path, weights: str | None) -> dict[str, Any]:
    """Return the initial weights of a plan: stored beside it, made from its architecture, or from a file."""
    from safetensors.torch import load_file

    from expunge.tasks.weights import Source, open_source

    beside = file.with_name("initial.weights")
    if beside.is_file():
        initial = load_file(str(beside))
    elif training_plan.initial.source.endswith((".yaml", ".yml")):
        initial = initial_weights(
            training_plan, Source(training_plan.task, training_plan.architecture, None, ())
        )
    elif weights:
        initial = initial_weights(training_plan, open_source(weights))
    else:
        raise InputError(
            f"The initial weights of the plan are missing: {training_plan.initial.source}.",
            "They are neither beside the plan (initial.weights) nor made from an architecture.",
            "Name the checkpoint with --weights.",
        )
    if tensor_digest(initial) != training_plan.initial.tensors:
        raise InputError(
            "The initial weights are not those of the plan.",
            "Their digest differs from the one that the plan records.",
            "Use the checkpoint that the plan was made with.",
        )
    return initial


def adopt(
    workspace: Workspace,
    weights: Path,
    ref: str,
    name: str,
    unsafe_trust: bool = False,
    say: Callable[[str], None] = lambda note: None,
) -> ModelVersion:
    """Record a model that was trained elsewhere on a dataset version, so that erasures include it.

    Args:
        workspace: The workspace of the dataset.
        weights: The checkpoint.
        ref: The dataset version that it was trained on.
        name: The model's name.
        unsafe_trust: Unpickle the file although that may run code; only for a file that the user trusts.
        say: Receives notes on recorded training settings that concern the data.

    Raises:
        InputError: If the weights cannot be loaded safely, do not fit the dataset, or are known to have been
            trained on erased data.
    """
    from expunge.storage.files import write_atomically
    from expunge.tasks.class_map import check_fits, settings_notes
    from expunge.tasks.yolo import open_model, write_model, yolo_task

    parse_ref(name)
    anchor.check(workspace)
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = load_samples(session, version, without_erased=True)
    opened = open_model(weights, unsafe_trust=unsafe_trust)
    yolo_task(opened)  # refuses what could never be unlearned
    check_fits(opened, version.config, [s for s in samples if s.split == "train"])
    for note in settings_notes(opened, version.config, samples):
        say(note)
    task = opened.task
    # A trusted file is saved again, so that it can be loaded safely from now on.
    content = write_model(opened.module, opened) if unsafe_trust else weights.read_bytes()
    origin = starts.origin(workspace, weights, unsafe_trust=unsafe_trust)
    frozen = opened.train_args.get("freeze")
    with model_lock(workspace.locks, name, "adopt"):
        with workspace.session(write=True) as session:
            adoption.check(session, origin, weights, name)
            model_id = model_store.ensure_model(session, name, task)
            number = model_store.next_number(session, model_id)
        file = workspace.models / name / f"{name}-{number}.pt"
        write_atomically(file, content, "The model")
        with workspace.session(write=True) as session:
            adoption.check(session, origin, weights, name)
            state = adoption.state_of(session, version)
            row_id = model_store.publish(
                session,
                model_id,
                number=number,
                parent=None,
                dataset_id=version.dataset_id,
                dataset_version=version.number,
                retained_digest=retained_digest(samples),
                **sample_counts(samples),
                plan_digest=None,
                method="adopt",
                guarantee="none",
                state=state,
                digest=tensor_digest(opened.module.state_dict()),
                weights=str(file.relative_to(workspace.root)),
                composition={
                    "retrain_epochs": opened.train_args.get("epochs"),
                    "forgotten": [],
                    **({"frozen": frozen} if frozen else {}),
                },
                metrics=None,
                cost=None,
                cpu_seconds=0.0,
                request_id=None,
            )
            # A raw model beside its EMA is recorded as a start, because the file holds its tensors, too.
            start_digests = origin.every - starts.digests([opened.module.state_dict()])
            ancestry.add_starts(session, start_digests, model_version_id=row_id)
            remember_files(session, row_id, file, [opened.module.state_dict()])
        with workspace.session() as session:
            return model_store.find_model(session, f"{name}@{number}")


def as_json(workspace: Workspace, published: ModelVersion) -> dict[str, Any]:
    """Return a published model in the form of ``train --json``."""
    return {
        "model": published.label,
        "digest": published.digest,
        "dataset": f"{published.dataset}@{published.dataset_version}",
        "plan": str(plan_file(workspace, published.plan_digest)) if published.plan_digest else None,
        "weights": str(workspace.root / published.weights),
        "metrics": published.metrics,
        "cpu_seconds": published.cpu_seconds,
        "guarantee": published.guarantee,
        "state": published.state,
    }


def describe(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """Return all versions of a model with lineage, exports, and their numbers of samples and subjects."""
    from expunge.models.exports import exports_of

    with workspace.session() as session:
        model_store.find_model(session, name)
        found = model_store.model_versions(session, name.partition("@")[0])
        result = []
        for p in found:
            entry = {k: v for k, v in asdict(p).items() if k not in ("id", "dataset_id", "retained_digest")}
            entry["model"], entry["weights"] = p.label, str(workspace.root / p.weights)
            entry["exports"] = exports_of(session, p)
            result.append(entry)
    return result

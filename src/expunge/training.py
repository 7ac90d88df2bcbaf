# SPDX-License-Identifier: Apache-2.0
"""Plans, erasable training, adoption, and what models there are: what comes before a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge import adoption, starts
from expunge.catalog import ancestry
from expunge.catalog import models as catalog
from expunge.catalog.datasets import get_version, load_samples, parse_ref, subject_risks
from expunge.catalog.locks import model_lock
from expunge.catalog.models import Published
from expunge.data.label_counts import refuse_channels
from expunge.errors import InputError
from expunge.evidence import anchor
from expunge.exact.composition import Composition, final, restrict
from expunge.exact.cost import predict
from expunge.exact.graph import retained_digest
from expunge.exact.hashing import tensor_digest
from expunge.exact.model import DataErased, ErasableModel, counts, plan_file
from expunge.exact.plan import Plan, load_plan
from expunge.exact.planner import Options, initial_weights, make_plan
from expunge.exact.runner import write_weights
from expunge.exact.weight_files import remember_files
from expunge.progress import Progress
from expunge.standing import status
from expunge.tasks.base import get_task

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version
    from expunge.workspace import Workspace

__all__ = ["adopt", "as_json", "describe", "plan", "status", "train"]

CHECKPOINT_FACTOR = 4  # live weights, EMA and two moments of AdamW, each as large as the weights


def plan(workspace: Workspace, ref: str, options: Options, requests: int) -> tuple[Plan, dict[str, Any]]:
    """Return a plan with its predicted prices, training nothing.

    Raises:
        InputError: If an option or the dataset does not fit.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = load_samples(session, version, without_erased=True)
        risks = subject_risks(session, version)
    made, initial = make_plan(options, version, samples, risks)
    made, _ = _with_start(workspace, made, options.weights)
    _check_fits(made, version, samples)
    price = predict(made, samples, risks, requests)
    size = sum(v.numel() * v.element_size() for v in initial.values())
    return made, {
        "dataset": version.label,
        "digest": f"sha256:{made.digest}",
        "cost_one": price.one,
        "cost_worst": price.worst,
        "cost_several": price.several,
        "requests": price.requests,
        "image_passes": price.passes,
        "checkpoints": price.checkpoints,
        "checkpoint_bytes": price.checkpoints * CHECKPOINT_FACTOR * size,
        "notes": list(made.notes),
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
) -> Published:
    """Train a model so that erasures from it are exact, and publish it.

    Args:
        workspace: Where the dataset is known.
        ref: ``NAME`` or ``NAME@V``.
        name: The model's name.
        options: What the user said, to make a plan from; or else
        from_plan: an existing plan, and
        weights: the checkpoint that it started from, where it is not beside the plan.
        composition: Train and publish only this part (the replay of an interim model).
        forbidden: Folders that must not be read.
        progress: Where to report.

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
        made = load_plan(from_plan)
        _check_kind(made, version)
        initial = _initial_of(made, from_plan, weights)
        made, began = _with_start(workspace, made, weights, initial)
    elif options is not None:
        made, initial = make_plan(options, version, samples, risks)
        made, began = _with_start(workspace, made, options.weights)
    else:
        raise InputError("Nothing says how to train.", "", "Give --weights or --plan.")
    _check_fits(made, version, samples)
    model = ErasableModel(workspace, name, made, version, samples, risks, progress, tuple(forbidden))
    if not model.graph.nodes:
        raise InputError(
            f"{version.label} has nothing to train on.", "Its train split is empty.", "Add data."
        )
    for note in made.notes:
        progress.say(f"note: {note}")
    with model_lock(workspace.locks, name, "train"):
        while True:
            try:
                return _train(model, initial, began, composition)
            except DataErased:
                progress.say("Some of the data was erased meanwhile: what saw it is trained anew.")
                with workspace.session() as session:
                    samples = load_samples(session, version, without_erased=True)
                model = replace(model, samples=samples)


def _check_kind(made: Plan, version: Version) -> None:
    get_task(made.task)
    refuse_channels(version.config, version.label)
    if (made.task == "classify") != (version.config.kind == "folders"):
        raise InputError(
            f"The plan is for '{made.task}', which {version.label} is not made for.",
            "Detection needs a data.yaml with boxes, classification a folder per class.",
            "Choose another plan or another dataset.",
        )


def _check_fits(made: Plan, version: Version, samples: list[Sample]) -> None:
    """Find out before anything is written what training would stumble over."""
    unknown = [name for name in version.config.names if name not in made.names]
    if unknown:
        raise InputError(
            f"The plan has no class '{unknown[0]}'.",
            f"{version.label} names {len(unknown)} class(es) that are not in the plan.",
            "Make a new plan, or use data with the plan's classes.",
        )
    first = [replace(s, label_digest="") for s in samples if s.split == "train"][:1]  # no file is read
    try:
        get_task(made.task).data(made, version.config, version.root, first)
    except (ArithmeticError, AssertionError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(
            "A setting of the training does not fit.",
            str(error).strip().splitlines()[0],
            "Correct it.",
        ) from error


def _with_start(
    workspace: Workspace, made: Plan, weights: str | None, initial: dict[str, Any] | None = None
) -> tuple[Plan, frozenset[str]]:
    """Return a plan with a note where it starts from a model of this workspace, and its start's digests.

    Raises:
        InputError: If the start saw what was erased.
    """
    began: frozenset[str] = frozenset()
    if weights is not None and not weights.endswith(starts.ARCHITECTURES):
        began = starts.origin(workspace, Path(weights)).every
    if initial is not None and not made.initial.source.endswith(starts.ARCHITECTURES):
        began |= starts.digests([initial])
    with workspace.session() as session:
        began |= ancestry.starts_of_plan(session, made.digest)
        note = starts.note_of(starts.check_start(session, began, f"The start {made.initial.source}"))
    if note is not None and note not in made.notes:
        made = made.model_copy(update={"notes": (*made.notes, note)})
    return made, began


def _train(
    model: ErasableModel, initial: dict[str, Any], began: frozenset[str], composition: Composition | None
) -> Published:
    file = plan_file(model.workspace, model.plan.digest)
    whole = composition or final(model.graph)
    with model.workspace.session() as session:
        before = {p.name: p for p in catalog.live(session)}.get(model.name)
    same = before and (before.plan_digest, before.retained_digest) == (model.plan.digest, model.retained)
    usable = before and same and before.guarantee == "exact" and not before.withdrawn
    known = before if usable else None
    if known is None:
        model.check_files(restrict(model.graph, whole))  # before anything is written
    with model.workspace.session(write=True) as session:
        starts.check_start(session, began, f"The start {model.plan.initial.source}")
        model_id = catalog.ensure_model(session, model.name, model.plan.task)
        write_weights(model.initial, initial)
        model.plan.save(file)
        catalog.record_plan(session, model.plan.digest, str(file.relative_to(model.workspace.root)))
        ancestry.add_starts(session, began, plan_digest=model.plan.digest)
        version = model.version
        catalog.begin_training(session, model_id, version.dataset_id, version.number, model.plan.digest)
    if known is not None:
        return known
    model.destroy_stale(model_id)
    model.check_environment(model_id)
    model.train(model_id, restrict(model.graph, whole), f"training {model.name}")
    states = model.weights(whole)
    with model.workspace.session() as session:
        rows = {c.key: c.cpu_seconds for c in catalog.checkpoints(session, model_id)}
    published = model.publish(
        model_id,
        whole,
        states,
        parent=before.number if before else None,
        method="train",
        guarantee="exact" if whole == final(model.graph) else "exact-interim",
        state="current" if whole == final(model.graph) else "interim",
        metrics=None,
        cost=None,
        cpu_seconds=round(sum(rows.values()), 2),
        request_id=None,
    )
    if composition is None:
        metrics = model.metrics(states)
        with model.workspace.session(write=True) as session:
            catalog.set_metrics(session, model.name, published.number, metrics)
    with model.workspace.session() as session:
        return catalog.find_model(session, published.label)


def _initial_of(made: Plan, file: Path, weights: str | None) -> dict[str, Any]:
    from safetensors.torch import load_file

    from expunge.tasks.weights import Source, open_source

    beside = file.with_name("initial.weights")
    if beside.is_file():
        initial = load_file(str(beside))
    elif made.initial.source.endswith((".yaml", ".yml")):
        initial = initial_weights(made, Source(made.task, made.architecture, None, ()))
    elif weights:
        initial = initial_weights(made, open_source(weights))
    else:
        raise InputError(
            f"The initial weights of the plan are missing: {made.initial.source}.",
            "They are neither beside the plan (initial.weights) nor made from an architecture.",
            "Name the checkpoint with --weights.",
        )
    if tensor_digest(initial) != made.initial.tensors:
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
) -> Published:
    """Record a model that was trained elsewhere on a dataset version: erasures will know that it saw them.

    Args:
        workspace: Where the dataset is known.
        weights: The checkpoint.
        ref: The dataset version that it was trained on.
        name: The model's name.
        unsafe_trust: Run what the file's pickle says; only for a file that the user vouched for.
        say: Receives what the training settings on record mean for the data.

    Raises:
        InputError: If the weights cannot be loaded safely, do not fit the dataset, or are known to have seen
            what was erased.
    """
    from expunge.exact.checkpoint import write_atomically
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
    # What the user vouched for is written anew, so that nobody has to vouch for it again.
    content = write_model(opened.module, opened) if unsafe_trust else weights.read_bytes()
    origin = starts.origin(workspace, weights, unsafe_trust=unsafe_trust)
    frozen = opened.train_args.get("freeze")
    with model_lock(workspace.locks, name, "adopt"):
        with workspace.session(write=True) as session:
            adoption.check(session, origin, weights, name)
            model_id = catalog.ensure_model(session, name, task)
            number = catalog.next_number(session, model_id)
        file = workspace.models / name / f"{name}-{number}.pt"
        write_atomically(file, content, "The model")
        with workspace.session(write=True) as session:
            adoption.check(session, origin, weights, name)
            state = adoption.state_of(session, version)
            row_id = catalog.publish(
                session,
                model_id,
                number=number,
                parent=None,
                dataset_id=version.dataset_id,
                dataset_version=version.number,
                retained_digest=retained_digest(samples),
                **counts(samples),
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
            # A raw model beside its EMA counts as a start: the file holds its tensors, too.
            begun = origin.every - starts.digests([opened.module.state_dict()])
            ancestry.add_starts(session, begun, model_version_id=row_id)
            remember_files(session, row_id, file, [opened.module.state_dict()])
        with workspace.session() as session:
            return catalog.find_model(session, f"{name}@{number}")


def as_json(workspace: Workspace, published: Published) -> dict[str, Any]:
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
    """Return all versions of a model: lineage, exports, how many samples and subjects each has seen."""
    from expunge.export import exports_of

    with workspace.session() as session:
        catalog.find_model(session, name)
        found = catalog.history(session, name.partition("@")[0])
        result = []
        for p in found:
            entry = {k: v for k, v in asdict(p).items() if k not in ("id", "dataset_id", "retained_digest")}
            entry["model"], entry["weights"] = p.label, str(workspace.root / p.weights)
            entry["exports"] = exports_of(session, p)
            result.append(entry)
    return result

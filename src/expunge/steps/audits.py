# SPDX-License-Identifier: Apache-2.0
"""Audits a published model for one request: against the model before, unseen people and references."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.audit.verdict import label_of
from expunge.catalog import models as catalog
from expunge.catalog.datasets import get_version, load_erased, load_samples
from expunge.catalog.models import Published
from expunge.catalog.tables import RequestRow
from expunge.errors import InputError
from expunge.evidence import anchor
from expunge.exact.checkpoint import write_atomically
from expunge.exact.hashing import plain_json
from expunge.progress import Progress
from expunge.steps.references import calibrators, references

if TYPE_CHECKING:
    from torch import nn

    from expunge.audit.raw import Raw
    from expunge.audit.verdict import Verdict
    from expunge.data.types import Sample, Version
    from expunge.tasks.yolo import Opened
    from expunge.unlearning.auditing import Audit
    from expunge.workspace import Workspace

PLOTS = ".plots.json"  # beside a report: its plots as SVG, in which nobody has a name
REFERENCES = {"quick": 0, "standard": 2, "full": 19}


@dataclass(frozen=True)
class Question:
    """What is to be audited, and how.

    Attributes:
        model: ``MODEL[@V]``: the candidate.
        request: Id of the request that it is judged for.
        level: ``quick``, ``standard`` or ``full``.
        references: How many models to compare with; None: 2 for ``standard``, 19 for ``full``.
        epochs: Of a reference's training; None: what the model's file says of its own.
        allowed_drop: By how much the main metric may fall.
        device: Where to work.
        jobs: Trainings at once; 0: as many as the cores allow.
        threads: Threads of torch of each.
        seed: Of references, probes and resampling.
        probes: What else to show, without judging it; see :data:`expunge.unlearning.shown.PROBES`.
    """

    model: str
    request: str
    level: str = "quick"
    references: int | None = None
    epochs: int | None = None
    allowed_drop: float = 0.02
    device: str = "cpu"
    jobs: int = 0
    threads: int = 1
    seed: int = 0
    probes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A candidate with what it is judged by.

    Attributes:
        candidate: The published model.
        original: The model before the request.
        version: The data-set version that both were trained on.
        retained: Its rows that are not erased.
        forgotten: Its rows that the request erased.
        class_name: The class that the request removed, if it named one.
        left_out: Files that cannot be read, and take no part.
    """

    candidate: Published
    original: Published
    version: Version
    retained: list[Sample]
    forgotten: list[Sample]
    class_name: str | None
    left_out: int = 0


@dataclass(frozen=True)
class Judged:
    """A verdict with what it rests on.

    Attributes:
        verdict: What was concluded.
        raw: The losses behind it; None where it rests on none.
        n: Samples by part.
        references: How many there were, and where they came from.
    """

    verdict: Verdict
    raw: Raw | None
    n: dict[str, int]
    references: dict[str, Any]


def audit_model(
    workspace: Workspace, question: Question, progress: Progress, page: Path | None = None
) -> dict[str, Any]:
    """Audit a published model.

    Args:
        workspace: Where model and request are.
        question: What is asked.
        progress: Is told how far it is.
        page: Where to write the report as a page for people; None: nowhere.

    Returns:
        The report, in the form of ``expunge audit --json``; it is kept in the workspace.

    Raises:
        InputError: If model and request do not belong together, the request's data is gone, or there is
            nothing to compare with.
    """
    from expunge.tasks.yolo import open_model
    from expunge.unlearning.auditing import LEVELS
    from expunge.unlearning.shown import check_probes

    if question.level not in LEVELS:
        raise InputError(f"There is no level '{question.level}'.", "", f"Choose one of {', '.join(LEVELS)}.")
    check_probes(question.probes)
    if page is not None and not page.absolute().parent.is_dir():
        raise InputError(
            "The page cannot be written there.", "There is no such folder.", "Make it, or name another."
        )
    anchor.check(workspace)
    began, case = time.monotonic(), _case(workspace, question)
    if case.left_out:
        progress.say(f"note: {case.left_out} files are missing or changed, and take no part in the audit.")
    files = [workspace.root / p.weights for p in (case.original, case.candidate)]
    for published, file in zip((case.original, case.candidate), files, strict=True):
        if not file.is_file():
            raise InputError(
                f"{published.label} has no single weights file in the workspace.",
                "It was purged, or it is an ensemble.",
                "Audit a request before the models it superseded are purged.",
            )
    original, candidate = (open_model(file) for file in files)
    judged = judge_case(workspace, case, original, candidate.module, question, progress)
    verdict = judged.verdict
    report = {
        "model": case.candidate.label,
        "original": case.original.label,
        "request": question.request,
        "level": question.level,
        "verdict": verdict.verdict,
        "failure": verdict.failure,
        "reasons": list(verdict.reasons),
        "figures": {label_of(f): f for f in verdict.figures},
        "utility": verdict.utility,
        "n": judged.n,
        **({"left_out": case.left_out} if case.left_out else {}),
        "references": judged.references,
        "settings": asdict(question),
        "seconds": round(time.monotonic() - began, 3),
    }
    name = f"{question.request}-{case.candidate.label.replace('@', '-')}-{question.level}.json"
    path = workspace.audits / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, (json.dumps(plain_json(report), indent=1) + "\n").encode(), "The audit")
    from expunge.evidence.audit_page import drawn, write

    plots = json.dumps(drawn(report, judged.raw)).encode() + b"\n"
    write_atomically(path.with_suffix(PLOTS), plots, "The audit's plots")
    if page is not None:
        write(report, judged.raw, page)
    return {**plain_json(report), "report": str(path), "page": None if page is None else str(page)}


def judge_case(
    workspace: Workspace,
    case: Case,
    original: Opened,
    candidate: nn.Module,
    question: Question,
    progress: Progress,
    tests: int = 1,
) -> Judged:
    """Judge a candidate, published or not, at the level that is asked for; references are trained or reused.

    Args:
        workspace: Where references are kept.
        case: What it is judged by.
        original: The model before the request.
        candidate: The model to be judged.
        question: Level, references, seed.
        progress: Is told how far it is.
        tests: How many candidates are judged for the same request (Bonferroni).

    Raises:
        InputError: If there is nothing to compare with.
    """
    from expunge.tasks.yolo import yolo_task
    from expunge.unlearning.auditing import Audit
    from expunge.unlearning.selecting import Selected
    from expunge.unlearning.yolo import material_of

    selected = Selected(
        frozenset(s.path for s in case.forgotten),
        frozenset() if case.class_name else _people(case),
        (case.class_name,) if case.class_name else (),
    )
    rows, version = [*case.retained, *case.forgotten], case.version
    material, parts = material_of(original, rows, version.config, version.root, selected, question.seed)
    count = REFERENCES[question.level] if question.references is None else question.references
    made, origin = [], "none"
    if count and material.goal != "class":
        if case.candidate.plan_digest is not None:
            made, origin = calibrators(workspace, case.candidate, question), "shards"
        else:
            found = references(workspace, case, parts, count, question, progress)
            made, origin = [found.open(i) for i in range(count)], found.origin
    task = yolo_task(original, question.device)
    progress.begin("audit", 2 + len(made))
    try:
        audit = Audit(
            task,
            task.clone(original.module),
            [task.clone(module) for module in made],
            material,
            question.level,
            question.allowed_drop,
            tests,
            seed=question.seed,
            on_model=lambda: progress.add(1),
            probes=question.probes,
        )
        verdict, raw = _judge(audit, task.clone(candidate))
    finally:
        progress.end()
    counts = {name: len(getattr(material, name)) for name in ("forget", "unseen", "guard")}
    return Judged(verdict, raw, counts, {"count": len(made), "origin": origin})


def plots_of(workspace: Workspace, name: str) -> dict[str, str | None]:
    """Return the plots of an audit on record as SVG, by name; none where it kept none.

    Args:
        workspace: Where it is.
        name: The report's file without its ending.
    """
    file = workspace.audits / f"{name}{PLOTS}"
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def _judge(audit: Audit, candidate: nn.Module) -> tuple[Verdict, Raw | None]:
    """The verdict, with the losses behind it where it rests on losses."""
    if audit.material.goal == "class":
        return audit.verdict(candidate), None
    answers = audit.answers(candidate)
    return audit.verdict_of(answers), audit.raw(answers)


def _case(workspace: Workspace, question: Question) -> Case:
    from expunge.tasks.readable import check_files

    with workspace.session() as session:
        candidate = catalog.find_model(session, question.model)
        request = catalog.get_request(session, question.request)
        versions = {p.number: p for p in catalog.history(session, candidate.name)}
        before = _before(candidate, versions, question.request)
        version = get_version(session, candidate.dataset, candidate.dataset_version)
        retained = load_samples(session, version, without_erased=True)
        forgotten = [s for s, r in load_erased(session, version) if r == question.request]
        class_name = request.selection.get("class")
        finished = session.scalar(select(RequestRow.state).where(RequestRow.id == question.request))
    if before is None:
        raise InputError(
            f"{candidate.label} was not made for the request {question.request}.",
            "Neither it nor a version before it was published for that request.",
            f"See `expunge models {candidate.name}` for its versions.",
        )
    if not any(s.split == "train" for s in forgotten):
        raise InputError(
            f"{candidate.label} was trained on nothing that the request {question.request} erased.",
            "There is nothing to judge"
            + (", or the catalog has forgotten it: the request is closed." if finished == "closed" else "."),
            "Audit a request before it is closed.",
        )
    checked = [check_files(version.root, version.config, rows) for rows in (retained, forgotten)]
    if not any(s.split == "train" for s in checked[1].readable):
        raise InputError(
            f"None of the pictures that {question.request} erased can be read.",
            "An audit compares the forgotten with unseen data; they are gone or changed.",
            "Restore them for the time of the audit."
            + ("" if candidate.plan_digest is None
               else f" Or prove it by repetition: expunge verify {candidate.label} --replay."),
        )  # fmt: skip
    return Case(
        candidate, before, version, list(checked[0].readable), list(checked[1].readable), class_name,
        sum(len(c.damaged) for c in checked),
    )  # fmt: skip


def _before(candidate: Published, versions: dict[int, Published], request: str) -> Published | None:
    """The last version before those that the request made, seen from the candidate."""
    for published in _ancestors(candidate, versions):
        if published.request_id == request:
            first = published
            while first.parent in versions and versions[first.parent].request_id == request:
                first = versions[first.parent]
            return versions.get(first.parent) if first.parent is not None else None
    return None


def _ancestors(candidate: Published, versions: dict[int, Published]) -> Iterator[Published]:
    found: Published | None = candidate
    while found is not None:
        yield found
        found = versions.get(found.parent) if found.parent is not None else None


def _people(case: Case) -> frozenset[str]:
    """The people in the forgotten rows of whom nothing is retained: those whom the request erased."""
    left = {subject for s in case.retained for subject in s.subjects}
    return frozenset(subject for s in case.forgotten for subject in s.subjects) - left

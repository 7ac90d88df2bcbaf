# SPDX-License-Identifier: Apache-2.0
"""Step 6 of a request: audit a result against the original model, unseen subjects and reference models."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.audits.verdict import label_of
from expunge.catalog import model_store
from expunge.catalog.dataset_store import get_version, load_erased, load_samples
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.tables import RequestRow
from expunge.erasure.audit_case import AuditCase, AuditOptions
from expunge.erasure.references import calibrators, references
from expunge.errors import InputError
from expunge.evidence import anchor
from expunge.progress import Progress
from expunge.storage.files import write_atomically
from expunge.storage.hashing import plain_json

if TYPE_CHECKING:
    from torch import nn

    from expunge.audits.audit_model import Audit
    from expunge.audits.raw_losses import RawLosses
    from expunge.audits.verdict import Verdict
    from expunge.tasks.loaded_model import LoadedModel
    from expunge.workspace import Workspace

PLOTS = ".plots.json"  # suffix of the file beside a report with its plots as SVG, without names of subjects
REFERENCES = {"quick": 0, "standard": 2, "full": 19}


@dataclass(frozen=True)
class AuditResult:
    """A verdict with its evidence.

    Attributes:
        verdict: The verdict.
        raw: The losses from which it was computed; None if it does not use losses.
        n: Number of samples by part: ``forget``, ``unseen``, ``guard``.
        references: ``count`` and ``origin`` of the reference models.
    """

    verdict: Verdict
    raw: RawLosses | None
    n: dict[str, int]
    references: dict[str, Any]


def audit_model(
    workspace: Workspace, question: AuditOptions, progress: Progress, page: Path | None = None
) -> dict[str, Any]:
    """Audit a published model, store the report in the workspace and return it.

    Args:
        workspace: The workspace of model and request.
        question: Options of the audit.
        progress: Receives progress reports.
        page: File for the report as an HTML page; None: no page.

    Returns:
        The report, in the form of ``expunge audit --json``.

    Raises:
        InputError: If the model was not made for the request, the erased files are gone, or no reference
            models can be had.
    """
    from expunge.audits.audit_model import LEVELS
    from expunge.audits.probes.results import check_probes
    from expunge.tasks.yolo import open_model

    if question.level not in LEVELS:
        raise InputError(f"There is no level '{question.level}'.", "", f"Choose one of {', '.join(LEVELS)}.")
    check_probes(question.probes)
    if page is not None and not page.absolute().parent.is_dir():
        raise InputError(
            "The page cannot be written.", "Its folder does not exist.", "Make the folder, or name another."
        )
    anchor.check(workspace)
    began, case = time.monotonic(), _case(workspace, question)
    if case.left_out:
        progress.say(f"note: {case.left_out} files are missing or changed, and are left out of the audit.")
    files = [workspace.root / p.weights for p in (case.original, case.candidate)]
    for published, file in zip((case.original, case.candidate), files, strict=True):
        if not file.is_file():
            raise InputError(
                f"{published.label} has no single weights file in the workspace.",
                "It was purged, or it is an ensemble.",
                "Audit a request before the models it superseded are purged.",
            )
    original, candidate = (open_model(file) for file in files)
    result = audit_candidate(workspace, case, original, candidate.module, question, progress)
    verdict = result.verdict
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
        "n": result.n,
        **({"left_out": case.left_out} if case.left_out else {}),
        "references": result.references,
        "settings": asdict(question),
        "seconds": round(time.monotonic() - began, 3),
    }
    name = f"{question.request}-{case.candidate.label.replace('@', '-')}-{question.level}.json"
    path = workspace.audits / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, (json.dumps(plain_json(report), indent=1) + "\n").encode(), "The audit")
    from expunge.evidence.audit_page import drawn, write

    plots = json.dumps(drawn(report, result.raw)).encode() + b"\n"
    write_atomically(path.with_suffix(PLOTS), plots, "The audit's plots")
    if page is not None:
        write(report, result.raw, page)
    return {**plain_json(report), "report": str(path), "page": None if page is None else str(page)}


def audit_candidate(
    workspace: Workspace,
    case: AuditCase,
    original: LoadedModel,
    candidate: nn.Module,
    question: AuditOptions,
    progress: Progress,
    tests: int = 1,
) -> AuditResult:
    """Audit a candidate, published or not; reference models are trained or reused.

    Args:
        workspace: The workspace, in which references are kept.
        case: The models and samples to compare.
        original: The model before the request.
        candidate: The model to audit.
        question: Options of the audit.
        progress: Receives progress reports.
        tests: Number of candidates audited for the same request (Bonferroni correction).

    Raises:
        InputError: If no reference models can be had.
    """
    from expunge.audits.audit_model import Audit
    from expunge.tasks.yolo import yolo_task
    from expunge.unlearning.selecting import Selected
    from expunge.unlearning.yolo import material_of

    selected = Selected(
        frozenset(s.path for s in case.forgotten),
        frozenset() if case.class_name else _erased_subjects(case),
        (case.class_name,) if case.class_name else (),
    )
    rows, version = [*case.retained, *case.forgotten], case.version
    data, parts = material_of(original, rows, version.config, version.root, selected, question.seed)
    count = REFERENCES[question.level] if question.references is None else question.references
    modules, origin = [], "none"
    if count and data.goal != "class":
        if case.candidate.plan_digest is not None:
            modules, origin = calibrators(workspace, case.candidate, question), "shards"
        else:
            trained = references(workspace, case, parts, count, question, progress)
            modules, origin = [trained.open(i) for i in range(count)], trained.origin
    task = yolo_task(original, question.device)
    progress.begin("audit", 2 + len(modules))
    try:
        audit = Audit(
            task,
            task.clone(original.module),
            [task.clone(module) for module in modules],
            data,
            question.level,
            question.allowed_drop,
            tests,
            seed=question.seed,
            on_model=lambda: progress.add(1),
            probes=question.probes,
        )
        verdict, raw = _verdict(audit, task.clone(candidate))
    finally:
        progress.end()
    counts = {name: len(getattr(data, name)) for name in ("forget", "unseen", "guard")}
    return AuditResult(verdict, raw, counts, {"count": len(modules), "origin": origin})


def load_plots(workspace: Workspace, name: str) -> dict[str, str | None]:
    """Return the plots of a stored audit as SVG, by name; empty if it has none.

    Args:
        workspace: The workspace of the audit.
        name: Name of the report's file without its suffix.
    """
    file = workspace.audits / f"{name}{PLOTS}"
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def _verdict(audit: Audit, candidate: nn.Module) -> tuple[Verdict, RawLosses | None]:
    """Return the verdict and the losses from which it was computed, if it uses losses."""
    if audit.material.goal == "class":
        return audit.verdict(candidate), None
    scores = audit.answers(candidate)
    return audit.verdict_of(scores), audit.raw(scores)


def _case(workspace: Workspace, question: AuditOptions) -> AuditCase:
    """Return the models and samples of an audit; unreadable files are left out.

    Raises:
        InputError: If the model was not made for the request, or none of its erased training samples is
            known or readable.
    """
    from expunge.tasks.file_checks import check_files

    with workspace.session() as session:
        candidate = model_store.find_model(session, question.model)
        request = model_store.get_request(session, question.request)
        versions = {p.number: p for p in model_store.model_versions(session, candidate.name)}
        original = _original(candidate, versions, question.request)
        version = get_version(session, candidate.dataset, candidate.dataset_version)
        retained = load_samples(session, version, without_erased=True)
        forgotten = [s for s, r in load_erased(session, version) if r == question.request]
        class_name = request.selection.get("class")
        state = session.scalar(select(RequestRow.state).where(RequestRow.id == question.request))
    if original is None:
        raise InputError(
            f"{candidate.label} was not made for the request {question.request}.",
            "Neither it nor a version before it was published for that request.",
            f"See `expunge models {candidate.name}` for its versions.",
        )
    if not any(s.split == "train" for s in forgotten):
        raise InputError(
            f"{candidate.label} was trained on nothing that the request {question.request} erased.",
            "There is nothing to audit"
            + (", or the catalog has forgotten it: the request is closed." if state == "closed" else "."),
            "Audit a request before it is closed.",
        )
    checked = [check_files(version.root, version.config, rows) for rows in (retained, forgotten)]
    if not any(s.split == "train" for s in checked[1].readable):
        raise InputError(
            f"None of the images that {question.request} erased can be read.",
            "They are gone or changed; an audit compares them with unseen images.",
            "Restore them for the time of the audit."
            + ("" if candidate.plan_digest is None
               else f" Or prove exactness by replay: expunge verify {candidate.label} --replay."),
        )  # fmt: skip
    return AuditCase(
        candidate, original, version, list(checked[0].readable), list(checked[1].readable), class_name,
        sum(len(c.damaged) for c in checked),
    )  # fmt: skip


def _original(
    candidate: ModelVersion, versions: dict[int, ModelVersion], request: str
) -> ModelVersion | None:
    """Return the last ancestor from before the request; None if the request made no version."""
    for published in _ancestors(candidate, versions):
        if published.request_id == request:
            first = published
            while first.parent in versions and versions[first.parent].request_id == request:
                first = versions[first.parent]
            return versions.get(first.parent) if first.parent is not None else None
    return None


def _ancestors(candidate: ModelVersion, versions: dict[int, ModelVersion]) -> Iterator[ModelVersion]:
    """Yield the candidate and its ancestors, the newest first."""
    found: ModelVersion | None = candidate
    while found is not None:
        yield found
        found = versions.get(found.parent) if found.parent is not None else None


def _erased_subjects(case: AuditCase) -> frozenset[str]:
    """Return the subjects of the forgotten samples of whom no sample is retained."""
    retained = {subject for s in case.retained for subject in s.subjects}
    return frozenset(subject for s in case.forgotten for subject in s.subjects) - retained

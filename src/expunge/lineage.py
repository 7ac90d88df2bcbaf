# SPDX-License-Identifier: Apache-2.0
"""Where one subject is: samples, dataset versions, the models (and shards, checkpoints) that saw it, exports.

Only the subject's own rows are read, and a sample's home is a function of its own row, so the answer takes as
long for a million samples as for a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from expunge.catalog import derivatives
from expunge.catalog import models as catalog
from expunge.catalog.models import Published
from expunge.catalog.selection import in_chunks
from expunge.catalog.suppression import suppressed_by
from expunge.catalog.tables import (
    CheckpointRow,
    ModelRow,
    PlanRow,
    SampleRow,
    SampleSubjectRow,
    SubjectRow,
    VersionRow,
)
from expunge.catalog.versions import get_version, iter_rows, not_erased, parse_ref
from expunge.data.types import Sample, Version
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def lineage(workspace: Workspace, ref: str, subject: str) -> dict[str, Any]:
    """Say where a subject is, in all versions of a dataset and in everything made from them.

    Args:
        workspace: Where the dataset is known.
        ref: ``NAME``, or ``NAME@V`` for the samples of that version alone.
        subject: Its id.

    Returns:
        ``dataset``, ``subject``, ``samples`` (path, split, versions from and to, other subjects in it),
        ``splits``, ``versions``, ``models`` (each with ``saw``, ``homes``, ``checkpoints``, ``exports``),
        ``data_exports`` and ``already_erased_by``.

    Raises:
        InputError: If nothing of that subject was ever in the dataset.
    """
    with workspace.session() as session:
        name, number = parse_ref(ref)
        version = get_version(session, name, number)
        rows = _rows(session, version, subject, number)
        erased_by = suppressed_by(session, workspace.key, "subject", version.name, subject)
        if not rows and erased_by is None:
            raise InputError(
                f"Unknown: {subject!r}.",
                f"No subject of that id is in {version.name}.",
                f"See what is there with: expunge data show {version.name}",
            )
        risks = _risks(session, version, {who for _, s, _ in rows for who in s.subjects})
        models = [
            _model(workspace, session, p, rows, risks)
            for p in catalog.history(session)
            if p.dataset_id == version.dataset_id
        ]
        first, last = _span(rows)
        versions = [
            n
            for n in session.scalars(
                select(VersionRow.number)
                .where(VersionRow.dataset_id == version.dataset_id)
                .order_by(VersionRow.number)
            )
            if first <= n and (last is None or n < last)
        ]
        trees = derivatives.data_exports(session, version.dataset_id, versions)
    return {
        "dataset": version.label,
        "subject": subject,
        "samples": [
            {
                "path": sample.path,
                "split": sample.split,
                "from_version": sample.arrived,
                "until_version": removed,
                "with": sorted(set(sample.subjects) - {subject}),
            }
            for _, sample, removed in rows
        ],
        "splits": dict(sorted(Counter(sample.split for _, sample, _ in rows).items())),
        "versions": [f"{version.name}@{n}" for n in versions],
        "models": [model for model in models if model["saw"]],
        "data_exports": trees,
        "already_erased_by": erased_by,
    }


def _rows(
    session: Session, version: Version, subject: str, number: int | None
) -> list[tuple[int, Sample, int | None]]:
    """The subject's rows that nobody has erased, with the version that is the first without them."""
    mine = (
        select(SampleSubjectRow.sample_id)
        .join(SubjectRow, SubjectRow.id == SampleSubjectRow.subject_id)
        .where(SubjectRow.dataset_id == version.dataset_id, SubjectRow.name == subject)
    )
    ids = session.scalars(mine).all()
    found: list[tuple[int, Sample, int | None]] = []
    for chunk in in_chunks(ids):
        here = SampleRow.id.in_(chunk)
        removed = dict(session.execute(select(SampleRow.id, SampleRow.removed).where(here)).all())
        found += [(i, sample, removed[i]) for i, sample in iter_rows(session, here & not_erased())]
    if number is not None:
        found = [row for row in found if _is_in(row, number)]
    return sorted(found, key=lambda row: (row[1].path, row[0]))


def _is_in(row: tuple[int, Sample, int | None], number: int) -> bool:
    return row[1].arrived <= number and (row[2] is None or row[2] > number)


def _span(rows: Iterable[tuple[int, Sample, int | None]]) -> tuple[int, int | None]:
    rows = list(rows)
    if not rows:
        return 1, 1
    ends = [removed for _, _, removed in rows]
    return min(s.arrived for _, s, _ in rows), None if None in ends else max(e for e in ends if e)


def _risks(session: Session, version: Version, names: set[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for chunk in in_chunks(names):
        query = select(SubjectRow.name, SubjectRow.risk).where(
            SubjectRow.dataset_id == version.dataset_id, SubjectRow.name.in_(chunk)
        )
        found |= {name: risk for name, risk in session.execute(query) if risk is not None}
    return found


def _model(
    workspace: Workspace,
    session: Session,
    p: Published,
    rows: list[tuple[int, Sample, int | None]],
    risks: Mapping[str, float],
) -> dict[str, Any]:
    """What one model version saw of the rows, and where."""
    trained = [row[1] for row in rows if row[1].split == "train" and _is_in(row, p.dataset_version)]
    saw = len(trained)
    homes: dict[tuple[int, int], int] = {}
    states: list[dict[str, Any]] = []
    if p.plan_digest is not None and trained:
        saw, homes, states = _placed(workspace, session, p, trained, risks)
    exports = [
        {"format": e.format, "path": e.path, "created": e.created}
        for e in derivatives.model_exports(session, [p.id])
    ]
    return {
        "model": p.label,
        "state": p.state,
        "dataset": f"{p.dataset}@{p.dataset_version}",
        "saw": saw,
        "homes": [{"shard": s, "slice": k, "samples": n} for (s, k), n in sorted(homes.items())],
        "checkpoints": states,
        "exports": exports,
    }


def _placed(
    workspace: Workspace,
    session: Session,
    p: Published,
    trained: list[Sample],
    risks: Mapping[str, float],
) -> tuple[int, dict[tuple[int, int], int], list[dict[str, Any]]]:
    """Count what of the samples is in the merge, by home; and the checkpoints that saw any of them."""
    from expunge.exact.placement import home
    from expunge.exact.plan import load_plan

    plan = load_plan(workspace.root / session.get_one(PlanRow, p.plan_digest).path)
    private = Counter(tuple(home(plan, s, risks)) for s in trained if not s.public)
    public = sum(1 for s in trained if s.public)
    composition = p.composition or {}
    stages = {int(shard): stage for shard, stage in composition.get("stages", {}).items()}
    whole = bool(composition.get("polish"))
    merged = {
        (shard, part): count
        for (shard, part), count in private.items()
        if whole or stages.get(shard, 0) > part
    }
    reached = [
        (CheckpointRow.phase == "shard") & (CheckpointRow.shard == shard) & (CheckpointRow.stage > part)
        for shard, part in private
    ]
    everywhere = ["polish"] if private else []
    if public:
        everywhere = ["public", "shard", "polish"]
    query = select(CheckpointRow.phase, CheckpointRow.shard, CheckpointRow.stage, CheckpointRow.key).where(
        CheckpointRow.model_id.in_(select(ModelRow.id).where(ModelRow.name == p.name)),
        or_(CheckpointRow.phase.in_(everywhere), *reached),
    )
    states = [
        {"phase": phase, "shard": shard, "stage": stage, "key": key}
        for phase, shard, stage, key in session.execute(query)
    ]
    states.sort(key=lambda s: (s["phase"] != "public", s["phase"] == "polish", s["shard"], s["stage"]))
    return sum(merged.values()) + public, merged, states

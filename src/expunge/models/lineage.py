# SPDX-License-Identifier: Apache-2.0
"""Lineage of a subject: its samples, dataset versions, and the models, checkpoints and exports that saw it.

Only the subject's rows are read, and a sample's shard and slice depend on its own row only. The time
therefore does not grow with the dataset. The queries are plain SQL, because importing SQLAlchemy takes longer
than they.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from expunge.catalog.names import parse_ref
from expunge.data.types import Sample
from expunge.errors import InputError
from expunge.storage.keyed_digests import suppression_mac

if TYPE_CHECKING:
    from expunge.training.plan import Plan
    from expunge.workspace import Workspace

CHUNK = 500


@dataclass(frozen=True)
class _Row:
    """A sample of the subject, and the first version without it (None: the newest version has it)."""

    id: int
    sample: Sample
    removed: int | None

    def is_in(self, number: int) -> bool:
        return self.sample.arrived <= number and (self.removed is None or self.removed > number)


@dataclass(frozen=True)
class _Dataset:
    id: int
    name: str
    number: int


def lineage(workspace: Workspace, ref: str, subject: str) -> dict[str, Any]:
    """Return a subject's lineage in all versions of a dataset, and in the models and exports made from them.

    Args:
        workspace: The workspace of the dataset.
        ref: ``NAME``, or ``NAME@V`` for the samples of that version only.
        subject: The subject's id.

    Returns:
        ``dataset``, ``subject``, ``samples`` (path, split, versions from and to, other subjects in it),
        ``splits``, ``versions``, ``models`` (each with ``saw``, ``homes``, ``checkpoints``, ``exports``),
        ``data_exports`` and ``already_erased_by``.

    Raises:
        InputError: If the subject was never in the dataset.
    """
    name, number = parse_ref(ref)
    dataset = _dataset(workspace, name, number)
    rows, risks = _rows(workspace, dataset, subject)
    if number is not None:
        rows = [row for row in rows if row.is_in(number)]
    mac = suppression_mac(workspace.key, "subject", name, subject)
    found = workspace.query("SELECT request_id FROM suppression WHERE mac = :mac ORDER BY id", mac=mac)
    erased_by = found[0]["request_id"] if found else None
    if not rows and erased_by is None:
        raise InputError(
            f"Unknown: {subject!r}.",
            f"No subject of that id is in {name}.",
            f"See what is there with: expunge data show {name}",
        )
    numbers = _versions(workspace, dataset, rows)
    return {
        "dataset": f"{name}@{dataset.number}",
        "subject": subject,
        "samples": [
            {
                "path": row.sample.path,
                "split": row.sample.split,
                "from_version": row.sample.arrived,
                "until_version": row.removed,
                "with": sorted(set(row.sample.subjects) - {subject}),
            }
            for row in rows
        ],
        "splits": dict(sorted(Counter(row.sample.split for row in rows).items())),
        "versions": [f"{name}@{n}" for n in numbers],
        "models": [model for model in _models(workspace, dataset, rows, risks) if model["saw"]],
        "data_exports": _trees(workspace, dataset, numbers),
        "already_erased_by": erased_by,
    }


def _dataset(workspace: Workspace, name: str, number: int | None) -> _Dataset:
    """Return the dataset at the given version, or at the newest one."""
    found = workspace.query(
        "SELECT d.id AS id, v.number AS number FROM dataset d JOIN version v ON v.dataset_id = d.id"
        " WHERE d.name = :name ORDER BY v.number",
        name=name,
    )
    numbers = [row["number"] for row in found]
    if not numbers or (number is not None and number not in numbers):
        from expunge.catalog.versions import get_version

        with workspace.session() as session:
            get_version(session, name, number)  # raises the error
    return _Dataset(found[0]["id"], name, numbers[-1] if number is None else number)


def _rows(workspace: Workspace, dataset: _Dataset, subject: str) -> tuple[list[_Row], dict[str, float]]:
    """Return the subject's rows that are not erased, by path, and the risks of all subjects in them."""
    found = workspace.query(
        "SELECT s.id AS id, s.path AS path, s.split AS split, s.image_digest AS image, s.public AS public,"
        " s.arrived AS arrived, s.removed AS removed FROM subject u"
        " JOIN sample_subject x ON x.subject_id = u.id JOIN sample s ON s.id = x.sample_id"
        " WHERE u.dataset_id = :dataset AND u.name = :name"
        " AND (s.removal IS NULL OR s.removal <> 'erased')",
        dataset=dataset.id,
        name=subject,
    )
    people: dict[int, list[str]] = defaultdict(list)
    risks: dict[str, float] = {}
    for ids in _chunks(row["id"] for row in found):
        for pair in workspace.query(
            "SELECT x.sample_id AS sample, u.name AS name, u.risk AS risk FROM sample_subject x"
            f" JOIN subject u ON u.id = x.subject_id WHERE x.sample_id IN ({ids})"
        ):
            people[pair["sample"]].append(pair["name"])
            if pair["risk"] is not None:
                risks[pair["name"]] = pair["risk"]
    rows = []
    for r in found:
        names = tuple(sorted(people[r["id"]]))
        sample = Sample(r["path"], r["split"], r["image"], "", None, names, bool(r["public"]), r["arrived"])
        rows.append(_Row(r["id"], sample, r["removed"]))
    return sorted(rows, key=lambda row: (row.sample.path, row.id)), risks


def _chunks(ids: Iterable[int]) -> Iterator[str]:
    """Yield ids as comma-separated lists for SQL, CHUNK at a time."""
    all_ids = list(ids)
    for start in range(0, len(all_ids), CHUNK):
        yield ", ".join(str(int(i)) for i in all_ids[start : start + CHUNK])


def _versions(workspace: Workspace, dataset: _Dataset, rows: list[_Row]) -> list[int]:
    """Return the numbers of the versions from the first to the last that has one of the rows."""
    if not rows:
        return []
    first = min(row.sample.arrived for row in rows)
    ends = [row.removed for row in rows]
    last = None if None in ends else max(end for end in ends if end)
    found = workspace.query(
        "SELECT number FROM version WHERE dataset_id = :dataset ORDER BY number", dataset=dataset.id
    )
    return [v["number"] for v in found if first <= v["number"] and (last is None or v["number"] < last)]


def _trees(workspace: Workspace, dataset: _Dataset, numbers: list[int]) -> list[dict[str, Any]]:
    """Return the exported folders of some versions of the dataset."""
    found = workspace.query(
        "SELECT path, version, created FROM data_export WHERE dataset_id = :dataset ORDER BY created, id",
        dataset=dataset.id,
    )
    return [
        {"path": row["path"], "dataset_version": row["version"], "created": _time(row["created"])}
        for row in found
        if row["version"] in numbers
    ]


def _models(
    workspace: Workspace, dataset: _Dataset, rows: list[_Row], risks: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield each model version with the number of rows it was trained on, their shards and checkpoints."""
    published = workspace.query(
        "SELECT v.id AS id, v.model_id AS model_id, m.name AS name, v.number AS number, v.state AS state,"
        " v.dataset_version AS dataset_version, v.composition AS composition, p.path AS plan"
        " FROM model_version v JOIN model m ON m.id = v.model_id LEFT JOIN plan p ON p.digest = v.plan_digest"
        " WHERE v.dataset_id = :dataset ORDER BY m.name, v.number",
        dataset=dataset.id,
    )
    exports: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for e in workspace.query(
        "SELECT model_version_id, format, path, created FROM model_export WHERE removed IS NULL ORDER BY id"
    ):
        entry = {"format": e["format"], "path": e["path"], "created": _time(e["created"])}
        exports[e["model_version_id"]].append(entry)
    plans: dict[str, Plan] = {}
    for p in published:
        trained = [r.sample for r in rows if r.sample.split == "train" and r.is_in(p["dataset_version"])]
        saw, homes, states = len(trained), dict[tuple[int, int], int](), list[dict[str, Any]]()
        if p["plan"] is not None and trained:
            if p["plan"] not in plans:
                from expunge.training.plan import load_plan

                plans[p["plan"]] = load_plan(workspace.root / p["plan"])
            saw, homes, states = _placed(workspace, p, plans[p["plan"]], trained, risks)
        yield {
            "model": f"{p['name']}@{p['number']}",
            "state": p["state"],
            "dataset": f"{dataset.name}@{p['dataset_version']}",
            "saw": saw,
            "homes": [{"shard": s, "slice": k, "samples": n} for (s, k), n in sorted(homes.items())],
            "checkpoints": states,
            "exports": exports[p["id"]],
        }


def _placed(
    workspace: Workspace,
    published: Mapping[str, Any],
    plan: Plan,
    trained: list[Sample],
    risks: Mapping[str, float],
) -> tuple[int, dict[tuple[int, int], int], list[dict[str, Any]]]:
    """Return the number of samples that the model holds, the same by shard and slice, and the checkpoints.

    Args:
        workspace: The workspace of the model.
        published: The model version's row.
        plan: Its training plan.
        trained: The subject's training samples in the model's dataset version.
        risks: Erasure risks of subjects, by id.

    Returns:
        The number of samples in the merged model; that number by (shard, slice), private samples only; the
        checkpoints that were trained on any of the samples.
    """
    from expunge.exact.placement import place_sample

    private = Counter(tuple(place_sample(plan, s, risks)) for s in trained if not s.public)
    public = sum(1 for s in trained if s.public)
    composition = _json(published["composition"]) or {}
    stages = {int(shard): stage for shard, stage in composition.get("stages", {}).items()}
    whole = bool(composition.get("polish"))
    merged = {
        (shard, part): count
        for (shard, part), count in private.items()
        if whole or stages.get(shard, 0) > part
    }
    everywhere = {"polish"} if private else set()
    if public:
        everywhere = {"public", "shard", "polish"}
    states = [
        dict(row)
        for row in workspace.query(
            "SELECT phase, shard, stage, key FROM checkpoint WHERE model_id = :model",
            model=published["model_id"],
        )
        if row["phase"] in everywhere
        or (
            row["phase"] == "shard"
            and any(row["shard"] == shard and row["stage"] > part for shard, part in private)
        )
    ]
    states.sort(key=lambda s: (s["phase"] != "public", s["phase"] == "polish", s["shard"], s["stage"]))
    return sum(merged.values()) + public, merged, states


def _json(value: Any) -> Any:
    """Return the value of a JSON column, which is text in SQLite and decoded in PostgreSQL."""
    return json.loads(value) if isinstance(value, str) else value


def _time(value: Any) -> str:
    """Return a time of the catalog (UTC, without zone) as ISO 8601."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC).isoformat(timespec="seconds")

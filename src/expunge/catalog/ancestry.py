# SPDX-License-Identifier: Apache-2.0
"""Which model versions hold what was erased: by their own data, by their start, or by equal tensors.

Versions are matched by digests alone, whatever their names and datasets. A file is taken for a version where
its tensors are those of the version, or the same rounded to fp16, as Ultralytics saves them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog.derivatives import requests_seen
from expunge.catalog.derived_tables import PublishedFileRow
from expunge.catalog.models import Published, history
from expunge.catalog.tables import SawRow, StartRow
from expunge.errors import InputError

ROUNDED = "rounded:"  # prefix of the digest of a file's tensors rounded to fp16, among the published files
Kind = Literal["data", "start", "tensors"]


@dataclass(frozen=True)
class Link:
    """How a version came to hold something: by its own data, or from another version."""

    kind: Kind
    source: int


@dataclass(frozen=True)
class Ancestry:
    """All versions, with the digests by which they and their starts are known.

    Attributes:
        versions: By id.
        keys: For each version the digests of its tensors, as they are and rounded to fp16.
        starts: For each version the digests of what its training began from.
    """

    versions: Mapping[int, Published]
    keys: Mapping[int, frozenset[str]]
    starts: Mapping[int, frozenset[str]]

    def named(self, digests: Collection[str]) -> list[Published]:
        """Return the versions that are known by one of some digests, newest first."""
        wanted = set(digests)
        return [self.versions[i] for i in sorted(self.versions, reverse=True) if self.keys[i] & wanted]

    def matching(self, digests: Collection[str], held: Mapping[int, Collection[str]]) -> list[Published]:
        """Return the same, without ensembles that hold what was erased where one that does not has the file.

        Args:
            digests: Of a file's tensors.
            held: For each version the requests whose data it holds.
        """
        found = self.named(digests)
        clean = any(p.parts and not held.get(p.id) for p in found)
        return [p for p in found if not (clean and p.parts and held.get(p.id))]

    def held(self, seeds: Mapping[int, Collection[str]]) -> dict[int, dict[str, Link]]:
        """Return for each version the requests whose data it holds, and how it came to hold it.

        Args:
            seeds: For each version the requests whose data it was trained on itself.
        """
        found: dict[int, dict[str, Link]] = defaultdict(dict)
        todo = [(i, request) for i, requests in seeds.items() if i in self.versions for request in requests]
        for i, request in todo:
            found[i][request] = Link("data", i)
        seeded = set(todo)
        by_digest, by_start, by_key = self._indices()
        cleared = {i: set((p.composition or {}).get("forgotten", ())) for i, p in self.versions.items()}
        while todo:
            i, request = todo.pop()
            links = [(j, Link("tensors", i)) for j in by_key[self.versions[i].digest]]
            for key in self.keys[i]:
                owners = {j for j in by_key[key] if self.versions[j].parts}
                if self.versions[i].parts and any((j, request) not in seeded for j in owners):
                    continue  # a part of an ensemble that did not see it either
                links += [(j, Link("start", i)) for j in by_start[key]]
                links += [(j, Link("tensors", i)) for j in by_digest[key]]
            for j, link in links:
                if request not in found[j] and request not in cleared[j]:
                    found[j][request] = link
                    todo.append((j, request))
        return {i: dict(requests) for i, requests in found.items() if requests}

    def _indices(self) -> tuple[dict[str, list[int]], dict[str, list[int]], dict[str, list[int]]]:
        """Versions by their digest, by a digest of their start, and by any digest of their tensors."""
        by_digest: dict[str, list[int]] = defaultdict(list)
        by_start: dict[str, list[int]] = defaultdict(list)
        by_key: dict[str, list[int]] = defaultdict(list)
        for i, version in self.versions.items():
            by_digest[version.digest].append(i)
            for digest in self.starts[i]:
                by_start[digest].append(i)
            for digest in self.keys[i]:
                by_key[digest].append(i)
        return by_digest, by_start, by_key


def load(session: Session) -> Ancestry:
    """Read all versions with the digests of their tensors and of their starts."""
    versions = {p.id: p for p in history(session)}
    keys: dict[int, set[str]] = {i: {p.digest, *(p.parts or ())} for i, p in versions.items()}
    query = select(PublishedFileRow.model_version_id, PublishedFileRow.digest).where(
        PublishedFileRow.digest.startswith(ROUNDED) | PublishedFileRow.digest.startswith("tensors:")
    )
    for version, digest in session.execute(query):
        if version in keys:  # else somebody deleted the version by hand; `verify` reports that
            keys[version].add(f"sha256:{digest.partition(':')[2]}")
    plans: dict[str, set[str]] = defaultdict(set)
    adopted: dict[int, set[str]] = defaultdict(set)
    for row in session.scalars(select(StartRow)):
        if row.plan_digest is not None:
            plans[row.plan_digest].add(row.digest)
        if row.model_version_id is not None:
            adopted[row.model_version_id].add(row.digest)
    starts: dict[int, frozenset[str]] = {}
    inherited: dict[str, set[str]] = defaultdict(set)  # an unlearned version began where the adopted one did
    for i, p in versions.items():
        if p.plan_digest is None and p.method == "adopt":
            inherited[p.name] = adopted[i]
        starts[i] = frozenset(inherited[p.name] if p.plan_digest is None else plans[p.plan_digest])
    return Ancestry(versions, {i: frozenset(found) for i, found in keys.items()}, starts)


def requests_held(session: Session) -> dict[int, tuple[str, ...]]:
    """Return for each version (by id) the requests whose data it holds, through starts and copies too."""
    known = load(session)
    found = known.held(trained_on(session, known.versions))
    return {i: tuple(sorted(found.get(i, ()))) for i in known.versions}


def trained_on(session: Session, versions: Mapping[int, Published]) -> dict[int, set[str]]:
    """Return for each version the requests that erased, later, what it was trained on itself.

    What was recorded with an erasure counts. Where nothing was (an earlier release did it), and for results
    of adopted models, the dataset's versions tell.
    """
    recorded: dict[int, set[str]] = defaultdict(set)
    for version, request in session.execute(select(SawRow.model_version_id, SawRow.request_id)):
        recorded[version].add(request)
    known = set[str]().union(*recorded.values())
    for version, requests in requests_seen(session).items():
        if version not in versions:
            continue  # published by another process since the versions were read
        adopted = versions[version].plan_digest is None
        recorded[version] |= {request for request in requests if adopted or request not in known}
    return dict(recorded)


def requests_of_start(session: Session, digests: Collection[str]) -> dict[str, Published]:
    """Return the requests that erased what a start had seen, each with the version that the start is."""
    if not digests:
        return {}
    known, held = load(session), requests_held(session)
    return {request: p for p in known.matching(digests, held) for request in held[p.id]}


def check_plan(session: Session, plan_digest: str, model: str) -> None:
    """Raise an error if trainings under a plan begin from weights that saw what was erased.

    Raises:
        InputError: If so: an erasure came while the model was trained.
    """
    requests = requests_of_start(session, starts_of_plan(session, plan_digest))
    if requests:
        version = next(iter(requests.values()))
        raise InputError(
            f"The start of {model!r} saw what was erased while the model was trained.",
            f"It is {version.label}, or was trained from it. Nothing was published.",
            "Train the model from another start.",
        )


def starts_of_plan(session: Session, plan_digest: str) -> frozenset[str]:
    """Return the digests of what trainings under a plan begin from, as far as they are recorded."""
    return frozenset(session.scalars(select(StartRow.digest).where(StartRow.plan_digest == plan_digest)))


def add_starts(
    session: Session,
    digests: Iterable[str],
    *,
    plan_digest: str | None = None,
    model_version_id: int | None = None,
) -> None:
    """Record what a plan's trainings, or an adopted model's, began from; what is recorded stays."""
    query = select(StartRow.digest).where(
        StartRow.plan_digest.is_(None) if plan_digest is None else StartRow.plan_digest == plan_digest,
        StartRow.model_version_id.is_(None)
        if model_version_id is None
        else StartRow.model_version_id == model_version_id,
    )
    for digest in sorted(set(digests) - set(session.scalars(query))):
        session.add(StartRow(plan_digest=plan_digest, model_version_id=model_version_id, digest=digest))
    session.flush()


def record_saw(session: Session, version_ids: Iterable[int], request_id: str) -> None:
    """Record that model versions were trained on what a request erases."""
    for version_id in sorted(set(version_ids)):
        session.merge(SawRow(model_version_id=version_id, request_id=request_id))
    session.flush()


def tainted_plans(session: Session) -> set[str]:
    """Return the plans whose trainings begin from weights that saw what was erased."""
    held, known = requests_held(session), load(session)
    bad = {key for i, requests in held.items() if requests for key in known.keys[i]}
    query = select(StartRow.plan_digest, StartRow.digest).where(StartRow.plan_digest.is_not(None))
    return {str(plan) for plan, digest in session.execute(query) if digest in bad}

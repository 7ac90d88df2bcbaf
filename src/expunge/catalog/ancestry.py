# SPDX-License-Identifier: Apache-2.0
"""Find the model versions that hold erased data: by their training data, their start, or equal tensors.

Versions are matched only by digest, whatever their names and datasets. A file matches a version if its
tensors equal those of the version, or equal them after rounding to fp16, as Ultralytics saves them.
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
from expunge.catalog.model_store import ModelVersion, model_versions
from expunge.catalog.tables import StartRow, TrainedOnRow
from expunge.errors import InputError

ROUNDED = "rounded:"  # in the published files: prefix of a digest over tensors rounded to fp16
Kind = Literal["data", "start", "tensors"]


@dataclass(frozen=True)
class Link:
    """The reason why a version holds erased data: its own training data, or another version.

    Attributes:
        kind: ``data``, ``start`` or ``tensors``.
        source: Id of the version that the data came from.
    """

    kind: Kind
    source: int


@dataclass(frozen=True)
class Ancestry:
    """All model versions, with the digests of their tensors and of their starts.

    Attributes:
        versions: Versions by id.
        keys: For each version id, the digests of its tensors, exact and rounded to fp16.
        starts: For each version id, the digests of the weights from which its training started.
    """

    versions: Mapping[int, ModelVersion]
    keys: Mapping[int, frozenset[str]]
    starts: Mapping[int, frozenset[str]]

    def named(self, digests: Collection[str]) -> list[ModelVersion]:
        """Return the versions that have any of the given tensor digests, newest first."""
        wanted = set(digests)
        return [self.versions[i] for i in sorted(self.versions, reverse=True) if self.keys[i] & wanted]

    def matching(self, digests: Collection[str], held: Mapping[int, Collection[str]]) -> list[ModelVersion]:
        """Return the versions that match a file, newest first.

        Where an ensemble free of erased data contains the file, ensembles with erased data are left out.

        Args:
            digests: Digests of the file's tensors.
            held: For each version id, the requests whose data the version holds.
        """
        found = self.named(digests)
        clean = any(p.parts and not held.get(p.id) for p in found)
        return [p for p in found if not (clean and p.parts and held.get(p.id))]

    def held(self, seeds: Mapping[int, Collection[str]]) -> dict[int, dict[str, Link]]:
        """Return, for each version id, the requests whose data the version holds, and the reason.

        Args:
            seeds: For each version id, the requests whose data the version itself was trained on.
        """
        found: dict[int, dict[str, Link]] = defaultdict(dict)
        pending = [
            (i, request) for i, requests in seeds.items() if i in self.versions for request in requests
        ]
        for i, request in pending:
            found[i][request] = Link("data", i)
        seeded = set(pending)
        by_digest, by_start, by_key = self._indices()
        cleared = {i: set((p.composition or {}).get("forgotten", ())) for i, p in self.versions.items()}
        while pending:
            i, request = pending.pop()
            links = [(j, Link("tensors", i)) for j in by_key[self.versions[i].digest]]
            for key in self.keys[i]:
                owners = {j for j in by_key[key] if self.versions[j].parts}
                if self.versions[i].parts and any((j, request) not in seeded for j in owners):
                    continue  # the file is also part of an ensemble that was not trained on the data
                links += [(j, Link("start", i)) for j in by_start[key]]
                links += [(j, Link("tensors", i)) for j in by_digest[key]]
            for j, link in links:
                if request not in found[j] and request not in cleared[j]:
                    found[j][request] = link
                    pending.append((j, request))
        return {i: dict(requests) for i, requests in found.items() if requests}

    def _indices(self) -> tuple[dict[str, list[int]], dict[str, list[int]], dict[str, list[int]]]:
        """Return version ids by version digest, by start digest, and by tensor digest."""
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


def load_ancestry(session: Session) -> Ancestry:
    """Read all versions with the digests of their tensors and of their starts."""
    versions = {p.id: p for p in model_versions(session)}
    keys: dict[int, set[str]] = {i: {p.digest, *(p.parts or ())} for i, p in versions.items()}
    query = select(PublishedFileRow.model_version_id, PublishedFileRow.digest).where(
        PublishedFileRow.digest.startswith(ROUNDED) | PublishedFileRow.digest.startswith("tensors:")
    )
    for version, digest in session.execute(query):
        if version in keys:  # a version deleted by hand is missing here; `verify` reports it
            keys[version].add(f"sha256:{digest.partition(':')[2]}")
    plans: dict[str, set[str]] = defaultdict(set)
    adopted: dict[int, set[str]] = defaultdict(set)
    for row in session.scalars(select(StartRow)):
        if row.plan_digest is not None:
            plans[row.plan_digest].add(row.digest)
        if row.model_version_id is not None:
            adopted[row.model_version_id].add(row.digest)
    starts: dict[int, frozenset[str]] = {}
    inherited: dict[str, set[str]] = defaultdict(set)  # unlearned versions share the adopted model's start
    for i, p in versions.items():
        if p.plan_digest is None and p.method == "adopt":
            inherited[p.name] = adopted[i]
        starts[i] = frozenset(inherited[p.name] if p.plan_digest is None else plans[p.plan_digest])
    return Ancestry(versions, {i: frozenset(found) for i, found in keys.items()}, starts)


def requests_held(session: Session) -> dict[int, tuple[str, ...]]:
    """Return, for each version id, the requests whose data it holds, including through starts and copies."""
    known = load_ancestry(session)
    found = known.held(trained_on(session, known.versions))
    return {i: tuple(sorted(found.get(i, ()))) for i in known.versions}


def trained_on(session: Session, versions: Mapping[int, ModelVersion]) -> dict[int, set[str]]:
    """Return, for each version id, the requests that later erased some of its own training data.

    The record written with an erasure is used if there is one. Erasures by earlier releases have none; for
    these, and for results of adopted models, the answer is derived from the dataset's versions.
    """
    recorded: dict[int, set[str]] = defaultdict(set)
    for version, request in session.execute(select(TrainedOnRow.model_version_id, TrainedOnRow.request_id)):
        recorded[version].add(request)
    known = set[str]().union(*recorded.values())
    for version, requests in requests_seen(session).items():
        if version not in versions:
            continue  # published by another process since the versions were read
        adopted = versions[version].plan_digest is None
        recorded[version] |= {request for request in requests if adopted or request not in known}
    return dict(recorded)


def requests_of_start(session: Session, digests: Collection[str]) -> dict[str, ModelVersion]:
    """Return the requests that erased training data of a start, each with the version that the start is.

    Args:
        session: A session on the catalog.
        digests: Digests of the start's tensors.
    """
    if not digests:
        return {}
    known, held = load_ancestry(session), requests_held(session)
    return {request: p for p in known.matching(digests, held) for request in held[p.id]}


def check_plan(session: Session, plan_digest: str, model: str) -> None:
    """Check that trainings under a plan start from weights free of erased data.

    Raises:
        InputError: If an erasure during the training affects the start.
    """
    requests = requests_of_start(session, starts_of_plan(session, plan_digest))
    if requests:
        version = next(iter(requests.values()))
        raise InputError(
            f"The start of {model!r} was trained on data that was erased while the model was trained.",
            f"The start is {version.label}, or was trained from it. Nothing was published.",
            "Train the model from another start.",
        )


def starts_of_plan(session: Session, plan_digest: str) -> frozenset[str]:
    """Return the recorded digests of the weights from which trainings under a plan start."""
    return frozenset(session.scalars(select(StartRow.digest).where(StartRow.plan_digest == plan_digest)))


def add_starts(
    session: Session,
    digests: Iterable[str],
    *,
    plan_digest: str | None = None,
    model_version_id: int | None = None,
) -> None:
    """Record the start of a plan's trainings or of an adopted model. Existing records are kept.

    Args:
        session: A session on the catalog, for writing.
        digests: Digests of the start's tensors.
        plan_digest: The plan, or None for an adopted model.
        model_version_id: The adopted model's version, or None for a plan.
    """
    query = select(StartRow.digest).where(
        StartRow.plan_digest.is_(None) if plan_digest is None else StartRow.plan_digest == plan_digest,
        StartRow.model_version_id.is_(None)
        if model_version_id is None
        else StartRow.model_version_id == model_version_id,
    )
    for digest in sorted(set(digests) - set(session.scalars(query))):
        session.add(StartRow(plan_digest=plan_digest, model_version_id=model_version_id, digest=digest))
    session.flush()


def record_trained_on(session: Session, version_ids: Iterable[int], request_id: str) -> None:
    """Record that model versions were trained on data that a request erases."""
    for version_id in sorted(set(version_ids)):
        session.merge(TrainedOnRow(model_version_id=version_id, request_id=request_id))
    session.flush()


def tainted_plans(session: Session) -> set[str]:
    """Return the digests of the plans whose trainings start from weights trained on erased data."""
    held, known = requests_held(session), load_ancestry(session)
    tainted = {key for i, requests in held.items() if requests for key in known.keys[i]}
    query = select(StartRow.plan_digest, StartRow.digest).where(StartRow.plan_digest.is_not(None))
    return {str(plan) for plan, digest in session.execute(query) if digest in tainted}

# SPDX-License-Identifier: Apache-2.0
"""Consistency rules for a decoded statement; a valid signature does not replace them.

Every certificate that this program issues satisfies each rule. Whether a statement is true is not checked
here: that needs the workspace, a replay or an audit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from expunge.catalog.states import State
from expunge.evidence.statement import (
    GUARANTEES,
    Dates,
    Interim,
    Model,
    Predicate,
    Statement,
    claims_unchanged_model,
    subjects,
)

# Methods whose results are exact by construction; ``train``: the user trained the model again.
EXACT_METHODS = frozenset({"exact", "retrain", "train"})
UNTOUCHED = "none"  # nothing had to be done: the model keeps its weights and its guarantee
WITHOUT_CHANGE = (UNTOUCHED, "exact", "retrain")  # methods for a model that was not trained on erased data
EXACT = ("exact", "exact-interim")


def find(statement: Statement) -> dict[str, str]:
    """Return the contradictions in a statement as messages, keyed by the name of the check."""
    predicate = statement.predicate
    rules: dict[str, Callable[[], str | None]] = {
        "dates": lambda: _dates(predicate),
        "models": lambda: _models(predicate),
        "subjects": lambda: _subjects(statement),
        "guarantees": lambda: _guarantees(predicate),
        "manifest": lambda: _manifest(predicate),
        "change": lambda: _change(predicate),
    }
    found = {name: rule() for name, rule in rules.items()}
    return {name: problem for name, problem in found.items() if problem is not None}


def _dates(predicate: Predicate) -> str | None:
    read: dict[str, datetime] = {}
    for name, text in _moments(predicate.dates).items():
        moment = _moment(text)
        if moment is None:
            return f"'{name}' is no date"
        if moment.tzinfo is None:
            return f"'{name}' has no time zone"
        read[name] = moment
    for name in ("issued", "due", "extended"):
        if name in read and read[name] < read["received"]:
            return f"'{name}' lies before 'received'"
    for purge in predicate.purged:
        at = _moment(purge.at)
        if at is None:
            return "a purge has no date"
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if not read["received"] <= at <= read["issued"]:
            return "a purge lies before 'received' or after 'issued'"
    return None


def _moments(dates: Dates) -> dict[str, str]:
    return {name: text for name, text in dates.model_dump().items() if text is not None}


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _models(predicate: Predicate) -> str | None:
    labels: set[str] = set()
    for entry in predicate.models:
        if problem := _model(entry):
            return f"{entry.model}: {problem}"
        for part in (entry.interim, entry):
            if part is None or part.digest is None:
                continue
            if part.model in labels:
                return f"{part.model}: it stands there twice"
            labels.add(part.model)
    return None


def _model(entry: Model) -> str | None:
    if any(cost is not None and cost < 0 for cost in entry.cost.values()):
        return "a cost is negative"
    if (entry.parent is None) != (entry.parent_digest is None):
        return "the model before has a label and no digest, or a digest and no label"
    if entry.digest is not None and entry.parent_digest is None:
        return "it has a digest after and none before"
    if _weights_without_digest(entry) or (
        entry.interim is not None and _weights_without_digest(entry.interim)
    ):
        return "it has files of weights and no digest"
    if entry.digest is not None and entry.model == entry.parent and entry.digest != entry.parent_digest:
        return "one version has two digests, before and after"
    if entry.method == UNTOUCHED and entry.digest != entry.parent_digest:
        return "nothing was done with it, and yet its digest changed"
    return None


def _weights_without_digest(part: Model | Interim) -> bool:
    return part.digest is None and bool(part.weights)


def _subjects(statement: Statement) -> str | None:
    wanted = subjects(statement.predicate.model_dump())
    stated = {subject.name: subject.digest for subject in statement.subject}
    if stated == wanted and len(stated) == len(statement.subject):
        return None
    names = sorted(n for n in stated.keys() | wanted.keys() if stated.get(n) != wanted.get(n))
    return f"the digests of {', '.join(names) or 'a name given twice'} contradict the models"


def _guarantees(predicate: Predicate) -> str | None:
    if unknown := sorted(predicate.guarantees.keys() - GUARANTEES.keys()):
        return f"'{unknown[0][:40]}' is no guarantee of this format"
    for entry in predicate.models:
        if problem := _guarantee(entry):
            return f"{entry.model}: {problem}"
        defined = predicate.guarantees.get(entry.guarantee) == GUARANTEES[entry.guarantee]
        if entry.guarantee != "none" and not defined:
            return f"{entry.model}: the definition of '{entry.guarantee}' is not the one of this format"
    return None


def _guarantee(entry: Model) -> str | None:
    stated, untouched = entry.guarantee, entry.method == UNTOUCHED
    if stated in EXACT:
        if entry.plan is None or entry.verdict is not None:
            return f"'{stated}' is for models with a plan, which no audit has to judge"
        if entry.method not in EXACT_METHODS and not untouched:
            return f"'{stated}' by the method '{entry.method[:40]}', which is approximate"
    if stated == "exact" and entry.digest is None:
        return "'exact' without a digest"
    if stated == "exact-interim" and entry.digest is None and entry.interim is None:
        return "'exact-interim' without a model"
    passed = entry.verdict in ("pass", "no-power") or entry.method == "retrain"
    if stated == "audited" and not untouched and (entry.audit is None or not passed):
        return "'audited' without an audit that passed, or could tell nothing"
    return None


def _manifest(predicate: Predicate) -> str | None:
    before, after, removed = predicate.manifest.before, predicate.manifest.after, predicate.manifest.removed
    if before.leaves - removed.leaves != after.leaves or removed.leaves > before.leaves:
        return f"{before.leaves} leaves before, less {removed.leaves}, are not {after.leaves} after"
    if removed.leaves == 0 and before.root != after.root:
        return "nothing was removed, and yet the root changed"
    if removed.leaves and before.root == after.root:
        return "something was removed, and yet the root is the same"
    if removed.leaves and predicate.dataset.before == predicate.dataset.after:
        return "something was removed, and yet the version is the same"
    if removed.leaves and not predicate.removed.samples:
        return f"no sample was removed, and yet {removed.leaves} leaves are gone"
    if removed.leaves and predicate.removed.samples > before.leaves:
        return f"{predicate.removed.samples} samples were removed of {before.leaves}"
    forgotten = predicate.catalog.forgotten
    if forgotten != (predicate.state == State.CLOSED):
        verb = "has forgotten" if forgotten else "has not forgotten"
        return f"the request is {predicate.state[:20]}, and the catalog {verb} it"
    return None


def _change(predicate: Predicate) -> str | None:
    for entry in predicate.models:
        if claims_unchanged_model(entry.model_dump()):
            return f"{entry.model}: it has the tensors of {entry.parent}, from before: nothing was changed"
        if entry.model != entry.parent or entry.digest is None:
            continue
        if entry.digest != entry.parent_digest:
            return f"{entry.model}: it is its own parent, and has two digests"
        if entry.method not in WITHOUT_CHANGE:
            return f"{entry.model}: '{entry.method}' was run, and nothing was changed"
    return None

# SPDX-License-Identifier: Apache-2.0
"""Builds the results of the models in a request's record, including those lost in a crash."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

from expunge.catalog import model_store
from expunge.catalog.model_store import WITHDRAW, ModelVersion
from expunge.erasure.withdrawal import withdrawn_entry
from expunge.evidence.statement import claims_unchanged_model
from expunge.exact.model import plan_file
from expunge.training.fingerprint import fingerprint
from expunge.training.plan import load_plan

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FINAL = ("exact", "audited")


def finished(entry: dict[str, Any]) -> bool:
    """Return whether nothing is left to do for a model: its result is accepted, or it is withdrawn."""
    return entry["method"] == WITHDRAW or bool(entry["digest"] and entry.get("accepted", True))


def build_model_results(
    workspace: Workspace,
    names: list[str],
    stored: list[dict[str, Any]],
    new: list[dict[str, Any]],
    current: dict[str, ModelVersion],
    holding: Container[str],
) -> list[dict[str, Any]]:
    """Return the result of each model of a request, in the form of ``models`` in ``forget --json``.

    Args:
        workspace: The workspace of the models.
        names: Names of the models that the request concerns.
        stored: The results on record.
        new: New results.
        current: Newest version of every live model, by name.
        holding: Names of models that still hold data erased by the request. Their newest version may be a
            result for another request, but not for this one.
    """
    done = {_name(m["model"]): m for m in new if _name(m["model"]) in names}
    order = [_name(m["model"]) for m in stored]
    models = [m for m in stored if _name(m["model"]) not in done]
    models = sorted([*models, *done.values()], key=lambda m: _position(order, _name(m["model"])))
    present = {_name(m["model"]) for m in models}
    results = {name: now for name, now in current.items() if name not in holding and _is_result(now)}
    models = [_refreshed(workspace, m, results.get(_name(m["model"]))) for m in models]
    missing = [name for name in names if name not in present and name in current]
    models += [
        _unchanged(current[name]) if name in holding else _recovered(workspace, current[name])
        for name in missing
    ]
    return [_without_claim(m) if claims_unchanged_model(m) else m for m in models]


def _without_claim(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a corrected entry of an earlier release that published the original model as a result."""
    nothing = dict.fromkeys(("digest", "weights", "metrics_after"))
    return {**entry, **nothing, "model": entry["parent"], "guarantee": "none", "accepted": False,
            "verdict": "fail"}  # fmt: skip


def _position(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _name(label: str) -> str:
    return str(label).partition("@")[0]


def _refreshed(workspace: Workspace, entry: dict[str, Any], now: ModelVersion | None) -> dict[str, Any]:
    """Return an unfinished entry with the version that a later repair has published, if any."""
    if finished(entry) or now is None:
        return entry
    measured = (now.cost or {}).get("measured")
    final = {"cost_measured": measured, "metrics_after": now.metrics, "accepted": True, "method": now.method}
    if now.judged is None and entry.get("audit"):  # the audit belongs to a result that this one replaces
        kept = {k: v for k, v in entry.items() if k not in ("audit", "reasons", "attempt")}
        entry = {**kept, "verdict": None}
    return {**entry, **_published(workspace, now), **final, **(now.judged or {})}


def _unchanged(now: ModelVersion) -> dict[str, Any]:
    """Return the entry of a model whose update has not begun."""
    nothing = ("digest", "weights", "cost_predicted", "cost_measured", "metrics_after", "verdict", "interim")
    return {
        **dict.fromkeys(nothing),
        "model": now.label,
        "parent": now.label,
        "parent_digest": now.digest,
        "method": now.method,
        "plan": now.plan_digest,
        "metrics_before": now.metrics,
        "guarantee": "none",
        "composition": now.composition,
    }


def _recovered(workspace: Workspace, now: ModelVersion) -> dict[str, Any]:
    """Return the entry of a model whose command was killed before it recorded one."""
    if now.withdrawn:
        return withdrawn_entry(workspace, now)
    with workspace.session() as session:
        versions = {p.number: p for p in model_store.model_versions(session, now.name)}
    parent = replaced_version(now, versions)
    entry = {
        "parent": parent.label if parent else None,
        "parent_digest": parent.digest if parent else None,
        "method": now.method,
        "plan": now.plan_digest,
        "cost_predicted": (now.cost or {}).get("predicted"),
        "cost_measured": (now.cost or {}).get("measured"),
        "metrics_before": parent.metrics if parent else None,
        "metrics_after": now.metrics,
        "verdict": None,
        "interim": None,
        **_published(workspace, now),
        **(now.judged or {}),
    }
    if _is_result(now):
        return entry
    if now.plan_digest is None:  # an adopted model has no interim model
        return {**entry, "digest": None, "weights": None, "guarantee": "none"}
    published = {k: entry[k] for k in ("model", "digest", "weights", "composition")}
    interim = {**published, "seconds": None, "metrics": now.metrics}
    return {**entry, "digest": None, "weights": None, "interim": interim}


def replaced_version(now: ModelVersion, versions: Mapping[int, ModelVersion]) -> ModelVersion | None:
    """Return the version that a result replaces: its nearest ancestor that counts as its parent.

    Skipped are, for adopted models, versions that the audit rejected (a repeated attempt gives the same
    tensors), and for erasable models, versions with the same tensors (an interim model without a shard equals
    the final one if nothing of the shard is left).

    Args:
        now: The result.
        versions: All versions of the model, by number.
    """
    parent = found = versions.get(now.parent) if now.parent is not None else None
    while found is not None and (
        _is_rejected(found) if now.plan_digest is None else found.digest == now.digest
    ):
        found = versions.get(found.parent) if found.parent is not None else None
    return found or parent


def _is_rejected(published: ModelVersion) -> bool:
    """Return whether the audit rejected a version of an adopted model."""
    return published.guarantee == "none" and published.method != "adopt"


def _is_result(now: ModelVersion) -> bool:
    """Return whether a model's newest version is a result, and not superseded until the repair.

    Newly adopted weights are a result without a guarantee.
    """
    return (now.guarantee in FINAL or now.method == "adopt") and now.state != "superseded"


def _published(workspace: Workspace, now: ModelVersion) -> dict[str, Any]:
    """Return the fields of an entry that describe the published version."""
    return {
        "model": now.label,
        "digest": now.digest,
        "weights": str(workspace.root / now.weights),
        "guarantee": now.guarantee,
        "composition": now.composition,
    }


def environment(workspace: Workspace, models: list[dict[str, Any]]) -> dict[str, Any]:
    """Return by plan digest the fingerprint of the environment in which this machine executes the plan."""
    digests = sorted({m["plan"] for m in models if m.get("plan")})
    plans = [load_plan(plan_file(workspace, digest)) for digest in digests]
    return {digest: fingerprint(p.threads, p.isa) for digest, p in zip(digests, plans, strict=True)}

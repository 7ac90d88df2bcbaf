# SPDX-License-Identifier: Apache-2.0
"""What a request's record says of each model: brought up to date, or found again after a crash."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.catalog.models import WITHDRAW, Published
from expunge.evidence.statement import claims_nothing_done
from expunge.exact.fingerprint import fingerprint
from expunge.exact.model import plan_file
from expunge.exact.plan import load_plan
from expunge.steps.withdrawal import withdrawn_entry

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FINAL = ("exact", "audited")


def finished(entry: dict[str, Any]) -> bool:
    """Whether nothing is left to be done for a model: its result is accepted, or it is withdrawn."""
    return entry["method"] == WITHDRAW or bool(entry["digest"] and entry.get("accepted", True))


def gather(
    workspace: Workspace,
    asked: list[str],
    stored: list[dict[str, Any]],
    new: list[dict[str, Any]],
    current: dict[str, Published],
    held: Container[str],
) -> list[dict[str, Any]]:
    """Return the entry of each model that a request concerns.

    Args:
        workspace: Where models are known.
        asked: Names of the models that it concerns.
        stored: The entries on record.
        new: What was just done.
        current: The newest version of every live model.
        held: Models that still hold what the request erased: their newest version is no result for it, though
            it may be one for another request.
    """
    done = {_name(m["model"]): m for m in new if _name(m["model"]) in asked}
    known = [_name(m["model"]) for m in stored]
    models = [m for m in stored if _name(m["model"]) not in done]
    models = sorted([*models, *done.values()], key=lambda m: _position(known, _name(m["model"])))
    present = {_name(m["model"]) for m in models}
    results = {name: now for name, now in current.items() if name not in held and _final(now)}
    models = [_refreshed(workspace, m, results.get(_name(m["model"]))) for m in models]
    missing = [name for name in asked if name not in present and name in current]
    models += [
        _untouched(current[name]) if name in held else _recovered(workspace, current[name])
        for name in missing
    ]
    return [_without_claim(m) if claims_nothing_done(m) else m for m in models]


def _without_claim(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of an earlier release, which published the original as a result: nothing was done."""
    nothing = dict.fromkeys(("digest", "weights", "metrics_after"))
    return {**entry, **nothing, "model": entry["parent"], "guarantee": "none", "accepted": False,
            "verdict": "fail"}  # fmt: skip


def _position(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _name(label: str) -> str:
    return str(label).partition("@")[0]


def _refreshed(workspace: Workspace, entry: dict[str, Any], now: Published | None) -> dict[str, Any]:
    """An entry whose repair was pending, once a later training has published the final model."""
    if finished(entry) or now is None:
        return entry
    measured = (now.cost or {}).get("measured")
    final = {"cost_measured": measured, "metrics_after": now.metrics, "accepted": True, "method": now.method}
    if now.judged is None and entry.get("audit"):  # of a result that this one replaces
        kept = {k: v for k, v in entry.items() if k not in ("audit", "reasons", "attempt")}
        entry = {**kept, "verdict": None}
    return {**entry, **_published(workspace, now), **final, **(now.judged or {})}


def _untouched(now: Published) -> dict[str, Any]:
    """The entry of a model that nothing was done for yet: its newest version is the one from before."""
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


def _recovered(workspace: Workspace, now: Published) -> dict[str, Any]:
    """The entry of a request whose command was killed before it could record one."""
    if now.withdrawn:
        return withdrawn_entry(workspace, now)
    with workspace.session() as session:
        versions = {p.number: p for p in catalog.history(session, now.name)}
    parent = made_from(now, versions)
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
    if _final(now):
        return entry
    if now.plan_digest is None:  # adopted: there is nothing clean to show before the result
        return {**entry, "digest": None, "weights": None, "guarantee": "none"}
    shown = {k: entry[k] for k in ("model", "digest", "weights", "composition")}
    interim = {**shown, "seconds": None, "metrics": now.metrics}
    return {**entry, "digest": None, "weights": None, "interim": interim}


def made_from(now: Published, versions: Mapping[int, Published]) -> Published | None:
    """Return the version that a version replaced as a result.

    Of adopted models it is none that the audit turned down: the same attempt again gives the same tensors.
    Of erasable ones it is none of the same tensors: an interim that lacks a shard is final where nothing of
    the shard is left.
    """
    parent = found = versions.get(now.parent) if now.parent is not None else None
    while found is not None and (
        _turned_down(found) if now.plan_digest is None else found.digest == now.digest
    ):
        found = versions.get(found.parent) if found.parent is not None else None
    return found or parent


def _turned_down(published: Published) -> bool:
    return published.guarantee == "none" and published.method != "adopt"


def _final(now: Published) -> bool:
    """Whether a model's newest version is a result; one that was withdrawn until the repair is none.

    So is weights that were handed in anew, if they do not hold what was erased; no guarantee goes with them.
    """
    return (now.guarantee in FINAL or now.method == "adopt") and now.state != "superseded"


def _published(workspace: Workspace, now: Published) -> dict[str, Any]:
    return {
        "model": now.label,
        "digest": now.digest,
        "weights": str(workspace.root / now.weights),
        "guarantee": now.guarantee,
        "composition": now.composition,
    }


def environment(workspace: Workspace, models: list[dict[str, Any]]) -> dict[str, Any]:
    """Return by plan the environment in which it is executed here."""
    plans = {m["plan"] for m in models if m.get("plan")}
    made = [load_plan(plan_file(workspace, digest)) for digest in sorted(plans)]
    return {digest: fingerprint(p.threads, p.isa) for digest, p in zip(sorted(plans), made, strict=True)}

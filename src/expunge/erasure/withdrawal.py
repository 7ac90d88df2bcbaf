# SPDX-License-Identifier: Apache-2.0
"""Withdraws a model that cannot be repaired: its start, or a model it copies, was trained on erased data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, model_store
from expunge.catalog.model_store import WITHDRAW, ModelVersion
from expunge.erasure.descent import Descent
from expunge.errors import InputError
from expunge.exact.model import plan_file
from expunge.exact.runner import polish_start
from expunge.exact.store import CheckpointStore
from expunge.progress import Progress
from expunge.training.plan import Plan, load_plan

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass
class Withdrawal:
    """The withdrawal of one model; the counterpart of :class:`expunge.erasure.exact.Execution`.

    Attributes:
        workspace: The workspace of the model.
        before: The model's newest version.
        descent: How it holds the erased data.
        model_id: Row id of the model.
        request_id: Id of the request.
        progress: Receives progress reports.
    """

    workspace: Workspace
    before: ModelVersion
    descent: Descent
    model_id: int
    request_id: str
    progress: Progress

    def publish_interim(self) -> None:
        """Mark the model as withdrawn and destroy its checkpoints, all of which descend from its start."""
        with self.workspace.session(write=True) as session:
            model_store.withdraw(session, self.before.id, self.request_id)
        if self.before.plan_digest is not None:
            store = CheckpointStore(self.workspace.checkpoints / self.before.name)
            store.destroy(store.stored())
            polish_start(self.workspace.tmp, store).unlink(missing_ok=True)
            with self.workspace.session(write=True) as session:
                keys = [c.key for c in model_store.checkpoints(session, self.model_id)]
                model_store.drop_checkpoints(session, self.model_id, keys)
        self.progress.say(f"withdrew {self.before.label}: {self.descent.reason}")

    def repair(self, defer: bool = False) -> dict[str, Any]:
        """Return the model's entry in ``forget --json``; nothing is trained."""
        entry = withdrawn_entry(self.workspace, self.before, self.descent.reason)
        self.progress.say(f"{self.before.name}: {entry['next']}")
        return entry


def withdrawn_entry(workspace: Workspace, before: ModelVersion, reason: str | None = None) -> dict[str, Any]:
    """Return the entry of a withdrawn model in a request's record.

    Args:
        workspace: The workspace of the model.
        before: Its newest version.
        reason: Why it is withdrawn; None: a general reason.
    """
    empty = ("digest", "weights", "cost_predicted", "cost_measured", "metrics_after", "verdict", "interim")
    return {
        **dict.fromkeys(empty),
        "model": before.label,
        "parent": before.label,
        "parent_digest": before.digest,
        "method": WITHDRAW,
        "plan": before.plan_digest,
        "metrics_before": before.metrics,
        "guarantee": "none",
        "composition": before.composition,
        "reason": reason or "it comes from a version that saw what is erased",
        "next": _retraining_advice(workspace, before),
    }


def _retraining_advice(workspace: Workspace, p: ModelVersion) -> str:
    """Return instructions for training a model of that name again."""
    with workspace.session() as session:
        known, held = ancestry.load_ancestry(session), ancestry.requests_held(session)
    sources = {q.name for q in known.named(known.starts[p.id] | {p.digest})} - {p.name}
    clean = [q for q in known.versions.values() if q.name in sources and _is_clean_start(q, held)]
    newest = {q.name: q for q in clean}
    if p.plan_digest is None:
        also = f", for instance from {sorted(newest)[0]}'s newest version" if newest else ""
        return (
            f"Do not use {p.label}. Train it anew from weights that never saw the data{also}, and adopt that."
        )
    try:
        plan = load_plan(plan_file(workspace, p.plan_digest))
    except InputError:
        return "Do not use it. Train it anew from weights that never saw the data."
    if newest:
        start = newest[sorted(newest)[0]]
        weights = str(workspace.root / start.weights)
        return f"Train it anew from {start.label}: {_train_command(p, plan, weights)}"
    unrepaired = sorted(name for name in sources if name in {q.name for q in known.versions.values()})
    start_text = (
        f"once {unrepaired[0]} is repaired, from its newest version: "
        if unrepaired
        else "from a clean start: "
    )
    return f"Train it anew {start_text}{_train_command(p, plan, 'WEIGHTS')}"


def _is_clean_start(p: ModelVersion, held: dict[int, tuple[str, ...]]) -> bool:
    """Return whether a version is exact, in use, and holds no erased data."""
    return p.state == "current" and p.guarantee == "exact" and not p.withdrawn and not held[p.id]


def _train_command(p: ModelVersion, plan: Plan, weights: str) -> str:
    """Return the command that trains a model with the settings of a plan."""
    words = ["expunge", "train", p.dataset, "--name", p.name, "--weights", weights]
    numbers = {
        "shards": plan.shards,
        "slices": plan.slices,
        "epochs": sum(plan.epochs.stages),
        "imgsz": plan.recipe.imgsz,
        "batch": plan.recipe.batch,
        "seed": plan.seed,
    }
    words += [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    return shlex.join(words)

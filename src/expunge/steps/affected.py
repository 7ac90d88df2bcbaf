# SPDX-License-Identifier: Apache-2.0
"""A live model that an erasure concerns, and what the erasure will mean for it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.catalog.datasets import get_version, load_samples
from expunge.catalog.models import WITHDRAW, Published
from expunge.errors import InputError
from expunge.exact.model import ErasableModel
from expunge.exact.runner import missing
from expunge.progress import Progress
from expunge.steps.descent import Descent

if TYPE_CHECKING:
    from expunge.workspace import Workspace

EXACT = ("auto", "exact", "retrain")


@dataclass
class Affected:
    """A model that was trained erasable, before and after the erasure."""

    published: Published
    before: ErasableModel
    after: ErasableModel
    saw: int

    def cost(self, method: str) -> float | None:
        """Predicted cost in units of a retrain, by image passes that are missing to the final model."""
        passes = sum(node.passes for node in missing(self.after.graph, self.before.store))
        return 1.0 if method == "retrain" else round(passes / max(self.after.graph.passes, 1), 6)

    def preview(self, method: str) -> dict[str, Any]:
        """What erasing will mean for this model."""
        gone = {n.key for n in self.before.graph.nodes} - {n.key for n in self.after.graph.nodes}
        again = {(n.phase, n.shard, n.stage) for n in self.after.graph.nodes}
        cells = [
            {
                "phase": node.phase,
                "shard": node.shard,
                "stage": node.stage,
                "images": len(node.samples),
                "epochs": node.schedule.epochs,
                "retrained": node.key in gone and (node.phase, node.shard, node.stage) in again,
                "dropped": (node.phase, node.shard, node.stage) not in again,
            }
            for node in self.before.graph.nodes
        ]
        public = bool(self.before.graph.public and self.before.graph.public.key in gone)
        return {
            "model": self.published.label,
            "saw": self.saw,
            "method": "retrain" if method == "retrain" else "exact",
            "cost_predicted": self.cost("exact"),
            "public_data": public,
            "map": cells,
        }


@dataclass
class Adopted:
    """A model that was trained elsewhere: it can be unlearned approximately, or trained anew."""

    published: Published
    saw: int
    retained: int
    epochs: int | None

    def cost(self, method: str) -> float | None:
        """Predicted cost in units of a retrain; None where nobody knows what one takes."""
        from expunge.methods.base import get_method
        from expunge.unlearning.run import BUDGET

        if not self.saw:
            return 0.0
        if method == "retrain":
            return 1.0
        if self.epochs is None:
            return None
        return BUDGET if method == "auto" else round(get_method(method).cost / self.epochs, 6)

    def preview(self, method: str) -> dict[str, Any]:
        """What erasing will mean for this model."""
        return {
            "model": self.published.label,
            "saw": self.saw,
            "method": method if self.saw else "none",
            "cost_predicted": self.cost(method),
            "public_data": False,
            "map": [],
        }


@dataclass
class Descendant:
    """A model that holds what goes through its start, or as a copy: it is withdrawn."""

    published: Published
    descent: Descent

    @property
    def saw(self) -> int:
        """How many of the samples the version had from which it comes."""
        return self.descent.saw

    def cost(self, method: str) -> float | None:
        """Nothing is trained: the cost of training it anew is for its user to decide on."""
        return None

    def preview(self, method: str) -> dict[str, Any]:
        """What erasing will mean for this model."""
        return {
            "model": self.published.label,
            "saw": self.saw,
            "method": WITHDRAW,
            "cost_predicted": None,
            "public_data": False,
            "map": [],
            "reason": f"{self.published.label}: {self.descent.reason}",
        }


def affected(
    workspace: Workspace,
    published: Published,
    gone: Container[tuple[str, int]],
    method: str,
    named: bool,
    given: Container[str] = (),
    compares: bool = False,
) -> Affected | Adopted:
    """Say what taking out samples, given by path and version of arrival, means for a model.

    Args:
        workspace: Where the model is known.
        published: Its newest version.
        gone: What is taken out.
        method: What was asked for.
        named: Whether the user named this model.
        given: Names of the hyper-parameters that were given.
        compares: Whether the audit of the result trains models to compare with.

    Raises:
        InputError: If the method does not fit the model, or nothing would be left.
    """
    if published.plan_digest is None:
        return _adopted(workspace, published, gone, method, given, compares)
    if named and method not in EXACT:
        raise InputError(
            f"{published.label} was trained erasable: '{method}' would only give less.",
            "From its checkpoints it forgets exactly, and nobody has to audit that.",
            "Use --method exact, or leave --method out.",
        )
    before = ErasableModel.open(workspace, published, Progress(quiet=True))
    saw = sum(1 for s in before.samples if s.split == "train" and (s.path, s.arrived) in gone)
    after = before.without(gone)
    if saw and not after.graph.nodes:
        _nothing_left(published)
    return Affected(published, before, after, saw)


def _adopted(
    workspace: Workspace,
    published: Published,
    gone: Container[tuple[str, int]],
    method: str,
    given: Container[str],
    compares: bool,
) -> Adopted:
    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        rows = load_samples(session, version, "train", without_erased=True)
    saw = sum(1 for s in rows if (s.path, s.arrived) in gone)
    if saw == len(rows) and rows:
        _nothing_left(published)
    if saw and method == "exact":
        raise InputError(
            f"{published.label} was not trained erasable.",
            "It was adopted: there are no checkpoints from which it could be repeated.",
            "Use --method auto or retrain, or train a model with `expunge train`, which forgets exactly.",
        )
    epochs = (published.composition or {}).get("retrain_epochs")
    told = epochs is not None or (method == "retrain" and "epochs" in given)
    if saw and not told and (method == "retrain" or compares):
        raise InputError(
            f"Nobody knows how long to train {published.label}.",
            "Its file does not say with how many epochs it was trained.",
            "Say so with --set epochs=N."
            if method == "retrain"
            else "Judge at the level quick, and then run `expunge audit` with --epochs N.",
        )
    return Adopted(published, saw, len(rows) - saw, epochs)


def _nothing_left(published: Published) -> None:
    raise InputError(
        f"Nothing would be left to train {published.label} on.",
        "The request takes every sample that the model has.",
        "Withdraw the model instead, or keep at least one sample.",
    )

# SPDX-License-Identifier: Apache-2.0
"""Predicts the impact of an erasure on a model, and its cost: by its kind of training."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from expunge.catalog.dataset_store import get_version, load_samples
from expunge.catalog.model_store import WITHDRAW, ModelVersion
from expunge.erasure.descent import Descent
from expunge.errors import InputError
from expunge.exact.model import ErasableModel
from expunge.exact.runner import missing_nodes
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace

EXACT = ("auto", "exact", "retrain")


@dataclass
class Affected:
    """An erasable model: it can be repaired exactly from its checkpoints.

    Attributes:
        published: Its newest version.
        before: The model with the data of that version.
        after: The model without the erased samples.
        saw: Number of erased training samples.
    """

    published: ModelVersion
    before: ErasableModel
    after: ErasableModel
    saw: int

    def cost(self, method: str) -> float | None:
        """Return the predicted cost in units of a retrain, from the image passes still to be trained."""
        passes = sum(node.passes for node in missing_nodes(self.after.graph, self.before.store))
        return 1.0 if method == "retrain" else round(passes / max(self.after.graph.passes, 1), 6)

    def preview(self, method: str) -> dict[str, Any]:
        """Return the model's entry in ``forget --dry-run --json``."""
        stale = {n.key for n in self.before.graph.nodes} - {n.key for n in self.after.graph.nodes}
        remaining = {(n.phase, n.shard, n.stage) for n in self.after.graph.nodes}
        cells = [
            {
                "phase": node.phase,
                "shard": node.shard,
                "stage": node.stage,
                "images": len(node.samples),
                "epochs": node.schedule.epochs,
                "retrained": node.key in stale and (node.phase, node.shard, node.stage) in remaining,
                "dropped": (node.phase, node.shard, node.stage) not in remaining,
            }
            for node in self.before.graph.nodes
        ]
        public = bool(self.before.graph.public and self.before.graph.public.key in stale)
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
    """An adopted model, trained elsewhere: it can be unlearned approximately, or retrained.

    Attributes:
        published: Its newest version.
        saw: Number of erased training samples.
        retained: Number of retained training samples.
        epochs: Number of epochs of its training; None: unknown.
    """

    published: ModelVersion
    saw: int
    retained: int
    epochs: int | None

    def cost(self, method: str) -> float | None:
        """Return the predicted cost in units of a retrain; None if the number of epochs is unknown."""
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
        """Return the model's entry in ``forget --dry-run --json``."""
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
    """A model that holds erased data through its start or as a copy: it is withdrawn.

    Attributes:
        published: Its newest version.
        descent: How it holds the erased data.
    """

    published: ModelVersion
    descent: Descent

    @property
    def saw(self) -> int:
        """Number of erased training samples of the version from which it descends."""
        return self.descent.saw

    def cost(self, method: str) -> float | None:
        """Return None: nothing is trained for a withdrawn model."""
        return None

    def preview(self, method: str) -> dict[str, Any]:
        """Return the model's entry in ``forget --dry-run --json``."""
        return {
            "model": self.published.label,
            "saw": self.saw,
            "method": WITHDRAW,
            "cost_predicted": None,
            "public_data": False,
            "map": [],
            "reason": f"{self.published.label}: {self.descent.reason}",
        }


def predict_impact(
    workspace: Workspace,
    published: ModelVersion,
    erased: Container[tuple[str, int]],
    method: str,
    named: bool,
    hyperparameters: Container[str] = (),
    needs_references: bool = False,
) -> Affected | Adopted:
    """Return the impact of an erasure on a model that does not descend from another one.

    Args:
        workspace: The workspace of the model.
        published: Its newest version.
        erased: (path, version of arrival) of the rows to erase.
        method: The requested method.
        named: Whether the user named this model.
        hyperparameters: Names of the hyper-parameters that the user set.
        needs_references: Whether the audit of the result trains reference models.

    Raises:
        InputError: If the method does not suit the model, no training sample would be left, or the number of
            epochs is needed and unknown.
    """
    if published.plan_digest is None:
        return _predict_adopted(workspace, published, erased, method, hyperparameters, needs_references)
    if named and method not in EXACT:
        raise InputError(
            f"{published.label} was trained erasable: '{method}' would only give a weaker guarantee.",
            "From its checkpoints it forgets exactly, and no audit is needed.",
            "Use --method exact, or leave --method out.",
        )
    before = ErasableModel.open(workspace, published, Progress(quiet=True))
    saw = sum(1 for s in before.samples if s.split == "train" and (s.path, s.arrived) in erased)
    after = before.without(erased)
    if saw and not after.graph.nodes:
        _nothing_left(published)
    return Affected(published, before, after, saw)


def _predict_adopted(
    workspace: Workspace,
    published: ModelVersion,
    erased: Container[tuple[str, int]],
    method: str,
    hyperparameters: Container[str],
    needs_references: bool,
) -> Adopted:
    """Return the impact of an erasure on an adopted model."""
    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        rows = load_samples(session, version, "train", without_erased=True)
    saw = sum(1 for s in rows if (s.path, s.arrived) in erased)
    if saw == len(rows) and rows:
        _nothing_left(published)
    if saw and method == "exact":
        raise InputError(
            f"{published.label} was not trained erasable.",
            "It was adopted: there are no checkpoints from which it could be repaired exactly.",
            "Use --method auto or retrain, or train a model with `expunge train`, which forgets exactly.",
        )
    epochs = (published.composition or {}).get("retrain_epochs")
    known = epochs is not None or (method == "retrain" and "epochs" in hyperparameters)
    if saw and not known and (method == "retrain" or needs_references):
        raise InputError(
            f"The number of training epochs of {published.label} is unknown.",
            "Its file does not record it.",
            "Give it with --set epochs=N."
            if method == "retrain"
            else "Judge at the level quick, and then run `expunge audit` with --epochs N.",
        )
    return Adopted(published, saw, len(rows) - saw, epochs)


def _nothing_left(published: ModelVersion) -> NoReturn:
    """Raise the error for an erasure that leaves a model without training samples."""
    raise InputError(
        f"Nothing would be left to train {published.label} on.",
        "The request erases every training sample of the model.",
        "Withdraw the model instead, or keep at least one sample.",
    )

# SPDX-License-Identifier: Apache-2.0
"""Whether a method can make a step on an adopted model within its budget: known before anything is erased."""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import TYPE_CHECKING

from expunge.catalog.datasets import get_version, load_erased, load_samples
from expunge.catalog.models import Published

if TYPE_CHECKING:
    from expunge.steps.approximation import Settings
    from expunge.workspace import Workspace


def check_affordable(
    workspace: Workspace,
    published: Published,
    gone: Container[tuple[str, int]],
    method: str,
    settings: Settings,
    subjects: Collection[str] = (),
    class_name: str | None = None,
) -> None:
    """Refuse a budget with which a method could not make one step.

    Args:
        workspace: Where the model is known.
        published: The newest version of an adopted model.
        gone: What is about to be erased, by path and version of arrival.
        method: A method by name.
        settings: Its budget and hyper-parameters.
        subjects: Who is to be forgotten.
        class_name: The class to remove.

    Raises:
        InputError: With the smallest budget that suffices.
    """
    from expunge.methods.base import get_method
    from expunge.methods.least import Sizes
    from expunge.unlearning.budgets import BUDGET, Allowance
    from expunge.unlearning.material import guard_count
    from expunge.unlearning.partition import partition
    from expunge.unlearning.selecting import Selected

    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        rows = load_samples(session, version, without_erased=True)
        erased = load_erased(session, version)
    composition = published.composition or {}
    done = composition.get("forgotten", [])
    leaving = [s for s in rows if (s.path, s.arrived) in gone]
    leaving += [s for s, request in erased if request not in done]
    pending = [s for s in leaving if s.split == "train"]
    if not pending:
        return
    selected = Selected(
        frozenset(s.path for s in pending), frozenset(subjects), (class_name,) if class_name else ()
    )
    staying = [s for s in rows if (s.path, s.arrived) not in gone]
    parts = partition([*staying, *pending], version.config, version.root, selected, settings.seed)
    retained = len(parts.retain)
    learns = retained if parts.guard else retained - guard_count(retained)
    budget = BUDGET if settings.budget is None else settings.budget
    allowance = Allowance(budget, composition.get("retrain_epochs"), retained)
    sizes = Sizes(len(parts.forget), learns)
    allowance.require(get_method(method), settings.hyperparameters, sizes)

# SPDX-License-Identifier: Apache-2.0
"""Checks, before anything is erased, that a budget allows a method at least one step on an adopted model."""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import TYPE_CHECKING

from expunge.catalog.dataset_store import get_version, load_erased, load_samples
from expunge.catalog.model_store import ModelVersion

if TYPE_CHECKING:
    from expunge.erasure.method_settings import MethodSettings
    from expunge.workspace import Workspace


def check_affordable(
    workspace: Workspace,
    published: ModelVersion,
    to_erase: Container[tuple[str, int]],
    method: str,
    settings: MethodSettings,
    subjects: Collection[str] = (),
    class_name: str | None = None,
) -> None:
    """Check that the budget allows a method at least one step.

    Args:
        workspace: The workspace of the model.
        published: The newest version of an adopted model.
        to_erase: (path, version of arrival) of the rows to erase.
        method: Name of the method.
        settings: Its budget and hyper-parameters.
        subjects: Ids of the subjects to forget.
        class_name: The class to remove, if any.

    Raises:
        InputError: If it does not; the message names the smallest budget that suffices.
    """
    from expunge.audits.unlearning_data import guard_count
    from expunge.methods.base import get_method
    from expunge.methods.least import SetSizes
    from expunge.unlearning.budgets import BUDGET, Allowance
    from expunge.unlearning.partition import partition
    from expunge.unlearning.selecting import Selected

    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        rows = load_samples(session, version, without_erased=True)
        erased = load_erased(session, version)
    composition = published.composition or {}
    done = composition.get("forgotten", [])
    leaving = [s for s in rows if (s.path, s.arrived) in to_erase]
    leaving += [s for s, request in erased if request not in done]
    pending = [s for s in leaving if s.split == "train"]
    if not pending:
        return
    selected = Selected(
        frozenset(s.path for s in pending), frozenset(subjects), (class_name,) if class_name else ()
    )
    staying = [s for s in rows if (s.path, s.arrived) not in to_erase]
    parts = partition([*staying, *pending], version.config, version.root, selected, settings.seed)
    retained = len(parts.retain)
    trained = retained if parts.guard else retained - guard_count(retained)
    budget = BUDGET if settings.budget is None else settings.budget
    allowance = Allowance(budget, composition.get("retrain_epochs"), retained)
    sizes = SetSizes(len(parts.forget), trained)
    allowance.require(get_method(method), settings.hyperparameters, sizes)

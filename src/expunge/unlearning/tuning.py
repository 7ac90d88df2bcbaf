# SPDX-License-Identifier: Apache-2.0
"""Tune the strength of a method on the guard data; the data of the verdict is never used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from expunge.audits.gate import ABSENCE
from expunge.audits.quick import losses_of, named_of
from expunge.audits.splits import TuningSplit
from expunge.errors import InputError
from expunge.tasks.protocol import Task
from expunge.unlearning.result import Result
from expunge.unlearning.run import Candidate, Unlearning

FIT = 0.1  # residual gap between forgotten and held-out losses below which the search ends


def run(unlearning: Unlearning, name: str, hyperparameters: Mapping[str, Any]) -> Result:
    """Run a method, tune its strength if more than one run is allowed, and audit the best candidate.

    The strength is too small if the mean loss on the forget set is below that on held-out data (or the class
    is still predicted), and too large if it is above or the utility did not hold. It is multiplied by the
    method's factor until both sides are known, then bisected on a logarithmic scale. The best candidate has
    the smallest residual gap among those whose utility holds.

    Raises:
        InputError: See :meth:`Unlearning.attempt`.
    """
    best = unlearning.attempt(name, hyperparameters)
    strength, runs = best.method.strength, unlearning.options.tune
    if strength and runs > 1 and strength[0] not in hyperparameters and _tunable(unlearning):
        best = _search(unlearning, best, strength, hyperparameters)
    return unlearning.conclude(best)


def _search(
    unlearning: Unlearning, first: Candidate, strength: tuple[str, float], given: Mapping[str, Any]
) -> Candidate:
    """Return the best candidate over several values of the strength (hyper-parameter, factor)."""
    key, factor = strength
    start = float(first.method.hyperparameters[key])
    best, best_gap = first, _gap(unlearning, first)
    exponent, weak, strong = 0.0, -math.inf, math.inf  # of the factor
    gap, runs = best_gap, 1
    while abs(gap) > FIT and runs < unlearning.options.tune:
        if gap > 0:
            weak = exponent
        else:
            strong = exponent
        if math.isinf(strong):
            exponent += 1
        elif math.isinf(weak):
            exponent -= 1
        else:
            exponent = (weak + strong) / 2
        try:
            tried = unlearning.attempt(first.method.name, {**given, key: start * factor**exponent})
        except InputError:
            break  # the budget does not suffice for another run
        runs += 1
        gap = _gap(unlearning, tried)
        if _better(tried, gap, best, best_gap):
            best, best_gap = tried, gap
    warning = f"Its {key} was tuned on held-out data in {runs} runs."
    return replace(best, warnings=(*best.warnings, warning)) if runs > 1 else best


def _better(new: Candidate, gap: float, old: Candidate, old_gap: float) -> bool:
    """Return whether a candidate is better: changed, not rolled back, then by its gap."""
    if old.unchanged != new.unchanged:
        return old.unchanged
    if old.rolled_back != new.rolled_back:
        return old.rolled_back
    return abs(gap) < abs(old_gap)


def _tunable(unlearning: Unlearning) -> bool:
    """Return whether the guard data can tune: it must be unseen, and the original must show a gap on it."""
    tuning = unlearning.tuning
    if not len(tuning.forget):
        return False
    if tuning.goal == "class":
        return True
    return not tuning.guard_seen and _loss_gap(unlearning.task, unlearning.original, tuning) > 0


def _gap(unlearning: Unlearning, candidate: Candidate) -> float:
    """Return the residual gap of a candidate: positive if too weak, negative if too strong."""
    if candidate.rolled_back:
        return -math.inf
    task, tuning = unlearning.task, unlearning.tuning
    if tuning.goal == "class":
        rate = float(named_of(task, candidate.model, tuning.forget, tuning.classes).mean())
        return rate if rate > ABSENCE / 2 else 0.0
    return _loss_gap(task, candidate.model, tuning) / _loss_gap(task, unlearning.original, tuning)


def _loss_gap(task: Task, model: torch.nn.Module, tuning: TuningSplit) -> float:
    """Return the mean loss on held-out data minus that on the forget set."""
    held = losses_of(task, model, tuning.guard).mean()
    return float(held - losses_of(task, model, tuning.forget).mean())

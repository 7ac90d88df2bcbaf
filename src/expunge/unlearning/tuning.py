# SPDX-License-Identifier: Apache-2.0
"""Finds out how hard a method must work, by the data that guards; what judges is never looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from expunge.audit.gate import ABSENCE
from expunge.errors import InputError
from expunge.tasks.protocol import Task
from expunge.unlearning.halves import Tuning
from expunge.unlearning.judging import losses_of, named_of
from expunge.unlearning.result import Result
from expunge.unlearning.run import Candidate, Unlearning

FIT = 0.1  # residual gap between forgotten and held-out losses at which the search ends


def run(unlearning: Unlearning, name: str, hyperparameters: Mapping[str, Any]) -> Result:
    """Run a method, searching for its strength where the terms allow more than one run, and judge the best.

    Too weak means that the mean loss on the forgotten is still below that on held-out data (or that the
    class is still named); too strong, that it is above, or that the utility did not hold. The strength is
    multiplied by the method's factor until both sides are known, then halved in between (bisection of the
    logarithm). The best is the one with the smallest residual gap among those that kept their utility.

    Raises:
        InputError: See :meth:`Unlearning.attempt`.
    """
    best = unlearning.attempt(name, hyperparameters)
    knob = best.method.strength
    if knob and unlearning.terms.tune > 1 and knob[0] not in hyperparameters and _tunable(unlearning):
        best = _search(unlearning, best, knob, hyperparameters)
    return unlearning.conclude(best)


def _search(
    unlearning: Unlearning, first: Candidate, knob: tuple[str, float], given: Mapping[str, Any]
) -> Candidate:
    key, factor = knob
    start = float(first.method.hyperparameters[key])
    best, best_gap = first, _gap(unlearning, first)
    strength, weak, strong = 0.0, -math.inf, math.inf  # exponents of the factor
    gap, runs = best_gap, 1
    while abs(gap) > FIT and runs < unlearning.terms.tune:
        if gap > 0:
            weak = strength
        else:
            strong = strength
        if math.isinf(strong):
            strength += 1
        elif math.isinf(weak):
            strength -= 1
        else:
            strength = (weak + strong) / 2
        try:
            tried = unlearning.attempt(first.method.name, {**given, key: start * factor**strength})
        except InputError:
            break  # the budget does not suffice for another run
        runs += 1
        gap = _gap(unlearning, tried)
        if _better(tried, gap, best, best_gap):
            best, best_gap = tried, gap
    said = f"Its {key} was chosen by held-out data in {runs} runs."
    return replace(best, warnings=(*best.warnings, said)) if runs > 1 else best


def _better(new: Candidate, gap: float, old: Candidate, old_gap: float) -> bool:
    if old.unchanged != new.unchanged:
        return old.unchanged
    if old.rolled_back != new.rolled_back:
        return old.rolled_back
    return abs(gap) < abs(old_gap)


def _tunable(unlearning: Unlearning) -> bool:
    """Whether the guard can say anything: it must be unseen, and the original must show a difference."""
    tuning = unlearning.tuning
    if not len(tuning.forget):
        return False
    if tuning.goal == "class":
        return True
    return not tuning.guard_seen and _distance(unlearning.task, unlearning.original, tuning) > 0


def _gap(unlearning: Unlearning, candidate: Candidate) -> float:
    """Positive: too weak; negative: too strong; near 0: fits."""
    if candidate.rolled_back:
        return -math.inf
    task, tuning = unlearning.task, unlearning.tuning
    if tuning.goal == "class":
        named = float(named_of(task, candidate.model, tuning.forget, tuning.classes).mean())
        return named if named > ABSENCE / 2 else 0.0
    return _distance(task, candidate.model, tuning) / _distance(task, unlearning.original, tuning)


def _distance(task: Task, model: torch.nn.Module, tuning: Tuning) -> float:
    held = losses_of(task, model, tuning.guard).mean()
    return float(held - losses_of(task, model, tuning.forget).mean())

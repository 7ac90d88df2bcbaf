# SPDX-License-Identifier: Apache-2.0
"""``auto``: try methods by increasing cost until one passes, else retrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from expunge.errors import InputError
from expunge.methods.base import get_method
from expunge.unlearning import tuning
from expunge.unlearning.result import RETRAIN, Attempt, Result
from expunge.unlearning.run import Unlearning, candidates

AUTO = "auto"
RANK = {"fail": 0, "no-power": 1, "pass": 2}
TRIES = 4  # runs in which `auto` may tune a method's strength


def run(unlearning: Unlearning, method: str, hyperparameters: Mapping[str, Any]) -> Result:
    """Run a method by name, or ``auto``.

    Raises:
        InputError: See :func:`auto` and :meth:`Unlearning.attempt`.
    """
    if method == AUTO:
        return auto(unlearning)
    return tuning.run(unlearning, method, hyperparameters)


def tests_of(method: str, goal: str) -> int:
    """Return the maximum number of candidates that are audited, for the Bonferroni correction."""
    return len(candidates(goal)) + 1 if method == AUTO else 1


def auto(unlearning: Unlearning) -> Result:
    """Try methods by increasing cost until one passes; else retrain.

    The intervals are widened for the number of candidates (Bonferroni), since the first that passes is taken.
    With ``accept_no_power`` a candidate is also accepted if the test finds no trace in the original. If the
    number of training epochs is unknown, the best candidate that did not pass is returned with its verdict.

    Raises:
        InputError: If no method could be tried.
    """
    options, tried = unlearning.options, list[Attempt]()
    best: Result | None = None
    for name in candidates(unlearning.material.goal):
        expected = get_method(name).cost * len(unlearning.material.retain)
        refusal = _refusal(unlearning, expected)
        if refusal:
            tried.append(Attempt(name, "not tried", (refusal,)))
            continue
        before = unlearning.seconds, unlearning.spent
        try:
            result = tuning.run(unlearning, name, {})
        except InputError as error:
            tried.append(Attempt(name, "not tried", (error.what, error.why)))
            continue
        seconds, passes = unlearning.seconds - before[0], unlearning.spent - before[1]
        tried.append(Attempt(name, result.verdict, result.reasons, round(seconds, 3), round(passes, 1)))
        if result.verdict == "pass":
            return replace(result, tried=tuple(tried))
        if best is None or _preference(result) > _preference(best):
            best = result
        if options.accept_no_power and result.audit.traceable is False and result.verdict == "no-power":
            warning = "Accepted although the test could not have noticed a failure."
            return replace(result, tried=tuple(tried), warnings=(*result.warnings, warning))
    if options.retrain_epochs is None:
        if best is None:
            raise InputError(
                "No method could be tried, and the number of training epochs is unknown.",
                "; ".join(f"{a.method}: {' '.join(a.reasons)}" for a in tried),
                "Give the number of training epochs (retrain_epochs), or raise the budget.",
            )
        advice = "No method passed. Give the number of training epochs (retrain_epochs) to retrain."
        return replace(best, tried=tuple(tried), recommendation=advice)
    result = tuning.run(unlearning, RETRAIN, {})
    tried.append(Attempt(RETRAIN, result.verdict, result.reasons, result.seconds, result.passes))
    return replace(result, tried=tuple(tried))


def _preference(result: Result) -> tuple[int, bool]:
    """Return a sort key: by verdict, and an unchanged model last."""
    return RANK[result.verdict], not result.unchanged


def _refusal(unlearning: Unlearning, expected: float) -> str:
    """Return why a method that needs about ``expected`` passes is not tried; empty if it is."""
    retrain, remaining = unlearning.retrain_passes, unlearning.limit - unlearning.spent
    if retrain is not None and expected >= retrain:
        return f"At {expected:.0f} passes it is no cheaper than a retrain ({retrain:.0f})."
    if expected > remaining:
        return f"It takes about {expected:.0f} passes; {max(remaining, 0):.0f} remain of the budget."
    return ""

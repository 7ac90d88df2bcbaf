# SPDX-License-Identifier: Apache-2.0
"""``auto``: methods from cheap to dear until one passes, else a retrain; and why each was refused."""

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
TRIES = 4  # runs in which `auto` may look for a method's strength


def run(unlearning: Unlearning, method: str, hyperparameters: Mapping[str, Any]) -> Result:
    """Run a method by name, or ``auto``.

    Raises:
        InputError: See :func:`auto` and :meth:`Unlearning.attempt`.
    """
    if method == AUTO:
        return auto(unlearning)
    return tuning.run(unlearning, method, hyperparameters)


def tests_of(method: str, goal: str) -> int:
    """How many candidates a method may put before the judge."""
    return len(candidates(goal)) + 1 if method == AUTO else 1


def auto(unlearning: Unlearning) -> Result:
    """Try methods from cheap to dear until one passes; else retrain.

    The judged intervals are widened for the number of candidates (Bonferroni), since the first that passes
    is taken. With ``accept_no_power`` it stops at a candidate where not even the original showed a trace.
    Where nobody knows how many epochs a retrain takes, the best of those that did not pass is returned, with
    its verdict.

    Raises:
        InputError: If nothing could be tried at all.
    """
    terms, tried = unlearning.terms, list[Attempt]()
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
        if best is None or _worth(result) > _worth(best):
            best = result
        if terms.accept_no_power and result.audit.traceable is False and result.verdict == "no-power":
            said = "Accepted although the test could not have noticed a failure."
            return replace(result, tried=tuple(tried), warnings=(*result.warnings, said))
    if terms.retrain_epochs is None:
        if best is None:
            raise InputError(
                "Nothing could be tried, and nobody knows how long a retrain takes.",
                "; ".join(f"{a.method}: {' '.join(a.reasons)}" for a in tried),
                "Say how many epochs a training takes (retrain_epochs), or raise the budget.",
            )
        said = "No method passed. Say how many epochs a training takes (retrain_epochs) to train it anew."
        return replace(best, tried=tuple(tried), recommendation=said)
    result = tuning.run(unlearning, RETRAIN, {})
    tried.append(Attempt(RETRAIN, result.verdict, result.reasons, result.seconds, result.passes))
    return replace(result, tried=tuple(tried))


def _worth(result: Result) -> tuple[int, bool]:
    """What a result is worth beside others: by its verdict, and the original last."""
    return RANK[result.verdict], not result.unchanged


def _refusal(unlearning: Unlearning, expected: float) -> str:
    whole, left = unlearning.retrain_passes, unlearning.limit - unlearning.spent
    if whole is not None and expected >= whole:
        return f"At {expected:.0f} passes it is no cheaper than a retrain ({whole:.0f})."
    if expected > left:
        return f"It takes about {expected:.0f} passes, and {max(left, 0):.0f} of the budget are left."
    return ""

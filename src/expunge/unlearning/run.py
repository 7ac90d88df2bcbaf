# SPDX-License-Identifier: Apache-2.0
"""Runs one method within a budget, never to ruin, and judges what came out."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from expunge.audit.verdict import SAME_LOSSES, SAME_TENSORS, Verdict, least_utility, resolution, unchanged
from expunge.errors import InputError
from expunge.exact.hashing import tensor_digest
from expunge.methods.base import Budget, BudgetSpent, Diverged, Method, all_methods, get_method
from expunge.methods.least import Sizes
from expunge.methods.values import is_number, is_whole
from expunge.tasks.protocol import Task
from expunge.unlearning.budgets import BUDGET as BUDGET
from expunge.unlearning.budgets import Allowance
from expunge.unlearning.guard import Guard, StepCounter, finite
from expunge.unlearning.halves import divide
from expunge.unlearning.judging import Judge
from expunge.unlearning.material import Material
from expunge.unlearning.result import RETRAIN, Result

ALLOWED_DROP = 0.02  # of the main metric


@dataclass(frozen=True)
class Terms:
    """On which terms a model is unlearned.

    Attributes:
        budget: Most work to be done, in units of a retrain; tuning and all attempts of ``auto`` included.
        retrain_epochs: Epochs of an ordinary training, so that a retrain is ``retrain_epochs`` times
            the retain set; None: not known, and the budget is 12 passes over the retain set.
        allowed_drop: By how much the main metric on held-out retained data may fall.
        seed: Of all randomness.
        accept_no_power: ``auto`` may stop where not even the original showed a trace.
        tune: How often a method may be run to find its strength.
        on_start: Hears of every run that begins: the method's name and the passes it may take.
        on_images: Hears of the work.
    """

    budget: float = BUDGET
    retrain_epochs: int | None = None
    allowed_drop: float = ALLOWED_DROP
    seed: int = 0
    accept_no_power: bool = False
    tune: int = 1
    on_start: Callable[[str, int], None] = lambda name, passes: None
    on_images: Callable[[int], None] = lambda count: None

    def allowance(self, material: Material) -> Allowance:
        """Return what the budget means for some data."""
        return Allowance(self.budget, self.retrain_epochs, len(material.all_retained))

    def __post_init__(self) -> None:
        for name in ("budget", "allowed_drop", "retrain_epochs", "tune"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
                raise InputError(f"`{name}` is no number.", f"It is {value!r}.", "Give a number.")
        if not (is_number(self.budget) and 0 < self.budget < math.inf):
            raise InputError(
                f"The budget {self.budget} does not fit.",
                "It is in units of a retrain.",
                "Give a positive number.",
            )
        if self.retrain_epochs is not None and not is_whole(self.retrain_epochs, 1):
            raise InputError(
                "A retrain of no epoch is none.",
                f"retrain_epochs is {self.retrain_epochs}.",
                "Give retrain_epochs as a whole number of at least 1.",
            )
        if not (is_number(self.allowed_drop) and self.allowed_drop >= 0):
            raise InputError(
                "The allowed drop cannot be negative.",
                f"It is {self.allowed_drop}.",
                "Give a number that is 0 or more.",
            )
        if not is_whole(self.tune, 1):
            raise InputError(
                "A method must run at least once.", f"tune is {self.tune}.", "Give tune of at least 1."
            )
        if not is_whole(self.seed, 0):
            raise InputError(
                "The seed is no whole number of 0 or more.",
                f"It is {self.seed!r}.",
                "Give a whole number of 0 or more.",
            )


@dataclass(frozen=True)
class Candidate:
    """What a method made, not judged yet.

    Attributes:
        model: Fit for use: rolled back where the last state was not.
        method: The method.
        values: Hyper-parameters that were given.
        budget: What was done.
        seconds: Wall-clock time.
        rolled_back, unchanged: See :class:`~expunge.unlearning.result.Result`.
        rounds: Utility after each round.
        warnings: What happened on the way.
    """

    model: nn.Module
    method: Method
    values: dict[str, Any]
    budget: Budget
    seconds: float
    rolled_back: bool
    unchanged: bool
    rounds: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]


@dataclass
class Unlearning:
    """One model, one forget set; several methods may be run.

    Attributes:
        model: The original; it is not changed.
        material: The data.
        task: The model family.
        terms: Budget, guard, seed.
        tests: How many candidates may be judged in all (for the intervals).
        writer: Makes the bytes of a file from a model, for ``Result.save``.
        finish: Brings a method's result into the precision in which it is delivered, before it is judged.
        spent: Passes done so far, by all runs.
    """

    model: nn.Module
    material: Material
    task: Task
    terms: Terms
    tests: int = 1
    writer: Callable[[nn.Module], bytes] | None = None
    finish: Callable[[nn.Module], None] = lambda model: None
    spent: float = field(default=0.0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if not finite(self.model):
            raise InputError(
                "The model's weights are not all numbers.",
                "At least one is NaN or infinite.",
                "Load an undamaged file.",
            )
        self.original = self.task.clone(self.model)
        self.digest = tensor_digest(self.original.state_dict())
        self.before = self.task.evaluate(self.original, self.material.guard)[self.task.metric]
        self.tuning, judging = divide(self.material, self.terms.tune > 1, self.terms.seed)
        self.judge = Judge(
            self.task,
            self.original,
            judging,
            allowed_drop=self.terms.allowed_drop,
            tests=self.tests,
            seed=self.terms.seed,
        )

    @property
    def allowance(self) -> Allowance:
        """What the budget means here."""
        return self.terms.allowance(self.material)

    @property
    def retrain_passes(self) -> float | None:
        """What a retrain takes, in passes of one sample."""
        return self.allowance.retrain_passes

    @property
    def limit(self) -> float:
        """What the budget allows in all, in passes of one sample."""
        return self.allowance.passes

    def attempt(self, name: str, hyperparameters: Mapping[str, Any]) -> Candidate:
        """Run one method within what is left of the budget.

        Raises:
            InputError: If the method is unknown, is not for this goal, or lacks a hyper-parameter; if the
                budget does not suffice for anything.
        """
        method, values = checked(name, hyperparameters, self.material, self.terms, self.spent)
        retain, limit = self.material.retain, self.limit - self.spent
        if name == RETRAIN:  # the safe way out: neither the budget nor the guard may take anything from it
            retain = self.material.all_retained
            limit = float(values["epochs"]) * len(retain)
        budget = Budget(limit)
        least = least_utility(self.before, self.terms.allowed_drop, len(self.material.guard))
        guard = Guard(self.task, self.material.guard, least, self.terms.on_images)
        self.terms.on_start(name, int(limit))
        began, trouble, steps = time.monotonic(), "", StepCounter()
        model: nn.Module | None = None
        try:
            with steps:
                model = method.function(
                    self.model,
                    self.material.forget,
                    retain,
                    self.task,
                    generator=torch.Generator().manual_seed(self.terms.seed),
                    budget=budget,
                    progress=guard,
                    **values,
                )
        except BudgetSpent as error:
            if guard.safe is None:
                enough = method.least_work(sizes_of(self.material), values).enough + self.spent
                advice = "Raise the budget, or choose a cheaper method (see docs/methods)."
                advice = self.allowance.advice(enough) if enough > self.limit else advice
                raise InputError(error.what, error.why, advice) from error
            trouble = "The budget ended the method early."
        except Diverged as error:
            trouble = str(error.what)
        finally:
            self.spent += budget.spent
            self.seconds += time.monotonic() - began
        idle = not budget.steps and not steps.count
        return self._safe(method, values, model, guard, budget, time.monotonic() - began, trouble, idle)

    def _safe(
        self,
        method: Method,
        values: dict[str, Any],
        model: nn.Module | None,
        guard: Guard,
        budget: Budget,
        seconds: float,
        trouble: str,
        idle: bool,
    ) -> Candidate:
        warnings = [trouble] if trouble else []
        if model is not None:
            self.finish(model)
        rolled_back = model is None or not guard.see(model)
        if idle:  # without a step nothing was learnt, whatever the tensors are
            rolled_back = rolled_back or model is None or self._differs(model)
            guard.safe = None
            warnings.append("The method made no step.")
        if rolled_back or model is None:
            model = self.task.clone(self.model)
            if guard.safe is not None:
                model.load_state_dict(guard.safe)
                self.finish(model)
                round_ = guard.safe_round
                warnings.append(f"The last state was not fit for use: rolled back to round {round_}.")
            else:
                warnings.append("No state of this method was fit for use: this is the original model.")
        unchanged = not self._differs(model)
        return Candidate(
            model, method, values, budget, seconds, rolled_back, unchanged, tuple(guard.trail), (*warnings,)
        )

    def _differs(self, model: nn.Module) -> bool:
        return tensor_digest(model.state_dict()) != self.digest

    def _next_step(self, candidate: Candidate, verdict: Verdict, same: bool) -> str:
        if verdict.verdict == "pass":
            return ""
        if same and candidate.method.name != RETRAIN:
            work = candidate.method.least_work(sizes_of(self.material), candidate.values)
            if work.enough > self.limit:  # it was spent on a search that led nowhere
                return self.allowance.advice(work.enough)
        if candidate.method.name == RETRAIN and verdict.utility["holds"] and not same:
            return ""
        if verdict.traceable is False:
            return (
                "Judge it by more samples or people, or against reference models; a retrain is always sound."
            )
        return "Try another method or other hyper-parameters, or use method='retrain', which is always sound."

    def conclude(self, candidate: Candidate) -> Result:
        """Judge a candidate."""
        warnings = list(candidate.warnings)
        if self.material.guard_seen:
            warnings.append(
                "No validation data was given: a part of the retained samples, which the original was "
                "trained on, guards the utility."
            )
        blind = resolution(self.before, len(self.material.guard))
        if blind > self.terms.allowed_drop:
            warnings.append(
                f"The utility was watched on {len(self.material.guard)} samples, which cannot show a drop "
                f"below {blind:.3f}."
            )
        scored = self.judge.score(candidate.model)
        verdict = self.judge.verdict(candidate.model, scored)
        same = candidate.unchanged or self.judge.same(scored)
        if candidate.unchanged:
            verdict = unchanged(verdict, SAME_TENSORS, *candidate.warnings)
        elif same:
            verdict = unchanged(verdict, SAME_LOSSES)
        else:
            warnings += self.judge.warnings(scored)
        retrained = candidate.method.name == RETRAIN
        if retrained and not same:
            said = "It was trained without the forget set; the comparison is shown for what it is worth."
            verdict = replace(verdict, reasons=(said, *verdict.reasons))
        whole = self.retrain_passes
        if whole is None:
            warnings.append("The cost in units of a retrain is not known: say how many epochs one takes.")
        return Result(
            model=candidate.model,
            method=candidate.method.name,
            verdict=verdict.verdict,
            reasons=verdict.reasons,
            warnings=tuple(warnings),
            metrics={"before": self.judge.original.metrics, "after": scored.metrics},
            audit=verdict,
            seconds=round(self.seconds, 3),
            steps=candidate.budget.steps,
            passes=round(self.spent, 1),
            cost=None if whole is None else round(self.spent / whole, 6),
            hyperparameters={**candidate.method.hyperparameters, **candidate.values},
            seed=self.terms.seed,
            rolled_back=candidate.rolled_back,
            unchanged=same,
            rounds=candidate.rounds,
            recommendation=self._next_step(candidate, verdict, same),
            writer=self.writer,
        )


def candidates(goal: str) -> list[str]:
    """Return the methods that ``auto`` may try for a goal, cheapest first."""
    return [m.name for m in all_methods().values() if goal in m.goals and m.automatic and not m.needs]


def checked(
    name: str, given: Mapping[str, Any], material: Material, terms: Terms, spent: float = 0.0
) -> tuple[Method, dict[str, Any]]:
    """Return a method with its hyper-parameters, if it can run: before any work.

    Args:
        name: The method's name.
        given: Hyper-parameters that are given.
        material: The data.
        terms: Goal, budget and seed.
        spent: Passes done already.

    Raises:
        InputError: If the method is unknown, is not for this goal, lacks a hyper-parameter or has an
            impossible one, or if the budget does not suffice for one step.
    """
    method, values = get_method(name), dict(given)
    if method.name == RETRAIN and "epochs" not in values and terms.retrain_epochs is not None:
        values["epochs"] = terms.retrain_epochs
    method.check(values)
    if material.goal not in method.goals:
        raise InputError(
            f"The method '{method.name}' is not for the goal '{material.goal}'.",
            f"It is for: {', '.join(method.goals)}.",
            f"Methods for it: {', '.join(candidates(material.goal))}.",
        )
    if method.name != RETRAIN:  # the budget is for methods; a retrain is the safe way out
        terms.allowance(material).require(method, values, sizes_of(material), spent)
    return method, values


def sizes_of(material: Material) -> Sizes:
    """Return how many samples a method works on."""
    return Sizes(len(material.forget), len(material.retain))

# SPDX-License-Identifier: Apache-2.0
"""Run one method within a budget, roll back if utility drops, and audit the result."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from expunge.audits.quick import QuickAudit
from expunge.audits.splits import divide
from expunge.audits.unlearning_data import UnlearningData
from expunge.audits.verdict import SAME_LOSSES, SAME_TENSORS, Verdict, least_utility, resolution, unchanged
from expunge.errors import InputError
from expunge.methods.base import Budget, BudgetSpent, Diverged, Method, all_methods, get_method
from expunge.methods.least import SetSizes
from expunge.methods.values import is_number, is_whole
from expunge.storage.hashing import tensor_digest
from expunge.tasks.protocol import Task
from expunge.unlearning.budgets import BUDGET as BUDGET
from expunge.unlearning.budgets import Allowance
from expunge.unlearning.guard import Guard, StepCounter, finite
from expunge.unlearning.result import RETRAIN, Result

ALLOWED_DROP = 0.02  # maximum drop of the main metric


@dataclass(frozen=True)
class UnlearningOptions:
    """Budget, guard and tuning of an unlearning.

    Attributes:
        budget: Maximum work in units of a retrain, including tuning and all attempts of ``auto``.
        retrain_epochs: Epochs of a full training; a retrain costs ``retrain_epochs`` passes over the retain
            set. None: unknown, and the budget is 12 passes over the retain set.
        allowed_drop: Maximum drop of the main metric on held-out retained data.
        seed: Seed of all randomness.
        accept_no_power: Let ``auto`` accept a result if the test finds no trace in the original either.
        tune: Maximum number of runs in which a method's strength is tuned.
        on_start: Receives the method's name and its maximum number of passes when a run begins.
        on_images: Receives the number of samples processed.
    """

    budget: float = BUDGET
    retrain_epochs: int | None = None
    allowed_drop: float = ALLOWED_DROP
    seed: int = 0
    accept_no_power: bool = False
    tune: int = 1
    on_start: Callable[[str, int], None] = lambda name, passes: None
    on_images: Callable[[int], None] = lambda count: None

    def allowance(self, material: UnlearningData) -> Allowance:
        """Return the budget for the given data."""
        return Allowance(self.budget, self.retrain_epochs, len(material.all_retained))

    def __post_init__(self) -> None:
        for name in ("budget", "allowed_drop", "retrain_epochs", "tune"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
                raise InputError(f"`{name}` is not a number.", f"It is {value!r}.", "Give a number.")
        if not (is_number(self.budget) and 0 < self.budget < math.inf):
            raise InputError(
                f"The budget {self.budget} does not fit.",
                "It is in units of a retrain.",
                "Give a positive number.",
            )
        if self.retrain_epochs is not None and not is_whole(self.retrain_epochs, 1):
            raise InputError(
                "The number of training epochs does not fit.",
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
                "The seed is not a whole number of 0 or more.",
                f"It is {self.seed!r}.",
                "Give a whole number of 0 or more.",
            )


@dataclass(frozen=True)
class Candidate:
    """The output of a method, before the audit.

    Attributes:
        model: The last state whose utility holds; else the original.
        method: The method.
        values: Given hyper-parameters.
        budget: Work and steps done.
        seconds: Wall-clock time.
        rolled_back, unchanged: See :class:`~expunge.unlearning.result.Result`.
        rounds: Utility after each round.
        warnings: Events of the run that a user should know.
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
    """An unlearning of one model and one forget set, by one or several methods.

    Attributes:
        model: The original; it is not changed.
        material: The data.
        task: Task of the model.
        options: Budget, guard, seed.
        tests: Maximum number of candidates that are audited (Bonferroni).
        writer: Serialises a model for ``Result.save``.
        finish: Rounds a method's result to the precision of delivery, before the audit.
        spent: Passes spent so far, by all runs.
        seconds: Wall-clock time of all runs so far.
    """

    model: nn.Module
    material: UnlearningData
    task: Task
    options: UnlearningOptions
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
        self.tuning, judging = divide(self.material, self.options.tune > 1, self.options.seed)
        self.judge = QuickAudit(
            self.task,
            self.original,
            judging,
            allowed_drop=self.options.allowed_drop,
            tests=self.tests,
            seed=self.options.seed,
        )

    @property
    def allowance(self) -> Allowance:
        """The budget for this model and its data."""
        return self.options.allowance(self.material)

    @property
    def retrain_passes(self) -> float | None:
        """Cost of a retrain, in passes of one sample."""
        return self.allowance.retrain_passes

    @property
    def limit(self) -> float:
        """The whole budget, in passes of one sample."""
        return self.allowance.passes

    def attempt(self, name: str, hyperparameters: Mapping[str, Any]) -> Candidate:
        """Run one method within the remaining budget, and return its output.

        Raises:
            InputError: If the method is unknown, is not for this goal, or lacks a hyper-parameter, or if the
                budget does not suffice for a first useful state.
        """
        method, values = checked(name, hyperparameters, self.material, self.options, self.spent)
        retain, limit = self.material.retain, self.limit - self.spent
        if name == RETRAIN:  # the fallback uses all retained data and is exempt from the budget
            retain = self.material.all_retained
            limit = float(values["epochs"]) * len(retain)
        budget = Budget(limit)
        least = least_utility(self.before, self.options.allowed_drop, len(self.material.guard))
        guard = Guard(self.task, self.material.guard, least, self.options.on_images)
        self.options.on_start(name, int(limit))
        began, warning, steps = time.monotonic(), "", StepCounter()
        model: nn.Module | None = None
        try:
            with steps:
                model = method.function(
                    self.model,
                    self.material.forget,
                    retain,
                    self.task,
                    generator=torch.Generator().manual_seed(self.options.seed),
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
            warning = "The method stopped early: the budget was spent."
        except Diverged as error:
            warning = str(error.what)
        finally:
            self.spent += budget.spent
            self.seconds += time.monotonic() - began
        idle = not budget.steps and not steps.count
        return self._candidate(method, values, model, guard, budget, time.monotonic() - began, warning, idle)

    def _candidate(
        self,
        method: Method,
        values: dict[str, Any],
        model: nn.Module | None,
        guard: Guard,
        budget: Budget,
        seconds: float,
        warning: str,
        idle: bool,
    ) -> Candidate:
        """Return a method's output, rolled back to the last state whose utility holds if needed."""
        warnings = [warning] if warning else []
        if model is not None:
            self.finish(model)
        rolled_back = model is None or not guard.see(model)
        if idle:  # without a step no state of the method may be returned
            rolled_back = rolled_back or model is None or self._differs(model)
            guard.safe = None
            warnings.append("The method made no step.")
        if rolled_back or model is None:
            model = self.task.clone(self.model)
            if guard.safe is not None:
                model.load_state_dict(guard.safe)
                self.finish(model)
                round_ = guard.safe_round
                warnings.append(f"The utility of the last state did not hold: rolled back to round {round_}.")
            else:
                warnings.append("The utility held in no state of this method: this is the original model.")
        unchanged = not self._differs(model)
        return Candidate(
            model, method, values, budget, seconds, rolled_back, unchanged, tuple(guard.trail), (*warnings,)
        )

    def _differs(self, model: nn.Module) -> bool:
        return tensor_digest(model.state_dict()) != self.digest

    def _recommendation(self, candidate: Candidate, verdict: Verdict, same: bool) -> str:
        """Return the advice for the user; empty if there is nothing to do."""
        if verdict.verdict == "pass":
            return ""
        if same and candidate.method.name != RETRAIN:
            work = candidate.method.least_work(sizes_of(self.material), candidate.values)
            if work.enough > self.limit:  # the budget was too small for the method
                return self.allowance.advice(work.enough)
        if candidate.method.name == RETRAIN and verdict.utility["holds"] and not same:
            return ""
        if verdict.traceable is False:
            return "Audit it with more samples or people, or with references; a retrain is always sound."
        return "Try another method or other hyper-parameters, or use method='retrain', which is always sound."

    def conclude(self, candidate: Candidate) -> Result:
        """Audit a candidate, and return the result."""
        warnings = list(candidate.warnings)
        if self.material.guard_seen:
            warnings.append(
                "No validation data was given: the utility was measured on retained samples, on which the "
                "original was trained."
            )
        smallest_drop = resolution(self.before, len(self.material.guard))
        if smallest_drop > self.options.allowed_drop:
            warnings.append(
                f"The utility was measured on {len(self.material.guard)} samples, which cannot show a drop "
                f"below {smallest_drop:.3f}."
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
            reason = (
                "It was trained without the forget set; the comparison with unseen data is for information."
            )
            verdict = replace(verdict, reasons=(reason, *verdict.reasons))
        retrain_passes = self.retrain_passes
        if retrain_passes is None:
            warnings.append("The cost in units of a retrain is unknown: give the number of training epochs.")
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
            cost=None if retrain_passes is None else round(self.spent / retrain_passes, 6),
            hyperparameters={**candidate.method.hyperparameters, **candidate.values},
            seed=self.options.seed,
            rolled_back=candidate.rolled_back,
            unchanged=same,
            rounds=candidate.rounds,
            recommendation=self._recommendation(candidate, verdict, same),
            writer=self.writer,
        )


def candidates(goal: str) -> list[str]:
    """Return the names of the methods that ``auto`` tries for a goal, cheapest first."""
    return [m.name for m in all_methods().values() if goal in m.goals and m.automatic and not m.needs]


def checked(
    name: str,
    given: Mapping[str, Any],
    material: UnlearningData,
    options: UnlearningOptions,
    spent: float = 0.0,
) -> tuple[Method, dict[str, Any]]:
    """Return a method and its hyper-parameters, after checking before any work that it can run.

    Args:
        name: The method's name.
        given: Given hyper-parameters.
        material: The data, with the goal.
        options: Budget and number of training epochs.
        spent: Passes already spent.

    Raises:
        InputError: If the method is unknown, is not for this goal, lacks a hyper-parameter or has an
            invalid one, or if the budget does not suffice for one step.
    """
    method, values = get_method(name), dict(given)
    if method.name == RETRAIN and "epochs" not in values and options.retrain_epochs is not None:
        values["epochs"] = options.retrain_epochs
    method.check(values)
    if material.goal not in method.goals:
        raise InputError(
            f"The method '{method.name}' is not for the goal '{material.goal}'.",
            f"It is for: {', '.join(method.goals)}.",
            f"Methods for it: {', '.join(candidates(material.goal))}.",
        )
    if method.name != RETRAIN:  # a retrain is the fallback, exempt from the budget
        options.allowance(material).require(method, values, sizes_of(material), spent)
    return method, values


def sizes_of(material: UnlearningData) -> SetSizes:
    """Return the numbers of samples that a method works on."""
    return SetSizes(len(material.forget), len(material.retain))

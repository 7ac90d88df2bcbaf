# SPDX-License-Identifier: Apache-2.0
"""Trains references, tunes every method on seeds of its own, and runs it on the seeds that are reported.

Every result is one line of JSON, written as soon as it is there; what the file already holds is not run
again. Methods are called as they are: no guard rolls anything back, so that a failure shows. Times are CPU
seconds of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import append, records
from benchmarks.methods.floor import IN_TRAINING, Ledger, lower, measure_floor, warm_up
from benchmarks.methods.grid import needs, search
from benchmarks.methods.measure import Figures, compare, measure, ratios
from benchmarks.methods.worlds import GOALS, Suite, Trained, World
from expunge.errors import ExpungeError
from expunge.methods.base import Method, all_methods

TUNING_SEEDS = (101, 102)
TUNING_REFERENCES = 3
RUNS = 3  # of a method that is timed
FIRST, AGAIN = -1, -2  # in place of the index of a reference, for the original and the second retrain
ALL = 0.05  # weight of the mean ratio beside the worst, so that equals are told apart
ORIGINAL, RETRAIN = CONTROLS = "original", "retrain"
Line = dict[str, Any]


class Silent:
    """A progress that nobody listens to."""

    def images(self, count: int) -> None:
        """Say nothing."""

    def round(self, model: nn.Module) -> None:
        """Keep nothing."""


@dataclass
class Bench:
    """A suite on its way into a file of results.

    Attributes:
        suite: What is run.
        out: JSON lines.
        references: Of every reported seed and goal.
        budget: Most work of a method, in units of a retrain.
        batch: Of every method that has that hyper-parameter: that of the training.
        tuning_seeds: Which must not be reported.
        only: Methods; none: all.
        say: Hears of every result.
    """

    suite: Suite
    out: Path
    references: int
    budget: float
    batch: int
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    only: tuple[str, ...] = ()
    say: Callable[[str], None] = print
    _originals: dict[tuple[str, int], Trained] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.lines = records(self.out)

    def run(self, seeds: Iterable[int]) -> None:
        """Tune, then measure."""
        seeds = list(seeds)
        if set(seeds) & set(self.tuning_seeds):
            raise ValueError("a seed that is tuned on cannot be reported")
        warm_up()
        for goal in self.suite.goals:
            self._tune(goal)
        for seed in seeds:
            for goal in self.suite.goals:
                self._report(goal, seed)

    def methods(self, goal: str) -> list[Method]:
        """Return the methods to be run for a goal; a retrain has a row of its own."""
        found = [m for m in all_methods().values() if m.name != RETRAIN]
        return [m for m in found if goal in m.goals and (not self.only or m.name in self.only)]

    def chosen(self, method: str, goal: str) -> dict[str, Any] | None:
        """Return the setting that did best on the tuning seeds; None: it never ran to its end."""
        found = self._found("tuning", goal=goal, method=method, budget=self.budget)
        lines = [line for line in found if line["score"] is not None]
        return min(lines, key=lambda line: line["score"])["values"] if lines else None

    def _tune(self, goal: str) -> None:
        worlds = {seed: self.suite.world(goal, seed) for seed in self.tuning_seeds}
        for method in self.methods(GOALS[goal]):
            lines = self._found("tuning", goal=goal, method=method.name, budget=self.budget)
            known = {str(line["values"]): line for line in lines}

            def score(
                values: dict[str, Any], method: Method = method, known: dict[str, Line] = known
            ) -> float:
                line = known.get(str(values)) or self._try(method, values, goal, worlds)
                return float("inf") if line["score"] is None else float(line["score"])

            search(method, self.budget * self.suite.epochs, score)

    def _try(self, method: Method, values: dict[str, Any], goal: str, worlds: dict[int, World]) -> Line:
        """Run a setting on all tuning seeds; its score is the worst ratio, plus a little of all."""
        gaps, trouble = [], ""
        for seed, world in worlds.items():
            references = self._references(world, seed, TUNING_REFERENCES)
            run = self._attempt(method, values, world, seed)
            trouble = trouble or run["trouble"]
            if run["model"] is not None:
                figures = measure(self.suite.task, run["model"], world)
                if _finite(figures):
                    gaps.append(compare(figures, references, _sizes(world)))
        score = None
        if len(gaps) == len(worlds):
            far = list(ratios(gaps, goal).values())
            score = round(max(far) + ALL * float(np.mean(far)), 4)
        return self._add({"kind": "tuning", "goal": goal, "method": method.name, "values": values,
                          "seeds": list(worlds), "score": score, "trouble": trouble})  # fmt: skip

    def _report(self, goal: str, seed: int) -> None:
        world = self.suite.world(goal, seed)
        known = {
            line["method"]
            for line in self._found("result", goal=goal, seed=seed)
            if line["method"] in CONTROLS or line["budget"] == self.budget
        }
        names = [ORIGINAL, RETRAIN, *(m.name for m in self.methods(world.method_goal))]
        if not set(names) - known:
            return
        references = self._references(world, seed, self.references)
        if ORIGINAL not in known:
            self._result(ORIGINAL, goal, seed, world, references, self._original(world.goal, seed).model, {})
        if RETRAIN not in known:
            again = self.suite.train(world.retain, _seed(seed, AGAIN))
            passes = self.suite.epochs * len(world.retain)
            cost = {"seconds": again.seconds, "passes": passes, "steps": 0}
            self._result(RETRAIN, goal, seed, world, references, again.model, cost)
        for method in self.methods(world.method_goal):
            if method.name in known:
                continue
            values = self.chosen(method.name, goal)
            if values is None:
                why = "No setting ran to its end within the budget on the tuning seeds."
                self._add({"kind": "result", "goal": goal, "seed": seed, "method": method.name,
                           "gaps": None, "trouble": why})  # fmt: skip
                continue
            batch = self._batch(method)
            original = self._original(goal, seed).model
            what = (self.suite.task, original, world.retain, batch, method.name in IN_TRAINING)
            floor = measure_floor(*what)
            run = self._fastest(method, values, world, seed)
            floor = lower(floor, measure_floor(*what), batch)
            least = floor.seconds(run["work"])
            cost = {"seconds": run["seconds"], "passes": run["passes"], "steps": run["steps"],
                    "floor_seconds": round(least, 5), "values": values,
                    "trouble": run["trouble"]}  # fmt: skip
            self._result(method.name, goal, seed, world, references, run["model"], cost)

    def _result(
        self,
        name: str,
        goal: str,
        seed: int,
        world: World,
        references: list[Figures],
        model: nn.Module | None,
        cost: dict[str, Any],
    ) -> None:
        line: Line = {"kind": "result", "goal": goal, "seed": seed, "method": name, "gaps": None, **cost}
        if model is not None:
            figures = measure(self.suite.task, model, world)
            if _finite(figures):
                gaps = compare(figures, references, _sizes(world))
                line["gaps"] = {k: round(v, 5) for k, v in gaps.items()}
                line["metrics"] = figures.as_json()["metrics"]
        line["retrain_passes"] = self.suite.epochs * len(world.retain)
        self._add(line)

    def _batch(self, method: Method) -> int:
        """Return the size of a method's batches: SSD takes its gradients over batches of its own size."""
        return int(method.hyperparameters.get("averaged", self.batch))

    def _fastest(self, method: Method, values: dict[str, Any], world: World, seed: int) -> dict[str, Any]:
        """Run a method a few times over, as its floor is measured; all runs do the very same."""
        runs = [self._attempt(method, values, world, seed) for _ in range(RUNS)]
        return {**runs[0], "seconds": min(run["seconds"] for run in runs)}

    def _attempt(self, method: Method, values: dict[str, Any], world: World, seed: int) -> dict[str, Any]:
        original = self._original(world.goal, seed)
        limit = self.budget * self.suite.epochs * len(world.retain)
        budget = Ledger(limit, size=self._batch(method))
        model, trouble = None, ""
        given = {**needs(method, world, original.checkpoint, self.batch), **values}
        began = time.process_time()
        try:
            model = method.function(
                original.model,
                world.forget,
                world.retain,
                self.suite.task,
                generator=torch.Generator().manual_seed(seed),
                budget=budget,
                progress=Silent(),
                **given,
            )
        except ExpungeError as error:
            trouble = error.what
        seconds = round(time.process_time() - began, 4)
        return {"model": model, "trouble": trouble, "seconds": seconds, "passes": round(budget.spent, 1),
                "steps": budget.steps, "work": budget}  # fmt: skip

    def _references(self, world: World, seed: int, count: int) -> list[Figures]:
        known = {line["index"]: line for line in self._found("reference", goal=world.goal, seed=seed)}
        for index in range(count):
            if index not in known:
                trained = self.suite.train(world.retain, _seed(seed, index))
                line = {"kind": "reference", "goal": world.goal, "seed": seed, "index": index,
                        "seconds": round(trained.seconds, 3),
                        **measure(self.suite.task, trained.model, world).as_json()}  # fmt: skip
                known[index] = self._add(line)
        return [Figures.of(known[index]) for index in range(count)]

    def _original(self, goal: str, seed: int) -> Trained:
        key = self.suite.variant(goal), seed
        if key not in self._originals:
            rewinds = any("checkpoint" in m.needs for m in self.methods(GOALS[goal]))
            early = self.suite.epochs // 2 if rewinds else 0
            everything = self.suite.everything(goal, seed)
            self._originals[key] = self.suite.train(everything, _seed(seed, FIRST), early)
        return self._originals[key]

    def _found(self, kind: str, **where: Any) -> list[Line]:
        match = {"kind": kind, **where}
        return [line for line in self.lines if all(line.get(k) == v for k, v in match.items())]

    def _add(self, line: Line) -> Line:
        line = {**line, "suite": self.suite.name, "budget": self.budget}
        self.lines.append(line)
        append(self.out, line)
        self.say(" ".join(str(line.get(k, "")) for k in ("kind", "goal", "seed", "method", "index", "score")))
        return line


def _seed(seed: int, index: int) -> int:
    return 1000 * (seed + 1) + index


def _finite(figures: Figures) -> bool:
    return bool(np.isfinite(figures.losses).all())


def _sizes(world: World) -> dict[str, int]:
    return {"forget": len(world.forget), "retain": len(world.retain), "test": len(world.test)}

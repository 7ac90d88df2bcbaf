# SPDX-License-Identifier: Apache-2.0
"""An audit: asks original, candidate and references the same questions, and hands the answers to the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from expunge.audit.gate import Losses, bounds, enough, judge, judge_absence, residuals
from expunge.audit.raw import Raw
from expunge.audit.references import FULL, Asked, against_references, calibrate, judge_by_references
from expunge.audit.scores import Scores
from expunge.audit.verdict import LEVEL, OUTPUTS, SAME_LOSSES, SAME_TENSORS, Utility, Verdict, unchanged
from expunge.errors import InputError
from expunge.exact.hashing import tensor_digest
from expunge.tasks.protocol import Samples, Task
from expunge.unlearning.judging import losses_of, named_of
from expunge.unlearning.material import Material, group_numbers
from expunge.unlearning.probes import NOISY, REFIT, noisy_losses, refit_head, takes_noise
from expunge.unlearning.relearn import relearn_figure
from expunge.unlearning.shown import Probes, Shown

LEVELS = ("quick", "standard", "full")


@dataclass(frozen=True)
class Answers:
    """What one model says of the judged data.

    Attributes:
        utility: The main metric on held-out data.
        forget, unseen: Losses by view, (n,) each.
        shown: What the probes found that are not judged.
        unchanged: In what the model is the original, a sentence; empty: it is not.
    """

    utility: float
    forget: dict[str, Scores]
    unseen: dict[str, Scores]
    shown: Shown = field(default_factory=Shown)
    unchanged: str = ""


@dataclass
class Audit:
    """One original and its references, by which any number of candidates are judged.

    Attributes:
        task: Scores.
        original: The model before the erasure, ready to be asked.
        references: Models trained without the forget set, ready to be asked.
        material: The data.
        level: ``quick``, ``standard`` or ``full``; None: what the references allow.
        allowed_drop: By how much the main metric may fall.
        tests: How many candidates may be judged in all.
        seed: Of resampling and probes.
        on_model: Is told of every model that was asked.
        probes: Which of :data:`~expunge.unlearning.shown.PROBES` to show besides; none of them is judged.

    Raises:
        InputError: If level and references do not fit, if the forget set and the unseen data overlap, or if a
            reference is the original.
    """

    task: Task
    original: nn.Module
    references: Sequence[nn.Module]
    material: Material
    level: str | None = None
    allowed_drop: float = 0.02
    tests: int = 1
    seed: int = 0
    on_model: Callable[[], None] = lambda: None
    probes: Sequence[str] = ()
    _before: Answers = field(init=False)
    _null: list[Answers] = field(init=False)
    _own: str = field(init=False)
    _noise_fits: bool = field(init=False)

    def __post_init__(self) -> None:
        self.level = check_level(self.level, len(self.references))
        refuse_overlap(self.task, self.material.forget, self.material.unseen)
        self._own = model_digest(self.original)
        if any(model_digest(reference) == self._own for reference in self.references):
            raise InputError(
                "A reference is the original itself.",
                "It was trained on the forget set, so nothing can be judged by it.",
                "Give models that were trained without the forget set.",
            )
        self._noise_fits = takes_noise(self.task, self.material.forget)
        self._probes = Probes(self.probes, self.task, self.original, self.material, self.seed)
        self._before = self.ask(self.original)
        self._null = [self.ask(reference) for reference in self.references]

    @property
    def held(self) -> Samples:
        """On what the utility is judged: not the guard, by which methods are stopped and tuned."""
        return self.material.unseen if len(self.material.unseen) else self.material.guard

    @property
    def views(self) -> tuple[str, ...]:
        """How the models are asked at this level."""
        if self.level == "quick":
            return (OUTPUTS,)
        return (OUTPUTS, NOISY, REFIT) if self._noise_fits else (OUTPUTS, REFIT)

    def ask(self, model: nn.Module) -> Answers:
        """Return what a model says of the judged data."""
        task, material = self.task, self.material
        refitted = refit_head(task, model, material.retain, self.seed) if REFIT in self.views else None

        def losses(data: Samples) -> dict[str, Scores]:
            found = {OUTPUTS: losses_of(task, model, data)}
            if NOISY in self.views:
                found[NOISY] = noisy_losses(task, model, data, self.seed)
            if refitted is not None:
                found[REFIT] = losses_of(task, refitted, data)
            return found

        utility = task.evaluate(model, self.held)[task.metric]
        shown = self._probes.ask(model)
        forget, unseen = losses(material.forget), losses(material.unseen)
        for view, (f, u) in shown.views.items():
            forget[view], unseen[view] = f, u
        self.on_model()
        return Answers(utility, forget, unseen, shown)

    def verdict(self, candidate: nn.Module) -> Verdict:
        """Judge a candidate."""
        if self.material.goal == "class":
            named, original = (
                named_of(self.task, model, self.material.forget, self.material.classes)
                for model in (candidate, self.original)
            )
            after = self.task.evaluate(candidate, self.held)[self.task.metric]
            verdict = judge_absence(named, self._utility(after), original=original, tests=self.tests)
            if model_digest(candidate) == self._own:
                return unchanged(verdict, SAME_TENSORS)
            before, now = (
                losses_of(self.task, model, self.material.forget) for model in (self.original, candidate)
            )
            return unchanged(verdict, SAME_LOSSES) if np.array_equal(before, now) else verdict
        return self.verdict_of(self.answers(candidate))

    def answers(self, candidate: nn.Module) -> Answers:
        """Ask a candidate that is not among its own references.

        Raises:
            InputError: If it is.
        """
        own = model_digest(candidate)
        if any(model_digest(reference) == own for reference in self.references):
            raise InputError(
                "The candidate is among its own references.",
                "It would be compared with itself.",
                "Leave it out of the references.",
            )
        found = self.ask(candidate)
        if own == self._own:
            return replace(found, unchanged=SAME_TENSORS)
        equal = np.array_equal(found.forget[OUTPUTS], self._before.forget[OUTPUTS])
        return replace(found, unchanged=SAME_LOSSES) if equal else found

    def verdict_of(self, after: Answers) -> Verdict:
        """Judge what a candidate said; figures of the probes are added to those that are judged."""
        verdict = self._judged(after)
        verdict = unchanged(verdict, after.unchanged) if after.unchanged else verdict
        return replace(verdict, figures=(*verdict.figures, *self._shown(after)))

    def raw(self, after: Answers) -> Raw:
        """Return the losses behind a verdict, sample by sample."""
        material = self.material
        return Raw(
            {v: (self._asked("forget", v, after), self._asked("unseen", v, after)) for v in after.forget},
            group_numbers(material.forget_groups, len(material.forget)),
            group_numbers(material.unseen_groups, len(material.unseen)),
        )

    def _shown(self, after: Answers) -> list[dict[str, Any]]:
        """The figures of the probes, with what single references gave for relearning."""
        width, full = 1 - (1 - LEVEL) / self.tests, self.level == "full"
        found: list[dict[str, Any]] = []
        for view in self._probes.views:
            if full:
                pair = self._asked("forget", view, after), self._asked("unseen", view, after)
                figures = against_references(*pair, width, view)
            else:
                losses = self._losses("forget", view, after), self._losses("unseen", view, after)
                figures = residuals(*losses, width, self.seed, view) if enough(*losses) else []
            found += [asdict(replace(figure, judged=False)) for figure in figures]
        if self._probes.relearning and self._before.shown.steps is not None and after.shown.steps is not None:
            steps = [a.shown.steps for a in self._null if a.shown.steps is not None]
            own = self._before.shown.steps, after.shown.steps
            figure = relearn_figure(*own, steps, width, full=full, n=self._probes.relearning.n)
            if figure is not None:
                found.append({**asdict(figure), "references": [float(s[0]) for s in steps]})
        return found

    def _judged(self, after: Answers) -> Verdict:
        utility, views = self._utility(after.utility), self.views
        if self.level == "full":
            pairs = {
                v: (self._asked("forget", v, after), self._asked("unseen", v, after)) for v in self.views
            }
            first, second = pairs.pop(OUTPUTS)
            return judge_by_references(first, second, utility, probes=pairs, tests=self.tests)
        losses = {v: (self._losses("forget", v, after), self._losses("unseen", v, after)) for v in views}
        forget, unseen = losses.pop(OUTPUTS)
        return judge(
            forget,
            unseen,
            utility,
            tests=self.tests,
            seed=self.seed,
            level=str(self.level),
            probes=losses,
        )

    def _utility(self, after: float) -> Utility:
        null = np.array([answers.utility for answers in self._null])
        low = None if not len(null) else float(max(bounds(null, LEVEL)[0], null.min()))
        task, n = self.task, len(self.held)
        return Utility(self._before.utility, after, self.allowed_drop, task.metric, n, low)

    def _asked(self, part: str, view: str, after: Answers) -> Asked:
        original, candidate, *references = (
            getattr(answers, part)[view] for answers in (self._before, after, *self._null)
        )
        empty = np.zeros((0, len(original)))
        return Asked(original, candidate, np.stack(references) if references else empty)

    def _losses(self, part: str, view: str, after: Answers) -> Losses:
        groups = self.material.forget_groups if part == "forget" else self.material.unseen_groups
        asked = self._asked(part, view, after)
        numbers = group_numbers(groups, len(asked.original))
        if self.level == "standard":
            return calibrate(asked, numbers)
        return Losses(asked.original, asked.candidate, numbers)


def check_level(level: str | None, references: int) -> str:
    """Return the level, or the one that the references allow.

    Raises:
        InputError: If there is no such level, or it needs other references than there are.
    """
    if level is None:
        return "full" if references >= FULL else "standard" if references else "quick"
    if level not in LEVELS:
        raise InputError(f"There is no level '{level}'.", "", f"Choose one of {', '.join(LEVELS)}.")
    if level == "standard" and not references:
        raise InputError(
            "The level standard needs at least one reference model.",
            "None was given, and the plain comparison is another test.",
            "Give models that were trained without the forget set, or judge at the level quick.",
        )
    if level == "full" and references < FULL:
        raise InputError(
            f"The level full needs at least {FULL} reference models.",
            f"{references} were given: a rank test over N of them has p ≥ 1/(N + 1).",
            "Train more, or judge at the level standard.",
        )
    if level == "quick" and references:
        raise InputError(
            "The level quick uses no reference models.",
            f"{references} were given, and leaving them aside unsaid would be wrong.",
            "Judge at the level standard or full, or give none.",
        )
    return level


def refuse_overlap(task: Task, forget: Samples, unseen: Samples) -> None:
    """Refuse unseen data that holds an input of the forget set.

    Raises:
        InputError: With how many there are.
    """
    known = {_input_digest(task, forget[i]) for i in range(len(forget))}
    both = sum(_input_digest(task, unseen[i]) in known for i in range(len(unseen)))
    if both:
        raise InputError(
            f"{both} of the unseen samples are in the forget set.",
            "What is judged cannot be its own yardstick.",
            "Take them out of one of the two.",
        )


def _input_digest(task: Task, item: object) -> bytes:
    return task.input_digest(task.collate([item]))


def model_digest(model: nn.Module) -> str:
    """Return the digest of a model's tensors."""
    return tensor_digest(model.state_dict())

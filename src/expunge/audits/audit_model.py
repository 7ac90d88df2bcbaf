# SPDX-License-Identifier: Apache-2.0
"""Audit a model: score original, candidate and references on the same data, and derive the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from expunge.audits.gate import Losses, bounds, enough, judge, judge_absence, residuals
from expunge.audits.probes.altered_inputs import NOISY, REFIT, noisy_losses, refit_head, takes_noise
from expunge.audits.probes.relearn import relearn_figure
from expunge.audits.probes.results import ProbeResults, Probes
from expunge.audits.quick import losses_of, named_of
from expunge.audits.raw_losses import RawLosses
from expunge.audits.references import FULL, PairedLosses, against_references, calibrate, judge_by_references
from expunge.audits.scores import Scores
from expunge.audits.unlearning_data import UnlearningData, group_numbers
from expunge.audits.verdict import LEVEL, OUTPUTS, SAME_LOSSES, SAME_TENSORS, Utility, Verdict, unchanged
from expunge.errors import InputError
from expunge.storage.hashing import tensor_digest
from expunge.tasks.protocol import Samples, Task

LEVELS = ("quick", "standard", "full")


@dataclass(frozen=True)
class ModelScores:
    """Scores of one model on the data of an audit.

    Attributes:
        utility: The main metric on held-out data.
        forget, unseen: Losses by view, (n,) each.
        shown: Results of the probes that do not affect the verdict.
        unchanged: A sentence that says in what the model equals the original; empty: it does not.
    """

    utility: float
    forget: dict[str, Scores]
    unseen: dict[str, Scores]
    shown: ProbeResults = field(default_factory=ProbeResults)
    unchanged: str = ""


@dataclass
class Audit:
    """Audits any number of candidates against one original and its references.

    Attributes:
        task: Task of the models.
        original: The model before the erasure, in evaluation mode.
        references: Models trained without the forget set, in evaluation mode.
        material: The data.
        level: ``quick``, ``standard`` or ``full``; None: the highest that the references allow.
        allowed_drop: Maximum drop of the main metric.
        tests: Maximum number of candidates that are audited (Bonferroni).
        seed: Seed of resampling and probes.
        on_model: Called after each model that was scored.
        probes: Names from :data:`~expunge.audits.probes.results.PROBES`, reported without effect on the
            verdict.

    Raises:
        InputError: If level and references do not fit, if the forget set and the unseen data overlap, or if a
            reference is the original.
    """

    task: Task
    original: nn.Module
    references: Sequence[nn.Module]
    material: UnlearningData
    level: str | None = None
    allowed_drop: float = 0.02
    tests: int = 1
    seed: int = 0
    on_model: Callable[[], None] = lambda: None
    probes: Sequence[str] = ()
    _original_scores: ModelScores = field(init=False)
    _reference_scores: list[ModelScores] = field(init=False)
    _original_digest: str = field(init=False)
    _noise_fits: bool = field(init=False)

    def __post_init__(self) -> None:
        self.level = check_level(self.level, len(self.references))
        refuse_overlap(self.task, self.material.forget, self.material.unseen)
        self._original_digest = model_digest(self.original)
        if any(model_digest(reference) == self._original_digest for reference in self.references):
            raise InputError(
                "A reference is the original itself.",
                "It was trained on the forget set.",
                "Give models that were trained without the forget set.",
            )
        self._noise_fits = takes_noise(self.task, self.material.forget)
        self._probes = Probes(self.probes, self.task, self.original, self.material, self.seed)
        self._original_scores = self.score(self.original)
        self._reference_scores = [self.score(reference) for reference in self.references]

    @property
    def utility_data(self) -> Samples:
        """Data for the utility: the unseen data, since the guard data stops and tunes methods."""
        return self.material.unseen if len(self.material.unseen) else self.material.guard

    @property
    def views(self) -> tuple[str, ...]:
        """Views of the models that are judged at this level."""
        if self.level == "quick":
            return (OUTPUTS,)
        return (OUTPUTS, NOISY, REFIT) if self._noise_fits else (OUTPUTS, REFIT)

    def score(self, model: nn.Module) -> ModelScores:
        """Return the scores of a model."""
        task, material = self.task, self.material
        refitted = refit_head(task, model, material.retain, self.seed) if REFIT in self.views else None

        def losses(data: Samples) -> dict[str, Scores]:
            found = {OUTPUTS: losses_of(task, model, data)}
            if NOISY in self.views:
                found[NOISY] = noisy_losses(task, model, data, self.seed)
            if refitted is not None:
                found[REFIT] = losses_of(task, refitted, data)
            return found

        utility = task.evaluate(model, self.utility_data)[task.metric]
        shown = self._probes.run(model)
        forget, unseen = losses(material.forget), losses(material.unseen)
        for view, (f, u) in shown.views.items():
            forget[view], unseen[view] = f, u
        self.on_model()
        return ModelScores(utility, forget, unseen, shown)

    def verdict(self, candidate: nn.Module) -> Verdict:
        """Return the verdict on a candidate."""
        if self.material.goal == "class":
            named, original = (
                named_of(self.task, model, self.material.forget, self.material.classes)
                for model in (candidate, self.original)
            )
            after = self.task.evaluate(candidate, self.utility_data)[self.task.metric]
            verdict = judge_absence(named, self._utility(after), original=original, tests=self.tests)
            if model_digest(candidate) == self._original_digest:
                return unchanged(verdict, SAME_TENSORS)
            before, now = (
                losses_of(self.task, model, self.material.forget) for model in (self.original, candidate)
            )
            return unchanged(verdict, SAME_LOSSES) if np.array_equal(before, now) else verdict
        return self.verdict_of(self.answers(candidate))

    def answers(self, candidate: nn.Module) -> ModelScores:
        """Return the scores of a candidate.

        Raises:
            InputError: If the candidate is one of the references.
        """
        digest = model_digest(candidate)
        if any(model_digest(reference) == digest for reference in self.references):
            raise InputError(
                "The candidate is among its own references.",
                "It would be compared with itself.",
                "Leave it out of the references.",
            )
        scores = self.score(candidate)
        if digest == self._original_digest:
            return replace(scores, unchanged=SAME_TENSORS)
        equal = np.array_equal(scores.forget[OUTPUTS], self._original_scores.forget[OUTPUTS])
        return replace(scores, unchanged=SAME_LOSSES) if equal else scores

    def verdict_of(self, after: ModelScores) -> Verdict:
        """Return the verdict on a candidate's scores, with the figures of the probes added."""
        verdict = self._verdict(after)
        verdict = unchanged(verdict, after.unchanged) if after.unchanged else verdict
        return replace(verdict, figures=(*verdict.figures, *self._probe_figures(after)))

    def raw(self, after: ModelScores) -> RawLosses:
        """Return the losses behind a verdict, sample by sample."""
        material = self.material
        return RawLosses(
            {v: (self._paired("forget", v, after), self._paired("unseen", v, after)) for v in after.forget},
            group_numbers(material.forget_groups, len(material.forget)),
            group_numbers(material.unseen_groups, len(material.unseen)),
        )

    def _probe_figures(self, after: ModelScores) -> list[dict[str, Any]]:
        """Return the figures of the probes, and for relearning the steps of each reference."""
        width, full = 1 - (1 - LEVEL) / self.tests, self.level == "full"
        found: list[dict[str, Any]] = []
        for view in self._probes.views:
            if full:
                pair = self._paired("forget", view, after), self._paired("unseen", view, after)
                figures = against_references(*pair, width, view)
            else:
                losses = self._losses("forget", view, after), self._losses("unseen", view, after)
                figures = residuals(*losses, width, self.seed, view) if enough(*losses) else []
            found += [asdict(replace(figure, judged=False)) for figure in figures]
        if (
            self._probes.relearning
            and self._original_scores.shown.steps is not None
            and after.shown.steps is not None
        ):
            steps = [a.shown.steps for a in self._reference_scores if a.shown.steps is not None]
            own = self._original_scores.shown.steps, after.shown.steps
            figure = relearn_figure(*own, steps, width, full=full, n=self._probes.relearning.n)
            if figure is not None:
                found.append({**asdict(figure), "references": [float(s[0]) for s in steps]})
        return found

    def _verdict(self, after: ModelScores) -> Verdict:
        """Return the verdict of the level, without probe figures."""
        utility, views = self._utility(after.utility), self.views
        if self.level == "full":
            pairs = {
                v: (self._paired("forget", v, after), self._paired("unseen", v, after)) for v in self.views
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
        null = np.array([scores.utility for scores in self._reference_scores])
        low = None if not len(null) else float(max(bounds(null, LEVEL)[0], null.min()))
        task, n = self.task, len(self.utility_data)
        return Utility(self._original_scores.utility, after, self.allowed_drop, task.metric, n, low)

    def _paired(self, part: str, view: str, after: ModelScores) -> PairedLosses:
        original, candidate, *references = (
            getattr(scores, part)[view] for scores in (self._original_scores, after, *self._reference_scores)
        )
        empty = np.zeros((0, len(original)))
        return PairedLosses(original, candidate, np.stack(references) if references else empty)

    def _losses(self, part: str, view: str, after: ModelScores) -> Losses:
        groups = self.material.forget_groups if part == "forget" else self.material.unseen_groups
        paired = self._paired(part, view, after)
        numbers = group_numbers(groups, len(paired.original))
        if self.level == "standard":
            return calibrate(paired, numbers)
        return Losses(paired.original, paired.candidate, numbers)


def check_level(level: str | None, references: int) -> str:
    """Return the level of an audit; by default the highest that the number of references allows.

    Raises:
        InputError: If the level is unknown, or does not fit the number of references.
    """
    if level is None:
        return "full" if references >= FULL else "standard" if references else "quick"
    if level not in LEVELS:
        raise InputError(f"There is no level '{level}'.", "", f"Choose one of {', '.join(LEVELS)}.")
    if level == "standard" and not references:
        raise InputError(
            "The level standard needs at least one reference model.",
            "None was given.",
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
            f"{references} were given, and would be ignored.",
            "Judge at the level standard or full, or give none.",
        )
    return level


def refuse_overlap(task: Task, forget: Samples, unseen: Samples) -> None:
    """Raise InputError if unseen data contains an input of the forget set.

    Raises:
        InputError: With the number of such inputs.
    """
    known = {_input_digest(task, forget[i]) for i in range(len(forget))}
    both = sum(_input_digest(task, unseen[i]) in known for i in range(len(unseen)))
    if both:
        raise InputError(
            f"{both} of the unseen samples are in the forget set.",
            "The forget set would be compared with itself.",
            "Take them out of one of the two.",
        )


def _input_digest(task: Task, item: object) -> bytes:
    return task.input_digest(task.collate([item]))


def model_digest(model: nn.Module) -> str:
    """Return the digest of a model's tensors."""
    return tensor_digest(model.state_dict())

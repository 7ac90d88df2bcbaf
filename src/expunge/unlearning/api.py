# SPDX-License-Identifier: Apache-2.0
"""``expunge.unlearn`` and ``expunge.audit``: one call for any torch model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expunge.audit.verdict import label_of
from expunge.errors import InputError
from expunge.methods.base import get_method
from expunge.methods.values import check_value, is_whole
from expunge.tasks.module import Loss
from expunge.tasks.protocol import Samples
from expunge.tasks.sets import take_samples
from expunge.tasks.working_copy import working_copy
from expunge.unlearning.arguments import check_apart, check_classes, check_filled
from expunge.unlearning.auditing import Audit, check_level
from expunge.unlearning.auto import AUTO, TRIES, run, tests_of
from expunge.unlearning.guard import finite
from expunge.unlearning.material import Material, with_own_guard
from expunge.unlearning.preparing import (
    Reading,
    own_randomness,
    prepare,
    refuse_unsuited_goal,
    thaw_frozen,
)
from expunge.unlearning.references import retrains
from expunge.unlearning.result import Result
from expunge.unlearning.run import ALLOWED_DROP, BUDGET, Terms, Unlearning, checked

if TYPE_CHECKING:
    from expunge.audit.raw import Raw

NOTHING: Samples = torch.utils.data.TensorDataset(torch.zeros(0))


def unlearn(
    model: nn.Module,
    *,
    forget: Samples,
    retain: Samples,
    loss: Loss,
    method: str = "auto",
    goal: str = "sample",
    validation: Samples | None = None,
    unseen: Samples | None = None,
    classes: Sequence[int] = (),
    forget_groups: Sequence[str] | None = None,
    unseen_groups: Sequence[str] | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    evaluate: Callable[[nn.Module, Samples], dict[str, float]] | None = None,
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    logits: Callable[[Any], torch.Tensor] | None = None,
    retrain_epochs: int | None = None,
    budget: float = BUDGET,
    allowed_drop: float = ALLOWED_DROP,
    accept_no_power: bool = False,
    tune: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    **hyperparameters: Any,
) -> Result:
    """Make a model forget samples, a person, or a class.

    Args:
        model: Any trained module; it is not changed. Parameters with ``requires_grad=False`` stay.
        forget: Data set to be forgotten. Its samples are pairs (input, target), dicts or named tuples; what
            is taken in all is listed in docs/unlearn.md. A ``DataLoader`` gives its data set and collate_fn.
        retain: Data set of what stays.
        loss: ``loss(outputs, targets) -> (B,)``, the training loss of every sample.
        method: A method's name, or ``auto``: from cheap to dear until one passes, else a retrain.
        goal: ``sample`` and ``subject``: as if never trained on; ``class``: the class is gone.
        validation: Held-out retained data that guards the utility. Without it a tenth of ``retain`` is
            held back for that, which the original was trained on.
        unseen: Data of the same kind that nobody trained on; the verdict compares with it. Without it the
            verdict is ``no-power`` at best.
        classes: Class indices to remove, for the goal ``class``.
        forget_groups, unseen_groups: The person of each sample, so that intervals are over people.
        fresh: Returns an untrained model, where its layers have no ``reset_parameters``.
        evaluate: ``evaluate(model, data) -> metrics`` in place of accuracy; the first metric counts, and
            higher is better.
        unpack: ``unpack(batch) -> (inputs, targets)`` where that is not clear from the form of the samples.
            Inputs that are a tuple go to as many arguments of the model, a dict to arguments by name.
        logits: ``logits(outputs) -> (B, C)``, the class scores, where the model returns more than these.
        retrain_epochs: Epochs of an ordinary training: the unit of cost and of the budget.
        budget: Most work, in units of a retrain (12 passes over ``retain`` where that is not known).
        allowed_drop: By how much the main metric may fall on ``validation``.
        accept_no_power: ``auto`` may stop where not even the original model showed a trace.
        tune: In how many runs a method's strength may be looked for, by ``validation`` (never by ``unseen``);
            1: take the defaults. Without it: 4 for ``auto``, else 1.
        device: Where to work.
        seed: Of all randomness; the same seed gives the same bytes.
        options: Hyper-parameters whose name is that of another argument: ``options={"unseen": 0.1}`` for
            ``scrub_rewind``.
        hyperparameters: Of the method; see its page in the documentation.

    Raises:
        InputError: If something does not fit; the message says what to do.
    """
    reading = Reading(unpack, logits)
    hyperparameters = {**hyperparameters, **(options or {})}
    if method == AUTO and hyperparameters:
        raise InputError(
            f"'{sorted(hyperparameters)[0]}' is a setting of one method.",
            "method='auto' tries several.",
            "Name the method, or leave it out.",
        )
    if method != AUTO:
        get_method(method).check_known(hyperparameters)
    if goal == "class" and not classes:
        raise InputError("Which class?", "The goal is to remove one.", "Give classes=[index].")
    terms = Terms(
        budget=budget,
        retrain_epochs=retrain_epochs,
        allowed_drop=allowed_drop,
        seed=seed,
        accept_no_power=accept_no_power,
        tune=tune if tune is not None else TRIES if method == AUTO else 1,
    )
    with own_randomness(seed, device, [model]):
        optional = {"validation": validation, "unseen": unseen}
        given = {"forget": forget, "retain": retain, **{k: v for k, v in optional.items() if v is not None}}
        ready = prepare(model, given, loss, reading=reading, fresh=fresh, evaluate=evaluate, device=device)
        refuse_unsuited_goal(ready.task, goal)
        sets = ready.sets
        check_filled(**sets)
        indices = check_classes(ready.task, ready.copy.module, sets["forget"], goal, classes)
        guard_seen = validation is None
        kept, guard = (
            with_own_guard(sets["retain"], seed) if guard_seen else (sets["retain"], sets["validation"])
        )
        material = Material(
            sets["forget"],
            kept,
            guard,
            sets.get("unseen", NOTHING),
            goal,
            guard_seen,
            forget_groups,
            unseen_groups,
            indices,
        )
        if method != AUTO:
            checked(method, hyperparameters, material, terms)
        check_apart(ready.task, **sets)
        unlearning = Unlearning(
            ready.copy.module,
            material,
            ready.task,
            terms,
            tests_of(method, goal),
            finish=ready.copy.round,
        )
        result = run(unlearning, method, {k: _prepared(k, v) for k, v in hyperparameters.items()})
        return replace(result, model=ready.copy.deliver(result.model))


@dataclass(frozen=True)
class Report:
    """What an audit found.

    Attributes:
        verdict: ``pass``, ``fail`` or ``no-power``.
        reasons: Plain sentences.
        figures: Numbers by name, each with n, interval, null and what it is for the original.
        level: ``quick``, ``standard`` or ``full``.
        failure: Of a failure: ``under-forgetting``, ``over-forgetting`` or ``utility``.
        references: How many reference models there were.
        raw: Losses of every sample under every model.
    """

    verdict: str
    reasons: tuple[str, ...]
    figures: dict[str, Any]
    level: str
    failure: str | None
    references: int = 0
    raw: Raw | None = field(default=None, repr=False, compare=False)

    def save_page(self, path: Path | str) -> None:
        """Write the report with its plots as one HTML file, for people."""
        from expunge.evidence.audit_page import write

        said = {k: v for k, v in vars(self).items() if k != "raw"}
        said["figures"] = {k: v for k, v in self.figures.items() if k != "utility"}
        said |= {
            "utility": self.figures["utility"],
            "references": {"count": self.references, "origin": "given"},
        }
        write(said, self.raw, Path(path))


def audit(
    candidate: nn.Module,
    *,
    original: nn.Module,
    forget: Samples,
    retain: Samples,
    unseen: Samples,
    loss: Loss,
    references: Sequence[nn.Module] = (),
    level: str | None = None,
    forget_groups: Sequence[str] | None = None,
    unseen_groups: Sequence[str] | None = None,
    allowed_drop: float = ALLOWED_DROP,
    probes: Sequence[str] = (),
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    logits: Callable[[Any], torch.Tensor] | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> Report:
    """Judge a candidate, whoever made it.

    ``quick``: without references, the forgotten against unseen data by their losses. ``standard``: the same
    with losses calibrated by references, and after two probes. ``full``: against at least 19 references,
    trained by the same plan on the same retained data with other seeds: a verdict on the model.
    Utility is taken on ``unseen``, which the candidate must not have been tuned by.

    Args:
        candidate: The model to be judged.
        original: The model before the erasure: without it nobody knows whether the test could notice.
        forget, retain, unseen: Data sets; see :func:`unlearn`.
        loss: ``loss(outputs, targets) -> (B,)``.
        references: Models trained without the forget set and without ``unseen``; see
            :func:`expunge.train_references`.
        level: Which of the three; without it what the references allow.
        forget_groups, unseen_groups: The person of each sample.
        allowed_drop: By how much the main metric may fall.
        probes: What else to show, without judging it: ``relearn``, ``linear``, ``int8``, ``onnx``.
        unpack, logits: See :func:`unlearn`.
        device: Where to work; without it where the candidate is.
        seed: Of resampling and probes.

    Raises:
        InputError: If the data or the models do not fit together.
    """
    Terms(allowed_drop=allowed_drop, seed=seed)  # refuses what cannot be
    if isinstance(references, nn.Module):
        raise InputError("`references` is one model.", "A list of models is taken.", "Give [model].")
    learns = check_level(level, len(references)) != "quick" or "relearn" in probes
    with own_randomness(seed, device, [candidate, original, *references]):
        ready = prepare(
            candidate,
            {"forget": forget, "retain": retain, "unseen": unseen},
            loss,
            reading=Reading(unpack, logits),
            device=device,
            gradients=learns,
            thaw=True,
        )
        task, sets = ready.task, ready.sets
        check_filled(**sets)
        check_apart(task, **sets)
        material = Material(
            sets["forget"],
            sets["retain"],
            sets["unseen"],
            sets["unseen"],
            forget_groups=forget_groups,
            unseen_groups=unseen_groups,
        )
        before, *asked = (_comparable(model, name) for model, name in _named(original, references))
        for model in (ready.copy.module, *asked):
            _same_architecture(before, model)
        before, *asked = (task.clone(model) for model in (before, *asked))
        judging = Audit(task, before, asked, material, level, allowed_drop, seed=seed, probes=probes)
        answers = judging.answers(task.clone(ready.copy.module))
    verdict = judging.verdict_of(answers)
    figures = {label_of(f): f for f in verdict.figures}
    return Report(
        verdict.verdict,
        verdict.reasons,
        {**figures, "utility": verdict.utility},
        verdict.level,
        verdict.failure,
        len(references),
        judging.raw(answers),
    )


def train_references(
    model: nn.Module,
    *,
    retain: Samples,
    loss: Loss,
    count: int,
    epochs: int,
    fresh: Callable[[], nn.Module] | None = None,
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    logits: Callable[[Any], torch.Tensor] | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    **settings: Any,
) -> list[nn.Module]:
    """Train models that never saw what is not in ``retain``, for :func:`audit`.

    They are exchangeable with a retrain only if that is how the original was trained: by AdamW with a cosine
    from ``lr`` to zero (see :meth:`expunge.tasks.module.ModuleTask.retrain`). Small models without batch norm
    or dropout are trained all at once.

    Args:
        model: Says the architecture; what is frozen in it stays as it is.
        retain: What to train on.
        loss: ``loss(outputs, targets) -> (B,)``.
        count: How many; 19 or more for a verdict on the model.
        epochs: Passes over ``retain``, as the original had.
        fresh: Returns an untrained model, where its layers have no ``reset_parameters``.
        unpack, logits: See :func:`unlearn`.
        device: Where to work; without it where the model is.
        seed: Of all randomness; reference i depends on (seed, i) alone.
        settings: ``lr`` and ``batch``.

    Raises:
        InputError: If ``count``, ``epochs`` or a setting means that nothing would be trained.
    """
    least = {"count": count, "epochs": epochs}
    for name, value in least.items():
        if not is_whole(value, 1):
            raise InputError(f"{name}={value} does not fit.", "Nothing would be trained.", "Give 1 or more.")
    for name, value in settings.items():
        check_value("retrain", name, value, None)
    with own_randomness(seed, device, [model]):
        ready = prepare(
            model,
            {"retain": retain},
            loss,
            reading=Reading(unpack, logits),
            fresh=fresh,
            device=device,
            trained=False,
        )
        found = retrains(
            ready.task,
            ready.copy.module,
            ready.sets["retain"],
            count=count,
            epochs=epochs,
            seed=seed,
            settings=settings,
        )
        return [ready.copy.deliver(reference) for reference in found]


def _prepared(name: str, value: Any) -> Any:
    """Return a hyper-parameter that is a model or a data set in the form in which methods work with it."""
    if isinstance(value, nn.Module):
        return working_copy(value, name).module
    return take_samples(value, name)[0] if name == "unseen" and not isinstance(value, Real) else value


def _named(original: nn.Module, references: Sequence[nn.Module]) -> list[tuple[nn.Module, str]]:
    return [(original, "original"), *((model, "reference model") for model in references)]


def _comparable(model: nn.Module, name: str) -> nn.Module:
    """Return a copy of a model that can be asked and probed as the candidate is."""
    found = working_copy(model, name).module
    thaw_frozen(found)
    return found


def _same_architecture(original: nn.Module, other: nn.Module) -> None:
    if not (finite(original) and finite(other)):
        raise InputError(
            "A model's weights are not all numbers.", "One is NaN or infinite.", "Load an undamaged file."
        )
    shapes = [{k: getattr(v, "shape", None) for k, v in m.state_dict().items()} for m in (original, other)]
    if shapes[0] != shapes[1]:
        raise InputError(
            "A model is of another architecture than the original.",
            "Their tensors differ in names or shapes.",
            "Compare models of one architecture.",
        )

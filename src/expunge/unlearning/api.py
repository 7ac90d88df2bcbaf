# SPDX-License-Identifier: Apache-2.0
"""``expunge.unlearn``, ``expunge.audit`` and ``expunge.train_references``, for any torch model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expunge.audits.audit_model import Audit, check_level
from expunge.audits.reference_models import retrains
from expunge.audits.unlearning_data import UnlearningData, with_own_guard
from expunge.audits.verdict import label_of
from expunge.errors import InputError
from expunge.methods.base import get_method
from expunge.methods.values import check_value, is_whole
from expunge.tasks.module import Loss
from expunge.tasks.protocol import Samples
from expunge.tasks.user_samples import take_samples
from expunge.tasks.working_copy import working_copy
from expunge.unlearning.arguments import check_apart, check_classes, check_filled
from expunge.unlearning.auto import AUTO, TRIES, run, tests_of
from expunge.unlearning.guard import finite
from expunge.unlearning.preparing import (
    Reading,
    own_randomness,
    prepare,
    refuse_unsuited_goal,
    thaw_frozen,
)
from expunge.unlearning.result import Result
from expunge.unlearning.run import ALLOWED_DROP, BUDGET, Unlearning, UnlearningOptions, checked

if TYPE_CHECKING:
    from expunge.audits.raw_losses import RawLosses

NO_SAMPLES: Samples = torch.utils.data.TensorDataset(torch.zeros(0))


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
        model: A trained module; it is not changed. Parameters with ``requires_grad=False`` stay as they are.
        forget: Dataset to forget. Samples are pairs (input, target), dicts or named tuples; docs/unlearn.md
            lists all accepted forms. A ``DataLoader`` contributes its dataset and its ``collate_fn``.
        retain: Dataset to keep.
        loss: ``loss(outputs, targets) -> (B,)``, the training loss of each sample.
        method: A method's name, or ``auto``: methods by increasing cost until one passes, else a retrain.
        goal: ``sample`` or ``subject``: a model as if never trained on them; ``class``: a model without the
            class.
        validation: Held-out retained data for the utility guard. Default: a tenth of ``retain``, which the
            original was trained on.
        unseen: Data of the same kind that no model was trained on. The verdict compares with it; without it
            the verdict is ``no-power`` at best.
        classes: Class indices to remove, for the goal ``class``.
        forget_groups, unseen_groups: The person of each sample; intervals are then over people.
        fresh: Returns an untrained model, for models whose layers have no ``reset_parameters``.
        evaluate: ``evaluate(model, data) -> metrics``, in place of accuracy. The first metric is the main
            one; higher is better.
        unpack: ``unpack(batch) -> (inputs, targets)``, for samples whose form is ambiguous. A tuple of inputs
            is passed to the model as positional arguments, a dict as keyword arguments.
        logits: ``logits(outputs) -> (B, C)``, the class scores, for models with further outputs.
        retrain_epochs: Epochs of a full training: the unit of cost and budget.
        budget: Maximum work, in units of a retrain (12 passes over ``retain`` if ``retrain_epochs`` is not
            given).
        allowed_drop: Maximum drop of the main metric on ``validation``.
        accept_no_power: Let ``auto`` accept a result if the test finds no trace in the original either.
        tune: Maximum number of runs in which a method's strength is tuned on ``validation`` (never on
            ``unseen``); 1: use the defaults. Default: 4 for ``auto``, else 1.
        device: Where to compute.
        seed: Seed of all randomness; the same seed gives the same bytes.
        options: Hyper-parameters with the name of another argument, such as ``options={"unseen": 0.1}`` for
            ``scrub_rewind``.
        hyperparameters: Hyper-parameters of the method; see its page in the documentation.

    Raises:
        InputError: If the arguments do not fit together; the message names the remedy.
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
        raise InputError("No class is given.", "The goal is to remove one.", "Give classes=[index].")
    unlearning_options = UnlearningOptions(
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
        material = UnlearningData(
            sets["forget"],
            kept,
            guard,
            sets.get("unseen", NO_SAMPLES),
            goal,
            guard_seen,
            forget_groups,
            unseen_groups,
            indices,
        )
        if method != AUTO:
            checked(method, hyperparameters, material, unlearning_options)
        check_apart(ready.task, **sets)
        unlearning = Unlearning(
            ready.copy.module,
            material,
            ready.task,
            unlearning_options,
            tests_of(method, goal),
            finish=ready.copy.round,
        )
        result = run(unlearning, method, {k: _prepared(k, v) for k, v in hyperparameters.items()})
        return replace(result, model=ready.copy.deliver(result.model))


@dataclass(frozen=True)
class Report:
    """The result of an audit.

    Attributes:
        verdict: ``pass``, ``fail`` or ``no-power``.
        reasons: Plain sentences.
        figures: Figures by name, each with n, interval, null and the value of the original.
        level: ``quick``, ``standard`` or ``full``.
        failure: Kind of a failure: ``under-forgetting``, ``over-forgetting`` or ``utility``.
        references: Number of reference models.
        raw: Loss of each sample under each model.
    """

    verdict: str
    reasons: tuple[str, ...]
    figures: dict[str, Any]
    level: str
    failure: str | None
    references: int = 0
    raw: RawLosses | None = field(default=None, repr=False, compare=False)

    def save_page(self, path: Path | str) -> None:
        """Write the report with its plots as one HTML file."""
        from expunge.evidence.audit_page import write

        report = {k: v for k, v in vars(self).items() if k != "raw"}
        report["figures"] = {k: v for k, v in self.figures.items() if k != "utility"}
        report |= {
            "utility": self.figures["utility"],
            "references": {"count": self.references, "origin": "given"},
        }
        write(report, self.raw, Path(path))


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
    """Audit a candidate model, made by any method.

    ``quick`` compares losses on the forget set with losses on unseen data, without references. ``standard``
    calibrates these losses by references and repeats the comparison after two probes. ``full`` compares the
    candidate with at least 19 references (same plan and retained data, other seeds) and gives a verdict on
    the model. Utility is measured on ``unseen``, on which the candidate must not have been tuned.

    Args:
        candidate: The model to audit.
        original: The model before the erasure; it shows the power of the test.
        forget, retain, unseen: Datasets; see :func:`unlearn`.
        loss: ``loss(outputs, targets) -> (B,)``.
        references: Models trained without the forget set and without ``unseen``; see
            :func:`expunge.train_references`.
        level: ``quick``, ``standard`` or ``full``. Default: the highest that the references allow.
        forget_groups, unseen_groups: The person of each sample.
        allowed_drop: Maximum drop of the main metric.
        probes: Further probes to report without effect on the verdict: ``relearn``, ``linear``, ``int8``,
            ``onnx``.
        unpack, logits: See :func:`unlearn`.
        device: Where to compute. Default: the candidate's device.
        seed: Seed of resampling and probes.

    Raises:
        InputError: If the data or the models do not fit together.
    """
    UnlearningOptions(allowed_drop=allowed_drop, seed=seed)  # validates both values
    if isinstance(references, nn.Module):
        raise InputError("`references` is one model.", "A list of models is taken.", "Give [model].")
    needs_gradients = check_level(level, len(references)) != "quick" or "relearn" in probes
    with own_randomness(seed, device, [candidate, original, *references]):
        ready = prepare(
            candidate,
            {"forget": forget, "retain": retain, "unseen": unseen},
            loss,
            reading=Reading(unpack, logits),
            device=device,
            gradients=needs_gradients,
            thaw=True,
        )
        task, sets = ready.task, ready.sets
        check_filled(**sets)
        check_apart(task, **sets)
        material = UnlearningData(
            sets["forget"],
            sets["retain"],
            sets["unseen"],
            sets["unseen"],
            forget_groups=forget_groups,
            unseen_groups=unseen_groups,
        )
        before, *others = (_comparable(model, name) for model, name in _named(original, references))
        for model in (ready.copy.module, *others):
            _check_comparable(before, model)
        before, *others = (task.clone(model) for model in (before, *others))
        auditor = Audit(task, before, others, material, level, allowed_drop, seed=seed, probes=probes)
        scores = auditor.answers(task.clone(ready.copy.module))
    verdict = auditor.verdict_of(scores)
    figures = {label_of(f): f for f in verdict.figures}
    return Report(
        verdict.verdict,
        verdict.reasons,
        {**figures, "utility": verdict.utility},
        verdict.level,
        verdict.failure,
        len(references),
        auditor.raw(scores),
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
    """Train reference models on ``retain`` alone, for :func:`audit`.

    They are exchangeable with a retrain only if the original was trained the same way: by AdamW with a cosine
    schedule from ``lr`` to zero (see :meth:`expunge.tasks.module.ModuleTask.retrain`). Small models without
    batch norm or dropout are trained together.

    Args:
        model: Gives the architecture; its frozen parameters stay as they are.
        retain: Training data.
        loss: ``loss(outputs, targets) -> (B,)``.
        count: Number of models; 19 or more for a verdict on the model.
        epochs: Passes over ``retain``, as many as the original had.
        fresh: Returns an untrained model, for models whose layers have no ``reset_parameters``.
        unpack, logits: See :func:`unlearn`.
        device: Where to compute. Default: the model's device.
        seed: Seed of all randomness; reference i depends on (seed, i) alone.
        settings: ``lr`` and ``batch``.

    Raises:
        InputError: If ``count``, ``epochs`` or a setting is invalid.
    """
    for name, value in {"count": count, "epochs": epochs}.items():
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
        trained = retrains(
            ready.task,
            ready.copy.module,
            ready.sets["retain"],
            count=count,
            epochs=epochs,
            seed=seed,
            settings=settings,
        )
        return [ready.copy.deliver(reference) for reference in trained]


def _prepared(name: str, value: Any) -> Any:
    """Return a hyper-parameter that is a model or a dataset in the form that methods take."""
    if isinstance(value, nn.Module):
        return working_copy(value, name).module
    return take_samples(value, name)[0] if name == "unseen" and not isinstance(value, Real) else value


def _named(original: nn.Module, references: Sequence[nn.Module]) -> list[tuple[nn.Module, str]]:
    return [(original, "original"), *((model, "reference model") for model in references)]


def _comparable(model: nn.Module, name: str) -> nn.Module:
    """Return a working copy of a model that can be scored and probed as the candidate is."""
    copy = working_copy(model, name).module
    thaw_frozen(copy)
    return copy


def _check_comparable(original: nn.Module, other: nn.Module) -> None:
    """Raise InputError if weights are not finite or the architectures differ."""
    if not (finite(original) and finite(other)):
        raise InputError(
            "A model's weights are not all numbers.", "One is NaN or infinite.", "Load an undamaged file."
        )
    shapes = [{k: getattr(v, "shape", None) for k, v in m.state_dict().items()} for m in (original, other)]
    if shapes[0] != shapes[1]:
        raise InputError(
            "A model has another architecture than the original.",
            "Their tensors differ in names or shapes.",
            "Compare models of one architecture.",
        )

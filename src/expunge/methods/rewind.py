# SPDX-License-Identifier: Apache-2.0
"""Rewind-to-delete (R2D): go back to an earlier checkpoint and descend on the retained data from there.

Rule::

    θ ← checkpoint of step T − K;   K times: θ ← θ − η ∇L_R(θ);   θ ← θ + N(0, σ²I)

T: steps of the original training; K: how many are undone and done again; L_R: mean loss over the retain set;
η: learning rate; σ: standard deviation of the noise, 0 unless asked for.

Certified (ε, δ): see :func:`noise_scale`. It holds for full-batch gradient descent with a constant η, for a
loss of known smoothness and bounded gradient, and for no other training; so it is refused for everything but
a plain module, for models with running statistics (which the forget set has shaped, and noise on weights does
not hide), and it rests on the caller's word for L, G, T and η. It says that what is released is (ε, δ)-close
to what a retrain with the same noise would release, and nothing about models released before.

Reference: Mu and Klabjan, *Rewind-to-Delete: Certified Machine Unlearning for Nonconvex Functions*, NeurIPS
2025.

Differences: without ``full_batch``, descent is by mini-batches and AdamW, as models are trained in practice;
then there is no guarantee. Frozen weights stay as the model has them. Otherwise see
:mod:`expunge.methods.base`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import Budget, Diverged, Loop, Progress, register
from expunge.methods.least import LeastWork, Sizes, exactly, retain_batch
from expunge.tasks.protocol import Samples, Task


def noise_scale(
    *,
    smoothness: float,
    gradient_bound: float,
    samples: int,
    forgotten: int,
    steps: int,
    redone: int,
    lr: float,
    epsilon: float,
    delta: float,
) -> float:
    """Return σ, the noise at which full-batch rewinding is (ε, δ)-certified.

    σ = Δ √(2 ln(1.25/δ)) / ε,   Δ = (2mG / (nL)) · ((1 + ηLn/(n−m))^(T−K) − 1) · (1 + ηL)^K

    as in Mu and Klabjan's theorem on R2D (cited from an account of the paper, and checked by the following
    argument, whose bound is never larger). With L_D, L_R the mean losses over all and
    over retained samples, ‖∇L_D − ∇L_R‖ = (m/n)‖∇L_F − ∇L_R‖ ≤ 2mG/n; and a step of gradient descent on an
    L-smooth loss moves two points apart by a factor of 1 + ηL at most. So after T − K steps from a common
    start, training with and without the forget set differ by at most (2mG/(nL)) ((1 + ηL)^(T−K) − 1), and K
    more steps on the same L_R stretch that by (1 + ηL)^K at most: Δ bounds the distance to the retrained
    weights. The rest is the Gaussian mechanism (Dwork and Roth 2014, Theorem A.1, for ε < 1).

    Args:
        smoothness: L, a Lipschitz constant of every sample's gradient.
        gradient_bound: G, a bound on the norm of every sample's gradient.
        samples: n, in the original training.
        forgotten: m < n.
        steps: T, of the original training.
        redone: K ≤ T.
        lr: η.
        epsilon: ε, 0 < ε < 1.
        delta: δ, 0 < δ < 1.

    Raises:
        InputError: If a value is outside its range.
    """
    sound = (
        smoothness > 0
        and gradient_bound > 0
        and 0 < forgotten < samples
        and 0 <= redone <= steps
        and lr > 0
        and 0 < epsilon < 1
        and 0 < delta < 1
    )
    if not sound:
        raise InputError(
            "The certified noise is not defined for these values.",
            "It needs L, G, η > 0, 0 < m < n, 0 ≤ K ≤ T, 0 < ε < 1 and 0 < δ < 1.",
            "Correct them, or rewind without a certificate.",
        )
    apart = lr * smoothness * samples / (samples - forgotten)
    growth = (steps - redone) * math.log1p(apart)
    later = redone * math.log1p(lr * smoothness)
    if growth + later > 700:
        return math.inf
    distance = 2 * forgotten * gradient_bound / (samples * smoothness)
    distance *= math.expm1(growth) * math.exp(later)
    return distance * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def descend(model: nn.Module, data: Samples, loop: Loop, *, lr: float, steps: int, batch: int) -> None:
    """Do steps of plain gradient descent on the mean loss over all samples, in place.

    Args:
        model: Ready to learn.
        data: The samples.
        loop: Is charged a full pass for every sample and step.
        lr: Learning rate.
        steps: Full-batch steps.
        batch: Samples of which gradients are taken at a time, for the memory's sake.

    Raises:
        BudgetSpent: If the budget does not suffice for all steps; then nothing is done.
        Diverged: If the loss is not finite.
    """
    if not loop.budget.covers(steps * len(data)):
        loop.budget.charge(steps * len(data))
    weights = list(loop.task.parameters(model).values())
    for _ in range(steps):
        for weight in weights:
            weight.grad = None
        for _, samples in loop.batches(data, batch, shuffle=False):
            loss = loop.task.loss(model, samples).sum() / len(data)
            if not torch.isfinite(loss):
                raise Diverged(
                    "The descent diverged.", "Its loss is not a finite number.", "Use a lower learning rate."
                )
            loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight in weights:
                if weight.grad is not None:
                    weight.sub_(lr * weight.grad)
        loop.budget.steps += 1


@torch.no_grad()
def perturb(model: nn.Module, task: Task, sigma: float, generator: torch.Generator) -> None:
    """Add Gaussian noise to what may be changed, in place."""
    for weight in task.parameters(model).values():
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        weight.add_(sigma * noise.to(weight.device))


def _refuse(task: Task, model: nn.Module, full_batch: bool, missing: list[str]) -> None:
    why = ""
    if task.name != "module":
        why = "The theorem needs full-batch gradient descent of known smoothness; this model's is neither."
    elif not full_batch:
        why = "The theorem is for full-batch gradient descent."
    elif any(b.is_floating_point() for b in model.buffers()):
        why = "The model has running statistics, which noise on the weights does not cover."
    elif not all(p.requires_grad for p in model.parameters()):
        why = "Some weights are frozen: what they learned of the forget set would get no noise."
    elif missing:
        why = f"Not given: {', '.join(missing)}."
    if why:
        raise InputError(
            "Rewinding cannot be certified here.", why, "Leave epsilon out, and have the result audited."
        )


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return one batch, or all steps of the full-batch descent."""
    whole = exactly(values["epochs"] * sizes.retain)
    return whole if values["full_batch"] else retain_batch(sizes, values)


@register(
    "rewind",
    goals=("sample", "subject", "class"),
    cost=5,
    paper="Mu, Klabjan: Rewind-to-Delete. NeurIPS 2025",
    needs=("checkpoint",),
    automatic=False,
    least=_least,
)
def rewind(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    checkpoint: nn.Module | Mapping[str, Any],
    lr: float = 1e-3,
    epochs: int = 5,
    batch: int = 16,
    full_batch: bool = False,
    noise: float = 0.0,
    epsilon: float | None = None,
    delta: float | None = None,
    smoothness: float | None = None,
    gradient_bound: float | None = None,
    total_steps: int | None = None,
) -> nn.Module:
    """Return the checkpoint, trained on with the retain set.

    Args:
        checkpoint: Of the same training at an earlier time: a model or its state.
        lr: η, learning rate.
        epochs: Passes over the retain set; with ``full_batch`` the number of steps, K.
        batch: Samples in a batch.
        full_batch: Plain gradient descent on the whole retain set at once, rather than AdamW on batches.
        noise: σ of uncertified noise; certified noise is computed.
        epsilon: ε; given, the result is certified or refused.
        delta: δ.
        smoothness: L, a Lipschitz constant of every sample's gradient.
        gradient_bound: G, a bound on the norm of every sample's gradient.
        total_steps: T, full-batch steps of the original training.

    Raises:
        InputError: If the checkpoint does not fit the model, or a certificate is asked for and not possible.
        BudgetSpent: With ``full_batch``, if the budget does not suffice for all steps.
    """
    student = task.clone(model)
    state = checkpoint.state_dict() if isinstance(checkpoint, nn.Module) else checkpoint
    frozen = {name: p.detach() for name, p in student.named_parameters() if not p.requires_grad}
    try:
        student.load_state_dict({name: frozen.get(name, value) for name, value in state.items()})
    except (RuntimeError, TypeError) as error:
        raise InputError(
            "The checkpoint does not fit the model.",
            str(error).splitlines()[0],
            "Give an earlier state of the same training.",
        ) from error
    loop = Loop(task, generator, budget, progress)
    if epsilon is not None:
        given = {
            "delta": delta,
            "smoothness": smoothness,
            "gradient_bound": gradient_bound,
            "total_steps": total_steps,
        }
        _refuse(task, student, full_batch, [name for name, value in given.items() if value is None])
        noise = noise_scale(
            smoothness=smoothness or 0.0,
            gradient_bound=gradient_bound or 0.0,
            samples=len(forget) + len(retain),
            forgotten=len(forget),
            steps=total_steps or 0,
            redone=epochs,
            lr=lr,
            epsilon=epsilon,
            delta=delta or 0.0,
        )
    if not math.isfinite(noise):
        raise InputError(
            "The noise that certifies this is infinite.", "Too much is redone.", "Choose a later checkpoint."
        )
    if full_batch:
        descend(student, retain, loop, lr=lr, steps=epochs, batch=batch)
    else:
        optimizer = loop.optimizer(student, lr)
        for _ in range(epochs):
            for _, samples in loop.batches(retain, batch):
                loop.step(optimizer, task.loss(student, samples).mean())
            if noise == 0:  # without its noise no state may be chosen
                loop.round(student)
    if noise > 0:
        perturb(student, task, noise, generator)
    if noise > 0 or full_batch:
        loop.round(student)
    return student

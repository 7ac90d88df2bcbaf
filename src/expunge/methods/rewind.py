# SPDX-License-Identifier: Apache-2.0
"""Rewind-to-delete (R2D): return to an earlier checkpoint and train on the retained data from there.

Rule::

    θ ← checkpoint of step T − K;   K times: θ ← θ − η ∇L_R(θ);   θ ← θ + N(0, σ²I)

T: steps of the original training; K: steps that are undone and repeated; L_R: mean loss over the retain set;
η: learning rate; σ: standard deviation of the noise, 0 by default.

Certificate (ε, δ): see :func:`noise_scale`. It holds only for full-batch gradient descent with a constant η
and a loss of known smoothness and bounded gradient. It is therefore refused for everything but a plain
module, and for models with running statistics, which depend on the forget set and which noise on weights does
not hide. It relies on the caller's values of L, G, T and η. It states that the released model is (ε, δ)-close
to a retrained model with the same noise, and nothing about models released before.

Reference: Mu and Klabjan, *Rewind-to-Delete: Certified Machine Unlearning for Nonconvex Functions*, NeurIPS
2025.

Differences: without ``full_batch``, training uses mini-batches and AdamW, as is common in practice; then
there is no guarantee. Frozen weights keep the model's values. Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import Budget, Diverged, Loop, Progress, register
from expunge.methods.least import LeastWork, SetSizes, exact_work, retain_batch
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
    argument, whose bound is never larger). With L_D, L_R the mean losses over all and over retained samples,
    ‖∇L_D − ∇L_R‖ = (m/n)‖∇L_F − ∇L_R‖ ≤ 2mG/n; and a step of gradient descent on an L-smooth loss increases
    the distance of two points by a factor of 1 + ηL at most. So after T − K steps from a common start,
    trainings with and without the forget set differ by at most (2mG/(nL)) ((1 + ηL)^(T−K) − 1), and K more
    steps on the same L_R increase that by (1 + ηL)^K at most: Δ bounds the distance to the retrained
    weights. The rest is the Gaussian mechanism (Dwork and Roth 2014, Theorem A.1, for ε < 1).

    Args:
        smoothness: L, a Lipschitz constant of every sample's gradient.
        gradient_bound: G, a bound on the norm of every sample's gradient.
        samples: n, the number of samples in the original training.
        forgotten: m < n, the number of forgotten samples.
        steps: T, the number of steps of the original training.
        redone: K ≤ T, the number of repeated steps.
        lr: η.
        epsilon: ε, 0 < ε < 1.
        delta: δ, 0 < δ < 1.

    Raises:
        InputError: If a value is outside its range.
    """
    valid = (
        smoothness > 0
        and gradient_bound > 0
        and 0 < forgotten < samples
        and 0 <= redone <= steps
        and lr > 0
        and 0 < epsilon < 1
        and 0 < delta < 1
    )
    if not valid:
        raise InputError(
            "The certified noise is not defined for these values.",
            "It needs L, G, η > 0, 0 < m < n, 0 ≤ K ≤ T, 0 < ε < 1 and 0 < δ < 1.",
            "Correct them, or rewind without a certificate.",
        )
    rate = lr * smoothness * samples / (samples - forgotten)
    growth = (steps - redone) * math.log1p(rate)
    expansion = redone * math.log1p(lr * smoothness)
    if growth + expansion > 700:
        return math.inf
    distance = 2 * forgotten * gradient_bound / (samples * smoothness)
    distance *= math.expm1(growth) * math.exp(expansion)
    return distance * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def descend(model: nn.Module, data: Samples, loop: Loop, *, lr: float, steps: int, batch: int) -> None:
    """Take steps of plain gradient descent on the mean loss over all samples, in place.

    Args:
        model: A model ready for training.
        data: The samples.
        loop: Charged a full pass per sample and step.
        lr: Learning rate.
        steps: Number of full-batch steps.
        batch: Samples per backward pass, which limits the memory.

    Raises:
        BudgetSpent: If the budget does not suffice for all steps; no step is taken then.
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
    """Add Gaussian noise to the trainable parameters, in place."""
    for weight in task.parameters(model).values():
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        weight.add_(sigma * noise.to(weight.device))


def _check_certifiable(task: Task, model: nn.Module, full_batch: bool, missing: list[str]) -> None:
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


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of one batch, or of all steps with ``full_batch``."""
    all_steps = exact_work(values["epochs"] * sizes.retain)
    return all_steps if values["full_batch"] else retain_batch(sizes, values)


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
    """Return the checkpoint, trained further on the retain set.

    Args:
        checkpoint: An earlier state of the same training: a model or a state dict.
        lr: η, learning rate.
        epochs: Passes over the retain set; with ``full_batch`` the number of steps, K.
        batch: Samples per batch.
        full_batch: Whether to use gradient descent on the whole retain set instead of AdamW on batches.
        noise: σ of uncertified noise; certified noise is computed.
        epsilon: ε; if given, the result is certified or refused.
        delta: δ.
        smoothness: L, a Lipschitz constant of every sample's gradient.
        gradient_bound: G, a bound on the norm of every sample's gradient.
        total_steps: T, full-batch steps of the original training.

    Raises:
        InputError: If the checkpoint does not fit the model, or the requested certificate is not possible.
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
        required = {
            "delta": delta,
            "smoothness": smoothness,
            "gradient_bound": gradient_bound,
            "total_steps": total_steps,
        }
        _check_certifiable(
            task, student, full_batch, [name for name, value in required.items() if value is None]
        )
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
            "The noise for this certificate is infinite.",
            "Too many steps are repeated.",
            "Choose a later checkpoint.",
        )
    if full_batch:
        descend(student, retain, loop, lr=lr, steps=epochs, batch=batch)
    else:
        optimizer = loop.optimizer(student, lr)
        for _ in range(epochs):
            for _, samples in loop.batches(retain, batch):
                loop.step(optimizer, task.loss(student, samples).mean())
            if noise == 0:  # states without the noise must not be released
                loop.round(student)
    if noise > 0:
        perturb(student, task, noise, generator)
    if noise > 0 or full_batch:
        loop.round(student)
    return student

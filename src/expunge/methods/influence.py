# SPDX-License-Identifier: Apache-2.0
"""Influence unlearning: one Newton step towards the model without the forget set.

Rule::

    v = (1/n) Σ_{z ∈ F} ∇ℓ(z) − (|F| / (n·|R|)) Σ_{z ∈ R} ∇ℓ(z)
    θ ← θ + s · (H + λI)⁻¹ v,   H = (1/N) Σ_{z ∈ R′} ∇ℓ(z) ∇ℓ(z)ᵀ

F, R: forget and retain set; n = |F| + |R|; ℓ: the loss; H: the empirical Fisher information on N samples R′
of R, in place of the Hessian; λ: damping; s: step size. With the true Hessian of R, at an optimum of the loss
over F ∪ R, s = 1 and λ = 0, this is the Newton step for the loss over R.

Reference: Koh and Liang, ICML 2017, and Izzo et al., *Approximate Data Deletion from Machine Learning
Models*, AISTATS 2021 (the step); Singh and Alistarh, *WoodFisher*, NeurIPS 2020 (H); Jia et al., *Model
Sparsity Can Simplify Machine Unlearning*, NeurIPS 2023 (v: influence unlearning).

Differences: (H + λI)⁻¹v is computed by Woodbury's identity with all N gradients at once, using N × N numbers;
WoodFisher's recursion computes the same one gradient at a time. λ is a share of H's largest eigenvalue, since
losses differ by orders of magnitude between tasks. s is chosen automatically: the step is limited to a fifth
of ‖θ‖, and s is the first of 1, ½, ¼, … at which the forget loss rises by at most ``rise`` and the retain
loss by at most a tenth of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from expunge.methods.base import FORWARD, Budget, Loop, Progress, register
from expunge.methods.fisher import TRIED, per_sample_gradients
from expunge.methods.least import LeastWork, SetSizes
from expunge.tasks.protocol import Samples, Task

LIMIT_BYTES = 1 << 29
HALVINGS = 12
DAMAGE = 0.1
RADIUS = 0.2


def removal_gradient(
    forget: torch.Tensor, retain: torch.Tensor, forgotten: int, retained: int
) -> torch.Tensor:
    """Return v (d,), the gradient of the mean loss over all samples minus that over the retain set.

    Args:
        forget: Sum of the gradients over F (d,).
        retain: Sum of the gradients over R (d,).
        forgotten: |F|.
        retained: |R|.
    """
    total = forgotten + retained
    return forget / total - retain * (forgotten / (total * retained))


def newton_step(hessian: torch.Tensor, direction: torch.Tensor, damping: float = 0.0) -> torch.Tensor:
    """Return (H + λI)⁻¹v for an explicit Hessian (d, d) and a direction (d,)."""
    damped = hessian + damping * torch.eye(len(hessian), dtype=hessian.dtype)
    step: torch.Tensor = torch.linalg.solve(damped, direction)
    return step


def gram_matrix(gradients: torch.Tensor, rows: int = 64) -> torch.Tensor:
    """Return GGᵀ (N, N) in double precision; the upper triangle is mirrored from the lower one.

    Args:
        gradients: G (N, d).
        rows: Rows per block.
    """
    count = len(gradients)
    gram = gradients.new_zeros((count, count), dtype=torch.float64)
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        gram[start:, start:stop] = gradients[start:] @ gradients[start:stop].T
    return gram.tril() + gram.tril(-1).T


def woodbury(
    gradients: torch.Tensor, direction: torch.Tensor, damping: float, gram: torch.Tensor | None = None
) -> torch.Tensor:
    """Return (λI + GᵀG/N)⁻¹v without forming the (d, d) matrix.

    Args:
        gradients: G, one gradient per row (N, d).
        direction: v (d,).
        damping: λ > 0.
        gram: GGᵀ (N, N) in double precision; None: it is computed, which takes most of the time.
    """
    count = len(gradients)
    if gram is None:
        gram = gram_matrix(gradients)
    damped = gram + damping * count * torch.eye(count, dtype=torch.float64, device=gradients.device)
    weights = torch.linalg.solve(damped, (gradients @ direction).double())
    step: torch.Tensor = (direction - gradients.T @ weights.to(direction.dtype)) / damping
    return step


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of all gradients, and with it that of every trial step size."""
    probe = min(values["samples"], sizes.retain)
    gradients = sizes.forget + sizes.retain
    trials = (1 + HALVINGS) * (sizes.forget + probe) * FORWARD
    return LeastWork(gradients, gradients + TRIED + probe + trials)


@register(
    "influence",
    goals=("sample", "subject"),
    cost=2,
    paper="Jia et al.: Model Sparsity Can Simplify Machine Unlearning. NeurIPS 2023",
    strength=("damping", 0.1),
    least=_least,
)
def influence(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    damping: float = 0.01,
    samples: int = 256,
    rise: float = 1.0,
    batch: int = 16,
) -> nn.Module:
    """Return the model after one step.

    Args:
        damping: λ as a share of the largest eigenvalue of H.
        samples: N; it is reduced if the gradients would exceed 512 MiB.
        rise: Maximum rise of the mean loss of the forget set, in units of the loss; forgetting a whole class
            needs a larger value.
        batch: Samples per batch where gradients are summed.

    Raises:
        BudgetSpent: If the budget does not suffice for the gradients over F and R.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    direction = removal_gradient(
        _gradient_sum(loop, student, forget, batch),
        _gradient_sum(loop, student, retain, batch),
        len(forget),
        len(retain),
    )
    limit = max(LIMIT_BYTES // (direction.numel() * direction.element_size()), 1)
    drawn = torch.randperm(len(retain), generator=generator)[: min(samples, limit)].tolist()
    probe: Samples = Subset(retain, drawn)  # type: ignore[arg-type]
    gradients = direction.new_empty((len(probe), direction.numel()))
    row = 0
    for chunk in per_sample_gradients(loop, student, probe, task.loss):
        flat = torch.cat([g.reshape(len(g), -1) for g in chunk.values()], 1)
        gradients[row : row + len(flat)] = flat
        row += len(flat)
    if not row:
        budget.charge(1)
    gradients = gradients[:row]
    gram = gram_matrix(gradients)
    largest = float(torch.linalg.eigvalsh(gram / row)[-1])
    tiny = torch.finfo(direction.dtype).tiny
    step = woodbury(gradients, direction, max(damping * largest, tiny), gram)
    _apply_step(student, step, forget, probe, loop, rise=rise, batch=batch)
    loop.round(student)
    return student


def _gradient_sum(loop: Loop, model: nn.Module, data: Samples, batch: int) -> torch.Tensor:
    """Return the sum of the gradients over all samples (d,)."""
    if not loop.budget.covers(len(data)):
        loop.budget.charge(len(data))
    weights = list(loop.task.parameters(model).values())
    total = torch.zeros(sum(w.numel() for w in weights), device=weights[0].device, dtype=weights[0].dtype)
    for _, samples in loop.batches(data, batch):
        loss = loop.task.loss(model, samples).sum()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        total += torch.cat(
            [
                (torch.zeros_like(w) if g is None else g).flatten()
                for w, g in zip(weights, gradients, strict=True)
            ]
        )
    return total


@torch.no_grad()
def _mean_loss(loop: Loop, model: nn.Module, data: Samples, batch: int) -> float:
    total, seen = 0.0, 0
    for _, samples in loop.batches(data, batch, FORWARD, shuffle=False):
        losses = loop.task.loss(model, samples)
        total, seen = total + float(losses.sum()), seen + len(losses)
    return total / max(seen, 1)


@torch.no_grad()
def _apply_step(
    model: nn.Module,
    step: torch.Tensor,
    forget: Samples,
    probe: Samples,
    loop: Loop,
    *,
    rise: float,
    batch: int,
) -> None:
    """Apply the largest step that satisfies the limits on both losses (see *Differences* in the module)."""
    weights = list(loop.task.parameters(model).values())
    start = torch.cat([w.flatten() for w in weights])
    limit = RADIUS * float(start.norm())
    before = _mean_loss(loop, model, forget, batch), _mean_loss(loop, model, probe, batch)
    scale = min(1.0, limit / max(float(step.norm()), torch.finfo(step.dtype).tiny))
    for _ in range(HALVINGS):
        _set_weights(weights, start + scale * step)
        gained = _mean_loss(loop, model, forget, batch) - before[0]
        lost = _mean_loss(loop, model, probe, batch) - before[1]
        if loop.exhausted:  # raises, since the step could not be checked
            loop.budget.charge(len(forget) + len(probe), FORWARD)
        if 0 < gained <= rise and lost <= DAMAGE * gained:
            break
        scale /= 2
    loop.budget.steps += 1


def _set_weights(weights: list[nn.Parameter], values: torch.Tensor) -> None:
    offset = 0
    for weight in weights:
        weight.copy_(values[offset : offset + weight.numel()].view_as(weight))
        offset += weight.numel()

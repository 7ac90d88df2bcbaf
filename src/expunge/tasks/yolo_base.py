# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the tasks of Ultralytics share, whatever they predict; decisions: see :mod:`expunge.tasks.yolo`."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from expunge.errors import InputError
from expunge.exact.trainer import isolated_rng
from expunge.tasks.device import resolve_device
from expunge.tasks.protocol import Outputs, Samples
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import build_module, describe, load_checkpoint

if TYPE_CHECKING:
    from expunge.tasks.yolo import Opened

Batch = dict[str, Any]
EVALUATION_BATCH = 16


class YoloTask:
    """What the tasks of Ultralytics share; see :class:`expunge.tasks.protocol.Task`."""

    name = ""
    metric = ""
    vectorised = False

    def __init__(
        self, opened: Opened, device: torch.device | str = "cpu", frozen: int | Sequence[int] | None = None
    ) -> None:
        self.opened, self.device = opened, resolve_device(device)
        self._frozen = _prefixes(opened.train_args.get("freeze") if frozen is None else frozen)
        self._settings = _settings(opened.train_args)

    def clone(self, model: nn.Module) -> nn.Module:
        """Return an independent copy, ready to learn."""
        twin = copy.deepcopy(model)
        self.ready(twin)
        return twin

    def ready(self, model: nn.Module) -> None:
        """Attach the loss, let all but the frozen layers learn, and use running statistics; no dropout."""
        subject = cast(Any, model.to(self.device).eval())
        subject.args = self._settings
        for name, parameter in subject.named_parameters():
            fixed = ".dfl" in name or name.startswith(self._frozen)
            parameter.requires_grad_(parameter.is_floating_point() and not fixed)
        subject.criterion = subject.init_criterion()

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return by name the parameters that learn."""
        found = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not found:
            raise InputError(
                "The model has no parameter that may be changed.",
                "All its layers are frozen.",
                "Freeze fewer layers.",
            )
        return found

    def size(self, batch: Batch) -> int:
        """Return the number of samples."""
        return len(batch["img"])

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Return the pictures (B, 3, S, S) in 0–1."""
        images: torch.Tensor = batch["img"]
        return images

    def input_digest(self, batch: Batch) -> bytes:
        """Return a digest of the pictures."""
        return hashlib.sha256(batch["img"].contiguous().cpu().numpy().tobytes()).digest()

    def with_inputs(self, batch: Batch, inputs: torch.Tensor) -> Batch:
        """Return the batch with other pictures."""
        return {**batch, "img": inputs}

    def input_range(self, batch: Batch) -> tuple[float, float]:
        """Pictures are in 0–1."""
        return 0.0, 1.0

    def square_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return the sum of the squares of all outputs (B,)."""
        return torch.stack([value.flatten(1).square().sum(1) for value in outputs.values()]).sum(0)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the blocks of ``model.model`` that have parameters; the last is the head."""
        blocks = cast(nn.Sequential, model.model)
        return [block for block in blocks if next(block.parameters(), None) is not None]

    def reset(self, module: nn.Module, generator: torch.Generator) -> None:
        """Initialise every layer below ``module`` anew; a detection head gets its starting biases too."""
        from ultralytics.nn.modules import DFL, Detect

        constants = {id(part) for m in module.modules() if isinstance(m, DFL) for part in m.modules()}
        with self.seeded(generator):
            for leaf in module.modules():
                if next(leaf.parameters(recurse=False), None) is None or id(leaf) in constants:
                    continue
                if not hasattr(leaf, "reset_parameters"):
                    raise InputError(
                        f"A layer of type {type(leaf).__name__} cannot be initialised anew.",
                        "It has parameters, and no reset_parameters().",
                        "Choose a method that keeps it, or retrain.",
                    )
                leaf.reset_parameters()  # type: ignore[operator]
        for head in module.modules():
            if isinstance(head, Detect):
                head.bias_init()  # type: ignore[no-untyped-call]

    def fresh(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Return an untrained model of the same architecture; layers frozen on record are as they were."""
        source, state = describe(model), model.state_dict()
        kept = _prefixes(self.opened.train_args.get("freeze"))
        with self.seeded(generator):
            twin = build_module(source.task, source.architecture, source.names)
        shapes = {name: value.shape for name, value in twin.state_dict().items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise InputError(
                "The model cannot be built anew.",
                "The architecture in its file is not that of its weights.",
                "Use a checkpoint that Ultralytics wrote and nobody changed by hand.",
            )
        twin.load_state_dict({k: v for k, v in state.items() if k.startswith(kept)}, strict=False)
        self.ready(twin)
        return cast(nn.Module, twin)

    def retrain(
        self,
        model: nn.Module,
        retain: Samples,
        *,
        epochs: int,
        generator: torch.Generator,
        images: Callable[[int], None],
        initial: Mapping[str, torch.Tensor] | Path | str | None = None,
        **settings: Any,
    ) -> nn.Module:
        """Train anew on ``retain``, as on record, with augmentation and batch statistics; return the EMA.

        Args:
            initial: Start from these weights (a state dict or a ``.pt``) instead of random ones.
            settings: Of the training (``lr0``, ``batch``, ``imgsz``, ``mosaic``, …), before those on record.
        """
        from expunge.tasks.yolo_retrain import train

        if initial is None:
            start = self.fresh(model, generator).state_dict()
        else:
            named = initial if isinstance(initial, Mapping) else load_checkpoint(Path(initial)).state_dict()
            start = dict(named)
        state = train(self, model, start, retain, epochs, generator, images, settings)
        twin = copy.deepcopy(model)
        twin.load_state_dict(state)
        self.ready(twin)
        return twin

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Batch:
        """Return the batch of some samples."""

    def _batches(self, data: Samples, size: int = EVALUATION_BATCH) -> Iterator[Batch]:
        for first in range(0, len(data), size):
            yield self.collate([data[i] for i in range(first, min(first + size, len(data)))])

    @contextlib.contextmanager
    def seeded(self, generator: torch.Generator) -> Iterator[None]:
        """Seed torch's global generators for a while, and leave them as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with isolated_rng(), torch.random.fork_rng(devices):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            yield


def _prefixes(frozen: Any) -> tuple[str, ...]:
    """Name prefixes of layers, given as Ultralytics' ``freeze`` gives them."""
    if frozen is None or isinstance(frozen, bool):
        return ()
    layers = range(frozen) if isinstance(frozen, int) else frozen
    return tuple(f"model.{int(i)}." for i in layers)


def _settings(record: Mapping[str, Any]) -> Any:
    """The loss reads its gains as attributes; what the record does not say is Ultralytics' default."""
    load_ultralytics()
    from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace

    known = {k: v for k, v in record.items() if k in DEFAULT_CFG_DICT and v is not None}
    return IterableSimpleNamespace(**{**DEFAULT_CFG_DICT, **known})

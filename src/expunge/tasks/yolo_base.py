# SPDX-License-Identifier: AGPL-3.0-or-later
"""The common part of the Ultralytics tasks; for design decisions see :mod:`expunge.tasks.yolo`."""

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
from expunge.tasks.device import resolve_device
from expunge.tasks.protocol import Outputs, Samples
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import build_module, describe, load_checkpoint
from expunge.training.random_state import isolated_rng

if TYPE_CHECKING:
    from expunge.tasks.loaded_model import LoadedModel

Batch = dict[str, Any]
EVALUATION_BATCH = 16


class YoloTask:
    """The common part of the Ultralytics tasks; see :class:`expunge.tasks.protocol.Task`.

    Args:
        loaded: The loaded model.
        device: Device to work on.
        frozen: Frozen layers by index, or their number from the input; None: the recorded ones.
    """

    name = ""
    metric = ""
    vectorised = False

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device | str = "cpu",
        frozen: int | Sequence[int] | None = None,
    ) -> None:
        self.loaded, self.device = loaded, resolve_device(device)
        self._frozen = _prefixes(loaded.train_args.get("freeze") if frozen is None else frozen)
        self._settings = _settings(loaded.train_args)

    def clone(self, model: nn.Module) -> nn.Module:
        """Return an independent copy, ready for training."""
        copied = copy.deepcopy(model)
        self.ready(copied)
        return copied

    def ready(self, model: nn.Module) -> None:
        """Attach the loss, make all but the frozen layers trainable, and set evaluation mode."""
        module = cast(Any, model.to(self.device).eval())
        module.args = self._settings
        for name, parameter in module.named_parameters():
            frozen = ".dfl" in name or name.startswith(self._frozen)
            parameter.requires_grad_(parameter.is_floating_point() and not frozen)
        module.criterion = module.init_criterion()

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name."""
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise InputError(
                "The model has no parameter that may be changed.",
                "All its layers are frozen.",
                "Freeze fewer layers.",
            )
        return trainable

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
        """Return the batch with new pictures."""
        return {**batch, "img": inputs}

    def input_range(self, batch: Batch) -> tuple[float, float]:
        """Return the range of pixel values, 0–1."""
        return 0.0, 1.0

    def square_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return the sum of the squares of all outputs (B,)."""
        return torch.stack([value.flatten(1).square().sum(1) for value in outputs.values()]).sum(0)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the blocks of ``model.model`` with parameters; the last one is the head."""
        blocks = cast(nn.Sequential, model.model)
        return [block for block in blocks if next(block.parameters(), None) is not None]

    def reset(self, module: nn.Module, generator: torch.Generator) -> None:
        """Re-initialise every layer of ``module``, including the initial biases of detection heads."""
        from ultralytics.nn.modules import DFL, Detect

        constants = {id(part) for m in module.modules() if isinstance(m, DFL) for part in m.modules()}
        with self.seeded(generator):
            for leaf in module.modules():
                if next(leaf.parameters(recurse=False), None) is None or id(leaf) in constants:
                    continue
                if not hasattr(leaf, "reset_parameters"):
                    raise InputError(
                        f"A layer of type {type(leaf).__name__} cannot be re-initialised.",
                        "It has parameters, and no reset_parameters().",
                        "Choose a method that keeps it, or retrain.",
                    )
                leaf.reset_parameters()  # type: ignore[operator]
        for head in module.modules():
            if isinstance(head, Detect):
                head.bias_init()  # type: ignore[no-untyped-call]

    def fresh(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Return an untrained model of the same architecture; recorded frozen layers keep their weights.

        Raises:
            InputError: If the architecture in the file does not fit its weights.
        """
        source, state = describe(model), model.state_dict()
        frozen = _prefixes(self.loaded.train_args.get("freeze"))
        with self.seeded(generator):
            fresh_model = build_module(source.task, source.architecture, source.names)
        shapes = {name: value.shape for name, value in fresh_model.state_dict().items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise InputError(
                "The model cannot be rebuilt.",
                "The architecture in its file is not that of its weights.",
                "Use a checkpoint that Ultralytics wrote and nobody changed by hand.",
            )
        fresh_model.load_state_dict({k: v for k, v in state.items() if k.startswith(frozen)}, strict=False)
        self.ready(fresh_model)
        return cast(nn.Module, fresh_model)

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
        """Return the EMA model of a training on ``retain`` with the recorded settings.

        The training uses augmentation and batch statistics.

        Args:
            model, retain, epochs, generator, images: See the protocol.
            initial: Start weights (a state dict or a ``.pt`` file); None: random weights.
            settings: Training settings (``lr0``, ``batch``, ``imgsz``, …) that override the recorded ones.
        """
        from expunge.tasks.yolo_retrain import train

        if initial is None:
            start = self.fresh(model, generator).state_dict()
        else:
            weights = initial if isinstance(initial, Mapping) else load_checkpoint(Path(initial)).state_dict()
            start = dict(weights)
        seeded = self.seeded(generator)
        state = train(
            self.loaded, self.device, seeded, model, start, retain, epochs, generator, images, settings
        )
        retrained = copy.deepcopy(model)
        retrained.load_state_dict(state)
        self.ready(retrained)
        return retrained

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Batch:
        """Return the batch of some samples."""

    def _batches(self, data: Samples, size: int = EVALUATION_BATCH) -> Iterator[Batch]:
        for first in range(0, len(data), size):
            yield self.collate([data[i] for i in range(first, min(first + size, len(data)))])

    @contextlib.contextmanager
    def seeded(self, generator: torch.Generator) -> Iterator[None]:
        """Seed torch's global generators for the duration of the block, and restore them afterwards."""
        devices = [self.device] if self.device.type == "cuda" else []
        with isolated_rng(), torch.random.fork_rng(devices):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            yield


def _prefixes(frozen: Any) -> tuple[str, ...]:
    """Return the name prefixes of layers given in the form of Ultralytics' ``freeze`` setting."""
    if frozen is None or isinstance(frozen, bool):
        return ()
    layers = range(frozen) if isinstance(frozen, int) else frozen
    return tuple(f"model.{int(i)}." for i in layers)


def _settings(record: Mapping[str, Any]) -> Any:
    """Return the settings that the loss reads: the recorded ones, else Ultralytics' defaults."""
    load_ultralytics()
    from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace

    recorded = {k: v for k, v in record.items() if k in DEFAULT_CFG_DICT and v is not None}
    return IterableSimpleNamespace(**{**DEFAULT_CFG_DICT, **recorded})

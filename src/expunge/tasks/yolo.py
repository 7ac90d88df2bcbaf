# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ultralytics models as methods and audits see them: opening, saving, and what all their tasks share.

Decisions that hold for every task:

* Running statistics: a model that is ready is in evaluation mode; only ``retrain`` moves statistics.
* Frozen layers: those of ``freeze`` in the file's training record, or of the argument ``frozen``; and
  ``.dfl``, a constant. After ``YOLO(path)`` every parameter has ``requires_grad=False``, which says nothing.
* ``fresh`` and ``retrain`` keep the weights of the layers that the record calls frozen: no sample ever moved
  them.
* Files are written in full precision (``save``), never halved.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.exact.checkpoint import write_atomically
from expunge.tasks.class_map import class_map
from expunge.tasks.protocol import Task
from expunge.tasks.weights import describe, load_checkpoint, pack

if TYPE_CHECKING:
    from expunge.data.types import DatasetConfig, Sample
    from expunge.tasks.yolo_samples import YoloSamples

IMAGE_SIZES = {"detect": 640, "classify": 224}


@dataclass(frozen=True)
class Opened:
    """A weights file.

    Attributes:
        module: The model, fp32, on the CPU.
        task: ``detect``, ``classify``, …
        names: Its class names.
        imgsz: Image size in pixels that it was trained for.
        train_args: Ultralytics' training settings, as far as they are on record.
    """

    module: nn.Module
    task: str
    names: tuple[str, ...]
    imgsz: int
    train_args: dict[str, Any]


def open_model(path: Path | str, *, unsafe_trust: bool = False) -> Opened:
    """Open a ``.pt`` file through the allow-list.

    Args:
        path: The file.
        unsafe_trust: Run what its pickle says; only for a file that the user vouched for by name.

    Raises:
        InputError: If it is no usable checkpoint, has weights that are not finite, was fused for inference,
            or takes pictures of other than three channels.
    """
    return opened_of(load_checkpoint(Path(path), unsafe_trust=unsafe_trust), str(path))


def opened_of(module: Any, path: str, record: Mapping[str, Any] | None = None) -> Opened:
    """Return a loaded model (fp32, on the CPU) with what it says of itself.

    Args:
        module: The model.
        path: What to call it in messages.
        record: Its training settings, where they are not in the model any more.

    Raises:
        InputError: See :func:`open_model`.
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(
                f"{path} holds weights that are not numbers.",
                f"There is a NaN or an infinity in {name}.",
                "Use a checkpoint from before the training diverged.",
            )
    if module.is_fused():
        raise InputError(
            f"{path} was fused for inference.",
            "Its batch norms are folded into the convolutions, so that it cannot be trained on.",
            "Use the checkpoint from before fuse().",
        )
    channels = int(module.yaml.get("channels", 3))
    if channels != 3:
        raise InputError(
            f"{path} takes pictures of {channels} channels.",
            "Only three are supported.",
            "Use another model.",
        )
    source = describe(module)
    record = _plain(record or getattr(module, "args", {}))
    size = record.get("imgsz") or IMAGE_SIZES.get(source.task, 640)
    imgsz = int(max(size)) if isinstance(size, (list, tuple)) else int(size)
    return Opened(module, source.task, source.names, imgsz, record)


def _plain(args: Any) -> dict[str, Any]:
    """What a checkpoint records of its training, as plain values."""
    values = args if isinstance(args, Mapping) else vars(args)
    kinds = (bool, int, float, str, list, tuple, type(None))
    plain = {str(k): str(v) if isinstance(v, Path) else v for k, v in values.items()}
    return {k: v for k, v in plain.items() if isinstance(v, kinds)}


def write_model(module: nn.Module, opened: Opened) -> bytes:
    """Return the bytes of a full-precision ``.pt`` with which plain Ultralytics does all that it can."""
    return pack(
        copy.deepcopy(module).cpu(), {"task": opened.task, "imgsz": opened.imgsz, **opened.train_args}
    )


def save(module: nn.Module, path: Path | str, opened: Opened) -> None:
    """Write a model in full precision, with the training record of the file that it came from.

    Raises:
        StorageError: If the file could not be written.
    """
    write_atomically(Path(path), write_model(module, opened), "The model")


def samples_of(
    opened: Opened, root: Path, config: DatasetConfig, samples: Sequence[Sample], imgsz: int | None = None
) -> YoloSamples:
    """Return samples of a manifest as the model sees them (``imgsz``: other than on record).

    Raises:
        InputError: See :class:`expunge.tasks.yolo_samples.YoloSamples`.
    """
    from expunge.tasks.yolo_samples import YoloSamples

    seen = replace(config, class_map=class_map(opened, config))
    return YoloSamples(root, seen, samples, opened.names, imgsz or opened.imgsz)


def yolo_task(
    opened: Opened, device: torch.device | str = "cpu", frozen: int | Sequence[int] | None = None
) -> Task:
    """Return the task of an opened model.

    Args:
        opened: The model; it says the task, the classes and how it was trained.
        device: Where to work.
        frozen: Layers that may not be changed, by index, or how many from the input; None: as on record.

    Raises:
        InputError: If the task is not supported.
    """
    from expunge.tasks.yolo_classify import YoloClassify
    from expunge.tasks.yolo_detect import YoloDetect

    known: dict[str, type[YoloDetect | YoloClassify]] = {"detect": YoloDetect, "classify": YoloClassify}
    if opened.task not in known:
        raise InputError(
            f"Models of the task '{opened.task or 'unknown'}' are not supported yet.",
            f"Supported: {', '.join(sorted(known))}.",
            "Use a model of one of these tasks.",
        )
    return known[opened.task](opened, device, frozen)

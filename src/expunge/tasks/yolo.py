# SPDX-License-Identifier: AGPL-3.0-or-later
"""Loading and saving of Ultralytics models for methods and audits, and the choice of their task.

Decisions that apply to every task:

* Running statistics: a model that is ready is in evaluation mode; only ``retrain`` changes statistics.
* Frozen layers: the layers of ``freeze`` in the file's training record or of the argument ``frozen``, and
  the constant ``.dfl``. ``requires_grad`` is not used: after ``YOLO(path)`` it is False for every parameter.
* ``fresh`` and ``retrain`` keep the weights of layers that the record lists as frozen, since no sample ever
  changed them.
* Files are written in full precision (``save``), never in half precision.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.storage.files import write_atomically
from expunge.tasks.class_map import class_map
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.protocol import Task
from expunge.tasks.weights import describe, load_checkpoint, pack

if TYPE_CHECKING:
    from expunge.data.types import DatasetConfig, Sample
    from expunge.tasks.yolo_samples import YoloSamples

IMAGE_SIZES = {"detect": 640, "classify": 224}


def open_model(path: Path | str, *, unsafe_trust: bool = False) -> LoadedModel:
    """Return the model in a ``.pt`` file, loaded with an allow-list of types.

    Args:
        path: The file.
        unsafe_trust: Whether the pickle may run code; only for files that the user explicitly trusts.

    Raises:
        InputError: If the file is not a usable checkpoint, has non-finite weights, was fused for inference,
            or its model does not take pictures of three channels.
    """
    return as_loaded_model(load_checkpoint(Path(path), unsafe_trust=unsafe_trust), str(path))


def as_loaded_model(module: Any, path: str, record: Mapping[str, Any] | None = None) -> LoadedModel:
    """Return a loaded model (fp32, on the CPU) with its task, classes and training settings.

    Args:
        module: The model.
        path: Name of the model in messages.
        record: Training settings, if the module no longer contains them.

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
    record = _plain_settings(record or getattr(module, "args", {}))
    recorded_size = record.get("imgsz") or IMAGE_SIZES.get(source.task, 640)
    imgsz = int(max(recorded_size)) if isinstance(recorded_size, (list, tuple)) else int(recorded_size)
    return LoadedModel(module, source.task, source.names, imgsz, record)


def _plain_settings(args: Any) -> dict[str, Any]:
    """Return the training settings of a checkpoint as plain values."""
    values = args if isinstance(args, Mapping) else vars(args)
    kinds = (bool, int, float, str, list, tuple, type(None))
    plain = {str(k): str(v) if isinstance(v, Path) else v for k, v in values.items()}
    return {k: v for k, v in plain.items() if isinstance(v, kinds)}


def write_model(module: nn.Module, loaded: LoadedModel) -> bytes:
    """Return the bytes of a full-precision ``.pt`` file that plain Ultralytics loads, trains and exports."""
    return pack(
        copy.deepcopy(module).cpu(), {"task": loaded.task, "imgsz": loaded.imgsz, **loaded.train_args}
    )


def save(module: nn.Module, path: Path | str, loaded: LoadedModel) -> None:
    """Write a model in full precision, with the training record of its original file.

    Raises:
        StorageError: If the file could not be written.
    """
    write_atomically(Path(path), write_model(module, loaded), "The model")


def samples_of(
    loaded: LoadedModel,
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
    imgsz: int | None = None,
) -> YoloSamples:
    """Return samples of a manifest as a data set for a model.

    Args:
        loaded: The model.
        root: Folder of the dataset.
        config: The dataset's configuration.
        samples: The samples.
        imgsz: Image size in pixels; None: the recorded size.

    Raises:
        InputError: See :class:`expunge.tasks.yolo_samples.YoloSamples`.
    """
    from expunge.tasks.yolo_samples import YoloSamples

    mapped = replace(config, class_map=class_map(loaded, config))
    return YoloSamples(root, mapped, samples, loaded.names, imgsz or loaded.imgsz)


def yolo_task(
    loaded: LoadedModel, device: torch.device | str = "cpu", frozen: int | Sequence[int] | None = None
) -> Task:
    """Return the task of a loaded model.

    Args:
        loaded: The model; it determines task, classes and training settings.
        device: Device to work on.
        frozen: Frozen layers by index, or their number from the input; None: the recorded ones.

    Raises:
        InputError: If the task is not supported.
    """
    from expunge.tasks.yolo_classify import YoloClassify
    from expunge.tasks.yolo_detect import YoloDetect

    tasks: dict[str, type[YoloDetect | YoloClassify]] = {"detect": YoloDetect, "classify": YoloClassify}
    if loaded.task not in tasks:
        raise InputError(
            f"Models of the task '{loaded.task or 'unknown'}' are not supported yet.",
            f"Supported: {', '.join(sorted(tasks))}.",
            "Use a model of one of these tasks.",
        )
    return tasks[loaded.task](loaded, device, frozen)

# SPDX-License-Identifier: AGPL-3.0-or-later
"""Weights files: safe loading of checkpoints, architectures from YAML, and full-precision output."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from expunge.errors import ExpungeError, InputError
from expunge.storage.user_files import read_text
from expunge.storage.user_yaml import parse_yaml
from expunge.tasks.quiet import load_ultralytics

# Architecture entry for the width of the class branches. Ultralytics derives the width from the number of
# classes, so the checkpoint's weights would not fit a model with another number of classes.
CLASS_WIDTH = "class_width"
HEADS = {"Detect": "detect", "Classify": "classify", "Segment": "segment", "Pose": "pose", "OBB": "obb"}


@dataclass(frozen=True)
class Source:
    """A weights file or an architecture named by the user.

    Attributes:
        task: ``detect``, ``classify``, …
        architecture: The model's YAML as a dict.
        module: The model of a checkpoint; None for an architecture.
        names: Class names of a checkpoint; empty for an architecture.
    """

    task: str
    architecture: dict[str, Any]
    module: nn.Module | None
    names: tuple[str, ...]


def open_source(name: str) -> Source:
    """Return the source in a ``.yaml`` file (architecture) or ``.pt`` file (checkpoint, loaded safely).

    Raises:
        InputError: If the file does not exist, is not a checkpoint, or its pickle needs a global outside the
            allow-list.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_yaml(name)
    return describe(load_checkpoint(Path(name)))


def describe(module: Any) -> Source:
    """Return task, architecture and class names of an Ultralytics model."""
    names = getattr(module, "names", {})
    head = module.model[-1]
    task = HEADS.get(type(head).__name__.rstrip("0123456789"), "")
    architecture = {k: v for k, v in module.yaml.items() if k != "yaml_file"}
    if task == "detect":
        architecture[CLASS_WIDTH] = head.cv3[0][-1].in_channels
    return Source(task, architecture, module, tuple(str(names[i]) for i in sorted(names)))


def _from_yaml(name: str) -> Source:
    load_ultralytics()
    from ultralytics.nn import tasks as library

    try:
        if os.path.lexists(name):
            parse_yaml(read_text(name, errors="ignore"))  # refuses pipes, on which Ultralytics would block
        architecture = cast(Any, library.yaml_model_load)(name)
        head = str(architecture["head"][-1][2])
    except Exception as error:
        raise InputError(
            f"'{name}' is not a model architecture.",
            "Neither a file of that name nor one that Ultralytics ships could be read.",
            "Use for instance yolo26n.yaml, yolo26n-cls.yaml or a .pt file.",
        ) from error
    task = HEADS.get(head.rstrip("0123456789"), "")
    architecture.pop("yaml_file", None)
    return Source(task, architecture, None, ())


def load_checkpoint(path: Path, *, unsafe_trust: bool = False) -> Any:
    """Return the model in a ``.pt`` file in fp32 (the EMA if there is one), without running code from it.

    The model's ``args`` are set to its recorded training settings, as a dict.

    Args:
        path: The file.
        unsafe_trust: Whether the pickle may run code; only for files that the user explicitly trusts.

    Raises:
        InputError: See :func:`open_source`.
    """
    checkpoint = _read_checkpoint(path, unsafe_trust)
    candidate: Any = checkpoint.get("ema") or checkpoint.get("model")
    # Ultralytics stores the training settings beside the model, and for detectors inside it as well.
    inner = getattr(candidate, "args", None) or {}
    inner = inner if isinstance(inner, Mapping) else vars(inner)
    cast(Any, candidate).args = {**inner, **(checkpoint.get("train_args") or {})}
    return candidate.float()


def _read_checkpoint(path: Path, unsafe_trust: bool) -> dict[str, Any]:
    """Return the content of a ``.pt`` file: a dict that contains a model."""
    load_ultralytics()
    from ultralytics.nn import tasks as library
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    fetchable = str(path) == path.name and path.name in GITHUB_ASSETS_NAMES
    if not path.is_file() and not fetchable:
        raise InputError(f"There are no weights at {path}.", "The file does not exist.", "Check the path.")
    try:
        checkpoint, _ = cast(Any, library.torch_safe_load)(str(path), safe_only=not unsafe_trust)
        candidate = checkpoint.get("ema") or checkpoint.get("model")
    except Exception as error:
        raise InputError(
            f"{path} cannot be used as weights.",
            _load_failure(error),
            "Use a checkpoint that Ultralytics wrote, or one that expunge wrote.",
        ) from error
    if not isinstance(candidate, nn.Module) or not hasattr(candidate, "yaml"):
        raise InputError(
            f"{path} cannot be used as weights.",
            "It holds no Ultralytics model.",
            "Use a checkpoint that Ultralytics wrote, or one that expunge wrote.",
        )
    return dict(checkpoint)


def _load_failure(error: Exception) -> str:
    text = str(error)
    if "types outside" in text or "Unsupported global" in text or "WeightsUnpickler" in text:
        return "Its pickle needs code outside the allow-list; it was refused without running it."
    if isinstance(error, (FileNotFoundError, ConnectionError)):
        return "The file is not here, and it could not be fetched."
    return "It is empty, truncated, or no checkpoint."


def build_module(task: str, architecture: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Return an Ultralytics model with random weights, drawn from torch's current generator."""
    load_ultralytics()
    from ultralytics.nn.tasks import ClassificationModel, DetectionModel

    kinds: dict[str, Any] = {"detect": DetectionModel, "classify": ClassificationModel}
    content = deepcopy(architecture)
    width = content.pop(CLASS_WIDTH, None)
    module = kinds[task](content, ch=3, nc=width or len(names), verbose=False)
    if width:
        _set_classes(module, len(names))
    module.names = dict(enumerate(names))
    module.task = task
    return module


def _set_classes(module: Any, count: int) -> None:
    """Change the number of classes of a detector and keep the width of its class branches."""
    head = module.model[-1]
    for branch in (*head.cv3, *getattr(head, "one2one_cv3", ())):
        branch[-1] = nn.Conv2d(branch[-1].in_channels, count, 1)
    head.nc, head.no = count, count + 4 * head.reg_max
    module.yaml["nc"] = count
    head.bias_init()


def transfer(module: Any, source: Source, names: tuple[str, ...]) -> None:
    """Load a checkpoint's weights into a new module; class rows are matched by class name."""
    from ultralytics.nn.tasks import ClassificationModel

    if source.module is None:
        return
    if isinstance(module, ClassificationModel):
        cast(Any, ClassificationModel).reshape_outputs(module, len(names))
    module.names = dict(enumerate(names))
    module.load(source.module, verbose=False)
    module.names = dict(enumerate(names))


def pack(module: Any, train_args: dict[str, Any]) -> bytes:
    """Return the bytes of a full-precision ``.pt`` file that plain Ultralytics loads, trains and exports.

    The file contains no time, path or random name: equal weights give equal bytes.
    """
    import ultralytics

    module = deepcopy(module).float().eval()
    module.criterion = None
    module.args = dict(train_args)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": module,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": dict(train_args),
        "date": None,
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def state_of(path: Path) -> dict[str, torch.Tensor]:
    """Return the fp32 state dict of a weights file."""
    state: dict[str, torch.Tensor] = load_checkpoint(path).state_dict()
    if not state:
        raise ExpungeError(f"{path} holds no tensors.", "", "Train the model again.")
    return state


@dataclass(frozen=True)
class CheckpointContent:
    """The models and the training record in a weights file.

    Attributes:
        states: The fp32 state of each model, in loading order: EMA, raw model.
        starts: Start weights according to the training record: files or names of models.
    """

    states: tuple[dict[str, torch.Tensor], ...]
    starts: tuple[str, ...]


def read_checkpoint_content(path: Path, *, unsafe_trust: bool = False) -> CheckpointContent:
    """Return every model in a ``.pt`` file, and the start weights named in its training record.

    Raises:
        InputError: See :func:`open_source`.
    """
    checkpoint = _read_checkpoint(path, unsafe_trust)
    candidates = [checkpoint.get(key) for key in ("ema", "model")]
    modules = [module.float() for module in candidates if isinstance(module, nn.Module)]
    states = [dict(module.state_dict()) for module in modules]
    inner = [getattr(module, "args", None) or {} for module in modules]
    records = [checkpoint.get("train_args") or {}, *inner]
    settings = [args if isinstance(args, Mapping) else vars(args) for args in records]
    values = [args.get(key) for args in settings for key in ("model", "pretrained", "resume")]
    starts = dict.fromkeys(str(name) for name in values if isinstance(name, (str, Path)) and str(name))
    return CheckpointContent(tuple(states), tuple(starts))


def states_of(path: Path) -> list[dict[str, torch.Tensor]]:
    """Return the state of a weights file, or the states of an ensemble's folder in the order of its shards.

    Raises:
        InputError: If the folder contains no weights.
    """
    if not path.is_dir():
        return [state_of(path)]
    files = sorted(path.glob("*.pt"), key=lambda file: (len(file.name), file.name))  # shard2 before shard10
    if not files:
        raise InputError(f"{path} holds no weights.", "There is no .pt file in it.", "Name another folder.")
    return [state_of(file) for file in files]

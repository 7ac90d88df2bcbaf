# SPDX-License-Identifier: Apache-2.0
"""Probe of a model after ONNX export, run by ONNX Runtime.

All outputs that enter the loss are exported (both heads of a YOLO26, before any selection of boxes), so the
losses are those of the exported model.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as tree

from expunge.errors import InputError
from expunge.tasks.protocol import Task

ONNX = "after ONNX export"


def require_onnx() -> None:
    """Raise InputError if a package for ONNX export is missing.

    Raises:
        InputError: With the name of the package.
    """
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"The probe onnx needs the package {missing[0]}.",
            "It is not installed.",
            "Install the extra: pip install 'expunge[export]'.",
        )


def exported(task: Task, model: nn.Module) -> nn.Module:
    """Return a copy whose forward pass is run by ONNX Runtime; it is exported at its first call.

    Args:
        task: Task of the model.
        model: It is not changed.
    """
    twin = task.clone(model)
    object.__setattr__(twin, "forward", _Runtime(twin))
    return twin


class _Outputs(nn.Module):
    """A module that returns the model's outputs as a flat tuple, the form of an ONNX graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tree.tree_leaves(type(self.model).forward(self.model, x)))


class _Runtime:
    """A callable that exports the model at its first call, and then runs the export."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._session: Any = None
        self._spec: Any = None

    def __call__(self, x: torch.Tensor) -> Any:
        if self._session is None:
            self._export(x)
        found = self._session.run(None, {"x": x.detach().cpu().numpy()})
        leaves = [torch.from_numpy(value).to(x.device) for value in found]
        return tree.tree_unflatten(leaves, self._spec)

    def _export(self, x: torch.Tensor) -> None:
        import onnxruntime

        with torch.no_grad():
            leaves, self._spec = tree.tree_flatten(type(self._model).forward(self._model, x))
        names = [f"y{i}" for i in range(len(leaves))]
        file: Any = io.BytesIO()
        with warnings.catch_warnings():  # the tracer warns about shapes that are constant here
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Outputs(self._model),
                (x,),
                file,
                input_names=["x"],
                output_names=names,
                dynamic_axes={name: {0: "n"} for name in ("x", *names)},
                training=torch.onnx.TrainingMode.PRESERVE,
                dynamo=False,
            )
        self._session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

# SPDX-License-Identifier: AGPL-3.0-or-later
"""A subclass of ``ultralytics.YOLO`` that loads files with an allow-list of types."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import load_checkpoint
from expunge.tasks.yolo import as_loaded_model


class SafeYOLO(load_ultralytics().YOLO):  # type: ignore[misc]
    """An Ultralytics model from a file that cannot run code.

    Args:
        model: A ``.pt`` or ``.yaml`` file, as for ``ultralytics.YOLO``.
        unsafe_trust: Whether the file's pickle may run code; only for files that you trust.
        args, kwargs: Further arguments of ``ultralytics.YOLO``.

    Raises:
        InputError: If the file cannot be loaded safely.
    """

    def __init__(
        self, model: str | Path = "yolo26n.pt", *args: Any, unsafe_trust: bool = False, **kwargs: Any
    ) -> None:
        if str(model).endswith(".pt") and not unsafe_trust:
            load_checkpoint(Path(model))  # raises before any code in the file can run
        super().__init__(model, *args, **kwargs)

    def loaded(self) -> LoadedModel:
        """Return a copy of the model with its training settings.

        Raises:
            InputError: If it is an export and not a PyTorch model.
        """
        if not isinstance(self.model, load_ultralytics().nn.tasks.BaseModel):
            raise InputError(
                "Only a PyTorch model can unlearn.",
                f"This one is {type(self.model).__name__}: an export.",
                "Load the .pt file that it was exported from.",
            )
        return as_loaded_model(copy.deepcopy(self.model).float().cpu(), "The model", self._record())

    def _record(self) -> Any:
        """Return the training settings: those of a training in this process, else those in the file."""
        trainer = getattr(self, "trainer", None)
        if trainer is not None:
            return vars(trainer.args)
        return (self.ckpt or {}).get("train_args") if isinstance(self.ckpt, dict) else None

# SPDX-License-Identifier: AGPL-3.0-or-later
"""``expunge.YOLO``: an ``ultralytics.YOLO`` with one more verb."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.data.scan import scan
from expunge.data.subjects import attach, read_subjects
from expunge.errors import InputError
from expunge.progress import Progress
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import load_checkpoint
from expunge.tasks.yolo import opened_of
from expunge.unlearning.auto import AUTO
from expunge.unlearning.result import Result
from expunge.unlearning.run import ALLOWED_DROP
from expunge.unlearning.selecting import read_list, select

Entries = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class _How:
    budget: float | None
    accept_no_power: bool
    seed: int
    device: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)


class YOLO(load_ultralytics().YOLO):  # type: ignore[misc]
    """An Ultralytics model that can be made to forget.

    Files are loaded through the allow-list; a pickle that asks for more is refused.

    Args:
        model: A ``.pt`` or ``.yaml``, as Ultralytics takes them.
        unsafe_trust: Run what the file's pickle says: only for a file that you vouch for.
        args, kwargs: Of ``ultralytics.YOLO``.

    Raises:
        InputError: If the file cannot be loaded safely.
    """

    def __init__(
        self, model: str | Path = "yolo26n.pt", *args: Any, unsafe_trust: bool = False, **kwargs: Any
    ) -> None:
        if str(model).endswith(".pt") and not unsafe_trust:
            load_checkpoint(Path(model))  # refuses with a reason, before anything is run
        super().__init__(model, *args, **kwargs)

    def unlearn(
        self,
        data: str | Path,
        forget: Entries | None = None,
        *,
        classes: str | Sequence[str] = (),
        subjects: str | Path | None = None,
        method: str = AUTO,
        device: str = "cpu",
        seed: int = 0,
        budget: float | None = None,
        retrain_epochs: int | None = None,
        allowed_drop: float = ALLOWED_DROP,
        accept_no_power: bool = False,
        tune: int | None = None,
        progress: bool = True,
        **hyperparameters: Any,
    ) -> Result:
        """Make the model forget pictures, people or classes; this one stays as it is.

        Args:
            data: The data set that it was trained on: a ``data.yaml``, or a folder of classes. What is
                downloaded or run by a YAML is ignored, and no cache file is written.
            forget: Pictures (paths) or people (ids of ``subjects``): a list, or a text file with one in
                each line.
            classes: Names of classes to remove.
            subjects: The table of people: a CSV file with the header ``sample,subject``. With it, the
                verdict is over people.
            method: A method's name, or ``auto``: from cheap to dear until one passes, else a retrain.
            device: Where to work.
            seed: Of all randomness; the same seed gives the same bytes.
            budget: Most work, in units of a retrain; None: 0.25.
            retrain_epochs: Epochs of an ordinary training; None: those on record in the model's file.
            allowed_drop: By how much the main metric (mAP50-95, top1) may fall on held-out data.
            accept_no_power: ``auto`` may stop where not even the original showed a trace.
            tune: In how many runs a method's strength may be looked for on ``val``; None: 4 for ``auto``,
                else 1.
            progress: Show how far it is, on standard error.
            hyperparameters: Of the method.

        Raises:
            InputError: If something does not fit; nothing was changed.
        """
        from expunge.tasks.class_map import check_fits, settings_notes
        from expunge.unlearning.yolo import unlearn_rows

        if forget is None and not classes:
            raise InputError("What is to be forgotten?", "", "Give forget=[…] or classes=[…].")
        if not isinstance(self.model, load_ultralytics().nn.tasks.BaseModel):
            raise InputError(
                "Only a PyTorch model can unlearn.",
                f"This one is {type(self.model).__name__}: an export.",
                "Load the .pt file that it was exported from.",
            )
        if method == AUTO and hyperparameters:
            raise InputError(
                f"'{sorted(hyperparameters)[0]}' is a setting of one method.",
                "method='auto' tries several.",
                "Name the method, or leave it out.",
            )
        opened = opened_of(copy.deepcopy(self.model).float().cpu(), "The model", self._record())
        found, shown = scan(Path(data)), Progress(quiet=not progress)
        for warning in found.findings.warnings():
            shown.say(f"warning: {warning}")
        if subjects is not None:
            found = attach(found, read_subjects(Path(subjects)))
        found = found.without_problems()  # Ultralytics leaves them out as well
        check_fits(opened, found.config, [s for s in found.samples if s.split == "train"])
        for note in (*found.notes, *settings_notes(opened, found.config, found.samples)):
            shown.say(f"note: {note}")
        entries = read_list(forget) if forget is not None else []
        selected = select(found, entries, [classes] if isinstance(classes, str) else list(classes))
        result, _ = unlearn_rows(
            opened,
            found.samples,
            found.config,
            found.root,
            selected,
            method=method,
            settings=_How(budget, accept_no_power, seed, str(device), hyperparameters),
            progress=shown,
            epochs=retrain_epochs,
            allowed_drop=allowed_drop,
            tune=tune,
        )
        return result

    def _record(self) -> Any:
        """The training settings: of the training in this process, else those in the file."""
        trainer = getattr(self, "trainer", None)
        if trainer is not None:
            return vars(trainer.args)
        return (self.ckpt or {}).get("train_args") if isinstance(self.ckpt, dict) else None

# SPDX-License-Identifier: Apache-2.0
"""``expunge.YOLO``: an ``ultralytics.YOLO`` with the method ``unlearn``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.errors import InputError
from expunge.progress import Progress
from expunge.tasks.class_map import check_fits, settings_notes
from expunge.tasks.yolo_model import SafeYOLO
from expunge.unlearning.auto import AUTO
from expunge.unlearning.result import Result
from expunge.unlearning.run import ALLOWED_DROP
from expunge.unlearning.selecting import read_list, select
from expunge.unlearning.yolo import unlearn_rows

Entries = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class _Options:
    budget: float | None
    accept_no_power: bool
    seed: int
    device: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)


class YOLO(SafeYOLO):
    """An Ultralytics model with ``unlearn``; arguments as of :class:`SafeYOLO`."""

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
        """Return a model that has forgotten samples, people or classes; this model is not changed.

        Args:
            data: The dataset that it was trained on: a ``data.yaml``, or a folder of classes. Download
                entries and scripts in a YAML are ignored, and no cache file is written.
            forget: Samples (paths) or people (ids in ``subjects``): a list, or a text file with one entry
                per line.
            classes: Names of classes to remove.
            subjects: The table of people: a CSV file with the header ``sample,subject``. With it, the
                verdict is over people.
            method: A method's name, or ``auto``: methods by increasing cost until one passes, else a
                retrain.
            device: Where to compute.
            seed: Seed of all randomness; the same seed gives the same bytes.
            budget: Maximum work, in units of a retrain; None: 0.25.
            retrain_epochs: Epochs of a full training; None: as recorded in the model's file.
            allowed_drop: Maximum drop of the main metric (mAP50-95, top1) on held-out data.
            accept_no_power: Let ``auto`` accept a result if the test finds no trace in the original either.
            tune: Maximum number of runs in which a method's strength is tuned on ``val``; None: 4 for
                ``auto``, else 1.
            progress: Show progress on standard error.
            hyperparameters: Hyper-parameters of the method.

        Raises:
            InputError: If model, data, selection and method do not fit together; nothing was changed.
        """
        if forget is None and not classes:
            raise InputError("What is to be forgotten?", "", "Give forget=[…] or classes=[…].")
        opened = self.loaded()
        if method == AUTO and hyperparameters:
            raise InputError(
                f"'{sorted(hyperparameters)[0]}' is a setting of one method.",
                "method='auto' tries several.",
                "Name the method, or leave it out.",
            )
        found, reporter = scan(Path(data)), Progress(quiet=not progress)
        for warning in found.findings.warnings():
            reporter.say(f"warning: {warning}")
        if subjects is not None:
            found = attach_subjects(found, read_subjects(Path(subjects)))
        found = found.without_problems()  # Ultralytics skips them too
        check_fits(opened, found.config, [s for s in found.samples if s.split == "train"])
        for note in (*found.notes, *settings_notes(opened, found.config, found.samples)):
            reporter.say(f"note: {note}")
        entries = read_list(forget) if forget is not None else []
        selected = select(found, entries, [classes] if isinstance(classes, str) else list(classes))
        result, _ = unlearn_rows(
            opened,
            found.samples,
            found.config,
            found.root,
            selected,
            method=method,
            settings=_Options(budget, accept_no_power, seed, str(device), hyperparameters),
            progress=reporter,
            epochs=retrain_epochs,
            allowed_drop=allowed_drop,
            tune=tune,
        )
        return result

# SPDX-License-Identifier: Apache-2.0
"""The evaluation split of a model: the readable files on which its metrics are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version
    from expunge.tasks.file_checks import CheckedFiles, DamagedSample

SHOWN = 5  # files named in a note


@dataclass(frozen=True)
class EvaluationSplit:
    """The split on which a model is evaluated.

    Attributes:
        name: Name of the split.
        checked: Its readable and its damaged samples.
        held_out: Whether some of the samples were not used in training.
    """

    name: str
    checked: CheckedFiles
    held_out: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the description of the split that is stored with the metrics."""
        left_out = len(self.checked.damaged)
        about: dict[str, Any] = {"split": self.name, "images": len(self.checked.readable)}
        if not self.held_out:
            about["held_out"] = False
        if left_out:
            about["left_out"] = left_out
            if not self.checked.readable:
                about["reason"] = f"None of the {left_out} files of the split can be read."
        return about


def evaluation_split(version: Version, samples: Sequence[Sample], progress: Progress) -> EvaluationSplit:
    """Return the split val, else test, else train if the dataset uses train as val.

    Unreadable files are left out and reported.

    Args:
        version: The dataset version.
        samples: Its retained samples.
        progress: Receives the report.
    """
    from expunge.tasks.file_checks import check_files

    splits = ("val", "test", *(("train",) if version.config.val_in_train else ()))
    split = next((n for n in splits if any(s.split == n for s in samples)), "val")
    chosen = [s for s in samples if s.split == split]
    checked = check_files(version.root, version.config, chosen)
    if checked.damaged:
        count = f"{len(checked.damaged)} of {len(chosen)}"
        progress.say(
            f"note: {count} files of {split} are left out of the metrics: {describe_damage(checked.damaged)}"
        )
    trained = {s.image_digest for s in samples if s.split == "train"}
    held_out = not checked.readable or any(s.image_digest not in trained for s in checked.readable)
    return EvaluationSplit(split, checked, held_out)


def describe_damage(damaged: Sequence[DamagedSample]) -> str:
    """Return the reasons why the first of some damaged files cannot be used."""
    return "; ".join(d.reason for d in damaged[:SHOWN]) + (" …" if len(damaged) > SHOWN else "")

# SPDX-License-Identifier: Apache-2.0
"""On what models are measured: the files of a split that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version
    from expunge.tasks.readable import Checked, Damaged

SHOWN = 5  # files named in a note


@dataclass(frozen=True)
class EvaluationSplit:
    """On what a model is measured.

    Attributes:
        name: The split.
        checked: Its samples that can be read, and those that cannot.
        held_out: Whether the model was not trained on all of them.
    """

    name: str
    checked: Checked
    held_out: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return what is kept with the figures."""
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
    """Return val, else test, else train where val was the same; files that cannot be read are reported.

    Args:
        version: The dataset version.
        samples: Its retained samples.
        progress: Where to report.
    """
    from expunge.tasks.readable import check_files

    splits = ("val", "test", *(("train",) if version.config.val_in_train else ()))
    split = next((n for n in splits if any(s.split == n for s in samples)), "val")
    found = [s for s in samples if s.split == split]
    checked = check_files(version.root, version.config, found)
    if checked.damaged:
        count = f"{len(checked.damaged)} of {len(found)}"
        progress.say(f"note: {count} files of {split} are left out of the metrics: {named(checked.damaged)}")
    seen = {s.image_digest for s in samples if s.split == "train"}
    held_out = not checked.readable or any(s.image_digest not in seen for s in checked.readable)
    return EvaluationSplit(split, checked, held_out)


def named(damaged: Sequence[Damaged]) -> str:
    """Return what is wrong with the first files of some."""
    return "; ".join(d.reason for d in damaged[:SHOWN]) + (" …" if len(damaged) > SHOWN else "")

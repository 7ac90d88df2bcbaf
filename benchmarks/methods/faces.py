# SPDX-License-Identifier: Apache-2.0
"""Suite ``faces``: YOLO26n on scenes with the ORL faces, learnt by heart (``python -m benchmarks faces``).

Few scenes, many epochs, no augmentation. Twenty people are trained on; one of them (``subject``) or a tenth
(``subjects``) leaves. Of the twenty others, six judge as test data, six as the unseen, and eight are for
methods that need data to calibrate by.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods.command import main
from benchmarks.methods.worlds import World
from benchmarks.methods.yolo_suite import YoloSuite
from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.data.types import Sample
from expunge.demo import narrow
from expunge.demo.faces import PEOPLE, Faces, fetch
from expunge.demo.scenes import Cast, build
from expunge.tasks.protocol import Samples
from expunge.tasks.yolo import samples_of

NAMES = ("face",)
TRAINED, CALIBRATION, TEST = 20, 8, 6
EPOCHS, IMGSZ, SCENES, BATCH = 50, 96, 5, 16
LEAVING = {"subject": 1, "subjects": 2}


class FacesSuite(YoloSuite):
    """See the module.

    Args:
        root: Folder for the scenes.
        epochs: Of every training.
        imgsz: Of the pictures, in pixels.
        scenes: Of each person.
        slim: Whether to take a model of half the width.
        device: Where to work.
        names: Classes of the model; the scenes show the first.
    """

    name = "faces"

    def __init__(
        self,
        root: Path,
        *,
        epochs: int,
        imgsz: int,
        scenes: int,
        slim: bool,
        device: str = "cpu",
        names: tuple[str, ...] = NAMES,
    ) -> None:
        weights = str(root / narrow.write(root)) if slim else "yolo26n.yaml"
        super().__init__(weights, "detect", names, epochs=epochs, imgsz=imgsz, batch=BATCH, device=device)
        self.goals: tuple[str, ...] = tuple(LEAVING)
        self._root, self._scenes = root, scenes
        self.about = (
            f"{'half as wide a YOLO26n' if slim else 'YOLO26n'} at {imgsz} px on {TRAINED * scenes} scenes "
            f"with {TRAINED} people (ORL faces), {epochs} epochs from scratch without augmentation; "
            "metric mAP50-95"
        )
        self._kept: dict[int, tuple[Path, list[Sample], list[str]]] = {}

    def variant(self, goal: str) -> str:
        """All goals share an original."""
        return ""

    def everything(self, goal: str, seed: int) -> Samples:
        """Return the scenes of all who are trained on."""
        return self._data(seed, lambda split, place: split == "train")

    def world(self, goal: str, seed: int) -> World:
        """Return who leaves, who stays and who judges."""
        leaving = LEAVING[goal]
        return World(
            goal,
            forget=self._data(seed, lambda split, place: split == "train" and place < leaving),
            retain=self._data(seed, lambda split, place: split == "train" and place >= leaving),
            test=self._data(seed, lambda split, place: split == "test" and place < TEST),
            unseen=self._data(seed, lambda split, place: split == "test" and place >= TEST),
            calibration=self._data(seed, lambda split, place: split == "val"),
        )

    def _data(self, seed: int, wanted: Callable[[str, int], bool]) -> Samples:
        root, rows, people = self._folder(seed)
        chosen = [row for row in rows if wanted(row.split, _place(row, people))]
        return samples_of(self.opened, root, scan(root / "data.yaml").config, chosen)

    def _folder(self, seed: int) -> tuple[Path, list[Sample], list[str]]:
        if seed not in self._kept:
            order = torch.randperm(PEOPLE, generator=torch.Generator().manual_seed(seed)).tolist()
            people = [f"s{number + 1}" for number in order]
            rest = people[TRAINED + CALIBRATION :]
            cast = Cast(
                public=(),
                private=tuple(people[:TRAINED]),
                val=tuple(people[TRAINED : TRAINED + CALIBRATION]),
                test=tuple(rest),
                scenes=self._scenes,
                unseen_scenes=self._scenes,
            )
            root = self._root / f"seed{seed}"
            build(root, Faces(fetch()), cast)
            found = attach_subjects(scan(root / "data.yaml"), read_subjects(root / "subjects.csv"))
            self._kept[seed] = root, list(found.samples), [*people[: TRAINED + CALIBRATION], *rest]
        return self._kept[seed]


def _place(row: Sample, people: Sequence[str]) -> int:
    """Return the number of a scene's person among those of its split."""
    first = {"train": 0, "val": TRAINED, "test": TRAINED + CALIBRATION}[row.split]
    return people.index(row.subjects[0]) - first


def suite(*, quick: bool = False, device: str = "cpu", **_: Any) -> FacesSuite:
    """Methods on a face detector and the ORL faces."""
    root = Path(tempfile.mkdtemp(prefix="faces-"))  # samples are read when they are asked for
    if quick:
        return FacesSuite(root, epochs=3, imgsz=64, scenes=2, slim=True, device=device)
    return FacesSuite(root, epochs=EPOCHS, imgsz=IMGSZ, scenes=SCENES, slim=False, device=device)


if __name__ == "__main__":
    main(suite, references=3, seeds=3)

# SPDX-License-Identifier: Apache-2.0
"""What the detectors see in a few scenes, chosen by rule, and in every picture of the person who leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from expunge.demo.report_data import Comparison, Detection, PersonPicture
from expunge.demo.scenes import Box, Scene
from expunge.demo.settings import Settings

CONFIDENCE = 0.25
"""Least confidence of a detection that counts and is shown, Ultralytics' own default."""
OVERLAP = 0.5
"""Least intersection over union at which a detection is the face."""


class Sights:
    """The scenes of the report: three of unseen people, two of who leaves, one of somebody who stays."""

    def __init__(
        self,
        root: Path,
        scenes: Sequence[Scene],
        settings: Settings,
        predict: Callable[[Path, Sequence[Path]], list[tuple[Detection, ...]]],
    ) -> None:
        self._root, self._who, self._predict = root, settings.subject, predict
        self._seen: dict[str, dict[str, tuple[Detection, ...]]] = {}
        self.mine = [scene for scene in scenes if self._who in scene.people]
        by_path = {scene.path: scene for scene in scenes}
        stays = next(p for p in settings.cast.private if p != self._who and not self._meets(p))
        self._shown = [
            *((by_path[f"test/{p}_00.png"], f"{p}, whom no model saw") for p in settings.cast.test[:3]),
            (self.mine[0], f"{self._who}, who left"),
            *((scene, f"{self._who} in a group photo") for scene in self.mine if len(scene.people) > 1),
        ][:5]
        self._shown.append((by_path[f"train/{stays}_00.png"], f"{stays}, who stays"))

    def _meets(self, person: str) -> bool:
        """Return whether ``person`` is in a group photo with the one who leaves."""
        return any(person in scene.people for scene in self.mine)

    def look(self, when: str, weights: Path) -> None:
        """Run the detector on all scenes of the report."""
        scenes = list({scene.path: scene for scene in (*self.mine, *(s for s, _ in self._shown))}.values())
        found = self._predict(weights, [self._root / scene.sample for scene in scenes])
        self._seen[when] = {
            scene.path: tuple(d for d in detections if d.confidence >= CONFIDENCE)
            for scene, detections in zip(scenes, found, strict=True)
        }

    def found(self, when: str) -> int:
        """Return in how many of the person's pictures the detector found their face."""
        seen = self._seen[when]
        return sum(
            any(overlap(d.box, self._face(scene)) >= OVERLAP for d in seen[scene.path]) for scene in self.mine
        )

    def person(self) -> tuple[PersonPicture, ...]:
        """Return the pictures that were erased."""
        return tuple(
            PersonPicture(self._root / scene.sample, Path(scene.path).stem, self._face(scene))
            for scene in self.mine
        )

    def comparisons(self) -> tuple[Comparison, ...]:
        """Return the scenes with what was found before and after."""
        return tuple(
            Comparison(
                image=self._root / scene.sample,
                caption=caption,
                before=self._seen["before"][scene.path],
                after=self._seen["after"][scene.path],
                outlined=(self._face(scene),) if self._who in scene.people else (),
            )
            for scene, caption in self._shown
        )

    def _face(self, scene: Scene) -> Box:
        return scene.boxes[scene.people.index(self._who)]


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, xyxy."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    return both / (areas[0] + areas[1] - both)

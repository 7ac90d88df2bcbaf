# SPDX-License-Identifier: Apache-2.0
"""Detections before and after the erasure, in example scenes and in all pictures of the erased person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from expunge.demo.report_data import Comparison, Detection, PersonPicture
from expunge.demo.scenes import Box, Scene
from expunge.demo.settings import Settings

CONFIDENCE = 0.25
"""Minimum confidence of a detection, the default of Ultralytics."""
OVERLAP = 0.5
"""Minimum intersection over union at which a detection matches a face."""


class FaceDetections:
    """Detections in the report's scenes: three of unseen people, two of the erased person, one of another."""

    def __init__(
        self,
        root: Path,
        scenes: Sequence[Scene],
        settings: Settings,
        predict: Callable[[Path, Sequence[Path]], list[tuple[Detection, ...]]],
    ) -> None:
        self._root, self._subject, self._predict = root, settings.subject, predict
        self._detections: dict[str, dict[str, tuple[Detection, ...]]] = {}
        self.erased = [scene for scene in scenes if self._subject in scene.people]
        by_path = {scene.path: scene for scene in scenes}
        other = next(p for p in settings.cast.private if p != self._subject and not self._meets(p))
        self._examples = [
            *((by_path[f"test/{p}_00.png"], f"{p}, whom no model saw") for p in settings.cast.test[:3]),
            (self.erased[0], f"{self._subject}, who left"),
            *((scene, f"{self._subject} in a group photo") for scene in self.erased if len(scene.people) > 1),
        ][:5]
        self._examples.append((by_path[f"train/{other}_00.png"], f"{other}, who stays"))

    def _meets(self, person: str) -> bool:
        """Return whether ``person`` is in a group photo with the erased person."""
        return any(person in scene.people for scene in self.erased)

    def detect(self, when: str, weights: Path) -> None:
        """Run the detector on all scenes of the report; ``when``: before or after."""
        examples = (scene for scene, _ in self._examples)
        scenes = list({scene.path: scene for scene in (*self.erased, *examples)}.values())
        found = self._predict(weights, [self._root / scene.sample for scene in scenes])
        self._detections[when] = {
            scene.path: tuple(d for d in detections if d.confidence >= CONFIDENCE)
            for scene, detections in zip(scenes, found, strict=True)
        }

    def found(self, when: str) -> int:
        """Return the number of erased pictures in which the person's face was detected."""
        detections = self._detections[when]
        return sum(
            any(overlap(d.box, self._face(scene)) >= OVERLAP for d in detections[scene.path])
            for scene in self.erased
        )

    def erased_pictures(self) -> tuple[PersonPicture, ...]:
        """Return the pictures that were erased."""
        return tuple(
            PersonPicture(self._root / scene.sample, Path(scene.path).stem, self._face(scene))
            for scene in self.erased
        )

    def comparisons(self) -> tuple[Comparison, ...]:
        """Return the example scenes with the detections before and after."""
        return tuple(
            Comparison(
                image=self._root / scene.sample,
                caption=caption,
                before=self._detections["before"][scene.path],
                after=self._detections["after"][scene.path],
                outlined=(self._face(scene),) if self._subject in scene.people else (),
            )
            for scene, caption in self._examples
        )

    def _face(self, scene: Scene) -> Box:
        return scene.boxes[scene.people.index(self._subject)]


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, xyxy."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    return both / (areas[0] + areas[1] - both)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.demo.faces import Faces
from expunge.demo.scenes import HEIGHTS, SIZE, Cast, build, draw
from expunge.demo.settings import FULL, QUICK, Settings


def files(root: Path) -> dict[str, bytes]:
    """Return all pictures and labels by relative path."""
    found = [p for p in root.rglob("*") if p.suffix in (".png", ".txt") and p.name != "public.txt"]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in found}


def test_a_world_without_a_person_has_the_same_bytes_for_all_others(
    wheel: Path, cast: Cast, tmp_path: Path
) -> None:
    portraits = Faces(wheel)
    scenes = build(tmp_path / "full", portraits, cast)
    build(tmp_path / "gone", portraits, cast.without("s3"))
    full, gone = files(tmp_path / "full"), files(tmp_path / "gone")
    of_s3 = {Path(s.path).with_suffix("").as_posix() for s in scenes if "s3" in s.people}
    assert len(of_s3) == 3
    assert gone == {
        k: v for k, v in full.items() if Path(k).with_suffix("").as_posix().split("/", 1)[1] not in of_s3
    }
    assert "s3" not in (tmp_path / "gone" / "subjects.csv").read_text()


def test_building_twice_gives_the_same_bytes(wheel: Path, cast: Cast, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, Faces(wheel), cast)
    assert files(tmp_path / "one") == files(tmp_path / "two")


class White:
    """A person who is all white."""

    def read(self, person: str, number: int) -> Image.Image:
        return Image.new("L", (92, 112), 255)


@pytest.fixture
def black() -> dict[str, Image.Image]:
    return {
        name: Image.new("RGB", size) for name, size in (("bus.jpg", (810, 1080)), ("zidane.jpg", (1280, 720)))
    }


@pytest.mark.parametrize("people", [("s1",), ("s1", "s2")])
def test_boxes_are_where_the_faces_are(people: tuple[str, ...], black: dict[str, Image.Image]) -> None:
    for k in range(30):
        image, boxes = draw(f"train/x_{k}.png", people, White(), black)
        lit = np.asarray(image).max(axis=2) > 0
        assert len(boxes) == len(people)
        rest = lit.copy()
        for left, top, right, bottom in (tuple(int(v) for v in box) for box in boxes):
            assert 0 <= left < right <= SIZE
            assert 0 <= top < bottom <= SIZE
            assert HEIGHTS[0] <= bottom - top <= HEIGHTS[1]
            part = lit[top:bottom, left:right]
            assert part.any(axis=0).mean() > 0.85
            assert part.any(axis=1).mean() > 0.85
            rest[top:bottom, left:right] = False
        assert not rest.any()


def test_another_name_gives_another_scene(black: dict[str, Image.Image]) -> None:
    drawn = {draw(f"train/x_{k}.png", ("s1",), White(), black)[1] for k in range(20)}
    assert len(drawn) > 15


def test_our_own_reader_takes_it(wheel: Path, cast: Cast, tmp_path: Path) -> None:
    scenes = build(tmp_path, Faces(wheel), cast)
    found = attach_subjects(
        scan(tmp_path / "data.yaml"), read_subjects(tmp_path / "subjects.csv"), [str(tmp_path / "public.txt")]
    )
    by_path = {sample.path: sample for sample in found.samples}
    assert found.config.names == ("face",)
    assert set(by_path) == {scene.sample for scene in scenes}
    for scene in scenes:
        sample = by_path[scene.sample]
        assert sample.subjects == tuple(sorted(scene.people))
        assert sample.public == (set(scene.people) <= set(cast.public))
        assert sample.label_digest


def test_labels_say_the_boxes(wheel: Path, cast: Cast, tmp_path: Path) -> None:
    for scene in build(tmp_path, Faces(wheel), cast):
        text = (tmp_path / "labels" / scene.path).with_suffix(".txt").read_text()
        rows = [[float(v) for v in line.split()] for line in text.splitlines()]
        for (kind, x, y, w, h), box in zip(rows, scene.boxes, strict=True):
            back = ((x - w / 2) * SIZE, (y - h / 2) * SIZE, (x + w / 2) * SIZE, (y + h / 2) * SIZE)
            assert kind == 0
            assert back == pytest.approx(box, abs=1e-3)


def groups(settings: Settings) -> list[tuple[str, ...]]:
    cast = settings.cast
    return [cast.public, cast.private, cast.val, cast.test]


@pytest.mark.parametrize("settings", [FULL, QUICK])
def test_the_demo_keeps_its_promises(settings: Settings) -> None:
    cast = settings.cast
    everybody = [person for group in groups(settings) for person in group]
    assert len(everybody) == len(set(everybody))
    assert set(everybody) <= {f"s{n}" for n in range(1, 41)}
    assert settings.subject in cast.private
    assert len(cast.val) + len(cast.test) >= 19
    assert any(settings.subject in pair for pair in cast.pairs)
    assert all(person in cast.private for pair in cast.pairs for person in pair)


def test_subjects_table_is_one_pair_a_row(wheel: Path, cast: Cast, tmp_path: Path) -> None:
    scenes = build(tmp_path, Faces(wheel), cast)
    with open(tmp_path / "subjects.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["sample", "subject"]
    assert sorted(map(tuple, rows)) == sorted((s.sample, p) for s in scenes for p in s.people)

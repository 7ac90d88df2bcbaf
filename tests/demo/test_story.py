# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from expunge.demo import command, narrow
from expunge.demo.face_detections import overlap
from expunge.demo.faces import Faces
from expunge.demo.report_data import Detection
from expunge.demo.scenes import Cast
from expunge.demo.settings import Settings
from expunge.demo.story import Services, Story, cells_of, prepare
from expunge.errors import ExpungeError, InputError
from expunge.exact.placement import uniform_placement
from expunge.training.plan import Epochs, Initial, Plan, Recipe

BEFORE, INTERIM, AFTER = ("sha256:" + letter * 64 for letter in "abc")
SCORES = {"mAP50": 0.9, "mAP50-95": 0.7}


def write_plan(path: Path) -> None:
    recipe = Recipe(
        imgsz=160,
        batch=16,
        optimizer="AdamW",
        lr0=0.01,
        lrf=0.1,
        momentum=0.9,
        weight_decay=0,
        warmup_epochs=0,
    )
    Plan(
        task="detect", names=("face",), architecture={}, initial=Initial(source="x.yaml", tensors=""), seed=0,
        shards=2, slices=1, epochs=Epochs(public=1, stages=(1,), polish=0), recipe=recipe,
        placement=uniform_placement(2, 1), threads=1,
    ).save(path)  # fmt: skip


@dataclass
class Commands:
    """Replace the command line: return results as it would, and record the commands."""

    valid: bool = True
    replayed: bool | None = True
    received: list[str] = field(default_factory=list)

    def __call__(self, folder: Path, *args: str) -> dict[str, Any]:
        self.received.append(" ".join(args))
        match args:
            case ("init", _) | ("data", "add", *_):
                return {}
            case ("train", *_):
                write_plan(folder / "plan.json")
                return {
                    "digest": BEFORE,
                    "weights": "w1.pt",
                    "plan": str(folder / "plan.json"),
                    "cpu_seconds": 100.0,
                }
            case ("forget", *rest) if "--dry-run" in rest:
                rows = [("public", -1, 0, False), ("shard", 0, 1, True), ("shard", 1, 1, False)]
                keys = ("phase", "shard", "stage", "retrained")
                chart = [{**dict(zip(keys, row, strict=True)), "images": 4} for row in rows]
                return {"models": [{"cost_predicted": 0.3, "map": chart}]}
            case ("forget", *_):
                interim = {"model": "detector@2", "digest": INTERIM, "seconds": 1.25, "metrics": SCORES}
                after = {"model": "detector@3", "digest": AFTER, "weights": "w3.pt", "interim": interim}
                costs = {"cost_predicted": 0.3, "cost_measured": 0.25}
                return {"models": [{**after, **costs, "metrics_before": SCORES, "metrics_after": SCORES}]}
            case ("verify", "detector@3", "--replay"):
                checks = [("detector@3: catalog", True), ("detector@3: replay", self.replayed)]
                return {
                    "valid": self.valid,
                    "checks": [{"name": n, "ok": ok, "detail": ""} for n, ok in checks],
                }
        raise AssertionError(f"an unexpected command: {args}")


def see(weights: Path, images: Sequence[Path], imgsz: int) -> list[tuple[Detection, ...]]:
    return [(Detection((10.0, 10.0, 60.0, 60.0), 0.8), Detection((0.0, 0.0, 9.0, 9.0), 0.1)) for _ in images]


@pytest.fixture
def story(wheel: Path, cast: Cast, tmp_path: Path) -> tuple[Story, Commands, list[str]]:
    commands, messages = Commands(), list[str]()
    settings = Settings(
        cast=cast, epochs=2, public_epochs=3, ordinary_epochs=1, minutes=1, subject="s3", shards=2
    )

    def ordinary(data: Path, out: Path, weights: Path, plan: Plan, settings: Settings) -> dict[str, float]:
        # Ultralytics leaves caches where it learns: not among the originals.
        assert yaml.safe_load(data.read_text(encoding="utf-8"))["path"] == str(data.parent.resolve())
        return SCORES

    services = Services(lambda: Faces(wheel), commands, ordinary, see)
    return Story(tmp_path / "out", settings, messages.append, services), commands, messages


def test_runs_all_steps(story: tuple[Story, Commands, list[str]]) -> None:
    demo, commands, messages = story
    result = demo.run()
    html = Path(result["report"]).read_text(encoding="utf-8")
    assert result["equal"] is True
    assert (result["digest_before"], result["digest_after"]) == (BEFORE, AFTER)
    assert "s3 asked to be forgotten" in html
    assert "1.2 s" in html
    assert [line.split()[0] for line in commands.received] == [
        "init",
        "data",
        "train",
        "forget",
        "forget",
        "verify",
    ]
    train = next(line for line in commands.received if line.startswith("train"))
    assert "--weights yolo26n.yaml --shards 2 --slices 2 --epochs 2 --imgsz 128" in train
    assert "--set public_epochs=3" in train
    assert str(demo.folder / "report.html") in messages[0]
    assert str(demo.folder / "report.html") in messages[-1]
    assert not (demo.folder / "ordinary").exists()


def test_a_failed_replay_is_reported(story: tuple[Story, Commands, list[str]]) -> None:
    demo, commands, messages = story
    commands.valid = False
    result = demo.run()
    assert result["equal"] is False
    assert any("OTHER weights" in line for line in messages)
    assert "FAILED" in Path(result["report"]).read_text(encoding="utf-8")


def test_may_run_again_in_the_same_folder(story: tuple[Story, Commands, list[str]]) -> None:
    demo = story[0]
    demo.run()
    Story(demo.folder, demo.settings, demo.say, demo.services).run()


def test_a_folder_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        prepare(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_entry_is_the_first_retrained_stage() -> None:
    rows = [("shard", 0, 2, True), ("shard", 0, 1, False), ("shard", 1, 1, True), ("shard", 1, 2, True)]
    keys = ("phase", "shard", "stage", "retrained")
    cells = cells_of([{**dict(zip(keys, row, strict=True)), "images": 1} for row in rows])
    assert {(c.shard, c.stage): c.entry for c in cells} == {
        (0, 1): False,
        (0, 2): True,
        (1, 1): True,
        (1, 2): False,
    }


@pytest.mark.parametrize(
    ("other", "value"),
    [((0.0, 0.0, 10.0, 10.0), 1.0), ((5.0, 0.0, 15.0, 10.0), 1 / 3), ((20.0, 0.0, 30.0, 10.0), 0.0)],
)
def test_overlap(other: tuple[float, float, float, float], value: float) -> None:
    assert overlap((0.0, 0.0, 10.0, 10.0), other) == pytest.approx(value)


def test_a_commands_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 2, '{"error": "No.", "reason": "Because.", "next": "Try."}')
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: answer)
    with pytest.raises(ExpungeError) as caught:
        command.run(tmp_path, "forget")
    assert (caught.value.what, caught.value.why, caught.value.next_step) == ("No.", "Because.", "Try.")


def test_a_command_without_result_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess([], -9, ""))
    with pytest.raises(ExpungeError, match="exit code -9"):
        command.run(tmp_path, "train")


def test_a_negative_verdict_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 1, '{"valid": false}')
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: answer)
    assert command.run(tmp_path, "verify") == {"valid": False}


def test_a_narrow_model_differs_from_yolo26n_only_in_its_width(tmp_path: Path) -> None:
    written = yaml.safe_load((tmp_path / narrow.write(tmp_path)).read_text(encoding="utf-8"))
    depth, width, _ = written["scales"]["n"]
    assert (depth, width) == (0.5, narrow.WIDTH)
    assert written["head"][-1][2] == "Detect"


@pytest.mark.parametrize(
    ("ok", "valid", "equal"),
    [(True, True, True), (True, False, False), (False, False, False), (None, True, None)],
)
def test_only_the_replay_is_a_proof(
    story: tuple[Story, Commands, list[str]], ok: bool | None, valid: bool, equal: bool | None
) -> None:
    demo, commands, _ = story
    commands.valid, commands.replayed = valid, ok
    assert demo.run()["equal"] is equal

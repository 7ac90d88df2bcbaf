# SPDX-License-Identifier: Apache-2.0
"""Files that changed after `data add`: a validation file costs metrics, a training file blocks a retrain."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import worlds
from proof import Story, add, quiet, train_inline

from expunge import training
from expunge.catalog.datasets import add_version
from expunge.catalog.models import find_model
from expunge.catalog.tables import DatasetRootRow, DatasetRow
from expunge.data.scan import scan
from expunge.errors import InputError
from expunge.evidence import verify as evidence
from expunge.exact.damage import FOLDER, LISTED, DamagedData
from expunge.exact.model import plan_file
from expunge.exact.planner import Options
from expunge.progress import Progress
from expunge.queue import batch, intake
from expunge.queue.batch import Chosen
from expunge.tasks.detect import DetectTask
from expunge.workspace import Workspace

VAL = [f"images/val/{k}.png" for k in range(4)]
Spoil = Callable[[Path, str], None]


def label(root: Path, path: str) -> Path:
    return root / path.replace("images/", "labels/", 1).replace(".png", ".txt")


def rewritten(root: Path, path: str) -> None:
    with open(root / path, "ab") as file:
        file.write(b"\0\0")


def deleted(root: Path, path: str) -> None:
    (root / path).unlink()


def relabelled(root: Path, path: str) -> None:
    label(root, path).write_text("0 1.071 0.5 0.2 0.2\n")


def unlabelled(root: Path, path: str) -> None:
    label(root, path).unlink()


def emptied(root: Path, path: str) -> None:
    (root / path).write_bytes(b"")


def made_a_folder(root: Path, path: str) -> None:
    (root / path).unlink()
    (root / path).mkdir()


SPOILS = [rewritten, deleted, relabelled, unlabelled, emptied, made_a_folder]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model on a detection set, in two shards."""
    folder = tmp_path_factory.mktemp("trained")
    made = Story(folder, worlds.detection(folder / "data"), "detect", slices=1, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        train_inline(patch)
        made.begin()
    made.workspace._engine.dispose()
    return folder


@pytest.fixture
def story(trained: Path, tmp_path: Path) -> Story:
    """A copy of it."""
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    root = folder / "data"
    made = Story(folder, worlds.World(root, root / "data.yaml", {}), "detect", slices=1, epochs=1)
    made.reopen()
    with made.workspace.session(write=True) as session:
        session.query(DatasetRow).one().root = str(root)
        session.query(DatasetRootRow).one().path = str(root)
    return made


class Heard(Progress):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def run(story: Story, request: str) -> str:
    ran = batch.run(story.workspace, Chosen(ids=(request,)), quiet())
    for failure in ran.failed:
        raise failure.error
    return str(ran.outcomes[request]["state"])


def state(story: Story, request: str) -> str:
    return str(intake.show(story.workspace, request)["state"])


def only_request(story: Story) -> str:
    from expunge.queue.docket import listing

    return str(listing(story.workspace, every=True)["requests"][0]["request"])


def test_spoilt_validation_files_cost_metrics_alone(story: Story) -> None:
    """Each kind of damage in turn, until no file is left; erasures of others go through all the same."""
    for spoil, path in zip(SPOILS[:3], VAL, strict=False):
        spoil(story.world.root, path)
    (entry,) = story.forget("p1", delete_originals=True)["models"]
    before, after = entry["metrics_before"], entry["metrics_after"]
    assert (before["images"], before["left_out"]) == (after["images"], after["left_out"]) == (1, 3)
    assert entry["guarantee"] == "exact"
    assert entry["interim"]["metrics"]["left_out"] == 3
    shutil.rmtree(story.world.root / "images" / "val")
    outcome = story.forget("p2", delete_originals=True)
    (entry,) = outcome["models"]
    assert outcome["state"] == "closed"
    for metrics in (entry["metrics_before"], entry["metrics_after"]):
        assert "mAP50-95" not in metrics
        assert metrics["reason"] == "None of the 4 files of the split can be read."


@pytest.mark.slow
def test_a_replay_needs_no_validation_file(story: Story) -> None:
    shutil.rmtree(story.world.root / "images" / "val")
    outcome = story.forget("p2")
    found = evidence.verify(story.workspace, outcome["request"], evidence.Means(replay=True), quiet())
    replays = {c["name"]: c["ok"] for c in found["checks"] if c["name"].endswith("replay")}
    assert replays == {"m@2: replay": True, "m@3: replay": True}, found["checks"]
    rewritten(story.world.root, "images/train/p3/shot 0.png")
    with pytest.raises(InputError, match="has changed"):
        evidence.verify(story.workspace, outcome["request"], evidence.Means(replay=True), quiet())


def test_training_is_published_whatever_validation_files_are(tmp_path: Path) -> None:
    world = worlds.detection(tmp_path / "data", people=2, each=1)
    paths = [f"images/val/{k}.png" for k in range(len(SPOILS) + 1)]
    for path in paths[len(VAL) :]:
        worlds._draw(world.root, path)
    workspace = Workspace.init(tmp_path / "w")
    add(workspace, world)
    for spoil, path in zip(SPOILS, paths, strict=False):
        spoil(world.root, path)
    heard = Heard()
    options = Options(
        weights=str(worlds.tiny_architecture(tmp_path, "detect")),
        shards=1, slices=1, epochs=1, imgsz=32, batch=4,
    )  # fmt: skip
    published = training.train(workspace, "shop", "m", options=options, progress=heard)
    assert published.metrics is not None
    assert (published.metrics["images"], published.metrics["left_out"]) == (1, len(SPOILS))
    assert any(line.startswith("note: 6 of 7 files of val") for line in heard.lines)


@pytest.mark.slow
def test_measuring_never_takes_back_what_was_published(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the evaluation raises: the erasure stands, and the metrics say that there are none."""

    def broken(*args: object) -> None:
        raise RuntimeError("of a library")

    monkeypatch.setattr(DetectTask, "evaluate", broken)
    outcome = story.forget("p1", delete_originals=True)
    assert outcome["state"] == "closed"
    assert outcome["models"][0]["metrics_after"] == {"images": 0, "reason": "Measuring failed: RuntimeError."}


def spoilt_training(story: Story) -> list[str]:
    """Damage files of two shards, an image, a label and one that goes; returns the samples."""
    damaged = ["images/train/p3/shot 0.png", "images/train/p4/shot 1.png", "images/train/p2/shot 1.png"]
    damaged += [f"images/train/empty/{k}.png" for k in range(3)]
    for path in damaged[1:2]:
        relabelled(story.world.root, path)
    for path in (damaged[0], *damaged[2:]):
        rewritten(story.world.root, path)
    return damaged


def test_damaged_training_files_are_all_named_before_any_training(story: Story) -> None:
    damaged, before = spoilt_training(story), story.newest()
    with pytest.raises(DamagedData) as caught:
        story.forget("p0", method="retrain")
    assert all(path in caught.value.why for path in damaged)
    assert caught.value.what.startswith("6 of the ")
    now = story.newest()
    assert (now.parent, now.guarantee, now.state) == (before.number, "exact-interim", "interim")
    request = only_request(story)
    assert state(story, request) == "failed"
    shown = intake.show(story.workspace, request)
    assert all(way in shown["next"] for way in ("Restore", "expunge forget", "expunge data add"))
    for _ in range(2):  # the same answer as long as they are damaged
        with pytest.raises(DamagedData):
            run(story, request)
    assert all(path.split("/")[-1] in (folder_file(story)).read_text() for path in damaged)


def folder_file(story: Story) -> Path:
    return story.workspace.root / FOLDER / "m.txt"


@pytest.mark.slow
def test_way_out_restore(story: Story) -> None:
    kept = {p: (story.world.root / p).read_bytes() for p in worlds_files(story)}
    spoilt_training(story)
    with pytest.raises(DamagedData):
        story.forget("p0", delete_originals=True, method="retrain")
    for path, content in kept.items():
        if "/p0/" not in path and "group \u00e9 2" not in path:
            (story.world.root / path).write_bytes(content)
    assert run(story, only_request(story)) == "closed"
    assert not folder_file(story).exists()
    assert story.newest().digest == story.from_nothing(story.newest().label, story.folder / "again")


def worlds_files(story: Story) -> list[str]:
    return [str(f.relative_to(story.world.root)) for f in story.world.root.rglob("*") if f.is_file()]


def test_way_out_erase_them_too(story: Story) -> None:
    damaged = spoilt_training(story)
    with pytest.raises(DamagedData):
        story.forget("p0", delete_originals=True, method="retrain")
    first = only_request(story)
    outcome = story.forget(samples=damaged, delete_originals=True)
    assert outcome["state"] == "closed"
    assert state(story, first) == "closed"
    assert not folder_file(story).exists(), "the list named what is erased now"
    assert story.newest().guarantee == "exact"


@pytest.mark.slow
def test_way_out_a_new_version(story: Story) -> None:
    spoilt_training(story)
    label(story.world.root, "images/train/p4/shot 1.png").write_text("0 0.5 0.5 0.2 0.2\n")
    deleted(story.world.root, "images/train/empty/2.png")
    with pytest.raises(DamagedData) as caught:
        story.forget("p0", delete_originals=True, method="retrain")
    assert "--full" in caught.value.next_step
    request, digest = only_request(story), story.newest().plan_digest
    assert digest is not None
    with story.workspace.session(write=True) as session:
        found = scan(story.world.source)
        add_version(
            session, "shop", found, key=story.workspace.key, full=True, skip_erased=True,
            keep_subjects=True, keep_public=True,
        )  # fmt: skip
    plan = plan_file(story.workspace, digest)
    training.train(story.workspace, "shop", "m", from_plan=plan, progress=quiet())
    assert run(story, request) == "closed"
    assert story.newest().guarantee == "exact"


@pytest.mark.slow
def test_more_than_fit_are_in_a_file(story: Story) -> None:
    paths = [p for p in worlds_files(story) if p.startswith("images/train")]
    for path in paths:
        rewritten(story.world.root, path)
    with pytest.raises(DamagedData) as caught:
        story.forget("p0", method="retrain")
    assert caught.value.why.count("images/train") >= LISTED
    assert str(folder_file(story)) in caught.value.why
    assert len(folder_file(story).read_text().splitlines()) == int(caught.value.what.split()[0])


@pytest.mark.slow
def test_a_new_training_refuses_damaged_files_before_anything(story: Story) -> None:
    spoilt_training(story)
    options = Options(
        weights=str(worlds.tiny_architecture(story.folder, "detect")),
        shards=1, slices=1, epochs=1, imgsz=32, batch=4,
    )  # fmt: skip
    with pytest.raises(DamagedData, match="6 of the"):
        training.train(story.workspace, "shop", "other", options=options, progress=quiet())
    with pytest.raises(InputError), story.workspace.session() as session:
        find_model(session, "other")

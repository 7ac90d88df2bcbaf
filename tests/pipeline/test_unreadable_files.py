# SPDX-License-Identifier: Apache-2.0
"""Changed validation files are left out of the metrics; changed training files block a retrain."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worlds
from proof import Story, add, quiet, train_inline

from expunge.catalog.dataset_store import add_version
from expunge.catalog.model_store import find_model
from expunge.catalog.tables import DatasetRootRow, DatasetRow
from expunge.data.scan import scan
from expunge.erasure import intake, scheduler
from expunge.erasure.scheduler import QueueSelection
from expunge.errors import InputError
from expunge.evidence import verifier
from expunge.exact.damaged_files import FOLDER, LISTED, DamagedData
from expunge.exact.model import plan_file
from expunge.exact.planner import Options
from expunge.models import training
from expunge.progress import Progress
from expunge.tasks.detect import DetectTask
from expunge.workspace import Workspace

VAL = [f"images/val/{k}.png" for k in range(4)]


def label(root: Path, path: str) -> Path:
    """Return the label file of an image."""
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


DAMAGES = [rewritten, deleted, relabelled, unlabelled, emptied, made_a_folder]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace and a detector in two shards."""
    folder = tmp_path_factory.mktemp("trained")
    made = Story(folder, worlds.detection(folder / "data"), "detect", slices=1, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        train_inline(patch)
        made.begin()
    made.workspace._engine.dispose()
    return folder


@pytest.fixture
def story(trained: Path, tmp_path: Path) -> Story:
    """Return a copy of the workspace and its dataset."""
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    root = folder / "data"
    made = Story(folder, worlds.World(root, root / "data.yaml", {}), "detect", slices=1, epochs=1)
    made.reopen()
    with made.workspace.session(write=True) as session:
        session.query(DatasetRow).one().root = str(root)
        session.query(DatasetRootRow).one().path = str(root)
    return made


class RecordedProgress(Progress):
    """Records all messages."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def run(story: Story, request: str) -> str:
    """Run a request and return its state; raises its error."""
    ran = scheduler.run(story.workspace, QueueSelection(ids=(request,)), quiet())
    for failure in ran.failed:
        raise failure.error
    return str(ran.outcomes[request]["state"])


def state(story: Story, request: str) -> str:
    return str(intake.show(story.workspace, request)["state"])


def only_request(story: Story) -> str:
    from expunge.erasure.status import list_requests

    return str(list_requests(story.workspace, every=True)["requests"][0]["request"])


def test_damaged_validation_files_are_left_out_of_the_metrics(story: Story) -> None:
    """Erasures succeed with some damaged validation files, and with no readable one."""
    for damage, path in zip(DAMAGES[:3], VAL, strict=False):
        damage(story.world.root, path)
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
    found = verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(replay=True), quiet())
    replays = {c["name"]: c["ok"] for c in found["checks"] if c["name"].endswith("replay")}
    assert replays == {"m@2: replay": True, "m@3: replay": True}, found["checks"]
    rewritten(story.world.root, "images/train/p3/shot 0.png")
    with pytest.raises(InputError, match="has changed"):
        verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(replay=True), quiet())


def test_training_is_published_with_damaged_validation_files(tmp_path: Path) -> None:
    world = worlds.detection(tmp_path / "data", people=2, each=1)
    paths = [f"images/val/{k}.png" for k in range(len(DAMAGES) + 1)]
    for path in paths[len(VAL) :]:
        worlds._draw(world.root, path)
    workspace = Workspace.init(tmp_path / "w")
    add(workspace, world)
    for damage, path in zip(DAMAGES, paths, strict=False):
        damage(world.root, path)
    progress = RecordedProgress()
    options = Options(
        weights=str(worlds.tiny_architecture(tmp_path, "detect")),
        shards=1, slices=1, epochs=1, imgsz=32, batch=4,
    )  # fmt: skip
    published = training.train(workspace, "shop", "m", options=options, progress=progress)
    assert published.metrics is not None
    assert (published.metrics["images"], published.metrics["left_out"]) == (1, len(DAMAGES))
    assert any(line.startswith("note: 6 of 7 files of val") for line in progress.lines)


@pytest.mark.slow
def test_failed_evaluation_does_not_undo_the_erasure(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the evaluation is recorded in place of the metrics."""

    def broken(*args: object) -> None:
        raise RuntimeError("of a library")

    monkeypatch.setattr(DetectTask, "evaluate", broken)
    outcome = story.forget("p1", delete_originals=True)
    assert outcome["state"] == "closed"
    assert outcome["models"][0]["metrics_after"] == {"images": 0, "reason": "Measuring failed: RuntimeError."}


def damage_training_files(story: Story) -> list[str]:
    """Damage images and labels of both shards, some of them erased later; return the samples' paths."""
    damaged = ["images/train/p3/shot 0.png", "images/train/p4/shot 1.png", "images/train/p2/shot 1.png"]
    damaged += [f"images/train/empty/{k}.png" for k in range(3)]
    for path in damaged[1:2]:
        relabelled(story.world.root, path)
    for path in (damaged[0], *damaged[2:]):
        rewritten(story.world.root, path)
    return damaged


def test_error_lists_all_damaged_training_files_before_any_training(story: Story) -> None:
    damaged, before = damage_training_files(story), story.newest()
    with pytest.raises(DamagedData) as caught:
        story.forget("p0", method="retrain")
    assert all(path in caught.value.why for path in damaged)
    assert caught.value.what.startswith("6 of the ")
    now = story.newest()
    assert (now.parent, now.guarantee, now.state) == (before.number, "exact-interim", "interim")
    request = only_request(story)
    assert state(story, request) == "failed"
    record = intake.show(story.workspace, request)
    assert all(remedy in record["next"] for remedy in ("Restore", "expunge forget", "expunge data add"))
    for _ in range(2):  # the error repeats while the files are damaged
        with pytest.raises(DamagedData):
            run(story, request)
    assert all(path.split("/")[-1] in (list_file(story)).read_text() for path in damaged)


def list_file(story: Story) -> Path:
    """Return the file in the workspace that lists damaged training files of ``m``."""
    return story.workspace.root / FOLDER / "m.txt"


@pytest.mark.slow
def test_restored_files_finish_the_request(story: Story) -> None:
    backup = {p: (story.world.root / p).read_bytes() for p in dataset_files(story)}
    damage_training_files(story)
    with pytest.raises(DamagedData):
        story.forget("p0", delete_originals=True, method="retrain")
    for path, content in backup.items():
        if "/p0/" not in path and "group \u00e9 2" not in path:
            (story.world.root / path).write_bytes(content)
    assert run(story, only_request(story)) == "closed"
    assert not list_file(story).exists()
    assert story.newest().digest == story.from_nothing(story.newest().label, story.folder / "again")


def dataset_files(story: Story) -> list[str]:
    """Return the paths of all files of the dataset, relative to its root."""
    return [str(f.relative_to(story.world.root)) for f in story.world.root.rglob("*") if f.is_file()]


def test_erasure_of_damaged_samples_finishes_the_request(story: Story) -> None:
    damaged = damage_training_files(story)
    with pytest.raises(DamagedData):
        story.forget("p0", delete_originals=True, method="retrain")
    first = only_request(story)
    outcome = story.forget(samples=damaged, delete_originals=True)
    assert outcome["state"] == "closed"
    assert state(story, first) == "closed"
    assert not list_file(story).exists(), "the list named samples that are erased now"
    assert story.newest().guarantee == "exact"


@pytest.mark.slow
def test_new_dataset_version_finishes_the_request(story: Story) -> None:
    damage_training_files(story)
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
def test_long_lists_of_damaged_files_are_written_to_a_file(story: Story) -> None:
    paths = [p for p in dataset_files(story) if p.startswith("images/train")]
    for path in paths:
        rewritten(story.world.root, path)
    with pytest.raises(DamagedData) as caught:
        story.forget("p0", method="retrain")
    assert caught.value.why.count("images/train") >= LISTED
    assert str(list_file(story)) in caught.value.why
    assert len(list_file(story).read_text().splitlines()) == int(caught.value.what.split()[0])


@pytest.mark.slow
def test_new_training_refuses_damaged_files(story: Story) -> None:
    damage_training_files(story)
    options = Options(
        weights=str(worlds.tiny_architecture(story.folder, "detect")),
        shards=1, slices=1, epochs=1, imgsz=32, batch=4,
    )  # fmt: skip
    with pytest.raises(DamagedData, match="6 of the"):
        training.train(story.workspace, "shop", "other", options=options, progress=quiet())
    with pytest.raises(InputError), story.workspace.session() as session:
        find_model(session, "other")

# SPDX-License-Identifier: Apache-2.0
"""Training from a checkpoint or a copied plan, adoption, status, dry run, and ``expunge.Workspace``."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import worlds
from proof import Story, add, quiet

from expunge import Workspace as ExportedWorkspace
from expunge.erasure import execution
from expunge.erasure.workspace import Workspace
from expunge.errors import InputError
from expunge.exact.model import plan_file
from expunge.exact.planner import Options
from expunge.models import training


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a workspace with a trained detector."""
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect")
    story.begin()
    return story


def test_plan_with_a_checkpoint_as_start_repeats_elsewhere(story: Story, tmp_path: Path) -> None:
    first = story.newest()
    source = tmp_path / "start.pt"
    shutil.copyfile(story.workspace.root / first.weights, source)
    options = Options(str(source), shards=2, slices=1, epochs=1, imgsz=32, batch=4)
    second = training.train(story.workspace, "shop", "n", options=options, progress=quiet())
    assert second.digest != first.digest
    stored = plan_file(story.workspace, second.plan_digest or "")
    assert str(tmp_path) not in stored.read_text()

    other = Workspace.init(tmp_path / "other")
    add(other, story.world)
    copy = tmp_path / "copy.json"
    shutil.copyfile(stored, copy)
    with pytest.raises(InputError, match="initial weights of the plan are missing"):
        training.train(other, "shop", "n", from_plan=copy, progress=quiet())
    wrong = str(worlds.tiny_architecture(tmp_path, "detect"))
    with pytest.raises(InputError, match="not those of the plan"):
        training.train(other, "shop", "n", from_plan=copy, weights=wrong, progress=quiet())
    again = training.train(other, "shop", "n", from_plan=copy, weights=str(source), progress=quiet())
    assert again.digest == second.digest


def test_training_again_changes_nothing(story: Story) -> None:
    before = story.newest()
    plan = plan_file(story.workspace, before.plan_digest or "")
    again = training.train(story.workspace, "shop", "m", from_plan=plan, progress=quiet())
    assert again == before


def test_adopted_models_are_not_erasable_exactly(story: Story, tmp_path: Path) -> None:
    weights = tmp_path / "elsewhere.pt"
    shutil.copyfile(story.workspace.root / story.newest().weights, weights)
    adopted = training.adopt(story.workspace, weights, "shop", "old")
    assert adopted.digest == story.newest().digest
    assert adopted.guarantee == "none"
    with pytest.raises(InputError, match="not trained erasable"):
        story.forget("p1", method="exact")
    outcome = story.forget("p1", models=("m",))
    assert [m["model"].partition("@")[0] for m in outcome["models"]] == ["m"]


def test_status_of_current_interim_superseded_and_unknown_weights(story: Story, tmp_path: Path) -> None:
    old = story.workspace.root / story.newest().weights
    assert training.status(story.workspace, old)["status"] == "current"
    outcome = story.forget("p1", defer=True)
    interim = Path(outcome["models"][0]["interim"]["weights"])
    assert training.status(story.workspace, interim)["status"] == "interim"
    assert training.status(story.workspace, old)["status"] == "superseded"
    story.repair()
    assert training.status(story.workspace, interim)["status"] == "superseded"
    other = Story(tmp_path / "f", worlds.detection(tmp_path / "f" / "data"), "detect", epochs=1)
    foreign = other.begin()
    path = other.workspace.root / foreign.weights
    assert training.status(story.workspace, path)["status"] == "unknown"


def test_exported_workspace_opens_and_runs_requests(story: Story) -> None:
    workspace = ExportedWorkspace.open(story.folder / "w")
    outcome = workspace.run(workspace.request(subjects=["p2"]))
    assert outcome.certificate.path.is_file()
    assert outcome.result["models"][0]["guarantee"] == "exact"


def test_all_interim_models_are_published_before_the_first_repair(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expunge.erasure.exact import Execution

    weights = str(worlds.tiny_architecture(tmp_path, "detect"))
    options = Options(weights, shards=2, slices=1, epochs=1, imgsz=32, batch=4)
    training.train(story.workspace, "shop", "n", options=options, progress=quiet())
    order: list[str] = []
    for name in ("publish_interim", "repair"):
        original = getattr(Execution, name)

        def recorded(self: Execution, *args: object, original: object = original, name: str = name) -> object:
            order.append(name)
            return original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(Execution, name, recorded)
    story.forget("p1")
    assert order == ["publish_interim", "publish_interim", "repair", "repair"]


def test_dry_run_changes_nothing_and_predicts_the_cost(story: Story) -> None:
    tables = story.workspace.query("SELECT name FROM sqlite_master WHERE type = 'table'")

    def content() -> list[object]:
        rows = [story.workspace.query(f"SELECT * FROM {t['name']}") for t in tables]
        files = sorted((p.as_posix(), p.stat().st_size) for p in story.workspace.checkpoints.rglob("*"))
        return [rows, files]

    before = content()
    preview = execution.dry_run(story.workspace, execution.ErasureRequest(subjects=("p1",)))
    assert content() == before
    predicted = preview["models"][0]["cost_predicted"]
    assert 0 < predicted < 1
    outcome = story.forget("p1")
    assert outcome["models"][0]["cost_predicted"] == predicted
    assert content() != before, "negative control"


def test_retrain_gives_the_same_tensors_as_exact(story: Story, tmp_path: Path) -> None:
    twin = replace(story, folder=tmp_path / "twin")
    shutil.copytree(story.folder / "w", twin.folder / "w")
    twin.reopen()
    exact = story.forget("p1")["models"][0]
    retrained = twin.forget("p1", method="retrain")["models"][0]
    assert retrained["digest"] == exact["digest"]
    assert retrained["cost_predicted"] == retrained["cost_measured"] == 1.0
    assert exact["cost_predicted"] < 1.0
    assert 0 < exact["cost_measured"] < 1.0, "some stages are kept"

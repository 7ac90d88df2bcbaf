# SPDX-License-Identifier: Apache-2.0
"""``bias find`` on models of a workspace: its report, its files, and `forget --from` with its list."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds
from click.testing import CliRunner
from PIL import Image
from proof import Story, quiet, train_inline

from expunge.bias.attributed_models import FINAL_ONLY, STAGES, states_of, total_rate
from expunge.bias.attribution.checkpoints import misclassified_of
from expunge.bias.contact_sheet import LABELLED, _box_predictions, _letterbox, _relative_box
from expunge.bias.find import _load_context, find
from expunge.bias.search import Search
from expunge.cli.bias_find import find as command
from expunge.cli.selecting import lines
from expunge.data.labels import read_boxes
from expunge.data.yolo import label_file
from expunge.errors import InputError
from expunge.exact.graph import build_graph
from expunge.exact.model import ErasableModel
from expunge.models import training
from expunge.progress import Progress
from expunge.tasks.box_labels import KINDS
from expunge.tasks.yolo import open_model, yolo_task

TASKS = ("classify", "detect")


@pytest.fixture(scope="module", params=["detect", pytest.param("classify", marks=pytest.mark.slow)])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A workspace with an erasable model ``m`` and an adopted one, ``old``."""
    folder, task = tmp_path_factory.mktemp(request.param), request.param
    make = worlds.detection if task == "detect" else worlds.classification
    with pytest.MonkeyPatch.context() as patch:
        train_inline(patch)
        story = Story(folder, make(folder / "data"), task)
        story.begin()
        copy = folder / "elsewhere.pt"
        shutil.copyfile(story.workspace.root / story.newest().weights, copy)
        training.adopt(story.workspace, copy, "shop", "old")
    (story.workspace.root / "settings.toml").write_text("[bias]\nminimum = 2\n")
    story.reopen()
    return story


def table(story: Story, column: str = "light") -> Path:
    """Write a table of groups: by path, every second validation sample is of the night; p0's are late."""
    with story.workspace.session() as session:
        from expunge.catalog.dataset_store import get_version, load_samples

        samples = load_samples(session, get_version(session, "shop"))
    file = story.folder / f"{column}.csv"
    with open(file, "w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["sample", column])
        held = [s for s in samples if s.split == "val"]
        rows.writerows([s.path, ("day", "night")[i % 2]] for i, s in enumerate(held))
        rows.writerows(
            [s.path, "late" if "p0" in s.subjects else "early"] for s in samples if s.split == "train"
        )
    return file


def look(story: Story, model: str = "m", out: Path | None = None, **values: Any) -> dict[str, Any]:
    return find(story.workspace, Search(model, **{"target": "errors", **values}), quiet(), out)


def read(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report(story: Story) -> dict[str, Any]:
    """What is found by sample."""
    return look(story, out=story.folder / "found", top=3)


def test_by_sample(report: dict[str, Any], story: Story) -> None:
    assert report["checkpoints"]["are"] == STAGES
    assert report["gradients"] == ("last-layer" if story.task == "classify" else "projected")
    assert report["target"]["errors"] > 0
    assert report["ranked"] == report["training_samples"] - report["unranked_samples"]
    assert set(report["agreement"]) == {"trak/tracin", "trak/label-errors", "tracin/label-errors"}
    assert report["label_errors"]["held_out_by_shards"] > 0
    whole, few = read(report["files"]["ranking"]), read(report["files"]["forget"])
    assert len(whole) == report["ranked"]
    assert [float(r["trak"]) for r in whole] == sorted((float(r["trak"]) for r in whole), reverse=True)
    assert len(few) == report["top"] <= 3
    assert [r["sample"] for r in few] == [r["sample"] for r in whole[: len(few)]]
    assert all(float(r["trak"]) > 0 for r in few)
    for file in report["files"].values():
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    page = Path(report["files"]["sheet"]).read_text()
    assert page.count("<img") == len(few)
    assert page.count("labelled:") == len(few)
    assert page.count("model:") == len(few)


def test_the_report_names_nobody(report: dict[str, Any]) -> None:
    text = json.dumps({**report, "files": None})
    assert "p0" not in text
    assert ".png" not in text


def test_by_subject_and_the_list_is_taken(story: Story, tmp_path: Path) -> None:
    report = look(story, by="subject", top=2, ranked_by="label-errors", out=tmp_path / "found")
    few = read(report["files"]["forget"])
    assert {r["subject"] for r in few} <= {f"p{i}" for i in range(6)}
    assert (report["ranked"], report["top"], len(few)) == (6, 2, 2)
    listed = lines(Path(report["files"]["forget"]))
    assert listed == tuple(r["subject"] for r in few)
    from expunge.erasure import execution

    plan = execution.dry_run(story.workspace, execution.ErasureRequest(listed=listed, dataset="shop"))
    assert plan["samples"] >= len(few)
    with pytest.raises(InputError, match="ranking of everything"):
        lines(Path(report["files"]["ranking"]))


def test_by_column_lists_the_samples(story: Story, tmp_path: Path) -> None:
    report = look(story, by="light", file=table(story), top=1, out=tmp_path / "found")
    few = read(report["files"]["forget"])
    assert report["ranked"] == 2
    assert len(read(report["files"]["ranking"])) == 2
    assert report["top"] <= 1
    assert len({r["light"] for r in few}) == report["top"]
    assert all(r["sample"].endswith(".png") for r in few)


def test_the_worst_group_as_a_target(story: Story) -> None:
    file = table(story)
    report = look(story, target="worst-group", columns=("light",), file=file)
    assert report["target"]["columns"] == ["light"]
    assert report["target"]["group"] in ("day", "night")
    assert report["target"]["samples"] < len(read(str(file)))


def test_an_adopted_model_has_one_checkpoint(story: Story) -> None:
    report = look(story, "old")
    assert report["checkpoints"] == {"count": 1, "are": FINAL_ONLY}
    assert any("final model alone" in w for w in report["warnings"])
    doubts = report["label_errors"]
    if story.task == "classify":
        assert doubts["held_out_by_folds"] == report["training_samples"]
    else:
        assert doubts["not_held_out"] == report["training_samples"]
        assert any("by heart" in w for w in report["warnings"])


def test_with_folds_every_label_is_judged_by_who_never_saw_it(story: Story, tmp_path: Path) -> None:
    report = look(story, "old", folds=2, epochs=1, ranked_by="label-errors", top=2, out=tmp_path / "found")
    doubts = report["label_errors"]
    assert doubts["held_out_by_folds"] == report["training_samples"]
    assert doubts["not_held_out"] == 0
    assert not any("by heart" in w for w in report["warnings"])
    page = Path(report["files"]["sheet"]).read_text()
    if story.task == "detect":
        assert set(doubts["doubtful"]) == set(KINDS)
        assert any(f"({kind})" in page for kind in KINDS)


def test_a_checkpoint_scores_the_samples_it_saw(story: Story) -> None:
    opened = open_model(story.workspace.root / story.newest().weights)
    task = yolo_task(opened)
    model = ErasableModel.open(story.workspace, story.newest(), quiet())
    train = sorted((s for s in model.samples if s.split == "train"), key=lambda s: s.path)
    points, _ = states_of(task, opened.module, train, model)
    graph = build_graph(model.plan, model.samples, model.risks)
    assert len(points) == len(graph.nodes)
    for shard in graph.shards:
        chain = [p for p in points if p.shard == shard]
        others = {s.path for k, nodes in graph.shards.items() if k != shard for n in nodes for s in n.samples}
        private = {train[i].path for p in chain for i in p.rows} - {s.path for s in train if s.public}
        assert not private & others
        assert [p.final for p in chain] == [False] * (len(chain) - 1) + [True]
    for point, node in zip(points, graph.nodes, strict=True):
        rate = np.broadcast_to(point.rate, point.rows.shape)
        stepped = {train[i].path for i, r in zip(point.rows, rate, strict=True) if r > 0}
        assert stepped == {s.path for s in node.samples}
        assert rate.max() == pytest.approx(total_rate(model.plan.recipe, node.schedule))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"target": "harm"}, "target is unknown"),
        ({"split": "test"}, "never judges|looked for on the split 'test'"),
        ({"target": "worst-group"}, "not named"),
        ({"target": "worst-group", "columns": ("age",)}, "no column 'age'"),
        ({"by": "contributor"}, "no column 'contributor'"),
        ({"target": "group=noon", "columns": ("light",), "file": True}, "no such group"),
        ({"target": "group=late", "columns": ("light",), "file": True}, "in the training data only"),
        ({"top": 0}, "--top 0"),
        ({"folds": 1}, "folds do not fit"),
        ({"folds": 99}, "folds do not fit"),
        ({"ranked_by": "luck"}, "no ranking"),
        ({"model": "nobody"}, "no model"),
    ],
)
def test_bad_input(story: Story, tmp_path: Path, values: dict[str, Any], complaint: str) -> None:
    if values.get("file"):
        values = {**values, "file": table(story)}
    out = tmp_path / "found"
    with pytest.raises(InputError, match=complaint):
        look(story, **{"model": "m", **values}, out=out)
    assert not out.exists()


def test_a_target_without_errors(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "expunge.bias.attribution.checkpoints.misclassified_of",
        lambda *a: np.zeros_like(misclassified_of(*a), dtype=bool),
    )
    with pytest.raises(InputError, match="no error to explain"):
        look(story)


def test_a_folder_in_which_something_is(story: Story, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="exists already"):
        look(story, out=tmp_path)


def test_the_command(story: Story, tmp_path: Path) -> None:
    place = ["--workspace", str(story.folder / "w")]
    ran = CliRunner().invoke(command, ["m", "--target", "errors", "--json", "--names", *place])
    report = json.loads(ran.stdout)
    assert ran.exit_code in (0, 1)
    assert len(report["top_items"]) == report["top"]


def test_the_table_names_nobody(story: Story) -> None:
    place = ["--workspace", str(story.folder / "w")]
    shown = CliRunner().invoke(command, ["m", "--target", "errors", "--by", "subject", *place])
    assert "trak/tracin" in shown.stdout
    assert "p0" not in shown.stdout


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("p1\np2\n", ("p1", "p2")),
        ("sample\n", ("sample",)),
        ('sample,rank\n"a, b.png",1\nc.png,2\nc.png,3\n', ("a, b.png", "c.png")),
        ("subject,rank,trak\np1,1,0.5\n", ("p1",)),
        ("a, b.png\n", ("a, b.png",)),
    ],
)
def test_lists_to_forget(tmp_path: Path, text: str, listed: tuple[str, ...]) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text)
    assert lines(file) == listed


def test_an_empty_list(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("sample,rank\n")
    with pytest.raises(InputError, match="empty"):
        lines(file)


@pytest.mark.parametrize("story", ["detect"], indirect=True)
def test_boxes_lie_where_the_label_file_says(story: Story) -> None:
    search = Search("m", "errors")
    ground = _load_context(story.workspace, search, Progress(quiet=True))
    samples = [s for s in ground.train if s.label_digest][:4]
    for sample, prediction in zip(samples, _box_predictions(ground, samples, search), strict=True):
        rows = read_boxes(label_file(ground.version.root, sample.path).read_text(), 3, "")
        drawn = np.array([box for box, colour in prediction.boxes if colour == LABELLED])
        x, y, w, h = rows[0, 1:]
        np.testing.assert_allclose(drawn[0], (x - w / 2, y - h / 2, x + w / 2, y + h / 2), atol=0.02)


def test_the_letterbox_is_undone(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "wide.png")
    share = _letterbox(tmp_path / "wide.png", 64)
    assert _relative_box((0, 16, 64, 48), share) == pytest.approx((0, 0, 1, 1))
    assert _relative_box((32, 24, 70, 40), share) == pytest.approx((0.5, 0.25, 1, 0.75))

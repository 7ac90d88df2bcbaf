# SPDX-License-Identifier: AGPL-3.0-or-later
"""Measuring and comparing published models of a workspace, on the command line and below it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bias_world
import pytest
from bias_world import SECRET, Grouped, grouped

from expunge.bias import measure as fairness
from expunge.bias.measure import MeasureOptions, compare, measure, removal_of
from expunge.bias.metrics.readings import Classified
from expunge.bias.workspace_groups import record_search
from expunge.cli.main import cli
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError
from expunge.models import training
from expunge.tasks.predictions import class_probabilities
from expunge.tasks.yolo import open_model, samples_of, yolo_task


@pytest.fixture(scope="module", params=["classify", "detect"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grouped:
    """A workspace for tests that change nothing."""
    return grouped(tmp_path_factory.mktemp(request.param), request.param, each=2)


pictures = pytest.mark.parametrize("world", ["classify"], indirect=True)


def asked(*columns: str, **changes: Any) -> MeasureOptions:
    return MeasureOptions("shop", columns or ("tone",), **{"draws": 100, **changes})


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the JSON and standard error of a command."""
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--json"])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), json.loads(out), err


def test_the_figures_of_all_are_those_of_the_task(world: Grouped) -> None:
    found = measure(world.workspace, "m", asked())
    assert [g["group"] for g in found["groups"]] == ["dark", "light", "rare", "(missing)"]
    assert [g["figures"] is None for g in found["groups"]] == [False, False, True, True]
    assert found["training_only"] == [SECRET]
    assert found["samples"] == 58
    opened = open_model(next(world.folder.glob("untrained-*.pt")))
    task = yolo_task(opened)
    from expunge.catalog.dataset_store import get_version, load_samples

    with world.workspace.session() as session:
        version = get_version(session, "shop")
        rows = load_samples(session, version, "test")
    theirs = task.evaluate(task.clone(opened.module), samples_of(opened, version.root, version.config, rows))
    if found["task"] == "classify":
        assert found["overall"]["accuracy"]["value"] == pytest.approx(theirs["top1"], abs=1e-5)
    else:
        assert found["overall"]["mAP50"]["value"] == pytest.approx(theirs["mAP50"], abs=1e-3)
        assert found["overall"]["mAP50-95"]["value"] == pytest.approx(theirs["mAP50-95"], abs=1e-3)


@pictures
def test_combinations_and_a_table_of_its_own(world: Grouped) -> None:
    found = measure(world.workspace, "m", asked("tone", "age"))
    assert "dark & old" in [g["group"] for g in found["groups"]]
    table = world.groups_file("subject,shoe", [(who, "boot") for who in list(world.tones)[:60]], "shoes.csv")
    found = measure(world.workspace, "m", asked("shoe", file=table))
    assert {g["group"] for g in found["groups"]} <= {"boot", "(missing)"}


@pictures
@pytest.mark.parametrize(
    "changes",
    [
        {"columns": ("shoe",)}, {"split": "holiday"}, {"data": "none"}, {"data": "shop@9"}, {"by": "shop"},
        {"file": Path("nowhere.csv")},
    ],
)  # fmt: skip
def test_bad_input_names_no_value(world: Grouped, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        measure(world.workspace, "m", MeasureOptions(**{"data": "shop", "columns": ("tone",), **changes}))
    for value in (SECRET, "dark", "light", "rare"):
        assert value not in str(error.value)


@pictures
def test_a_table_without_a_sample_of_the_dataset(world: Grouped) -> None:
    table = world.groups_file("subject,tone", [("nobody", SECRET)], "none.csv")
    with pytest.raises(InputError) as error:
        measure(world.workspace, "m", asked(file=table))
    assert SECRET not in str(error.value)


def test_objects_only_for_detectors(world: Grouped) -> None:
    question = asked(by="object")
    if "detect" not in str(world.folder):
        with pytest.raises(InputError):
            measure(world.workspace, "m", question)
        return
    found = measure(world.workspace, "m", question)
    assert set(found["groups"][0]["figures"]) == {"recall", "mAP50", "mAP50-95"}


@pictures
def test_the_least_size_is_a_setting(world: Grouped, tmp_path: Path) -> None:
    file = world.workspace.root / "settings.toml"
    file.write_text("[bias]\nminimum = 13\n")
    try:
        found = measure(type(world.workspace)(world.workspace.root), "m", asked())
    finally:
        file.unlink()
    assert all(g["figures"] is None for g in found["groups"])
    assert found["gap"] is None
    assert "Fewer than two groups" in " ".join(found["warnings"])


@pictures
def test_two_models_side_by_side(world: Grouped) -> None:
    task = measure(world.workspace, "m", asked())["task"]
    training.adopt(world.workspace, bias_world.untrained(world.folder, task, 1), "shop", "other")
    found = compare(world.workspace, ["m@1", "other"], asked())
    assert [m["model"] for m in found["models"]] == ["m@1", "other@1"]
    assert set(found["changes"]["groups"]) == {"dark", "light"}
    same = compare(world.workspace, ["m", "m"], asked())
    assert same["changes"]["gap"] == [{"value": 0, "low": 0, "high": 0}]
    with pytest.raises(InputError):
        compare(world.workspace, ["m"], asked())


@pictures
def test_what_found_does_not_judge(world: Grouped) -> None:
    assert not any("found" in w for w in measure(world.workspace, "m", asked(split="val"))["warnings"])
    record_search(world.workspace, "shop", "val")
    record_search(world.workspace, "shop", "val")
    warned = measure(world.workspace, "m", asked(split="val"))["warnings"]
    assert any("does not judge" in w for w in warned)
    assert not any("judge" in w for w in measure(world.workspace, "m", asked())["warnings"])
    assert any("was trained" in w for w in measure(world.workspace, "m", asked(split="train"))["warnings"])


@pictures
def test_what_a_removal_leaves(world: Grouped) -> None:
    dark = [who for who, tone in world.tones.items() if tone == "dark" and who.startswith("train")]
    found = removal_of(world.workspace, ErasureRequest(subjects=dark[:9]), ["tone"])
    entry = next(g for g in found["groups"] if g["group"] == "dark")
    assert (entry["samples"], entry["removed"], entry["left_too_few"]) == (24, 18, True)
    assert found["loses_most"] == 1
    assert "75%" in found["warnings"][0]


@pictures
def test_the_command_line(world: Grouped, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    where = ("--workspace", str(world.workspace.root))
    words = ("bias", "measure", "m", "--data", "shop", "--draws", "100", *where)
    plot = tmp_path / "groups.svg"
    code, found, err = run(capsys, *words, "--group", "tone", "--plot", str(plot))
    assert code == 0
    assert found["model"] == "m@1"
    assert SECRET not in err
    assert "<svg" in plot.read_text()
    assert "too few for a figure" in plot.read_text()
    for path in (tmp_path / "groups.pdf", tmp_path / "none" / "groups.svg"):
        code, found, _ = run(capsys, *words, "--group", "tone", "--plot", str(path))
        assert code == 2
    code, found, _ = run(capsys, *words, "--group", "shoe")
    assert code == 2
    assert "tone" in found["reason"]
    with pytest.raises(SystemExit):
        cli.main([*words, "--group", "tone", "--plot", str(tmp_path / "groups.png")])
    shown = capsys.readouterr().out
    assert "worst" in shown
    assert "too few" in shown
    assert (tmp_path / "groups.png").read_bytes().startswith(b"\x89PNG")


@pictures
def test_forget_says_first_what_is_left(
    world: Grouped, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    listed = tmp_path / "found.txt"
    dark = [who for who, tone in world.tones.items() if tone == "dark" and who.startswith("train")]
    listed.write_text("".join(f"{who}\n" for who in dark[:9]))
    where = ("--workspace", str(world.workspace.root))
    words = ("forget", "--from", str(listed), "--dry-run", "--ground", "data-quality", *where)
    code, found, err = run(capsys, *words, "--group", "tone")
    assert code == 0
    assert found["groups"]["loses_most"] == 1
    assert "dark" not in err
    with pytest.raises(SystemExit):
        cli.main([*words, "--group", "tone"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "dark: 18 of 24 training samples go" in shown
    assert "collect" in shown
    code, found, _ = run(capsys, *words, "--group", "shoe")
    assert code == 2
    code, found, _ = run(capsys, *words)
    assert "groups" not in found


@pictures
def test_comparing_on_the_command_line(world: Grouped, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--workspace", str(world.workspace.root), "--data", "shop", "--group", "tone", "--draws", "100")
    code, found, _ = run(capsys, "bias", "compare", "m", "m", *where)
    assert code == 0  # nobody is harmed by no change
    assert found["changes"]["harmed"] == [[]]
    code, found, err = run(capsys, "bias", "compare", "m", "m", "--request", "r-0123456789abcdef", *where)
    assert code == 2
    assert "dark" not in err + str(found)


@pictures
def test_an_ensemble_says_the_mean_probability(world: Grouped) -> None:
    from expunge.catalog.dataset_store import get_version, load_samples

    with world.workspace.session() as session:
        version = get_version(session, "shop")
        rows = load_samples(session, version, "test")[:5]
    models = [open_model(bias_world.untrained(world.folder, "classify", seed)) for seed in (0, 1)]
    place = version.root, version.config, rows
    truth, both = class_probabilities(models, *place)
    alone = [class_probabilities([model], *place)[1] for model in models]
    assert both == pytest.approx(sum(alone) / 2)
    assert [("box", "disc")[t] for t in truth] == [row.class_name for row in rows]


@pictures
def test_missing_weights(world: Grouped) -> None:
    training.adopt(world.workspace, bias_world.untrained(world.folder, "classify", 2), "shop", "lost")
    next((world.workspace.models / "lost").glob("*.pt")).unlink()
    with pytest.raises(InputError, match="are gone"):
        measure(world.workspace, "lost", asked())


@pictures
def test_a_harmed_group_gives_a_warning_with_advice(world: Grouped, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are made up: a second model that is wrong about every dark sample."""
    right = fairness.evaluate

    def read(opened: Any, ground: Any, question: MeasureOptions, minimum: int) -> Any:
        reading, setting = right(opened, ground, question, minimum)
        said = reading.truth.copy()
        if calls:
            dark = setting.groups.index == setting.groups.number("dark")
            said[dark] = 1 - said[dark]
        calls.append(1)
        return Classified(reading.truth, said, reading.confidence, 2), setting

    calls: list[int] = []
    monkeypatch.setattr(fairness, "evaluate", read)
    found = compare(world.workspace, ["m", "m"], asked())
    assert found["changes"]["harmed"] == [["dark"]]
    assert any("1 of the groups" in w and "collect" in w for w in found["warnings"])
    assert not any("dark" in w for w in found["warnings"])

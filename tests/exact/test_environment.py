# SPDX-License-Identifier: Apache-2.0
"""Checkpoints made with another arithmetic are detected and never combined with new ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import worlds
from proof import Story
from torch.utils._python_dispatch import TorchDispatchMode

from expunge.catalog import model_store
from expunge.data.scan import scan
from expunge.data.types import DatasetConfig, Version
from expunge.errors import EnvironmentChanged
from expunge.exact import environment, probe
from expunge.exact.planner import Options, make_plan
from expunge.training import trainer
from expunge.training.fingerprint import (
    MEASURED,
    NAMED,
    certain_differences,
    environment_details,
    fingerprint,
    possible_differences,
)
from expunge.training.plan import Plan

ULP = 2.0**-23


class Rounding(TorchDispatchMode):
    """A dispatch mode in which the kernels of one operation round differently; it records all operations.

    Args:
        operation: Name of the operation, without overload; empty: none.
    """

    def __init__(self, operation: str = "") -> None:
        super().__init__()
        self.operation, self.seen = operation, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.seen.add(name)
        result = func(*args, **(kwargs or {}))
        if name == self.operation:
            changed = args[0] if result is None else result  # some operations only change their arguments
            for value in changed if isinstance(changed, tuple | list) else [changed]:
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    with torch.no_grad():
                        value.mul_(1 + ULP)
        return result


def fresh() -> None:
    """Clear the cached measurement, as in a new process."""
    probe._measured.cache_clear()
    environment._measured.clear()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    fresh()
    yield
    fresh()


@contextmanager
def elsewhere() -> Iterator[None]:
    """Simulate a machine whose kernels of an activation round differently."""
    real = torch.nn.functional.silu
    fresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "silu", lambda x, inplace=False: real(x) * (1 + ULP))
        yield
    fresh()


def plan_of(folder: Path, task: str) -> tuple[Plan, DatasetConfig]:
    """Return a plan of a tiny model."""
    make = worlds.detection if task == "detect" else worlds.classification
    found = scan(make(folder / "data").source)
    version = Version(1, "shop", 1, "", found.root, found.config, 0, 0)
    options = Options(str(worlds.tiny_architecture(folder, task)), 2, 2, 2, 32, 4)
    samples = [s for s in found.samples if s.split == "train"]
    return make_plan(options, version, samples, {})[0], found.config


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Plan, DatasetConfig]]:
    return {task: plan_of(tmp_path_factory.mktemp(task), task) for task in ("detect", "classify")}


BOXES = ("silu", "max_pool2d_with_indices", "upsample_nearest2d", "_softmax", "bmm")
CLASSES = ("convolution", "convolution_backward", "native_batch_norm", "addmm", "_foreach_lerp_")
KERNELS = [*(("detect", name) for name in BOXES), *(("classify", name) for name in CLASSES)]


@pytest.mark.parametrize(("task", "kernel"), KERNELS)
def test_a_kernel_that_rounds_differently_is_detected(plans: Any, task: str, kernel: str) -> None:
    here = probe.measure(*plans[task])
    fresh()
    with Rounding(kernel) as mode:
        there = probe.measure(*plans[task])
    assert kernel in mode.seen
    assert there != here


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_measurement_repeats_on_one_machine(plans: Any, task: str) -> None:
    plan, config = plans[task]
    here = probe.measure(plan, config)
    fresh()
    with Rounding():
        assert probe.measure(plan, config) == here
    fresh()
    longer = plan.model_copy(update={"epochs": plan.epochs.model_copy(update={"public": 7}), "seed": 5})
    assert probe.measure(longer, config) == here, "what is measured depends on the kinds of work alone"


@pytest.mark.parametrize("function", ["imdecode", "resize", "warpAffine"])
def test_a_picture_that_is_decoded_differently_is_detected(
    plans: Any, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, real, calls = probe.measure(*plans["detect"]), getattr(cv2, function), []

    def other(*arguments: Any, **keywords: Any) -> Any:
        result = real(*arguments, **keywords)
        calls.append(result[..., 0].flat[0])
        result ^= 1  # the last bit of every pixel
        return result

    monkeypatch.setattr(cv2, function, other)
    fresh()
    assert probe.measure(*plans["detect"]) != here
    assert calls


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_every_operation_of_a_training_is_measured(
    task: str, tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small training uses every operation that a real training uses."""
    real, trained = trainer.run_stage, Rounding()

    def watched(*arguments: Any) -> Any:
        with trained:
            return real(*arguments)

    monkeypatch.setattr(trainer, "run_stage", watched)  # the measurement has the real one
    make = worlds.detection if task == "detect" else worlds.classification
    story = Story(tmp_path, make(tmp_path / "data"), task, shards=1, slices=1, epochs=2)
    story.begin()
    fresh()
    with Rounding() as measured:
        probe.measure(*plan_of(tmp_path / "plan", task))
    assert "convolution_backward" in trained.seen
    assert trained.seen <= measured.seen


@pytest.fixture
def story(tmp_path: Path, inline: None) -> Story:
    """Return a workspace with a trained model."""
    story = Story(tmp_path, worlds.classification(tmp_path / "data"), "classify", epochs=1)
    story.begin()
    return story


def guarantees(story: Story) -> list[tuple[str, str]]:
    query = "SELECT guarantee, method FROM model_version ORDER BY number"
    return [(row["guarantee"], row["method"]) for row in story.workspace.query(query)]


def test_no_exact_model_combines_two_arithmetics(story: Story, tmp_path: Path) -> None:
    with elsewhere(), pytest.raises(EnvironmentChanged, match="fixed small training"):
        story.forget("p1")
    assert [g for g, _ in guarantees(story)][1:] in ([], ["exact-interim"])
    with elsewhere(), pytest.raises(EnvironmentChanged):
        story.repair()
    fresh()
    assert story.repair()["models"]
    assert story.newest().guarantee == "exact"
    assert story.from_nothing("m", tmp_path / "again") == story.newest().digest


@pytest.mark.slow
def test_a_retrain_in_another_arithmetic_is_exact_there(story: Story, tmp_path: Path) -> None:
    with elsewhere():
        story.forget("p1", method="retrain")
        assert story.newest().guarantee == "exact"
        assert story.from_nothing("m", tmp_path / "again") == story.newest().digest
        story.forget("p2")  # all is of this environment now
        assert story.newest().guarantee == "exact"


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Measure in this process; return a list with one entry per measurement."""
    times: list[int] = []

    def measure(run: Any) -> str:
        times.append(1)
        return probe.measure(run.plan, run.config)

    monkeypatch.setattr(environment, "measure_here", measure)
    return times


def test_a_variable_without_effect_does_not_change_the_environment(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = in_this_process(monkeypatch)
    story.forget("p0")
    assert times == [], "where all names are equal, the training processes alone measure"
    monkeypatch.setenv("ONEDNN_VERBOSE", "0")
    story.forget("p1")
    assert times == [1]
    assert story.newest().guarantee == "exact"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ONEDNN_MAX_CPU_ISA", "SSE41"), pytest.param("ATEN_CPU_CAPABILITY", "default", marks=pytest.mark.slow)],
)
def test_a_variable_that_selects_kernels_is_detected_before_any_work(
    story: Story, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    before = guarantees(story)
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentChanged, match=f"{name}: .* -> {value}.*fixed small training"):
        story.forget("p1")
    assert guarantees(story) == before
    assert story.workspace.query("SELECT count(*) AS n FROM request")[0]["n"] == 0


def of_an_older_version(story: Story, digest: str | None = None) -> None:
    """Remove the measurement from the catalog's records, as in an older version."""
    with story.workspace.session(write=True) as session:
        model_id = model_store.ensure_model(session, "m", story.task)
        for row in model_store.checkpoints(session, model_id):
            drop = {*NAMED, MEASURED}
            row.fingerprint = {k: v for k, v in row.fingerprint.items() if k not in drop}
            row.digest = digest or row.digest


def recorded(story: Story) -> list[dict[str, Any]]:
    with story.workspace.session() as session:
        model_id = model_store.ensure_model(session, "m", story.task)
        return [dict(row.fingerprint) for row in model_store.checkpoints(session, model_id)]


def test_unmeasured_checkpoints_are_verified_once(story: Story, tmp_path: Path) -> None:
    of_an_older_version(story)
    story.forget("p1")
    assert story.newest().guarantee == "exact"
    assert story.from_nothing("m", tmp_path / "again") == story.newest().digest
    assert len({entry[MEASURED] for entry in recorded(story)}) == 1


def test_unmeasured_checkpoints_that_cannot_be_repeated_are_refused(story: Story) -> None:
    of_an_older_version(story, "sha256:" + "0" * 64)
    with pytest.raises(EnvironmentChanged, match="other weights"):
        story.forget("p1")
    assert story.newest().guarantee != "exact" or story.newest().number == 1


def test_differences_name_variables_processor_and_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment_details(1, "native")
    assert before["builds"]["torch"] != before["builds"]["numpy"]
    for name in (
        "DNNL_MAX_CPU_ISA",
        "MKL_CBWR",
        "OPENBLAS_CORETYPE",
        "KMP_DETERMINISTIC_REDUCTION",
        "LD_PRELOAD",
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert possible_differences(before, environment_details(1, "native")) == [f"{name}: unset -> x"]
    assert possible_differences(before, environment_details(2, "native"))
    other = {**before, "cpu_flags": "avx512f", MEASURED: "x"}
    assert possible_differences(before, other) == [f"cpu_flags: {before['cpu_flags']} -> avx512f"]
    assert (
        certain_differences({**fingerprint(1, "native"), **before}, {**fingerprint(1, "native"), **other})
        == []
    )
    assert certain_differences(fingerprint(1, "native"), fingerprint(2, "native")) == ["threads: 1 -> 2"]

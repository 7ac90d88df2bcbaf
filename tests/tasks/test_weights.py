# SPDX-License-Identifier: Apache-2.0
"""Weights files: no code is executed, precision is kept, and equal weights give equal files."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from robust import scenes

from expunge.errors import InputError
from expunge.storage.hashing import tensor_digest
from expunge.tasks.weights import (
    CLASS_WIDTH,
    build_module,
    load_checkpoint,
    open_source,
    pack,
    state_of,
    transfer,
)

MANY = tuple(f"class {i}" for i in range(80))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the architectures of both tasks."""
    folder = tmp_path_factory.mktemp("architectures")
    return {task: open_source(str(scenes.architecture(folder, task))) for task in ("detect", "classify")}


def built(sources: dict[str, Any], task: str, names: tuple[str, ...], seed: int = 0) -> Any:
    """Return a model with seeded weights and non-default statistics."""
    torch.manual_seed(seed)
    module = build_module(task, {**sources[task].architecture, "nc": len(names)}, names)
    for name, value in module.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.add_(0.123)
    return module


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_an_architecture(sources: dict[str, Any], task: str) -> None:
    source = sources[task]
    assert (source.task, source.module, source.names) == (task, None, ())
    assert not any("/" in str(v) for k, v in source.architecture.items() if k not in ("backbone", "head"))


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_packed_weights_can_be_loaded(sources: dict[str, Any], task: str, tmp_path: Path) -> None:
    """All tensors, names and the task are preserved in full precision."""
    module = built(sources, task, ("cat", "dog"))
    digest = tensor_digest(module.state_dict())
    file = tmp_path / "m.pt"
    file.write_bytes(pack(module, {"task": task, "imgsz": 32}))
    again = load_checkpoint(file)
    assert tensor_digest(again.state_dict()) == tensor_digest(state_of(file)) == digest
    assert {v.dtype for v in again.state_dict().values() if v.is_floating_point()} == {torch.float32}
    assert again.names == {0: "cat", 1: "dog"}
    source = open_source(str(file))
    assert (source.task, source.names) == (task, ("cat", "dog"))
    assert "yaml_file" not in source.architecture
    assert tensor_digest(module.state_dict()) == digest, "packing changes nothing"


def test_equal_weights_give_equal_bytes(sources: dict[str, Any]) -> None:
    one = pack(built(sources, "detect", ("cat", "dog")), {"task": "detect"})
    two = pack(built(sources, "detect", ("cat", "dog")), {"task": "detect"})
    other = pack(built(sources, "detect", ("cat", "dog"), seed=1), {"task": "detect"})
    assert one == two
    assert one != other
    assert str(Path.home()).encode() not in one


def checkpoint(sources: dict[str, Any], **parts: Any) -> bytes:
    """Write a checkpoint as Ultralytics does during training."""
    content = {"epoch": 3, "model": None, "ema": None, "train_args": {}, "date": None, **parts}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_the_ema_is_preferred_and_converted_to_fp32(sources: dict[str, Any], tmp_path: Path) -> None:
    live, average = (built(sources, "detect", ("cat",), seed) for seed in (1, 2))
    file = tmp_path / "last.pt"
    file.write_bytes(checkpoint(sources, model=live.half(), ema=average.half()))
    loaded = load_checkpoint(file).state_dict()
    assert tensor_digest(loaded) == tensor_digest(average.state_dict())
    assert loaded["model.0.conv.weight"].dtype == torch.float32
    file.write_bytes(checkpoint(sources, model=live))
    assert tensor_digest(load_checkpoint(file).state_dict()) == tensor_digest(live.state_dict())


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


ATTACKS: dict[str, Callable[[Path], Any]] = {
    "os.mkdir": lambda mark: Calls(os.mkdir, str(mark)),
    "os.system": lambda mark: Calls(os.system, f"mkdir '{mark}'"),
    "subprocess": lambda mark: Calls(subprocess.check_call, ["mkdir", str(mark)]),
    "eval": lambda mark: Calls(eval, f"__import__('os').mkdir({str(mark)!r})"),
    "exec": lambda mark: Calls(exec, f"import os; os.mkdir({str(mark)!r})"),
    "open": lambda mark: Calls(open, str(mark), "w"),
}


@pytest.mark.parametrize("where", ["model", "ema", "train_args", "deep"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_code_is_executed(sources: dict[str, Any], tmp_path: Path, attack: str, where: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / "evil.pt"
    evil: Any = ATTACKS[attack](mark)
    if where == "deep":
        module = built(sources, "detect", ("cat",))
        module.names[0] = evil
        file.write_bytes(checkpoint(sources, model=module))
    else:
        file.write_bytes(checkpoint(sources, **{where: evil}))
    for read in (load_checkpoint, lambda path: open_source(str(path)), state_of):
        with pytest.raises(InputError) as error:
            read(file)
        assert "allow-list" in error.value.why
    assert not mark.exists()
    if where == "model":  # negative control: the attack works
        torch.load(file, weights_only=False)
        assert mark.exists()


def test_invalid_files_are_refused(sources: dict[str, Any], tmp_path: Path) -> None:
    """Invalid files are refused with a reason and a remedy."""
    linear = torch.nn.Linear(2, 2)
    good = pack(built(sources, "detect", ("cat",)), {"task": "detect"})
    empty_zip, bare, stranger = io.BytesIO(), io.BytesIO(), io.BytesIO()
    zipfile.ZipFile(empty_zip, "w").close()
    torch.save(linear.state_dict(), bare)
    torch.save({"model": linear}, stranger)
    script = tmp_path / "script.pt"
    torch.jit.script(linear).save(str(script))
    files = {
        "nothing": b"",
        "text": b"weights: none\n",
        "half": good[: len(good) // 2],
        "all but the end": good[:-1],
        "an empty zip": empty_zip.getvalue(),
        "a bare pickle": pickle.dumps({"model": 1}),
        "bare tensors": bare.getvalue(),
        "another model": stranger.getvalue(),
        "TorchScript": script.read_bytes(),
    }
    for name, content in files.items():
        file = tmp_path / "odd.pt"
        file.write_bytes(content)
        with pytest.raises(InputError) as error:
            load_checkpoint(file)
        assert str(file) in error.value.what, name
        assert error.value.why, name
        assert error.value.next_step, name
    for missing in (tmp_path / "no.pt", tmp_path):
        with pytest.raises(InputError, match="no weights"):
            load_checkpoint(missing)
    for architecture in ("no.yaml", str(tmp_path / "no.yaml")):
        with pytest.raises(InputError, match="architecture"):
            open_source(architecture)


def last_rows(module: Any) -> dict[str, torch.Tensor]:
    """Return the rows of a detector's class layers, by branch."""
    head = module.model[-1]
    branches = {"cv3": head.cv3, "one2one_cv3": head.one2one_cv3}
    return {f"{n}.{i}": b[-1].weight.detach() for n, bs in branches.items() for i, b in enumerate(bs)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("cat", "dog"), ("dog", "cat")),
        (("cat", "dog"), ("dog", "emu", "cat")),
        (MANY, ("class 7", "emu")),  # the class branches are wider, as for COCO weights
        (("cat",), MANY),
    ],
)
def test_a_detector_for_other_classes(
    sources: dict[str, Any], tmp_path: Path, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """All weights except those of unknown classes are transferred by class name, with the plan's shapes."""
    file = tmp_path / "source.pt"
    file.write_bytes(pack(built(sources, "detect", before), {"task": "detect"}))
    source = open_source(str(file))
    module = build_module("detect", {**source.architecture, "nc": len(after)}, after)
    fresh = {k: v.clone() for k, v in module.state_dict().items()}
    transfer(module, source, after)
    state, old = module.state_dict(), source.module.state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in fresh.items()}
    ends = tuple(f"cv3.{i}.2.{p}" for i in range(3) for p in ("weight", "bias"))
    for name, value in state.items():
        if not name.endswith(ends):
            assert torch.equal(value, old[name]), name
    rows, old_rows = last_rows(module), last_rows(source.module)
    for branch, new in rows.items():
        for i, name in enumerate(after):
            if name in before:
                assert torch.equal(new[i], old_rows[branch][before.index(name)]), (branch, name)
            else:
                assert not any(torch.equal(new[i], row) for row in old_rows[branch]), (branch, name)
    assert module.names == dict(enumerate(after))
    assert module.model[-1].nc == len(after)
    output = module.eval()(torch.zeros(1, 3, 64, 64))
    first = output[0] if isinstance(output, tuple) else output
    assert torch.isfinite(first).all()
    again = tmp_path / "again.pt"
    again.write_bytes(pack(module, {"task": "detect"}))
    reopened = open_source(str(again))
    assert reopened.architecture[CLASS_WIDTH] == source.architecture[CLASS_WIDTH]
    assert tensor_digest(state_of(again)) == tensor_digest(state)


def test_a_classifier_for_other_classes(sources: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "source.pt"
    file.write_bytes(pack(built(sources, "classify", ("cat", "dog", "emu")), {"task": "classify"}))
    source = open_source(str(file))
    module = build_module("classify", {**source.architecture, "nc": 2}, ("fox", "owl"))
    transfer(module, source, ("fox", "owl"))
    state, old = module.state_dict(), source.module.state_dict()
    last = {name for name in state if ".linear." in name}
    assert last
    assert all(torch.equal(state[name], old[name]) for name in state.keys() - last)
    assert {state[name].shape[0] for name in last} == {2}
    assert module.names == {0: "fox", 1: "owl"}

# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exports of published models: compared with the weights, recorded, and superseded with their model."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds

from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version
from expunge.data.scan import scan
from expunge.errors import InputError
from expunge.models import exports, training
from expunge.models.exports import Mismatch, export
from expunge.purge import run
from expunge.tasks.weights import build_module, open_source, pack
from expunge.workspace import Workspace

NAMES = tuple(f"class {i}" for i in range(40))  # Ultralytics considers an export below 0.1 MB broken
IMGSZ = 64
one_kind = pytest.mark.parametrize("template", ["classify"], indirect=True)


@pytest.fixture(scope="module", params=["detect", "classify"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with an adopted model ``m``."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    make = worlds.detection if kind == "detect" else worlds.classification
    found = scan(make(folder / "data", people=4, each=1).source)
    names = tuple(dict.fromkeys((*found.config.names, *NAMES)))[:40]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    architecture = open_source(str(worlds.tiny_architecture(folder, kind))).architecture
    module = build_module(kind, {**architecture, "nc": 2}, names)
    if kind == "detect":
        for name, value in module.state_dict().items():
            if name.endswith(".2.bias") and "cv3" in name:
                value.copy_(torch.linspace(-4.0, 0.0, len(value)))  # so that boxes count
    record = {"task": kind, "imgsz": IMGSZ, "data": "secret/person.yaml"}
    (folder / "w.pt").write_bytes(pack(module, record))
    workspace = Workspace.init(folder)
    with workspace.session(write=True) as session:
        add_version(session, "shop", found, key=workspace.key)
    training.adopt(workspace, folder / "w.pt", "shop", "m")
    return folder


@pytest.fixture
def workspace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a copy of the template, without network access or child processes."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("an export needs no network and no other program")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess, "check_output", refuse)
    return Workspace(Path(shutil.copytree(template / ".expunge", tmp_path / ".expunge")))


def supersede(workspace: Workspace) -> None:
    """Publish the same weights as ``m@2``."""
    with workspace.session() as session:
        before = model_store.find_model(session, "m")
    training.adopt(workspace, workspace.root / before.weights, "shop", "m")


@pytest.mark.parametrize(
    "form", ["onnx", *(pytest.param(f, marks=pytest.mark.slow) for f in ("torchscript", "openvino"))]
)
def test_an_export_equals_the_model(workspace: Workspace, form: str, tmp_path: Path) -> None:
    for package in exports.FORMATS[form].packages:
        pytest.importorskip(package)
    result = export(workspace, "m", form)
    assert 0 <= result["difference"] <= 1e-3
    assert result["images"] >= 4
    path = Path(result["path"])
    content = b"".join(f.read_bytes() for f in ([path] if path.is_file() else path.iterdir()))
    assert b"person.yaml" not in content, "the export contains no training record"
    assert not list(workspace.tmp.iterdir())
    elsewhere = tmp_path / "deployed"
    if path.is_dir():
        shutil.copytree(path, elsewhere)
    else:
        elsewhere = Path(shutil.copyfile(path, elsewhere.with_suffix(path.suffix)))
    known = training.status(workspace, elsewhere)
    assert (known["status"], known["model"], known["export"]) == ("current", "m@1", form)
    assert training.describe(workspace, "m")[0]["exports"][0]["path"] == str(path)
    supersede(workspace)
    assert training.status(workspace, elsewhere)["status"] == "superseded"
    found = run.purge(workspace, run.PurgeOptions())
    assert not path.exists()
    assert {x["kind"] for x in found["leftovers"]} >= {"weights", "export"}
    assert training.describe(workspace, "m")[0]["exports"] == []
    assert training.status(workspace, elsewhere)["status"] == "superseded", "known for ever"


@one_kind
def test_invalid_exports_are_refused(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no export to 'coreml'"):
        export(workspace, "m", "coreml")
    (tmp_path / "there.onnx").touch()
    with pytest.raises(InputError, match="exists already"):
        export(workspace, "m", "onnx", tmp_path / "there.onnx")
    with pytest.raises(InputError, match="no folder"):
        export(workspace, "m", "onnx", tmp_path / "none" / "m.onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest)
    )
    with pytest.raises(InputError, match="needs onnx") as missing:
        export(workspace, "m", "onnx")
    assert "expunge[export]" in missing.value.next_step


@one_kind
def test_a_superseded_model_is_exported_only_by_version(workspace: Workspace) -> None:
    supersede(workspace)
    with workspace.session(write=True) as session:
        model_store.supersede(
            session, model_store.ensure_model(session, "m", model_store.find_model(session, "m").task)
        )
    with pytest.raises(InputError, match="superseded"):
        export(workspace, "m", "torchscript")
    said: list[str] = []
    result = export(workspace, "m@2", "torchscript", say=said.append)
    assert "must not be deployed" in said[0]
    assert training.status(workspace, Path(result["path"]))["status"] == "superseded"


@one_kind
def test_an_export_that_differs_is_removed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.tasks import export as files

    real = files.load_export
    monkeypatch.setattr(files, "load_export", lambda form, path: lambda x: real(form, path)(x) + 0.01)
    with pytest.raises(Mismatch, match="does not compute"):
        export(workspace, "m", "torchscript")
    assert not list((workspace.root / "exports").rglob("*.torchscript"))
    assert not list(workspace.tmp.iterdir())
    assert training.describe(workspace, "m")[0]["exports"] == []


@one_kind
def test_a_model_superseded_during_the_export_is_not_exported(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exports._convert

    def slow(*arguments: Any) -> Any:
        made = real(*arguments)
        supersede(workspace)
        return made

    monkeypatch.setattr(exports, "_convert", slow)
    with pytest.raises(InputError, match="while it was exported"):
        export(workspace, "m", "torchscript")
    assert not list((workspace.root / "exports" / "m").iterdir())


@one_kind
def test_unknown_files(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"something else")
    assert training.status(workspace, tmp_path / "x.onnx")["status"] == "unknown"

# SPDX-License-Identifier: Apache-2.0
"""Every way to forget with an adopted Ultralytics detector leads to a closed request.

After each command, the next step shown by ``request show`` is executed until the request is closed.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import worlds
from click.testing import CliRunner
from proof import add

from expunge.catalog.model_store import find_model, get_request
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRootRow, DatasetRow, RequestRow
from expunge.cli.main import cli
from expunge.erasure.next_step import next_step
from expunge.evidence import verifier
from expunge.progress import Progress
from expunge.purge.originals import find_originals
from expunge.tasks.baseline import train_plain
from expunge.unlearning.result import Result
from expunge.workspace import Workspace

MOST_STEPS = 5


def stock(folder: Path, data: Path, name: str) -> str:
    """Train with plain Ultralytics and return the path of the weights."""
    weights = str(worlds.tiny_architecture(folder, "detect"))
    options = {"epochs": 1, "imgsz": 64, "batch": 8, "seed": 0, "threads": 1}
    return str(train_plain(data, folder / name, weights=weights, **options)["weights"])


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace and an adopted detector, trained on a copy of the dataset.

    The copy keeps Ultralytics' caches out of the dataset.
    """
    folder = tmp_path_factory.mktemp("adopted")
    worlds.detection(folder / "stock")
    world = worlds.detection(folder / "data")
    best = stock(folder, folder / "stock" / "data.yaml", "run")
    workspace = Workspace.init(folder)
    add(workspace, world)
    shutil.copyfile(best, folder / "best.pt")
    _command(workspace, ["adopt", str(folder / "best.pt"), "--data", "shop", "--name", "old"])
    workspace._engine.dispose()
    return folder


@pytest.fixture
def workspace(adopted: Path, tmp_path: Path) -> Workspace:
    """Return a copy of the workspace."""
    folder = Path(shutil.copytree(adopted, tmp_path / "copy"))
    workspace = Workspace.open(folder)
    with workspace.session(write=True) as session:
        session.query(DatasetRow).one().root = str(folder / "data")
        session.query(DatasetRootRow).one().path = str(folder / "data")
    return workspace


def _command(workspace: Workspace, words: Sequence[str]) -> dict[str, Any]:
    """Run a command and return its JSON output."""
    ran = CliRunner().invoke(cli, [*words, "--workspace", str(workspace.root), "--json"])
    assert "Usage:" not in ran.output, ran.output
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.output
    return dict(json.loads(ran.stdout)) if ran.stdout.strip() else {}


def begin(workspace: Workspace, *options: str) -> str:
    """Forget p1, or the class in the options, and return the request's id."""
    selection = [] if "--class" in options else ["--subject", "p1"]
    _command(workspace, ["forget", *selection, "--dataset", "shop", "--yes", "--threads", "1", *options])
    with workspace.session() as session:
        return session.query(RequestRow).one().id


def follow(workspace: Workspace, request: str, prefer: str = "") -> list[str]:
    """Run the commands of the next steps until the request is closed; return these commands."""
    executed = []
    for _ in range(MOST_STEPS):
        with workspace.session() as session:
            state = get_request(session, request).state
        step = next_step(workspace, request)
        if state == State.CLOSED:
            return executed
        if "Delete them" in step.text:
            for file in list(find_originals(workspace, request)):
                file.unlink()
        line = next((c for c in step.commands if prefer and prefer in c), step.commands[0])
        executed.append(line)
        words = line.replace("WEIGHTS", str(workspace.root.parent / "again.pt")).replace(
            "epochs=N", "epochs=2"
        )
        _command(workspace, shlex.split(words)[1:])
    raise AssertionError(f"not closed after {executed}: {next_step(workspace, request).text}")


def check_end(workspace: Workspace, request: str) -> None:
    """Assert that the certificate is valid and the model's newest version is current."""
    assert verifier.verify(workspace, request, verifier.VerifyOptions(), Progress(quiet=True))["valid"]
    with workspace.session() as session:
        assert find_model(session, "old").state == "current"


def test_retrain_does_not_need_the_erased_files(workspace: Workspace) -> None:
    """Erased files and other files are missing: a retrain opens none of them."""
    root = workspace.root.parent / "data"
    for path in ("images/train/p1/shot 0.png", "images/train/p3/shot 0.png", "images/val/0.png"):
        (root / path).unlink()
    request = begin(workspace)
    assert "gone or changed" in next_step(workspace, request).text
    executed = follow(workspace, request)
    assert executed[0] == f"expunge request run {request} --method retrain"
    check_end(workspace, request)
    with workspace.session() as session:
        (entry,) = (get_request(session, request).result or {})["models"]
    assert entry["method"] == "retrain"
    assert entry["metrics_before"]["left_out"] == entry["metrics_after"]["left_out"] == 1
    assert entry["metrics_before"]["images"] == entry["metrics_after"]["images"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--method", "retrain"),
        ("--method", "finetune", "--set", "epochs=1", "--budget", "5", "--delete-originals"),
        ("--method", "finetune", "--set", "epochs=1", "--budget", "5", "--accept", "no-power"),
        ("--class", "rare"),
        ("--class", "rare", "--method", "retrain"),
        ("--defer",),
        ("--defer", "--method", "retrain", "--delete-originals"),
        ("--method", "retrain", "--level", "standard", "--references", "2"),
    ],
)
def test_every_method_closes_the_request(workspace: Workspace, options: tuple[str, ...]) -> None:
    request = begin(workspace, *options)
    follow(workspace, request)
    check_end(workspace, request)


@pytest.mark.slow
def test_newly_adopted_weights_fulfil_a_request(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No unlearning result is accepted: a model that was trained elsewhere replaces it."""
    monkeypatch.setattr(Result, "sound", False)
    request = begin(workspace, "--method", "retrain", "--delete-originals")
    folder = workspace.root.parent
    exported = _command(workspace, ["data", "export", "shop", str(folder / "clean")])
    assert exported
    shutil.copyfile(stock(folder, folder / "clean" / "data.yaml", "run2"), folder / "again.pt")
    executed = follow(workspace, request, prefer="expunge adopt")
    assert executed[0].startswith("expunge adopt WEIGHTS --data shop --name old")
    with workspace.session() as session:
        (entry,) = (get_request(session, request).result or {})["models"]
        assert find_model(session, "old").method == "adopt"
    assert (entry["method"], entry["guarantee"], entry["verdict"]) == ("adopt", "none", None)
    check_end(workspace, request)

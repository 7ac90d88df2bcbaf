# SPDX-License-Identifier: Apache-2.0
"""Pinned digests in ``pinned.json``, which only an intended change may alter.

A training's bytes depend on the machine's arithmetic, so its digests are stored per arithmetic, which is
measured here without the product's code. ``python -m exact.test_pinned``, run in ``tests``, adds the digests
of the present machine.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import worlds
from evidence import forgery
from proof import Story, train_inline

from expunge.catalog.versions import get_version
from expunge.evidence import statement

PINS = Path(__file__).with_name("pinned.json")
DETECT = {"mosaic": "0.6", "mixup": "0.3", "close_mosaic": "1", "public_epochs": "1"}
TASKS: Mapping[str, Any] = {"detect": (worlds.detection, DETECT), "classify": (worlds.classification, {})}


def arithmetic() -> str:
    """Return the digest of two training steps of a small network in plain torch."""
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 16, 3, groups=16), nn.SiLU(),
        nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(8 * 14 * 14, 5),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(torch.sin(steps * 1.7).view_as(parameter) / 8)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    picture = torch.cos(torch.arange(4 * 3 * 32 * 32, dtype=torch.float64)).float().view(4, 3, 32, 32)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(picture), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    digest = hashlib.sha256()
    for tensor in net.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def trained(task: str, folder: Path) -> dict[str, str]:
    """Return digests of a small training and of an erasure from it, trained in this process."""
    draw, settings = TASKS[task]
    story = Story(folder, draw(folder / "data"), task, settings)
    first = story.begin()
    outcome = story.forget("p1")
    (entry,) = outcome["models"]
    return {
        "plan": str(first.plan_digest),
        "trained": first.digest,
        "interim": entry["interim"]["digest"],
        "final": entry["digest"],
    }


def written(folder: Path) -> dict[str, str]:
    """Return digests that do not depend on the arithmetic: manifest, certificate payload, log."""
    story = Story(folder, worlds.classification(folder / "data"), "classify")
    first = story.begin()
    with story.workspace.session() as session:
        manifest = get_version(session, first.dataset, first.dataset_version).digest
    lines = b"".join(forgery.lines_of(forgery.events()))
    return {
        "manifest": manifest,
        "certificate": hashlib.sha256(statement.encode(forgery.predicate())).hexdigest(),
        "log": hashlib.sha256(lines).hexdigest(),
        "tree head": hashlib.sha256(forgery.head(forgery.lines_of(forgery.events()))).hexdigest(),
        "definitions": hashlib.sha256(json.dumps(statement.GUARANTEES, sort_keys=True).encode()).hexdigest(),
        "suppression": hashlib.sha256(json.dumps(statement.SUPPRESSION, sort_keys=True).encode()).hexdigest(),
    }


@pytest.mark.parametrize("task", sorted(TASKS))
def test_trainings(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the pinned digests; on an unknown arithmetic, check only that the models differ."""
    train_inline(monkeypatch)
    found = trained(task, tmp_path)
    pins = json.loads(PINS.read_text())["trainings"].get(arithmetic(), {})
    assert found == pins.get(task, found)
    assert len(set(found.values())) == 4


def test_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The formats of files on other machines, and their digests, do not change."""
    train_inline(monkeypatch)
    assert written(tmp_path) == json.loads(PINS.read_text())["formats"]


def test_the_measured_arithmetic_repeats() -> None:
    """The measurement repeats; otherwise no pinned digest would be found."""
    assert arithmetic() == arithmetic()


def main() -> None:
    """Add the digests of this machine."""
    pins = json.loads(PINS.read_text()) if PINS.exists() else {"trainings": {}}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        train_inline(patch)
        pins["trainings"][arithmetic()] = {task: trained(task, Path(folder, task)) for task in sorted(TASKS)}
        pins["formats"] = written(Path(folder, "formats"))
    PINS.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""From every state of a request its own `next` names commands, and following them closes it.

The models are of paper: an exact one, ``m``, and an adopted one, ``old``. Commands run the real code but
for the training, which is told to fail in every way that it can.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from requests_kit import Paper, PaperExecution

from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version, get_version
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.cli.main import cli
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.erasure import execution
from expunge.erasure import repair as repairs
from expunge.erasure.approximate import Approximation, MissingOriginals
from expunge.erasure.next_step import next_step
from expunge.erasure.status import list_requests
from expunge.errors import EnvironmentChanged, StorageError
from expunge.evidence import certificates
from expunge.exact.damaged_files import DamagedData
from expunge.purge.originals import find_originals
from expunge.workspace import Workspace

MOST_STEPS = 8


class Killed(BaseException):
    """The process ends here."""


EXACT = ("damaged", "environment", "disk", "killed")
ADOPTED = ("turned-down", "missing", "killed-late")


@dataclass
class Office(Paper):
    """Paper whose trainings fail as often as they are told to; ``faults`` are used up in turn."""

    names: tuple[str, ...] = ("m",)
    faults: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)

    def replace(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(execution, "affected_by", self._affected)
        patch.setattr(execution, "_executions", self._executions)
        real = repairs._repair_adopted

        def repair_one(workspace: Workspace, name: str, *rest: Any) -> dict[str, Any] | None:
            if name == "old":
                return real(workspace, name, *rest)
            self.fail(EXACT)
            if self.newest(name).digest == self.digest():
                return None
            waiting = rest[0]
            return PaperExecution(self, self.newest(name), waiting[-1].id).repair()

        patch.setattr(repairs, "_repair_adopted", repair_one)
        patch.setattr(Approximation, "_unlearn", lambda approximation: self.unlearn(approximation))
        patch.setattr(Approximation, "_publish", lambda a, *args: self.publish_adopted(a, *args))

    def fail(self, kinds: tuple[str, ...], method: str = "") -> None:
        """Fail once, if that is what comes next."""
        if not self.faults or self.faults[0] not in kinds:
            return
        fault = self.faults[0]
        if fault == "missing" and method == "retrain":
            return
        if fault != "turned-down":
            self.faults.pop(0)
        if fault == "damaged":
            raise DamagedData("1 of the 9 files is changed.", "It is.", "Restore it.")
        if fault == "environment":
            raise EnvironmentChanged("Another environment.", "", "")
        if fault == "disk":
            raise StorageError("The disk is full.", "", "")
        if fault == "missing":
            raise MissingOriginals("Gone.", "", "")
        if fault.startswith("killed"):
            raise Killed

    def _executions(self, workspace: Workspace, started: Any, found: Any, *rest: Any) -> list[Any]:
        ids, locks, progress, _ = rest
        order = started[-1][0]
        executions: list[Any] = []
        for a in found:
            name = a.published.name
            if name == "old":
                executions.append(
                    Approximation(
                        workspace, a.published, ids[name], locks[name], order.request_id, order.ask.method,
                        progress, order.ask.settings,
                    )
                )  # fmt: skip
            else:
                executions.append(Faulty(self, a.published, order.request_id))
        return executions

    def adopt(self) -> None:
        """What ``expunge adopt`` does, without a file."""
        with self.workspace.session(write=True) as session:
            version = get_version(session, "shop")
            model_id = model_store.ensure_model(session, "old", "detect")
            number = model_store.next_number(session, model_id)
            columns = self._columns(version.number, version.dataset_id, number)
            model_store.publish(session, model_id, **columns)

    def _columns(self, version: int, dataset: int, number: int) -> dict[str, Any]:
        return {
            "number": number, "parent": number - 1 or None, "dataset_id": dataset, "dataset_version": version,
            "retained_digest": "ab" * 32, "samples": 1, "subjects": 1, "plan_digest": None, "method": "adopt",
            "guarantee": "none", "state": "current", "digest": f"sha256:{number:064x}",
            "weights": f"models/old/old-{number}.pt",
            "composition": {"retrain_epochs": 3, "forgotten": []}, "metrics": None, "cost": None,
            "cpu_seconds": 0.0, "request_id": None,
        }  # fmt: skip

    def unlearn(self, approximation: Approximation) -> Any:
        """In the place of the method and its audit: only a retrain is accepted while it is turned down."""
        method = approximation.method
        self.methods.append(method)
        self.fail(ADOPTED, method)
        good = "turned-down" not in self.faults[:1] or method == "retrain"
        said = {
            **dict.fromkeys(certificates.AUDIT_FIELDS),
            "verdict": "pass" if good else "fail",
            "sound": good,
        }
        result = SimpleNamespace(
            method=method, verdict=said["verdict"], sound=good, cost=0.1, reasons=("words",), warnings=(),
            unchanged=False, recommendation="", as_json=lambda: said,
        )  # fmt: skip
        return result, None, {"before": None, "after": None}

    def publish_adopted(self, a: Approximation, result: Any, opened: None, accepted: bool, _: None) -> Any:
        with self.workspace.session(write=True) as session:
            number = model_store.next_number(session, a.model_id)
            done = {*a.forgotten, *(r for _, r in a.erased)} if accepted else set()
            own = {
                "method": result.method, "guarantee": "audited" if accepted else "none",
                "state": "current" if accepted else "interim", "request_id": a.request_id,
                "composition": {"retrain_epochs": 3, "forgotten": sorted(done)},
                "judged": {"verdict": result.verdict, "audit": result.as_json()},
            }  # fmt: skip
            columns = self._columns(a.version.number, a.version.dataset_id, number)
            model_store.publish(session, a.model_id, **columns | own)
            return model_store.find_model(session, "old")


@dataclass
class Faulty(PaperExecution):
    """A model of paper that fails while it is trained."""

    def repair(self, defer: bool = False) -> dict[str, Any]:
        if not defer:
            assert isinstance(self.paper, Office)
            self.paper.fail(EXACT)
        return super().repair(defer)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a data set whose files are there, as the originals of what is erased."""
    folder = tmp_path_factory.mktemp("template")
    samples = []
    for name in [f"train/{who}-{k}.png" for who in ("ann", "bea", "cyd") for k in range(2)]:
        file = folder / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
        digest, who = hashlib.sha256(name.encode()).hexdigest(), name[6:9]
        samples.append(Sample(name, "train", digest, "", None, (who,), False))
    workspace = Workspace.init(folder)
    scanned = Scan(folder / "data", DatasetConfig("yolo", ("a",)), tuple(samples))
    with workspace.session(write=True) as session:
        add_version(session, "shop", scanned, key=workspace.key)
    workspace._engine.dispose()
    return folder


@contextlib.contextmanager
def office(template: Path, faults: tuple[str, ...]) -> Iterator[Office]:
    """An office of its own for one life; nothing of it stays."""
    folder = Path(tempfile.mkdtemp(prefix="expunge-next-"))
    shutil.copytree(template, folder, dirs_exist_ok=True)
    workspace = Workspace.open(folder)
    with workspace.session(write=True) as session:
        session.execute(
            __import__("sqlalchemy").text("update dataset set root = :r"), {"r": str(folder / "data")}
        )
    try:
        with pytest.MonkeyPatch.context() as patch:
            made = Office(workspace)
            made.install(patch)
            made.adopt()
            made.faults = list(faults)
            yield made
    finally:
        workspace._engine.dispose()
        shutil.rmtree(folder)


def command(made: Office, line: str) -> dict[str, Any]:
    """Type a command that `next` names; what a person fills in is filled in."""
    words = shlex.split(line.replace("DATE", "2000-01-01").replace("NAME", "unfounded"))
    assert words[0] == "expunge"
    if words[1] == "adopt":
        made.adopt()
        return {}
    if "--told" in words:
        with made.workspace.session() as session:
            words[-1] = model_store.get_request(session, words[3]).received.date().isoformat()
    arguments = [*words[1:], "--workspace", str(made.workspace.root), "--json"]
    with contextlib.suppress(Killed):
        ran = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert ran.exit_code != 2 or "error" in ran.output, (line, ran.output)
        assert "Usage:" not in ran.output, (line, ran.output)
        return dict(json.loads(ran.stdout)) if ran.stdout.strip() else {}
    return {}


def follow(made: Office, request: str, choose: random.Random | None = None) -> list[str]:
    """Do what `next` says until nothing is left; returns the states that were seen."""
    seen = []
    for _ in range(MOST_STEPS):
        with made.workspace.session() as session:
            state = model_store.get_request(session, request).state
        seen.append(state)
        step = next_step(made.workspace, request)
        if state == State.CLOSED:
            assert step.commands == ()
            return seen
        assert step.text
        for line in step.commands:
            assert line in step.text or "PATH" in line or "WEIGHTS" in line, "the words name the commands"
        if "Delete them" in step.text:
            for file in list(find_originals(made.workspace, request)):
                file.unlink()
        lines = [line for line in step.commands if "PATH" not in line and "expunge train" not in line]
        command(made, lines[0] if choose is None else choose.choice(lines))
    raise AssertionError(f"not closed: {seen}; {next_step(made.workspace, request).text}")


def requests(made: Office) -> list[str]:
    return [str(r["request"]) for r in list_requests(made.workspace, every=True, plan=False)["requests"]]


OPTIONS = ([], ["--defer"], ["--delete-originals"], ["--model", "m"], ["--method", "finetune", "--defer"])
BEGIN = ("forget", "open", "approved", "refused")
FAULTS = (
    (),
    *((f,) for f in (*EXACT, *ADOPTED)),
    *itertools.permutations(("damaged", "turned-down", "killed"), 2),
)


def begin(made: Office, how: str, options: list[str]) -> str:
    words = "forget --yes" if how == "forget" else "request open"
    command(made, shlex.join(["expunge", *words.split(), "--subject", "ann", "--dataset", "shop", *options]))
    (request,) = requests(made)
    if how in ("approved", "refused"):
        verb = ["approve", request] if how == "approved" else ["refuse", request, "--reason", "unfounded"]
        command(made, shlex.join(["expunge", "request", *verb]))
    return request


def live(template: Path, how: str, options: list[str], faults: tuple[str, ...], seed: int | None) -> set[str]:
    with office(template, faults) as made:
        request = begin(made, how, options)
        seen = follow(made, request, None if seed is None else random.Random(seed))
        with made.workspace.session() as session:
            row = session.get_one(RequestRow, request)
            assert "asked" not in row.selection, "it has forgotten whom it was about"
            if how != "refused" and not row.refusal:
                assert all(m["digest"] for m in (row.result or {})["models"])
                assert made.newest("m").digest == made.digest()
        return set(seen)


SOME = [
    ("forget", ["--defer"], ("damaged", "turned-down")),
    ("approved", ["--delete-originals"], ("turned-down",)),
    ("forget", ["--model", "m"], ("killed",)),
    ("open", [], ("environment",)),
    ("refused", [], ()),
    ("forget", [], ("missing", "killed-late")),
]


@pytest.mark.parametrize(("how", "options", "faults"), SOME)
def test_following_next_closes_a_request(
    template: Path, how: str, options: list[str], faults: tuple[str, ...]
) -> None:
    live(template, how, options, faults, None)


@pytest.mark.slow
@pytest.mark.parametrize("how", BEGIN)
def test_every_way_ends(template: Path, how: str) -> None:
    """All options with all faults, once by the first command named, and once by any of them."""
    states = set()
    for options, faults in itertools.product(OPTIONS, FAULTS):
        for seed in (None, 1, 2):
            states |= live(template, how, options, faults, seed)
    assert State.CLOSED in states
    if how == "forget":
        assert {State.RUNNING, State.FAILED, State.EXECUTED} <= states

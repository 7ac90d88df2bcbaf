# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at any moment: nothing half-done is ever visible, and the next command gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import Shop, alive, children, until

# What dies, and at which operation. The training of the tests writes: initial weights, a plan, for each
# of two shards two checkpoints, then the model.
TRAINING = {
    "writing the initial weights": {"role": "command", "match": r"plans/"},
    "writing the first checkpoint": {
        "role": "worker", "match": r"checkpoints/.*tmp$", "operations": ["fsync"],
    },
    "renaming the first checkpoint": {"role": "worker", "match": r"checkpoints/", "operations": ["replace"]},
    "after the first checkpoint": {
        "role": "worker", "match": r"checkpoints/", "operations": ["replace"], "after": True,
    },
    "after a shard": {
        "role": "worker", "match": r"checkpoints/", "operations": ["replace"], "after": True, "nth": 2,
    },
    "writing the model": {"role": "command", "match": r"models/.*tmp$", "operations": ["fsync"]},
    "before the catalog knows the model": {
        "role": "command", "match": r"models/m/m-1\.pt$", "operations": ["replace"], "after": True,
    },
}  # fmt: skip
FORGETTING = {
    "before a checkpoint is destroyed": {"match": r"checkpoints/.*safetensors$", "operations": ["unlink"]},
    "after a checkpoint was destroyed": {
        "match": r"checkpoints/.*safetensors$", "operations": ["unlink"], "after": True,
    },
    "writing the interim": {"match": r"models/m/\.m-2\.pt", "operations": ["fsync"]},
    "before the catalog knows the interim": {
        "match": r"models/m/m-2\.pt$", "operations": ["replace"], "after": True,
    },
    "writing the repaired checkpoint": {
        "role": "worker", "match": r"checkpoints/.*tmp$", "operations": ["fsync"],
    },
    "before the catalog knows the model": {
        "match": r"models/m/m-3\.pt$", "operations": ["replace"], "after": True,
    },
    "before the certificate": {"match": r"certificates/", "operations": ["replace"]},
    "writing to the log": {"match": r"log/events\.jsonl$", "operations": ["fsync"]},
    "before the log's tree head": {"match": r"log/tree-head", "operations": ["replace"]},
}  # fmt: skip


def kill(fault: dict[str, Any]) -> dict[str, Any]:
    """The process of the command dies at this operation, whoever does it."""
    return {**fault, "do": "kill-parent" if fault.get("role") == "worker" else "kill"}


def check_visible(shop: Shop) -> int:
    """Every version that the catalog names loads and has the stated digest; returns how many there are."""
    rows = shop.sql("SELECT number, digest, weights FROM model_version")
    for number, digest, weights in rows:
        assert shop.run("status", str(shop.root / weights)).json["digest"] == digest, number
    return len(rows)


def check_clean(shop: Shop) -> None:
    """Nothing half-written and nothing unknown is left, and no checkpoint that saw what is erased."""
    assert shop.strays() == []
    assert shop.ok("verify", "m")["valid"]
    known = {key for (key,) in shop.sql("SELECT key FROM checkpoint")}
    assert {p.stem for p in (shop.root / "checkpoints" / "m").iterdir()} == known


@pytest.mark.parametrize("moment", TRAINING)
def test_training_killed(bare: Shop, undisturbed: Any, moment: str) -> None:
    running = bare.start(*world.TRAIN, fault=kill(TRAINING[moment]))
    assert running.wait().code == -signal.SIGKILL
    assert check_visible(bare) == 0
    assert bare.ok("models")["models"] == []
    until(lambda: not any(map(alive, running.workers())), "the training processes to end")
    assert bare.ok(*world.TRAIN)["digest"] == undisturbed.trained
    assert check_visible(bare) == 1
    check_clean(bare)


def test_forgetting_reaches_a_killed_training(bare: Shop, undisturbed: Any) -> None:
    """Nothing was published, but checkpoints saw the person: they go, and those that never did are used."""
    assert bare.run(*world.TRAIN, fault=kill(TRAINING["writing the model"])).code == -signal.SIGKILL
    folder = bare.root / "checkpoints" / "m"
    before = {p.stem for p in folder.iterdir()}
    assert bare.ok("forget", "--subject", "s03")["models"] == []
    left = {p.stem for p in folder.iterdir()}
    assert left
    assert left < before
    assert bare.ok(*world.TRAIN)["digest"] == undisturbed.forgotten
    assert left < {p.stem for p in folder.iterdir()}, "what never saw the person was used again"
    check_clean(bare)


@pytest.mark.parametrize(
    ("moment", "again"), [(m, ("forget", "repair")[i % 2]) for i, m in enumerate(FORGETTING)]
)
def test_forgetting_killed(shop: Shop, undisturbed: Any, moment: str, again: str) -> None:
    running = shop.start("forget", "--subject", "s03", fault=kill(FORGETTING[moment]))
    assert running.wait().code == -signal.SIGKILL
    check_visible(shop)
    until(lambda: not any(map(alive, running.workers())), "the training processes to end")
    assert shop.ok("data", "show", "shop")["subjects"] == 5, "the erasure itself is one transaction, done"
    if again == "forget":
        outcome = shop.ok("forget", "--subject", "s03")
        (request,) = outcome["already_erased_by"].values()
    else:
        (outcome,) = shop.ok("repair")["requests"]
        request = outcome["request"]
    assert outcome["state"] == "executed", "the originals are still there"
    assert world.newest(shop) == undisturbed.forgotten
    assert check_visible(shop) in (2, 3)
    check_clean(shop)
    assert shop.ok("verify", request)["valid"]


def test_killed_before_the_erasure(shop: Shop, undisturbed: Any) -> None:
    """Until the transaction is committed nothing has happened."""
    before = shop.state()
    running = shop.start_call(__file__, "die_in_the_transaction")
    assert running.wait().code == -signal.SIGKILL
    assert shop.state() == before
    assert shop.ok("forget", "--subject", "s03")["models"][0]["digest"] == undisturbed.forgotten
    check_clean(shop)


def die_in_the_transaction() -> None:
    from expunge.erasure import dataset_erasure, execution
    from expunge.erasure.scope import ErasureRequest
    from expunge.progress import Progress
    from expunge.workspace import Workspace

    def dying(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    original, dataset_erasure.erase = dataset_erasure.erase, dying  # type: ignore[assignment]
    execution.forget(Workspace.open(), ErasureRequest(subjects=("s03",)), Progress(quiet=True))


def test_killed_and_killed_again(shop: Shop, undisturbed: Any) -> None:
    moments = ("before a checkpoint is destroyed", "before the catalog knows the interim",
               "writing the repaired checkpoint", "before the certificate")  # fmt: skip
    for moment in moments:
        command = ("forget", "--subject", "s03") if moment == moments[0] else ("repair",)
        assert shop.run(*command, fault=kill(FORGETTING[moment])).code == -signal.SIGKILL
        check_visible(shop)
    shop.ok("repair")
    assert world.newest(shop) == undisturbed.forgotten
    check_clean(shop)


def test_retrain_killed(shop: Shop, undisturbed: Any) -> None:
    """A retrain that was cut short is finished by the same command, and ends with the same bytes."""
    command = ("forget", "--subject", "s03", "--method", "retrain")
    fault = {"role": "worker", "match": "checkpoints/", "operations": ["replace"], "after": True}
    assert shop.run(*command, fault=kill(fault)).code == -signal.SIGKILL
    shop.ok(*command)
    assert world.newest(shop) == undisturbed.forgotten
    check_clean(shop)


def test_a_training_process_killed(bare: Shop, undisturbed: Any) -> None:
    """If a child dies the command says so, and goes on from there the next time."""
    fault = {"do": "kill", "role": "worker", "match": "checkpoints/", "operations": ["replace"], "nth": 2}
    error = bare.run(*world.TRAIN, fault=fault)
    assert error.code == 2
    assert "ended before its work was done" in error.json["error"]
    assert error.json["next"]
    kept = set((bare.root / "checkpoints" / "m").glob("*.safetensors"))
    assert kept
    assert bare.ok(*world.TRAIN)["digest"] == undisturbed.trained
    check_clean(bare)
    assert kept <= set((bare.root / "checkpoints" / "m").iterdir())


@pytest.mark.parametrize("moment", ["while it starts", "while it trains"])
def test_no_training_process_outlives_its_parent(bare: Shop, moment: str) -> None:
    """The training would take hours; its processes end with the command's."""
    running = bare.start(*world.LONG)
    first = until(running.workers, "a training process")
    if moment == "while it trains":
        until(lambda: all(_cpu_ticks(pid) > 100 for pid in running.workers()), "some training")
        first = running.workers()
    assert all(map(alive, first))
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    until(lambda: not any(map(alive, running.workers())), "the training processes to end")
    assert list((bare.root / "checkpoints" / "m").glob("*.safetensors")) == []


def _cpu_ticks(pid: int) -> int:
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_no_replay_outlives_its_parent(shop: Shop, tmp_path: Path) -> None:
    """Nor does a replay, with its copy of the data."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    running = shop.start_call(__file__, "replay_for_hours", env={"TMPDIR": str(scratch)})
    (pid,) = until(running.workers, "the replay")
    until(lambda: list(scratch.glob("*/workspace/.expunge/checkpoints/m")), "the replay to train")
    assert list(scratch.glob("*/data/images/train/*.png"))
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    until(lambda: not alive(pid), "the replay to end")
    until(lambda: list(scratch.iterdir()) == [], "its folder to be removed")


def replay_for_hours() -> None:
    from expunge.catalog.model_store import find_model
    from expunge.exact.composition import complete_composition
    from expunge.exact.model import ErasableModel
    from expunge.exact.replay import replay
    from expunge.progress import Progress
    from expunge.workspace import Workspace

    workspace = Workspace.open()
    with workspace.session() as session:
        published = find_model(session, "m")
    model = ErasableModel.open(workspace, published, Progress(quiet=True))
    initial = model.initial.read_bytes()
    epochs = model.plan.epochs.model_copy(update={"stages": (100_000, 100_000)})
    model.plan = model.plan.model_copy(update={"epochs": epochs})
    model.plan.save(model.initial.with_name("plan.json"))
    model.initial.write_bytes(initial)
    replay(workspace, model, complete_composition(model.graph))


@pytest.mark.parametrize("command", [("models",), ("forget", "--subject", "s03", "--dry-run")])
def test_a_killed_replay_leaves_no_data_for_long(
    shop: Shop, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Where even the replay was killed, the next command removes what it left; others' folders stay."""
    scratch = tmp_path / "scratch"
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    gone, here = f"expunge-replay-{int(process.stdout)}-a", f"expunge-replay-{os.getpid()}-b"
    for name in (gone, here, "somebody-else"):
        (scratch / name / "data").mkdir(parents=True)
    assert shop.start(*command, env={"TMPDIR": str(scratch)}).wait().code == 0
    assert {p.name for p in scratch.iterdir()} == {here, "somebody-else"}


@pytest.mark.slow
def test_the_command_itself_killed(bare: Shop, undisturbed: Any) -> None:
    """The installed command, its real training processes, and no help from inside."""
    command = [sys.executable, "-m", "expunge", *world.TRAIN, "--json"]
    process = subprocess.Popen(command, cwd=bare.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: list((bare.root / "checkpoints").glob("m/*.safetensors")), "the first checkpoint")
        below = children(process.pid)
    finally:
        process.kill()
        process.communicate()
    until(lambda: not any(map(alive, below)), "the training processes to end")
    assert check_visible(bare) == 0
    assert bare.ok(*world.TRAIN)["digest"] == undisturbed.trained
    check_clean(bare)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "forget"])
def test_killed_at_every_operation(
    empty_template: Shop, template: Shop, undisturbed: Any, tmp_path: Path, command: str
) -> None:
    """Every rename, deletion, sync and folder that the command makes, before and after."""
    start = empty_template if command == "train" else template
    argv = world.TRAIN if command == "train" else ("forget", "--subject", "s03")
    wanted = undisturbed.trained if command == "train" else undisturbed.forgotten
    log = tmp_path / "operations"
    assert start.copy(tmp_path / "count").run(*argv, fault={"do": "count", "log": str(log)}).code == 0
    counts = {role: sum(line.startswith(role) for line in log.open()) for role in ("command", "worker")}
    assert counts["command"] >= 10
    for role, count in counts.items():
        for nth in range(1, count + 1):
            for after in (False, True):
                shop = start.copy(tmp_path / f"{role}-{nth}-{after}")
                fault = kill({"role": role, "nth": nth, "after": after})
                code = shop.run(*argv, fault=fault).code
                assert code in (0, -signal.SIGKILL), "a worker of the first shard counts its own operations"
                check_visible(shop)
                if command == "forget" and shop.ok("data", "show", "shop")["subjects"] == 5:
                    shop.ok("repair")
                else:
                    shop.ok(*argv)
                assert world.newest(shop) == wanted, (role, nth, after)
                check_clean(shop)

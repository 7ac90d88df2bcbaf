# SPDX-License-Identifier: Apache-2.0
"""A full disk: a clear error, nothing lost, and the same bytes once there is space again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import Result, Shop

MOMENTS = {
    "train: initial weights": (world.TRAIN, "command", r"plans/.*tmp$"),
    "train: checkpoint": (world.TRAIN, "worker", r"checkpoints/.*tmp$"),
    "train: model": (world.TRAIN, "command", r"models/.*tmp$"),
    "forget: interim": (world.FORGET, "command", r"models/m/\.m-2.*tmp$"),
    "forget: checkpoint": (world.FORGET, "worker", r"checkpoints/.*tmp$"),
    "forget: model": (world.FORGET, "command", r"models/m/\.m-3.*tmp$"),
    "forget: certificate": (world.FORGET, "command", r"certificates/.*tmp$"),
    "forget: log": (world.FORGET, "command", r"log/events\.jsonl$"),
    "forget: tree head": (world.FORGET, "command", r"log/.*tmp$"),
}


def check_told(result: Result) -> None:
    """The error says what, why and what to do; it is no accident that was caught on the way."""
    error = result.json
    assert result.code == 2
    assert "Unexpected" not in error["error"], error
    assert "full" in error["reason"] or "space" in error["reason"], error
    assert error["next"], error
    assert "s03" not in result.out + result.err, "nobody is named, and no file of theirs"


@pytest.mark.parametrize("moment", MOMENTS)
def test_disk_full(moment: str, bare: Shop, shop: Shop, undisturbed: Any) -> None:
    argv, role, match = MOMENTS[moment]
    here = bare if argv is world.TRAIN else shop
    before = {label for (label,) in here.sql("SELECT weights FROM model_version")}
    check_told(here.run(*argv, fault={"do": "enospc", "role": role, "match": match, "operations": ["fsync"]}))
    assert here.strays() == []
    for (weights,) in here.sql("SELECT weights FROM model_version"):
        assert (here.root / weights).is_file()
    assert before <= {label for (label,) in here.sql("SELECT weights FROM model_version")}
    here.ok(*argv)
    assert world.newest(here) == (undisturbed.trained if argv is world.TRAIN else undisturbed.forgotten)
    assert here.ok("verify", "m")["valid"]


@pytest.mark.parametrize(
    ("command", "pragma", "reason"),
    [
        ("data", "max_page_count = 1", "full"),
        ("data", "query_only = ON", "not be written"),
        ("train", "query_only = ON", "not be written"),
        ("forget", "query_only = ON", "not be written"),
    ],
)
def test_catalog_refuses(command: str, pragma: str, reason: str, bare: Shop, shop: Shop) -> None:
    """SQLite's own errors become the same kind of error, and the transaction is undone."""
    argv = {"train": world.TRAIN, "forget": world.FORGET, "data": ("data", "add", "other", "data/data.yaml")}
    here = shop if command == "forget" else bare
    before = here.tables()
    error = here.call(__file__, "with_pragma", argv=argv[command], pragma=pragma)
    assert reason in error["reason"], error
    assert "Unexpected" not in error["error"]
    assert error["next"]
    assert here.tables() == before
    here.ok(*argv[command])


def with_pragma(argv: list[str], pragma: str) -> Any:
    """Run a command whose connections to the catalog all have a pragma set; returns its JSON."""
    from expunge.catalog import engine

    def set_pragmas(driver: Any, record: Any) -> None:
        original(driver, record)
        driver.execute(f"PRAGMA {pragma}")

    original, engine._set_pragmas = engine._set_pragmas, set_pragmas
    return json.loads(_run(argv).out)


def _run(argv: list[str]) -> Result:
    from expunge.cli.main import cli

    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            cli.main([*argv, "--json"], prog_name="expunge")
        except SystemExit as error:
            code = int(error.code or 0)
    return Result(code, out.getvalue(), "")


def test_a_disk_that_is_full(empty_template: Shop, tmp_path: Path, undisturbed: Any) -> None:
    """No pretence: a file system of its own, too small for the training, then large enough."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = empty_template.call(
        __file__, "on_a_small_disk", place=str(mount), source=str(empty_template.folder)
    )
    if "skip" in done:
        pytest.skip(done["skip"])
    check_told(Result(*done["full"]))
    assert done["models"] == []
    assert done["digest"] == undisturbed.trained
    assert done["free"] > 1 << 20
    check_told(Result(*done["forget_full"]))
    assert done["forgotten"] == undisturbed.forgotten


def on_a_small_disk(place: str, source: str) -> dict[str, Any]:
    """Train and forget on a tmpfs that fills up; only this process and its children see it."""
    import ctypes

    new_mounts = 0x00020000
    if ctypes.CDLL(None).unshare(new_mounts) != 0:
        return {"skip": "no permission for a mount namespace"}
    steps = (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=32m", "tmpfs", place])
    for step in steps:
        done = subprocess.run(["mount", *step], capture_output=True, text=True)
        if done.returncode:
            return {"skip": f"no permission to mount: {done.stderr.strip()}"}
    shop = Path(place) / "shop"
    shutil.copytree(source, shop)
    os.chdir(shop)
    filler = Path(place) / "filler"

    def fill(left_bytes: int) -> None:
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - left_bytes)

    def forked(*argv: str) -> tuple[int, str, str]:
        from robust.nursery import leave

        out = Path(place).parent / "out"
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            from expunge.cli.main import cli

            leave(lambda: cli.main([*argv, "--json"], prog_name="expunge"))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code, out.read_text(), ""

    result: dict[str, Any] = {}
    fill(200_000)
    result["full"] = forked(*world.TRAIN)
    result["models"] = json.loads(forked("models")[1])["models"]
    filler.unlink()
    result["free"] = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    result["digest"] = json.loads(forked(*world.TRAIN)[1]).get("digest")
    fill(100_000)
    result["forget_full"] = forked(*world.FORGET)
    filler.unlink()
    forked(*world.FORGET)
    result["forgotten"] = json.loads(forked("models", "m")[1])["models"][-1]["digest"]
    return result

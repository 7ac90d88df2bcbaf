# SPDX-License-Identifier: Apache-2.0
"""The commands ``init`` and ``data``, and the options and errors of all commands."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from cli.data_kit import content, result_of, run, truncate_image, write_image
from click.testing import CliRunner

from expunge.cli.main import COMMANDS, LazyGroup
from expunge.cli.output import Context, common_options
from expunge.errors import BusyError, ExpungeError, Preempted
from expunge.workspace import Workspace


def test_init(tmp_path: Path) -> None:
    made = result_of("init", tmp_path / "a")
    assert made["workspace"] == str(tmp_path / "a/.expunge")
    assert Path(made["public_key"]).read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert run("init", tmp_path / "a").exit_code == 0
    assert Workspace.open(tmp_path / "a").key


def test_add_show_export(shop: Path, tmp_path: Path) -> None:
    added = result_of("data", "add", "shop", shop / "data.yaml", "--subjects", shop / "subjects.csv")
    assert added["dataset"] == "shop@1"
    assert added["samples"] == 6
    assert added["subjects"] == 2
    assert added["digest"].startswith("sha256:")
    assert len(added["digest"]) == 71
    assert added["splits"] == {"train": 4, "val": 2}
    assert added["classes"] == ["box"]
    assert added["public"] == 0
    assert added["parent"] is None
    assert added["request"] is None
    assert result_of("data", "show", "shop") == added == result_of("data", "show", "shop@1")
    assert result_of("data", "add", "shop", shop) == added
    exported = result_of("data", "export", "shop", tmp_path / "out")
    assert exported == {"dataset": "shop@1", "samples": 6, "data": str(tmp_path / "out/data.yaml")}
    again = result_of("data", "add", "copy", tmp_path / "out", "--subject-from-path", r"/(s\d)_")
    assert again["subjects"] == 2
    assert again["digest"] == added["digest"]


def test_text_output(shop: Path, tmp_path: Path) -> None:
    done = run(
        "data", "add", "shop", shop, "--subjects", shop / "subjects.csv", "--public", "images/train/free*"
    )
    assert done.exit_code == 0
    for part in ("shop@1", "samples", "6", "train", "4", "public", "1", "sha256:"):
        assert part in done.stdout
    assert "shop@1" in run("data", "show", "shop").stdout
    exported = run("data", "export", "shop", tmp_path / "out", "--link").stdout
    assert "yolo train data=" in exported
    assert "out/data.yaml" in exported


def test_export_leaves_out_erased_samples(shop: Path, tmp_path: Path) -> None:
    from expunge.catalog.dataset_store import erase, get_version

    result_of("data", "add", "shop", shop, "--subjects", shop / "subjects.csv")
    workspace = Workspace.open()
    with workspace.session() as session:
        erase(session, get_version(session, "shop"), set(), {"s1"}, request_id="r", key=workspace.key)
    for path in shop.rglob("*s1*"):
        path.unlink()
    for ref in ("shop", "shop@1"):  # an older version does not restore them
        out = tmp_path / f"out of {ref}"
        assert result_of("data", "export", ref, out)["samples"] == 4
        assert not list(out.rglob("*s1*"))
    shown = result_of("data", "show", "shop@2")
    assert (shown["parent"], shown["request"], shown["subjects"]) == ("shop@1", "r", 1)
    assert result_of("data", "show", "shop@1")["erased_since"] == 2


def test_classification_folder(shop: Path, tmp_path: Path) -> None:
    for name in ("train/cat/1", "train/dog/2", "val/cat/3"):
        write_image(tmp_path / "pets" / f"{name}.png")
    added = result_of("data", "add", "pets", tmp_path / "pets")
    assert added["classes"] == ["cat", "dog"]
    assert added["class_samples"] == {"cat": 2, "dog": 1}
    assert result_of("data", "export", "pets", tmp_path / "out")["data"] == str(tmp_path / "out")


def test_known_digests(shop: Path, tmp_path: Path) -> None:
    added = result_of("data", "add", "shop", shop)
    sums = tmp_path / "sums"
    with open(sums, "w") as file:
        for path in sorted(shop.rglob("images/*/*")):
            print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(shop)}", file=file)
            path.write_bytes(b"unreadable")
    assert result_of("data", "add", "shop", shop, "--digests", sums)["digest"] == added["digest"]


def break_header(shop: Path) -> None:
    (shop / "subjects.csv").write_text("file,person\nx,y\n")


def break_rows(shop: Path) -> None:
    text = (shop / "subjects.csv").read_text()
    (shop / "subjects.csv").write_text(text + text.splitlines()[1] + ",one,more,field\n")


def name_missing(shop: Path) -> None:
    with open(shop / "subjects.csv", "a") as file:
        file.write("images/train/none.png,s9\n")


def empty_table(shop: Path) -> None:
    (shop / "subjects.csv").write_text("sample,subject\n")


def drop_train(shop: Path) -> None:
    (shop / "data.yaml").write_text("val: images/val\nnames: [box]\n")


def break_label(shop: Path) -> None:
    (shop / "labels/train/s1_a.txt").write_text("7 .5 .5 .1 .1\n")


def lose_table(shop: Path) -> None:
    (shop / "subjects.csv").unlink()


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (break_header, "wrong header"),
        (break_rows, "columns."),
        (name_missing, "1 samples that do not exist: 'images/train/none.png'"),
        (empty_table, "names no subject"),
        (truncate_image, "cannot be read: images/train/s1_a.png"),
        (drop_train, "has no 'train'"),
        (break_label, "labels/train/s1_a.txt, line 1"),
        (lose_table, "There is no file"),
    ],
)
def test_bad_input_changes_nothing(shop: Path, damage: Callable[[Path], None], part: str) -> None:
    arguments = ("data", "add", "shop", shop / "data.yaml", "--subjects", shop / "subjects.csv")
    result_of(*arguments)
    write_image(shop / "images/train/more.png")  # so that a successful run would change the catalog
    before = content()
    damage(shop)
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert part in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr
    error = result_of(*arguments, code=2)
    assert set(error) == {"error", "reason", "next"}
    assert part in error["error"]
    assert error["next"]
    assert content() == before


def test_more_bad_input(shop: Path, tmp_path: Path) -> None:
    result_of("data", "add", "shop", shop, "--subjects", shop / "subjects.csv")
    before = content()
    table = ("--subjects", shop / "subjects.csv")
    for arguments, part in (
        (
            ("data", "add", "shop", shop, *table, "--public", "images/train/s2*"),
            "also shows a private subject",
        ),
        (("data", "add", "shop", shop, *table, "--subject-from-path", "x"), "not both"),
        (("data", "add", "shop", shop, "--new-consent", "--skip-erased"), "not both"),
        (("data", "add", "shop", tmp_path / "none"), "is not a dataset"),
        (("data", "add", "sh@p", shop), "cannot be the name"),
        (("data", "add", "shop"), "Missing argument"),
        (("data", "add", "shop", shop, "--nonsense"), "No such option"),
        (("data", "show", "shp"), "no dataset 'shp'"),
        (("data", "show", "shop@9"), "no version shop@9"),
        (("data", "export", "shop@x", tmp_path / "o"), "is not a name"),
        (("data", "export", "shop", shop), "exists already"),
        (("data", "add", "shop", shop, "--threads", "0"), "Invalid value"),
        (("data", "nonsense"), "No such command"),
        (("nonsense",), "No such command"),
        (("data", "show", "shop", "--workspace", tmp_path / "none"), "There is no workspace"),
        (("init", shop / "data.yaml"), "is a file"),
    ):
        error = result_of(*arguments, code=2)
        assert set(error) == {"error", "reason", "next"}
        assert part in error["error"]
        done = run(*arguments)
        assert done.exit_code == 2
        assert part in done.stderr
        assert done.stdout == ""
    assert content() == before


def test_a_table_with_a_byte_order_mark(shop: Path) -> None:
    text = (shop / "subjects.csv").read_text()
    (shop / "subjects.csv").write_text(f"﻿{text}", encoding="utf-8")
    assert result_of("data", "add", "shop", shop, "--subjects", shop / "subjects.csv")["subjects"] == 2


def test_ways_to_name_the_workspace(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    result_of("data", "add", "shop", shop)  # found upward
    (tmp_path / "far").mkdir()
    monkeypatch.chdir(tmp_path / "far")
    result_of("data", "show", "shop", "--workspace", tmp_path)
    monkeypatch.chdir("/")
    monkeypatch.setenv("EXPUNGE_WORKSPACE", str(tmp_path / ".expunge"))
    result_of("data", "show", "shop")


def group_with(command: Callable[[Context], Any]) -> LazyGroup:
    """Return a command line with one command, ``do``, that calls a function."""
    group = LazyGroup(name="x", table={})
    do = click.command("do")(common_options(lambda context: command(context)))
    group.get_command = lambda ctx, name: do  # type: ignore[method-assign]
    return group


def fail(error: BaseException) -> Callable[[Context], Any]:
    def command(context: Context) -> Any:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ExpungeError("a", "b", "c"), 2),
        (BusyError("a", "b", "c"), 2),
        (Preempted("a", "b", "c"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a"), 2),
        (click.ClickException("a"), 2),
    ],
)
def test_errors_and_exit_codes(error: BaseException, code: int) -> None:
    group = group_with(fail(error))
    done = CliRunner().invoke(group, ["do"])
    assert done.exit_code == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    done = CliRunner().invoke(group, ["do", "--json"])
    assert done.exit_code == code
    assert set(json.loads(done.stdout)) == {"error", "reason", "next"}
    if isinstance(error, ExpungeError):
        assert json.loads(done.stdout) == {"error": "a", "reason": "b", "next": "c"}


def test_debug_mode_prints_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_DEBUG", "1")
    done = CliRunner().invoke(group_with(fail(RuntimeError("a"))), ["do"])
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert "RuntimeError: a" in done.stderr


def test_a_command_gets_the_common_options() -> None:
    def command(context: Context) -> int:
        context.say("busy")
        context.emit({"device": context.device, "threads": context.threads}, lambda: "done")
        return 1

    group = group_with(command)
    done = CliRunner().invoke(group, ["do", "--device", "cpu", "--threads", "2", "--json"])
    assert json.loads(done.stdout) == {"device": "cpu", "threads": 2}
    assert done.stderr == "busy\n"
    assert done.exit_code == 1
    done = CliRunner().invoke(group, ["do"])
    assert done.stdout == "done\n"
    assert done.exit_code == 1


HEAVY = ("torch", "ultralytics", "numpy", "sqlalchemy", "alembic", "PIL", "rich", "pydantic", "yaml")


def test_help_imports_no_large_packages_and_lists_every_command() -> None:
    code = (
        "import sys; sys.argv = ['expunge', '--help']\n"
        "from expunge.cli.main import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name, (_, text) in COMMANDS.items():
        assert name in done.stdout
        assert text.split()[0] in done.stdout


def test_every_data_command_takes_the_common_options() -> None:
    for arguments in (("init",), ("data", "add"), ("data", "show"), ("data", "export")):
        text = run(*arguments, "--help").stdout
        for option in ("--workspace", "--device", "--threads", "--json"):
            assert option in text


def test_a_closed_pipe_is_no_error_message(shop: Path) -> None:
    result_of("data", "add", "shop", shop)
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run(
        [sys.executable, "-m", "expunge.cli.main", "data", "show", "shop"],
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 1

# SPDX-License-Identifier: Apache-2.0
"""A purge finds and deletes the leftovers of a workspace, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from purge.conftest import World

from expunge.catalog import derivatives, model_store
from expunge.datasets.sanitized import export_data
from expunge.errors import InputError
from expunge.models import status
from expunge.purge import run
from expunge.purge.external import checklist
from expunge.purge.run import PurgeOptions
from expunge.storage.locks import model_lock


def leftovers(world: World, *include: Path) -> dict[str, tuple[str, ...]]:
    """Return the paths of all leftovers, relative to the workspace, by kind."""
    found = run.dry_run(world.workspace, PurgeOptions(include))
    kinds: dict[str, list[str]] = {}
    for x in found["leftovers"]:
        kinds.setdefault(x["kind"], []).append(os.path.relpath(x["path"], world.workspace.root))
    return {kind: tuple(paths) for kind, paths in kinds.items()}


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, except those of the catalog and the locks."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and "catalog.sqlite" not in f.name and "locks" not in f.parts
    }


def test_new_workspace_has_no_leftovers(world: World) -> None:
    assert leftovers(world) == {}
    world.publish()
    world.train()
    assert leftovers(world) == {}
    assert run.purge(world.workspace, PurgeOptions())["deleted"] == 0


def test_superseded_weights_are_deleted_and_live_ones_kept(world: World) -> None:
    old = world.publish()
    states = world.train()
    world.erase("s03", request="r-1")
    world.publish(request="r-1", state="interim", guarantee="exact-interim")
    new = world.publish(request="r-1")
    found = run.dry_run(world.workspace, PurgeOptions())
    weights = [x for x in found["leftovers"] if x["kind"] == "weights"]
    assert [(Path(x["path"]).name, x["requests"]) for x in weights] == [("m-1.pt", ["r-1"]), ("m-2.pt", [])]
    needed = {world.model().store.path(n.key) for n in world.model().graph.nodes}
    stale = {Path(x["path"]) for x in found["leftovers"] if x["kind"] == "checkpoint"}
    assert stale == set(states) - needed
    assert stale
    done = run.purge(world.workspace, PurgeOptions(expected=found["plan"]))
    assert done["deleted"] == len(found["leftovers"]) == len(weights) + len(stale)
    assert done["failed"] == 0
    assert new.is_file()
    assert not old.exists()
    assert {f for f in states if f.exists()} == set(states) & needed
    assert leftovers(world) == {}


def test_weights_needed_by_a_pending_repair_are_kept(world: World) -> None:
    """Without an interim model the newest version is superseded, and the repair is compared with it."""
    newest = world.publish()
    with world.workspace.session(write=True) as session:
        model_store.supersede(session, model_store.ensure_model(session, "m", "detect"))
    adopted = world.publish("a", adopted=True)
    world.erase("s03")
    refused = world.publish("a", adopted=True, method="ssd", request="r-1", state="interim")
    assert leftovers(world) == {}
    found = run.dry_run(world.workspace, PurgeOptions())
    assert [x["path"] for x in found["left"]] == ["a@1", "m@1"]
    run.purge(world.workspace, PurgeOptions())
    assert newest.exists()
    assert adopted.exists(), "the unlearning starts from it"
    assert refused.exists()
    world.publish("a", adopted=True, method="ssd", request="r-1", guarantee="audited")
    assert leftovers(world) == {"weights": ("models/a/a-1.pt", "models/a/a-2.pt")}


def test_locked_model_is_skipped(world: World) -> None:
    for name in ("m", "z"):
        world.publish(name)
        world.publish(name)
    (world.workspace.checkpoints / "m").mkdir()
    (world.workspace.checkpoints / "m" / f"{'0' * 64}.safetensors").write_bytes(b"x")
    with model_lock(world.workspace.locks, "m", "train"):
        busy = run.dry_run(world.workspace, PurgeOptions())
        assert busy["busy"] == ["m"]
        assert run.purge(world.workspace, PurgeOptions())["deleted"] == 1
    assert leftovers(world) == {
        "checkpoint": (f"checkpoints/m/{'0' * 64}.safetensors",), "weights": ("models/m/m-1.pt",)
    }  # fmt: skip
    with pytest.raises(InputError, match="not those of the dry run"):
        run.purge(world.workspace, PurgeOptions(expected=busy["plan"]))


def test_outdated_plan_is_refused(world: World) -> None:
    old = world.publish()
    world.publish()
    plan = run.dry_run(world.workspace, PurgeOptions())["plan"]
    old.write_bytes(b"somebody worked on it")
    before = files(world.folder)
    with pytest.raises(InputError, match="not those of the dry run"):
        run.purge(world.workspace, PurgeOptions(expected=plan))
    assert files(world.folder) == before


def test_unconfirmed_purge_deletes_nothing(world: World) -> None:
    old = world.publish()
    world.publish()
    previews: list[dict[str, Any]] = []
    with pytest.raises(InputError, match="Nothing was deleted"):
        run.purge(world.workspace, PurgeOptions(confirm=lambda preview: bool(previews.append(preview))))
    assert len(previews[0]["leftovers"]) == 1
    assert old.exists()
    run.purge(world.workspace, PurgeOptions(confirm=lambda preview: True))
    assert not old.exists()


def test_files_of_killed_commands_are_deleted(world: World) -> None:
    world.publish()
    dead = 2**22 + 1  # no process has such an id
    root, tmp = world.workspace.root, world.workspace.tmp
    for name in (
        f"models/m/.m-2.pt.{dead}.tmp",
        "models/m/m-7.pt",
        f"tmp/.x.{dead}.tmp",
        "tmp/m.polish.weights",
    ):
        (root / name).write_bytes(b"half")
    (tmp / f"export-{dead}-ab").mkdir()
    (tmp / f"export-{dead}-ab" / "model.pt").write_bytes(b"half")
    (tmp / f"export-{os.getpid()}-ab").mkdir()
    (tmp / f".y.{os.getpid()}.tmp").write_bytes(b"being written")
    (root / "models/m/notes.txt").write_bytes(b"mine")
    (world.workspace.checkpoints / "m").mkdir()
    (root / f"checkpoints/m/.k.safetensors.{dead}.tmp").write_bytes(b"half")
    assert leftovers(world) == {
        "unpublished": (
            f"checkpoints/m/.k.safetensors.{dead}.tmp", f"models/m/.m-2.pt.{dead}.tmp", "models/m/m-7.pt",
        ),
        "temporary": (f"tmp/.x.{dead}.tmp", f"tmp/export-{dead}-ab/model.pt", "tmp/m.polish.weights"),
        "folder": (f"tmp/export-{dead}-ab",),
    }  # fmt: skip
    run.purge(world.workspace, PurgeOptions())
    assert {f.name for f in tmp.iterdir()} == {f"export-{os.getpid()}-ab", f".y.{os.getpid()}.tmp"}
    assert (root / "models/m/notes.txt").exists()


def test_unpublished_training_keeps_its_clean_checkpoints(world: World) -> None:
    """Without its plan, its training samples are unknown, and all its checkpoints are leftovers."""
    with world.workspace.session(write=True) as session:
        model_id = model_store.ensure_model(session, "m", "detect")
        model_store.begin_training(session, model_id, 1, 1, world.plan.digest)
    states = world.train()
    assert leftovers(world) == {}
    world.erase("s03")
    kept = {world.model().store.path(n.key) for n in world.model().graph.nodes} & set(states)
    stale = tuple(sorted(f"checkpoints/m/{f.name}" for f in set(states) - kept))
    assert leftovers(world) == {"unpublished": stale}
    (world.workspace.plans / world.plan.digest / "plan.json").unlink()
    assert len(leftovers(world)["unpublished"]) == len(states)


def test_links_in_the_workspace_are_not_followed(world: World, tmp_path: Path) -> None:
    old = world.publish()
    world.publish()
    (tmp_path / "archive").mkdir()
    elsewhere = old.rename(tmp_path / "archive" / "kept.pt")
    old.symlink_to(elsewhere)
    assert leftovers(world) == {}
    assert "link" in run.dry_run(world.workspace, PurgeOptions())["left"][0]["why"]
    run.purge(world.workspace, PurgeOptions())
    assert old.is_symlink()
    assert elsewhere.exists()


def write_file(world: World, name: str) -> None:
    """Write a file of the hand-made export; its content does not matter."""
    file = world.folder / "tree" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"pixels")


def export_tree(world: World, export_id: str = "d-1") -> Path:
    """Write and record a tree as ``data export`` does; return its folder."""
    from expunge.data.export import MARKER

    for name in (
        "train/s03_0.png",
        "train/s00_0.png",
        "val/0.png",
        "data.yaml",
        "train.cache",
        "train/s03_0.npy",
    ):
        write_file(world, name)
    tree = world.folder / "tree"
    (tree / MARKER).write_text(f"{export_id}\n")
    with world.workspace.session(write=True) as session:
        derivatives.add_data_export(session, export_id, 1, 1, os.path.realpath(tree))
    return tree


def test_outdated_tree_is_deleted(world: World) -> None:
    tree = export_tree(world)
    assert leftovers(world) == {}, "nothing in it was erased"
    world.erase("s03")
    found = run.dry_run(world.workspace, PurgeOptions())
    assert {tuple(x["requests"]) for x in found["leftovers"]} == {("r-1",)}
    run.purge(world.workspace, PurgeOptions())
    assert not tree.exists()
    with world.workspace.session() as session:
        assert derivatives.outdated_data_exports(session) == []


def test_tree_exported_after_the_erasure_is_kept(world: World) -> None:
    world.erase("s03")
    tree = export_tree(world)
    with world.workspace.session(write=True) as session:
        derivatives.drop_data_export(session, "d-1")
        derivatives.add_data_export(session, "d-1", 1, 1, os.path.realpath(tree))
    assert leftovers(world) == {}


def test_other_files_in_a_tree_are_kept(world: World) -> None:
    tree = export_tree(world)
    write_file(world, "train/model.pt")
    world.erase("s03")
    result = run.purge(world.workspace, PurgeOptions())
    assert [str(f.relative_to(tree)) for f in tree.rglob("*")] == ["train", "train/model.pt"]
    assert result["left"] == [
        {"path": os.path.realpath(tree), "why": "1 file(s) in this tree are not of the export"}
    ]


def test_folder_that_replaced_a_tree_is_kept(world: World) -> None:
    tree = export_tree(world)
    world.erase("s03")
    (tree / ".expunge-export").write_text("d-another\n")
    assert leftovers(world) == {}
    tree.rename(world.folder / "moved")
    tree.symlink_to(world.folder / "moved")
    assert leftovers(world) == {}
    assert len(run.dry_run(world.workspace, PurgeOptions())["left"]) == 1


def test_failed_export_is_not_recorded(world: World) -> None:
    with pytest.raises(InputError):
        export_data(world.workspace, "shop", world.folder / "out")  # the images do not exist
    assert world.workspace.query("SELECT id FROM data_export") == []


def test_copies_and_runs_in_named_folders(world: World) -> None:
    old = world.publish()
    runs = world.folder / "runs" / "train"
    runs.mkdir(parents=True)
    (runs / "best.pt").write_bytes(old.read_bytes())
    (runs / "last.pt").write_bytes(b"somebody's")
    (runs / "args.yaml").write_bytes(b"task: detect\nmode: train\n")
    (runs / "results.csv").write_bytes(b"epoch")
    assert leftovers(world, world.folder) == {}, "nothing was erased, nothing is superseded"
    world.erase("s03")
    world.publish(request="r-1")
    named = leftovers(world, world.folder)
    assert {os.path.basename(p) for kind in ("run", "copy") for p in named[kind]} == {
        "best.pt", "args.yaml", "results.csv"
    }  # fmt: skip
    assert named["weights"] == ("models/m/m-1.pt",), (
        "the workspace is in the folder, and searched by its own rules"
    )
    assert run.dry_run(world.workspace, PurgeOptions())["not_searched"] == [str(world.model().version.root)]
    run.purge(world.workspace, PurgeOptions())
    late = runs / "late.pt"
    late.write_bytes((runs / "best.pt").read_bytes())
    assert {os.path.basename(p) for p in leftovers(world, world.folder)["copy"]} == {"best.pt", "late.pt"}, (
        "a copy is recognised without the original weights"
    )
    with pytest.raises(InputError, match="cannot be searched"):
        run.dry_run(world.workspace, PurgeOptions([world.folder / "none"]))


def test_record_has_counts_and_no_paths(world: World) -> None:
    export_tree(world)
    world.publish()
    world.erase("s03")
    world.publish(request="r-1")
    (world.workspace.root / "external.txt").write_text(
        "# ours\n[x] s3://bucket/models\n\n[ ] edge\nregistry\n"
    )
    places = [
        {"place": "s3://bucket/models", "confirmed": True},
        {"place": "edge", "confirmed": False},
        {"place": "registry", "confirmed": False},
    ]
    listed = checklist(world.workspace)
    assert [{k: x[k] for k in ("place", "confirmed")} for x in listed] == places
    places = listed
    assert run.purge(world.workspace, PurgeOptions())["external"] == places
    with world.workspace.session() as session:
        (entry,) = derivatives.purges(session, "r-1")
        assert derivatives.purges(session, "r-2") == []
    assert entry["kinds"]["weights"]["files"] == 1
    assert entry["kinds"]["data-export"]["files"] == 7
    assert entry["external"] == places
    stored = world.workspace.query("SELECT summary FROM purge")[0]["summary"]
    assert "s03" not in stored
    assert str(world.folder) not in stored


def test_purge_command(world: World) -> None:
    old = world.publish()
    world.publish()

    def command(*arguments: str) -> tuple[int, dict[str, Any]]:
        line = [
            sys.executable,
            "-m",
            "expunge",
            "purge",
            *arguments,
            "--json",
            "--workspace",
            str(world.folder),
        ]
        env = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[2])}
        done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env)
        assert "error" not in done.stdout, done.stdout
        return done.returncode, json.loads(done.stdout)

    code, dry = command("--dry-run")
    assert (code, [x["path"] for x in dry["leftovers"]]) == (0, [str(old)])
    assert dry["bytes"] == old.stat().st_size
    assert old.exists()
    code, done = command("--expect", dry["plan"])
    assert (code, done["deleted"], done["plan"]) == (0, 1, dry["plan"])
    assert not old.exists()


def test_purged_file_of_an_ensemble_is_still_recognised(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.publish()
    folder = first.with_name("m-1-ensemble")
    folder.mkdir()
    first.rename(folder / "shard0.pt")
    with world.workspace.session(write=True) as session:
        row = session.get_one(model_store.ModelVersionRow, model_store.find_model(session, "m@1").id)
        row.weights = str(folder.relative_to(world.workspace.root))
    world.publish()
    monkeypatch.setattr(run, "_tensor_digests", lambda path: ["tensors:" + "ab" * 32])
    assert leftovers(world) == {
        "folder": ("models/m/m-1-ensemble",),
        "weights": ("models/m/m-1-ensemble/shard0.pt",),
    }
    run.purge(world.workspace, PurgeOptions())
    assert not folder.exists()
    with world.workspace.session() as session:
        found = status._unrecorded_parts(world.workspace, session, "sha256:" + "ab" * 32)
    assert [p.label for p in found] == ["m@1"]

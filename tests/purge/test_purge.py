# SPDX-License-Identifier: Apache-2.0
"""What of a workspace is left over, by what its catalog says; and what never is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from purge.conftest import World

from expunge import standing
from expunge.catalog import derivatives
from expunge.catalog import models as catalog
from expunge.catalog.locks import model_lock
from expunge.errors import InputError
from expunge.purge import run
from expunge.purge.external import checklist
from expunge.purge.run import Ask
from expunge.sanitized import export_data


def said(world: World, *include: Path) -> dict[str, tuple[str, ...]]:
    """Paths relative to the workspace, by kind."""
    found = run.dry_run(world.workspace, Ask(include))
    kinds: dict[str, list[str]] = {}
    for x in found["leftovers"]:
        kinds.setdefault(x["kind"], []).append(os.path.relpath(x["path"], world.workspace.root))
    return {kind: tuple(paths) for kind, paths in kinds.items()}


def files(folder: Path) -> dict[str, bytes]:
    """All files but the catalog's and the locks."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and "catalog.sqlite" not in f.name and "locks" not in f.parts
    }


def test_nothing_is_left_over_at_first(world: World) -> None:
    assert said(world) == {}
    world.publish()
    world.train()
    assert said(world) == {}
    assert run.purge(world.workspace, Ask())["deleted"] == 0


def test_superseded_weights_go_and_live_ones_stay(world: World) -> None:
    old = world.publish()
    states = world.train()
    world.erase("s03", request="r-1")
    world.publish(request="r-1", state="interim", guarantee="exact-interim")
    new = world.publish(request="r-1")
    found = run.dry_run(world.workspace, Ask())
    weights = [x for x in found["leftovers"] if x["kind"] == "weights"]
    assert [(Path(x["path"]).name, x["requests"]) for x in weights] == [("m-1.pt", ["r-1"]), ("m-2.pt", [])]
    needed = {world.model().store.path(n.key) for n in world.model().graph.nodes}
    stale = {Path(x["path"]) for x in found["leftovers"] if x["kind"] == "checkpoint"}
    assert stale == set(states) - needed
    assert stale
    done = run.purge(world.workspace, Ask(expected=found["plan"]))
    assert done["deleted"] == len(found["leftovers"]) == len(weights) + len(stale)
    assert done["failed"] == 0
    assert new.is_file()
    assert not old.exists()
    assert {f for f in states if f.exists()} == set(states) & needed
    assert said(world) == {}


def test_what_a_pending_repair_needs_stays(world: World) -> None:
    """No interim could be published: the newest version is superseded, and the repair is compared with it."""
    newest = world.publish()
    with world.workspace.session(write=True) as session:
        catalog.supersede(session, catalog.ensure_model(session, "m", "detect"))
    adopted = world.publish("a", adopted=True)
    world.erase("s03")
    refused = world.publish("a", adopted=True, method="ssd", request="r-1", state="interim")
    assert said(world) == {}
    found = run.dry_run(world.workspace, Ask())
    assert [x["path"] for x in found["left"]] == ["a@1", "m@1"]
    run.purge(world.workspace, Ask())
    assert newest.exists()
    assert adopted.exists(), "the unlearning starts from it"
    assert refused.exists()
    world.publish("a", adopted=True, method="ssd", request="r-1", guarantee="audited")
    assert said(world) == {"weights": ("models/a/a-1.pt", "models/a/a-2.pt")}


def test_a_model_that_is_held_is_left_alone(world: World) -> None:
    for name in ("m", "z"):
        world.publish(name)
        world.publish(name)
    (world.workspace.checkpoints / "m").mkdir()
    (world.workspace.checkpoints / "m" / f"{'0' * 64}.safetensors").write_bytes(b"x")
    with model_lock(world.workspace.locks, "m", "train"):
        busy = run.dry_run(world.workspace, Ask())
        assert busy["busy"] == ["m"]
        assert run.purge(world.workspace, Ask())["deleted"] == 1
    assert said(world) == {
        "checkpoint": (f"checkpoints/m/{'0' * 64}.safetensors",), "weights": ("models/m/m-1.pt",)
    }  # fmt: skip
    with pytest.raises(InputError, match="not what the dry run said"):
        run.purge(world.workspace, Ask(expected=busy["plan"]))


def test_the_plan_of_another_day_is_refused(world: World) -> None:
    old = world.publish()
    world.publish()
    plan = run.dry_run(world.workspace, Ask())["plan"]
    old.write_bytes(b"somebody worked on it")
    before = files(world.folder)
    with pytest.raises(InputError, match="not what the dry run said"):
        run.purge(world.workspace, Ask(expected=plan))
    assert files(world.folder) == before


def test_a_no_deletes_nothing(world: World) -> None:
    old = world.publish()
    world.publish()
    shown: list[dict[str, Any]] = []
    with pytest.raises(InputError, match="Nothing was deleted"):
        run.purge(world.workspace, Ask(confirm=lambda preview: bool(shown.append(preview))))
    assert len(shown[0]["leftovers"]) == 1
    assert old.exists()
    run.purge(world.workspace, Ask(confirm=lambda preview: True))
    assert not old.exists()


def test_what_killed_commands_left(world: World) -> None:
    world.publish()
    gone = 2**22 + 1  # no process has such a number
    root, tmp = world.workspace.root, world.workspace.tmp
    for name in (
        f"models/m/.m-2.pt.{gone}.tmp",
        "models/m/m-7.pt",
        f"tmp/.x.{gone}.tmp",
        "tmp/m.polish.weights",
    ):
        (root / name).write_bytes(b"half")
    (tmp / f"export-{gone}-ab").mkdir()
    (tmp / f"export-{gone}-ab" / "model.pt").write_bytes(b"half")
    (tmp / f"export-{os.getpid()}-ab").mkdir()
    (tmp / f".y.{os.getpid()}.tmp").write_bytes(b"being written")
    (root / "models/m/notes.txt").write_bytes(b"mine")
    (world.workspace.checkpoints / "m").mkdir()
    (root / f"checkpoints/m/.k.safetensors.{gone}.tmp").write_bytes(b"half")
    assert said(world) == {
        "unpublished": (
            f"checkpoints/m/.k.safetensors.{gone}.tmp", f"models/m/.m-2.pt.{gone}.tmp", "models/m/m-7.pt",
        ),
        "temporary": (f"tmp/.x.{gone}.tmp", f"tmp/export-{gone}-ab/model.pt", "tmp/m.polish.weights"),
        "folder": (f"tmp/export-{gone}-ab",),
    }  # fmt: skip
    run.purge(world.workspace, Ask())
    assert {f.name for f in tmp.iterdir()} == {f"export-{os.getpid()}-ab", f".y.{os.getpid()}.tmp"}
    assert (root / "models/m/notes.txt").exists()


def test_a_training_that_was_never_published(world: World) -> None:
    """Its clean checkpoints are kept, for it can go on; without its plan nobody can tell what they saw."""
    with world.workspace.session(write=True) as session:
        model_id = catalog.ensure_model(session, "m", "detect")
        catalog.begin_training(session, model_id, 1, 1, world.plan.digest)
    states = world.train()
    assert said(world) == {}
    world.erase("s03")
    kept = {world.model().store.path(n.key) for n in world.model().graph.nodes} & set(states)
    stale = tuple(sorted(f"checkpoints/m/{f.name}" for f in set(states) - kept))
    assert said(world) == {"unpublished": stale}
    (world.workspace.plans / world.plan.digest / "plan.json").unlink()
    assert len(said(world)["unpublished"]) == len(states)


def test_links_in_the_workspace_are_not_followed(world: World, tmp_path: Path) -> None:
    old = world.publish()
    world.publish()
    (tmp_path / "archive").mkdir()
    elsewhere = old.rename(tmp_path / "archive" / "kept.pt")
    old.symlink_to(elsewhere)
    assert said(world) == {}
    assert "link" in run.dry_run(world.workspace, Ask())["left"][0]["why"]
    run.purge(world.workspace, Ask())
    assert old.is_symlink()
    assert elsewhere.exists()


def picture(world: World, name: str) -> None:
    """Not a picture, but a file of the right digest is not needed: exports are made by hand here."""
    file = world.folder / "tree" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"pixels")


def hand_made(world: World, export_id: str = "d-1") -> Path:
    """A tree as ``data export`` would have written it."""
    from expunge.data.export import MARKER

    for name in (
        "train/s03_0.png",
        "train/s00_0.png",
        "val/0.png",
        "data.yaml",
        "train.cache",
        "train/s03_0.npy",
    ):
        picture(world, name)
    tree = world.folder / "tree"
    (tree / MARKER).write_text(f"{export_id}\n")
    with world.workspace.session(write=True) as session:
        derivatives.add_data_export(session, export_id, 1, 1, os.path.realpath(tree))
    return tree


def test_a_tree_of_an_older_version_goes_with_what_is_in_it(world: World) -> None:
    tree = hand_made(world)
    assert said(world) == {}, "nothing in it was erased"
    world.erase("s03")
    found = run.dry_run(world.workspace, Ask())
    assert {tuple(x["requests"]) for x in found["leftovers"]} == {("r-1",)}
    run.purge(world.workspace, Ask())
    assert not tree.exists()
    with world.workspace.session() as session:
        assert derivatives.outdated_data_exports(session) == []


def test_a_tree_made_after_the_erasure_is_clean(world: World) -> None:
    world.erase("s03")
    tree = hand_made(world)
    with world.workspace.session(write=True) as session:
        derivatives.drop_data_export(session, "d-1")
        derivatives.add_data_export(session, "d-1", 1, 1, os.path.realpath(tree))
    assert said(world) == {}


def test_somebodys_files_in_a_tree_stay(world: World) -> None:
    tree = hand_made(world)
    picture(world, "train/model.pt")
    world.erase("s03")
    result = run.purge(world.workspace, Ask())
    assert [str(f.relative_to(tree)) for f in tree.rglob("*")] == ["train", "train/model.pt"]
    assert result["left"] == [
        {"path": os.path.realpath(tree), "why": "1 file(s) in this tree are not of the export"}
    ]


def test_what_took_a_trees_place_is_left_alone(world: World) -> None:
    tree = hand_made(world)
    world.erase("s03")
    (tree / ".expunge-export").write_text("d-another\n")
    assert said(world) == {}
    tree.rename(world.folder / "moved")
    tree.symlink_to(world.folder / "moved")
    assert said(world) == {}
    assert len(run.dry_run(world.workspace, Ask())["left"]) == 1


def test_an_export_is_recorded_and_marked(world: World) -> None:
    """The tree of a real export is found again; one that failed is not on record."""
    with pytest.raises(InputError):
        export_data(world.workspace, "shop", world.folder / "out")  # the pictures do not exist
    assert world.workspace.query("SELECT id FROM data_export") == []


def test_copies_and_runs_in_named_folders(world: World) -> None:
    old = world.publish()
    runs = world.folder / "runs" / "train"
    runs.mkdir(parents=True)
    (runs / "best.pt").write_bytes(old.read_bytes())
    (runs / "last.pt").write_bytes(b"somebody's")
    (runs / "args.yaml").write_bytes(b"task: detect\nmode: train\n")
    (runs / "results.csv").write_bytes(b"epoch")
    assert said(world, world.folder) == {}, "nothing was erased, nothing is superseded"
    world.erase("s03")
    world.publish(request="r-1")
    named = said(world, world.folder)
    assert {os.path.basename(p) for kind in ("run", "copy") for p in named[kind]} == {
        "best.pt", "args.yaml", "results.csv"
    }  # fmt: skip
    assert named["weights"] == ("models/m/m-1.pt",), (
        "the workspace is in the folder, and searched by its own rules"
    )
    assert run.dry_run(world.workspace, Ask())["not_searched"] == [str(world.model().version.root)]
    run.purge(world.workspace, Ask())
    late = runs / "late.pt"
    late.write_bytes((runs / "best.pt").read_bytes())
    assert {os.path.basename(p) for p in said(world, world.folder)["copy"]} == {"best.pt", "late.pt"}, (
        "a copy is known also when the original is gone"
    )
    with pytest.raises(InputError, match="cannot be searched"):
        run.dry_run(world.workspace, Ask([world.folder / "none"]))


def test_the_record_has_counts_and_no_paths(world: World) -> None:
    hand_made(world)
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
    assert run.purge(world.workspace, Ask())["external"] == places
    with world.workspace.session() as session:
        (entry,) = derivatives.purges(session, "r-1")
        assert derivatives.purges(session, "r-2") == []
    assert entry["kinds"]["weights"]["files"] == 1
    assert entry["kinds"]["data-export"]["files"] == 7
    assert entry["external"] == places
    stored = world.workspace.query("SELECT summary FROM purge")[0]["summary"]
    assert "s03" not in stored
    assert str(world.folder) not in stored


def test_the_command(world: World) -> None:
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


def test_a_purged_file_of_an_ensemble_is_still_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.publish()
    folder = first.with_name("m-1-ensemble")
    folder.mkdir()
    first.rename(folder / "shard0.pt")
    with world.workspace.session(write=True) as session:
        row = session.get_one(catalog.ModelVersionRow, catalog.find_model(session, "m@1").id)
        row.weights = str(folder.relative_to(world.workspace.root))
    world.publish()
    monkeypatch.setattr(run, "_tensors", lambda path: ["tensors:" + "ab" * 32])
    assert said(world) == {
        "folder": ("models/m/m-1-ensemble",),
        "weights": ("models/m/m-1-ensemble/shard0.pt",),
    }
    run.purge(world.workspace, Ask())
    assert not folder.exists()
    with world.workspace.session() as session:
        found = standing._unrecorded_parts(world.workspace, session, "sha256:" + "ab" * 32)
    assert [p.label for p in found] == ["m@1"]

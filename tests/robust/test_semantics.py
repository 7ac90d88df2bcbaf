# SPDX-License-Identifier: Apache-2.0
"""What an erasure means, through the commands: which models, which samples, which files, which state."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from robust import scenes, world
from robust.commands import Nursery, Shop, until

from expunge.evidence.certificates import predicate_of


def certificate(outcome: dict[str, Any]) -> dict[str, Any]:
    """The certificate that a command names."""
    return predicate_of(Path(outcome["certificate"]))


def stages(shop: Shop, *argv: str) -> list[tuple[int, int]]:
    """The shards and stages that a forget would train again."""
    (model,) = shop.ok("forget", *argv, "--dry-run")["models"]
    return [(cell["shard"], cell["stage"]) for cell in model["map"] if cell["retrained"]]


def home(shop: Shop, subject: str) -> int:
    """The shard in which a subject lives."""
    (shard,) = {shard for shard, _ in stages(shop, "--subject", subject)}
    return shard


def test_a_subject_only_in_val(nursery: Nursery, tmp_path: Path) -> None:
    """A new dataset version, the same model, and a certificate that says so."""
    shop = world.trained(nursery, tmp_path / "shop", extra={"images/val/v.png": "visitor"})
    before = shop.ok("models", "m")["models"]
    outcome = shop.ok("forget", "--subject", "visitor")
    assert outcome["dataset"] == "shop@2"
    assert shop.ok("data", "show", "shop")["splits"] == {"train": 20, "val": 6}
    (entry,) = outcome["models"]
    assert (entry["model"], entry["digest"]) == ("m@1", before[0]["digest"])
    assert entry["cost_measured"] == entry["cost_predicted"] == 0.0
    assert entry["interim"] is None
    assert entry["metrics_before"]["images"] == entry["metrics_after"]["images"] == 6, "what is retained"
    after = shop.ok("models", "m")["models"]
    assert [(m["model"], m["state"], m["digest"]) for m in after] == [("m@1", "current", before[0]["digest"])]
    (stated,) = certificate(outcome)["models"]
    assert stated["digest"] == stated["parent_digest"] == before[0]["digest"]
    assert shop.ok("verify", outcome["certificate"], "--replay")["valid"]
    shop.ok("data", "export", "shop", "out")
    assert not list((shop.folder / "out").rglob("v.*"))


def test_a_subject_in_train_and_val(nursery: Nursery, tmp_path: Path) -> None:
    """All splits are covered, and metrics before and after use the same retained images."""
    shop = world.trained(nursery, tmp_path / "shop", extra={"images/val/s03_v.png": "s03"})
    (entry,) = shop.ok("forget", "--subject", "s03")["models"]
    assert entry["metrics_before"]["images"] == entry["metrics_after"]["images"] == 6
    assert entry["interim"]["metrics"]["images"] == 6
    assert shop.ok("data", "show", "shop")["splits"] == {"train": 17, "val": 6}


def test_erased_already(shop: Shop) -> None:
    first = shop.ok("forget", "--subject", "s03")
    tables = {k: v for k, v in shop.tables().items() if k != "request"}
    for argv in (["--subject", "s03"], ["--sample", "images/train/s03_1.png"]):
        again = shop.ok("forget", *argv)
        assert again["models"] == []
        assert again["already_erased_by"] == {argv[1]: first["request"]}
        assert again["dataset"] == "shop@2"
    assert {k: v for k, v in shop.tables().items() if k != "request"} == tables
    both = shop.ok("forget", "--subject", "s03", "--subject", "s04")
    assert both["already_erased_by"] == {"s03": first["request"]}
    assert both["samples"] == 3, "only those that were not erased yet"
    refused = shop.refused(*world.ADD)
    assert "erased" in refused["error"]


def test_a_copy_under_another_path_joins(nursery: Nursery, tmp_path: Path) -> None:
    """Byte-identical pictures go together, in every split, though the copy names nobody."""
    shop = world.untrained(nursery, tmp_path / "shop")
    for copy in ("images/train/holiday.png", "images/val/holiday.png"):
        scenes.draw(shop.data, copy, like="images/train/s03_1.png")
    shop.ok(*world.ADD)
    shop.ok(*world.TRAIN)
    outcome = shop.ok("forget", "--subject", "s03")
    assert outcome["samples"] == 5
    shop.ok("data", "export", "shop", "out")
    assert not list((shop.folder / "out").rglob("holiday*"))
    plan = world.plan_of(shop)
    assert outcome["models"][0]["digest"] == world.never(nursery, tmp_path / "never", plan, "s03")


def test_several_subjects_and_samples_together(shop: Shop, tmp_path: Path) -> None:
    outcome = shop.ok("forget", "--subject", "s01", "--subject", "s04", "--sample", "images/train/free_1.png")
    assert outcome["samples"] == 7
    one, two = shop.copy(tmp_path / "one"), shop.copy(tmp_path / "two")
    (one.folder / "list.txt").write_text("s00\nimages/train/s05_2.png\n")
    one.ok("forget", "--from", "list.txt")
    two.ok("forget", "--sample", "images/train/s05_2.png")
    two.ok("forget", "--subject", "s00")
    assert world.newest(one) == world.newest(two)


def test_deferred_requests_are_repaired_together(shop: Shop) -> None:
    first = shop.ok("forget", "--subject", "s01", "--defer", "--delete-originals")
    assert first["state"] == "running"
    assert [(m["digest"], m["weights"], m["guarantee"]) for m in first["models"]] == [
        (None, None, "exact-interim")
    ]
    second = shop.ok("forget", "--subject", "s04", "--defer")
    assert shop.ok("models", "m")["models"][-1]["state"] == "interim"
    repaired = shop.ok("repair")
    assert len(repaired["models"]) == 1, "one training"
    assert {r["request"]: r["state"] for r in repaired["requests"]} == {
        first["request"]: "closed",
        second["request"]: "executed",
    }
    finals = [
        m for m in shop.ok("models", "m")["models"] if m["method"] == "exact" and m["state"] == "current"
    ]
    assert len(finals) == 1
    for request in (first, second):
        (stated,) = certificate(request)["models"]
        assert stated["digest"] == finals[0]["digest"] == repaired["models"][0]["digest"]
        assert shop.ok("verify", request["request"])["valid"]
    assert shop.ok("repair")["models"] == []


def test_a_forget_finishes_what_waited(shop: Shop) -> None:
    """A later erasure that is not deferred trains for the waiting one as well, and closes it."""
    first = shop.ok("forget", "--subject", "s01", "--defer")
    second = shop.ok("forget", "--subject", "s04")
    states = dict(shop.sql("SELECT id, state FROM request"))
    assert states == {first["request"]: "executed", second["request"]: "executed"}
    assert certificate(first)["models"][0]["digest"] == second["models"][0]["digest"]


def test_a_whole_shard(shop: Shop, tmp_path: Path) -> None:
    """The shard leaves the merge; what is left is that of a training without its people."""
    people = [s for s in scenes.PEOPLE if home(shop, s) == 0]
    assert 0 < len(people) < len(scenes.PEOPLE)
    argv = [word for s in people for word in ("--subject", s)]
    for k in range(2):
        free = f"images/train/free_{k}.png"
        if {shard for shard, _ in stages(shop, "--sample", free)} == {0}:
            argv += ["--sample", free]
    (entry,) = shop.ok("forget", *argv)["models"]
    assert set(entry["composition"]["stages"]) == {"1"}
    assert entry["cost_predicted"] == 0.0
    assert entry["interim"] is None, "the other shard is the final model, at once"
    assert shop.ok("verify", "m", "--replay")["valid"]


def test_public_data(nursery: Nursery, tmp_path: Path) -> None:
    """Forgetting it works, costs everything, and the dry run says so."""
    shop = world.untrained(nursery, tmp_path / "shop")
    shop.ok(*world.ADD, "--public", "images/train/free_*.png")
    shop.ok(*world.TRAIN)
    assert shop.ok("data", "show", "shop")["public"] == 2
    (preview,) = shop.ok("forget", "--sample", "images/train/free_0.png", "--dry-run")["models"]
    assert preview["public_data"] is True
    assert preview["cost_predicted"] == 1.0
    assert all(cell["retrained"] for cell in preview["map"])
    (private,) = shop.ok("forget", "--subject", "s03", "--dry-run")["models"]
    assert private["public_data"] is False
    assert private["cost_predicted"] < 1.0
    (entry,) = shop.ok("forget", "--sample", "images/train/free_0.png")["models"]
    assert entry["cost_predicted"] == 1.0
    assert entry["interim"] is None, "nothing is free of it"
    assert shop.ok("verify", "m", "--replay")["valid"]


def test_status(shop: Shop) -> None:
    """For a deployment's CI: exit 1 if superseded, by the tensors and not the file's name."""
    (old,) = shop.sql("SELECT weights FROM model_version")[0]
    copy = shutil.copyfile(shop.root / old, shop.folder / "deployed.pt")
    assert shop.ok("status", str(copy))["status"] == "current"
    outcome = shop.ok("forget", "--subject", "s03", "--defer")["models"][0]
    answer = shop.run("status", str(copy))
    assert (answer.code, answer.json["status"], answer.json["model"]) == (1, "superseded", "m@1")
    assert shop.ok("status", outcome["interim"]["weights"])["status"] == "interim"
    final = shop.ok("repair")["models"][0]
    assert shop.run("status", outcome["interim"]["weights"]).code == 1
    assert shop.ok("status", final["weights"])["status"] == "current"
    other = world.untrained(shop.nursery, shop.folder / "other")
    assert other.ok("status", final["weights"])["status"] == "unknown"


@pytest.mark.parametrize("left", ["some", "none"])
def test_samples_that_left_the_dataset_before(shop: Shop, left: str, undisturbed: Any) -> None:
    """A model of an older version saw samples that the newest no longer has: they are forgotten as well."""
    removed = [0, 1, 2] if left == "none" else [2]
    keep = {}
    for k in removed:
        for file in (shop.data / f"images/train/s03_{k}.png", shop.data / f"labels/train/s03_{k}.txt"):
            keep[file] = file.read_bytes()
            file.unlink()
    table = shop.data / "subjects.csv"
    rows = [row for row in table.read_text().splitlines() if not any(f"s03_{k}" in row for k in removed)]
    table.write_text("\n".join(rows) + "\n")
    assert shop.ok(*world.ADD, "--full")["dataset"] == "shop@2"
    for file, content in keep.items():  # still on the disk, though not in the dataset
        file.write_bytes(content)
    (preview,) = shop.ok("forget", "--subject", "s03", "--dry-run")["models"]
    assert preview["saw"] == 3
    assert preview["cost_predicted"] > 0
    outcome = shop.ok("forget", "--subject", "s03")
    assert outcome["models"][0]["digest"] == undisturbed.forgotten
    assert shop.ok("verify", "m", "--replay")["valid"]


def test_what_is_erased_during_a_training(shop: Shop, tmp_path: Path, undisturbed: Any) -> None:
    """A training under way, of a model that nobody knows yet, does not bring the person back."""
    argv = [("n" if word == "m" else word) for word in world.TRAIN]
    running = shop.start_call(__file__, "train_slowly", argv=[*argv, "--json"])
    until((shop.folder / "trained").exists, "the training to be nearly done")
    shop.ok("forget", "--subject", "s03", "--model", "m")
    (shop.folder / "go-on").touch()
    result = running.wait()
    assert result.code == 0, result
    assert result.json["digest"] == undisturbed.forgotten
    assert shop.ok("verify", "n")["valid"]
    for model in ("m", "n"):
        keys = {p.stem for p in (shop.root / "checkpoints" / model).iterdir()}
        assert keys == {p.stem for p in (shop.root / "checkpoints" / "m").iterdir()}


def train_slowly(argv: list[str]) -> None:
    """Train, but wait before the end until ``go-on`` is there."""
    from expunge.cli.main import cli
    from expunge.exact.model import ErasableModel

    def train(self: Any, *args: Any, **kwargs: Any) -> float:
        seconds: float = original(self, *args, **kwargs)
        Path("trained").touch()
        until(Path("go-on").exists, "the file go-on")
        return seconds

    original = ErasableModel.train
    ErasableModel.train = train  # type: ignore[method-assign]
    cli.main(argv, prog_name="expunge")


def test_a_plan_replays_an_interim(shop: Shop) -> None:
    """An interim is a function of the data too: its certificate can be replayed, and so can the final one."""
    outcome = shop.ok("forget", "--subject", "s03")
    checks = {c["name"]: c["ok"] for c in shop.ok("verify", outcome["certificate"], "--replay")["checks"]}
    assert checks["m@2: replay"] is True
    assert checks["m@3: replay"] is True
    digest = shop.call(__file__, "train_part", plan=str(world.plan_of(shop)), of="m@2")
    assert digest == outcome["models"][0]["interim"]["digest"]


def train_part(plan: str, of: str) -> str:
    """Train only what a published version is composed of, under another name."""
    from expunge.catalog.model_store import find_model
    from expunge.exact.composition import Composition
    from expunge.models import training
    from expunge.progress import Progress
    from expunge.workspace import Workspace

    workspace = Workspace.open()
    with workspace.session() as session:
        composition = Composition.from_json(find_model(session, of).composition or {})
    published = training.train(
        workspace,
        "shop",
        "part",
        from_plan=Path(plan),
        composition=composition,
        progress=Progress(quiet=True),
    )
    assert published.guarantee == "exact-interim"
    return published.digest


def statuses(shop: Shop, folder: str) -> list[str]:
    """What ``status`` says of an ensemble and of each of its files."""
    return [
        shop.run("status", str(p)).json["status"] for p in [Path(folder), *sorted(Path(folder).iterdir())]
    ]


@pytest.mark.slow
def test_an_ensemble(bare: Shop, tmp_path: Path) -> None:
    trained = bare.ok(*world.TRAIN, "--set", "aggregate=ensemble")
    assert sorted(p.name for p in Path(trained["weights"]).iterdir()) == ["shard0.pt", "shard1.pt"]
    assert bare.ok("verify", "m", "--replay")["valid"]
    plan = world.plan_of(bare)
    (entry,) = bare.ok("forget", "--subject", "s03")["models"]
    assert entry["digest"] == world.never(bare.nursery, tmp_path / "never", plan, "s03")
    assert entry["digest"] != trained["digest"]
    assert len(list(Path(entry["interim"]["weights"]).iterdir())) in (1, 2)
    assert bare.ok("verify", entry["model"], "--replay")["valid"]
    assert statuses(bare, trained["weights"]) == ["superseded", "current", "superseded"], "by shards"
    assert statuses(bare, entry["weights"]) == ["current"] * 3
    before = entry["weights"]
    people = [s for s in scenes.PEOPLE if s != "s03" and home(bare, s) == 0]
    free = [f"images/train/free_{k}.png" for k in range(2)]
    free = [f for f in free if {shard for shard, _ in stages(bare, "--sample", f)} == {0}]
    argv = [w for s in people for w in ("--subject", s)] + [w for f in free for w in ("--sample", f)]
    (entry,) = bare.ok("forget", *argv)["models"]
    assert [p.name for p in Path(entry["weights"]).iterdir()] == ["shard0.pt"], "one shard is left"
    assert statuses(bare, before) == ["superseded", "superseded", "current"], "the shard that is left"
    assert bare.ok("verify", "m", "--replay")["valid"]


def test_all_models_that_saw_it(two_models: Shop, undisturbed: Any) -> None:
    """Every live model is repaired; all interims come before the first repair."""
    outcome = two_models.ok("forget", "--subject", "s03")
    assert [m["model"] for m in outcome["models"]] == ["m@3", "z@3"]
    assert outcome["models"][0]["digest"] == undisturbed.forgotten
    created = dict(two_models.sql(
        "SELECT model.name || '@' || number, version.created FROM model_version AS version"
        " JOIN model ON model.id = model_id"
    ))  # fmt: skip
    assert max(created["m@2"], created["z@2"]) < min(created["m@3"], created["z@3"])
    assert two_models.ok("verify", outcome["certificate"])["valid"]


def test_a_model_left_out_is_told(two_models: Shop) -> None:
    """With --model only that one is repaired now; the data are gone for all, and `repair` does the rest."""
    outcome = two_models.ok("forget", "--subject", "s03", "--model", "m")
    assert [m["model"] for m in outcome["models"]] == ["m@3"]
    left = two_models.run("verify", "z")
    assert left.code == 1
    assert {c["name"]: c["ok"] for c in left.json["checks"]}["z@1: retained data"] is False
    two_models.ok("repair")
    assert two_models.ok("verify", "z")["valid"]


@pytest.mark.slow
def test_a_checkpoint_of_other_classes(bare: Shop, tmp_path: Path) -> None:
    """As from COCO's classes to one's own: it trains, forgets, and is repeated from the checkpoint alone."""
    bare.call(__file__, "write_checkpoint", architecture="nano.yaml", target="coco.pt")
    argv = [("coco.pt" if word == "nano.yaml" else word) for word in world.TRAIN]
    bare.ok(*argv)
    plan = world.plan_of(bare)
    (entry,) = bare.ok("forget", "--subject", "s03")["models"]
    assert bare.ok("verify", "m", "--replay")["valid"]
    alone = tmp_path / "plan.json"
    shutil.copy(plan, alone)
    elsewhere = world.untrained(bare.nursery, tmp_path / "elsewhere", without=["s03"])
    train = ("train", "shop", "--name", "m", "--plan", str(alone))
    assert "initial weights" in elsewhere.refused(*train)["error"]
    again = elsewhere.ok(*train, "--weights", str(bare.folder / "coco.pt"))
    assert again["digest"] == entry["digest"]


def write_checkpoint(architecture: str, target: str) -> None:
    """Write a detector for 80 classes."""
    from expunge.tasks.weights import build_module, open_source, pack

    names = (*(f"class {i}" for i in range(79)), "disc")
    module = build_module("detect", {**open_source(architecture).architecture, "nc": 80}, names)
    Path(target).write_bytes(pack(module, {"task": "detect"}))

# SPDX-License-Identifier: Apache-2.0
"""Models that come from one that saw an erased person: through their start, or as a copy of its weights."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from proof import Story, quiet, train_inline
from safetensors.torch import load_file, save_file

from expunge import pipeline, training
from expunge.catalog import models as catalog
from expunge.catalog.datasets import add_version
from expunge.catalog.models import Published
from expunge.data.scan import scan
from expunge.data.subjects import attach, read_subjects
from expunge.errors import InputError
from expunge.evidence import certificate
from expunge.evidence import verify as evidence
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options
from expunge.purge import run as purging
from expunge.queue import batch
from expunge.queue.batch import Chosen
from expunge.queue.repair import repair
from expunge.steps.settling import holders
from expunge.steps.withdrawal import Withdrawal
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import load_checkpoint, pack, state_of
from expunge.workspace import Workspace

WHO = "p1"


@dataclass
class Family:
    """``m`` saw p1; ``gate`` was trained from m@1 on data without p1, ``lone`` from nothing on the same."""

    folder: Path
    workspace: Workspace

    def newest(self, name: str) -> Published:
        with self.workspace.session() as session:
            return catalog.find_model(session, name)

    def file(self, label: str) -> Path:
        return self.workspace.root / self.newest(label).weights

    def kept(self, label: str = "m@1") -> Path:
        """A copy of a version's file outside of the workspace."""
        return Path(shutil.copy(self.file(label), self.folder / f"kept-{label}.pt"))

    def train(self, name: str, weights: Path, data: str = "other", **options: Any) -> Published:
        how = {"shards": 1, "slices": 1, "epochs": 1, "imgsz": 32, "batch": 4, **options}
        return training.train(
            self.workspace, data, name, options=Options(weights=str(weights), **how), progress=quiet()
        )

    def forget(self, *people: str, **values: Any) -> dict[str, Any]:
        ask = pipeline.Ask(subjects=people or (WHO,), dataset="shop", **values)
        return pipeline.forget(self.workspace, ask, quiet())

    def status(self, path: Path) -> str:
        return str(training.status(self.workspace, path)["status"])

    def verify(self, target: str) -> dict[str, Any]:
        return evidence.verify(self.workspace, target, evidence.Means(), quiet())

    def entries(self, outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {m["parent"].partition("@")[0]: m for m in outcome["models"]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        train_inline(patch)
        world = worlds.classification(folder / "data")
        story = Story(folder, world, "classify", shards=2, slices=1, epochs=1)
        story.begin()
        family = Family(folder, story.workspace)
        other = worlds.classification(folder / "other", without=[WHO])
        table, listed = other.tables()
        found = attach(scan(other.source), read_subjects(table), (str(listed),))
        table.unlink()
        listed.unlink()
        with story.workspace.session(write=True) as session:
            add_version(session, "other", found, key=story.workspace.key)
        family.train("gate", family.file("m"))
        family.train("lone", worlds.tiny_architecture(folder, "classify"))
        story.workspace._engine.dispose()
        yield family


@pytest.fixture
def family(template: Family, tmp_path: Path) -> Family:
    """A copy of it; the data is shared."""
    root = shutil.copytree(template.workspace.root, tmp_path / "w" / ".expunge")
    return Family(tmp_path, Workspace(Path(root)))


def test_a_descendant_is_withdrawn(family: Family) -> None:
    kept, lone = family.kept(), family.newest("lone")
    assert family.status(family.file("gate")) == "current"
    shown = pipeline.dry_run(family.workspace, pipeline.Ask(subjects=(WHO,), dataset="shop"))
    assert [(m["model"], m["method"]) for m in shown["models"]] == [("m@1", "exact"), ("gate@1", "withdraw")]
    assert "m@1" in shown["models"][1]["reason"]
    outcome = family.forget()
    entries = family.entries(outcome)
    assert set(entries) == {"m", "gate"}, "lone never saw p1, nor did its start"
    gate = entries["gate"]
    assert (gate["method"], gate["digest"], gate["guarantee"]) == ("withdraw", None, "none")
    assert outcome["state"] == "executed", "the originals are left, and nothing else"
    assert holders(family.workspace, outcome["request"]) == []
    assert not list((family.workspace.checkpoints / "gate").iterdir())

    assert [family.status(p) for p in (kept, family.file("gate"))] == ["superseded", "superseded"]
    found = family.verify("gate")
    assert not found["valid"]
    assert [c["name"] for c in found["checks"] if c["ok"] is False] == ["gate@1: start"]
    assert family.status(family.file("lone")) == "current"
    assert family.verify("lone")["valid"]
    assert family.newest("lone") == lone

    said = certificate.predicate_of(Path(outcome["certificate"]))
    assert [(m["model"], m["method"]) for m in said["models"]] == [("m@3", "exact"), ("gate@1", "withdraw")]
    assert family.verify(outcome["request"])["valid"]

    words = shlex.split(gate["next"].partition(": ")[2])  # what it advises works
    assert words[:5] == ["expunge", "train", "other", "--name", "gate"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    numbers = {k[2:]: int(v) for k, v in given.items() if k != "--weights"}
    again = family.train("gate", Path(given["--weights"]), **numbers)
    assert (again.label, again.state, again.withdrawn) == ("gate@2", "current", None)
    assert family.status(family.file("gate@2")) == "current"
    assert family.verify("gate")["valid"]
    assert family.entries(family.forget("p2"))["gate"]["parent"] == "gate@2", "m@3 saw p2"


def test_a_plan_says_so_before(family: Family) -> None:
    options = Options(weights=str(family.file("m")), shards=1, slices=1, epochs=1, imgsz=32)
    _, summary = training.plan(family.workspace, "other", options, 1)
    assert any("model m@1 of this workspace" in note for note in summary["notes"])
    fresh = Options(weights=str(worlds.tiny_architecture(family.folder, "classify")), epochs=1, imgsz=32)
    _, summary = training.plan(family.workspace, "other", fresh, 1)
    assert not any("of this workspace" in note for note in summary["notes"])


@pytest.mark.slow
def test_an_erasure_of_others_repairs_it_as_ever(family: Family) -> None:
    """p3 is in both data sets: m saw p3, and gate through it; erased from ``other`` alone it is repaired."""
    ask = pipeline.Ask(subjects=("p3",), dataset="other")
    entries = family.entries(pipeline.forget(family.workspace, ask, quiet()))
    assert {name: m["guarantee"] for name, m in entries.items()} == {"gate": "exact", "lone": "exact"}


@pytest.mark.slow
def test_a_descendant_of_a_descendant(family: Family) -> None:
    family.train("porch", family.file("gate"))
    outcome = family.forget(defer=True)
    assert {n: m["method"] for n, m in family.entries(outcome).items()} == {
        "m": "exact", "gate": "withdraw", "porch": "withdraw",
    }  # fmt: skip
    assert family.status(family.file("porch")) == "superseded"


@pytest.mark.slow
def test_one_that_was_left_out_keeps_the_request_open(family: Family) -> None:
    outcome = family.forget(models=("m",))
    assert set(family.entries(outcome)) == {"m"}
    assert holders(family.workspace, outcome["request"]) == ["gate"]
    assert family.status(family.file("gate")) == "superseded", "it holds p1, whatever is done about it"
    assert not family.verify("gate")["valid"]
    ran = batch.run(family.workspace, Chosen(ids=(outcome["request"],)), quiet())
    assert not ran.failed
    entries = family.entries(ran.outcomes[outcome["request"]])
    assert {n: m["method"] for n, m in entries.items()} == {"m": "exact", "gate": "withdraw"}
    assert holders(family.workspace, outcome["request"]) == []


@pytest.mark.slow
def test_a_killed_command_is_finished(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Withdrawal, "publish_interim", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            family.forget()
    assert family.status(family.file("gate")) == "superseded", "from the moment of the erasure"
    done = repair(family.workspace, (), quiet())
    assert {m["parent"].partition("@")[0]: m["method"] for m in done["models"]}["gate"] == "withdraw"
    (request,) = done["requests"]
    assert request["state"] == "executed"
    assert family.newest("gate").withdrawn == request["request"]
    assert family.verify(request["request"])["valid"]


@pytest.mark.slow
def test_nothing_of_it_is_left_after_a_purge(family: Family) -> None:
    before = state_of(family.file("m@1"))
    family.train("other-classes", family.file("m@1"), "shop")  # its plan has another start file
    family.forget()
    assert tensors_of(family.workspace.root, before), "the negative control: the search finds them"
    purging.purge(family.workspace, purging.Ask())
    assert tensors_of(family.workspace.root, before) == []


def tensors_of(root: Path, state: dict[str, torch.Tensor]) -> list[str]:
    """The files below a folder that hold most of the weights of a state (not what it started from)."""
    found = []
    for path in root.rglob("*"):
        if path.suffix == ".pt":
            held = state_of(path)
        elif path.suffix in (".safetensors", ".weights", ".partial"):
            held = {k.rpartition("/")[2]: v for k, v in load_file(str(path)).items()}
        else:
            continue
        wide = [k for k, v in state.items() if v.ndim >= 2]
        same = sum(k in held and torch.equal(held[k].float(), state[k]) for k in wide)
        if same > len(wide) // 2:
            found.append(path.name)
    return found


@pytest.mark.slow
def test_an_erasure_while_it_is_trained(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ErasableModel.weights

    def erase_first(model: ErasableModel, composition: Any) -> Any:
        if model.name == "late":
            monkeypatch.setattr(ErasableModel, "weights", weights)
            family.forget()
        return weights(model, composition)

    monkeypatch.setattr(ErasableModel, "weights", erase_first)
    with pytest.raises(InputError, match="saw what was erased while the model was trained"):
        family.train("late", family.file("m@1"))
    purging.purge(family.workspace, purging.Ask())
    assert not list((family.workspace.checkpoints / "late").iterdir())


@pytest.mark.slow
def test_no_training_begins_from_it_afterwards(family: Family) -> None:
    kept, halved = family.kept(), family.folder / "halved.pt"
    load_ultralytics().YOLO(kept).save(halved)
    gate = plan_file(family.workspace, family.newest("gate").plan_digest or "")
    family.forget()
    for weights in (kept, halved, family.file("gate@1")):
        with pytest.raises(InputError, match="saw what was erased"):
            family.train("again", weights)
    for plan in (gate, shutil.copytree(gate.parent, family.folder / "plan") / "plan.json"):
        with pytest.raises(InputError, match="saw what was erased"):
            training.train(family.workspace, "other", "again", from_plan=plan, progress=quiet())
    assert family.train("again", family.file("m@3")).state == "current"


VARIANTS = ("copy", "halved", "renamed", "beside another EMA", "fine-tuned", "fine-tuned, its start is gone")


def some(fast: str) -> list[Any]:
    """All variants, of which one is tried in every run."""
    return [kind if kind == fast else pytest.param(kind, marks=pytest.mark.slow) for kind in VARIANTS]


def variant(family: Family, kind: str) -> Path:
    """A file that holds the tensors of m@1, or was trained from them, in one of several ways."""
    source, target = family.file("m@1"), family.folder / "variant.pt"
    module = load_checkpoint(source)
    args = dict(module.args)
    if kind == "copy":
        shutil.copy(source, target)
    elif kind == "halved":
        load_ultralytics().YOLO(source).save(target)
    elif kind == "renamed":
        target.write_bytes(pack(module, {**args, "project": "elsewhere"}))
    elif kind == "beside another EMA":
        checkpoint = torch.load(source, weights_only=False)
        checkpoint["ema"] = moved(load_checkpoint(source))
        torch.save(checkpoint, target)
    else:
        start = family.kept() if kind == "fine-tuned" else source
        target.write_bytes(pack(moved(module), {**args, "model": str(start)}))
    return target


def moved(module: Any) -> Any:
    """The model after a training step, as it were."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.25)
    return module


@pytest.mark.parametrize("kind", some("halved"))
def test_adopted_before(family: Family, kind: str) -> None:
    training.adopt(family.workspace, variant(family, kind), "other", "taken")
    file = family.file("taken")
    assert family.status(file) == "current"
    entry = family.entries(family.forget())["taken"]
    assert (entry["method"], entry["guarantee"]) == ("withdraw", "none")
    assert family.status(file) == "superseded"
    assert not family.verify("taken")["valid"]


@pytest.mark.parametrize("kind", some("fine-tuned"))
def test_adopted_after(family: Family, kind: str) -> None:
    file = variant(family, kind)
    family.forget()
    if kind.endswith("gone"):
        purging.purge(family.workspace, purging.Ask())
        assert not (family.workspace.root / "models" / "m" / "m-1.pt").exists()
    assert family.status(file) == "superseded" or kind.startswith("fine-tuned")
    for data, name in (("other", "taken"), ("shop", "m"), ("shop@1", "taken")):
        with pytest.raises(InputError, match="saw what was erased"):
            training.adopt(family.workspace, file, data, name)
    stranger = family.folder / "stranger.pt"  # the negative control
    module = moved(load_checkpoint(family.file("lone")))
    stranger.write_bytes(pack(module, dict(module.args)))
    assert training.adopt(family.workspace, stranger, "other", "taken").state == "current"


@pytest.mark.slow
def test_a_safetensors_file_is_known_by_its_tensors(family: Family) -> None:
    file = family.folder / "m.safetensors"
    save_file({k: v.contiguous() for k, v in state_of(family.file("m@1")).items()}, file)
    assert family.status(file) == "unknown", "no file of ours, though its tensors are"
    family.forget()
    assert family.status(file) == "superseded"


def test_a_copy_on_the_same_data_is_unlearned_like_any_other(family: Family) -> None:
    training.adopt(family.workspace, family.kept(), "shop", "old")
    ask = pipeline.Ask(subjects=(WHO,), dataset="shop", method="finetune")
    shown = pipeline.dry_run(family.workspace, ask)
    assert {m["model"]: m["method"] for m in shown["models"]} == {
        "m@1": "exact", "old@1": "finetune", "gate@1": "withdraw",
    }  # fmt: skip


@pytest.mark.slow
def test_data_erased_since_is_known_by_the_version_that_is_named(family: Family) -> None:
    """Nobody knows these weights: what they are said to have been trained on tells."""
    stranger = family.folder / "stranger.pt"
    module = moved(load_checkpoint(family.file("lone")))
    stranger.write_bytes(pack(module, dict(module.args)))
    family.forget()
    assert training.adopt(family.workspace, stranger, "shop@1", "late").state == "superseded"
    stranger.write_bytes(pack(moved(module), dict(module.args)))
    assert training.adopt(family.workspace, stranger, "shop", "fine").state == "current"


@pytest.mark.slow
def test_superseded_under_one_name_is_not_current_under_another(family: Family) -> None:
    kept = family.kept("lone@1")
    family.train("lone", worlds.tiny_architecture(family.folder, "classify"), seed=5)
    assert family.status(kept) == "superseded"
    with pytest.raises(InputError, match="is lone@1, which is superseded"):
        training.adopt(family.workspace, kept, "other", "taken")
    assert training.adopt(family.workspace, kept, "other", "lone").label == "lone@3"
    assert family.status(kept) == "current", "one may go back, under the same name"


def rest_changed(family: Family, kind: str) -> bytes:
    path = family.file("lone")
    module = load_checkpoint(path)
    args = dict(module.args)
    if kind == "class names":
        module.names = {i: f"another {i}" for i in module.names}
    elif kind == "activation":
        for child in module.modules():
            for name, inner in child.named_children():
                if isinstance(inner, torch.nn.SiLU):
                    setattr(child, name, torch.nn.ReLU())
    elif kind == "bytes at the end":
        return path.read_bytes() + b"payload"
    return pack(module, args)


@pytest.mark.parametrize("kind", ["class names", "activation", "bytes at the end"])
def test_right_tensors_in_a_changed_file(family: Family, kind: str) -> None:
    path, before = family.file("lone"), family.file("lone").read_bytes()
    changed = rest_changed(family, kind)
    assert changed != before
    path.write_bytes(changed)
    found = training.status(family.workspace, path)
    assert (found["status"], found["model"]) == ("unknown", None)
    assert "lone@1" in found["reason"]
    checks = {c["name"]: c["ok"] for c in family.verify("lone")["checks"]}
    assert checks["lone@1: weights"] is True
    assert checks["lone@1: bytes"] is False
    assert not family.verify("lone")["valid"]
    path.write_bytes(before)
    assert family.status(path) == "current"
    assert family.verify("lone")["valid"]

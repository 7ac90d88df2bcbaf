# SPDX-License-Identifier: Apache-2.0
"""Descendants of a model that was trained on an erased subject, by start or as a copy, are withdrawn."""

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

from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version
from expunge.catalog.model_store import ModelVersion
from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.erasure import execution, scheduler
from expunge.erasure.closing import models_holding
from expunge.erasure.repair import repair
from expunge.erasure.scheduler import QueueSelection
from expunge.erasure.withdrawal import Withdrawal
from expunge.errors import InputError
from expunge.evidence import certificates, verifier
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options
from expunge.models import training
from expunge.purge import run
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import load_checkpoint, pack, state_of
from expunge.workspace import Workspace

WHO = "p1"


@dataclass
class Family:
    """``m`` was trained on p1; on data without p1, ``gate`` was trained from m@1, ``lone`` from scratch."""

    folder: Path
    workspace: Workspace

    def newest(self, name: str) -> ModelVersion:
        with self.workspace.session() as session:
            return model_store.find_model(session, name)

    def file(self, label: str) -> Path:
        return self.workspace.root / self.newest(label).weights

    def kept(self, label: str = "m@1") -> Path:
        """Return a copy of a version's file outside the workspace."""
        return Path(shutil.copy(self.file(label), self.folder / f"kept-{label}.pt"))

    def train(self, name: str, weights: Path, data: str = "other", **options: Any) -> ModelVersion:
        values = {"shards": 1, "slices": 1, "epochs": 1, "imgsz": 32, "batch": 4, **options}
        return training.train(
            self.workspace, data, name, options=Options(weights=str(weights), **values), progress=quiet()
        )

    def forget(self, *people: str, **values: Any) -> dict[str, Any]:
        request = execution.ErasureRequest(subjects=people or (WHO,), dataset="shop", **values)
        return execution.forget(self.workspace, request, quiet())

    def status(self, path: Path) -> str:
        return str(training.status(self.workspace, path)["status"])

    def verify(self, target: str) -> dict[str, Any]:
        return verifier.verify(self.workspace, target, verifier.VerifyOptions(), quiet())

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
        found = attach_subjects(scan(other.source), read_subjects(table), (str(listed),))
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
    """Return a copy of the workspace; the data is shared."""
    root = shutil.copytree(template.workspace.root, tmp_path / "w" / ".expunge")
    return Family(tmp_path, Workspace(Path(root)))


def test_descendant_is_withdrawn(family: Family) -> None:
    kept, lone = family.kept(), family.newest("lone")
    assert family.status(family.file("gate")) == "current"
    preview = execution.dry_run(family.workspace, execution.ErasureRequest(subjects=(WHO,), dataset="shop"))
    predicted = {m["model"]: m["method"] for m in preview["models"]}
    assert predicted == {"m@1": "exact", "gate@1": "withdraw"}
    assert "m@1" in preview["models"][1]["reason"]
    outcome = family.forget()
    entries = family.entries(outcome)
    assert set(entries) == {"m", "gate"}, "neither lone nor its start was trained on p1"
    gate = entries["gate"]
    assert (gate["method"], gate["digest"], gate["guarantee"]) == ("withdraw", None, "none")
    assert outcome["state"] == "executed", "only the originals are left"
    assert models_holding(family.workspace, outcome["request"]) == []
    assert not list((family.workspace.checkpoints / "gate").iterdir())

    assert [family.status(p) for p in (kept, family.file("gate"))] == ["superseded", "superseded"]
    found = family.verify("gate")
    assert not found["valid"]
    assert [c["name"] for c in found["checks"] if c["ok"] is False] == ["gate@1: start"]
    assert family.status(family.file("lone")) == "current"
    assert family.verify("lone")["valid"]
    assert family.newest("lone") == lone

    certified = certificates.predicate_of(Path(outcome["certificate"]))["models"]
    assert [(m["model"], m["method"]) for m in certified] == [("m@3", "exact"), ("gate@1", "withdraw")]
    assert family.verify(outcome["request"])["valid"]

    words = shlex.split(gate["next"].partition(": ")[2])  # the advised command works
    assert words[:5] == ["expunge", "train", "other", "--name", "gate"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    numbers = {k[2:]: int(v) for k, v in given.items() if k != "--weights"}
    again = family.train("gate", Path(given["--weights"]), **numbers)
    assert (again.label, again.state, again.withdrawn) == ("gate@2", "current", None)
    assert family.status(family.file("gate@2")) == "current"
    assert family.verify("gate")["valid"]
    assert family.entries(family.forget("p2"))["gate"]["parent"] == "gate@2", "m@3 was trained on p2"


def test_plan_notes_a_start_from_a_model_of_the_workspace(family: Family) -> None:
    options = Options(weights=str(family.file("m")), shards=1, slices=1, epochs=1, imgsz=32)
    _, summary = training.plan(family.workspace, "other", options, 1)
    assert any("model m@1 of this workspace" in note for note in summary["notes"])
    fresh = Options(weights=str(worlds.tiny_architecture(family.folder, "classify")), epochs=1, imgsz=32)
    _, summary = training.plan(family.workspace, "other", fresh, 1)
    assert not any("of this workspace" in note for note in summary["notes"])


@pytest.mark.slow
def test_erasure_from_its_own_dataset_repairs_a_descendant(family: Family) -> None:
    """p3 is in both datasets. Erased from ``other`` alone, ``gate`` is repaired and not withdrawn."""
    request = execution.ErasureRequest(subjects=("p3",), dataset="other")
    entries = family.entries(execution.forget(family.workspace, request, quiet()))
    assert {name: m["guarantee"] for name, m in entries.items()} == {"gate": "exact", "lone": "exact"}


@pytest.mark.slow
def test_descendant_of_a_descendant_is_withdrawn(family: Family) -> None:
    family.train("porch", family.file("gate"))
    outcome = family.forget(defer=True)
    assert {n: m["method"] for n, m in family.entries(outcome).items()} == {
        "m": "exact", "gate": "withdraw", "porch": "withdraw",
    }  # fmt: skip
    assert family.status(family.file("porch")) == "superseded"


@pytest.mark.slow
def test_left_out_descendant_keeps_the_request_open(family: Family) -> None:
    outcome = family.forget(models=("m",))
    assert set(family.entries(outcome)) == {"m"}
    assert models_holding(family.workspace, outcome["request"]) == ["gate"]
    assert family.status(family.file("gate")) == "superseded", "it holds p1 all the same"
    assert not family.verify("gate")["valid"]
    ran = scheduler.run(family.workspace, QueueSelection(ids=(outcome["request"],)), quiet())
    assert not ran.failed
    entries = family.entries(ran.outcomes[outcome["request"]])
    assert {n: m["method"] for n, m in entries.items()} == {"m": "exact", "gate": "withdraw"}
    assert models_holding(family.workspace, outcome["request"]) == []


@pytest.mark.slow
def test_interrupted_withdrawal_is_finished(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_purge_deletes_all_files_with_its_weights(family: Family) -> None:
    before = state_of(family.file("m@1"))
    family.train("other-classes", family.file("m@1"), "shop")  # its plan has another start file
    family.forget()
    assert tensors_of(family.workspace.root, before), "the negative control: the search finds them"
    run.purge(family.workspace, run.PurgeOptions())
    assert tensors_of(family.workspace.root, before) == []


def tensors_of(root: Path, state: dict[str, torch.Tensor]) -> list[str]:
    """Return the files below a folder that hold more than half of the weight tensors of a state."""
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
def test_erasure_during_the_training_of_a_descendant(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ErasableModel.weights

    def erase_first(model: ErasableModel, composition: Any) -> Any:
        if model.name == "late":
            monkeypatch.setattr(ErasableModel, "weights", weights)
            family.forget()
        return weights(model, composition)

    monkeypatch.setattr(ErasableModel, "weights", erase_first)
    with pytest.raises(InputError, match="was trained on data that was erased while the model was trained"):
        family.train("late", family.file("m@1"))
    run.purge(family.workspace, run.PurgeOptions())
    assert not list((family.workspace.checkpoints / "late").iterdir())


@pytest.mark.slow
def test_no_training_starts_from_it_afterwards(family: Family) -> None:
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


def variants(fast: str) -> list[Any]:
    """Return all variants, all but one marked as slow."""
    return [kind if kind == fast else pytest.param(kind, marks=pytest.mark.slow) for kind in VARIANTS]


def variant(family: Family, kind: str) -> Path:
    """Return a file with the tensors of m@1, or trained from them, in one of several ways."""
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
        checkpoint["ema"] = scaled(load_checkpoint(source))
        torch.save(checkpoint, target)
    else:
        start = family.kept() if kind == "fine-tuned" else source
        target.write_bytes(pack(scaled(module), {**args, "model": str(start)}))
    return target


def scaled(module: Any) -> Any:
    """Scale all parameters of a model, to imitate a training step, and return it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.25)
    return module


@pytest.mark.parametrize("kind", variants("halved"))
def test_variant_adopted_before_the_erasure_is_withdrawn(family: Family, kind: str) -> None:
    training.adopt(family.workspace, variant(family, kind), "other", "taken")
    file = family.file("taken")
    assert family.status(file) == "current"
    entry = family.entries(family.forget())["taken"]
    assert (entry["method"], entry["guarantee"]) == ("withdraw", "none")
    assert family.status(file) == "superseded"
    assert not family.verify("taken")["valid"]


@pytest.mark.parametrize("kind", variants("fine-tuned"))
def test_variant_is_refused_after_the_erasure(family: Family, kind: str) -> None:
    file = variant(family, kind)
    family.forget()
    if kind.endswith("gone"):
        run.purge(family.workspace, run.PurgeOptions())
        assert not (family.workspace.root / "models" / "m" / "m-1.pt").exists()
    assert family.status(file) == "superseded" or kind.startswith("fine-tuned")
    for data, name in (("other", "taken"), ("shop", "m"), ("shop@1", "taken")):
        with pytest.raises(InputError, match="saw what was erased"):
            training.adopt(family.workspace, file, data, name)
    stranger = family.folder / "stranger.pt"  # negative control
    module = scaled(load_checkpoint(family.file("lone")))
    stranger.write_bytes(pack(module, dict(module.args)))
    assert training.adopt(family.workspace, stranger, "other", "taken").state == "current"


@pytest.mark.slow
def test_safetensors_file_is_recognised_by_its_tensors(family: Family) -> None:
    file = family.folder / "m.safetensors"
    save_file({k: v.contiguous() for k, v in state_of(family.file("m@1")).items()}, file)
    assert family.status(file) == "unknown", "its tensors were published, the file was not"
    family.forget()
    assert family.status(file) == "superseded"


def test_copy_on_the_same_data_is_unlearned(family: Family) -> None:
    training.adopt(family.workspace, family.kept(), "shop", "old")
    request = execution.ErasureRequest(subjects=(WHO,), dataset="shop", method="finetune")
    methods = {m["model"]: m["method"] for m in execution.dry_run(family.workspace, request)["models"]}
    assert methods == {"m@1": "exact", "old@1": "finetune", "gate@1": "withdraw"}


@pytest.mark.slow
def test_dataset_version_decides_whether_unknown_weights_hold_erased_data(family: Family) -> None:
    """Weights adopted for a dataset version with erased samples are superseded at once."""
    stranger = family.folder / "stranger.pt"
    module = scaled(load_checkpoint(family.file("lone")))
    stranger.write_bytes(pack(module, dict(module.args)))
    family.forget()
    assert training.adopt(family.workspace, stranger, "shop@1", "late").state == "superseded"
    stranger.write_bytes(pack(scaled(module), dict(module.args)))
    assert training.adopt(family.workspace, stranger, "shop", "fine").state == "current"


@pytest.mark.slow
def test_superseded_weights_cannot_be_adopted_under_another_name(family: Family) -> None:
    kept = family.kept("lone@1")
    family.train("lone", worlds.tiny_architecture(family.folder, "classify"), seed=5)
    assert family.status(kept) == "superseded"
    with pytest.raises(InputError, match="is lone@1, which is superseded"):
        training.adopt(family.workspace, kept, "other", "taken")
    assert training.adopt(family.workspace, kept, "other", "lone").label == "lone@3"
    assert family.status(kept) == "current", "they can be adopted again under the same name"


def changed_file(family: Family, kind: str) -> bytes:
    """Return the weights file of ``lone`` with the same tensors and one other change."""
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
def test_changed_file_with_the_same_tensors_is_unknown(family: Family, kind: str) -> None:
    path, before = family.file("lone"), family.file("lone").read_bytes()
    changed = changed_file(family, kind)
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

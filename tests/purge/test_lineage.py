# SPDX-License-Identifier: Apache-2.0
"""The lineage of a subject agrees with the graph of the whole training."""

from __future__ import annotations

import pytest
from purge.conftest import PEOPLE, World

from expunge.catalog import derivatives, model_store
from expunge.errors import InputError
from expunge.exact.composition import complete_composition
from expunge.models.lineage import lineage


@pytest.mark.parametrize("who", PEOPLE)
def test_lineage_agrees_with_the_graph(world: World, who: str) -> None:
    world.train()
    model = world.model()
    world.publish(composition=complete_composition(model.graph).as_json())
    found = lineage(world.workspace, "shop", who)
    assert [s["path"] for s in found["samples"]] == [f"train/{who}_{k}.png" for k in range(3)]
    assert (found["versions"], found["splits"]) == (["shop@1"], {"train": 3})
    (entry,) = found["models"]
    saw = [n for n in model.graph.nodes if any(who in s.subjects for s in n.samples)]
    assert {c["key"] for c in entry["checkpoints"]} == {n.key for n in saw}
    first = min((n for n in saw if n.phase == "shard"), key=lambda n: n.stage)
    assert entry["homes"] == [{"shard": first.shard, "slice": first.stage - 1, "samples": 3}]
    assert (entry["model"], entry["saw"]) == ("m@1", 3)


def test_interim_model_without_later_slices_does_not_hold_their_subjects(world: World) -> None:
    model = world.model()
    late = {
        who
        for who in PEOPLE
        for chain in model.graph.shards.values()
        if any(who in s.subjects for s in chain[-1].samples)
        and not any(who in s.subjects for n in chain[:-1] for s in n.samples)
    }
    assert late, "the plan places some subjects in a last slice"
    stages = {str(shard): chain[0].stage for shard, chain in model.graph.shards.items()}
    world.publish(composition={"stages": stages, "polish": False, "public": False})
    saw = {who: lineage(world.workspace, "shop", who)["models"] for who in PEOPLE}
    assert {who for who, models in saw.items() if not models} >= late - {
        who for who in late if len(model.graph.shards) and _only_stage(model, who)
    }
    assert any(models for models in saw.values())


def _only_stage(model: object, who: str) -> bool:
    """Return whether a subject is in a shard with a single stage, which is both first and last."""
    shards = model.graph.shards.values()  # type: ignore[attr-defined]
    return any(len(chain) == 1 and any(who in s.subjects for s in chain[0].samples) for chain in shards)


def test_exports_trees_and_adopted_models(world: World) -> None:
    world.publish(adopted=True)
    with world.workspace.session(write=True) as session:
        derivatives.add_model_export(
            session, ["0" * 64], model_version_id=model_store.find_model(session, "m").id, format="onnx",
            path="elsewhere/m.onnx", size_bytes=1, images=1, difference=0.0, tolerance=0.1,
        )  # fmt: skip
        derivatives.add_data_export(session, "d-1", 1, 1, "elsewhere/tree")
    found = lineage(world.workspace, "shop", "s03")
    (model,) = found["models"]
    assert (model["saw"], model["homes"]) == (3, [])
    assert [e["path"] for e in model["exports"]] == ["elsewhere/m.onnx"]
    assert [t["path"] for t in found["data_exports"]] == ["elsewhere/tree"]


def test_lineage_of_erased_and_unknown_subjects(world: World) -> None:
    world.publish(adopted=True)
    world.erase("s03", request="r-1")
    found = lineage(world.workspace, "shop", "s03")
    assert (found["samples"], found["models"], found["already_erased_by"]) == ([], [], "r-1")
    assert lineage(world.workspace, "shop", "s02")["versions"] == ["shop@1", "shop@2"]
    with pytest.raises(InputError, match="Unknown: 'nobody'"):
        lineage(world.workspace, "shop", "nobody")

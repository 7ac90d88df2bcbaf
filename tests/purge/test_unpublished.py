# SPDX-License-Identifier: Apache-2.0
"""An erasure destroys the checkpoints of an interrupted training that hold erased data, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from purge.conftest import World
from sqlalchemy.orm import Session

from expunge.catalog import model_store
from expunge.catalog.dataset_store import get_version, load_samples
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options, make_plan
from expunge.exact.unpublished import destroy_unpublished
from expunge.progress import Progress
from expunge.storage.locks import model_lock
from expunge.training.plan import Plan


def begin(session: Session, plan: Plan) -> None:
    """Record the beginning of a training of ``m``."""
    model_id = model_store.ensure_model(session, "m", "detect")
    model_store.begin_training(session, model_id, 1, 1, plan.digest)


def second_plan(world: World) -> Plan:
    """Record another plan in the catalog and return it."""
    with world.workspace.session() as session:
        version = get_version(session, "shop", 1)
        samples = load_samples(session, version)
    options = Options("yolo26n.yaml", shards=3, slices=1, epochs=2, imgsz=32)
    plan = make_plan(options, version, samples, {})[0]
    file = plan_file(world.workspace, plan.digest)
    plan.save(file)
    with world.workspace.session(write=True) as session:
        model_store.record_plan(session, plan.digest, str(file.relative_to(world.workspace.root)))
    return plan


def needed(world: World, plan: Plan) -> set[Path]:
    """Return the checkpoint files of a plan's training on the data retained now."""
    made = ErasableModel.of_plan(world.workspace, "m", plan.digest, ("shop", 1), Progress(quiet=True))
    return {made.store.path(node.key) for node in made.graph.nodes}


@pytest.mark.parametrize("held", [True, False])
def test_checkpoints_of_an_interrupted_retraining_are_destroyed(world: World, held: bool) -> None:
    """They are destroyed even if the published model needs no update."""
    world.publish()
    published = set(world.train())
    first, second = world.plan, second_plan(world)
    world.plan = second
    killed = set(world.train())
    with world.workspace.session(write=True) as session:
        begin(session, second)
    destroy_unpublished(world.workspace)
    assert all(file.is_file() for file in published | killed), "nothing was erased"

    world.erase("s03")
    clean = (needed(world, first) & published) | (needed(world, second) & killed)
    assert killed - clean, "some checkpoints hold erased data"
    if held:
        with model_lock(world.workspace.locks, "m", "forget"):
            destroy_unpublished(world.workspace, {"m"})
    else:
        destroy_unpublished(world.workspace)
    remaining = {file for file in published | killed if file.is_file()}
    assert remaining == clean, "checkpoints that the published model needs are kept"


def test_published_training_is_not_unpublished(world: World) -> None:
    world.publish()
    other = second_plan(world)
    with world.workspace.session(write=True) as session:
        begin(session, world.plan)
        assert model_store.unpublished_trainings(session) == []
        begin(session, other)
        assert [b.plan_digest for b in model_store.unpublished_trainings(session)] == [other.digest]


def test_all_checkpoints_are_destroyed_if_the_plan_is_missing(world: World) -> None:
    world.publish()
    published = set(world.train())
    first, world.plan = world.plan, second_plan(world)
    killed = set(world.train())
    with world.workspace.session(write=True) as session:
        begin(session, world.plan)
    plan_file(world.workspace, world.plan.digest).unlink()
    world.erase("s03")
    destroy_unpublished(world.workspace)
    assert {f for f in published | killed if f.is_file()} == needed(world, first) & published

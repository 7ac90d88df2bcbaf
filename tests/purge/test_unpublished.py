# SPDX-License-Identifier: Apache-2.0
"""A training that was killed saw people all the same: an erasure reaches its checkpoints, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest
from purge.conftest import World
from sqlalchemy.orm import Session

from expunge.catalog import models as catalog
from expunge.catalog.datasets import get_version, load_samples
from expunge.catalog.locks import model_lock
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.plan import Plan
from expunge.exact.planner import Options, make_plan
from expunge.exact.unpublished import destroy_unpublished
from expunge.progress import Progress


def begin(session: Session, plan: Plan) -> None:
    model_id = catalog.ensure_model(session, "m", "detect")
    catalog.begin_training(session, model_id, 1, 1, plan.digest)


def another(world: World) -> Plan:
    """A second plan for the same model, which the catalog knows."""
    with world.workspace.session() as session:
        version = get_version(session, "shop", 1)
        samples = load_samples(session, version)
    options = Options("yolo26n.yaml", shards=3, slices=1, epochs=2, imgsz=32)
    plan = make_plan(options, version, samples, {})[0]
    file = plan_file(world.workspace, plan.digest)
    plan.save(file)
    with world.workspace.session(write=True) as session:
        catalog.record_plan(session, plan.digest, str(file.relative_to(world.workspace.root)))
    return plan


def needed(world: World, plan: Plan) -> set[Path]:
    """The checkpoints of a plan's training on what is retained now."""
    made = ErasableModel.of_plan(world.workspace, "m", plan.digest, ("shop", 1), Progress(quiet=True))
    return {made.store.path(node.key) for node in made.graph.nodes}


@pytest.mark.parametrize("held", [True, False])
def test_a_killed_retraining_of_a_published_model(world: World, held: bool) -> None:
    """The published model never saw the person, or has forgotten already: nobody else looks after it."""
    world.publish()
    published = set(world.train())
    first, second = world.plan, another(world)
    world.plan = second
    killed = set(world.train())
    with world.workspace.session(write=True) as session:
        begin(session, second)
    destroy_unpublished(world.workspace)
    assert all(file.is_file() for file in published | killed), "nobody was erased"

    world.erase("s03")
    clean = (needed(world, first) & published) | (needed(world, second) & killed)
    assert killed - clean, "the test is about something"
    if held:
        with model_lock(world.workspace.locks, "m", "forget"):
            destroy_unpublished(world.workspace, {"m"})
    else:
        destroy_unpublished(world.workspace)
    left = {file for file in published | killed if file.is_file()}
    assert left == clean, "what the published model goes on from is kept"


def test_what_is_published_is_no_killed_training(world: World) -> None:
    world.publish()
    other = another(world)
    with world.workspace.session(write=True) as session:
        begin(session, world.plan)
        assert catalog.unpublished(session) == []
        begin(session, other)
        assert [b.plan_digest for b in catalog.unpublished(session)] == [other.digest]


def test_without_its_plan_all_of_it_goes(world: World) -> None:
    world.publish()
    published = set(world.train())
    first, world.plan = world.plan, another(world)
    killed = set(world.train())
    with world.workspace.session(write=True) as session:
        begin(session, world.plan)
    plan_file(world.workspace, world.plan.digest).unlink()
    world.erase("s03")
    destroy_unpublished(world.workspace)
    assert {f for f in published | killed if f.is_file()} == needed(world, first) & published

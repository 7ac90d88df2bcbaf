# SPDX-License-Identifier: Apache-2.0
"""What the interim model loses until the repair, for several (S, R) and positions of the subject.

    python -m benchmarks interim_accuracy --task classify

Trainings are those of the frontier (with ``--work`` its checkpoints are used again). For each position and
shard one person is forgotten: the interim model is chosen by the code that ``forget`` runs, from the same
checkpoints, with the validation pictures as public judges. One person for each position is also repaired.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.configs import SUITES, Config, Suite
from benchmarks.frontier import data
from benchmarks.grid import INTERIM, SEEDS
from benchmarks.harness import Cache, append, content_keys, records, split, train, workplace
from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version, get_version
from expunge.data.types import Scan
from expunge.exact.composition import Composition, complete_composition, interim_candidates
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.placement import Place, place_sample
from expunge.exact.runner import write_weights
from expunge.storage.hashing import tensor_digest
from expunge.tasks.base import get_task
from expunge.training.plan import Plan
from expunge.workspace import Workspace


def positions(slices: int) -> dict[str, int]:
    """Return the slices in which a forgotten person may live, by name."""
    return {"early": 0, "middle": slices // 2, "late": slices - 1} if slices > 1 else {"only": 0}


def homes(plan: Plan, found: Scan) -> dict[Place, list[str]]:
    """Return the private people of every home, by name; whoever has several homes is left out."""
    places: dict[str, set[Place]] = {}
    for sample in found.samples:
        if sample.split == "train" and not sample.public:
            for person in sample.subjects:
                places.setdefault(person, set()).add(place_sample(plan, sample, {}))
    result: dict[Place, list[str]] = {}
    for person, where in sorted(places.items()):
        if len(where) == 1:
            result.setdefault(next(iter(where)), []).append(person)
    return result


def open_model(folder: Path, plan: Plan, found: Scan) -> tuple[ErasableModel, int]:
    """Return a model in a workspace of its own, and its row in the catalog."""
    initial = get_task(plan.task).initial(plan)
    start = plan.initial.model_copy(update={"tensors": tensor_digest(initial)})
    plan = plan.model_copy(update={"initial": start})
    workspace = Workspace.init(folder)
    judged = replace(
        found, samples=tuple(replace(s, public=s.public or s.split == "val") for s in found.samples)
    )
    with workspace.session(write=True) as session:
        add_version(session, "data", judged, key=workspace.key)
        model_id = model_store.ensure_model(session, "m", plan.task)
    with workspace.session() as session:
        version = get_version(session, "data")
    model = ErasableModel(workspace, "m", plan, version, list(judged.samples), {})
    plan.save(plan_file(workspace, plan.digest))
    write_weights(model.initial, initial)
    return model, model_id


def scorer(suite: Suite, found: Scan) -> Callable[[ErasableModel, Composition], float]:
    """Return a function that scores a composition on the test split, and each set of checkpoints once."""
    known: dict[tuple[str, ...], float] = {}

    def score(model: ErasableModel, composition: Composition) -> float:
        chosen = tuple(
            node.key
            for shard, stage in sorted(composition.stages.items())
            for node in model.graph.shards[shard]
            if node.stage == stage
        )
        if chosen not in known:
            known[chosen] = model.measure(model.weights(composition), split(found, "test"))[suite.metric]
        return known[chosen]

    return score


def measure(suite: Suite, config: Config, work: Path, out: Path, seed: int, cache: Cache) -> None:
    """Forget one person for each position and shard; repair one for each position."""
    if any(r["name"] == config.name and r["seed"] == seed for r in records(out)):
        return
    found = data(suite.task, config.public, work)
    trained = train(suite, config, found, seed, work, cache)
    folder = work / "interim"
    shutil.rmtree(folder, ignore_errors=True)
    model, model_id = open_model(folder, trained.plan, found)
    cache.fill(content_keys(model.plan, model.graph), model.store)
    score, places = scorer(suite, found), homes(model.plan, found)
    before = score(model, complete_composition(model.graph))
    lines = []
    for position, slice_ in positions(config.slices).items():
        repaired = False
        for k in range(config.shards):
            shard = (seed + k) % config.shards
            people = places.get(Place(shard, slice_))
            if not people:
                continue
            gone = {(s.path, s.arrived) for s in model.samples if people[0] in s.subjects}
            after = model.without(gone)
            candidates = interim_candidates(after.graph, after.store, after.plan)
            began = time.process_time()
            chosen = after.choose_interim()
            seconds = time.process_time() - began
            if chosen is None:
                raise RuntimeError("nothing is left to publish")
            line = {
                "kind": "interim", "name": config.name, "seed": seed, "shards": config.shards,
                "slices": config.slices, "position": position, "shard": shard, "before": before,
                "others": score(after, candidates[0]), "interim": score(after, chosen),
                "include": score(after, candidates[1]) if len(candidates) > 1 else None,
                "chosen": "others" if chosen == candidates[0] else "include",
                "choosing_cpu_seconds": round(seconds, 2), "after": None,
            }  # fmt: skip
            if not repaired:
                line["repair_cpu_seconds"] = round(after.train(model_id, after.graph, "repair"), 2)
                line["after"] = score(after, complete_composition(after.graph))
                repaired = True
            lines.append(line)
    shutil.rmtree(folder)
    for line in lines:
        append(out, line)
        print(line, flush=True)


def main() -> None:
    """Measure what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=sorted(SUITES), default="classify")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS["declared"])
    parser.add_argument("--only", default="", help="run only what has this in its name")
    parser.add_argument("--out", type=Path, help="JSON lines; what it holds is not run again")
    parser.add_argument("--work", type=Path, help="folder with the frontier's data and checkpoints")
    arguments = parser.parse_args()
    suite = SUITES[arguments.task]
    out = arguments.out or Path(__file__).parent / "results" / f"interim_{suite.task}.jsonl"
    with workplace(arguments.work) as (work, cache):
        for seed in arguments.seeds:
            for config in INTERIM[suite.task]:
                if arguments.only in config.name:
                    measure(suite, config, work, out, seed, cache)


if __name__ == "__main__":
    main()

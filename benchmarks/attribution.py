# SPDX-License-Identifier: Apache-2.0
"""How well harm is attributed: rank correlation with retraining, and how many planted errors are named.

    python -m benchmarks attribution --out benchmarks/results/bias

Digits of ten contributors, of whom two label half of their pictures wrongly, or, for the precision of the
label errors, all err a little. Target: the mean loss on 400 validation samples. Truth: by how much it
falls when a sample, or a contributor, is left out of the training, averaged over initial weights for the
network (a softmax regression has but one optimum). The control is the same estimate, shuffled: its mean over
the seeds, and the highest of 100 such means. Intervals: percentile bootstrap over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch.utils.data import Subset, TensorDataset

from benchmarks.leave_out import Problem, Recipe, module_of, problem, task, train, truth
from expunge.bias.attribution.checkpoints import features_of
from expunge.bias.attribution.gradients import gradients_of, sketch_for
from expunge.bias.attribution.label_errors import cross_validated, self_confidence
from expunge.bias.attribution.tracin import Visit, tracin
from expunge.bias.attribution.trak import trak

RECIPES = {
    "softmax regression": (Recipe(hidden=0, steps=200), 1),
    "network": (Recipe(hidden=16, steps=200, rate=0.1, decay=1e-3), 4),
}
SAMPLES = {"softmax regression": 150, "network": 100}
CONTRIBUTORS = 10
DRAWS = 100
Floats = NDArray[np.float64]


def estimates(
    drawn: Problem, recipe: Recipe, init: int, ensemble: int = 1
) -> tuple[dict[str, Floats], NDArray[np.int64], float]:
    """Return the harm of each sample by every estimate, the target, and the accuracy on validation data.

    Args:
        drawn: The data.
        recipe: How to train.
        init: Seed of the initial weights of the model that is looked at.
        ensemble: Models from how many initial weights TRAK may average over, besides.
    """
    count = len(drawn.x)
    whole = np.ones((1, count), dtype=bool)
    at = (recipe.steps // 4, recipe.steps // 2, recipe.steps)
    weights, kept = train(drawn, whole, recipe, init, at)
    how = task()
    model = how.clone(module_of(weights))
    mistaken = how.misclassified(model, (drawn.held_x, drawn.held_y)).numpy()
    data = TensorDataset(drawn.x, drawn.y)
    held = TensorDataset(drawn.held_x, drawn.held_y)
    sketch = sketch_for(count)

    def visit(state: list[torch.Tensor], final: bool) -> Visit:
        ready = how.clone(module_of(state))
        found = [gradients_of(how, ready, part, sketch) for part in (data, held)]
        return Visit(np.arange(count), *found, final=final)

    visits = [visit(state, state is kept[-1]) for state in kept]
    labels = drawn.y.numpy()
    probabilities = cross_validated(features_of(how, model, data), labels, classes=10, seed=init)
    found = {
        "trak": trak(visits, count),
        "trak, with R": trak(visits, count, weighted=True),
        "tracin": tracin(visits, count),
        "tracin, final model alone": tracin(visits[-1:], count),
        "label errors": 1 - self_confidence(labels, probabilities),
    }
    if mistaken.any():
        rows = Subset(held, np.flatnonzero(mistaken).tolist())
        errors = gradients_of(how, model, rows, sketch)
        found["trak, for the loss of the errors alone"] = trak([replace(visits[-1], target=errors)], count)
    if ensemble > 1:
        several = [visit(train(drawn, whole, recipe, s)[0], True) for s in range(ensemble)]
        found[f"trak, {ensemble} models"] = trak(several, count)
    return found, np.arange(len(mistaken)), 1 - float(mistaken.mean())


def correlations(seeds: int, quick: bool) -> list[dict[str, Any]]:
    """Return the rank correlations of every estimate with the truth, for both models."""
    rows = []
    for name, (recipe, inits) in RECIPES.items():
        found: dict[tuple[str, str], list[float]] = {}
        control: dict[tuple[str, str], list[list[float]]] = {}
        began = time.process_time()
        for seed in range(seeds):
            drawn = problem(seed, 60 if quick else SAMPLES[name])
            harm, target, _ = estimates(drawn, recipe, 0, 1 if quick else inits)
            members = [np.flatnonzero(drawn.contributor == c) for c in range(CONTRIBUTORS)]
            starts = range(1 if quick else inits)
            singles = [np.array([i]) for i in range(len(drawn.x))]
            real = {
                "sample": truth(drawn, singles, recipe, starts, target),
                "contributor": truth(drawn, members, recipe, starts, target),
            }
            rng = np.random.default_rng(seed)
            for estimate, values in harm.items():
                for level, exact in real.items():
                    key = level, estimate
                    found.setdefault(key, []).append(_rho(_of(estimate, values, members, level), exact))
                    drawn_at_random = [rng.permutation(values) for _ in range(DRAWS)]
                    control.setdefault(key, []).append(
                        [_rho(_of(estimate, v, members, level), exact) for v in drawn_at_random]
                    )
            print(name, seed, {k[1]: round(v[-1], 3) for k, v in found.items()}, flush=True)
        for (level, estimate), values in found.items():
            chance = np.mean(control[level, estimate], axis=0)
            rows.append(
                {
                    "model": name,
                    "left_out": level,
                    "estimate": estimate,
                    "seeds": seeds,
                    "spearman": _mean(values),
                    "interval": _interval(values),
                    "shuffled_mean": _mean(chance),
                    "shuffled_highest": round(float(chance.max()), 3),
                    "cpu_seconds": round(time.process_time() - began, 1),
                }
            )
    return rows


def precision(seeds: int, quick: bool) -> list[dict[str, Any]]:
    """Return which share of the first N named have wrong labels, N being the number of wrong labels."""
    from cleanlab.rank import get_normalized_margin_for_each_label

    rows = []
    for case, bad, share in (("two of ten contributors", (0, 1), 0.5), ("everybody", tuple(range(10)), 0.1)):
        named: dict[str, list[float]] = {}
        for seed in range(seeds):
            drawn = problem(100 + seed, 100 if quick else 400, bad=bad, share=share)
            harm, _, accuracy = estimates(drawn, RECIPES["network"][0], seed)
            labels = drawn.y.numpy()
            probabilities = cross_validated(drawn.x.double().numpy(), labels, classes=10, seed=seed)
            found: dict[str, Floats] = {
                **harm,
                "label errors, on pixels": 1 - self_confidence(labels, probabilities),
                "cleanlab's margin, on pixels": -get_normalized_margin_for_each_label(labels, probabilities),
                "a random ranking": np.random.default_rng(seed).random(len(labels)),
            }
            top = int(drawn.wrong.sum())
            for estimate, values in found.items():
                named.setdefault(estimate, []).append(float(drawn.wrong[np.argsort(-values)[:top]].mean()))
            named.setdefault("share of wrong labels", []).append(float(drawn.wrong.mean()))
            print(case, seed, round(accuracy, 3), flush=True)
        rows += [
            {
                "who_errs": case,
                "estimate": estimate,
                "seeds": seeds,
                "precision_at_n": _mean(values),
                "interval": _interval(values),
            }
            for estimate, values in named.items()
        ]
    return rows


def _of(estimate: str, values: Floats, members: list[NDArray[np.int64]], level: str) -> Floats:
    """Scores of samples or, as ``bias find`` has them, of contributors: harm is summed, doubts averaged."""
    if level == "sample":
        return values
    parts = [values[rows] for rows in members]
    return np.array([p.mean() if estimate.startswith("label errors") else p.sum() for p in parts])


def _rho(a: Floats, b: Floats) -> float:
    return float(spearmanr(a, b).statistic)


def _mean(values: Any) -> float:
    return round(float(np.mean(values)), 3)


def _interval(values: list[float]) -> list[float]:
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    return [round(float(v), 3) for v in np.quantile(drawn, [0.025, 0.975])]


def as_markdown(result: Mapping[str, Any]) -> str:
    """Return the tables."""
    text = ["| model | left out | estimate | Spearman's ρ (95 %) | shuffled: mean, highest of 100 |",
            "|---|---|---|---|---|"]  # fmt: skip
    text += [
        f"| {r['model']} | {r['left_out']} | {r['estimate']} | {r['spearman']:.2f} "
        f"({r['interval'][0]:.2f} to {r['interval'][1]:.2f}) "
        f"| {r['shuffled_mean']:.2f}, {r['shuffled_highest']:.2f} |"
        for r in result["correlations"]
    ]
    text += ["", "| who errs | ranked by | precision at N (95 %) |", "|---|---|---|"]
    text += [
        f"| {r['who_errs']} | {r['estimate']} | {r['precision_at_n']:.2f} "
        f"({r['interval'][0]:.2f} to {r['interval'][1]:.2f}) |"
        for r in result["precision"]
    ]
    return "\n".join([f"Seeds: {result['seeds']}. {result['command']}", "", *text, ""])


def main() -> None:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = 2 if arguments.quick else arguments.seeds
    result: dict[str, Any] = {
        "seeds": seeds,
        "command": f"`python -m benchmarks attribution --seeds {seeds}`",
        "precision": precision(seeds, arguments.quick),
        "correlations": correlations(seeds, arguments.quick),
    }
    print(as_markdown(result))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "attribution.json").write_text(json.dumps(result, indent=1) + "\n")
        (arguments.out / "attribution.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()

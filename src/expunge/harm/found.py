# SPDX-License-Identifier: Apache-2.0
"""What a search for harm says: counts, agreements and warnings; names only where they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expunge.bias.ranking import TRACIN, TRAK, Ranking
from expunge.bias.targets import Chosen, Target
from expunge.harm.models import FINAL_ONLY

if TYPE_CHECKING:
    from expunge.harm.finding import Ground, Search
    from expunge.harm.labels import Doubts

FEW_ERRORS = 10


def report_of(
    search: Search,
    target: Target,
    ground: Ground,
    chosen: Chosen,
    accuracy: float,
    ranking: Ranking,
    doubt: Doubts,
    states: str,
    kind: str,
    checkpoints: int,
) -> dict[str, Any]:
    """Return what ``expunge bias find --json`` prints, without the names of what was found.

    Args:
        search: What was looked for.
        target: The same, read.
        ground: What was looked at.
        chosen: The validation samples whose loss was to fall.
        accuracy: Share of all validation samples about which the model is right.
        ranking: What was found.
        doubt: Doubts about labels.
        states: What the checkpoints are.
        kind: What the gradients are.
        checkpoints: How many there were.
    """
    return {
        "model": ground.published.label,
        "dataset": ground.version.label,
        "target": {
            "kind": target.kind,
            "columns": list(search.columns) if target.grouped else [],
            "group": chosen.group,
            "split": search.split,
            "samples": len(chosen.rows),
            "errors": chosen.errors,
            "right_on_split": accuracy,
        },
        "by": search.by,
        "ranked_by": search.ranked_by,
        "gradients": kind,
        "checkpoints": {"count": checkpoints, "are": states},
        "training_samples": len(ground.train),
        "ranked": len(ranking.names),
        "unranked_samples": ranking.unranked,
        "harmful": ranking.harmful,
        "top": ranking.chosen,
        "label_errors": doubt.as_json(),
        "agreement": {pair: found.as_json() for pair, found in ranking.agreement.items()},
        "warnings": _warnings(chosen, ranking, doubt, states),
    }


def _warnings(chosen: Chosen, ranking: Ranking, doubt: Doubts, states: str) -> list[str]:
    said = list(doubt.warnings)
    if chosen.errors < FEW_ERRORS:
        said.append(f"The target has {chosen.errors} error(s): a ranking by so few is easily chance.")
    if states == FINAL_ONLY:
        said.append(
            "There are no checkpoints of the training: TracIn sees the final model alone, and not how the "
            "model came to be."
        )
    pair = ranking.agreement.get(f"{TRAK}/{TRACIN}")
    if pair is not None and pair.spearman_interval is not None and pair.spearman_interval[0] <= 0:
        said.append("TRAK and TracIn do not agree: look at the pictures before anything is forgotten.")
    if ranking.unranked:
        said.append(
            f"{ranking.unranked} training sample(s) are not ranked: they belong to nothing that is, or no "
            "checkpoint that is there saw them."
        )
    if not ranking.chosen:
        said.append("Nothing does harm by this estimate: there is nothing to forget.")
    return said


def named_items(ranking: Ranking) -> list[dict[str, Any]]:
    """Return what was chosen, by name, with its scores."""
    return [
        {
            ranking.by: ranking.names[i],
            "samples": ranking.counts[i],
            **{name: float(values[i]) for name, values in ranking.scores.items()},
        }
        for i in range(ranking.chosen)
    ]

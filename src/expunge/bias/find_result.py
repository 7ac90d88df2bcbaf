# SPDX-License-Identifier: Apache-2.0
"""The report of a search for harmful data: counts, agreements and warnings; names only on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expunge.bias.attributed_models import FINAL_ONLY
from expunge.bias.attribution.ranking import TRACIN, TRAK, Ranking
from expunge.bias.attribution.targets import Chosen, Target

if TYPE_CHECKING:
    from expunge.bias.label_quality import Doubts
    from expunge.bias.search import Search, SearchContext

FEW_ERRORS = 10


def report_of(
    search: Search,
    target: Target,
    context: SearchContext,
    chosen: Chosen,
    accuracy: float,
    ranking: Ranking,
    doubts: Doubts,
    states: str,
    kind: str,
    checkpoints: int,
) -> dict[str, Any]:
    """Return the output of ``expunge bias find --json``, without names of items.

    Args:
        search: Arguments of the search.
        target: The parsed target.
        context: Model and data of the search.
        chosen: The validation samples of the target.
        accuracy: The model's accuracy on all validation samples.
        ranking: The ranking.
        doubts: Doubts about labels.
        states: Kind of the checkpoints.
        kind: Kind of the gradients.
        checkpoints: Number of checkpoints.
    """
    return {
        "model": context.published.label,
        "dataset": context.version.label,
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
        "training_samples": len(context.train),
        "ranked": len(ranking.names),
        "unranked_samples": ranking.unranked,
        "harmful": ranking.harmful,
        "top": ranking.chosen,
        "label_errors": doubts.as_json(),
        "agreement": {pair: found.as_json() for pair, found in ranking.agreement.items()},
        "warnings": _warnings(chosen, ranking, doubts, states),
    }


def _warnings(chosen: Chosen, ranking: Ranking, doubts: Doubts, states: str) -> list[str]:
    warnings = list(doubts.warnings)
    if chosen.errors < FEW_ERRORS:
        warnings.append(
            f"The target has {chosen.errors} error(s): with so few, a ranking may be due to chance."
        )
    if states == FINAL_ONLY:
        warnings.append("There are no checkpoints of the training: TracIn uses the final model alone.")
    pair = ranking.agreement.get(f"{TRAK}/{TRACIN}")
    if pair is not None and pair.spearman_interval is not None and pair.spearman_interval[0] <= 0:
        warnings.append("TRAK and TracIn do not agree: look at the pictures before anything is forgotten.")
    if ranking.unranked:
        warnings.append(
            f"{ranking.unranked} training sample(s) are not ranked: they belong to no item, or no "
            "available checkpoint saw them."
        )
    if not ranking.chosen:
        warnings.append("No item is harmful by this estimate: there is nothing to forget.")
    return warnings


def named_items(ranking: Ranking) -> list[dict[str, Any]]:
    """Return the items to forget, by name, with their scores."""
    return [
        {
            ranking.by: ranking.names[i],
            "samples": ranking.counts[i],
            **{name: float(values[i]) for name, values in ranking.scores.items()},
        }
        for i in range(ranking.chosen)
    ]

# SPDX-License-Identifier: Apache-2.0
"""The commands ``bias``: measure models by group, and find harmful training data."""

from __future__ import annotations

import click

from expunge.cli.main import LazyGroup

# name: (import path, one-line help)
COMMANDS = {
    "measure": ("expunge.cli.bias_measure:measure", "Measure how well a model serves each group."),
    "find": (
        "expunge.cli.bias_find:find",
        "Rank the training data by the harm that it does to validation samples.",
    ),
    "compare": (
        "expunge.cli.bias_measure:compare",
        "Compare models on the same samples: before, after, reference.",
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def bias() -> None:
    """Measure models by group and find harmful training data; see docs/bias.md."""

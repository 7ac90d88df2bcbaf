# SPDX-License-Identifier: Apache-2.0
"""The commands ``bias``: whom a model serves worse, and which training data does the harm."""

from __future__ import annotations

import click

from expunge.cli.main import LazyGroup

# name: (where it is, what it does in a line)
COMMANDS = {
    "measure": ("expunge.cli.bias_measure:measure", "How well a model serves each group."),
    "find": ("expunge.cli.bias_find:find", "Rank the training data by the harm that it does."),
    "compare": ("expunge.cli.bias_measure:compare", "Models side by side: before, after, reference."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def bias() -> None:
    """Find data that does harm, forget it, and see what that changed; see docs/bias.md."""

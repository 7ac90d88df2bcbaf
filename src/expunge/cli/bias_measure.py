# SPDX-License-Identifier: Apache-2.0
"""The command ``bias measure``."""

from __future__ import annotations

import click


@click.command()
def measure() -> None:
    """Say how well a model serves each group."""

# SPDX-License-Identifier: Apache-2.0
"""Erasable training within this process: the workers' own code, without the seconds that a start takes.

In place of ``expunge.exact.runner._parallel``, for what measures or tests something else than processes.
"""

from __future__ import annotations

import os
from typing import Any

from expunge.exact import runner, worker
from expunge.exact.graph import Node


def in_turn(
    chains: list[list[Node]], run: runner.Training, workers: object, start: Any
) -> list[runner.TrainedNode]:
    """Train chains one after the other."""
    finished: list[runner.TrainedNode] = []
    for chain in chains:
        nodes = {node.key: node for node in chain}

        def report(event: str, nodes: dict[str, Node] = nodes, **values: Any) -> None:
            if event == "node":
                finished.append(runner.TrainedNode(nodes[values.pop("key")], **values))
                run.on_node(finished[-1])

        worker.run(runner._job(chain, run, start(chain)), report, os.getppid())
    return finished

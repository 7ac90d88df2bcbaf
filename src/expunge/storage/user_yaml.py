# SPDX-License-Identifier: Apache-2.0
"""Parse YAML given by users: plain values only, of bounded depth and size."""

from __future__ import annotations

import re
from typing import Any

import yaml

from expunge.storage.user_files import MAX_DEPTH, TooComplex, guard_recursion

MAX_NODES = 1_000_000  # aliased nodes are counted once per use
MAX_DIGITS = 1000
OPENINGS = re.compile(rf"(?:[\[{{]\s*+){{{MAX_DEPTH}}}")


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values, of bounded depth and size.

    Raises:
        yaml.YAMLError: If the text is not YAML.
        TooComplex: If it is nested too deeply, its aliases expand too far, or a number is too long.
    """
    if OPENINGS.search(text):  # PyYAML would take seconds to reach the same error
        raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")
    try:
        return guard_recursion(lambda: yaml.load(text, Loader=_Loader))
    except TooComplex:
        raise
    except (ValueError, OverflowError, AttributeError, TypeError, KeyError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error  # from PyYAML's constructors


class _Loader(yaml.SafeLoader):
    """A safe loader that checks depth while it composes nodes, and total size before it builds values."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node, at most ``MAX_DEPTH`` levels deep."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def get_single_data(self) -> Any:
        """Return the value of the only document, or None where there is none."""
        node = self.get_single_node()
        if node is None:
            return None
        _check_size(node, {})
        return self.construct_document(node)


def _check_size(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return the number of values in a node and its depth.

    Args:
        node: The node. Aliased nodes are counted once per use.
        known: Results by node id; None while a node is being counted.

    Raises:
        TooComplex: If a limit is exceeded or an alias refers to a node that contains it.
    """
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise TooComplex("an alias refers to a value that contains it")
        return size
    known[id(node)] = None
    count, depth = 1, 1
    if isinstance(node, yaml.ScalarNode):
        number = node.tag.endswith((":int", ":float"))
        if number and len(node.value) > MAX_DIGITS:
            raise TooComplex(f"it holds a number of {len(node.value)} characters")
    else:
        parts = (
            node.value if isinstance(node, yaml.SequenceNode) else [p for pair in node.value for p in pair]
        )
        for part in parts:
            below, levels = _check_size(part, known)
            count, depth = count + below, max(depth, levels + 1)
    if count > MAX_NODES or depth > MAX_DEPTH:
        raise TooComplex("its aliases expand to more than can be read")
    known[id(node)] = count, depth
    return count, depth

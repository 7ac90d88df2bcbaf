# SPDX-License-Identifier: Apache-2.0
"""Parses YAML that users give: plain values only, of bounded depth and size."""

from __future__ import annotations

import re
from typing import Any

import yaml

from expunge.user_files import MAX_DEPTH, TooComplex, guard_recursion

MAX_NODES = 1_000_000  # each alias counted as often as it stands
MAX_DIGITS = 1000
OPENINGS = re.compile(rf"(?:[\[{{]\s*+){{{MAX_DEPTH}}}")


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values, of bounded depth and size.

    Raises:
        yaml.YAMLError: If it is not YAML.
        TooComplex: If it is nested too deep, its aliases multiply, or a number is too long.
    """
    if OPENINGS.search(text):  # PyYAML itself would need seconds to come to that
        raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")
    try:
        return guard_recursion(lambda: yaml.load(text, Loader=_Loader))
    except TooComplex:
        raise
    except (ValueError, OverflowError, AttributeError, TypeError, KeyError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error  # of PyYAML's own constructors


class _Loader(yaml.SafeLoader):
    """Refuses what is nested too deep while it reads, and what multiplies before it builds."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def get_single_data(self) -> Any:
        """Return the only document."""
        node = self.get_single_node()
        if node is None:
            return None
        _size(node, {})
        return self.construct_document(node)


def _size(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return the number of values below a node, aliases counted each time, and their depth."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise TooComplex("an alias stands within what it names")
        return found
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
            below, levels = _size(part, known)
            count, depth = count + below, max(depth, levels + 1)
    if count > MAX_NODES or depth > MAX_DEPTH:
        raise TooComplex("its aliases stand for more than can be read")
    known[id(node)] = count, depth
    return count, depth

# SPDX-License-Identifier: Apache-2.0
"""What ``Workspace`` returns of a request: the request itself, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.steps.scoping import Ask


@dataclass(frozen=True)
class Certificate:
    """The statement of what was done.

    Attributes:
        path: Its file.
    """

    path: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        result: The same as ``expunge forget --json`` prints.
        certificate: The statement.
    """

    result: dict[str, Any]
    certificate: Certificate


@dataclass(frozen=True)
class Request:
    """A request in the queue.

    Attributes:
        id: Its id.
        ask: What it asks for.
        record: The same as ``expunge request open --json`` prints.
    """

    id: str
    ask: Ask
    record: dict[str, Any]


def outcome_of(result: dict[str, Any]) -> Outcome:
    """Return an outcome for people who work with objects."""
    return Outcome(result, Certificate(Path(result["certificate"])))

# SPDX-License-Identifier: Apache-2.0
"""Values that ``Workspace`` returns: an opened request, and the outcome of its execution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.erasure.scope import ErasureRequest


@dataclass(frozen=True)
class Certificate:
    """The certificate of a request.

    Attributes:
        path: The certificate file.
    """

    path: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of an executed request.

    Attributes:
        result: The JSON object that ``expunge forget --json`` prints.
        certificate: The request's certificate.
    """

    result: dict[str, Any]
    certificate: Certificate


@dataclass(frozen=True)
class Request:
    """A request in the queue.

    Attributes:
        id: The request's id.
        ask: Its arguments.
        record: The JSON object that ``expunge request open --json`` prints.
    """

    id: str
    ask: ErasureRequest
    record: dict[str, Any]


def outcome_of(result: dict[str, Any]) -> Outcome:
    """Return the outcome for a result of ``forget``."""
    return Outcome(result, Certificate(Path(result["certificate"])))

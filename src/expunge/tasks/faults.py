# SPDX-License-Identifier: Apache-2.0
"""Turns exceptions of the user's own code (model, loss, data set) into errors for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from expunge.errors import ExpungeError, InputError


@contextmanager
def blame(what: str, advice: str, *, quote: bool = True) -> Iterator[None]:
    """Raise an exception of the block as an InputError; the original is its ``__cause__``.

    Args:
        what: What failed, in one sentence.
        advice: What to do next.
        quote: Whether to repeat the exception's text. That of a data set may name files of people.
    """
    try:
        yield
    except ExpungeError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() if quote else []
        why = f"{type(error).__name__}: {lines[0]}" if lines else f"It raised {type(error).__name__}."
        raise InputError(what, why, advice) from error

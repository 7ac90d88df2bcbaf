# SPDX-License-Identifier: Apache-2.0
"""Conversion of exceptions in user code (model, loss, data set) to InputErrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from expunge.errors import ExpungeError, InputError


@contextmanager
def raise_as_input_error(what: str, advice: str, *, quote: bool = True) -> Iterator[None]:
    """Re-raise any exception of the block as an InputError; the original becomes its ``__cause__``.

    Args:
        what: What failed, in one sentence.
        advice: What the user should do.
        quote: Whether to quote the exception's text. A data set's exception may name files of people.
    """
    try:
        yield
    except ExpungeError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() if quote else []
        why = f"{type(error).__name__}: {lines[0]}" if lines else f"It raised {type(error).__name__}."
        raise InputError(what, why, advice) from error

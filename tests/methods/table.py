# SPDX-License-Identifier: Apache-2.0
"""What the behavioural tests must be told of a method: how strong it should be, and where it fails.

A method that is registered later is tested without an entry here, at its defaults.
"""

from __future__ import annotations

from typing import Any

import pytest

from expunge.methods.base import all_methods

STATISTICS = {"eu_k", "msg", "retrain", "rewind"}
"""Methods that say that they change batch-norm statistics."""

STRENGTH: dict[tuple[str, str], int] = {
    ("digits", "amun"): 3,
    ("digits", "bad_teacher"): 1,
    ("digits", "cf_k"): 2,
    ("digits", "eu_k"): 3,
    ("digits", "finetune"): 3,
    ("digits", "l1_sparse"): 3,
    ("digits", "msg"): 3,
    ("digits", "neggrad_plus"): 2,
    ("digits", "npo"): 2,
    ("digits", "random_label"): 2,
    ("digits", "rewind"): 1,
    ("digits", "salun"): 2,
    ("digits", "scrub"): 3,
    ("digits", "scrub_rewind"): 3,
    ("digits-class", "bad_teacher"): 3,
    ("digits-class", "delete"): 1,
    ("digits-class", "finetune"): 3,
    ("digits-class", "l1_sparse"): 1,
    ("digits-class", "neggrad_plus"): 1,
    ("digits-class", "random_label"): 1,
    ("digits-class", "rewind"): 1,
    ("digits-class", "salun"): 1,
    ("digits-class", "scrub"): 1,
}
"""(world, method): the power of its factor by which a method is made stronger than at its defaults.

Found with ``methods.strength`` on a world of another seed than the one that is judged.
"""

KNOWN: dict[tuple[str, str, str], str] = {}
"""(check, world, method): why it fails. The tests fail as well if it does not."""


def cases(check: str, worlds: tuple[str, ...], goal: str | None = None) -> list[Any]:
    """Return a pytest parameter (world, method) for each pair, with known failures marked as such.

    Args:
        check: As it is called in ``KNOWN``.
        worlds: Their names; with ``:slow`` behind it, only in the long tests.
        goal: Only methods for this goal.
    """
    found = []
    for entry in worlds:
        world, _, slow = entry.partition(":")
        for name, method in sorted(all_methods().items()):
            if goal is not None and goal not in method.goals:
                continue
            reason = KNOWN.get((check, world, name))
            marks: list[Any] = (
                [pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)] if reason else []
            )
            marks += [pytest.mark.slow] if slow else []
            found.append(pytest.param(world, name, marks=marks, id=f"{world}-{name}"))
    return found

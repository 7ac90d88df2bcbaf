# SPDX-License-Identifier: Apache-2.0
"""Parameters of methods for the behavioural tests: their strength, and the worlds in which they fail.

A method without an entry is tested with its defaults.
"""

from __future__ import annotations

from typing import Any

import pytest

from expunge.methods.base import all_methods

STATISTICS = {"eu_k", "msg", "retrain", "rewind"}
"""Methods that say that they change batch-norm statistics."""

LIGHT: dict[str, dict[str, Any]] = {
    "amun": {"steps": 5, "doublings": 4},
    "influence": {"samples": 32},
    "unsir": {"noise_steps": 5},
}
"""Hyper-parameters with which dear methods become cheap, for runs that only show how they behave."""

STRENGTH: dict[tuple[str, str], int] = {
    ("digits", "amun"): 2,
    ("digits", "bad_teacher"): 1,
    ("digits", "cf_k"): 2,
    ("digits", "finetune"): 3,
    ("digits", "influence"): 1,
    ("digits", "l1_sparse"): 3,
    ("digits", "msg"): 3,
    ("digits", "neggrad_plus"): 3,
    ("digits", "npo"): 2,
    ("digits", "random_label"): 2,
    ("digits", "rewind"): 1,
    ("digits", "salun"): 2,
    ("digits", "scrub"): 3,
    ("digits", "scrub_rewind"): 3,
    ("digits-class", "bad_teacher"): 1,
    ("digits-class", "cf_k"): 3,
    ("digits-class", "delete"): 1,
    ("digits-class", "eu_k"): 3,
    ("digits-class", "finetune"): 3,
    ("digits-class", "l1_sparse"): 3,
    ("digits-class", "neggrad_plus"): 2,
    ("digits-class", "npo"): 3,
    ("digits-class", "random_label"): 3,
    ("digits-class", "rewind"): 3,
    ("digits-class", "salun"): 3,
    ("digits-class", "scrub"): 3,
}
"""(world, method): the power of its factor by which a method is made stronger than at its defaults.

Found with ``methods.strength`` on worlds of other seeds than those that are judged.
"""

KNOWN: dict[tuple[str, str, str], str] = {
    ("absent", "digits-class", "cf_k"): (
        "Where the head never sees the class again, nothing takes it out of the head either: it is still "
        "recognised."
    ),
    ("absent", "digits-class", "finetune"): (
        "Not rehearsing a class is not enough to remove it: much of it is still recognised."
    ),
    ("absent", "digits-class", "unsir"): "The epoch of repair brings part of the class back.",
    ("beyond", "digits", "neggrad_plus"): (
        "Nothing bounds the ascent: at a strength found on other digits it ends beyond a retrain as often "
        "as not."
    ),
    ("beyond", "digits", "npo"): (
        "The strength found on other digits is too much for these: the forget loss climbs beyond a retrain's."
    ),
    (
        "retain",
        "digits",
        "lfssd",
    ): "On a random part of memorised data it harms all alike, where it changes anything.",
    ("retain", "digits", "scrub_rewind"): (
        "The epoch with the right forget error lies among the first, before the retain set is repaired."
    ),
    ("retain", "digits", "ssd"): (
        "On a random part of memorised data the retain metric falls before anything is forgotten."
    ),
    ("retain", "digits-class", "unsir"): (
        "One epoch of repair does not make up for the impairment of so small a model."
    ),
    ("toward", "digits", "cf_k"): (
        "What was learnt by heart lies in the features too, which stay as they are: nothing is forgotten."
    ),
    ("toward", "digits", "eu_k"): (
        "New last layers find in the old features what was learnt by heart: nothing is forgotten."
    ),
    ("toward", "digits", "finetune"): (
        "Samples that were learnt by heart fade only at learning rates that begin to harm the retain set."
    ),
    ("toward", "digits", "influence"): (
        "One step comes about a quarter of the way to a retrain on memorised data, often less."
    ),
    ("toward", "digits", "lfssd"): (
        "On a random part of memorised data hardly anything is forgotten in particular."
    ),
    ("toward", "digits", "scrub"): (
        "In 20 epochs of which three ascend, the repair brings back most of what was taken."
    ),
    ("toward", "digits", "ssd"): (
        "On a random part of memorised data the retain metric falls before anything is forgotten."
    ),
}
"""(check, world, method): why it does not keep the declared bound, or not in every world."""


def cases(worlds: tuple[str, ...], goal: str | None = None) -> list[Any]:
    """Return a pytest parameter (world, method) for each pair.

    Args:
        worlds: Their names; the suffix ``:slow`` restricts a world to the long tests.
        goal: Only methods for this goal.
    """
    found = []
    for entry in worlds:
        world, _, slow = entry.partition(":")
        for name, method in sorted(all_methods().items()):
            if goal is not None and goal not in method.goals:
                continue
            marks = [pytest.mark.slow] if slow else []
            found.append(pytest.param(world, name, marks=marks, id=f"{world}-{name}"))
    return found

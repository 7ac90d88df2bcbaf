# SPDX-License-Identifier: Apache-2.0
"""Targets of a search for harm: valid and refused ones."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.bias.attribution.targets import Target, check_split, choose, parse_target
from expunge.bias.groups import Attributes, group_samples, sizes
from expunge.data.types import Sample
from expunge.errors import InputError

SAMPLES = [Sample(f"v/{i}.png", "val", "", subjects=(f"p{i}",)) for i in range(30)]
VALUES = {f"p{i}": {"light": ["day", "night", ""][i // 10] if i < 28 else "dusk"} for i in range(30)}
GROUPS = group_samples(SAMPLES, Attributes(("light",), subjects=VALUES), ("light",))
SIZES = sizes(GROUPS, SAMPLES)


def mistaken(*rows: int) -> np.ndarray:
    return np.isin(np.arange(30), rows)


def test_targets_are_read() -> None:
    assert parse_target("errors") == Target("errors")
    assert parse_target("worst-group") == Target("worst-group")
    assert parse_target("group=a=b") == Target("group", "a=b")
    for text in ("", "group", "group=", "error", "errors=1"):
        with pytest.raises(InputError, match="target is unknown"):
            parse_target(text)


def test_errors_of_everybody() -> None:
    found = choose(Target("errors"), mistaken(3, 7, 29))
    assert (found.rows.tolist(), found.errors, found.group) == (list(range(30)), 3, None)


def test_the_worst_group_is_large_enough_and_known() -> None:
    wrong = mistaken(2, 12, 13, *range(20, 30))  # those of whom nothing is known, and dusk, fail most
    found = choose(Target("worst-group"), wrong, GROUPS, SIZES, minimum=5)
    assert (found.group, found.errors, found.rows.tolist()) == ("night", 2, list(range(10, 20)))


def test_a_group_by_name() -> None:
    found = choose(Target("group", "day"), mistaken(1, 15), GROUPS, SIZES, minimum=5)
    assert (len(found.rows), found.errors, found.group) == (10, 1, "day")


@pytest.mark.parametrize(
    ("target", "wrong", "complaint"),
    [
        (Target("errors"), (), "no error to explain"),
        (Target("group", "day"), (15,), "no error to explain"),
        (Target("worst-group"), (25,), "no error to explain"),
        (Target("group", "dusk"), (28,), "too small"),
        (Target("group", "(missing)"), (21,), "too small"),
        (Target("group", "noon"), (1,), "no such group"),
    ],
)
def test_what_cannot_be_looked_for(target: Target, wrong: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as raised:
        choose(target, mistaken(*wrong), GROUPS, SIZES, minimum=5)
    text = " ".join(raised.value.as_json().values())
    assert not any(value in text for value in ("day", "night", "dusk", "p28"))


def test_no_group_is_large_enough() -> None:
    with pytest.raises(InputError, match="large enough"):
        choose(Target("worst-group"), mistaken(1), GROUPS, SIZES, minimum=20)
    with pytest.raises(InputError, match="no validation sample"):
        choose(Target("errors"), np.zeros(0, dtype=bool))
    with pytest.raises(InputError, match="not named"):
        choose(Target("worst-group"), mistaken(1))


def test_what_finds_never_judges() -> None:
    check_split("val")
    with pytest.raises(InputError, match="'test'") as raised:
        check_split("test")
    assert "never judges" in raised.value.as_json()["reason"]

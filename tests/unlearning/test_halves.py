# SPDX-License-Identifier: Apache-2.0
"""What tunes never judges."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from expunge.audits.splits import divide
from expunge.audits.unlearning_data import UnlearningData


def numbered(first: int, count: int) -> TensorDataset:
    return TensorDataset(torch.arange(first, first + count)[:, None].float(), torch.zeros(count).long())


def material(count: int, people: int | None, unseen: int = 7) -> UnlearningData:
    groups = None if people is None else [f"p{i % people}" for i in range(count)]
    return UnlearningData(
        numbered(0, count), numbered(1000, 9), numbered(2000, 5), numbered(3000, unseen), forget_groups=groups
    )


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 6)), st.integers(0, 99))
def test_no_sample_and_no_person_tunes_and_judges(count: int, people: int | None, seed: int) -> None:
    made = material(count, people)
    tuning, judging = divide(made, True, seed)
    tunes = {int(tuning.forget[i][0]) for i in range(len(tuning.forget))}
    assert not tunes & set(judging.rows)
    assert tunes | set(judging.rows) == set(range(count))
    assert len(judging.rows) >= 1
    if people is not None and len(set(made.forget_groups or ())) > 1:
        assert not {i % people for i in tunes} & {i % people for i in judging.rows}
    assert judging.unseen is made.unseen
    assert judging.utility is made.unseen
    assert tuning.guard is made.guard


def test_without_tuning_the_whole_set_judges() -> None:
    _, judging = divide(material(8, 4), False, 0)
    assert judging.rows == tuple(range(8))


def test_without_unseen_data_the_guard_judges_the_utility() -> None:
    made = material(8, 4, unseen=0)
    assert divide(made, True, 0)[1].utility is made.guard

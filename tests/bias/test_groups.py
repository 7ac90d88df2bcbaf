# SPDX-License-Identifier: Apache-2.0
"""Groups from tables by sample, subject, pair or box; missing and mixed values; refused tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.bias.group_table import read_groups
from expunge.bias.groups import (
    MISSING,
    MIXED,
    Attributes,
    group_boxes,
    group_samples,
    large_enough,
    merged,
    sizes,
    too_small,
)
from expunge.data.types import Sample
from expunge.errors import InputError


def sample(path: str, *subjects: str) -> Sample:
    return Sample(path, "test", "", subjects=subjects)


SAMPLES = [sample("a", "p"), sample("b", "p", "q"), sample("c"), sample("d", "q"), sample("e", "r")]
KNOWN = Attributes(
    ("tone", "age"),
    pairs={("a", "p"): {"tone": "x", "age": "1"}, ("b", "p"): {"tone": "x"}, ("b", "q"): {"tone": "y"},
           ("d", "q"): {"tone": "y", "age": "2"}},
)  # fmt: skip


def names(samples: list[Sample], attributes: Attributes, *columns: str) -> list[str]:
    found = group_samples(samples, attributes, columns)
    return [found.names[i] for i in found.index]


def test_a_sample_has_the_group_of_its_people() -> None:
    assert names(SAMPLES, KNOWN, "tone") == ["x", MIXED, MISSING, "y", MISSING]
    one_unknown = Attributes(("tone",), subjects={"p": {"tone": "x"}})
    assert names(SAMPLES[1:2], one_unknown, "tone") == [MIXED]
    same = Attributes(("tone",), subjects={"p": {"tone": "x"}, "q": {"tone": "x"}})
    assert names(SAMPLES[1:2], same, "tone") == ["x"]


def test_combinations_and_what_is_apart() -> None:
    found = group_samples(SAMPLES, KNOWN, ("tone", "age"))
    assert found.names[:2] == ("x & 1", "y & 2")
    assert found.apart == {2, 3}
    assert large_enough(found, sizes(found, SAMPLES), 1) == [0, 1]


def test_a_box_has_its_own_group_or_that_of_its_image() -> None:
    boxes = Attributes(("tone",), boxes={("b", 2): {"tone": "z"}})
    found = group_boxes(SAMPLES[:2], [1, 2], merged(KNOWN, boxes), ["tone"])
    assert [found.names[i] for i in found.index] == ["x", MIXED, "z"]


def test_the_later_table_is_believed() -> None:
    later = Attributes(("tone",), samples={"a": {"tone": "new"}})
    assert names(SAMPLES[:1], merged(KNOWN, later), "tone") == ["new"]
    assert names(SAMPLES[:1], merged(KNOWN, later), "age") == ["1"]


def test_sizes_count_people_once_and_lonely_samples_each() -> None:
    found = group_samples(SAMPLES, KNOWN, ["tone"])
    by_name = dict(zip(found.names, sizes(found, SAMPLES), strict=True))
    assert (by_name[MIXED].things, by_name[MIXED].subjects, by_name[MIXED].units) == (1, 2, 2)
    assert (by_name[MISSING].subjects, by_name[MISSING].units) == (1, 2)  # r, and c that shows nobody
    assert by_name[MISSING].word == "subjects"
    assert "10 subjects" in too_small(by_name[MIXED], 10)


def test_nothing_prints_values() -> None:
    found = group_samples(SAMPLES, Attributes(("tone",), subjects={"p": {"tone": "SECRET"}}), ["tone"])
    assert "SECRET" in found.names
    assert "SECRET" not in repr(found)
    assert "SECRET" not in repr(Attributes(("tone",), subjects={"p": {"tone": "SECRET"}}))
    with pytest.raises(InputError) as error:
        found.number("OTHER")
    assert "SECRET" not in str(error.value)
    assert "OTHER" not in str(error.value)


@pytest.mark.parametrize("columns", [[], ["tone", "tone"], ["shoe"]])
def test_columns_that_do_not_fit(columns: list[str]) -> None:
    with pytest.raises(InputError):
        group_samples(SAMPLES, KNOWN, columns)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1), st.randoms())
def test_the_order_of_samples_does_not_matter(rows: list[tuple[str, str]], random: object) -> None:
    samples = [sample(str(i), who) for i, (who, _) in enumerate(rows)]
    known = Attributes(("g",), samples={str(i): {"g": g} for i, (_, g) in enumerate(rows)})
    order = np.random.default_rng(0).permutation(len(rows))
    first, then = (group_samples(s, known, ["g"]) for s in (samples, [samples[i] for i in order]))
    assert first.names == then.names
    assert (first.index[order] == then.index).all()
    assert sizes(first, samples) == sizes(then, [samples[i] for i in order])


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tables(tmp_path: Path) -> None:
    by_sample = read_groups(write(tmp_path / "1.csv", "sample,tone\n./a,x\nb,\n"))
    assert by_sample.samples == {"a": {"tone": "x"}, "b": {}}
    by_subject = read_groups(write(tmp_path / "2.csv", "subject, tone ,age\np, x ,1\n"))
    assert by_subject.subjects == {"p": {"tone": "x", "age": "1"}}
    assert by_subject.columns == ("tone", "age")
    by_pair = read_groups(write(tmp_path / "3.csv", "sample,subject,tone\na,p,x\n"))
    assert by_pair.pairs == {("a", "p"): {"tone": "x"}}
    by_box = read_groups(write(tmp_path / "4.csv", "sample,box,tone\na,02,x\n"))
    assert by_box.boxes == {("a", 2): {"tone": "x"}}


@pytest.mark.parametrize(
    "text",
    [
        "", "sample\na\n", "tone,sample\nSECRET,a\n", "sample,tone,tone\na,SECRET,y\n", "sample,tone\n",
        "sample,tone\na,SECRET\na,y\n", "sample,tone\na,SECRET,z\n", "sample,tone\n,SECRET\n",
        "sample,box,tone\na,0,SECRET\n", "sample,box,tone\na,SECRET,x\n", 'sample,tone\na,"SECRET\n',
        "sample,box,tone\na,1,SECRET\na,01,y\n",
    ],
)  # fmt: skip
def test_tables_that_are_refused_without_a_word_of_what_is_in_them(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as error:
        read_groups(write(tmp_path / "g.csv", text))
    assert "SECRET" not in str(error.value)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_groups(tmp_path / "none.csv")

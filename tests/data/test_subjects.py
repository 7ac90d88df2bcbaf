# SPDX-License-Identifier: Apache-2.0
"""Assignment of subjects to samples."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from expunge.data.subjects import (
    SubjectTable,
    attach_subjects,
    glob_pattern,
    read_subjects,
    subjects_from_regex,
)
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.errors import InputError


@pytest.fixture
def found() -> Scan:
    paths = ("images/train/a.png", "images/train/b.png", "images/train/sub/c.png", "images/val/d.png")
    samples = tuple(Sample(path, path.split("/")[1], "0" * 64) for path in paths)
    return Scan(Path("/d"), DatasetConfig("yolo", ("x",)), samples)


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "subjects.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_table(tmp_path: Path, found: Scan) -> None:
    path = table(
        tmp_path,
        "﻿sample,subject,risk,age,site\r\n"
        "images/train/a.png,s2,0.5,old,\r\n"
        "./images/train/a.png, s1 ,,,\r\n"
        "\r\n"
        '"images/val/d.png","s,1",1,,"north, east"\r\n',
    )
    read = read_subjects(path)
    assert read.subjects == {"images/train/a.png": ("s1", "s2"), "images/val/d.png": ("s,1",)}
    assert read.risks == {"s2": 0.5, "s,1": 1.0}
    assert read.groups == {
        ("images/train/a.png", "s2"): {"age": "old"},
        ("images/val/d.png", "s,1"): {"site": "north, east"},
    }
    attached = attach_subjects(found, read)
    assert [s.subjects for s in attached.samples] == [("s1", "s2"), (), (), ("s,1",)]
    assert attached.risks == read.risks
    assert attached.groups == read.groups


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wrong header"),
        ("image,subject\na,b\n", "wrong header"),
        ("subject,sample\na,b\n", "wrong header"),
        ("sample,subject,group,risk\na,b,c,1\n", "'risk' is the third column"),
        ("sample,subject,g,g\na,b,c,d\n", "wrong header"),
        ("sample,subject\n", "names no subject"),
        ("sample,subject\n\n\n", "names no subject"),
        ("sample,subject,g\na,s,x\na,s,y\n", r"line 3: the pair occurs again"),
        ("sample,subject\na,\n", "line 2: no subject"),
        ("sample,subject\na,  \n", "line 2: no subject"),
        ("sample,subject\n,s\n", "line 2: no sample"),
        ("sample,subject\na\n", "line 2: 1 columns"),
        ("sample,subject\na,s,t\n", "line 2: 3 columns"),
        ("sample,subject,risk\na,s,1.5\n", "the risk is '1.5'"),
        ("sample,subject,risk\na,s,-0.1\n", "the risk is"),
        ("sample,subject,risk\na,s,nan\n", "the risk is"),
        ("sample,subject,risk\na,s,high\n", "the risk is 'high'"),
        ("sample,subject,risk\na,s,0.1\nb,s,0.2\n", "0.1 in an earlier row"),
        ('sample,subject\n"a,s\n', "cannot be read"),
    ],
)
def test_bad_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        read_subjects(table(tmp_path, text))
    import re

    assert re.search(message, str(raised.value))


def test_table_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"sample,subject\n\xff,s\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_subjects(tmp_path / "s.csv")


def test_samples_that_do_not_exist_are_named_and_counted(tmp_path: Path, found: Scan) -> None:
    rows = "".join(f"none{i}.png,s\n" for i in range(9))
    path = table(tmp_path, f"sample,subject\nimages/train/a.png,s\n{rows}")
    with pytest.raises(InputError, match=r"9 samples that do not exist: 'none0\.png'"):
        attach_subjects(found, read_subjects(path))


def test_from_path(found: Scan) -> None:
    paths = [sample.path for sample in found.samples]
    assert subjects_from_regex(paths, r"train/(\w)").subjects == {
        "images/train/a.png": ("a",),
        "images/train/b.png": ("b",),
        "images/train/sub/c.png": ("s",),
    }
    assert set(subjects_from_regex(paths, r"[ab](?=\.png)").subjects.values()) == {("a",), ("b",)}
    for regex, message in (("(", "not a regular expression"), ("zzz", "in no path")):
        with pytest.raises(InputError, match=message):
            subjects_from_regex(paths, regex)


@pytest.mark.parametrize(
    ("glob", "public"),
    [
        ("images/train/*", [True, True, True, False]),
        ("images/**/[ac].png", [True, False, True, False]),
        ("images/train/**/a.png", [True, False, False, False]),
        ("images/*/?.png", [True, True, True, True]),
        ("./images/val/d.png", [False, False, False, True]),
        ("**/d.png", [False, False, False, True]),
    ],
)
def test_globs(found: Scan, glob: str, public: list[bool]) -> None:
    assert [s.public for s in attach_subjects(found, None, [glob]).samples] == public


def test_glob_matches_whole_paths() -> None:
    assert not glob_pattern("a").fullmatch("ab")
    assert not glob_pattern("**/a").fullmatch("ba")
    assert glob_pattern("**/a").fullmatch("a")


def test_public_list(tmp_path: Path, found: Scan) -> None:
    listed = tmp_path / "public.txt"
    listed.write_text("﻿images/train/a.png\n\n./images/val/d.png\n", encoding="utf-8")
    assert [s.public for s in attach_subjects(found, None, [str(listed)]).samples] == [
        True,
        False,
        False,
        True,
    ]
    listed.write_text("images/train/a.png\nnone.png\n")
    with pytest.raises(InputError, match=r"1 samples that do not exist: 'none\.png'"):
        attach_subjects(found, None, [str(listed)])
    with pytest.raises(InputError, match="matches no sample"):
        attach_subjects(found, None, ["nothing/*"])


def test_public_sample_with_a_private_subject(tmp_path: Path, found: Scan) -> None:
    path = table(tmp_path, "sample,subject\nimages/train/a.png,staff\nimages/train/b.png,staff\n")
    both = attach_subjects(found, read_subjects(path), ["images/train/[ab].png"])
    assert [s.public for s in both.samples] == [True, True, False, False]
    with pytest.raises(InputError, match=r"a\.png is public and also shows a private subject"):
        attach_subjects(found, read_subjects(path), ["images/train/a.png"])


def test_attaching_changes_only_subjects_and_public() -> None:
    made = {"str": "train", "str | None": "class", "bool": False, "int": 7, "tuple[str, ...]": ()}
    sample = Sample(**{f.name: made[str(f.type)] for f in fields(Sample)})
    default = {f.name: f.default for f in fields(Sample) if f.default is not MISSING}
    assert all(getattr(sample, name) != value for name, value in default.items() if value not in (False, ()))
    scan = Scan(Path("/d"), DatasetConfig("yolo", ("a",)), (sample,))
    found = attach_subjects(scan, SubjectTable({"train": ("p",)}), public=["tra*"])
    assert found.samples == (replace(sample, subjects=("p",), public=True),)


def test_empty_rows_and_repeated_pairs(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("sample,subject,risk,g\na,s,0.5,x\n,,,\n \n\n./a,s ,0.5,x\na,s,,\nb,s,,\n")
    table = read_subjects(file)
    assert table.subjects == {"a": ("s",), "b": ("s",)}
    assert (table.risks, table.groups) == ({"s": 0.5}, {("a", "s"): {"g": "x"}})


def named(*paths: str) -> Scan:
    rows = tuple(Sample(path, "train", f"digest of {path}") for path in sorted(paths))
    return Scan(Path("/d"), DatasetConfig("yolo", ("a",)), rows)


def test_names_in_other_normal_forms(tmp_path: Path) -> None:
    nfc, nfd, mixed = "é/é.jpg", "e\u0301/e\u0301.jpg", "é/e\u0301.jpg"
    file, listed = tmp_path / "s.csv", tmp_path / "public.txt"
    file.write_text(f"sample,subject,g\n{nfc},s1,x\n{mixed},s2,y\n", encoding="utf-8")
    listed.write_text(f"{nfc}\n", encoding="utf-8")
    found = attach_subjects(named(nfd, "other.jpg"), read_subjects(file), [str(listed)])
    (one,) = [s for s in found.samples if s.path == nfd]
    assert (one.subjects, one.public) == (("s1", "s2"), True)
    assert found.groups == {(nfd, "s1"): {"g": "x"}, (nfd, "s2"): {"g": "y"}}
    assert any("normalisation" in note for note in found.notes)
    with pytest.raises(InputError, match="could mean 2 samples"):
        attach_subjects(named(nfd, nfc), read_subjects(file))
    file.write_text(f"sample,subject\n{nfc},s1\n", encoding="utf-8")
    exact = attach_subjects(named(nfd, nfc), read_subjects(file))
    assert {s.path: s.subjects for s in exact.samples} == {nfc: ("s1",), nfd: ()}
    assert not exact.notes


def test_windows_backslashes(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("sample,subject\nimages\\train\\a.jpg,s1\n")
    (one,) = attach_subjects(named("images/train/a.jpg"), read_subjects(file)).samples
    assert one.subjects == ("s1",)

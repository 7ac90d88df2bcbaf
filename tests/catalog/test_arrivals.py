# SPDX-License-Identifier: Apache-2.0
"""Adding data: the first version, later versions, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from expunge.catalog.dataset_store import (
    add_version,
    find_subject,
    get_version,
    iter_samples,
    list_datasets,
    load_samples,
    parse_ref,
    subject_risks,
    summarize,
)
from expunge.catalog.engine import open_engine
from expunge.catalog.tables import SampleSubjectRow
from expunge.data.manifest import manifest_digest
from expunge.data.types import DatasetConfig, Sample, Scan, Version
from expunge.errors import InputError
from expunge.workspace import Workspace

Make = Callable[..., Sample]
Scans = Callable[..., Scan]


def add(workspace: Workspace, found: Scan, name: str = "shop", **options: bool) -> Version:
    with workspace.session() as session:
        return add_version(session, name, found, key=workspace.key, **options)


def content(workspace: Workspace) -> list[object]:
    """Return every row of the catalog."""
    names = [row["name"] for row in workspace.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [workspace.query(f"SELECT * FROM {name}") for name in sorted(names)]


def samples_of(workspace: Workspace, version: Version) -> list[Sample]:
    with workspace.session() as session:
        return load_samples(session, version)


def test_first_version(workspace: Workspace, people: Scan) -> None:
    version = add(workspace, people)
    assert (version.label, version.samples, version.subjects, version.parent) == ("shop@1", 10, 4, None)
    assert version.digest == manifest_digest(people.config, people.samples)
    assert samples_of(workspace, version) == list(people.samples)
    with workspace.session() as session:
        assert get_version(session, "shop") == version == get_version(session, "shop", 1)
        assert [s.path for s in iter_samples(session, version, "val")] == ["val/a3", "val/v"]
        assert summarize(session, version) == {
            "splits": {"train": 8, "val": 2},
            "classes": {},
            "public": 1,
            "erased_since": 0,
        }


def test_same_content_is_the_same_version(workspace: Workspace, people: Scan) -> None:
    version = add(workspace, people)
    before = content(workspace)
    for options in ({}, {"full": True}, {"skip_erased": True}, {"new_consent": True}):
        assert add(workspace, people, **options) == version
    bare = replace(people, samples=tuple(replace(s, subjects=(), public=False) for s in people.samples))
    assert add(workspace, bare, keep_subjects=True, keep_public=True) == version
    assert content(workspace) == before


def test_new_files_arrive_and_missing_ones_stay(workspace: Workspace, people: Scan, sample: Make) -> None:
    first = add(workspace, people)
    rest = tuple(s for s in people.samples if s.path != "train/b1")
    more = replace(people, samples=(*rest[:3], sample("train/ac", "cid", "dan"), *rest[3:]))
    second = add(workspace, more)
    assert (second.number, second.parent, second.samples, second.subjects) == (2, 1, 11, 5)
    arrived = {s.path: s.arrived for s in samples_of(workspace, second)}
    assert arrived.pop("train/ac") == 2
    assert set(arrived.values()) == {1}
    assert "train/b1" in arrived
    assert samples_of(workspace, first) == list(people.samples)


def test_full_removes_missing_files(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    fewer = replace(people, samples=tuple(s for s in people.samples if "cid" not in s.subjects))
    second = add(workspace, fewer, full=True)
    assert second.samples == 9
    assert samples_of(workspace, second) == list(fewer.samples)
    assert workspace.query("SELECT path, removed, removal FROM sample WHERE removed IS NOT NULL") == [
        {"path": "train/c1", "removed": 2, "removal": "gone"}
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"image_digest": "0" * 64},
        {"label_digest": "0" * 64},
        {"subjects": ("zoe",)},
        {"split": "test"},
        {"class_name": "b"},
    ],
)
def test_changed_sample_arrives_again(workspace: Workspace, people: Scan, changes: dict[str, object]) -> None:
    first = add(workspace, people)
    altered = tuple(replace(s, **changes) if s.path == "train/b1" else s for s in people.samples)  # type: ignore[arg-type]
    second = add(workspace, replace(people, samples=altered))
    now = {s.path: s for s in samples_of(workspace, second)}
    assert now["train/b1"] == replace(altered[3], arrived=2)
    assert len(now) == 10
    assert samples_of(workspace, first) == list(people.samples)
    assert workspace.query("SELECT path, removed, removal FROM sample WHERE removed IS NOT NULL") == [
        {"path": "train/b1", "removed": 2, "removal": "changed"}
    ]


def test_known_subjects_are_kept(workspace: Workspace, people: Scan, sample: Make) -> None:
    add(workspace, people)
    bare = tuple(replace(s, subjects=(), public=False) for s in people.samples)
    changed = replace(bare[0], image_digest="0" * 64)
    second = add(
        workspace,
        replace(people, samples=(changed, *bare[1:], sample("val/w"))),
        keep_subjects=True,
        keep_public=True,
    )
    now = {s.path: s for s in samples_of(workspace, second)}
    assert now["train/a1"].subjects == ("ann",)
    assert now["train/staff"].public
    assert second.subjects == 4
    third = add(workspace, replace(people, samples=bare))
    assert third.subjects == 0


def test_classes_may_only_be_appended(workspace: Workspace, people: Scan) -> None:
    first = add(workspace, people)
    wider = replace(people, config=DatasetConfig("yolo", ("a", "b", "c")))
    second = add(workspace, wider)
    assert second.number == 2
    assert second.config.names == ("a", "b", "c")
    with workspace.session() as session:
        assert get_version(session, "shop", 1).config.names == ("a", "b") == first.config.names
    before = content(workspace)
    for names in (("a",), ("b", "a", "c"), ("a", "x", "c"), ()):
        with pytest.raises(InputError, match="renamed, reordered or removed"):
            add(workspace, replace(people, config=DatasetConfig("yolo", names)))
    assert content(workspace) == before


def test_class_folders_keep_their_order(workspace: Workspace, people: Scan, sample: Make) -> None:
    found = replace(people, config=DatasetConfig("folders", ("b", "d")))
    add(workspace, found)
    wider = replace(
        found, config=DatasetConfig("folders", ("a", "d")), samples=(*found.samples, sample("val/x"))
    )
    assert add(workspace, wider).config.names == ("b", "d", "a")


def test_other_kind_or_folder(workspace: Workspace, people: Scan, sample: Make) -> None:
    add(workspace, people)
    before = content(workspace)
    with pytest.raises(InputError, match="another kind"):
        add(workspace, replace(people, config=DatasetConfig("folders", ("a", "b"))))
    for samples in (
        people.samples[1:],
        (replace(people.samples[0], image_digest="0" * 64), *people.samples[1:]),
    ):
        with pytest.raises(InputError, match="another one"):
            add(workspace, replace(people, root=Path("/e"), samples=samples))
    assert content(workspace) == before


def test_moved_folder(workspace: Workspace, people: Scan, sample: Make) -> None:
    add(workspace, people)
    moved = replace(people, root=Path("/e"))
    version = add(workspace, moved)
    assert version.number == 1
    assert version.root == Path("/e")
    more = add(workspace, replace(people, root=Path("/f"), samples=(*people.samples, sample("val/w"))))
    assert more.number == 2
    with workspace.session() as session:
        assert get_version(session, "shop", 1).root == Path("/f")


def test_public_and_private_do_not_mix(workspace: Workspace, people: Scan, sample: Make) -> None:
    add(workspace, people)
    before = content(workspace)
    with pytest.raises(InputError, match="also shows a private subject"):
        add(workspace, replace(people, samples=(*people.samples, sample("val/w", "sue"))))
    assert content(workspace) == before


@pytest.mark.parametrize("name", ["", "a/b", "a@1", "-x", "a b", "é", "x" * 101])
def test_names(workspace: Workspace, people: Scan, name: str) -> None:
    with pytest.raises(InputError):
        add(workspace, people, name)
    assert not workspace.query("SELECT 1 FROM dataset")


def test_nothing_to_train_on(workspace: Workspace, scan: Scans, sample: Make) -> None:
    with pytest.raises(InputError, match="Nothing is left to train on"):
        add(workspace, scan([sample("val/v")]))


def test_references(workspace: Workspace, people: Scan) -> None:
    assert parse_ref("shop") == ("shop", None)
    assert parse_ref("a.b-c_d@12") == ("a.b-c_d", 12)
    for ref in ("shop@", "shop@0", "shop@x", "@1", "shop@1@2", "shop@-1", "shop@1 "):
        with pytest.raises(InputError, match="is not a name"):
            parse_ref(ref)
    add(workspace, people)
    add(workspace, people, "cars")
    with workspace.session() as session:
        with pytest.raises(InputError, match=r"no dataset 'shp'.\nKnown datasets: cars, shop"):
            get_version(session, "shp")
        with pytest.raises(InputError, match="no version shop@2"):
            get_version(session, "shop", 2)
        assert [v.label for v in list_datasets(session)] == ["cars@1", "shop@1"]
        assert find_subject(session, None, "ann") == ["cars", "shop"]
        assert find_subject(session, "cars", "ann") == ["cars"]
        assert find_subject(session, None, "x") == []


def test_risks(workspace: Workspace, people: Scan, sample: Make) -> None:
    version = add(workspace, replace(people, risks={"ann": 0.5, "bob": 0.0}))
    with workspace.session() as session:
        assert subject_risks(session, version) == {"ann": 0.5, "bob": 0.0}
    before = content(workspace)
    for risks in ({"ann": 0.6}, {"cid": 0.1}):
        with pytest.raises(InputError, match="differs from the one recorded"):
            add(workspace, replace(people, risks=risks))
    assert add(workspace, people) == version
    assert content(workspace) == before


def test_groups(workspace: Workspace, people: Scan) -> None:
    def stored() -> list[object]:
        with workspace.session() as session:
            query = select(SampleSubjectRow.groups).where(SampleSubjectRow.groups.is_not(None))
            return [groups for groups in session.scalars(query) if groups is not None]

    version = add(workspace, replace(people, groups={("train/a1", "ann"): {"age": "old"}}))
    assert stored() == [{"age": "old"}]
    assert add(workspace, replace(people, groups={("train/a1", "ann"): {"age": "young"}})) == version
    assert stored() == [{"age": "young"}]


PATHS = [f"{split}/{i}" for split in ("train", "val") for i in range(4)]
STATE = st.dictionaries(
    st.sampled_from(PATHS), st.tuples(st.sampled_from("xyz"), st.sets(st.sampled_from("stu"), max_size=2))
)


@settings(max_examples=40, deadline=None)
@given(states=st.lists(st.tuples(STATE, st.booleans()), min_size=1, max_size=4))
def test_versions_are_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, states: list[tuple[dict[str, tuple[str, set[str]]], bool]]
) -> None:
    """Every version reads back as predicted by a simple model, whatever is added."""
    from sqlalchemy.orm import Session

    engine = open_engine(tmp_path_factory.mktemp("db") / "c.sqlite")
    expected: dict[int, dict[str, Sample]] = {}
    model: dict[str, Sample] = {}
    config = DatasetConfig("yolo", ("a",))
    with Session(engine) as session:
        for state, full in states:
            found = {
                path: Sample(path, path.split("/")[0], digest, "", None, tuple(sorted(subjects)))
                for path, (digest, subjects) in {**state, "train/z": ("x", set[str]())}.items()
            }
            model = dict(found) if full else {**model, **found}
            samples = tuple(found[path] for path in sorted(found))
            version = add_version(session, "d", Scan(Path("/d"), config, samples), key=b"k", full=full)
            session.commit()
            assert version.digest == manifest_digest(config, model.values())
            expected[version.number] = dict(model)
        for number, wanted in expected.items():
            version = get_version(session, "d", number)
            got = {s.path: replace(s, arrived=1) for s in iter_samples(session, version)}
            assert got == wanted
            assert version.subjects == len({x for s in wanted.values() for x in s.subjects})
    engine.dispose()

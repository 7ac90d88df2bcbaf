# SPDX-License-Identifier: Apache-2.0
"""Erasures: resolving a selection, erasing samples, and keeping them out."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from expunge.catalog.dataset_store import (
    Selection,
    add_version,
    erase,
    get_version,
    load_samples,
    resolve_selection,
    summarize,
)
from expunge.data.manifest import manifest_digest
from expunge.data.types import DatasetConfig, Sample, Scan, Version
from expunge.errors import InputError
from expunge.storage.keyed_digests import suppression_mac
from expunge.workspace import Workspace

Make = Callable[..., Sample]
Scans = Callable[..., Scan]
ANN = {"train/a1", "train/a2", "train/ab", "train/copy-of-a1", "val/a3"}


def add(workspace: Workspace, found: Scan, name: str = "shop", **options: bool) -> Version:
    with workspace.session() as session:
        return add_version(session, name, found, key=workspace.key, **options)


def select(workspace: Workspace, **selectors: Any) -> Selection:
    with workspace.session() as session:
        return resolve_selection(session, key=workspace.key, **selectors)


def forget(workspace: Workspace, request_id: str = "r1", **selectors: Any) -> Version:
    chosen = select(workspace, **selectors)
    with workspace.session() as session:
        return erase(
            session,
            chosen.version,
            set(chosen.paths),
            set(chosen.subjects),
            request_id=request_id,
            key=workspace.key,
        )


def paths(workspace: Workspace, number: int, without_erased: bool = False) -> set[str]:
    with workspace.session() as session:
        version = get_version(session, "shop", number)
        return {s.path for s in load_samples(session, version, without_erased=without_erased)}


def content(workspace: Workspace) -> list[object]:
    names = [row["name"] for row in workspace.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [workspace.query(f"SELECT * FROM {name}") for name in sorted(names)]


def test_subject_means_all_samples_and_their_copies(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    chosen = select(workspace, subjects=["ann"])
    assert chosen.paths == ANN
    assert chosen.subjects == {"ann"}
    assert chosen.version.label == "shop@1"
    assert not chosen.already_erased_by
    assert select(workspace, listed=["ann"]) == chosen


@pytest.mark.parametrize("path", ["train/a1", "./train//a1", "/d/train/a1", "/d/x/../train/a1"])
def test_sample_by_path(workspace: Workspace, people: Scan, path: str) -> None:
    add(workspace, people)
    assert select(workspace, sample_paths=[path]).paths == {"train/a1", "train/copy-of-a1"}
    assert select(workspace, listed=[path, "cid"]).paths == {"train/a1", "train/copy-of-a1", "train/c1"}
    assert not select(workspace, sample_paths=[path]).subjects


def test_path_through_a_linked_root(workspace: Workspace, people: Scan, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    add(workspace, replace(people, root=tmp_path / "link"))
    assert select(workspace, sample_paths=[str(tmp_path / "real/train/b1")]).paths == {"train/b1"}


def test_unknown_selectors_are_named(workspace: Workspace, people: Scan) -> None:
    with pytest.raises(InputError, match="no dataset"):
        select(workspace, subjects=["ann"])
    add(workspace, people)
    before = content(workspace)
    for selectors in (
        {"subjects": ["ann", "zed"]},
        {"sample_paths": ["train/zed"]},
        {"sample_paths": ["/elsewhere/train/a1"]},
        {"sample_paths": [""]},
        {"sample_paths": ["ann"]},
        {"subjects": ["train/a1"]},
        {"listed": ["train/a1", "zed"]},
        {"class_name": "zed"},
    ):
        with pytest.raises(InputError, match="Unknown"):
            select(workspace, **selectors)
    with pytest.raises(InputError, match="selects nothing"):
        select(workspace)
    with pytest.raises(InputError, match="no dataset 'x'"):
        select(workspace, subjects=["ann"], dataset="x")
    assert content(workspace) == before


def test_several_datasets(workspace: Workspace, people: Scan, scan: Scans, sample: Make) -> None:
    add(workspace, people)
    add(workspace, scan([sample("train/a1", "ann"), sample("train/q", "quinn")], root="/q"), "other")
    for selectors in ({"subjects": ["ann"]}, {"sample_paths": ["train/a1"]}, {"class_name": "a"}):
        with pytest.raises(InputError, match=r"several datasets.\nThey are other, shop"):
            select(workspace, **selectors)
    with pytest.raises(InputError, match="concerns several datasets"):
        select(workspace, subjects=["bob", "quinn"])
    assert select(workspace, subjects=["ann"], dataset="other").paths == {"train/a1"}
    assert select(workspace, sample_paths=["/d/train/a1"]).version.name == "shop"


def test_name_of_a_subject_and_of_a_sample(workspace: Workspace, scan: Scans, sample: Make) -> None:
    add(workspace, scan([sample("train/x", "s"), sample("train/y", "train/x")]))
    with pytest.raises(InputError, match="both a subject and a sample"):
        select(workspace, listed=["train/x"])
    assert select(workspace, subjects=["train/x"]).paths == {"train/y"}
    assert select(workspace, sample_paths=["train/x"]).paths == {"train/x"}


def test_class_of_folders(workspace: Workspace, people: Scan) -> None:
    samples = tuple(replace(s, class_name="cat" if "b" in s.path else "dog") for s in people.samples)
    add(workspace, replace(people, samples=samples, config=DatasetConfig("folders", ("ant", "cat", "dog"))))
    assert select(workspace, class_name="cat").paths == {"train/ab", "train/b1"}
    with pytest.raises(InputError, match="has no sample"):
        select(workspace, class_name="ant")


def test_class_of_labels(workspace: Workspace, scan: Scans, sample: Make, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name, rows in (("x", "0 0 0 0 0\n"), ("y", "1 0 0 0 0\n0 0 0 0 0\n"), ("z", "1 0 0 0 0\n")):
        (tmp_path / "train" / f"{name}.txt").write_text(rows)
    labelled = [replace(sample(f"train/{name}.png"), label_digest="1") for name in "xyz"]
    add(workspace, scan([*labelled, sample("train/none.png")], root=str(tmp_path)))
    assert select(workspace, class_name="a").paths == {"train/x.png", "train/y.png"}


def test_erasure_makes_a_version(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    version = forget(workspace, subjects=["ann"])
    assert (version.label, version.parent, version.request_id) == ("shop@2", 1, "r1")
    assert (version.samples, version.subjects) == (5, 3)
    left = [s for s in people.samples if s.path not in ANN]
    with workspace.session() as session:
        assert load_samples(session, version) == left
        assert summarize(session, get_version(session, "shop", 1))["erased_since"] == 5
    assert version.digest == manifest_digest(people.config, left)
    assert paths(workspace, 1) == {s.path for s in people.samples}
    assert paths(workspace, 1, without_erased=True) == {s.path for s in left}
    rows = workspace.query("SELECT path, removed, request_id FROM sample WHERE removal = 'erased'")
    assert {row["path"] for row in rows} == ANN
    assert {(row["removed"], row["request_id"]) for row in rows} == {(2, "r1")}


def test_erasures_add_up(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    forget(workspace, subjects=["bob"])
    third = forget(workspace, "r2", subjects=["ann"])
    assert third.number == 3
    assert paths(workspace, 3) == {"train/c1", "train/free", "train/staff", "val/v"}
    alone = manifest_digest(people.config, [s for s in people.samples if s.path in paths(workspace, 3)])
    assert third.digest == alone


def test_already_erased(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    chosen = select(workspace, subjects=["ann"], sample_paths=["train/ab", "train/copy-of-a1"])
    assert chosen.already_erased_by == {"ann": "r1", "train/ab": "r1", "train/copy-of-a1": "r1"}
    assert not chosen.paths
    assert chosen.version.number == 2
    both = select(workspace, subjects=["ann", "bob"])
    assert both.already_erased_by == {"ann": "r1"}
    assert both.paths == {"train/b1"}
    before = content(workspace)
    with pytest.raises(InputError, match="Nothing is left to erase"):
        forget(workspace, "r2", subjects=["ann"])
    assert content(workspace) == before


def test_erasing_everything_is_refused(workspace: Workspace, scan: Scans, sample: Make) -> None:
    add(workspace, scan([sample("train/x", "s"), sample("train/y", "t"), sample("val/v")]))
    before = content(workspace)
    with pytest.raises(InputError, match="leave nothing to train on"):
        forget(workspace, subjects=["s", "t"])
    assert content(workspace) == before
    forget(workspace, subjects=["s"])


def test_samples_only_in_older_versions_are_erased_too(
    workspace: Workspace, people: Scan, sample: Make
) -> None:
    """Older versions still contain the samples, and they must not be trained on again."""
    add(workspace, people)
    second = [s for s in people.samples if s.path not in ("train/a2", "train/c1")]
    second[second.index(people.samples[0])] = sample("train/a1", "dan", content="new")
    add(workspace, replace(people, samples=tuple(second)), full=True)
    chosen = select(workspace, subjects=["ann"])
    assert chosen.paths == {"train/ab", "train/copy-of-a1", "val/a3"}
    forget(workspace, subjects=["ann"])
    assert paths(workspace, 3) == {"train/a1", "train/b1", "train/free", "train/staff", "val/v"}
    assert not paths(workspace, 1, without_erased=True) & ANN
    assert paths(workspace, 2, without_erased=True) == paths(workspace, 3)
    # cid is only in the first version
    assert select(workspace, subjects=["cid"]).subjects == {"cid"}
    fourth = forget(workspace, "r2", subjects=["cid"])
    assert fourth.number == 4
    assert paths(workspace, 4) == paths(workspace, 3)
    assert "train/c1" not in paths(workspace, 1, without_erased=True)
    assert select(workspace, subjects=["cid"]).already_erased_by == {"cid": "r2"}


def test_erased_samples_cannot_be_added_again(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    before = content(workspace)
    for full in (False, True):
        with pytest.raises(InputError, match="5 of the 10 samples were erased") as raised:
            add(workspace, people, full=full)
        assert "ann" not in str(raised.value)
        assert "--new-consent" in raised.value.next_step
        assert add(workspace, people, full=full, skip_erased=True).number == 2
    assert content(workspace) == before


@pytest.mark.parametrize(
    "returning",
    [
        ("train/new", ("ann",), "new picture"),  # a new picture of the subject
        ("train/a1", (), "new picture"),  # another picture at the same path
        ("train/new", (), "train/a2"),  # the same bytes under another path
        ("train/new", ("eve",), "train/ab"),  # the same bytes, assigned to another person
    ],
)
def test_erased_data_is_recognised(
    workspace: Workspace, people: Scan, scan: Scans, sample: Make, returning: tuple[str, tuple[str, ...], str]
) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    path, subjects, bytes_ = returning
    left = [s for s in people.samples if s.path not in ANN]
    found = scan([*left, sample(path, *subjects, content=bytes_)])
    with pytest.raises(InputError, match="1 of the 6 samples were erased"):
        add(workspace, found)
    third = add(workspace, found, new_consent=True)
    assert third.number == 3
    assert third.samples == 6
    assert add(workspace, found).number == 3


def test_new_consent_covers_only_the_given_samples(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    some = replace(people, samples=tuple(s for s in people.samples if s.path != "train/a2"))
    assert add(workspace, some, new_consent=True).samples == 9
    with pytest.raises(InputError, match="1 of the 10"):
        add(workspace, people)
    assert {s.arrived for s in _samples(workspace) if s.path in ANN} == {3}
    assert select(workspace, subjects=["ann"]).paths == ANN - {"train/a2"}
    fourth = forget(workspace, "r2", subjects=["ann"])
    assert fourth.number == 4
    assert fourth.samples == 5


def _samples(workspace: Workspace) -> list[Sample]:
    with workspace.session() as session:
        return load_samples(session, get_version(session, "shop"))


def test_same_bytes_in_another_dataset_are_refused(
    workspace: Workspace, people: Scan, scan: Scans, sample: Make
) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    with pytest.raises(InputError, match="1 of the 2"):
        add(workspace, scan([sample("train/q", content="train/a1"), sample("train/r", "eve")]), "other")
    assert not workspace.query("SELECT 1 FROM dataset WHERE name = 'other'")
    assert add(workspace, scan([sample("train/a1", "eve", content="else")]), "other").samples == 1


def test_an_erased_subject_does_not_return_under_another_name(
    workspace: Workspace, people: Scan, scan: Scans, sample: Make
) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    back = scan([sample("train/new", "ann"), sample("train/other", "eve")])
    for options in ({}, {"full": True}, {"keep_public": True}):
        with pytest.raises(InputError, match="1 of the 2") as raised:
            add(workspace, back, "other", **options)
        assert "another dataset" in raised.value.why
    assert add(workspace, back, "other", skip_erased=True).samples == 1
    assert add(workspace, back, "other", new_consent=True).samples == 2
    assert add(workspace, scan([sample("train/third", "ann")]), "third").samples == 1, "consent was given"
    assert add(workspace, scan([*people.samples[:0], sample("train/fresh", "ann")]), "shop").samples


def test_subjects_present_in_another_dataset_may_stay(
    workspace: Workspace, people: Scan, scan: Scans, sample: Make
) -> None:
    add(workspace, people)
    add(workspace, scan([sample("train/mine", "ann")]), "other")
    forget(workspace, subjects=["ann"], dataset="shop")
    grown = scan([sample("train/mine", "ann"), sample("train/more", "ann")])
    assert add(workspace, grown, "other").samples == 2
    with pytest.raises(InputError, match="erased on request"):
        add(workspace, scan([sample("train/else", "ann")]), "third")


def test_names_are_erased_and_recognised_in_every_normal_form(
    workspace: Workspace, scan: Scans, sample: Make
) -> None:
    nfc, nfd = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    assert nfc != nfd
    add(workspace, scan([sample(f"train/{nfd}", nfd), sample("train/x", "eve"), sample("train/y")]))
    assert select(workspace, sample_paths=[f"train/{nfc}"]).paths == {f"train/{nfd}"}
    assert select(workspace, subjects=[nfc]).subjects == {nfd}
    forget(workspace, subjects=[nfc])
    for name in ("shop", "other"):
        with pytest.raises(InputError, match="erased on request"):
            add(workspace, scan([sample("train/new", nfc), sample("train/z")]), name)


def test_suppression_list_holds_no_id(workspace: Workspace, people: Scan) -> None:
    add(workspace, people)
    forget(workspace, subjects=["ann"])
    rows = workspace.query("SELECT kind, mac, request_id FROM suppression")
    assert [row["kind"] for row in rows].count("subject") == 1
    assert {row["mac"] for row in rows} == {
        suppression_mac(workspace.key, "subject", "shop", "ann"),
        *(suppression_mac(workspace.key, "sample", "shop", path) for path in ANN),
        *(
            suppression_mac(workspace.key, "image", "", s.image_digest)
            for s in people.samples
            if s.path in ANN
        ),
    }
    assert suppression_mac(b"k", "subject", "a", "b") != suppression_mac(b"k", "subject", "ab", "")


def test_erasure_starts_from_the_newest_version(workspace: Workspace, people: Scan, sample: Make) -> None:
    first = add(workspace, people)
    add(workspace, replace(people, samples=(*people.samples, sample("val/x", "ann"))))
    with workspace.session() as session:
        version = erase(session, first, {"train/a1"}, {"ann"}, request_id="r", key=workspace.key)
    assert version.number == 3
    assert paths(workspace, 3) == {s.path for s in people.samples} - ANN


def test_thousands_at_once(workspace: Workspace, scan: Scans, sample: Make) -> None:
    many = [sample(f"train/{i}", f"s{i % 1500}") for i in range(3000)]
    add(workspace, scan(many))
    chosen = select(workspace, listed=[f"train/{i}" for i in range(2500)])
    assert len(chosen.paths) == 2500
    with workspace.session() as session:
        version = erase(session, chosen.version, set(chosen.paths), set(), request_id="r", key=workspace.key)
    assert version.samples == 500

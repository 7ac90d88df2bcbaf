# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates in a workspace: search, page, decisions, and erasure together with the subject."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expunge.catalog import decisions
from expunge.catalog.dataset_store import add_version, erase, get_version, resolve_selection
from expunge.data.hashes import read
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.datasets import near_duplicates
from expunge.errors import InputError
from expunge.purge import run
from expunge.workspace import Workspace

# path: subject, scene, storage format
PICTURES = {
    "train/a0.png": ("ann", 0, "plain"),
    "train/a1.png": ("ann", 1, "plain"),
    "train/a1-small.jpg": ("ann", 1, "small"),
    "train/b0.jpg": ("bob", 0, "small"),
    "train/b2.png": ("bob", 2, "plain"),
    "train/free0.jpg": ("", 0, "mirrored"),
    "train/free2.png": ("", 2, "plain"),
    "train/c3.png": ("cid", 3, "plain"),
    "train/flat1.png": ("cid", -1, "plain"),
    "train/flat2.png": ("ann", -1, "plain"),
    "val/d4.png": ("dan", 4, "plain"),
    "val/broken.png": ("dan", -2, "plain"),
}


def content(number: int, how: str) -> bytes:
    """Return the bytes of an image."""
    if number == -2:
        return b"no picture"
    small = np.random.default_rng(number + 10).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    picture = (
        Image.new("RGB", (320, 240), "grey")
        if number < 0
        else Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)
    )
    if how == "mirrored":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    buffer = io.BytesIO()
    if how == "plain":
        picture.save(buffer, "PNG")
    else:
        picture.resize((160, 120)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    samples = []
    for path, (who, number, how) in sorted(PICTURES.items()):
        data = content(number, how)
        file = tmp_path / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        samples.append(Sample(path, path.split("/")[0], digest, subjects=(who,) if who else ()))
    made = Workspace.init(tmp_path)
    scan = Scan(tmp_path / "data", DatasetConfig("yolo", ("face",)), tuple(samples))
    with made.session(write=True) as session:
        add_version(session, "shop", scan, key=made.key)
    return made


ALL = {
    ("train/a0.png", "train/b0.jpg"),
    ("train/a0.png", "train/free0.jpg"),
    ("train/b0.jpg", "train/free0.jpg"),
    ("train/b2.png", "train/free2.png"),
}


def pairs(result: dict[str, object]) -> set[tuple[str, str]]:
    return {tuple(sorted((p["a"], p["b"]))) for p in result["pairs"]}  # type: ignore[attr-defined,misc]


def test_pairs_across_subjects(workspace: Workspace) -> None:
    result = near_duplicates.find_duplicates(workspace, "shop")
    assert pairs(result) == ALL
    by = {tuple(sorted((p["a"], p["b"]))): p for p in result["pairs"]}
    assert by["train/a0.png", "train/free0.jpg"]["flipped"]
    assert not by["train/a0.png", "train/b0.jpg"]["flipped"]
    assert by["train/b2.png", "train/free2.png"]["identical"]
    assert by["train/b2.png", "train/free2.png"]["similarity"] == 1.0
    assert {p["similarity"] >= 0.9 for p in result["pairs"]} == {True}
    assert by["train/a0.png", "train/b0.jpg"]["subjects_a"] == ["ann"]
    assert (result["images"], result["unreadable"], result["featureless"]) == (12, 1, 2)
    assert not result["truncated"]
    assert near_duplicates.find_duplicates(workspace, "shop", limit=2)["truncated"]


def test_pairs_of_one_subject(workspace: Workspace) -> None:
    result = near_duplicates.find_duplicates(workspace, "shop", subject="ann", distance=12)
    assert {p["a"] for p in result["pairs"]} == {"train/a0.png"}
    assert {p["b"] for p in result["pairs"]} == {"train/b0.jpg", "train/free0.jpg"}
    with pytest.raises(InputError, match="Unknown: 'eve'"):
        near_duplicates.find_duplicates(workspace, "shop", subject="eve")
    with pytest.raises(InputError, match="distance of 12"):
        near_duplicates.find_duplicates(workspace, "shop", distance=12)


def test_cached_hashes_are_not_computed_again(workspace: Workspace) -> None:
    first = near_duplicates.find_duplicates(workspace, "shop")
    assert first["read_now"] == 9, "eleven pictures, of which two and two are equal"
    again = near_duplicates.find_duplicates(workspace, "shop")
    assert again["read_now"] == 0
    assert again["pairs"] == first["pairs"]
    cache = near_duplicates.cache_file(workspace, "shop")
    assert cache.stat().st_mode & 0o777 == 0o600
    cache.write_bytes(b"damaged")
    assert near_duplicates.find_duplicates(workspace, "shop")["pairs"] == first["pairs"]
    file = workspace.root.parent / "data/train/a0.png"
    file.write_bytes(content(3, "plain"))
    cache.unlink()
    assert near_duplicates.find_duplicates(workspace, "shop")["changed"] == 1, (
        "a file that is not the manifest's is not hashed"
    )


def test_the_page_is_self_contained(workspace: Workspace, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    near_duplicates.find_duplicates(workspace, "shop", sheet=page)
    text = page.read_text()
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 8
    assert all(base64.b64decode(image).startswith(b"\xff\xd8") for image in images)
    assert "http" not in text
    assert "train/free0.jpg" in text
    assert page.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists already"):
        near_duplicates.find_duplicates(workspace, "shop", sheet=page)


def table(tmp_path: Path, *rows: str) -> Path:
    file = tmp_path / "decisions.csv"
    file.write_text("\n".join(("a,b,decision", *rows)) + "\n")
    return file


def scope(workspace: Workspace, *people: str) -> frozenset[str]:
    with workspace.session() as session:
        return resolve_selection(session, key=workspace.key, subjects=people).paths


def test_confirmed_duplicates_are_erased_together(workspace: Workspace, tmp_path: Path) -> None:
    ann = {p for p, (who, _, _) in PICTURES.items() if who == "ann"}
    flat = {"train/flat1.png"}  # byte-identical to one of ann's
    assert scope(workspace, "ann") == ann | flat
    rows = ["train/a0.png,train/b0.jpg,different", "train/free0.jpg,train/a0.png,same"]
    kept = near_duplicates.decide(workspace, "shop", table(tmp_path, *rows))
    assert kept == {"dataset": "shop@1", "decided": 2, "same": 1, "different": 1}
    assert scope(workspace, "ann") == ann | flat | {"train/free0.jpg"}
    assert "train/free0.jpg" not in scope(workspace, "bob")
    near_duplicates.decide(workspace, "shop", table(tmp_path, "train/free0.jpg,train/b0.jpg,same"))
    assert scope(workspace, "ann") >= {"train/free0.jpg", "train/b0.jpg"}, "and what is the same as that"
    near_duplicates.decide(workspace, "shop", table(tmp_path, "train/a0.png,train/free0.jpg,different"))
    assert scope(workspace, "ann") == ann | flat, "a later decision replaces an earlier one"
    shown = {
        frozenset((p["a"], p["b"])): p["decision"]
        for p in near_duplicates.find_duplicates(workspace, "shop")["pairs"]
    }
    assert shown[frozenset(("train/b0.jpg", "train/free0.jpg"))] == "same"
    assert shown[frozenset(("train/b2.png", "train/free2.png"))] is None


@pytest.mark.parametrize(
    "row",
    [
        "train/a0.png,train/none.png,same",
        "train/a0.png,train/b0.jpg,maybe",
        "train/a0.png,train/a0.png,same",
        "x",
    ],
)
def test_a_bad_row_rejects_the_whole_table(workspace: Workspace, tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError):
        near_duplicates.decide(workspace, "shop", table(tmp_path, "train/a0.png,train/free0.jpg,same", row))
    assert workspace.query("SELECT id FROM duplicate_decision") == []


def test_no_table(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("one,two\n1,2\n")
    for name in ("x.csv", "none.csv"):
        with pytest.raises(InputError):
            near_duplicates.decide(workspace, "shop", tmp_path / name)


def test_erased_images_leave_cache_and_decisions(workspace: Workspace, tmp_path: Path) -> None:
    near_duplicates.find_duplicates(workspace, "shop")
    near_duplicates.decide(workspace, "shop", table(tmp_path, "train/a0.png,train/free0.jpg,different"))
    with workspace.session(write=True) as session:
        version = get_version(session, "shop")
        erase(session, version, set(), {"ann"}, request_id="r-1", key=workspace.key)
    gone = {hashlib.sha256(content(n, how)).digest() for who, n, how in PICTURES.values() if who == "ann"}
    cache = near_duplicates.cache_file(workspace, "shop")
    assert all(digest.rstrip(b"\0") in cache.read_bytes() for digest in gone)
    (stale,) = near_duplicates.stale_caches(workspace)
    assert stale[0] == "caches/shop.hashes"
    assert near_duplicates.forget_hashes(workspace) == 4
    assert not any(digest.rstrip(b"\0") in cache.read_bytes() for digest in gone)
    assert len(read(cache)) == 5
    assert list(near_duplicates.stale_caches(workspace)) == []
    with workspace.session(write=True) as session:
        assert decisions.forget_decisions(session) == 1
        assert decisions.forget_decisions(session) == 0


def test_purge_deletes_a_cache_that_holds_erased_pictures(workspace: Workspace) -> None:
    near_duplicates.find_duplicates(workspace, "shop")
    assert run.dry_run(workspace, run.PurgeOptions())["leftovers"] == []
    with workspace.session(write=True) as session:
        erase(session, get_version(session, "shop"), set(), {"dan"}, request_id="r-1", key=workspace.key)
    (found,) = run.dry_run(workspace, run.PurgeOptions())["leftovers"]
    assert (found["kind"], Path(found["path"]).name) == ("cache", "shop.hashes")
    run.purge(workspace, run.PurgeOptions())
    assert not near_duplicates.cache_file(workspace, "shop").exists()

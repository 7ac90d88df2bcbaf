# SPDX-License-Identifier: AGPL-3.0-or-later
"""Labels, pictures and folders, compared with Ultralytics' own reader on the same files."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
import worlds
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from expunge.data.decoding import BadImage, check_image, decode_image
from expunge.data.labels import BadLabel, decode_label, parse_label
from expunge.data.scan import scan
from expunge.data.types import Version
from expunge.data.yolo import label_file
from expunge.errors import InputError
from expunge.exact.planner import Options, make_plan
from expunge.tasks.quiet import load_ultralytics

CLASSES = 3
NUMBERS = [
    "0", "1", "2", "0.5", ".25", "0.1", "1.", "1.0", "5e-1", "+0.5", "1_0", "١", "-0", "-0.0", "-0.005",
    "-0.01", "-0.02", "1.005", "1.01", "1.0100001", "1.02", "2.0", "nan", "inf", "-inf", "1e400", "1e-50",
    "0.99999999999", "x", "0,5", "0x1", "½", "True", "3", "-1", "0.5f",
]  # fmt: skip
GOOD = ["0.5", ".25", "0.1", "0", "1", "1.0", "0.125", "5e-1"]
ENDS = ["\n", "\r\n", "\r", "\n\n", " \n\t\n", "\x0c", "\u2028", "\x1c"]
BETWEEN = [" ", "\t", "  ", " \t ", "\xa0", "\u3000"]


@pytest.fixture(scope="module")
def utils() -> Any:
    load_ultralytics()
    from ultralytics.data import utils

    return utils


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reading")
    Image.new("RGB", (32, 24), "red").save(folder / "good.png")
    return folder


def usual_rows(columns: int) -> st.SearchStrategy[list[list[str]]]:
    row = st.builds(
        lambda index, rest: [index, *rest],
        st.sampled_from(["0", "1", "2", "1.0"]),
        st.lists(st.sampled_from(GOOD), min_size=columns - 1, max_size=columns - 1),
    )
    return st.lists(row, max_size=4)


@st.composite
def label_files(draw: st.DrawFn) -> bytes:
    """Draw a label file, mostly of one kind of rows, often with an unusual part."""
    columns = draw(st.sampled_from([5, 5, 5, 7, 9, 11]))
    rows = draw(usual_rows(columns))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        odd = draw(st.sampled_from(["number", "class", "copy", "row", "columns"]))
        if odd == "row" or not rows:
            fields = draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=12))
            rows.insert(draw(st.integers(0, len(rows))), fields)
            continue
        row = draw(st.sampled_from(rows))
        if odd == "copy":
            rows.insert(draw(st.integers(0, len(rows))), list(row))
        elif odd == "class":
            row[0] = draw(st.sampled_from(NUMBERS))
        elif odd == "number":
            row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(NUMBERS))
        elif draw(st.booleans()):
            row.append(draw(st.sampled_from(GOOD)))
        else:
            row.pop()
    between, end = draw(st.sampled_from(BETWEEN)), draw(st.sampled_from(ENDS))
    text = "".join(between.join(row) + end for row in rows)
    before = draw(st.sampled_from(["", "", "", "\ufeff", "\ufeff\ufeff", " ", "\n"]))
    after = draw(st.sampled_from([b"", b"", b"", b"\n", b"\xff", b"\x00", b"#", b"\x1a"]))
    return f"{before}{text}".encode() + after


@pytest.mark.parametrize("shape", [(0, 0), (2, 3), (1, 2)])
def test_labels_are_read_as_by_ultralytics(shape: tuple[int, int], utils: Any, place: Path) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(label_files())
    def compare(content: bytes) -> None:
        (place / "good.txt").write_bytes(content)
        arguments = (str(place / "good.png"), str(place / "good.txt"), "", False, CLASSES, *shape, False)
        _, theirs, *_, corrupt, message = utils.verify_image_label(arguments)
        ours = None
        with contextlib.suppress(BadLabel):
            ours = parse_label(decode_label(content), CLASSES, shape[0] * shape[1])
        assert bool(corrupt) == (ours is None), (content, message)
        if ours is None:
            seen["refused"] += 1
            return
        assert ours.boxes.dtype == theirs.dtype == np.float32
        assert ours.boxes.tobytes() == np.ascontiguousarray(theirs).tobytes()
        assert bool(ours.duplicates) == ("duplicate" in message)
        assert not ours.duplicates or f" {ours.duplicates} duplicate" in message
        seen["duplicates" if ours.duplicates else "empty" if not len(theirs) else "read"] += 1

    compare()
    assert min(seen[kind] for kind in ("refused", "duplicates", "empty", "read")) >= 10, seen


MODES = ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"]
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "MPO", "GIF", "PPM", "TGA", "ICO"]
SUFFIXES = ["jpg", "JPEG", "png", "webp", "avif", "tif", "TIFF", "bmp", "jp2", "mpo", "heic", "dng"]
USUAL = dict(zip(["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "MPO"],
                 ["jpg", "png", "webp", "avif", "tif", "bmp", "jp2", "mpo"], strict=True))  # fmt: skip


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, bytes] | None:
    """Draw a picture's suffix and bytes; None if Pillow cannot write such a picture."""
    form = draw(st.sampled_from(["JPEG", "JPEG", *FORMATS[:8], *FORMATS]))
    mode = draw(st.sampled_from(["RGB", "RGB", *MODES]))
    size = draw(st.sampled_from([*[(24, 16), (16, 24), (10, 10)] * 3, (9, 24), (24, 9), (1, 1)]))
    pixels = np.random.default_rng(draw(st.integers(0, 3))).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    base = Image.fromarray(pixels)
    exif, options = Image.Exif(), dict[str, Any]()
    if orientation := draw(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])):
        exif[274] = orientation
        options = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif}
    if form in ("WEBP", "PNG", "TIFF", "GIF", "MPO") and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [Image.fromarray(255 - pixels)]}
    if form == "AVIF" and mode != "RGB":  # Pillow's encoder may crash
        return None
    out = io.BytesIO()
    try:
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
        elif mode == "P":
            image = base.quantize(16)
        else:
            image = base.convert("L").convert(mode) if mode in ("I", "F", "LAB") else base.convert(mode)
        image.save(out, form, **options)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    content = out.getvalue()
    damage = draw(st.sampled_from(["", "", "", "", "tail", "tail", "cut", "empty"]))
    if damage == "cut":
        content = content[: -draw(st.sampled_from([1, 2, 5, 30, 200]))]
    elif damage == "tail":
        content += b"\0" * draw(st.sampled_from([1, 8]))
    elif damage == "empty":
        content = b""
    usual = USUAL.get(form, "png")
    return draw(st.sampled_from([*[usual] * 24, *SUFFIXES])), content


def with_tail(count: int) -> tuple[str, bytes]:
    """Return a JPEG with zeros behind its end, which Ultralytics writes anew."""
    out = io.BytesIO()
    Image.new("RGB", (24, 16), "red").save(out, "JPEG")
    return "jpg", out.getvalue() + b"\0" * count


@pytest.mark.parametrize("kind", ["yolo", "folders"])
def test_pictures_are_read_as_by_ultralytics(kind: str, utils: Any, place: Path) -> None:
    from ultralytics.data.dataset import ClassificationDataset
    from ultralytics.utils.patches import imread

    seen: Counter[str] = Counter()

    def theirs(file: Path) -> Any:
        """Return what Ultralytics trains on; None if it skips the picture or fails."""
        image = (imread if kind == "yolo" else ClassificationDataset.imread)(str(file))
        if kind == "yolo":
            *_, corrupt, _ = utils.verify_image_label((str(file), "none", "", False, CLASSES, 0, 0, False))
        else:
            *_, corrupt, _ = utils.verify_image(((str(file), 0), ""))
        usable = image is not None and image.dtype == np.uint8 and image.shape[2:] == (3,)
        return None if corrupt or not usable else image

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @example(with_tail(1))  # rare among those that are drawn
    @example(with_tail(8))
    @given(pictures())
    def compare(picture: tuple[str, bytes] | None) -> None:
        if picture is None or (picture[0] in ("avif", "heic") and picture[1][:2] in (b"II", b"MM")):
            return  # a TIFF under these suffixes is refused
        suffix, content = picture
        file = place / f"picture.{suffix}"
        file.write_bytes(content)
        ours, rewritten = None, False
        with contextlib.suppress(BadImage):
            rewritten = check_image(content, file.name)
            ours = decode_image(content, file.name, kind)
        image = theirs(file)
        assert (ours is None) == (image is None), suffix
        if ours is None:
            seen["refused"] += 1
            return
        assert ours.shape == image.shape, (suffix, content[:40], content[-20:])
        assert (ours == image).all()
        assert rewritten == (file.read_bytes() != content), "the only difference: no file is rewritten"
        seen["rewritten" if rewritten else "read"] += 1

    compare()
    assert seen["refused"] >= 10, seen
    assert seen["read"] >= 30, seen
    assert seen["rewritten"] >= 2, seen


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation(form: str, orientation: int, place: Path) -> None:
    from ultralytics.utils.patches import imread

    pixels = np.random.default_rng(1).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    base, exif = Image.fromarray(pixels).resize((48, 32), Image.Resampling.NEAREST), Image.Exif()
    exif[274] = orientation
    file = place / f"turned.{USUAL[form]}"
    base.save(file, form, **({"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif}))
    ours = decode_image(file.read_bytes(), file.name)
    assert (ours == imread(str(file))).all()
    assert ours.shape[:2] == ((48, 32) if orientation >= 5 else (32, 48))


def test_a_tiff_under_a_suffix_of_pillow_is_refused() -> None:
    content = io.BytesIO()
    Image.new("L", (24, 16)).save(content, "TIFF", tiffinfo={274: 6})
    with pytest.raises(BadImage, match="rename"):
        check_image(content.getvalue(), "a.heic")
    assert not check_image(content.getvalue(), "a.tif")


def test_unsupported_channels_are_refused_by_the_planner(tmp_path: Path) -> None:
    found = scan(worlds.detection(tmp_path).source)
    version = Version(1, "shop", 1, "", found.root, found.config, len(found.samples), 0)
    options = Options(str(worlds.tiny_architecture(tmp_path, "detect")), 1, 1, 1, 32, 4)
    make_plan(options, version, found.samples, {})
    for channels in (1, 10, "1", 3.5, [3]):
        config = replace(found.config, extra={"channels": channels})
        with pytest.raises(InputError, match="channels"):
            make_plan(options, replace(version, config=config), found.samples, {})
    for channels in (3, 3.0, "3"):
        config = replace(found.config, extra={"channels": channels})
        make_plan(options, replace(version, config=config), found.samples, {})


LINKS = ["none", "split", "images", "root", "inside", "file"]
LABELS = ["listed", "target", "both", "differing", "none"]


def linked_dataset(base: Path, link: str, labels: str) -> Path:
    """Create a dataset with a linked folder on the path to the pictures, and labels at the given place."""
    root, store = base / "shop", base / "store"
    (root if link != "root" else store).mkdir(parents=True)
    if link == "root":
        root.symlink_to(store)
    folders = {
        "none": (root / "images/train", root / "images/train"),
        "split": (root / "images/train", store / "images/train"),
        "images": (root / "images", store / "images"),
        "root": (root / "images/train", root / "images/train"),
        "inside": (root / "images/train/more", store / "images/more"),
        "file": (root / "images/train", store / "images"),
    }
    listed, target = folders[link]
    pictures = target / "train" if link == "images" else target
    pictures.mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (16, 16), "red").save(pictures / f"{name}.png")
    if link == "file":
        listed.mkdir(parents=True)
        for name in ("a", "b"):
            (listed / f"{name}.png").symlink_to(pictures / f"{name}.png")
    elif listed != target:
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.symlink_to(target, target_is_directory=True)
    (root / "val").mkdir()
    Image.new("RGB", (16, 16), "blue").save(root / "val/c.png")
    seen = root / "images/train/more" if link == "inside" else root / "images/train"
    for where, text in (("listed", "0 0.5 0.5 0.2 0.2\n"), ("target", "1 0.5 0.5 0.4 0.4\n")):
        if labels in (where, "both", "differing"):
            folder = Path(str(seen if where == "listed" else pictures).replace("/images", "/labels"))
            folder.mkdir(parents=True, exist_ok=True)
            text = text if labels != "both" else "0 0.5 0.5 0.3 0.3\n"
            for name in ("a", "b"):
                (folder / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nval: val\nnames: [x, y]\n")
    return root


def read_by_ultralytics(utils: Any, root: Path) -> dict[str, bytes]:
    """Return the boxes of each training picture, by its real file and its name."""
    from ultralytics.data.base import BaseDataset

    data = utils.check_det_dataset(str(root / "data.yaml"), autodownload=False)
    lister: Any = BaseDataset.__new__(BaseDataset)
    lister.prefix, lister.fraction = "", 1.0
    files = lister.get_img_files(data["train"])
    found = {}
    for image, label in zip(files, utils.img2label_paths(files), strict=True):
        _, boxes, *_, corrupt, message = utils.verify_image_label((image, label, "", False, 2, 0, 0, False))
        assert not corrupt, message
        found[os.path.realpath(image)] = boxes.tobytes()
    return found


@pytest.mark.parametrize(("link", "labels"), itertools.product(LINKS, LABELS))
def test_labels_of_linked_folders(link: str, labels: str, utils: Any, tmp_path: Path) -> None:
    root = linked_dataset(tmp_path, link, labels)
    theirs = read_by_ultralytics(utils, root)
    if labels == "differing" and link in ("split", "images"):
        with pytest.raises(InputError, match="differs from it"):
            scan(root / "data.yaml")
        return
    found = scan(root / "data.yaml")
    ours = {}
    for sample in (s for s in found.samples if s.split == "train"):
        text = label_file(root, sample.path).read_text() if sample.label_digest else ""
        ours[os.path.realpath(root / sample.path)] = parse_label(text, 2).boxes.tobytes()
    if links := found.findings.counts.get("label-beside-link"):
        assert links == len(ours)
        assert labels == "listed"
        assert set(theirs.values()) == {b""}
        assert b"" not in ours.values()
        assert ours.keys() == theirs.keys()
    else:
        assert ours == theirs


def suffix(name: str) -> str:
    return name.rpartition(".")[-1].lower()


NAMES = ["cat", "dog", ".hidden", "Cat 2", "ä ö"]
FILES = ["1.png", "2.PNG", ".3.png", "4.txt", "x.y.jpg", "sub/5.png", ".sub/6.png", "sub/.7.png", "8.jpeg"]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(FILES)), max_size=12))
def test_class_folders_are_listed_as_by_torchvision(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("folders")
    content = io.BytesIO()
    Image.new("RGB", (12, 12)).save(content, "PNG")
    for name, file in [*files, ("cat", "0.png")]:
        for split in ("train", "val"):
            path = root / split / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.getvalue())
    from ultralytics.data.utils import IMG_FORMATS

    theirs = torchvision.datasets.ImageFolder(
        str(root / "train"), is_valid_file=lambda x: suffix(x) in IMG_FORMATS, allow_empty=True
    )
    expected = {(os.path.relpath(path, root), theirs.classes[index]) for path, index in theirs.samples}
    found = scan(root)
    ours = {(sample.path, sample.class_name) for sample in found.samples if sample.split == "train"}
    hidden = {(path, name) for path, name in expected if "/." in path}
    assert ours == expected - hidden
    assert found.findings.counts.get("hidden", 0) == 2 * len(hidden), "in train and val"
    shutil.rmtree(root)

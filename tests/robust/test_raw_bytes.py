# SPDX-License-Identifier: Apache-2.0
"""A search of raw bytes after the whole life of a request: nothing of the erased person is left anywhere.

Searched are the workspace, the folders of keys and anchors, the home folder, caches and temporary folders,
after every command that a request meets. What the user asked to be written elsewhere (a sheet of pictures, a
report with pictures) is the user's own; here it is the negative control: the search finds the person there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from postgres_kit import server, url  # noqa: F401 (fixtures)
from robust import scenes, world
from robust.commands import Nursery, Running, Shop

WHO = "Zaphod-Marker-77"
RECIPIENT, NOTE = "Recipient-Magrathea-5", "note-about-Vogsphere-9"
PICTURES = {f"images/train/QuuxFile{k}.png": WHO for k in range(4)} | {"images/val/QuuxFile9.png": WHO}
LEAST_BYTES = 6


@dataclass
class House(Shop):
    """A shop whose commands have a home, keys, caches and temporary folders of their own."""

    def start(self, *argv: str, **options: Any) -> Running:
        """Start a command with the folders of this house."""
        return super().start(*argv, **{**options, "env": self.env()})

    def env(self) -> dict[str, str]:
        """The variables that point to the folders."""
        home = self.folder / "home"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        return {
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "EXPUNGE_KEYS": str(home / "keys"),
            "EXPUNGE_ANCHORS": str(home / "anchors"),
        }


def needles(shop: Shop) -> dict[str, bytes]:
    """Everything by which the person could be found: id, paths, digests, salts, pixels, label, free text."""
    found = {"id": WHO.encode(), "id in UTF-16": WHO.encode("utf-16-le"), "note": NOTE.encode()}
    found |= {"id in base64": base64.b64encode(WHO.encode())[:-4], "recipient": RECIPIENT.encode()}
    found |= _digests("id", WHO.encode())
    for path in PICTURES:
        found |= {path: path.encode(), f"{path}: name": Path(path).stem.encode()}
        content = (shop.data / path).read_bytes()
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        found |= {f"{path}: file": content[-80:-40], f"{path}: rgb": pixels.tobytes()[300:332]}
        found |= {f"{path}: bgr": pixels[..., ::-1].tobytes()[300:332], **_digests(path, content)}
        label = scenes.label_of(shop.data, path).read_bytes()
        found |= {f"{path}: label": label.split(b" ", 1)[1].strip(), **_digests(f"{path} label", label)}
    rows = "SELECT s.path, s.salt FROM sample s WHERE s.path LIKE '%QuuxFile%' AND s.salt IS NOT NULL"
    if (shop.root / "catalog.sqlite").exists():
        found |= {f"{path}: salt": salt for path, salt in shop.sql(rows)}
    assert all(len(value) >= LEAST_BYTES for value in found.values())
    return found


def _digests(what: str, content: bytes) -> dict[str, bytes]:
    found = {}
    for name in ("sha256", "sha1", "md5"):
        digest = hashlib.new(name, content)
        found |= {
            f"{what}: {name}": digest.hexdigest()[:32].encode(),
            f"{what}: {name} raw": digest.digest()[:16],
        }
    return found


def hits(words: dict[str, bytes], *places: Path) -> set[str]:
    """Which words any file (or member of an archive) below the places holds, or is called."""
    found = set()
    for file in (f for place in places for f in [place, *place.rglob("*")] if f.is_file()):
        for name, content in _contents(file):
            found |= {f"{word} in {file.name}" for word, b in words.items() if b in content or b in name}
    return found


def _contents(file: Path) -> Iterator[tuple[bytes, bytes]]:
    content = file.read_bytes()
    yield str(file.relative_to(file.parents[2])).encode(), content
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield member.encode(), archive.read(member)


def live_through(shop: House, *init: str) -> tuple[dict[str, bytes], str]:
    """Run every command that a request meets; returns the needles and the request."""
    scenes.make(shop.data, extra={p: w for p, w in PICTURES.items() if "/train/" in p})
    for path in PICTURES:
        scenes.draw(shop.data, path)
    with open(shop.data / "subjects.csv", "a") as table:
        table.write(f"images/val/QuuxFile9.png,{WHO}\n")
    (shop.data / "groups.csv").write_text(
        "sample,light\n" + "".join(f"images/val/{k}.png,{'day' if k % 2 else 'night'}\n" for k in range(6))
    )
    scenes.architecture(shop.folder)
    shop.ok("init", ".", *init)
    shop.ok(*world.ADD)
    words = needles(shop)
    assert len(hits(words, shop.root)) >= len(PICTURES) or init, "a search that finds nothing shows nothing"
    shop.ok("plan", "shop", "--weights", "nano.yaml", "--epochs", "2", "--imgsz", "32", "--out", "plan.json")
    shop.ok(*world.TRAIN)
    running = shop.start_call(
        str(Path(__file__).with_name("stock_training.py")), "train_stock", env=shop.env(),
        data=str(shop.data / "data.yaml"), model="nano.yaml",
        project=str(shop.folder / "runs"),
    )  # fmt: skip
    assert running.wait().code == 0, running.wait().err
    shop.ok("adopt", "runs/run/weights/last.pt", "--data", "shop", "--name", "stock")
    shop.ok("data", "show", "shop", "--subject", WHO)
    shop.ok("data", "duplicates", "shop", "--of", WHO, "--out", "mine/pairs.html")
    shop.ok("data", "export", "shop", str(shop.folder / "handed-out"))
    judged = [
        shop.run(
            "bias", "find", "m", "--target", "errors", "--by", "subject", "--top", "7", "--out", "mine/found"
        )
    ]
    judged.append(shop.run("bias", "measure", "m", "--data", "shop", "--split", "val", "--group", "light",
                           "--groups", "data/groups.csv", "--draws", "100"))  # fmt: skip
    shop.ok("export", "m", "--format", "torchscript")
    how = ("--method", "finetune", "--set", "lr=0.01", "--accept", "no-power", "--budget", "2")
    why = ("--note", NOTE, "--key", "k-1", "--ground", "consent-withdrawn")
    opened = shop.ok("request", "open", "--subject", WHO, *how, *why)
    request = opened["request"]
    shop.ok("request", "tell", request, "--recipient", RECIPIENT)
    shop.ok("forget", "--subject", WHO, "--dry-run")
    shop.ok("request", "show", request, "--selection")
    shop.ok("request", "list")
    shop.ok("request", "approve", request)
    judged.append(shop.run("request", "run", request))
    shop.ok("report", request, "--out", "mine/report.html", "--pictures")
    standard = ("--level", "standard", "--references", "1", "--epochs", "1")
    judged.append(shop.run("audit", "stock", "--request", request, "--page", "mine/audit.html"))
    judged.append(shop.run("audit", "stock", "--request", request, *standard))
    retrain = ("--method", "retrain", "--set", "epochs=1", "--delete-originals")
    judged.append(shop.run("forget", "--subject", WHO, *retrain))
    assert [result.code for result in judged if result.code not in (0, 1)] == [], [r.out for r in judged]
    return words, request


def finish(shop: House, request: str) -> None:
    """Purge, and run what works without the rows."""
    shop.ok("purge", "--include", str(shop.folder / "runs"), "--include", str(shop.folder / "data"), "--yes")
    for argv in (
        ("request", "show", request), ("request", "list", "--all"), ("verify", request), ("models", "m"),
        ("report", request, "--out", "after.html"), ("data", "show", "shop"), ("verify", "m", "--replay"),
    ):  # fmt: skip
        shop.ok(*argv)
    for weights in shop.root.glob("models/*/*.pt"):
        shop.run("status", str(weights))


def searched(shop: House) -> list[Path]:
    """All places that are not the user's own files."""
    return [shop.folder / name for name in (".expunge", "home", "runs", "handed-out", "after.html")]


def test_nothing_is_left_of_an_erased_person(nursery: Nursery, tmp_path: Path) -> None:
    shop = House(nursery, tmp_path / "shop")
    shop.folder.mkdir()
    (shop.folder / "mine").mkdir()
    words, request = live_through(shop)
    state = shop.ok("request", "show", request)["state"]
    assert state == "closed", shop.ok("request", "show", request)
    finish(shop, request)
    assert hits(words, *searched(shop)) == set()
    control = hits(words, shop.folder / "mine", shop.data / "subjects.csv")
    assert {f"id in {name}" for name in ("ranking.csv", "subjects.csv")} <= control, control


@pytest.mark.slow
def test_nothing_is_left_in_postgresql(nursery: Nursery, tmp_path: Path, url: str) -> None:  # noqa: F811
    """The catalog's tables are searched row by row; what the server keeps beneath them is not ours."""
    from sqlalchemy import MetaData, create_engine, select

    shop = House(nursery, tmp_path / "shop")
    shop.folder.mkdir()
    (shop.folder / "mine").mkdir()
    words, request = live_through(shop, "--catalog", url)
    assert shop.ok("request", "show", request)["state"] == "closed"
    finish(shop, request)
    tables = MetaData()
    engine = create_engine(url)
    tables.reflect(engine)
    with engine.connect() as connection:
        rows = [repr(row) for t in tables.sorted_tables for row in connection.execute(select(t))]
    engine.dispose()
    (tmp_path / "dump" / "of" / "all").mkdir(parents=True)
    (tmp_path / "dump" / "of" / "all" / "tables").write_text("\n".join(rows))
    assert len(rows) > 50
    assert hits(words, *searched(shop), tmp_path / "dump") == set()

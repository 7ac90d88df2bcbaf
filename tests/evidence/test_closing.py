# SPDX-License-Identifier: Apache-2.0
"""Closing a request with real models: no personal data stays in the workspace, which keeps working."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import Shop

from expunge.evidence.certificates import predicate_of

CLOSE = (*world.FORGET, "--delete-originals")


def traces(shop: Shop) -> dict[str, bytes]:
    """Return the person's paths, file names, digests and salts; the id is too short to search for."""
    rows = shop.sql(
        "SELECT path, image_digest, label_digest, salt FROM sample WHERE path LIKE '%/s03\\_%' ESCAPE '\\'"
    )
    assert len(rows) == 3
    found = {}
    for path, image, label, salt in rows:
        found |= {path: path.encode(), f"{path} name": Path(path).stem.encode()}
        found |= {f"{path} image": image.encode(), f"{path} label": label.encode()}
        found |= {f"{path} bytes": bytes.fromhex(image), f"{path} salt": salt}
    return found


def left(shop: Shop, words: dict[str, bytes]) -> set[str]:
    """Return the traces found in contents or names of files of the workspace and the report."""
    found = set()
    for file in [*shop.root.rglob("*"), *shop.folder.glob("*.html")]:
        if file.is_file():
            content = file.read_bytes() + str(file.relative_to(shop.folder)).encode()
            found |= {word for word, value in words.items() if value in content}
            if file.suffix not in (".pt", ".safetensors", ".weights") and b"s03" in content:
                found.add(f"id in {file.name}")
    return found


def test_no_personal_data_stays(erased: Any) -> None:
    shop = erased.shop
    words = traces(shop)
    assert shop.ok(*world.FORGET)["state"] == "executed", "originals are still there"
    assert left(shop, words) >= {w for w in words if w.endswith(("png", "image", "label", "salt"))}
    assert predicate_of(erased.certificate)["catalog"]["forgotten"] is False
    closed = shop.ok(*CLOSE)
    assert closed["state"] == "closed"
    predicate = predicate_of(erased.certificate)
    assert predicate["catalog"]["forgotten"] is True
    assert predicate["state"] == "closed"
    shop.ok("report", closed["request"])
    assert left(shop, words) == set()

    # The commands must work without the rows.
    again = shop.ok(*world.FORGET)
    assert (again["models"], again["state"]) == ([], "closed")
    assert again["already_erased_by"] == {"s03": closed["request"]}
    shown = shop.ok("data", "show", "shop@1")
    assert (shown["digest"], shown["erased_since"]) == (None, 3)
    for target in (closed["request"], "m"):
        assert shop.ok("verify", target, "--replay")["valid"]
    assert shop.run("verify", "m@1").code == 0, "superseded"
    (preview,) = shop.ok("forget", "--subject", "s04", "--dry-run")["models"]
    assert preview["saw"] == 3
    assert left(shop, words) == set()
    assert shop.strays() == []


def test_erasures_stay_cumulative(erased: Any, tmp_path: Path) -> None:
    """A second erasure after the first was closed gives the digest of a training without both people."""
    shop = erased.shop
    shop.ok(*CLOSE)
    (plan,) = (shop.root / "plans").glob("*/plan.json")
    second = shop.ok("forget", "--subject", "s04")
    without_both = world.never(shop.nursery, tmp_path / "never", plan, "s03", "s04")
    assert second["models"][0]["digest"] == without_both
    assert shop.ok("verify", second["request"])["valid"]
    assert shop.ok("verify", erased.certificate.stem)["valid"], "its roots compute from opaque leaves"


@pytest.mark.parametrize(
    "when", ["before the rows go", "before they are overwritten", "before the certificate"]
)
def test_killed_while_closing(erased: Any, when: str) -> None:
    """The repeated command closes the request; nothing is certified too early or logged twice."""
    shop, words = erased.shop, traces(erased.shop)
    fault = {
        "before the rows go": {"match": r"data/images/train/s03_2", "operations": ["unlink"], "after": True},
        "before they are overwritten": {"match": r"catalog\.scrub$", "operations": ["unlink"]},
        "before the certificate": {"match": r"certificates/r-[^/]*$", "operations": ["replace"]},
    }[when]
    killed = shop.run(*CLOSE, fault={"do": "kill", **fault})
    assert killed.code == -9, killed
    assert predicate_of(erased.certificate)["state"] == "executed"
    assert shop.ok(*CLOSE)["state"] == "closed"
    assert left(shop, words) == set()
    assert shop.ok("verify", erased.certificate.stem)["valid"]
    kinds = [line.split(b'"kind":"')[1].split(b'"')[0] for line in
             (shop.root / "log/events.jsonl").read_bytes().splitlines()]  # fmt: skip
    assert kinds.count(b"rows-forgotten") == 1

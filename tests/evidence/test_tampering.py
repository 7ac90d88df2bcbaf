# SPDX-License-Identifier: Apache-2.0
"""Verification fails for every kind of tampering, and by the check that covers it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from robust import scenes, world
from robust.commands import Shop

from expunge.evidence import certificates, dsse, statement
from expunge.evidence.key_store import signing_key
from expunge.workspace import Workspace

OTHER = "sha256:" + "0" * 64


def checks(shop: Shop, target: Path | str, *options: str) -> tuple[bool, dict[str, bool | None]]:
    """Verify a target; return whether it is valid, and each check's result."""
    result = shop.run("verify", str(target), *options)
    answer = result.json
    assert result.code == (0 if answer["valid"] else 1), result
    assert answer["valid"] == (False not in [c["ok"] for c in answer["checks"]])
    assert all(c["name"] and c["detail"] for c in answer["checks"])
    return answer["valid"], {c["name"]: c["ok"] for c in answer["checks"]}


def test_untouched(erased: Any) -> None:
    """Negative control of everything below."""
    valid, answers = checks(erased.shop, erased.certificate)
    assert valid
    assert answers["certificate"] is True
    assert answers["request"] is True
    for name in ("key", "signature", "statement", "dates", "subjects", "guarantees", "manifest", "roots"):
        assert answers[name] is True, name
    for name in ("log", "log: tree head", "log: entry"):
        assert answers[name] is True, name
    assert answers["consistency"] is answers["witness"] is None
    for label in ("m@2", "m@3"):
        for name in ("catalog", "statement", "files", "weights", "retained data", "checkpoints"):
            assert answers[f"{label}: {name}"] is True, (label, name)
    request = erased.certificate.stem
    assert checks(erased.shop, request) == (valid, answers), "by the request's id, too"
    elsewhere = shutil.copy(erased.certificate, erased.shop.folder / "copy.json")
    del answers["which request"]  # the file's name does not say which request it should be about
    assert checks(erased.shop, elsewhere) == (valid, answers)


def resign(erased: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the certificate and sign it with the workspace's own key."""
    key = signing_key(Workspace(erased.shop.root))
    payload = json.loads(certificates.read(erased.certificate).payload)
    change(payload["predicate"])
    predicate = payload["predicate"]
    payload["subject"] = [{"name": n, "digest": d} for n, d in statement.subjects(predicate).items()]
    envelope = dsse.sign(statement.PAYLOAD_TYPE, json.dumps(payload).encode(), key)
    erased.certificate.write_bytes(envelope.as_bytes())


# False statements by the signer, and the check, besides the log's, that fails.
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str | None]] = {
    "a digest": (lambda c: c["models"][0].update(digest=OTHER), "m@3: weights"),
    "a file": (lambda c: c["models"][0].update(weights={"m-3.pt": "0" * 64}), "m@3: files"),
    "an interim's digest": (lambda c: c["models"][0]["interim"].update(digest=OTHER), "m@2: catalog"),
    "a guarantee": (lambda c: c["models"][0].update(guarantee="exact-interim"), "m@3: statement"),
    "a plan": (lambda c: c["models"][0].update(plan="0" * 64), "m@3: statement"),
    "a composition": (
        lambda c: c["models"][0].update(composition={"stages": {}, "polish": False, "public": False}),
        "m@3: statement",
    ),
    "the digest before": (lambda c: c["models"][0].update(parent_digest=OTHER), "m@3: statement"),
    "a label of another version": (lambda c: c["models"][0].update(model="m@1"), "m@1: catalog"),
    "a label of nobody": (lambda c: c["models"][0].update(model="ghost@1"), "ghost@1: known"),
    "an entry removed": (lambda c: c["models"].clear(), "request"),
    "an entry added": (lambda c: c["models"].append({**c["models"][0], "model": "ghost@1"}), "request"),
    "an interim removed": (lambda c: c["models"][0].update(interim=None), None),
    "the request": (lambda c: c.update(request="r-0000000000000000"), "which request"),
    "the counts": (lambda c: c["removed"].update(samples=1), "request"),
    "the dataset": (lambda c: c["dataset"].update(after="shop@1"), "request"),
    "the date": (lambda c: c["dates"].update(received="2001-01-01T00:00:00+00:00"), "request"),
    "the root before": (lambda c: c["manifest"]["before"].update(root="0" * 64), "roots"),
    "the root after": (lambda c: c["manifest"]["after"].update(root="0" * 64), "roots"),
    "the leaves removed": (lambda c: c["manifest"]["removed"].update(root="0" * 64), "roots"),
    "the state": (lambda c: c.update(state="closed"), None),
    "what is not covered": (lambda c: c["not_covered"].clear(), None),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_false_statement_by_the_signer(erased: Any, kind: str) -> None:
    """The log has no such entry, and the catalog contradicts the statement if it records the fact."""
    change, contradicted = CHANGES[kind]
    resign(erased, change)
    valid, answers = checks(erased.shop, erased.certificate)
    assert not valid
    assert answers["signature"] is True
    assert answers["log: entry"] is False
    if contradicted is not None:
        assert answers[contradicted] is False, answers


def test_changed_after_signing(erased: Any) -> None:
    """The content of a certificate with an invalid signature is not interpreted."""
    envelope = json.loads(erased.certificate.read_text())
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["state"] = "closed"
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    erased.certificate.write_text(json.dumps(envelope))
    valid, answers = checks(erased.shop, erased.certificate)
    assert not valid
    assert answers["signature"] is False
    assert not {"statement", "request", "log: entry", "m@3: weights"} & set(answers)


def test_the_certificate_of_another_request(erased: Any) -> None:
    """A certificate in place of another one is found by the request's id and by the file's name."""
    second = erased.shop.ok("forget", "--subject", "s04")
    shutil.copy(second["certificate"], erased.certificate)
    for target in (erased.certificate, erased.certificate.stem):
        valid, answers = checks(erased.shop, target)
        assert not valid
        assert answers["which request"] is False


def test_an_earlier_certificate_of_the_request(erased: Any) -> None:
    """An earlier certificate stays valid, and the log shows that there is a later one."""
    early = Path(shutil.copy(erased.certificate, erased.shop.folder / "early.json"))
    closed = erased.shop.ok("forget", "--subject", "s03", "--delete-originals")
    assert closed["state"] == "closed"
    valid, answers = checks(erased.shop, early)
    assert valid
    assert answers["newest"] is None
    valid, answers = checks(erased.shop, erased.certificate)
    assert valid
    assert "newest" not in answers


def test_offline_without_a_workspace(erased: Any, tmp_path: Path) -> None:
    """The public key, the log and an earlier tree head are enough in an empty folder."""
    shop, outside = erased.shop, tmp_path / "outside"
    (outside / "copy").mkdir(parents=True)
    shutil.copy(shop.root / "log/tree-head.json", outside / "then.json")
    closed = shop.ok("forget", "--subject", "s03", "--delete-originals")
    for file in (shop.root / "log").glob("[et]*"):
        shutil.copy(file, outside / "copy" / file.name)
    (public,) = (shop.root / "keys/public").iterdir()
    target = str(shutil.copy(closed["certificate"], outside / "certificate.json"))
    there = Shop(shop.nursery, outside)
    options = ("--public-key", str(public), "--log", "copy/events.jsonl", "--tree-head", "then.json")
    valid, answers = checks(there, target, *options)
    assert valid
    assert answers["log: entry"] is answers["log: tree head"] is answers["consistency"] is True
    assert answers["request"] is answers["roots"] is answers["m@3"] is None
    there.refused("verify", target)


def test_another_key(erased: Any, tmp_path: Path) -> None:
    """A certificate is not valid under a key that did not sign it."""
    foreign = world.untrained(erased.shop.nursery, tmp_path / "foreign")
    (public,) = (foreign.root / "keys/public").iterdir()
    valid, answers = checks(erased.shop, erased.certificate, "--public-key", str(public))
    assert not valid
    assert answers["key"] is False


def test_the_acceptance_forgery(erased: Any) -> None:
    """The certificate is invalid after sed s/sha256/sha255/."""
    text = erased.certificate.read_text()
    erased.certificate.write_text(text.replace("sha256", "sha255"))
    assert checks(erased.shop, erased.certificate)[0] is False


def replace_weights(shop: Shop) -> None:
    """Replace the repaired model by the original, which saw s03."""
    shutil.copy(shop.root / "models/m/m-1.pt", shop.root / "models/m/m-3.pt")


def cut_weights(shop: Shop) -> None:
    """Truncate the file to half its size."""
    file = shop.root / "models/m/m-3.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def put_back_checkpoint(shop: Shop) -> None:
    """Restore a checkpoint that saw s03, as from a backup."""
    file = next((shop.folder / "stale").iterdir())
    shutil.copy(file, shop.root / "checkpoints" / "m" / file.name)


def put_back_partial(shop: Shop) -> None:
    """Restore a partial checkpoint that saw s03."""
    file = next((shop.folder / "stale").iterdir())
    shutil.copy(file, shop.root / "checkpoints" / "m" / f"{file.stem}.partial")


def put_back_data(shop: Shop) -> None:
    """Restore s03 in the dataset."""
    shop.sql("UPDATE sample SET removal = NULL, removed = NULL WHERE removal = 'erased'")


def change_plan(shop: Shop) -> None:
    """Change the plan's file."""
    plan = world.plan_of(shop)
    plan.write_text(plan.read_text().replace('"seed": 0', '"seed": 7'))


WORKSPACE: dict[str, tuple[Callable[[Shop], None], str]] = {
    "weights replaced": (replace_weights, "m@3: weights"),
    "weights cut": (cut_weights, "m@3: weights"),
    "a stale checkpoint put back": (put_back_checkpoint, "m@3: checkpoints"),
    "a stale partial state put back": (put_back_partial, "m@3: checkpoints"),
    "the erased put back": (put_back_data, "m@3: retained data"),
    "the plan changed": (change_plan, "m@3: plan"),
    "the catalog's digest changed": (
        lambda shop: shop.sql("UPDATE model_version SET digest = ? WHERE number = 3", OTHER) and None,
        "m@3: catalog",
    ),
    "the catalog's guarantee changed": (
        lambda shop: shop.sql("UPDATE model_version SET guarantee = 'none' WHERE number = 3") and None,
        "m@3: statement",
    ),
    "the retained digest changed": (
        lambda shop: shop.sql("UPDATE model_version SET retained_digest = 'x' WHERE number = 3") and None,
        "m@3: retained data",
    ),
    "the version removed": (
        lambda shop: shop.sql("DELETE FROM model_version WHERE number = 3") and None,
        "m@3: known",
    ),
    "the request removed": (lambda shop: shop.sql("DELETE FROM request") and None, "request"),
}


@pytest.mark.parametrize("kind", WORKSPACE)
def test_a_changed_workspace(erased: Any, kind: str) -> None:
    change, name = WORKSPACE[kind]
    change(erased.shop)
    valid, answers = checks(erased.shop, erased.certificate)
    assert not valid
    assert answers["certificate"] is True
    assert answers[name] is False, answers


def test_missing_weights_are_not_checked(erased: Any) -> None:
    """Weights may have been purged, so a missing file is not a failure."""
    (erased.shop.root / "models/m/m-2.pt").unlink()
    valid, answers = checks(erased.shop, erased.certificate)
    assert valid
    assert answers["m@2: weights"] is None


def test_another_workspace(erased: Any, tmp_path: Path) -> None:
    """Another workspace's catalog and log are not used to check the certificate."""
    other = world.untrained(erased.shop.nursery, tmp_path / "other")
    valid, answers = checks(other, erased.certificate)
    assert not valid
    assert answers["key"] is False
    (public,) = (erased.shop.root / "keys/public").iterdir()
    valid, answers = checks(other, erased.certificate, "--public-key", str(public))
    assert valid
    assert answers["signature"] is True
    assert answers["log"] is answers["request"] is None, "its own log and catalog are not the signer's"


def test_a_later_erasure_supersedes(erased: Any) -> None:
    """After a later erasure, the earlier certificate stays valid, but its data can no longer be checked."""
    old = erased.certificate.read_bytes()
    erased.shop.ok("forget", "--subject", "s04")
    assert erased.certificate.read_bytes() == old
    valid, answers = checks(erased.shop, erased.certificate, "--replay")
    assert valid
    assert answers["m@3: retained data"] is None
    assert answers["m@3: replay"] is None
    assert answers["m@3: weights"] is True


def test_another_plan_since(erased: Any) -> None:
    """A model trained again with another plan has other checkpoints, which is not a failure."""
    erased.shop.ok(*world.TRAIN, "--seed", "9")
    valid, answers = checks(erased.shop, erased.certificate)
    assert valid
    assert answers["m@3: checkpoints"] is None
    assert checks(erased.shop, "m")[0]


def test_replay_finds_other_weights(erased: Any) -> None:
    """If file, catalog and certificate agree on wrong weights, only a replay finds it."""
    shop = erased.shop
    shutil.copy(shop.root / "models/m/m-2.pt", shop.root / "models/m/m-3.pt")  # clean, and not the result
    ((wrong,),) = shop.sql("SELECT digest FROM model_version WHERE number = 2")
    shop.sql("UPDATE model_version SET digest = ? WHERE number = 3", wrong)
    published = f"sha256:{hashlib.sha256((shop.root / 'models/m/m-3.pt').read_bytes()).hexdigest()}"
    shop.sql(
        "UPDATE published_file SET digest = ? WHERE digest LIKE 'sha256:%' AND model_version_id ="
        " (SELECT id FROM model_version WHERE number = 3)",
        published,
    )
    assert checks(shop, "m")[0] is True
    valid, answers = checks(shop, "m", "--replay")
    assert not valid
    assert answers["m@3: replay"] is False


def test_the_certificate_holds_no_personal_data(erased: Any) -> None:
    """The certificate and log hold no id, path or image digest; the same search finds them in the catalog."""
    shop = erased.shop
    rows = shop.sql("SELECT path, image_digest, label_digest FROM sample")
    sought = {p for row in rows for p in row if p} | {Path(path).stem for path, _, _ in rows}
    sought |= set(scenes.PEOPLE) | {str(shop.folder), "data.yaml"}
    content = erased.certificate.read_bytes() + certificates.read(erased.certificate).payload
    content += b"".join(f.read_bytes() for f in (shop.root / "log").iterdir())
    found = {word for word in sought if word.encode() in content and not word.isdigit()}
    assert found == set()
    catalog = (shop.root / "catalog.sqlite").read_bytes()
    assert {w for w in sought if w.encode() in catalog} >= {"s03", "images/train/s03_1.png"}

# SPDX-License-Identifier: Apache-2.0
"""What certificates say of copies: what a purge deleted, exports, trees, places; and never a name or path."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from requests_kit import PEOPLE, Paper

from expunge.catalog import derivatives
from expunge.data.export import MARKER
from expunge.erasure import execution, intake, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.evidence import certificates, log, report_page, statement
from expunge.evidence.dsse import Malformed
from expunge.evidence.key_store import public_path
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.progress import Progress
from expunge.purge import run
from expunge.purge.copies import amend_certificates
from expunge.workspace import Workspace

WHO = PEOPLE[0]


@pytest.fixture
def copied(workspace: Workspace, paper: Paper, tmp_path: Path) -> Workspace:
    """Weights, an export and a tree of what the models saw, all below a folder named after the person."""
    paper.judged = True
    (workspace.models / "m").mkdir()
    (workspace.models / "m" / "m-1.pt").write_bytes(b"weights")
    home = tmp_path / f"for-{WHO}"
    tree = home / "tree"
    (tree / "images").mkdir(parents=True)
    (tree / MARKER).write_text("x-1\n")
    (tree / "images" / f"{WHO}-0.png").write_bytes(b"picture")
    (home / f"{WHO}.onnx").write_bytes(b"exported")
    with workspace.session(write=True) as session:
        m = paper.newest("m")
        derivatives.add_model_export(
            session, [derivatives_digest(b"exported")], model_version_id=m.id, format="onnx",
            path=str(home / f"{WHO}.onnx"), size_bytes=8, images=1, difference=0.0, tolerance=1e-3,
        )  # fmt: skip
        derivatives.add_data_export(session, "x-1", m.dataset_id, 1, str(tree))
    (workspace.root / "external.txt").write_text(f"[x] s3://bucket/{WHO}\nthe desk of {WHO}\n")
    return workspace


def derivatives_digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def forget(workspace: Workspace, who: str = WHO) -> str:
    outcome = execution.forget(workspace, ErasureRequest(subjects=(who,)), Progress(quiet=True), actor="ann")
    assert outcome["state"] == "closed"
    return str(outcome["request"])


def said(workspace: Workspace, request: str) -> dict[str, Any]:
    return certificates.predicate_of(certificates.path_of(workspace, request))


def accepted(workspace: Workspace, request: str) -> None:
    """An outsider with the public key and copies of the log accepts it."""
    path, folder = certificates.path_of(workspace, request), workspace.root / "log"
    means = VerifyOptions(public_key=public_path(workspace), log=folder / log.ENTRIES)
    found = verify(None, str(path), means, Progress(quiet=True))
    assert found["valid"], found
    assert [c["ok"] for c in found["checks"] if c["name"] == "log: entry"] == [True]
    assert "newest" not in {c["name"] for c in found["checks"]}


def test_copies_are_told_before_and_after_the_purge(copied: Workspace, tmp_path: Path) -> None:
    request = forget(copied)
    before = said(copied, request)
    assert before["purged"] == []
    export, tree, bucket, desk = before["deployments"]
    assert export == {
        "kind": "export", "model": "m@1", "format": "onnx", "confirmed": False,
        "sha256": [derivatives_digest(b"exported")],
    }  # fmt: skip
    assert tree == {"kind": "data-export", "dataset": "shop@1", "confirmed": False}
    assert [(p["scheme"], p["confirmed"]) for p in (bucket, desk)] == [("s3", True), ("other", False)]
    accepted(copied, request)

    done = run.purge(copied, run.PurgeOptions())  # after the catalog has forgotten the rows
    assert {x["kind"] for x in done["leftovers"]} >= {"weights", "export", "data-export"}
    assert all(x["requests"] == [request] for x in done["leftovers"] if x["kind"] != "folder")
    assert [p["id"] for p in done["external"]] == [bucket["place"], desk["place"]]
    after = said(copied, request)
    (purged,) = after["purged"]
    assert purged["plan"] == done["plan"]
    assert {k: n["files"] for k, n in purged["kinds"].items()} == {
        "data-export": 2,
        "export": 1,
        "weights": 1,
    }
    assert after["deployments"] == [{**export, "confirmed": True}, bucket, desk]
    assert {k: after[k] for k in after if k not in ("purged", "deployments", "dates")} == {
        k: before[k] for k in before if k not in ("purged", "deployments", "dates")
    }
    accepted(copied, request)


def test_no_name_and_no_path(copied: Workspace, tmp_path: Path) -> None:
    request = forget(copied)
    for _ in range(2):
        payload = certificates.read(certificates.path_of(copied, request)).payload
        page = report_page.render(said(copied, request))
        for text in (payload.decode(), page, (copied.root / "log" / log.ENTRIES).read_text()):
            assert WHO not in text
            assert "bucket" not in text
            assert str(tmp_path) not in text
        run.purge(copied, run.PurgeOptions())
    assert "data-export" in page
    assert "s3" in page


def test_who_was_not_in_it_is_not_told_of_it(copied: Workspace) -> None:
    """A later request concerns later models; what went before it is another's."""
    first = forget(copied)
    second = forget(copied, PEOPLE[1])
    run.purge(copied, run.PurgeOptions())
    kinds = [list(p["kinds"]) for p in said(copied, first)["purged"]]
    assert kinds == [["data-export", "export", "weights"]]
    models = {d["model"] for d in said(copied, second)["deployments"] if d["kind"] == "export"}
    assert models == {"m@1"}, "the export of m@1 shows the second person, too"
    clean = forget(copied, PEOPLE[2])
    (copied.models / "m" / "m-2.pt").write_bytes(b"made for the first")
    run.purge(copied, run.PurgeOptions())
    assert [list(p["kinds"]) for p in said(copied, clean)["purged"]] == [["weights"]]
    assert len(said(copied, first)["purged"]) == 1, "m@2 is clean of the first"


def test_nothing_new_changes_nothing(copied: Workspace) -> None:
    request = forget(copied)
    run.purge(copied, run.PurgeOptions())
    path, events = certificates.path_of(copied, request), copied.root / "log" / log.ENTRIES
    before = (path.read_bytes(), events.read_bytes())
    assert amend_certificates(copied) == 0
    run.purge(copied, run.PurgeOptions())
    assert (path.read_bytes(), events.read_bytes()) == before
    places = copied.root / "external.txt"
    places.write_text(places.read_text().replace("the desk", "[x] the desk"))
    assert amend_certificates(copied) == 1
    assert all(d["confirmed"] for d in said(copied, request)["deployments"] if d["kind"] == "external")
    accepted(copied, request)


def test_a_request_of_which_nothing_is_left(workspace: Workspace, paper: Paper) -> None:
    """Two queued requests for one person: the second takes nothing, and its certificate says so and holds."""
    paper.judged = True
    ids = []
    for _ in range(2):
        opened = intake.open_request(workspace, ErasureRequest(subjects=(WHO,)), intake.Opening(actor="ann"))
        intake.approve(workspace, opened["request"], "bob")
        ids.append(opened["request"])
    scheduler.run(workspace, scheduler.QueueSelection(every=True), Progress(quiet=True))
    first, second = (said(workspace, request) for request in ids)
    assert (first["removed"]["samples"], first["manifest"]["removed"]["leaves"]) == (2, 2)
    assert (second["removed"]["samples"], second["manifest"]["removed"]["leaves"]) == (0, 0)
    assert second["dataset"] == {"before": "shop@2", "after": "shop@2"}
    for request in ids:
        accepted(workspace, request)
        checks = {
            c["name"]: c for c in verify(workspace, request, VerifyOptions(), Progress(quiet=True))["checks"]
        }
        assert checks["roots"]["ok"], checks["roots"]
        assert checks["request"]["ok"], checks["request"]


def test_a_place_by_its_name_is_no_certificate(copied: Workspace) -> None:
    """The format itself has no room for a name."""
    predicate = said(copied, forget(copied))
    statement.encode(predicate)
    (place, *_) = [d for d in predicate["deployments"] if d["kind"] == "external"]
    place["place"] = f"s3://bucket/{WHO}"
    with pytest.raises(Malformed, match="deployments"):
        statement.encode(predicate)


def test_what_was_changed_by_hand_is_not_signed(copied: Workspace) -> None:
    """A purge must not put our name under somebody else's words."""
    request = forget(copied)
    path = certificates.path_of(copied, request)
    envelope = json.loads(path.read_text())
    signed = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("B" if signed[0] == "A" else "A") + signed[1:]  # another one for sure
    path.write_text(json.dumps(envelope))
    run.purge(copied, run.PurgeOptions())
    assert json.loads(path.read_text()) == envelope
    assert not os.path.exists(copied.models / "m" / "m-1.pt")

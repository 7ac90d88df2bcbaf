# SPDX-License-Identifier: Apache-2.0
"""The evidence on pages: certificates, good and forged, audits with their plots, the log's proofs."""

from __future__ import annotations

import json

from desk_kit import Desk
from evidence.test_audit_page import judged, raw_of, report_of
from requests_kit import PEOPLE
from web.pages.reading import faults, words
from web.pages.test_pages import executed

from expunge.erasure.audit import PLOTS, load_plots
from expunge.evidence.audit_page import drawn, render
from expunge.storage.hashing import plain_json
from expunge.web.auth.roles import Role
from expunge.workspace import Workspace


def test_a_certificate_good_and_forged(workspace: Workspace) -> None:
    request = executed(workspace, PEOPLE[2])  # no model: those of paper have no weights to verify
    client = Desk(workspace).signed_in(Role.VIEWER)
    sent = client.get(f"/requests/{request}/certificate.json")
    assert sent.headers["content-disposition"] == f'attachment; filename="{request}.json"'
    good = client.post("/verify", files={"file": ('"><script>.json', sent.content)})
    assert "It is valid: no check failed." in words(good.text)
    assert request in words(good.text)
    envelope = json.loads(sent.content)
    envelope["payloadType"] = "<b>other</b>"
    forged = client.post("/verify", files={"file": ("x", json.dumps(envelope).encode())})
    assert "It is not valid: a check failed." in words(forged.text)
    for page in (good, forged):
        assert faults(page.text) == []
    assert client.post("/verify", files={"file": ("x", b"no JSON")}).status_code == 422
    assert client.post("/verify").status_code == 400


def test_a_document_may_do_nothing(desk: Desk, workspace: Workspace) -> None:
    request = executed(workspace, PEOPLE[2])
    shown = desk.signed_in(Role.VIEWER).get(f"/requests/{request}/report")
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox")
    assert "unsafe" not in policy
    assert "'sha256-" in policy
    assert "script-src" not in policy


def test_an_audit_with_its_plots(desk: Desk, workspace: Workspace) -> None:
    request = executed(workspace, PEOPLE[2])
    raw = raw_of(1.0, n=40, m=80)
    report = {**report_of(judged(raw), raw), "request": request, "seconds": 1.0}
    stem = f"{request}-m-2-quick"
    workspace.audits.mkdir(exist_ok=True)
    (workspace.audits / f"{stem}.json").write_text(json.dumps(plain_json(report)))
    (workspace.audits / f"{stem}{PLOTS}").write_text(json.dumps(drawn(report, raw)))
    (workspace.audits / f"{stem}.html").write_text(render(report, raw))
    client = desk.signed_in(Role.VIEWER)
    assert "is not forgotten" in words(client.get(f"/requests/{request}").text)
    page = client.get(f"/requests/{request}/audits/{stem}").text
    assert faults(page) == []
    assert page.count('<div class="plot"') == 4
    assert "What to do now." in words(page)
    assert "Person by person" in words(page)
    whole = client.get(f"/requests/{request}/audits/{stem}.html")
    assert whole.headers["content-security-policy"].endswith("sandbox")
    other = executed(workspace, PEOPLE[3])
    assert client.get(f"/requests/{other}/audits/{stem}").status_code == 404
    assert client.get(f"/requests/{request}/audits/{stem}{PLOTS}").status_code == 404
    assert load_plots(workspace, "r-0000000000000000-m-1-quick") == {}


def test_the_log_and_what_was_kept_of_it(desk: Desk, workspace: Workspace) -> None:
    executed(workspace, PEOPLE[2])
    client = desk.signed_in(Role.VIEWER)
    kept = client.get("/log/tree-head.json").content
    assert b"PUBLIC KEY" in client.get("/log/public-key.pem").content
    executed(workspace, PEOPLE[3])
    checked = words(client.get("/log/head", headers={"HX-Request": "true"}).text)
    assert "holds log: tree head" in checked
    assert "not witnessed" in checked
    same = words(client.post("/log/consistency", files={"file": ("head", kept)}).text)
    assert "holds consistency" in same
    file = workspace.root / "log" / "events.jsonl"
    lines = file.read_bytes().replace(b'"kind":"request-approved"', b'"kind":"request-refused"', 1)
    file.write_bytes(lines)
    changed = words(client.post("/log/consistency", files={"file": ("head", kept)}).text)
    assert "fails consistency" in changed
    assert "fails log: tree head" in words(client.get("/log/head").text)
    nonsense = client.post("/log/consistency", files={"file": ("head", b"<script>")})
    assert (nonsense.status_code, faults(nonsense.text)) == (200, [])
    assert client.post("/log/consistency").status_code == 400

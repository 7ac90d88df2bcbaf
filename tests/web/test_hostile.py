# SPDX-License-Identifier: Apache-2.0
"""What somebody might try: foreign hosts, odd ids, paths that lead elsewhere, bodies without end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from desk_kit import Desk
from PIL import Image
from requests_kit import add_people

from expunge.catalog.dataset_store import add_version
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.errors import InputError
from expunge.web.auth.roles import Role
from expunge.web.server import check_safe
from expunge.web.settings import ServerSettings
from expunge.workspace import Workspace

API = "/api/v1"
ODD = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "../../etc/passwd",
    "'; DROP TABLE request; --",
    "{{7*7}}",
    "%0d%0aSet-Cookie: x=1",
    "\u202egnp.exe",
    "a" * 500,
)
SECURE = {
    "content-security-policy", "x-content-type-options", "referrer-policy", "cache-control",
    "cross-origin-opener-policy", "cross-origin-resource-policy", "x-frame-options",
}  # fmt: skip


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8017",
        "127.0.0.1@evil.example",
        "",
        "[::2]",
        "a b",
    ],
)
def test_a_foreign_host_is_refused(desk: Desk, host: str) -> None:
    answer = desk.signed_in(Role.ADMIN).get(f"{API}/me", headers={"Host": host})
    assert answer.status_code == 421
    assert "name" not in answer.json()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST:8017", "[::1]:8017"])
def test_its_own_names_are_answered(desk: Desk, host: str) -> None:
    assert desk.signed_in(Role.ADMIN).get(f"{API}/me", headers={"Host": host}).status_code == 200


def test_two_hosts_are_none(desk: Desk) -> None:
    client = desk.client()
    answer = client.get(f"{API}/me", headers=[("Host", "127.0.0.1"), ("Host", "evil.example")])
    assert answer.status_code == 421


def test_a_host_behind_tls(workspace: Workspace) -> None:
    settings = ServerSettings(host="0.0.0.0", behind_tls="desk.example.org", workers=False)
    client = Desk(workspace, settings).client()
    assert client.get(f"{API}/me", headers={"Host": "desk.example.org"}).status_code == 401
    assert client.get(f"{API}/me", headers={"Host": "127.0.0.1"}).status_code == 421


@pytest.mark.parametrize(
    "path", ["/api/v1/me", "/api/v1/none", "/nowhere", "/static/none.css", "/api/v1/openapi.json"]
)
def test_every_answer_has_the_headers(desk: Desk, path: str) -> None:
    answer = desk.client().get(path)
    assert set(answer.headers) >= SECURE
    policy = dict(
        part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


@pytest.fixture
def odd(desk: Desk, workspace: Workspace) -> Desk:
    """A desk over a data set whose people have odd ids."""
    add_people(workspace, ODD, "odd")
    return desk


@pytest.mark.parametrize("person", ODD)
def test_odd_ids_do_nothing(odd: Desk, workspace: Workspace, person: str) -> None:
    client = odd.signed_in(Role.OFFICER)
    answer = client.post(
        f"{API}/requests", json={"subjects": [person], "note": person}, headers={"Idempotency-Key": "k"}
    )
    assert answer.status_code == 201, answer.text
    request = answer.json()["request"]
    assert answer.headers["content-type"] == "application/json"
    assert "set-cookie" not in answer.headers
    shown = client.get(f"{API}/requests/{request}/selection").json()
    assert shown["subjects"] == [person]
    assert person not in client.get(f"{API}/requests").json()["items"][0].values()
    told = client.post(f"{API}/requests/{request}/recipients", json={"name": person})
    assert told.json()["recipients"][0]["name"] == person
    assert workspace.query("SELECT id FROM request") == [{"id": request}]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(
    "path",
    [
        "/requests/{}",
        "/requests/{}/certificate",
        "/datasets/{}",
        "/models/{}",
        "/audits/{}",
        "/jobs/{}",
        "/accounts/{}/link",
    ],
)
def test_odd_names_in_paths_are_nothing(desk: Desk, path: str, value: str) -> None:
    client = desk.signed_in(Role.ADMIN)
    method = "POST" if path.startswith("/accounts") else "GET"
    for address in (quote(value, safe=""), quote(value)):
        answer = client.request(method, API + path.format(address))
        assert answer.status_code in (404, 405, 422)
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(desk.workspace.root) not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2f..%2ferrors.py",
        "/static//etc/passwd",
    ],
)
def test_static_files_alone_are_served(desk: Desk, path: str) -> None:
    assert desk.client().get(path).status_code == 404


@pytest.fixture
def pictured(workspace: Workspace, tmp_path: Path) -> Path:
    """A data set `seen` with a picture, one that is a link to elsewhere, text, and a path that leads out."""
    root = tmp_path / "data" / "seen"
    root.mkdir(parents=True)
    Image.new("RGB", (600, 300), "red").save(root / "own.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "text.png").write_text("no picture")
    paths = ("own.png", "link.png", "text.png", "gone.png", "../../secret.png")
    samples = tuple(
        Sample(path, "train", hashlib.sha256(path.encode()).hexdigest(), "", None, ("p",), False)
        for path in sorted(paths)
    )
    with workspace.session(write=True) as session:
        add_version(session, "seen", Scan(root, DatasetConfig("yolo", ("a",)), samples), key=workspace.key)
    return tmp_path / "data"


def look(client: Any, path: str, dataset: str = "seen") -> Any:
    """Ask for a picture."""
    return client.get(f"{API}/datasets/{dataset}/picture", params={"path": path})


def test_a_picture_is_shown_small_to_whom_may_see_it(workspace: Workspace, pictured: Path) -> None:
    desk = Desk(workspace, ServerSettings(roots=(pictured,), workers=False))
    shown = look(desk.signed_in(Role.OFFICER), "own.png")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert shown.headers["cache-control"] == "no-store"
    assert shown.content[:2] == b"\xff\xd8"
    assert look(desk.signed_in(Role.VIEWER), "own.png").status_code == 403
    assert look(desk.client(), "own.png").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "link.png",
        "text.png",
        "gone.png",
        "../../secret.png",
        "./own.png",
        "/etc/passwd",
        "..%2f..%2fsecret.png",
        "OWN.png",
    ],
)
def test_no_other_file_is_shown(workspace: Workspace, pictured: Path, path: str) -> None:
    desk = Desk(workspace, ServerSettings(roots=(pictured,), workers=False))
    assert look(desk.signed_in(Role.ADMIN), path).status_code == 404


@pytest.mark.parametrize("given", [(), ("other",)])
def test_no_picture_outside_of_the_folders_that_were_named(
    workspace: Workspace, pictured: Path, given: tuple[str, ...]
) -> None:
    roots = tuple(pictured.parent / name for name in given)
    for root in roots:
        root.mkdir()
    desk = Desk(workspace, ServerSettings(roots=roots, workers=False))
    assert look(desk.signed_in(Role.ADMIN), "own.png").status_code == 404


def test_a_body_without_end_is_cut_off(workspace: Workspace) -> None:
    desk = Desk(workspace, ServerSettings(upload_bytes=1000, workers=False))
    client = desk.signed_in(Role.ADMIN)
    assert client.post(f"{API}/certificates/verify", content=b"x" * 1001).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    assert client.post(f"{API}/certificates/verify", content=chunks()).status_code == 413
    fits = client.post(f"{API}/certificates/verify", content=b"{}")
    assert fits.status_code == 200
    assert fits.json()["valid"] is False


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 5000, b'{"payload": 1}', b'{"a":1,"a":2}', b"1e999"],
)
def test_what_is_no_certificate_is_told_so(desk: Desk, content: bytes) -> None:
    answer = desk.signed_in(Role.VIEWER).post(f"{API}/certificates/verify", content=content)
    assert answer.status_code in (200, 422)
    assert answer.status_code == 422 or answer.json()["valid"] is False
    assert "certificate.json" not in answer.text
    assert str(desk.workspace.root) not in answer.text
    assert list(desk.workspace.tmp.iterdir()) == [], "nothing is left of what was brought"


def test_beyond_the_loopback_only_with_tls_and_an_account(workspace: Workspace) -> None:
    check_safe(workspace, ServerSettings())
    check_safe(workspace, ServerSettings(host="::1"))
    for host in ("0.0.0.0", "192.0.2.1", "example.org", "::"):
        with pytest.raises(InputError, match="without TLS"):
            check_safe(workspace, ServerSettings(host=host))
        with pytest.raises(InputError, match="before there is an account"):
            check_safe(workspace, ServerSettings(host=host, behind_tls="desk.example.org"))
    Desk(workspace).account("ann", Role.ADMIN)
    check_safe(workspace, ServerSettings(host="0.0.0.0", behind_tls="desk.example.org"))
    with pytest.raises(InputError, match="without TLS"):
        check_safe(workspace, ServerSettings(host="0.0.0.0"))


@pytest.mark.parametrize("name", ["https://x.org", "x.org:443", "x_y", "", "-x", "x/", "a b"])
def test_a_terminators_name_is_a_name(name: str) -> None:
    with pytest.raises(InputError, match="not a host name"):
        ServerSettings(behind_tls=name)


def test_a_root_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        ServerSettings(roots=(tmp_path / "none",))


@pytest.mark.parametrize(
    "body",
    [
        "[" * 50_000,
        '{"subjects":' * 5_000 + "1" + "}" * 5_000,
        '{"subjects": ' + "[" * 900 + "]" * 900 + "}",
        '{"subjects": [' + "9" * 10_000 + "]}",
    ],
)
def test_a_body_without_end_in_depth_is_refused(desk: Desk, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = desk.signed_in(Role.ADMIN).post(f"{API}/requests", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text[:300]
    assert len(answer.text) < 5_000

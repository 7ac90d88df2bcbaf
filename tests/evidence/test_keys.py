# SPDX-License-Identifier: Apache-2.0
"""Signing keys: location, file modes, keys given by the user, and rotation."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from evidence.forgery import FOREIGN, MINE

from expunge.errors import InputError, StorageError
from expunge.evidence import key_store, log, log_writer
from expunge.evidence.rotation import rotate, successors
from expunge.workspace import Workspace

PEM = MINE.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv(key_store.VARIABLE, str(tmp_path / "keys"))
    return Workspace.init(tmp_path / "w")


def given(path: Path, content: bytes = PEM, mode: int = 0o600) -> Path:
    """Write a private key's file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_generated_outside_the_workspace_when_needed(workspace: Workspace, tmp_path: Path) -> None:
    assert key_store.public_key(workspace) is None
    key = key_store.signing_key(workspace)
    (file,) = (tmp_path / "keys").glob("*.pem")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert key_store.signing_key(workspace).public.key_id == key.public.key_id
    public = key_store.public_path(workspace)
    assert public is not None
    assert public.is_relative_to(workspace.root)
    der = load_pem_public_key(public.read_bytes())
    assert key_store.PublicKey(der).key_id == key.public.key_id  # type: ignore[arg-type]
    secret = key.raw.private_bytes_raw()
    inside = b"".join(f.read_bytes() for f in workspace.root.rglob("*") if f.is_file())
    assert secret not in inside
    assert b"PRIVATE" not in inside


def test_the_key_id_is_the_hash_of_the_der_form(tmp_path: Path) -> None:
    import base64

    lines = MINE.public.pem.decode().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    assert f"sha256:{hashlib.sha256(der).hexdigest()}" == MINE.public.key_id
    assert len(der) == 44


def test_the_folder_of_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(key_store.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert key_store.keys_folder() == tmp_path / "config" / "expunge" / "keys"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_store.keys_folder() == tmp_path / ".config" / "expunge" / "keys"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o644])
def test_a_key_that_other_users_may_read_is_refused(workspace: Workspace, tmp_path: Path, mode: int) -> None:
    with pytest.raises(InputError, match="Others may use"):
        key_store.install(workspace, given(tmp_path / "mine" / "key.pem", mode=mode))
    assert key_store.public_key(workspace) is None
    key_store.signing_key(workspace)
    (file,) = (tmp_path / "keys").glob("*.pem")
    file.chmod(mode)
    with pytest.raises(InputError, match="Others may use"):
        key_store.signing_key(workspace)


def test_a_folder_that_other_users_may_write_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    path = given(tmp_path / "mine" / "key.pem")
    path.parent.chmod(0o777)
    with pytest.raises(InputError, match="Others may replace"):
        key_store.install(workspace, path)
    path.parent.chmod(0o755)
    assert key_store.install(workspace, path)["key_id"] == MINE.public.key_id


def test_given_keys(workspace: Workspace, tmp_path: Path) -> None:
    """A key given by the user stays in its place; files without a usable key are refused."""
    elsewhere = generate_private_key(SECP256R1())
    other = elsewhere.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = MINE.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    for content, says in (
        (b"nothing", "no private key"),
        (locked, "no private key"),
        (other, "another kind"),
    ):
        with pytest.raises(InputError, match=says):
            key_store.install(workspace, given(tmp_path / "bad.pem", content))
    with pytest.raises(StorageError, match="cannot be read"):
        key_store.install(workspace, tmp_path / "none.pem")
    key_store.install(workspace, given(tmp_path / "mine" / "key.pem"))
    assert key_store.signing_key(workspace).public.key_id == MINE.public.key_id
    assert not list((tmp_path / "keys").glob("*.pem"))
    key_store.install(workspace, given(tmp_path / "second" / "key.pem", PEM))
    assert key_store.signing_key(workspace).public.key_id == MINE.public.key_id


def test_the_first_installed_key_wins(workspace: Workspace, tmp_path: Path) -> None:
    first, second = key_store.generate(), key_store.generate()
    made = key_store.install(workspace, first)
    assert key_store.install(workspace, second) == made
    assert not second.exists()
    assert list(key_store.public_keys(workspace)) == [made["key_id"]]


def test_a_lost_key_is_an_error_not_a_new_key(workspace: Workspace, tmp_path: Path) -> None:
    key_store.signing_key(workspace)
    shutil.move(tmp_path / "keys", tmp_path / "away")
    with pytest.raises(StorageError, match="cannot be read"):
        key_store.signing_key(workspace)
    shutil.move(tmp_path / "away", tmp_path / "keys")
    (file,) = (tmp_path / "keys").glob("*.pem")
    file.write_bytes(FOREIGN.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InputError, match="not the workspace's"):
        key_store.signing_key(workspace)


def test_rotation_transfers_trust(workspace: Workspace) -> None:
    """Trust in the first key extends to the third, but not backwards and not to a forged key."""
    first = key_store.signing_key(workspace).public
    log_writer.append(workspace, [log.Event("0" * 32, "opened", "r-00000000000000aa")])
    second = rotate(workspace)
    third = rotate(workspace)
    assert key_store.signing_key(workspace).public.key_id == third.key_id
    entries = log.entries_of(workspace)
    assert [e.event.kind for e in entries] == ["opened", log.ROTATED, log.ROTATED]
    assert list(successors(entries, first)) == [first.key_id, second.key_id, third.key_id]
    assert list(successors(entries, second)) == [second.key_id, third.key_id]
    assert list(successors(entries, third)) == [third.key_id]
    assert set(key_store.public_keys(workspace)) == {first.key_id, second.key_id, third.key_id}
    head = log.parse_head((workspace.root / "log" / log.HEAD).read_bytes())
    assert (head.size, head.envelope.key_id) == (3, third.key_id)
    lines = [e.line for e in entries]
    forged = json.loads(lines[1])
    forged["data"]["sig"] = "A" * 86 + "=="
    lines[1] = json.dumps(forged).encode()
    broken = log.parse(b"".join(line + b"\n" for line in lines))
    assert list(successors(broken, first)) == [first.key_id]


def test_rotation_after_a_loss(workspace: Workspace, tmp_path: Path) -> None:
    """A lost key transfers no trust: the log records that the key was replaced."""
    first = key_store.signing_key(workspace).public
    shutil.rmtree(tmp_path / "keys")
    with pytest.raises(StorageError):
        rotate(workspace)
    new = rotate(workspace, lost=True)
    assert list(successors(log.entries_of(workspace), first)) == [first.key_id]
    assert log.entries_of(workspace)[-1].event.kind == "key-replaced"
    assert key_store.signing_key(workspace).public.key_id == new.key_id


def test_rotation_to_the_same_key(workspace: Workspace, tmp_path: Path) -> None:
    path = given(tmp_path / "mine" / "key.pem")
    key_store.install(workspace, path)
    with pytest.raises(InputError, match="present key"):
        rotate(workspace, path)
    assert not (workspace.root / "log" / log.ENTRIES).exists()


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``init --key`` and ``keys`` work and never print the private key."""
    monkeypatch.setenv(key_store.VARIABLE, str(tmp_path / "keys"))

    def run(*argv: str) -> tuple[int, dict[str, str]]:
        code = "import sys; from expunge.cli.main import main; sys.argv[0] = 'expunge'; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *argv, "--json"], cwd=tmp_path, capture_output=True, text=True
        )
        assert "PRIVATE" not in done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)

    path = given(tmp_path / "mine" / "key.pem")
    code, made = run("init", "w", "--key", str(path))
    assert (code, made["key"]) == (0, MINE.public.key_id)
    assert Path(made["public_key"]).read_bytes() == MINE.public.pem
    code, shown = run("keys", "show", "--workspace", "w")
    assert (code, shown["key"]) == (0, MINE.public.key_id)
    path.chmod(0o644)
    code, refused = run("init", "v", "--key", str(path))
    assert code == 2
    assert "Others may use" in refused["error"]
    assert not (tmp_path / "v").exists()

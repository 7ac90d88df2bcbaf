# SPDX-License-Identifier: Apache-2.0
"""An attacker who can write to the workspace, but has no private key, cannot make anything valid."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from evidence.forgery import FOREIGN, MINE
from requests_fixtures import paper, template, workspace
from requests_kit import PEOPLE, Paper

from expunge.erasure import execution
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError, StorageError
from expunge.evidence import anchor, certificates, dsse, key_store, log, pins, statement
from expunge.evidence.rotation import ROTATION_TYPE, rotate
from expunge.evidence.trust import trusted_keys
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.progress import Progress
from expunge.settings import load_settings
from expunge.web import queries
from expunge.workspace import Workspace

__all__ = ["paper", "template", "workspace"]
QUIET = Progress(quiet=True)
FOREIGN_PEM = FOREIGN.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OWN_PEM = MINE.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Erased:
    """A workspace with an erasure, and the request's id."""

    workspace: Workspace
    request: str

    @property
    def file(self) -> Path:
        return certificates.path_of(self.workspace, self.request)

    def checks(self, **options: Any) -> dict[str, tuple[bool | None, str]]:
        """Verify the request in its workspace; return result and detail by check, and ``valid``."""
        found = verify(Workspace(self.workspace.root), self.request, VerifyOptions(**options), QUIET)
        return {"valid": (found["valid"], "")} | {c["name"]: (c["ok"], c["detail"]) for c in found["checks"]}


@pytest.fixture
def erased(workspace: Workspace, paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Erased:
    """Return an erasure; keys and anchors lie in folders that the attacker cannot write to."""
    monkeypatch.setenv(key_store.VARIABLE, str(tmp_path / "keys"))
    monkeypatch.setenv(anchor.VARIABLE, str(tmp_path / "anchors"))
    paper.judged = True
    outcome = execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[0],)), QUIET, actor="ann")
    workspace._engine.dispose()
    return Erased(workspace, outcome["request"])


def written(path: Path, content: bytes = FOREIGN_PEM) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def drop_key(erased: Erased) -> None:
    """Add the attacker's public key to the workspace."""
    name = FOREIGN.public.key_id.removeprefix("sha256:")
    (erased.workspace.root / "keys" / "public" / f"{name}.pem").write_bytes(FOREIGN.public.pem)


def sign_again(erased: Erased) -> None:
    """Forge the certificate and a log entry for it, and sign both with the attacker's key."""
    payload = json.loads(certificates.read(erased.file).payload)
    payload["predicate"]["not_covered"] = ["nothing at all"]
    content = json.dumps(payload).encode()
    envelope = dsse.sign(statement.PAYLOAD_TYPE, content, FOREIGN)
    erased.file.write_bytes(envelope.as_bytes())
    folder = erased.workspace.root / "log"
    digest = statement_digest(content)
    lines = [entry.line for entry in log.entries_of(erased.workspace)]
    lines.append(log.line_of(len(lines), log.Event(digest, "certified", erased.request, digest)))
    sign_log(folder, lines)


def statement_digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def sign_log(folder: Path, lines: list[bytes]) -> None:
    """Write a log and a tree head signed by the attacker."""
    (folder / log.ENTRIES).write_bytes(b"".join(line + b"\n" for line in lines))
    entries = [log.Entry(i, log.Event("", ""), line) for i, line in enumerate(lines)]
    (folder / log.HEAD).write_bytes(log.sign_head(entries, FOREIGN).as_bytes())


def record(erased: Erased, private: Path) -> None:
    """Write the attacker's key into the workspace's key record."""
    found = {"key_id": FOREIGN.public.key_id, "private": str(private)}
    (erased.workspace.root / "keys" / key_store.RECORD).write_text(json.dumps(found))


def name_key_inside(erased: Erased) -> None:
    record(erased, written(erased.workspace.root / "keys" / "signing.pem"))


def name_key_outside(erased: Erased) -> None:
    record(erased, written(erased.workspace.root.parent / "elsewhere" / "signing.pem"))


def link_key(erased: Erased) -> None:
    inside = written(erased.workspace.root / "keys" / "signing.pem")
    link = erased.workspace.root / "keys" / "link.pem"
    link.symlink_to(inside)
    record(erased, link)


def forge_rotation(erased: Erased) -> None:
    """Add a rotation from the pinned key to the attacker's, signed by the attacker."""
    (old,) = key_store.pinned_keys(erased.workspace)
    data = {"old": old, "new": base64.b64encode(FOREIGN.public.pem).decode()}
    signature = FOREIGN.sign(dsse.pae(ROTATION_TYPE, log.canonical(data)))
    digest = FOREIGN.public.key_id.removeprefix("sha256:")
    event = log.Event(
        digest, log.ROTATED, None, digest, data={**data, "sig": base64.b64encode(signature).decode()}
    )
    lines = [entry.line for entry in log.entries_of(erased.workspace)]
    sign_log(erased.workspace.root / "log", [*lines, log.line_of(len(lines), event)])


def change_catalog(erased: Erased) -> None:
    """Change the catalog to agree with the forged certificate."""
    with erased.workspace.session(write=True) as session:
        session.connection().exec_driver_sql("UPDATE model_version SET guarantee = 'audited'")
    erased.workspace._engine.dispose()


ATTACKS: dict[str, tuple[Callable[[Erased], None], ...]] = {
    "signed by the attacker": (sign_again,),
    "public key added": (drop_key, sign_again),
    "key recorded, inside": (drop_key, name_key_inside, sign_again),
    "key recorded, outside": (drop_key, name_key_outside, sign_again),
    "key recorded by a link": (drop_key, link_key, sign_again),
    "rotation forged": (drop_key, forge_rotation, sign_again),
    "catalog changed, too": (drop_key, name_key_inside, forge_rotation, change_catalog, sign_again),
}


def test_untouched(erased: Erased) -> None:
    """Negative control of everything below."""
    answers = erased.checks()
    assert answers["valid"][0] is True
    assert answers["key"][0] is answers["signature"][0] is True
    assert "workspace" not in answers
    assert "not witnessed" in answers["witness"][1]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attacker_with_write_access(erased: Erased, name: str) -> None:
    for step in ATTACKS[name]:
        step(erased)
    answers = erased.checks()
    assert answers["valid"][0] is False
    assert answers["key"][0] is False
    assert answers["log: tree head"][0] is False
    assert "not trusted" in answers["key"][1]
    assert FOREIGN.public.key_id not in trusted_keys(erased.workspace)


@pytest.mark.parametrize("name", ["key recorded, inside", "key recorded, outside", "key recorded by a link"])
def test_nothing_is_signed_with_the_attackers_key(erased: Erased, name: str) -> None:
    for step in ATTACKS[name][:-1]:
        step(erased)
    with pytest.raises(InputError, match="does not count"):
        key_store.signing_key(erased.workspace)
    with pytest.raises(InputError, match="does not count"):
        queries.public_key(erased.workspace)
    (erased.workspace.root / "keys" / key_store.RECORD).unlink()
    assert key_store.signing_key(erased.workspace).public.key_id in key_store.pinned_keys(erased.workspace)


def test_a_changed_secret_is_no_new_workspace(erased: Erased) -> None:
    """Pins and anchor are found by the secret; a changed secret is an error, not a new workspace."""
    drop_key(erased)
    name_key_inside(erased)
    (erased.workspace.root / "keys" / "suppression.key").write_bytes(bytes(32))
    with pytest.raises(InputError, match="secret was changed"):
        erased.checks()
    with pytest.raises(InputError, match="secret was changed"):
        key_store.signing_key(erased.workspace)
    shutil.rmtree(erased.workspace.root / "keys" / "public")
    with pytest.raises(InputError, match="no key to verify with"):
        erased.checks()


def test_a_replaced_public_key_file_is_not_shown(erased: Erased) -> None:
    """The desk and the command ``keys show`` do not return the attacker's key."""
    from click.testing import CliRunner

    from expunge.cli.main import cli

    path = key_store.public_path(erased.workspace)
    assert path is not None
    own = path.read_bytes()
    path.write_bytes(FOREIGN.public.pem)
    assert queries.public_key(erased.workspace) == own
    assert erased.checks()["valid"][0] is True
    done = CliRunner().invoke(cli, ["keys", "show", "--workspace", str(erased.workspace.root), "--json"])
    assert json.loads(done.stdout)["pem"].encode() == own
    assert path.read_bytes() == own, "the file that is printed is that of the key"


@pytest.mark.parametrize("line", ['[keys]\nfolder = "/tmp"', '[anchors]\nfolder = "none"', "anchors = 1"])
def test_the_workspaces_settings_cannot_name_a_folder_of_keys(erased: Erased, line: str) -> None:
    (erased.workspace.root / "settings.toml").write_text(line + "\n")
    with pytest.raises(InputError, match="is invalid"):
        load_settings(erased.workspace.root)


def copied(erased: Erased) -> Path:
    erased.workspace._engine.dispose()
    return Path(shutil.copytree(erased.workspace.root, erased.workspace.root.parent / "before"))


def test_only_the_anchor_recognises_an_older_state(
    erased: Erased, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older state is genuine, so only the anchor can recognise it; without it there is no check."""
    old = copied(erased)
    execution.forget(erased.workspace, ErasureRequest(subjects=(PEOPLE[1],)), QUIET, actor="ann")
    erased.workspace._engine.dispose()
    shutil.rmtree(erased.workspace.root)
    old.rename(erased.workspace.root)
    answers = erased.checks()
    assert answers["workspace"][0] is False
    assert "older" in answers["workspace"][1]
    assert answers["valid"][0] is False
    found = verify(Workspace(erased.workspace.root), "m", VerifyOptions(), QUIET)
    assert {c["name"]: c["ok"] for c in found["checks"]}["workspace"] is False
    monkeypatch.setenv(anchor.VARIABLE, anchor.NONE)
    answers = erased.checks()
    assert answers["valid"][0] is True
    assert answers["witness"][0] is answers["consistency"][0] is None


def test_a_workspace_without_pins(erased: Erased) -> None:
    """A private key in the folder of keys counts as pinned; the pin is written at the next signature."""
    pin = pins.file_of(erased.workspace)
    first = json.loads(pin.read_text())
    pin.unlink()
    assert erased.checks()["valid"][0] is True
    assert not pin.exists(), "verifying writes nothing"
    key_store.signing_key(erased.workspace)
    assert json.loads(pin.read_text()) == first
    pin.unlink()
    drop_key(erased)
    sign_again(erased)
    assert erased.checks()["key"][0] is False


def test_without_pin_and_private_key_nothing_is_trusted(erased: Erased) -> None:
    """On another machine, the user names the trusted key with --public-key or pins it."""
    (private,) = key_store.keys_folder().glob("*.pem")
    public = key_store.public_path(erased.workspace)
    private.unlink()
    pins.file_of(erased.workspace).unlink()
    with pytest.raises(InputError, match="no key to verify with") as caught:
        erased.checks()
    assert "--public-key" in caught.value.next_step
    assert erased.checks(public_key=public)["valid"][0] is True
    assert public is not None
    key_store.pin(erased.workspace, public)
    assert erased.checks()["valid"][0] is True
    with pytest.raises(StorageError, match="cannot be read"):
        key_store.signing_key(erased.workspace)


def test_a_key_outside_the_folder_of_keys_must_be_pinned(erased: Erased, tmp_path: Path) -> None:
    """The workspace could also name an attacker's key, so the user must pin such a key once."""
    path = written(tmp_path / "mine" / "key.pem", OWN_PEM)
    rotate(erased.workspace, path)
    assert erased.checks()["valid"][0] is True
    pins.file_of(erased.workspace).unlink()
    with pytest.raises(InputError, match="does not count") as caught:
        key_store.signing_key(erased.workspace)
    assert f"expunge keys pin {path}" in caught.value.next_step
    key_store.pin(erased.workspace, path)
    assert key_store.signing_key(erased.workspace).public.key_id == MINE.public.key_id
    assert len(key_store.pinned_keys(erased.workspace)) == 2, "the one before lies in the folder of the keys"
    assert erased.checks()["valid"][0] is True


def test_a_chain_is_followed_from_the_first_pin(erased: Erased) -> None:
    """A machine with only the first pin follows the rotations; a deleted rotation transfers no trust."""
    first = json.loads(pins.file_of(erased.workspace).read_text())
    second = rotate(erased.workspace)
    third = rotate(erased.workspace)
    pins.file_of(erased.workspace).write_text(json.dumps(first))
    assert set(trusted_keys(erased.workspace)) == {first[0]["key_id"], second.key_id, third.key_id}
    assert erased.checks()["valid"][0] is True
    lines = [e.line for e in log.entries_of(erased.workspace) if e.event.kind != log.ROTATED]
    sign_log(erased.workspace.root / "log", lines)
    assert set(trusted_keys(erased.workspace)) == {first[0]["key_id"]}


def test_certificates_from_before_a_lost_key_stay_valid(erased: Erased) -> None:
    (private,) = key_store.keys_folder().glob("*.pem")
    private.unlink()
    new = rotate(erased.workspace, lost=True)
    answers = erased.checks()
    assert answers["valid"][0] is True
    assert answers["key"][0] is True
    assert new.key_id in trusted_keys(erased.workspace)


def test_unreadable_pins_are_an_error(erased: Erased) -> None:
    for content in ("[", '{"key_id": 1}', "[1]", '[{"key_id": "x"}]'):
        pins.file_of(erased.workspace).write_text(content)
        with pytest.raises(InputError, match="pinned keys"):
            erased.checks()


def test_two_workspaces_with_one_given_key(erased: Erased, tmp_path: Path) -> None:
    path = written(tmp_path / "mine" / "key.pem", OWN_PEM)
    for name in ("one", "two"):
        other = Workspace.init(tmp_path / name)
        key_store.install(other, path)
        assert key_store.signing_key(other).public.key_id == MINE.public.key_id
        assert list(trusted_keys(other)) == [MINE.public.key_id]


def test_a_lost_record_is_written_again(erased: Erased) -> None:
    """The pin names the signing key, so deleting the record does not generate a new key."""
    folder = erased.workspace.root / "keys"
    kept = (folder / key_store.RECORD).read_bytes()
    (folder / key_store.RECORD).unlink()
    shutil.rmtree(folder / "public")
    assert erased.checks()["valid"][0] is True
    key_store.signing_key(erased.workspace)
    assert (folder / key_store.RECORD).read_bytes() == kept
    path = key_store.public_path(erased.workspace)
    assert path is not None
    assert path.is_file()
    assert len(list(key_store.keys_folder().glob("*.pem"))) == 1


def test_the_command_that_pins(erased: Erased, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from expunge.cli.main import cli

    def pin(content: bytes) -> tuple[int, dict[str, Any]]:
        path = written(tmp_path / "given" / "key.pem", content)
        root = str(erased.workspace.root)
        done = CliRunner().invoke(cli, ["keys", "pin", str(path), "--workspace", root, "--json"])
        return done.exit_code, json.loads(done.stdout)

    assert pin(MINE.public.pem) == (0, {"key": MINE.public.key_id})
    assert MINE.public.key_id in trusted_keys(erased.workspace)
    assert pin(OWN_PEM) == (0, {"key": MINE.public.key_id})
    before = pins.file_of(erased.workspace).read_bytes()
    weak = b"MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="  # of small order
    small = MINE.public.pem.replace(MINE.public.pem.splitlines()[1], weak)
    for content, says in ((b"nothing", "no public key"), (small, "identifies a signer")):
        code, error = pin(content)
        assert code == 2
        assert says in error["error"]
        assert error["next"]
    assert pins.file_of(erased.workspace).read_bytes() == before

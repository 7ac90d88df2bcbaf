# SPDX-License-Identifier: Apache-2.0
"""A stranger who can write to the workspace, and has no private key, makes nothing valid."""

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

from expunge import desk, pipeline
from expunge.errors import InputError, StorageError
from expunge.evidence import anchor, certificate, dsse, keys, log, pins, statement
from expunge.evidence.rotation import ROTATION_TYPE, rotate
from expunge.evidence.trust import trusted_keys
from expunge.evidence.verify import Means, verify
from expunge.progress import Progress
from expunge.settings import load_settings
from expunge.steps.scoping import Ask
from expunge.workspace import Workspace

__all__ = ["paper", "template", "workspace"]
QUIET = Progress(quiet=True)
FOREIGN_PEM = FOREIGN.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OWN_PEM = MINE.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Erased:
    """A workspace in which somebody was erased, and the request."""

    workspace: Workspace
    request: str

    @property
    def file(self) -> Path:
        return certificate.path_of(self.workspace, self.request)

    def checks(self, **means: Any) -> dict[str, tuple[bool | None, str]]:
        """Verify the request as the workspace's owner does; ``valid`` is among the answers."""
        found = verify(Workspace(self.workspace.root), self.request, Means(**means), QUIET)
        return {"valid": (found["valid"], "")} | {c["name"]: (c["ok"], c["detail"]) for c in found["checks"]}


@pytest.fixture
def erased(workspace: Workspace, paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Erased:
    """Keys and anchors lie in folders of their own, which the stranger cannot write to."""
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "keys"))
    monkeypatch.setenv(anchor.VARIABLE, str(tmp_path / "anchors"))
    paper.judged = True
    outcome = pipeline.forget(workspace, Ask(subjects=(PEOPLE[0],)), QUIET, actor="ann")
    workspace._engine.dispose()
    return Erased(workspace, outcome["request"])


def written(path: Path, content: bytes = FOREIGN_PEM) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def drop_key(erased: Erased) -> None:
    """Put a stranger's public key among those of the workspace."""
    name = FOREIGN.public.key_id.removeprefix("sha256:")
    (erased.workspace.root / "keys" / "public" / f"{name}.pem").write_bytes(FOREIGN.public.pem)


def sign_again(erased: Erased) -> None:
    """State what never happened, commit to it in one more line, and sign both with the stranger's key."""
    payload = json.loads(certificate.read(erased.file).payload)
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
    """Write a log, and a tree head by the stranger."""
    (folder / log.ENTRIES).write_bytes(b"".join(line + b"\n" for line in lines))
    entries = [log.Entry(i, log.Event("", ""), line) for i, line in enumerate(lines)]
    (folder / log.HEAD).write_bytes(log.sign_head(entries, FOREIGN).as_bytes())


def record(erased: Erased, private: Path) -> None:
    """Name the stranger's key as the workspace's own."""
    found = {"key_id": FOREIGN.public.key_id, "private": str(private)}
    (erased.workspace.root / "keys" / keys.RECORD).write_text(json.dumps(found))


def name_key_inside(erased: Erased) -> None:
    record(erased, written(erased.workspace.root / "keys" / "signing.pem"))


def name_key_outside(erased: Erased) -> None:
    record(erased, written(erased.workspace.root.parent / "elsewhere" / "signing.pem"))


def link_key(erased: Erased) -> None:
    inside = written(erased.workspace.root / "keys" / "signing.pem")
    link = erased.workspace.root / "keys" / "link.pem"
    link.symlink_to(inside)
    record(erased, link)


def hand_trust_on(erased: Erased) -> None:
    """A rotation statement from the pinned key to the stranger's, which the stranger signs."""
    (old,) = keys.pinned_keys(erased.workspace)
    data = {"old": old, "new": base64.b64encode(FOREIGN.public.pem).decode()}
    signature = FOREIGN.sign(dsse.pae(ROTATION_TYPE, log.canonical(data)))
    digest = FOREIGN.public.key_id.removeprefix("sha256:")
    event = log.Event(
        digest, log.ROTATED, None, digest, data={**data, "sig": base64.b64encode(signature).decode()}
    )
    lines = [entry.line for entry in log.entries_of(erased.workspace)]
    sign_log(erased.workspace.root / "log", [*lines, log.line_of(len(lines), event)])


def change_catalog(erased: Erased) -> None:
    """Let the catalog agree with whatever the certificate says of the models."""
    with erased.workspace.session(write=True) as session:
        session.connection().exec_driver_sql("UPDATE model_version SET guarantee = 'audited'")
    erased.workspace._engine.dispose()


ATTACKS: dict[str, tuple[Callable[[Erased], None], ...]] = {
    "signed by a stranger": (sign_again,),
    "its key dropped": (drop_key, sign_again),
    "its key named, inside": (drop_key, name_key_inside, sign_again),
    "its key named, outside": (drop_key, name_key_outside, sign_again),
    "its key named by a link": (drop_key, link_key, sign_again),
    "trust handed on": (drop_key, hand_trust_on, sign_again),
    "the catalog, too": (drop_key, name_key_inside, hand_trust_on, change_catalog, sign_again),
}


def test_untouched(erased: Erased) -> None:
    """Negative control of everything below."""
    answers = erased.checks()
    assert answers["valid"][0] is True
    assert answers["key"][0] is answers["signature"][0] is True
    assert "workspace" not in answers
    assert "not witnessed" in answers["witness"][1]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_stranger_with_write_access(erased: Erased, name: str) -> None:
    for step in ATTACKS[name]:
        step(erased)
    answers = erased.checks()
    assert answers["valid"][0] is False
    assert answers["key"][0] is False
    assert answers["log: tree head"][0] is False
    assert "not trusted" in answers["key"][1]
    assert FOREIGN.public.key_id not in trusted_keys(erased.workspace)


@pytest.mark.parametrize(
    "name", ["its key named, inside", "its key named, outside", "its key named by a link"]
)
def test_nothing_is_signed_with_the_strangers_key(erased: Erased, name: str) -> None:
    for step in ATTACKS[name][:-1]:
        step(erased)
    with pytest.raises(InputError, match="does not count"):
        keys.signing_key(erased.workspace)
    with pytest.raises(InputError, match="does not count"):
        desk.public_key(erased.workspace)
    (erased.workspace.root / "keys" / keys.RECORD).unlink()
    assert keys.signing_key(erased.workspace).public.key_id in keys.pinned_keys(erased.workspace)


def test_a_changed_secret_is_no_new_workspace(erased: Erased) -> None:
    """Pins and anchor are found by the secret: another one does not mean that nothing is known."""
    drop_key(erased)
    name_key_inside(erased)
    (erased.workspace.root / "keys" / "suppression.key").write_bytes(bytes(32))
    with pytest.raises(InputError, match="secret was changed"):
        erased.checks()
    with pytest.raises(InputError, match="secret was changed"):
        keys.signing_key(erased.workspace)
    shutil.rmtree(erased.workspace.root / "keys" / "public")
    with pytest.raises(InputError, match="no key to verify with"):
        erased.checks()


def test_another_public_key_under_the_name_of_ones_own(erased: Erased) -> None:
    """Who asks the desk or the command for the key does not get the stranger's."""
    from click.testing import CliRunner

    from expunge.cli.main import cli

    path = keys.public_path(erased.workspace)
    assert path is not None
    own = path.read_bytes()
    path.write_bytes(FOREIGN.public.pem)
    assert desk.public_key(erased.workspace) == own
    assert erased.checks()["valid"][0] is True
    done = CliRunner().invoke(cli, ["keys", "show", "--workspace", str(erased.workspace.root), "--json"])
    assert json.loads(done.stdout)["pem"].encode() == own
    assert path.read_bytes() == own, "the file that is printed is that of the key"


@pytest.mark.parametrize("line", ['[keys]\nfolder = "/tmp"', '[anchors]\nfolder = "none"', "anchors = 1"])
def test_settings_in_the_workspace_name_no_folder_of_keys(erased: Erased, line: str) -> None:
    (erased.workspace.root / "settings.toml").write_text(line + "\n")
    with pytest.raises(InputError, match="does not fit"):
        load_settings(erased.workspace.root)


def copied(erased: Erased) -> Path:
    erased.workspace._engine.dispose()
    return Path(shutil.copytree(erased.workspace.root, erased.workspace.root.parent / "before"))


def test_an_older_state_is_noticed_by_the_anchor_alone(
    erased: Erased, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is genuine, so only what lies outside can tell; without it nothing is claimed."""
    old = copied(erased)
    pipeline.forget(erased.workspace, Ask(subjects=(PEOPLE[1],)), QUIET, actor="ann")
    erased.workspace._engine.dispose()
    shutil.rmtree(erased.workspace.root)
    old.rename(erased.workspace.root)
    answers = erased.checks()
    assert answers["workspace"][0] is False
    assert "older" in answers["workspace"][1]
    assert answers["valid"][0] is False
    found = verify(Workspace(erased.workspace.root), "m", Means(), QUIET)
    assert {c["name"]: c["ok"] for c in found["checks"]}["workspace"] is False
    monkeypatch.setenv(anchor.VARIABLE, anchor.NONE)
    answers = erased.checks()
    assert answers["valid"][0] is True
    assert answers["witness"][0] is answers["consistency"][0] is None


def test_a_workspace_of_before_pins(erased: Erased) -> None:
    """The private key in the folder of the keys is the pin; it is written down at the next signature."""
    pin = pins.file_of(erased.workspace)
    first = json.loads(pin.read_text())
    pin.unlink()
    assert erased.checks()["valid"][0] is True
    assert not pin.exists(), "verifying writes nothing"
    keys.signing_key(erased.workspace)
    assert json.loads(pin.read_text()) == first
    pin.unlink()
    drop_key(erased)
    sign_again(erased)
    assert erased.checks()["key"][0] is False


def test_without_pin_and_private_key_nothing_is_trusted(erased: Erased) -> None:
    """As on another machine: the user says which key counts, by --public-key or for good."""
    (private,) = keys.keys_folder().glob("*.pem")
    public = keys.public_path(erased.workspace)
    private.unlink()
    pins.file_of(erased.workspace).unlink()
    with pytest.raises(InputError, match="no key to verify with") as caught:
        erased.checks()
    assert "--public-key" in caught.value.next_step
    assert erased.checks(public_key=public)["valid"][0] is True
    assert public is not None
    keys.pin(erased.workspace, public)
    assert erased.checks()["valid"][0] is True
    with pytest.raises(StorageError, match="cannot be read"):
        keys.signing_key(erased.workspace)


def test_a_given_key_of_before_pins_is_pinned_once(erased: Erased, tmp_path: Path) -> None:
    """It lies anywhere, so the workspace could name a stranger's as well: the user says that it is theirs."""
    path = written(tmp_path / "mine" / "key.pem", OWN_PEM)
    rotate(erased.workspace, path)
    assert erased.checks()["valid"][0] is True
    pins.file_of(erased.workspace).unlink()
    with pytest.raises(InputError, match="does not count") as caught:
        keys.signing_key(erased.workspace)
    assert f"expunge keys pin {path}" in caught.value.next_step
    keys.pin(erased.workspace, path)
    assert keys.signing_key(erased.workspace).public.key_id == MINE.public.key_id
    assert len(keys.pinned_keys(erased.workspace)) == 2, "the one before lies in the folder of the keys"
    assert erased.checks()["valid"][0] is True


def test_a_chain_is_followed_from_the_first_pin(erased: Erased) -> None:
    """A machine that knows the first key alone follows its statements; a dropped one hands no trust on."""
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
    (private,) = keys.keys_folder().glob("*.pem")
    private.unlink()
    new = rotate(erased.workspace, lost=True)
    answers = erased.checks()
    assert answers["valid"][0] is True
    assert answers["key"][0] is True
    assert new.key_id in trusted_keys(erased.workspace)


def test_pins_that_cannot_be_read_are_no_reason_to_trust(erased: Erased) -> None:
    for content in ("[", '{"key_id": 1}', "[1]", '[{"key_id": "x"}]'):
        pins.file_of(erased.workspace).write_text(content)
        with pytest.raises(InputError, match="pinned keys"):
            erased.checks()


def test_two_workspaces_with_one_given_key(erased: Erased, tmp_path: Path) -> None:
    path = written(tmp_path / "mine" / "key.pem", OWN_PEM)
    for name in ("one", "two"):
        other = Workspace.init(tmp_path / name)
        keys.install(other, path)
        assert keys.signing_key(other).public.key_id == MINE.public.key_id
        assert list(trusted_keys(other)) == [MINE.public.key_id]


def test_a_lost_record_is_written_again(erased: Erased) -> None:
    """Which key signs is known outside: nobody gets a new key made by deleting the record."""
    folder = erased.workspace.root / "keys"
    kept = (folder / keys.RECORD).read_bytes()
    (folder / keys.RECORD).unlink()
    shutil.rmtree(folder / "public")
    assert erased.checks()["valid"][0] is True
    keys.signing_key(erased.workspace)
    assert (folder / keys.RECORD).read_bytes() == kept
    path = keys.public_path(erased.workspace)
    assert path is not None
    assert path.is_file()
    assert len(list(keys.keys_folder().glob("*.pem"))) == 1


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
        code, told = pin(content)
        assert code == 2
        assert says in told["error"]
        assert told["next"]
    assert pins.file_of(erased.workspace).read_bytes() == before

# SPDX-License-Identifier: Apache-2.0
"""Every kind of tampering is found offline and named; other implementations agree where they apply."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evidence.forgery import CERTIFICATE, EARLIER, HEAD, LOG, MINE, events, lines_of
from evidence.make_fixtures import FOLDER, kinds, valid
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from scitt_cose import merkle as their_merkle
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from expunge.errors import InputError
from expunge.evidence import log, merkle
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.progress import Progress

KINDS = kinds()
WORKSPACE_ONLY = {"request", "roots", "m@3"}


def files_of(folder: Path, name: str) -> Path:
    """Copy a fixture to a folder: the valid files, overwritten by the changed ones."""
    for source in (FOLDER / "valid", FOLDER / name):
        for file in source.iterdir():
            shutil.copy(file, folder / file.name)
    return folder


def verified(folder: Path, *, logged: bool = True) -> dict[str, Any]:
    """Verify offline, with the public key and optionally the log and an earlier tree head."""
    more = {"log": folder / LOG, "tree_head": folder / EARLIER} if logged else {}
    options = VerifyOptions(public_key=folder / "public.pem", **more)
    return verify(None, str(folder / CERTIFICATE), options, Progress(quiet=True))


def test_the_valid_fixture(tmp_path: Path) -> None:
    """Negative control; checks that need a workspace or a witness have no result."""
    result = verified(files_of(tmp_path, "valid"))
    answers = {c["name"]: c["ok"] for c in result["checks"]}
    assert result["valid"], result
    assert {name for name, ok in answers.items() if ok is None} == {"witness"} | WORKSPACE_ONLY
    assert "not witnessed" in next(c["detail"] for c in result["checks"] if c["name"] == "witness")


def test_without_the_log(tmp_path: Path) -> None:
    """The public key is enough; consistency is then None, not True."""
    result = verified(files_of(tmp_path, "valid"), logged=False)
    answers = {c["name"]: c["ok"] for c in result["checks"]}
    assert result["valid"]
    assert answers["log"] is answers["consistency"] is answers["witness"] is None


def test_consistency_needs_the_log(tmp_path: Path) -> None:
    files_of(tmp_path, "valid")
    options = VerifyOptions(public_key=tmp_path / "public.pem", tree_head=tmp_path / EARLIER)
    result = verify(None, str(tmp_path / CERTIFICATE), options, Progress(quiet=True))
    assert {c["name"]: c["ok"] for c in result["checks"]}["consistency"] is None


def test_every_kind_has_a_folder() -> None:
    assert len(KINDS) >= 50
    assert {p.name for p in FOLDER.iterdir()} == {"valid", *KINDS}


@pytest.mark.parametrize("name", ["valid", *KINDS])
def test_the_script_reproduces_the_committed_files(name: str) -> None:
    files = valid() if name == "valid" else KINDS[name].files
    assert {p.name: p.read_bytes() for p in (FOLDER / name).iterdir()} == files
    assert name == "valid" or all(valid()[file] != content for file, content in files.items())


@pytest.mark.parametrize("name", KINDS)
def test_tampering_is_found_and_named(name: str, tmp_path: Path) -> None:
    kind, folder = KINDS[name], files_of(tmp_path, name)
    if not kind.check:
        with pytest.raises(InputError) as caught:
            verified(folder)
        assert kind.says in str(caught.value)
        return
    result = verified(folder)
    assert not result["valid"]
    failed = {c["name"]: c["detail"] for c in result["checks"] if c["ok"] is False}
    assert kind.says in failed.get(kind.check, ""), failed
    if LOG not in kind.files and HEAD not in kind.files and EARLIER not in kind.files:
        assert kind.check == "log: entry" or verified(folder, logged=False)["valid"] is False
    if not set(failed) <= {"log: entry", "log", "log: tree head", "consistency"}:
        return
    assert {c["ok"] for c in result["checks"] if c["name"] == "signature"} == {True}, "only the log is wrong"


def their_verdict(content: bytes) -> str:
    """Return ``ok``, or which of securesystemslib (dsse) and in-toto-attestation (in-toto) refuses."""
    key = SSlibKey.from_crypto(MINE.public.raw, MINE.public.key_id)
    try:
        envelope = Envelope.from_dict(json.loads(content))
        envelope.verify([key], 1)
    except (VerificationError, KeyError, ValueError, TypeError):
        return "dsse"
    from google.protobuf import json_format

    try:
        found = json_format.Parse(envelope.payload, statement_pb2.Statement())
        Statement.copy_from_pb(found).validate()
    except (ValueError, json_format.ParseError):
        return "in-toto"
    return "ok"


@pytest.mark.parametrize("name", ["valid", *KINDS])
def test_other_implementations_agree(name: str, tmp_path: Path) -> None:
    """Both accept the valid certificate, and refuse a broken signature or a malformed statement."""
    kind = KINDS.get(name)
    verdict = their_verdict((files_of(tmp_path, name) / CERTIFICATE).read_bytes())
    if kind is None or not (kind.signature or kind.intoto):
        acceptable = ("ok",) if kind is None or CERTIFICATE not in kind.files else ("ok", "in-toto", "dsse")
        assert verdict in acceptable
    else:
        assert verdict == ("dsse" if kind.signature else "in-toto")


def test_another_implementation_agrees_on_the_log(tmp_path: Path) -> None:
    """Root, inclusion and consistency of the fixtures' log, and inconsistency of the forked one."""
    files_of(tmp_path, "valid")
    lines = [entry.line for entry in log.parse((tmp_path / LOG).read_bytes())]
    assert lines == lines_of(events())
    now = log.parse_head((tmp_path / HEAD).read_bytes())
    then = log.parse_head((tmp_path / EARLIER).read_bytes())
    hexed = [line.hex() for line in lines]
    assert now.root == their_merkle.merkle_root(hexed)
    assert then.root == their_merkle.merkle_root(hexed[: then.size])
    proof = [step.hex() for step in merkle.consistency_proof(lines, then.size)]
    assert their_merkle.verify_consistency(then.root, now.root, then.size, now.size, proof)
    for index in range(len(lines)):
        steps = [step.hex() for step in merkle.inclusion_proof(lines, index)]
        assert their_merkle.verify_inclusion(hexed[index], index, len(lines), steps, now.root)
        assert not their_merkle.verify_inclusion(hexed[index - 1], index, len(lines), steps, now.root)
    forked = log.parse_head((FOLDER / "log-forked" / HEAD).read_bytes())
    assert not their_merkle.verify_consistency(then.root, forked.root, then.size, forked.size, proof)


def test_a_public_key_must_be_given(tmp_path: Path) -> None:
    """A key that comes with a certificate is never trusted."""
    files_of(tmp_path, "valid")
    with pytest.raises(InputError, match="no key"):
        verify(None, str(tmp_path / CERTIFICATE), VerifyOptions(), Progress(quiet=True))
    with pytest.raises(InputError, match="cannot be read"):
        verify(
            None,
            str(tmp_path / CERTIFICATE),
            VerifyOptions(public_key=tmp_path / "none"),
            Progress(quiet=True),
        )
    options = VerifyOptions(public_key=tmp_path / CERTIFICATE)
    with pytest.raises(InputError, match="no public key"):
        verify(None, str(tmp_path / CERTIFICATE), options, Progress(quiet=True))
    with pytest.raises(InputError, match="no workspace"):
        verify(
            None,
            "r-00000000000000aa",
            VerifyOptions(public_key=tmp_path / "public.pem"),
            Progress(quiet=True),
        )

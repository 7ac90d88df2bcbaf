# SPDX-License-Identifier: Apache-2.0
"""Checks without a workspace: of a certificate under a public key, and of a log and its tree heads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import InputError
from expunge.evidence import certificates, contradictions, dsse, log, merkle, statement, transport
from expunge.evidence.check import Check
from expunge.evidence.key_store import PublicKey
from expunge.storage.user_files import read_bytes

SEMANTIC = {
    "dates": "they are dates with a zone, in a possible order",
    "models": "digests, labels and costs of the models are possible together",
    "subjects": "the digests in 'subject' are those of the models and of the manifest",
    "guarantees": "each guarantee fits its model, with the definition of this format",
    "change": "every model that was trained on what was erased has other tensors than before",
    "manifest": "leaves before, less those removed, are the leaves after",
}
UNWITNESSED = (
    "not witnessed: no third party has signed or dated a tree head, so the one who signs could show different"
    " logs to different people"
)


@dataclass(frozen=True)
class Read:
    """The checks of a certificate, its payload and its statement; None if a check failed before."""

    checks: list[Check]
    payload: bytes | None = None
    statement: statement.Statement | None = None


def check_certificate(path: Path, trusted: Mapping[str, PublicKey], expected: str | None) -> Read:
    """Check a certificate: envelope, key and signature first, and the statement only if these are valid.

    Args:
        path: The certificate's file.
        trusted: Trusted public keys by id.
        expected: Id of the request that it should be about; None: not checked.

    Raises:
        InputError: If the file is no JSON object.
    """
    try:
        envelope = certificates.read(path)
    except dsse.Malformed as error:
        return Read([Check("certificate", False, _malformed_reason(path, str(error)))])
    checks = [Check("certificate", True, "a DSSE envelope with one signature")]
    kind = envelope.payload_type
    is_statement = kind == statement.PAYLOAD_TYPE
    detail = kind if is_statement else f"{kind[:80]!r} instead of {statement.PAYLOAD_TYPE!r}"
    checks.append(Check("payload type", is_statement, detail))
    key = trusted.get(envelope.key_id)
    if key is None:
        known = ", ".join(short(k) for k in trusted) or "none"
        checks.append(
            Check(
                "key",
                False,
                f"it names the key {short(envelope.key_id)}, which is not trusted; trusted: {known}",
            )
        )
        others = [k for k in trusted.values() if dsse.signature_holds(envelope, k)]
        detail = "it would hold with a trusted key: the name of the key was changed" if others else (
            "it is of none of the trusted keys"
        )  # fmt: skip
        checks.append(Check("signature", bool(others), detail))
        return Read(checks)
    checks.append(Check("key", True, f"the key {short(key.key_id)} is trusted"))
    holds = dsse.signature_holds(envelope, key)
    detail = "it is of this key and for these bytes" if holds else (
        "it does not fit: the envelope was altered; its payload, payload type or signature was changed after"
        " signing"
    )  # fmt: skip
    checks.append(Check("signature", holds, detail))
    if not (is_statement and holds):
        return Read(checks)
    try:
        found = statement.decode(envelope.payload)
    except dsse.Malformed as error:
        return Read([*checks, Check("statement", False, str(error))])
    checks.append(Check("statement", True, f"in-toto Statement v1 of {statement.PREDICATE}"))
    wrong = contradictions.find(found)
    checks += [Check(name, name not in wrong, wrong.get(name, detail)) for name, detail in SEMANTIC.items()]
    stated = found.predicate.request
    if expected is not None:
        same = stated == expected
        detail = "it is of the request asked for" if same else f"it is the certificate of {stated}"
        checks.append(Check("which request", same, detail))
    return Read(checks, envelope.payload, found)


def check_log(
    content: bytes | None,
    head: bytes | None,
    earlier: bytes | None,
    trusted: Mapping[str, PublicKey],
    read: Read | None,
) -> list[Check]:
    """Check a log, its commitment to a certificate, and its consistency with an earlier tree head.

    Args:
        content: The log's bytes; None: no log was given.
        head: The bytes of the log's tree head.
        earlier: The bytes of an earlier tree head, kept by the verifier.
        trusted: Trusted public keys by id.
        read: The certificate; None: only the log is checked.
    """
    witness = Check("witness", None, UNWITNESSED)
    if content is None:
        checks = [Check("log", None, "no log was given: --log FILE"), _consistency(None, earlier, trusted)]
        return [*checks, witness]
    try:
        entries = log.parse(transport.lines_of(content))
    except log.BrokenLog as error:
        return [Check("log", False, str(error)), Check("consistency", None, "the log is broken"), witness]
    checks = [Check("log", True, f"{len(entries)} entries, in their order"), _head(entries, head, trusted)]
    if read is not None and read.payload is not None and read.statement is not None:
        checks += _entry(entries, read.payload, read.statement.predicate.request)
    return [*checks, _consistency(entries, earlier, trusted), witness]


def short(key_id: str) -> str:
    """Return the beginning of a key's id, for display."""
    return f"{key_id[:19]}…"


def _malformed_reason(path: Path, reason: str) -> str:
    """Return why a certificate is malformed; certificates of early versions were not signed."""
    try:
        found = dsse.load_strictly(transport.text_of(read_bytes(path)).encode())
    except ValueError:
        return reason
    if str(found.get("format", "")).startswith("expunge-certificate/"):
        return "it is not signed: an earlier version made it, or somebody took the signature off"
    return reason


def _head(entries: Sequence[log.Entry], head: bytes | None, trusted: Mapping[str, PublicKey]) -> Check:
    name = "log: tree head"
    if head is None:
        return Check(name, None, "no signed tree head lies beside the log (tree-head.json)")
    try:
        found = _read_head(head, trusted)
    except ValueError as error:
        return Check(name, False, str(error))
    if found.size > len(entries):
        return Check(
            name, False, f"entries are missing: {found.size} were signed, the log has {len(entries)}"
        )
    root = merkle.tree_hash(entry.line for entry in entries[: found.size]).hex()
    if root != found.root:
        return Check(
            name, False, "the entries are not those that were signed: changed, replaced or reordered"
        )
    behind = len(entries) - found.size
    if behind:
        return Check(name, False, f"the last {behind} entries are not signed")
    return Check(name, True, f"signed by {short(found.envelope.key_id)} for all {found.size} entries")


def _read_head(content: bytes, trusted: Mapping[str, PublicKey]) -> log.TreeHead:
    """Return a tree head whose signature is valid.

    Raises:
        ValueError: If it is malformed, not trusted or altered; the message says which.
    """
    try:
        envelope = dsse.parse(content)
    except dsse.Malformed as error:
        raise ValueError(f"the tree head cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError("the tree head cannot be read: it is no JSON object") from error
    if envelope.payload_type != log.HEAD_TYPE:
        raise ValueError(f"this is no tree head: its payload type is {envelope.payload_type[:60]!r}")
    key = trusted.get(envelope.key_id)
    if key is None:
        raise ValueError(f"the tree head is signed by {short(envelope.key_id)}, which is not trusted")
    if not dsse.signature_holds(envelope, key):
        raise ValueError("the tree head's signature does not fit: it was altered after signing")
    return log.parse_head(content)


def _entry(entries: Sequence[log.Entry], payload: bytes, request: str) -> list[Check]:
    digest = hashlib.sha256(payload).hexdigest()
    certified = [e for e in entries if e.event.kind == "certified" and e.event.request == request]
    committed = next((e for e in certified if e.event.commitment == digest), None)
    if committed is None:
        return [Check("log: entry", False, "no entry of this request commits to this certificate")]
    lines = [entry.line for entry in entries]
    proof = merkle.inclusion_proof(lines, committed.index)
    root = merkle.tree_hash(lines)
    included = merkle.verify_inclusion(committed.line, committed.index, len(lines), proof, root)
    checks = [Check("log: entry", included, f"entry {committed.index} commits to it")]
    if certified[-1].event.commitment != digest:
        checks.append(Check("newest", None, "a later certificate of this request is in the log"))
    return checks


def _consistency(
    entries: Sequence[log.Entry] | None, earlier: bytes | None, trusted: Mapping[str, PublicKey]
) -> Check:
    name = "consistency"
    if earlier is None:
        return Check(name, None, "no earlier tree head was given: --tree-head FILE")
    if entries is None:
        return Check(name, None, "a tree head alone says nothing: give the log, too (--log FILE)")
    try:
        before = _read_head(earlier, trusted)
    except ValueError as error:
        return Check(name, False, str(error))
    if before.size > len(entries):
        return Check(
            name, False, f"entries are missing: there were {before.size}, the log has {len(entries)}"
        )
    lines = [entry.line for entry in entries]
    proof = merkle.consistency_proof(lines, before.size)
    try:
        old = bytes.fromhex(before.root)
    except ValueError:
        old = b""
    if not merkle.verify_consistency(before.size, len(lines), old, merkle.tree_hash(lines), proof):
        return Check(
            name, False, f"the log was forked: its first {before.size} entries are not those of then"
        )
    return Check(name, True, f"it continues what was signed at {before.time} with {before.size} entries")


def read_file(path: Path, what: str) -> bytes:
    """Return a file's bytes; ``what`` names the file in the error message.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(
            f"{what} {path} cannot be read.", error.strerror or type(error).__name__, "Check the path."
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""DSSE, the Dead Simple Signing Envelope, version 1.0.2 (https://github.com/secure-systems-lab/dsse).

An envelope is JSON: ``payload`` (base64), ``payloadType``, ``signatures`` (``keyid``, ``sig``). What is
signed is PAE(type, payload), so a payload cannot be taken for one of another type. Ours has one signature;
a reader that is stricter than the standard loses nothing by it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from expunge.evidence.keys import PublicKey, SigningKey
from expunge.user_files import parse_json

FIELDS = {"payload", "payloadType", "signatures"}


class Malformed(ValueError):
    """Not what it should be; the message says in what."""


@dataclass(frozen=True)
class Envelope:
    """A signed payload, not verified yet."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    def as_json(self) -> dict[str, Any]:
        """Return the envelope as it is written."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": self.key_id, "sig": base64.b64encode(self.signature).decode()}],
        }

    def as_bytes(self) -> bytes:
        """Return the envelope as a file's content."""
        return (json.dumps(self.as_json(), indent=1) + "\n").encode()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: ``DSSEv1 LEN(type) type LEN(payload) payload``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, key: SigningKey) -> Envelope:
    """Sign a payload."""
    return Envelope(payload, payload_type, key.public.key_id, key.sign(pae(payload_type, payload)))


def signature_holds(envelope: Envelope, key: PublicKey) -> bool:
    """Whether the signature is that of the key."""
    return key.holds(envelope.signature, pae(envelope.payload_type, envelope.payload))


def parse(content: bytes) -> Envelope:
    """Read an envelope strictly.

    Raises:
        Malformed: If it is JSON, but not exactly such an envelope.
        ValueError: If it is no JSON object at all.
    """
    found = load_strictly(content)
    if set(found) != FIELDS:
        odd = sorted(set(found) ^ FIELDS)
        raise Malformed(
            f"the envelope's fields should be payload, payloadType and signatures; wrong: {odd[0][:40]}"
        )
    signatures = found["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise Malformed("the envelope should have exactly one signature")
    (only,) = signatures
    if not isinstance(only, dict) or set(only) != {"keyid", "sig"}:
        raise Malformed("the signature should have the fields keyid and sig")
    if not all(isinstance(v, str) for v in (found["payload"], found["payloadType"], *only.values())):
        raise Malformed("a field of the envelope is no text")
    return Envelope(
        _decoded(found["payload"], "payload"),
        found["payloadType"],
        only["keyid"],
        _decoded(only["sig"], "signature"),
    )


def load_strictly(content: bytes) -> dict[str, Any]:
    """Read a JSON object in which no name stands twice: readers disagree on which of the two counts.

    Raises:
        Malformed: If a name stands twice, or a number is none (NaN).
        ValueError: If it is no JSON object.
    """
    found = parse_json(content, object_pairs_hook=_unique, parse_constant=_no_number)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Malformed(f"the name {name[:40]!r} stands twice in one JSON object")
        found[name] = value
    return found


def _no_number(word: str) -> None:
    raise Malformed(f"{word} is no JSON number")


def _decoded(text: str, what: str) -> bytes:
    """Decode base64, standard or URL-safe as the standard has it, and nothing besides."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"the {what} is not base64") from error

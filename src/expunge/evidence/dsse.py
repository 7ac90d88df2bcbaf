# SPDX-License-Identifier: Apache-2.0
"""DSSE, the Dead Simple Signing Envelope, version 1.0.2 (https://github.com/secure-systems-lab/dsse).

An envelope is JSON: ``payload`` (base64), ``payloadType``, ``signatures`` (``keyid``, ``sig``). The signature
covers PAE(type, payload), so a payload cannot be passed off as one of another type. This reader is stricter
than the standard: it accepts exactly one signature.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from expunge.evidence.key_material import PublicKey, SigningKey
from expunge.evidence.transport import text_of
from expunge.storage.user_files import parse_json

FIELDS = {"payload", "payloadType", "signatures"}


class Malformed(ValueError):
    """The input is not in the expected format; the message names the fault."""


@dataclass(frozen=True)
class Envelope:
    """A signed payload; its signature is not verified yet."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    def as_json(self) -> dict[str, Any]:
        """Return the envelope as a JSON object."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": self.key_id, "sig": base64.b64encode(self.signature).decode()}],
        }

    def as_bytes(self) -> bytes:
        """Return the envelope as the content of a file."""
        return (json.dumps(self.as_json(), indent=1) + "\n").encode()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: ``DSSEv1 LEN(type) type LEN(payload) payload``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, key: SigningKey) -> Envelope:
    """Return a signed envelope of a payload."""
    return Envelope(payload, payload_type, key.public.key_id, key.sign(pae(payload_type, payload)))


def signature_holds(envelope: Envelope, key: PublicKey) -> bool:
    """Return whether the key signed the envelope."""
    return key.holds(envelope.signature, pae(envelope.payload_type, envelope.payload))


def parse(content: bytes) -> Envelope:
    """Return the envelope in a file's content, parsed strictly.

    Raises:
        Malformed: If it is JSON, but not exactly such an envelope.
        ValueError: If it is no JSON object.
    """
    found = _object(text_of(content), strict=False)  # line breaks within strings alter no signed byte
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
    """Return a JSON object without duplicate names, which JSON readers interpret differently.

    Raises:
        Malformed: If a name occurs twice, or a number is not finite.
        ValueError: If it is no JSON object.
    """
    return _object(content.decode("utf-8"))


def _object(text: str, *, strict: bool = True) -> dict[str, Any]:
    found = parse_json(
        text,
        strict=strict,
        object_pairs_hook=_unique_names,
        parse_constant=_refuse_constant,
        parse_float=_finite,
    )
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Malformed("half of a surrogate pair is no character") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Malformed(f"the name {name[:40]!r} stands twice in one JSON object")
        found[name] = value
    return found


def _refuse_constant(word: str) -> None:
    raise Malformed(f"{word} is no JSON number")


def _finite(word: str) -> float:
    found = float(word)
    if not math.isfinite(found):
        raise Malformed(f"{word[:40]} is too large a number")
    return found


def _decoded(text: str, what: str) -> bytes:
    """Decode base64: standard or URL-safe, in one line or several, with its padding or without."""
    joined = "".join(text.split()).replace("-", "+").replace("_", "/")
    bare = joined.rstrip("=")
    padding = -len(bare) % 4
    try:
        if len(joined) - len(bare) not in (0, padding):
            raise ValueError("padding")
        return base64.b64decode(bare + "=" * padding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"the {what} is not base64") from error

# SPDX-License-Identifier: Apache-2.0
"""Weak public keys, with which anyone can sign, are refused from every source."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from evidence.forgery import CERTIFICATE, MINE, events, predicate
from hypothesis import given
from hypothesis import strategies as st

from expunge import verify
from expunge.errors import InputError
from expunge.evidence import dsse, log, statement
from expunge.evidence.ed25519 import D, P, fault_of
from expunge.evidence.key_store import PublicKey, read_public
from expunge.evidence.rotation import ROTATION_TYPE, successors

# The eight points of small order; then encodings that are not canonical (y ≥ p, or -0 for x). As listed in
# "Taming the many EdDSAs" (Chalkias et al. 2020) and checked by libsodium.
SMALL = [
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
]
NOT_CANONICAL = [
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
]


def pem(raw: bytes) -> bytes:
    return Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def signed_without_a_key(payload: bytes, kind: str, raw: bytes) -> dsse.Envelope:
    """Return an envelope signed without a private key: R = S·B, valid if challenge times key vanishes."""
    key_id = f"sha256:{hashlib.sha256(bytes.fromhex('302a300506032b6570032100') + raw).hexdigest()}"
    message, raw_key = dsse.pae(kind, payload), Ed25519PublicKey.from_public_bytes(raw)
    for seed in range(200):
        signer = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
        digest = bytearray(hashlib.sha512(seed.to_bytes(32, "big")).digest()[:32])
        digest[0], digest[31] = digest[0] & 248, digest[31] & 63 | 64
        scalar = int.from_bytes(digest, "little") % (2**252 + 27742317777372353535851937790883648493)
        signature = signer.public_key().public_bytes_raw() + scalar.to_bytes(32, "little")
        try:
            raw_key.verify(signature, message)
        except InvalidSignature:
            continue
        return dsse.Envelope(payload, kind, key_id, signature)
    raise AssertionError("the key takes no such signature")


@pytest.mark.parametrize("raw", SMALL, ids=bytes.hex)
def test_a_point_of_small_order_is_no_key(raw: bytes, tmp_path: Path) -> None:
    """Negative control: the cryptography library accepts the key and a signature made without private key."""
    payload = statement.encode(predicate())
    forged = signed_without_a_key(payload, statement.PAYLOAD_TYPE, raw)
    (tmp_path / CERTIFICATE).write_bytes(forged.as_bytes())
    (tmp_path / "signer.pem").write_bytes(pem(raw))
    assert "small order" in (fault_of(raw) or "")
    with pytest.raises(InputError, match="no key that identifies") as caught:
        verify(tmp_path / CERTIFICATE, public_key=tmp_path / "signer.pem")
    assert "anybody can sign" in caught.value.why
    with pytest.raises(ValueError, match="small order"):
        PublicKey(Ed25519PublicKey.from_public_bytes(raw))


@pytest.mark.parametrize("raw", NOT_CANONICAL, ids=bytes.hex)
def test_an_encoding_that_is_not_canonical_is_no_key(raw: bytes, tmp_path: Path) -> None:
    assert "canonical" in (fault_of(raw) or "")
    (tmp_path / "signer.pem").write_bytes(pem(raw))
    with pytest.raises(InputError, match="no key that identifies"):
        read_public(tmp_path / "signer.pem")


def test_a_point_with_a_part_of_small_order_is_no_key(tmp_path: Path) -> None:
    """The key is a proper one plus the point of order 2: (-x, -y)."""
    honest = int.from_bytes(MINE.public.raw.public_bytes_raw(), "little")
    sign, y = honest >> 255, honest & (1 << 255) - 1
    mixed = ((1 - sign) << 255 | P - y).to_bytes(32, "little")
    assert "group" in (fault_of(mixed) or "")


def test_bytes_that_are_no_point_are_no_key() -> None:
    def on_curve(y: int) -> bool:
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        return square == 0 or pow(square, (P - 1) // 2, P) == 1

    y = next(y for y in range(2, 100) if not on_curve(y))
    assert "no point" in (fault_of(y.to_bytes(32, "little")) or "")
    assert fault_of(b"") is not None


@given(st.binary(min_size=32, max_size=32))
def test_a_generated_key_is_accepted(seed: bytes) -> None:
    assert fault_of(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()) is None


def test_a_rotation_to_a_weak_key_is_ignored() -> None:
    """A weak key does not become trusted by a rotation."""
    data = {"old": MINE.public.key_id, "new": base64.b64encode(pem(SMALL[0])).decode()}
    signature = base64.b64encode(MINE.sign(dsse.pae(ROTATION_TYPE, log.canonical(data)))).decode()
    event = log.Event("0" * 64, log.ROTATED, commitment="0" * 64, data={**data, "sig": signature})
    entries = [log.Entry(i, e, b"") for i, e in enumerate([*events(), event])]
    assert list(successors(entries, MINE.public)) == [MINE.public.key_id]

# SPDX-License-Identifier: Apache-2.0
"""Tree hashes and proofs against a literal implementation of the RFC and against another library."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scitt_cose import merkle as other

from expunge.evidence import merkle

ENTRIES = [bytes([i]) * (i % 5) for i in range(40)]


def slow(entries: list[bytes]) -> bytes:
    """Return MTH as defined in RFC 9162, section 2.1.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    split = max(2**k for k in range(20) if 2**k < len(entries))
    return hashlib.sha256(b"\1" + slow(entries[:split]) + slow(entries[split:])).digest()


def hexed(values: list[bytes]) -> list[str]:
    """Return the values as hex, the input of the other library."""
    return [value.hex() for value in values]


@pytest.mark.parametrize("size", range(len(ENTRIES)))
def test_tree_hash(size: int) -> None:
    entries = ENTRIES[:size]
    assert merkle.tree_hash(entries) == slow(entries)
    assert merkle.tree_hash(iter(entries)).hex() == other.merkle_root(hexed(entries))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 21, 33])
def test_inclusion(size: int) -> None:
    """Both libraries accept the right proofs and refuse each proof with one changed part."""
    entries, root = ENTRIES[:size], slow(ENTRIES[:size])
    for index in range(size):
        proof = merkle.inclusion_proof(entries, index)
        assert hexed(proof) == other.inclusion_proof(hexed(entries), index)
        right = (entries[index], index, size, proof, root)
        for wrong in (
            (entries[index] + b"x", index, size, proof, root),
            (entries[index], index, size, proof, bytes(32)),
            (entries[index], index, size, [*proof, bytes(32)], root),
            *([(entries[index], index, size, proof[:-1], root)] if proof else []),
            *(
                (entries[index], index, size, [*proof[:i], bytes(32), *proof[i + 1 :]], root)
                for i in range(len(proof))
            ),
            *((entries[index], i, size, proof, root) for i in (-1, size)),
        ):
            assert not merkle.verify_inclusion(*wrong)
            assert not theirs(*wrong)
        assert merkle.verify_inclusion(*right)
        assert theirs(*right)


def theirs(entry: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    """Return whether the other library accepts a proof; it may refuse by an exception."""
    try:
        return bool(other.verify_inclusion(entry.hex(), index, size, hexed(proof), root.hex()))
    except (ValueError, IndexError):
        return False


def test_consistency() -> None:
    for size in range(1, 24):
        entries, root = ENTRIES[:size], slow(ENTRIES[:size])
        for first in range(1, size + 1):
            before, proof = slow(entries[:first]), merkle.consistency_proof(entries, first)
            assert hexed(proof) == other.consistency_proof(hexed(entries), first, size)
            assert merkle.verify_consistency(first, size, before, root, proof)
            assert other.verify_consistency(before.hex(), root.hex(), first, size, hexed(proof))
            forked = slow([*entries[: first - 1], b"forked", *entries[first:]])
            if forked != root:
                assert not merkle.verify_consistency(first, size, before, forked, proof)
                assert not other.verify_consistency(before.hex(), forked.hex(), first, size, hexed(proof))
            assert not merkle.verify_consistency(first, size, bytes(32), root, proof)
            assert not merkle.verify_consistency(first, size, before, root, [*proof, bytes(32)])
            if proof:
                assert not merkle.verify_consistency(first, size, before, root, proof[:-1])
                assert not merkle.verify_consistency(first + 1, size, before, root, proof)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=60), st.data())
def test_any_tree(entries: list[bytes], data: st.DataObject) -> None:
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    root = merkle.tree_hash(entries)
    assert merkle.verify_inclusion(entries[index], index, size, merkle.inclusion_proof(entries, index), root)
    proof = merkle.consistency_proof(entries, first)
    assert merkle.verify_consistency(first, size, merkle.tree_hash(entries[:first]), root, proof)


def test_indices_out_of_range_are_errors() -> None:
    with pytest.raises(IndexError):
        merkle.inclusion_proof(ENTRIES, len(ENTRIES))
    for size in (0, len(ENTRIES) + 1):
        with pytest.raises(IndexError):
            merkle.consistency_proof(ENTRIES, size)

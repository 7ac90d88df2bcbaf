# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of RFC 9162, section 2.1, with SHA-256: tree hash, inclusion and consistency proofs.

Entries are bytes; hashes are 32 bytes. Section numbers in the docstrings are those of the RFC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return HASH(0x00 || entry) (2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return HASH(0x01 || left || right) (2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(entries: Iterable[bytes]) -> bytes:
    """Return MTH(entries), computed in one pass with one hash per level in memory (2.1.1, 2.1.2)."""
    stack: list[tuple[int, bytes]] = []  # (leaves below, hash), sizes falling
    for entry in entries:
        size, found = 1, leaf_hash(entry)
        while stack and stack[-1][0] == size:
            size, found = 2 * size, node_hash(stack.pop()[1], found)
        stack.append((size, found))
    if not stack:
        return EMPTY
    found = stack.pop()[1]
    while stack:
        found = node_hash(stack.pop()[1], found)
    return found


def inclusion_proof(entries: Sequence[bytes], index: int) -> list[bytes]:
    """Return PATH(index, entries), deepest first (2.1.3.1).

    Raises:
        IndexError: If there is no such entry.
    """
    if not 0 <= index < len(entries):
        raise IndexError("no such entry")
    if len(entries) == 1:
        return []
    split = _split(len(entries))
    if index < split:
        return [*inclusion_proof(entries[:split], index), tree_hash(entries[split:])]
    return [*inclusion_proof(entries[split:], index - split), tree_hash(entries[:split])]


def consistency_proof(entries: Sequence[bytes], size: int) -> list[bytes]:
    """Return PROOF(size, entries), which shows that the tree extends that of ``size`` entries (2.1.4.1).

    Raises:
        IndexError: If ``size`` is not between 1 and the number of entries.
    """
    if not 0 < size <= len(entries):
        raise IndexError("no such tree")
    return _subproof(entries, size, True)


def verify_inclusion(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof shows that a tree has this entry at this index (2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf_hash(entry)
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    first_size: int, second_size: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether a proof shows that the second tree extends the first (2.1.4.2)."""
    if not 0 < first_size <= second_size:
        return False
    if first_size == second_size:
        return not proof and first_root == second_root
    if not proof:
        return False
    path = list(proof)
    if first_size & (first_size - 1) == 0:
        path.insert(0, first_root)
    place, last = first_size - 1, second_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, step)
        place, last = place >> 1, last >> 1
    return last == 0 and first == first_root and second == second_root


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size`` (2.1.1)."""
    return 1 << (size - 1).bit_length() - 1


def _subproof(entries: Sequence[bytes], size: int, whole: bool) -> list[bytes]:
    if size == len(entries):
        return [] if whole else [tree_hash(entries)]
    split = _split(len(entries))
    if size <= split:
        return [*_subproof(entries[:split], size, whole), tree_hash(entries[split:])]
    return [*_subproof(entries[split:], size - split, False), tree_hash(entries[:split])]

# SPDX-License-Identifier: Apache-2.0
"""Validation of Ed25519 public keys (RFC 8032, section 5.1).

OpenSSL accepts any point of the curve. With a point of small order as key, anyone can sign any message
without a private key. Implementations disagree on points outside the prime-order subgroup and on encodings
that are not canonical. A key that was generated properly is none of these.
"""

from __future__ import annotations

from functools import lru_cache

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]  # extended coordinates: X, Y, Z, T = X·Y/Z
IDENTITY: Point = (0, 1, 1, 0)


@lru_cache(maxsize=256)
def fault_of(encoded: bytes) -> str | None:
    """Return the fault of an encoded public key (32 bytes); None if it is valid."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if len(encoded) != 32 or y >= P:
        return "its encoding is not canonical"
    x = _x_of(y)
    if x is None:
        return "it is no point of the curve"
    if x == 0 and sign:
        return "its encoding is not canonical"
    if x & 1 != sign:
        x = P - x
    point = (x, y, 1, x * y % P)
    if _is_identity(_times(8, point)):
        return "it has a small order, so anybody can sign under it"
    if not _is_identity(_times(ORDER, point)):
        return "it is not in the group of the base point"
    return None


def _x_of(y: int) -> int | None:
    """Return a square root of (y² - 1) / (d·y² + 1), or None where there is none (5.1.3)."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return None if (x * x - square) % P else x


def _add(one: Point, other: Point) -> Point:
    """Add two points (5.1.4)."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(scalar: int, point: Point) -> Point:
    found = IDENTITY
    for bit in f"{scalar:b}":
        found = _add(found, found)
        if bit == "1":
            found = _add(found, point)
    return found


def _is_identity(point: Point) -> bool:
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0

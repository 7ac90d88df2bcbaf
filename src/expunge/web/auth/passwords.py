# SPDX-License-Identifier: Apache-2.0
"""Passwords, hashed with Argon2id (RFC 9106), and random secrets, stored as digests."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from expunge.errors import InputError

HASHER = PasswordHasher()  # the defaults are the second recommended option of RFC 9106
LEAST, MOST = 12, 200
SECRET_BYTES = 32


def hash_password(password: str) -> str:
    """Return the salted hash of a password.

    Raises:
        InputError: If the password is too short or too long.
    """
    if not LEAST <= len(password) <= MOST:
        raise InputError(
            "The password has the wrong length.",
            f"It has {len(password)} characters; {LEAST} to {MOST} are allowed.",
            "A few words that nobody would guess make a good password.",
        )
    return HASHER.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Return whether a password matches a stored hash. Without a hash, the check takes as long and fails."""
    try:
        return HASHER.verify(stored or _dummy_hash(), password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def new_secret() -> str:
    """Return a random secret that is safe in URLs and headers."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest(secret: str) -> str:
    """Return the stored digest of a random secret. With 256 random bits, a plain SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


@cache
def _dummy_hash() -> str:
    return HASHER.hash(secrets.token_urlsafe(SECRET_BYTES))

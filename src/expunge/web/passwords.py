# SPDX-License-Identifier: Apache-2.0
"""Passwords: hashed with Argon2id (RFC 9106), and random secrets, of which digests alone are kept."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from expunge.errors import InputError

HASHER = PasswordHasher()  # the library's defaults are the RFC's second recommended option
LEAST, MOST = 12, 200
SECRET_BYTES = 32


def hashed(password: str) -> str:
    """Return a salted hash.

    Raises:
        InputError: If the password is too short, or too long to be one.
    """
    if not LEAST <= len(password) <= MOST:
        raise InputError(
            "That password does not fit.",
            f"It has {len(password)} characters; {LEAST} to {MOST} are wanted.",
            "A few words that nobody would guess make a good one.",
        )
    return HASHER.hash(password)


def holds(stored: str | None, password: str) -> bool:
    """Whether a password is the one; without a stored hash it takes as long, and is not."""
    try:
        return HASHER.verify(stored or _nobody(), password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def new_secret() -> str:
    """Return a random secret, for an address or a header."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest(secret: str) -> str:
    """Return what is kept of a random secret: it has 256 random bits, so that a plain digest is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


@cache
def _nobody() -> str:
    return HASHER.hash(secrets.token_urlsafe(SECRET_BYTES))

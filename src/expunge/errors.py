# SPDX-License-Identifier: Apache-2.0
"""What went wrong, why, and what to do next: the errors that a person sees."""

from __future__ import annotations


class ExpungeError(Exception):
    """An error for people: says what, why and what to do next; never holds personal data beyond given ids.

    Args:
        what: The failure in one sentence.
        why: The cause, as far as it is known.
        next_step: What the reader can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next_step = what, why, next_step

    def as_json(self) -> dict[str, str]:
        """Return the error in the form of the command line's ``--json``."""
        return {"error": self.what, "reason": self.why, "next": self.next_step}

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.next_step) if part)


class InputError(ExpungeError):
    """Bad usage or bad input; nothing was changed."""


class NotFound(InputError):
    """What was named is not known here."""


class Conflict(InputError):
    """What was asked for does not fit the state in which things are."""


class BusyError(ExpungeError):
    """Another process changes the same thing; the message says which."""


class EnvironmentChanged(ExpungeError):
    """Checkpoints were made in another environment, so nothing may be published as exact."""


class StorageError(ExpungeError):
    """The disk refused: full, read-only, or not local."""


class Preempted(ExpungeError):
    """A more urgent erasure took the model over; what was published stays, the rest is planned anew."""

    exit_code = 1

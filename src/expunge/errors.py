# SPDX-License-Identifier: Apache-2.0
"""Errors that users see. Each states what happened, why, and what to do next."""

from __future__ import annotations


class ExpungeError(Exception):
    """Base of all errors shown to users. The text holds no personal data except ids that the user gave.

    Args:
        what: The failure in one sentence.
        why: The cause, if known.
        next_step: What the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next_step = what, why, next_step

    def as_json(self) -> dict[str, str]:
        """Return the error as the command line prints it with ``--json``."""
        return {"error": self.what, "reason": self.why, "next": self.next_step}

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.next_step) if part)


class InputError(ExpungeError):
    """Invalid usage or input. Nothing was changed."""


class NotFound(InputError):
    """A named object (dataset, model, request, file) does not exist."""


class Conflict(InputError):
    """The operation is not allowed in the current state."""


class BusyError(ExpungeError):
    """Another process is changing the same object. The message names the process."""


class EnvironmentChanged(ExpungeError):
    """The checkpoints were made in another environment, so no result may be published as exact."""


class StorageError(ExpungeError):
    """Storage failed: the disk is full, read-only, or not local."""


class Preempted(ExpungeError):
    """A more urgent erasure took over the model. Published versions stay; the rest is planned again."""

    exit_code = 1

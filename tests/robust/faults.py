# SPDX-License-Identifier: Apache-2.0
"""Makes a process fail at a chosen file operation: by SIGKILL, or with an error of the system.

It works on the functions of ``os``, so no test needs to know how the code under test is divided.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OPERATIONS = ("replace", "unlink", "fsync", "mkdir")


@dataclass
class Fault:
    """What shall happen, and when.

    Attributes:
        do: ``kill`` this process, ``kill-parent``, raise ``enospc`` (from then on, each time), or ``count``.
        match: Regular expression on the path (of a rename: where it goes to).
        operations: Which operations count.
        nth: At which of them.
        after: Once the operation is done, rather than before.
        role: Only in the process of the command (``command``), of its training (``worker``), or in both ("").
        log: ``count`` writes a line for each operation here.
    """

    do: str
    match: str = ""
    operations: tuple[str, ...] = OPERATIONS
    nth: int = 1
    after: bool = False
    role: str = ""
    log: str = ""

    def install(self) -> None:
        """Wrap the operations in this process (and in those forked from it)."""
        self.left = self.nth
        self.operations = tuple(self.operations)
        for name in self.operations:
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            path = _path(name, args)
            fits = (not self.role or self.role == role()) and re.search(self.match, path) is not None
            if fits and not self.after:
                self._now(name, path)
            result = original(*args, **kwargs)
            if fits and self.after:
                self._now(name, path)
            return result

        return wrapper

    def _now(self, name: str, path: str) -> None:
        self.left -= 1
        if self.do == "count":
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{role()} {name} {path}\n")
        elif self.do == "enospc" and self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        elif self.left == 0:
            if self.do == "kill-parent":
                os.kill(os.getppid(), signal.SIGKILL)
            elif self.do == "kill":
                os.kill(os.getpid(), signal.SIGKILL)


def role() -> str:
    """Whether this is the process of a command or of its training."""
    return os.environ.get("EXPUNGE_TEST_ROLE", "command")


def _path(name: str, args: tuple[Any, ...]) -> str:
    where = args[1] if name == "replace" else args[0]
    return os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else os.fsdecode(where)

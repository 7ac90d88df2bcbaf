# SPDX-License-Identifier: Apache-2.0
"""The digest of the tensors in a file of weights; on request read by a process of its own.

Reading weights takes torch, which takes seconds to load and hundreds of megabytes that a process never gives
back. A server that verifies certificates must not grow by that: it lets a child read, which ends.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path

from expunge import processes
from expunge.data.digest import file_digest
from expunge.errors import InputError


def digest_of(path: Path) -> str:
    """Return the digest of a file's tensors.

    Raises:
        InputError: If it is no file of weights.
    """
    from expunge.exact.model import states_digest
    from expunge.tasks.weights import states_of

    return states_digest(states_of(path))


def digest_apart(path: Path) -> str:
    """Return the same, read by a child; of the same bytes once only.

    Raises:
        InputError: If it is no file of weights, or the child came to no answer.
    """
    return _told(str(path.absolute()), file_digest(path))


@lru_cache(maxsize=256)
def _told(path: str, _sha256: str) -> str:
    reader = "expunge.evidence.tensors"
    done = processes.run(reader, path, stdin=processes.DEVNULL, capture_output=True, text=True)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        told = {"error": ["The weights could not be read.", f"Their reader ended ({done.returncode}).", ""]}
    if "error" in told:
        raise InputError(*told["error"])
    return str(told["digest"])


def main() -> None:
    """Print the digest of a file, or why there is none: ``python -m expunge.evidence.tensors FILE``."""
    try:
        told: dict[str, object] = {"digest": digest_of(Path(sys.argv[1]))}
    except InputError as error:
        told = {"error": [error.what, error.why, error.next_step]}
    print(json.dumps(told))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Digests of the tensors in a weights file, read in this process or in a child process.

Reading weights loads torch, which takes seconds and hundreds of megabytes that a process never frees. A
long-running server therefore reads them in a child process that ends afterwards.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path

from expunge import processes
from expunge.errors import InputError
from expunge.storage.digest import file_digest


def digest_of(path: Path) -> str:
    """Return the digest of the tensors in a weights file.

    Raises:
        InputError: If the file holds no weights.
    """
    from expunge.exact.model import states_digest
    from expunge.tasks.weights import states_of

    return states_digest(states_of(path))


def digest_apart(path: Path) -> str:
    """Return the digest of the tensors in a weights file, computed in a child process.

    Digests are cached by path and file content.

    Raises:
        InputError: If the file holds no weights, or the child process failed.
    """
    return _child_digest(str(path.absolute()), file_digest(path))


@lru_cache(maxsize=256)
def _child_digest(path: str, _sha256: str) -> str:
    reader = "expunge.evidence.tensors"
    done = processes.run(reader, path, stdin=processes.DEVNULL, capture_output=True, text=True)
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        reply = {"error": ["The weights could not be read.", f"Their reader ended ({done.returncode}).", ""]}
    if "error" in reply:
        raise InputError(*reply["error"])
    return str(reply["digest"])


def main() -> None:
    """Print the digest of a file, or the error, as JSON: ``python -m expunge.evidence.tensors FILE``."""
    try:
        reply: dict[str, object] = {"digest": digest_of(Path(sys.argv[1]))}
    except InputError as error:
        reply = {"error": [error.what, error.why, error.next_step]}
    print(json.dumps(reply))


if __name__ == "__main__":
    main()

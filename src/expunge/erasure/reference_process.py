# SPDX-License-Identifier: Apache-2.0
"""A process that trains one reference model."""

from __future__ import annotations

import json
import os
import pickle
import sys

from expunge.erasure.reference_training import train_one
from expunge.errors import ExpungeError
from expunge.exact.worker import exit_with_parent


def main() -> int:
    """Train the pickled job on standard input; ``python -m expunge.erasure.reference_process PARENT``.

    Errors are written to standard output as one line of JSON.

    Returns:
        The exit code: 0, or 2 after an error.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keeps what libraries print out of the answer
    exit_with_parent(int(sys.argv[1]))
    try:
        train_one(pickle.load(sys.stdin.buffer))  # the parent process is trusted
    except ExpungeError as error:
        channel.write(json.dumps(error.as_json()) + "\n")
        channel.flush()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

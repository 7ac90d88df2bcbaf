# SPDX-License-Identifier: Apache-2.0
"""Runs an ``expunge`` command and says on standard error how much memory it took at most."""

from __future__ import annotations

import sys

from expunge.cli.main import cli

if __name__ == "__main__":
    try:
        cli.main(sys.argv[1:])
    finally:
        with open("/proc/self/status", encoding="ascii") as status:
            peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
        print("peak_kib", peak, file=sys.stderr)

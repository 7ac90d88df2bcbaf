# SPDX-License-Identifier: Apache-2.0
"""What a person sees of long work: how far it is and how long it will take. Standard error only."""

from __future__ import annotations

import sys
import time


class Progress:
    """A line that counts up, with an estimate of the time left; a plain line now and then off a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet, self._tty = quiet, sys.stderr.isatty()
        self._label, self._total, self._done = "", 0, 0
        self._began = self._shown = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def begin(self, label: str, total: int) -> None:
        """Start counting towards ``total``."""
        self._label, self._total, self._done = label, total, 0
        self._began = time.monotonic()
        self._shown = 0.0 if self._tty else self._began

    def add(self, count: int) -> None:
        """Count on."""
        self._done += count
        pause = 0.2 if self._tty else 20.0
        if not self._quiet and self._total and time.monotonic() - self._shown > pause:
            self._shown = time.monotonic()
            self._draw()

    def end(self) -> None:
        """Finish the line."""
        if not self._quiet and self._total:
            self._clear()
            print(
                f"{self._label}: done in {_span(time.monotonic() - self._began)}", file=sys.stderr, flush=True
            )
        self._total = 0

    def _draw(self) -> None:
        share = min(self._done / self._total, 1.0)
        spent = time.monotonic() - self._began
        left = f", about {_span(spent / share - spent)} left" if share > 0.02 else ""
        text = f"{self._label}: {100 * share:3.0f} %, {self._done}/{self._total} images{left}"
        if self._tty:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._tty and self._total:
            print("\r\x1b[K", end="", file=sys.stderr)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds / 3600:.1f} h"

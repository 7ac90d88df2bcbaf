# SPDX-License-Identifier: Apache-2.0
"""Progress display for long operations, with an estimate of the time left. Writes to standard error only."""

from __future__ import annotations

import sys
import time


class Progress:
    """Show one counter at a time. Off a terminal, print a plain line every 20 seconds instead.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet, self._tty = quiet, sys.stderr.isatty()
        self._label, self._total, self._done = "", 0, 0
        self._started = self._last_drawn = 0.0

    def say(self, text: str) -> None:
        """Print one line of text."""
        if not self._quiet:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def begin(self, label: str, total: int) -> None:
        """Start a counter with a label and a total number of images."""
        self._label, self._total, self._done = label, total, 0
        self._started = time.monotonic()
        self._last_drawn = 0.0 if self._tty else self._started

    def add(self, count: int) -> None:
        """Add to the counter and redraw it if the last update is old enough."""
        self._done += count
        interval = 0.2 if self._tty else 20.0
        if not self._quiet and self._total and time.monotonic() - self._last_drawn > interval:
            self._last_drawn = time.monotonic()
            self._draw()

    def end(self) -> None:
        """Finish the counter and print the time it took."""
        if not self._quiet and self._total:
            self._clear()
            duration = _format_duration(time.monotonic() - self._started)
            print(f"{self._label}: done in {duration}", file=sys.stderr, flush=True)
        self._total = 0

    def _draw(self) -> None:
        fraction = min(self._done / self._total, 1.0)
        elapsed = time.monotonic() - self._started
        estimate = f", about {_format_duration(elapsed / fraction - elapsed)} left" if fraction > 0.02 else ""
        text = f"{self._label}: {100 * fraction:3.0f} %, {self._done}/{self._total} images{estimate}"
        if self._tty:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._tty and self._total:
            print("\r\x1b[K", end="", file=sys.stderr)


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds / 3600:.1f} h"

# SPDX-License-Identifier: Apache-2.0
"""A pool of training processes, each of which runs several jobs, so that libraries are imported once."""

from __future__ import annotations

import json
import os
import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from expunge import processes
from expunge.errors import ExpungeError
from expunge.training.fingerprint import environment_variables

if TYPE_CHECKING:
    import subprocess


class Workers:
    """The training processes of one command; a context manager that ends them.

    Args:
        threads: Threads of each process.
        isa: Instruction set of each process.
        folder: Their current folder.

    Attributes:
        busy: Numbers of the processes that have a job.
    """

    def __init__(self, threads: int, isa: str, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment_variables(threads, isa)}
        self._processes: list[subprocess.Popen[str]] = []
        self._events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self.busy: set[int] = set()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def submit(self, job: dict[str, Any]) -> None:
        """Pass a job to a free process; a new one is started if there is none."""
        free = set(range(len(self._processes))) - self.busy
        number = min(free) if free else self._start()
        self.busy.add(number)
        # In a thread, because writing a long list of samples blocks until the process reads it.
        threading.Thread(target=self._send, args=(number, json.dumps(job) + "\n"), daemon=True).start()

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        """Return the next event; None if none arrives in time, or if it is the end of a job.

        The end of a job is recorded in ``busy``.

        Raises:
            ExpungeError: If a process ended.
        """
        try:
            number, event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if event is None:
            raise _died(self._processes[number].wait())
        if event["event"] == "done":
            self.busy.discard(number)
            return None
        return event

    def _start(self) -> int:
        process = processes.start(
            "expunge.exact.worker",
            folder=self._folder,
            environ=self._environment,
            stdin=processes.PIPE,
            stdout=processes.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._processes.append(process)
        number = len(self._processes) - 1
        threading.Thread(target=self._listen, args=(number,), daemon=True).start()
        return number

    def _send(self, number: int, text: str) -> None:
        stream = self._processes[number].stdin
        assert stream is not None
        try:
            stream.write(text)
            stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # the process has ended; the listener reports it

    def _listen(self, number: int) -> None:
        stream = self._processes[number].stdout
        assert stream is not None
        try:
            for line in stream:
                self._events.put((number, json.loads(line)))
        finally:
            self._events.put((number, None))


def _died(code: int) -> ExpungeError:
    reason = "It was killed, possibly because the machine ran out of memory."
    return ExpungeError(
        "A training process ended before its work was done.",
        reason if code < 0 else f"It left with code {code}; its messages are above.",
        "Run the command again: it continues from the last finished stage. Lower --batch if memory is short.",
    )

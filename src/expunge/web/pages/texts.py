# SPDX-License-Identifier: Apache-2.0
"""Texts for states, deadlines and figures on pages, with icons and colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Badge:
    """A short text with an icon. ``kind``: its colour: good, warn, bad, accent or empty."""

    text: str
    icon: str
    kind: str = ""


STATES = {
    "open": Badge("received", "inbox"),
    "scoped": Badge("waits for a decision", "scale", "accent"),
    "approved": Badge("approved, waits to run", "check", "accent"),
    "refused": Badge("refused, the person must be informed", "cross", "warn"),
    "running": Badge("running", "play", "accent"),
    "resumed": Badge("running again", "play", "accent"),
    "failed": Badge("interrupted, must run again", "warn", "bad"),
    "executed": Badge("models done, something is left", "clock", "warn"),
    "audited": Badge("audited", "check", "good"),
    "certified": Badge("certified", "seal", "good"),
    "closed": Badge("closed", "seal", "good"),
}
MEANINGS = {
    "open": "It was received. Nothing is erased yet.",
    "scoped": "Its samples and models are determined. Nothing is erased yet.",
    "approved": "Somebody approved it. Nothing is erased yet: the next run does that.",
    "refused": "It was refused. Within a month, the person must be informed why, and where to complain.",
    "running": "The data was removed from the dataset. Models are being updated, or their repair is pending.",
    "resumed": "Execution continues after an interruption.",
    "failed": "Its run stopped before the end. The next step is shown below.",
    "executed": "Every model is final. It stays open until the originals in your folder are deleted as well.",
    "audited": "Every result was audited or is exact.",
    "certified": "The certificate is written.",
    "closed": "Everything that this tool can do is done, and its catalog has forgotten the selection.",
}
MODEL_STATES = {
    "current": Badge("current", "check", "good"),
    "interim": Badge("interim", "clock", "warn"),
    "superseded": Badge("superseded", "archive"),
}
VERDICTS = {
    "pass": Badge("pass", "check", "good"),
    "fail": Badge("fail", "cross", "bad"),
    "no-power": Badge("no power", "question", "warn"),
}
CHECKS = {
    True: Badge("holds", "check", "good"),
    False: Badge("fails", "cross", "bad"),
    None: Badge("not checked", "question"),
}
DECIDED = {
    "same": Badge("the same: it is erased too", "check", "accent"),
    "different": Badge("different: it stays", "check"),
}
NOTE_TEXTS = {
    "extended": "the deadline was extended",
    "recipient": "a recipient was recorded",
    "model": "a model is final",
    "told": "the person was informed",
    "turned-down": "the audit did not accept the result",
    "held": "a person must decide how to continue",
}


def state(name: str) -> Badge:
    """Return the badge of a request's state."""
    return STATES.get(name, Badge(name, "dot"))


def deadline(request: Mapping[str, Any]) -> Badge:
    """Return the badge of the time left for a request."""
    left = request["days_left"]
    if left is None:
        return Badge("no deadline runs", "check")
    if request["overdue"] or left < 0:
        late = max(-left, 1)
        return Badge(f"{late} {_days(late)} overdue", "alarm", "bad")
    if left == 0:
        return Badge("due today", "alarm", "bad")
    text = "due tomorrow" if left == 1 else f"{left} {_days(left)} left"
    return Badge(text, "warn" if request["remind"] else "clock", "warn" if request["remind"] else "")


def moment(text: str | None) -> str:
    """Return a time in ISO 8601 as text, such as ``4 May 2026, 09:30``."""
    return _written(text, "%-d %b %Y, %H:%M")


def day(text: str | None) -> str:
    """Return the date of a time in ISO 8601 as text, such as ``4 May 2026``."""
    return _written(text, "%-d %B %Y")


def date(text: str | None) -> str:
    """Return the date of a time in ISO 8601 as short text, for tables."""
    return _written(text, "%-d %b %Y")


def _written(text: str | None, form: str) -> str:
    if not text:
        return "–"
    try:
        return datetime.fromisoformat(text).strftime(form)
    except ValueError:
        return text


def percent(share: float | None) -> str:
    """Return a fraction in per cent."""
    if share is None:
        return "not known"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def many(count: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def span(seconds: float | None) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def event(entry: Mapping[str, Any]) -> str:
    """Return an event of a request as a sentence."""
    if entry["from"] == entry["to"]:
        return NOTE_TEXTS.get(entry["reason"] or "", "something was noted")
    sentences = {
        "open": "the request was received",
        "scoped": "its samples and models were determined",
        "approved": "it was approved",
        "refused": "it was refused",
        "running": "the data was removed from the dataset, and the run started",
        "resumed": "the run continued",
        "failed": "the run was interrupted",
        "executed": "every model is final",
        "audited": "every result was audited or is exact",
        "certified": "the certificate was written",
        "closed": "it was closed",
    }
    return sentences.get(str(entry["to"]), str(entry["to"]))


def _days(count: int) -> str:
    return "day" if count == 1 else "days"

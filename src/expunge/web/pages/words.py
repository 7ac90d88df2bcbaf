# SPDX-License-Identifier: Apache-2.0
"""What pages say of states, deadlines and figures: plain English, with a sign and a colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Badge:
    """A word with its sign; ``kind``: good, warn, bad, accent or empty, the colour."""

    text: str
    icon: str
    kind: str = ""


STATES = {
    "open": Badge("came in", "inbox"),
    "scoped": Badge("waits for a decision", "scale", "accent"),
    "approved": Badge("approved, waits to run", "check", "accent"),
    "refused": Badge("refused, the person must be told", "cross", "warn"),
    "running": Badge("running", "play", "accent"),
    "resumed": Badge("running again", "play", "accent"),
    "failed": Badge("cut short, must run again", "warn", "bad"),
    "executed": Badge("models done, something is left", "clock", "warn"),
    "audited": Badge("judged", "check", "good"),
    "certified": Badge("certified", "seal", "good"),
    "closed": Badge("closed", "seal", "good"),
}
MEANINGS = {
    "open": "It came in. Nothing is erased yet.",
    "scoped": "It is known which samples and models it concerns. Nothing is erased yet.",
    "approved": "Somebody approved it. Nothing is erased yet: the next run does that.",
    "refused": "It was refused. The person must be told why, and where to complain, within a month.",
    "running": "The data is out of the dataset. Models are being brought up to date, or the repair waits.",
    "resumed": "It was taken up again after it was cut short.",
    "failed": "Its run stopped before the end. What to do next is said below.",
    "executed": "Every model is final. It stays open until the originals in your own folder are gone, too.",
    "audited": "Every result was judged, or is exact.",
    "certified": "The certificate is written.",
    "closed": "Everything that this tool can do is done, and its catalog has forgotten what was asked for.",
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
    "same": Badge("the same: it goes, too", "check", "accent"),
    "different": Badge("another: it stays", "check"),
}
NOTED = {
    "extended": "the deadline was extended",
    "recipient": "a recipient was recorded",
    "model": "a model is final",
    "told": "the person was told",
    "turned-down": "the audit did not accept the result",
    "held": "a person must decide how to go on",
}


def state(name: str) -> Badge:
    """Return what a request's state is called."""
    return STATES.get(name, Badge(name, "dot"))


def deadline(request: Mapping[str, Any]) -> Badge:
    """Return how much time a request leaves, in words."""
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
    """Return a moment as people write it; ISO 8601 in, UTC out."""
    return _written(text, "%-d %b %Y, %H:%M")


def day(text: str | None) -> str:
    """Return the day of a moment."""
    return _written(text, "%-d %B %Y")


def date(text: str | None) -> str:
    """Return the day of a moment, for a table."""
    return _written(text, "%-d %b %Y")


def _written(text: str | None, form: str) -> str:
    if not text:
        return "–"
    try:
        return datetime.fromisoformat(text).strftime(form)
    except ValueError:
        return text


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    if share is None:
        return "not known"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def many(count: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def span(seconds: float | None) -> str:
    """Return a time span in the unit that fits."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def event(told: Mapping[str, Any]) -> str:
    """Return one event of a request as a sentence."""
    if told["from"] == told["to"]:
        return NOTED.get(told["reason"] or "", "something was noted")
    sentences = {
        "open": "the request came in",
        "scoped": "its samples and models were found",
        "approved": "it was approved",
        "refused": "it was refused",
        "running": "the data was taken out of the dataset, and the run began",
        "resumed": "it was taken up again",
        "failed": "the run was cut short",
        "executed": "every model is final",
        "audited": "every result was judged, or is exact",
        "certified": "the certificate was written",
        "closed": "it was closed",
    }
    return sentences.get(str(told["to"]), str(told["to"]))


def _days(count: int) -> str:
    return "day" if count == 1 else "days"

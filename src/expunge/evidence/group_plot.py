# SPDX-License-Identifier: Apache-2.0
"""Plot of figures by group: one dot with its interval for each model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expunge.evidence import svg
from expunge.evidence.canvas import Canvas, canvas_for, save

COLOURS = ("#1d4ed8", "#b45309", "#0f766e", "#7c3aed", "#64748b")
WORST = "#c2410c"
WIDE, RIGHT, TOP, ROW, APART = 760, 640, 92, 26, 12
LONGEST = 34  # characters of a group's name


def draw(measured: dict[str, Any], path: Path) -> None:
    """Draw the result of ``bias measure`` or ``bias compare``.

    Args:
        measured: The command's JSON.
        path: A file .svg or .png.

    Raises:
        InputError: If the file has another suffix, or its folder is missing.
    """
    models = measured.get("models") or [measured]
    names = [entry["group"] for entry in models[0]["groups"]]
    longest = max([len(_short(name)) for name in names] + [8])
    left = 30 + 7 * longest
    step = max(ROW, APART * len(models) + 10)
    floor = TOP + step * (len(names) + 1)
    canvas = canvas_for(path, WIDE, floor + 60 + 18 * len(models))
    metric = models[0]["metric"]
    scale = svg.Scale(*_range(models, metric), left, RIGHT)
    title = f"{metric} by {' and '.join(measured['group'])}"
    canvas.text(16, 28, title, svg.INK, 16)
    canvas.text(16, 48, f"{measured['data']}, {measured['split']}: {measured['samples']} images", size=12)
    _scale(canvas, scale, floor, metric)
    rows = [*zip(*(m["groups"] for m in models), strict=True)]
    for i, entries in enumerate(rows):
        _row(canvas, scale, TOP + step * (i + 0.5), entries, models, metric)
    y = TOP + step * (len(names) + 0.5)
    canvas.text(left - 10, y + 4, "all", svg.INK, anchor="end")
    for j, model in enumerate(models):
        _mark(canvas, scale, y + _offset(j, len(models)), model["overall"][metric], COLOURS[j % 5], "all")
    for j, model in enumerate(models):
        where = floor + 56 + 18 * j
        canvas.dot(left, where - 4, COLOURS[j % 5], model["model"])
        canvas.text(left + 12, where, _legend(model), svg.INK)
    save(canvas, path, title)


def _row(
    canvas: Canvas,
    scale: svg.Scale,
    y: float,
    entries: Sequence[dict[str, Any]],
    models: Sequence[dict[str, Any]],
    metric: str,
) -> None:
    """Draw the row of a group: its name, a dot per model, and its number of subjects or samples."""
    name, first = entries[0]["group"], entries[0]
    single = len(models) == 1
    worst = [m["worst"] is not None and m["worst"]["group"] == name for m in models]
    canvas.text(
        scale.start - 10, y + 4, _short(name), WORST if single and any(worst) else svg.INK, anchor="end"
    )
    if first["figures"] is None:
        canvas.text(scale.start + 8, y + 4, "too few for a figure")
        return
    count = f"{first['subjects']} subjects" if first["subjects"] else f"{first['samples']} samples"
    canvas.text(RIGHT + 12, y + 4, count)
    for j, entry in enumerate(entries):
        place = y + _offset(j, len(entries))
        value = entry["figures"][metric]
        colour = WORST if worst[j] and single else COLOURS[j % 5]
        _mark(canvas, scale, place, value, colour, name)
        if worst[j] and value["value"] is not None:
            end = value["high"] if value["high"] is not None else value["value"]
            near = scale(end) + 8 < RIGHT - 40
            x = scale(end) + 8 if near else scale(value["low"] or value["value"]) - 8
            canvas.text(x, place + 4, "worst", colour, 11, "start" if near else "end")


def _mark(canvas: Canvas, scale: svg.Scale, y: float, value: dict[str, Any], colour: str, title: str) -> None:
    if value["value"] is None:
        return
    if value["low"] is not None:
        canvas.line(scale(value["low"]), y, scale(value["high"]), y, colour, 2)
    canvas.dot(scale(value["value"]), y, colour, f"{title}: {value['value']:.3f}")


def _scale(canvas: Canvas, scale: svg.Scale, floor: float, metric: str) -> None:
    for tick in scale.ticks():
        canvas.line(scale(tick), TOP - 8, scale(tick), floor, svg.LINE)
        canvas.text(scale(tick), floor + 16, svg.number(tick), anchor="middle")
    canvas.line(scale.start, floor, scale.end, floor, svg.SOFT)
    canvas.text((scale.start + scale.end) / 2, floor + 34, f"{metric}, with 95 % intervals", svg.INK,
                anchor="middle")  # fmt: skip


def _range(models: Sequence[dict[str, Any]], metric: str) -> tuple[float, float]:
    """Return the range of the axis: from the lowest bound, rounded down to a tenth, to 1."""
    shown = [m["overall"][metric] for m in models]
    shown += [e["figures"][metric] for m in models for e in m["groups"] if e["figures"]]
    lows = [v["low"] if v["low"] is not None else v["value"] for v in shown if v["value"] is not None]
    lowest = min(lows, default=0.0)
    return max(
        0.0, int(lowest * 10) / 10 - (0.1 if lowest * 10 % 1 < 0.2 else 0)
    ), 1.0 + 1e-9  # with a tick at 1


def _legend(model: dict[str, Any]) -> str:
    gap = model["gap"]
    if gap is None or gap["value"] is None:
        return f"{model['model']}: fewer than two groups to compare"
    least = "" if gap["by_chance"] is None else f"; chance alone: up to {gap['by_chance']:.3f}"
    return f"{model['model']}: gap {gap['value']:.3f} ({gap['low']:.3f} to {gap['high']:.3f}{least})"


def _offset(number: int, count: int) -> float:
    return APART * (number - (count - 1) / 2)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"

# SPDX-License-Identifier: Apache-2.0
"""Tables that the commands ``data …`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


LABELS = {
    "labelled": "labelled",
    "empty": "with an empty label file (background)",
    "missing": "without a label file",
}


def version_table(result: dict[str, Any]) -> Table:
    """Return a table of a dataset version's properties."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=result["dataset"], show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    classes = result["classes"]
    shown = ", ".join(classes[:12]) + (f" … ({len(classes)})" if len(classes) > 12 else "")
    rows = {
        "samples": f"{result['samples']:,}",
        **{
            f"  {split}": _labels(result, split, n)
            for split in ("train", "val", "test")
            if (n := result["splits"].get(split))
        },
        "subjects": f"{result['subjects']:,}",
        "public": f"{result['public']:,}",
        "classes": shown,
        "made from": result["parent"],
        "by request": result["request"],
        "erased since": f"{result['erased_since']:,}" if result["erased_since"] else None,
        "folder": result["root"],
        "digest": result["digest"],
    }
    for label, value in rows.items():
        if value is not None:
            table.add_row(label, escape(str(value)))
    return table


def _labels(result: dict[str, Any], split: str, samples: int) -> str:
    """Return the number of samples in a split, by the state of their labels."""
    if result["kind"] != "yolo":
        return f"{samples:,}"
    parts = [f"{result[key].get(split, 0):,} {word}" for key, word in LABELS.items()]
    return f"{samples:,} ({', '.join(parts)})"


def pairs_table(result: dict[str, Any]) -> Table | str:
    """Return a table of near-duplicate pairs."""
    from rich.markup import escape
    from rich.table import Table

    if not result["pairs"]:
        return f"No near-duplicates among {result['hashed']:,} pictures of {result['dataset']}."
    table = Table(title=f"{len(result['pairs'])} pairs in {result['dataset']}", title_justify="left")
    for column in ("a", "of", "b", "of", "distance", "similarity", ""):
        table.add_column(column, overflow="fold")
    for pair in result["pairs"]:
        notes = [word for word in ("flipped", "identical") if pair[word]]
        sides = [pair["a"], ", ".join(pair["subjects_a"]), pair["b"], ", ".join(pair["subjects_b"])]
        facts = [str(pair["distance"]), f"{pair['similarity']:.3f}"]
        notes += [pair["decision"]] if pair["decision"] else []
        table.add_row(*(escape(side) or "–" for side in sides), *facts, ", ".join(notes))
    table.caption = "There are more: raise --limit." if result["truncated"] else None
    return table


def lineage_table(found: dict[str, Any]) -> Table | str:
    """Return a table of the models that saw a subject, with shards and exports."""
    from rich.markup import escape
    from rich.table import Table

    if not found["samples"]:
        by = found["already_erased_by"]
        return f"No sample left: erased by {by}." if by else "No sample left."
    splits = ", ".join(f"{n} {split}" for split, n in found["splits"].items())
    title = f"{escape(found['subject'])} in {found['dataset']}: {len(found['samples'])} samples ({splits})"
    table = Table(title=title, title_justify="left")
    for column in ("model", "state", "samples seen", "where", "exports"):
        table.add_column(column)
    for model in found["models"]:
        places = ", ".join(f"shard {c['shard']} from stage {c['slice'] + 1}" for c in model["homes"])
        exports = ", ".join(e["format"] for e in model["exports"])
        table.add_row(
            model["model"], model["state"], str(model["saw"]), places or "everywhere", exports or "–"
        )
    return table

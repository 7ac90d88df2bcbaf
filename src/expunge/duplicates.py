# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates in a workspace: find them, show them, keep what people decide about them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import decisions
from expunge.catalog.datasets import find_subject, get_version, load_samples, parse_ref
from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.catalog.versions import not_erased
from expunge.errors import InputError
from expunge.user_files import read_text

if TYPE_CHECKING:
    from expunge.workspace import Workspace

CACHES = "caches"
SUFFIX = ".hashes"


def duplicates(
    workspace: Workspace,
    ref: str,
    *,
    subject: str | None = None,
    distance: int | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    sheet: Path | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Find pairs of samples that look alike and do not concern the same people.

    Args:
        workspace: Where the dataset is known.
        ref: ``NAME`` or ``NAME@V``.
        subject: Only what looks like one of this subject's pictures.
        distance, threshold, limit: See :func:`expunge.data.duplicates.find`.
        sheet: Where to write a page with the pictures (HTML); it must not exist.
        threads: How many pictures to decode at once.
        progress: Called with how many pictures are hashed, of how many.

    Raises:
        InputError: If the subject is not in the dataset, or a setting does not fit.
    """
    from expunge.data import duplicates as near
    from expunge.data.hamming import MOST
    from expunge.data.hashes import hash_samples

    distance = near.DISTANCE if distance is None else distance
    if subject is None and distance > MOST:
        raise InputError(
            f"A distance of {distance} does not fit.",
            f"Over a whole dataset, all pairs are found up to a distance of {MOST}.",
            f"Give at most {MOST}, or name a subject with --of.",
        )
    if sheet is not None and sheet.exists():
        raise InputError(f"{sheet} exists already.", "", "Choose another file.")
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = load_samples(session, version, without_erased=True)
        decided = decisions.decisions(session, version)
        if subject is not None and not find_subject(session, version.name, subject):
            raise InputError(
                f"Unknown: {subject!r}.",
                f"No subject of that id is in {version.name}.",
                f"See what is there with: expunge data show {version.name}",
            )
    hashing = hash_samples(
        version.root, samples, cache_file(workspace, version.name), threads=threads, progress=progress
    )
    found = near.find(
        version.root,
        samples,
        hashing,
        subject=subject,
        distance=distance,
        threshold=near.SIMILARITY if threshold is None else threshold,
        limit=near.LIMIT if limit is None else limit,
    )
    pairs = [near.as_json(pair, samples) for pair in found.pairs]
    for pair in pairs:
        pair["decision"] = decided.get(frozenset((pair["a"], pair["b"])))
    if sheet is not None:
        from expunge.data.contact_sheet import write_sheet

        write_sheet(sheet, version.label, version.root, pairs)
    return {
        "dataset": version.label,
        "images": len(samples),
        "hashed": int(hashing.known.sum()),
        "read_now": hashing.computed,
        "unreadable": hashing.unreadable,
        "changed": hashing.changed,
        "featureless": int(hashing.rows["flat"].sum()),
        "distance": distance,
        "similarity": near.SIMILARITY if threshold is None else threshold,
        "candidates": found.candidates,
        "pairs": pairs,
        "truncated": found.truncated,
        "sheet": str(sheet) if sheet is not None else None,
    }


def decide(workspace: Workspace, ref: str, table: Path) -> dict[str, Any]:
    """Keep the decisions of a CSV file with the header ``a,b,decision``: ``same`` or ``different``.

    A sample that is the same as one that a later request takes out is taken out with it.

    Raises:
        InputError: If a row does not fit; then none is kept.
    """
    rows = list(_rows(table))
    with workspace.session(write=True) as session:
        version = get_version(session, *parse_ref(ref))
        try:
            count = decisions.decide(session, version, rows)
        except KeyError as error:
            raise InputError(
                f"{table} names {error.args[0]!r}.",
                f"No sample of {version.label} has that path.",
                "Give paths as `expunge data duplicates --json` does.",
            ) from error
    same = sum(1 for _, _, decision in rows if decision == decisions.SAME)
    return {"dataset": version.label, "decided": count, "same": same, "different": count - same}


def _rows(table: Path) -> Iterator[tuple[str, str, str]]:
    try:
        text = read_text(table)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table} cannot be read.", type(error).__name__, "Check the path.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"a", "b", "decision"} <= set(reader.fieldnames or ()):
        raise InputError(f"{table} has no header a,b,decision.", "", "Write one, and a pair in each row.")
    for row in reader:
        a, b, decision = (str(row[key] or "").strip() for key in ("a", "b", "decision"))
        if decision not in decisions.DECISIONS or not a or not b or a == b:
            raise InputError(
                f"{table}, line {reader.line_num}: the row does not fit.",
                f"It needs two paths and one of: {', '.join(decisions.DECISIONS)}.",
                "Correct it; nothing was kept.",
            )
        yield a, b, decision


def cache_file(workspace: Workspace, dataset: str) -> Path:
    """Return where the perceptual hashes of a dataset are kept."""
    return workspace.folder(CACHES) / f"{dataset}{SUFFIX}"


def forget_hashes(workspace: Workspace) -> int:
    """Take out of all caches the hashes of pictures that are not in a dataset any more; returns how many."""
    from expunge.data.hashes import keep_only

    return sum(keep_only(file, _retained(workspace, file)) for file in _caches(workspace))


def stale_caches(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yield the caches that hold what is in no dataset any more: path relative to the workspace, and why."""
    from expunge.data.hashes import read

    for file in _caches(workspace):
        digests = _retained(workspace, file)
        stale = sum(row.ljust(32, b"\0") not in digests for row in read(file)["digest"])
        if stale:
            yield (
                f"{CACHES}/{file.name}",
                f"a cache of perceptual hashes; {stale} are of pictures that are retained no more",
            )


def _caches(workspace: Workspace) -> list[Path]:
    folder = workspace.root / CACHES
    return sorted(f for f in folder.glob(f"*{SUFFIX}") if f.is_file() and not f.is_symlink())


def _retained(workspace: Workspace, file: Path) -> set[bytes]:
    """The digests (raw) of the pictures of a cache's dataset that nobody has erased."""
    name = file.name.removesuffix(SUFFIX)
    query = (
        select(SampleRow.image_digest)
        .join(DatasetRow, DatasetRow.id == SampleRow.dataset_id)
        .where(DatasetRow.name == name, not_erased())
    )
    with workspace.session() as session:
        return {bytes.fromhex(digest) for digest in session.scalars(query)}

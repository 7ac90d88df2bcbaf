# SPDX-License-Identifier: Apache-2.0
"""Finds near-duplicates in the datasets of a workspace and records decisions about them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import decisions
from expunge.catalog.dataset_store import find_subject, get_version, load_samples, parse_ref
from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.catalog.versions import not_erased
from expunge.errors import InputError
from expunge.storage.user_files import read_text

if TYPE_CHECKING:
    from expunge.workspace import Workspace

CACHES = "caches"
SUFFIX = ".hashes"


def find_duplicates(
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
    """Return pairs of near-duplicate images that do not concern the same subjects.

    Args:
        workspace: The workspace of the dataset.
        ref: Dataset version, ``NAME`` or ``NAME@V``.
        subject: Return only near-duplicates of this subject's images; None: of all images.
        distance, threshold, limit: See :func:`expunge.data.duplicates.find_duplicates`.
        sheet: New HTML file for a page with the images; None: no page.
        threads: Number of images decoded in parallel.
        progress: Called with the number of hashed images and the total number.

    Returns:
        The report, in the form of ``data duplicates --json``.

    Raises:
        InputError: If the subject is not in the dataset, or a setting is out of range.
    """
    from expunge.data import duplicates
    from expunge.data.hamming import MAX_DISTANCE
    from expunge.data.hashes import hash_samples

    distance = duplicates.DISTANCE if distance is None else distance
    if subject is None and distance > MAX_DISTANCE:
        raise InputError(
            f"A distance of {distance} is too large.",
            f"In a whole dataset, pairs can be found up to a distance of {MAX_DISTANCE}.",
            f"Give at most {MAX_DISTANCE}, or name a subject with --of.",
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
    found = duplicates.find_duplicates(
        version.root,
        samples,
        hashing,
        subject=subject,
        distance=distance,
        threshold=duplicates.SIMILARITY if threshold is None else threshold,
        limit=duplicates.LIMIT if limit is None else limit,
    )
    pairs = [duplicates.as_json(pair, samples) for pair in found.pairs]
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
        "similarity": duplicates.SIMILARITY if threshold is None else threshold,
        "candidates": found.candidates,
        "pairs": pairs,
        "truncated": found.truncated,
        "sheet": str(sheet) if sheet is not None else None,
    }


def decide(workspace: Workspace, ref: str, table: Path) -> dict[str, Any]:
    """Record the decisions of a CSV file and return their numbers.

    Two samples with the decision ``same`` are erased together by later requests.

    Args:
        workspace: The workspace of the dataset.
        ref: Dataset version, ``NAME`` or ``NAME@V``.
        table: CSV file with the header ``a,b,decision``; decisions are ``same`` or ``different``.

    Raises:
        InputError: If a row is invalid; then no decision is recorded.
    """
    rows = list(_rows(table))
    with workspace.session(write=True) as session:
        version = get_version(session, *parse_ref(ref))
        try:
            count = decisions.record_decisions(session, version, rows)
        except KeyError as error:
            raise InputError(
                f"{table} names {error.args[0]!r}.",
                f"No sample of {version.label} has that path.",
                "Give paths as `expunge data duplicates --json` does.",
            ) from error
    same = sum(1 for _, _, decision in rows if decision == decisions.SAME)
    return {"dataset": version.label, "decided": count, "same": same, "different": count - same}


def _rows(table: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (a, b, decision) of each row of a CSV file; raises InputError for an invalid file or row."""
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
                f"{table}, line {reader.line_num}: the row is invalid.",
                f"It needs two paths and one of: {', '.join(decisions.DECISIONS)}.",
                "Correct it; no decision was recorded.",
            )
        yield a, b, decision


def cache_file(workspace: Workspace, dataset: str) -> Path:
    """Return the file with the perceptual hashes of a dataset."""
    return workspace.folder(CACHES) / f"{dataset}{SUFFIX}"


def forget_hashes(workspace: Workspace) -> int:
    """Delete the hashes of erased and removed images from all caches; return their number."""
    from expunge.data.hashes import keep_only

    return sum(keep_only(file, _retained(workspace, file)) for file in _caches(workspace))


def stale_caches(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yield the caches with hashes of erased images, as (path relative to the workspace, reason)."""
    from expunge.data.hashes import read

    for file in _caches(workspace):
        digests = _retained(workspace, file)
        stale = sum(row.ljust(32, b"\0") not in digests for row in read(file)["digest"])
        if stale:
            yield (
                f"{CACHES}/{file.name}",
                f"a cache of perceptual hashes; {stale} are of pictures that are no longer retained",
            )


def _caches(workspace: Workspace) -> list[Path]:
    """Return the cache files of all datasets."""
    folder = workspace.root / CACHES
    return sorted(f for f in folder.glob(f"*{SUFFIX}") if f.is_file() and not f.is_symlink())


def _retained(workspace: Workspace, file: Path) -> set[bytes]:
    """Return the SHA-256 digests (32 bytes) of the images of a cache's dataset that are not erased."""
    name = file.name.removesuffix(SUFFIX)
    query = (
        select(SampleRow.image_digest)
        .join(DatasetRow, DatasetRow.id == SampleRow.dataset_id)
        .where(DatasetRow.name == name, not_erased())
    )
    with workspace.session() as session:
        return {bytes.fromhex(digest) for digest in session.scalars(query)}

# SPDX-License-Identifier: Apache-2.0
"""Find, ask, delete, record: the purge of a workspace and of folders that the user named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import derivatives
from expunge.catalog import models as catalog
from expunge.catalog.decisions import forget_decisions
from expunge.catalog.locks import model_lock
from expunge.catalog.names import NAME
from expunge.errors import BusyError, InputError
from expunge.purge.delete import CAVEATS, Outcome, delete
from expunge.purge.external import checklist
from expunge.purge.find import survey
from expunge.purge.folders import sha256
from expunge.purge.kinds import Leftover, Survey
from expunge.steps.copies import bring_up_to_date

if TYPE_CHECKING:
    from expunge.workspace import Workspace

PLACES = ("models", "checkpoints", "exports")  # each has a folder for every model


@dataclass(frozen=True)
class Ask:
    """What to purge, and how.

    Attributes:
        include: Folders of the user's to search, too.
        expected: The ``plan`` of a dry run: delete that and nothing else.
        confirm: Asked before anything is deleted.
    """

    include: Sequence[Path] = ()
    expected: str | None = None
    confirm: Callable[[dict[str, Any]], bool] | None = None


def dry_run(workspace: Workspace, ask: Ask) -> dict[str, Any]:
    """Say what would be deleted, and why; nothing is changed."""
    with _held(workspace) as busy:
        return _described(workspace, survey(workspace, ask.include, busy), dry_run=True)


def purge(workspace: Workspace, ask: Ask) -> dict[str, Any]:
    """Delete what is left over, exactly as it was said.

    Models that a running command holds are left out. What was found is compared with ``expected``, and with
    what was shown for confirmation; each file is compared once more before it goes. At the first that has
    changed in between, the purge stops. Certificates are brought up to date with what went.

    Raises:
        InputError: If what is left over is not what was expected or confirmed; nothing was deleted.
    """
    expected = ask.expected
    if ask.confirm is not None:
        shown = dry_run(workspace, ask)
        if expected in (None, shown["plan"]) and shown["leftovers"]:
            if not ask.confirm(shown):
                raise InputError("Nothing was deleted.", "The question was not answered with yes.", "")
            expected = shown["plan"]
    with _held(workspace) as busy:
        found = survey(workspace, ask.include, busy)
        if expected is not None and found.digest != expected:
            raise InputError(
                "What is left over is not what the dry run said.",
                "Files were added, changed or removed since, or a model is being worked on.",
                "Run `expunge purge --dry-run` again; nothing was deleted.",
            )
        _remember(workspace, found)
        outcomes = delete([leftover.entry for leftover in found.leftovers])
        _record(workspace, found, outcomes)
    bring_up_to_date(workspace)
    return {**_described(workspace, found, dry_run=False), **_became(found, outcomes)}


@contextmanager
def _held(workspace: Workspace) -> Iterator[list[str]]:
    """Hold the lock of every model that is free; yields those that are not."""
    with workspace.session() as session:
        names = {p.name for p in catalog.history(session)} | {b.name for b in catalog.unpublished(session)}
    for place in PLACES:
        folder = workspace.root / place
        if folder.is_dir():
            names |= {f.name for f in folder.iterdir() if f.is_dir() and NAME.fullmatch(f.name)}
    busy: list[str] = []
    with ExitStack() as stack:
        for name in sorted(names):
            try:
                stack.enter_context(model_lock(workspace.locks, name, "purge"))
            except BusyError:
                busy.append(name)
        yield busy


def _described(workspace: Workspace, found: Survey, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "plan": found.digest,
        "bytes": found.size_bytes,
        "leftovers": [leftover.as_json() for leftover in found.leftovers],
        "left": [{"path": left.path, "why": left.why} for left in found.left],
        "busy": list(found.busy),
        "not_searched": list(found.not_searched),
        "external": checklist(workspace),
        "caveats": list(CAVEATS),
    }


def _became(found: Survey, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    failed = [o for o in outcomes if not o.deleted]
    by_entry = {o.entry: o for o in outcomes}
    leftovers = []
    for leftover in found.leftovers:
        o = by_entry.get(leftover.entry)
        state = {"deleted": bool(o and o.deleted), "overwritten": bool(o and o.overwritten)}
        leftovers.append({**leftover.as_json(), **state, "why": o.why if o else "not reached"})
    return {
        "leftovers": leftovers,
        "deleted": sum(o.deleted for o in outcomes),
        "deleted_bytes": sum(o.entry.size_bytes for o in outcomes if o.deleted),
        "failed": len(failed) + len(found.leftovers) - len(outcomes),
        "stopped": len(outcomes) < len(found.leftovers),
    }


def _remember(workspace: Workspace, found: Survey) -> None:
    """Keep digests of weights before they go, so that `expunge status` knows copies of them for ever."""
    for leftover in found.leftovers:
        if leftover.kind != "weights" or leftover.source is None:
            continue
        digests = [f"sha256:{sha256(leftover.entry)}"]
        if leftover.entry.names[-2].endswith(b"-ensemble"):
            digests += _tensors(Path(leftover.path))
        with workspace.session(write=True) as session:
            for digest in digests:
                derivatives.remember_file(session, leftover.source[1], digest)


def _tensors(path: Path) -> list[str]:
    """The digest of a file of an ensemble, which the catalog knows only as a whole."""
    from expunge.exact.hashing import tensor_digest
    from expunge.tasks.weights import state_of

    try:
        return [f"tensors:{tensor_digest(state_of(path)).removeprefix('sha256:')}"]
    except InputError:
        return []  # damaged: its bytes are all that is known


def _record(workspace: Workspace, found: Survey, outcomes: Sequence[Outcome]) -> None:
    gone = {o.entry for o in outcomes if o.deleted}
    deleted = [leftover for leftover in found.leftovers if leftover.entry in gone]
    kept = {x.source for x in found.leftovers if x.entry not in gone}
    with workspace.session(write=True) as session:
        for kind, key in {x.source for x in deleted if x.source} - kept:
            if kind == "export":
                derivatives.mark_export_removed(session, key)
            elif kind == "data":
                derivatives.drop_data_export(session, key)
        forget_decisions(session)
        if deleted:
            summary = _summary(deleted, outcomes) | {"external": checklist(workspace)}
            derivatives.record_purge(session, found.digest, summary, workspace.clock())


def _summary(deleted: Sequence[Leftover], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts alone: paths may name people."""
    files = [x for x in deleted if x.kind != "folder"]
    requests: dict[str, list[Leftover]] = defaultdict(list)
    for leftover in files:
        for request in leftover.requests:
            requests[request].append(leftover)
    return {
        "kinds": _by_kind(files),
        "requests": {request: _by_kind(those) for request, those in sorted(requests.items())},
        "overwritten": sum(o.overwritten for o in outcomes),
        "other_names": sum(o.deleted and o.entry.links > 1 for o in outcomes),
    }


def _by_kind(files: Sequence[Leftover]) -> dict[str, dict[str, int]]:
    counts, sizes = Counter[str](), Counter[str]()
    for leftover in files:
        counts[leftover.kind] += 1
        sizes[leftover.kind] += leftover.entry.size_bytes
    return {kind: {"files": counts[kind], "bytes": sizes[kind]} for kind in sorted(counts)}

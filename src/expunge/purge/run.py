# SPDX-License-Identifier: Apache-2.0
"""Executes a purge of a workspace and of folders named by the user: survey, confirm, delete, record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import derivatives, model_store
from expunge.catalog.decisions import forget_decisions
from expunge.catalog.names import NAME
from expunge.errors import BusyError, InputError
from expunge.purge.copies import amend_certificates
from expunge.purge.delete import CAVEATS, Outcome, delete
from expunge.purge.external import checklist
from expunge.purge.find import survey
from expunge.purge.folders import file_sha256
from expunge.purge.kinds import Leftover, Survey
from expunge.storage.locks import model_lock

if TYPE_CHECKING:
    from expunge.workspace import Workspace

PLACES = ("models", "checkpoints", "exports")  # folders of the workspace with a subfolder for each model


@dataclass(frozen=True)
class PurgeOptions:
    """Options of a purge.

    Attributes:
        include: Folders outside the workspace to search.
        expected: The ``plan`` of a dry run: the purge is refused if the leftovers are not the same.
        confirm: Called with the dry run; the purge is executed only if it returns True. None: no question.
    """

    include: Sequence[Path] = ()
    expected: str | None = None
    confirm: Callable[[dict[str, Any]], bool] | None = None


def dry_run(workspace: Workspace, options: PurgeOptions) -> dict[str, Any]:
    """Return the leftovers that a purge would delete, in the form of ``purge --dry-run --json``."""
    with _locked_models(workspace) as busy:
        return _report(workspace, survey(workspace, options.include, busy), dry_run=True)


def purge(workspace: Workspace, options: PurgeOptions) -> dict[str, Any]:
    """Delete all leftovers and amend the certificates; return the report, as in ``purge --json``.

    Models locked by a running command are skipped. The leftovers must be those of the dry run (``expected``)
    and of the confirmation. Each file is checked again before its deletion; the purge stops at the first that
    has changed.

    Raises:
        InputError: If the leftovers are not those that were expected or confirmed; nothing was deleted.
    """
    expected = options.expected
    if options.confirm is not None:
        preview = dry_run(workspace, options)
        if expected in (None, preview["plan"]) and preview["leftovers"]:
            if not options.confirm(preview):
                raise InputError("Nothing was deleted.", "The question was not answered with yes.", "")
            expected = preview["plan"]
    with _locked_models(workspace) as busy:
        found = survey(workspace, options.include, busy)
        if expected is not None and found.digest != expected:
            raise InputError(
                "The leftovers are not those of the dry run.",
                "Files were added, changed or removed since, or a command is working on a model.",
                "Run `expunge purge --dry-run` again; nothing was deleted.",
            )
        _remember_weights(workspace, found)
        outcomes = delete([leftover.entry for leftover in found.leftovers])
        _record(workspace, found, outcomes)
    amend_certificates(workspace)
    return {**_report(workspace, found, dry_run=False), **_deletion_report(found, outcomes)}


@contextmanager
def _locked_models(workspace: Workspace) -> Iterator[list[str]]:
    """Hold the locks of all free models; yield the names of the busy ones."""
    with workspace.session() as session:
        names = {p.name for p in model_store.model_versions(session)} | {
            b.name for b in model_store.unpublished_trainings(session)
        }
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


def _report(workspace: Workspace, found: Survey, *, dry_run: bool) -> dict[str, Any]:
    """Return a survey in the form of ``purge --json``."""
    return {
        "dry_run": dry_run,
        "plan": found.digest,
        "bytes": found.size_bytes,
        "leftovers": [leftover.as_json() for leftover in found.leftovers],
        "left": [{"path": skipped.path, "why": skipped.why} for skipped in found.left],
        "busy": list(found.busy),
        "not_searched": list(found.not_searched),
        "external": checklist(workspace),
        "caveats": list(CAVEATS),
    }


def _deletion_report(found: Survey, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the outcome of the deletion, as in ``purge --json``."""
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


def _remember_weights(workspace: Workspace, found: Survey) -> None:
    """Record digests of weights before their deletion, so that later copies of them are recognised."""
    for leftover in found.leftovers:
        if leftover.kind != "weights" or leftover.source is None:
            continue
        digests = [f"sha256:{file_sha256(leftover.entry)}"]
        if leftover.entry.names[-2].endswith(b"-ensemble"):
            digests += _tensor_digests(Path(leftover.path))
        with workspace.session(write=True) as session:
            for digest in digests:
                derivatives.remember_file(session, leftover.source[1], digest)


def _tensor_digests(path: Path) -> list[str]:
    """Return the tensor digest of one file of an ensemble, of which the catalog has only a joint digest."""
    from expunge.storage.hashing import tensor_digest
    from expunge.tasks.weights import state_of

    try:
        return [f"tensors:{tensor_digest(state_of(path)).removeprefix('sha256:')}"]
    except InputError:
        return []  # damaged: only the digest of its bytes is recorded


def _record(workspace: Workspace, found: Survey, outcomes: Sequence[Outcome]) -> None:
    """Record the purge in the catalog, and the exports that are completely deleted."""
    deleted_entries = {o.entry for o in outcomes if o.deleted}
    deleted = [leftover for leftover in found.leftovers if leftover.entry in deleted_entries]
    incomplete = {x.source for x in found.leftovers if x.entry not in deleted_entries}
    with workspace.session(write=True) as session:
        for kind, key in {x.source for x in deleted if x.source} - incomplete:
            if kind == "export":
                derivatives.mark_export_removed(session, key)
            elif kind == "data":
                derivatives.drop_data_export(session, key)
        forget_decisions(session)
        if deleted:
            summary = _summary(deleted, outcomes) | {"external": checklist(workspace)}
            derivatives.record_purge(session, found.digest, summary, workspace.clock())


def _summary(deleted: Sequence[Leftover], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the counts of a purge, without paths, which may contain names of people."""
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
    """Return number and size in bytes of the leftovers by kind."""
    counts, sizes = Counter[str](), Counter[str]()
    for leftover in files:
        counts[leftover.kind] += 1
        sizes[leftover.kind] += leftover.entry.size_bytes
    return {kind: {"files": counts[kind], "bytes": sizes[kind]} for kind in sorted(counts)}

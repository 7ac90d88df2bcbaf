# SPDX-License-Identifier: Apache-2.0
"""Verify a certificate, a request or a model by a list of checks; the strongest one is a replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, derivatives, model_store
from expunge.catalog.model_store import WITHDRAW, ModelVersion
from expunge.catalog.tables import DatasetRow
from expunge.errors import InputError
from expunge.evidence import anchor, certificates, log, manifest, statement
from expunge.evidence.check import Check
from expunge.evidence.key_store import PublicKey, read_public
from expunge.evidence.offline import Read, check_certificate, check_log, read_file
from expunge.evidence.tensors import digest_apart, digest_of
from expunge.evidence.trust import chained, is_signers, trusted_keys
from expunge.exact.composition import Composition
from expunge.exact.model import ErasableModel
from expunge.exact.replay import replay as run_replay
from expunge.exact.weight_files import weight_files
from expunge.progress import Progress
from expunge.storage.digest import file_digest

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class VerifyOptions:
    """The options of ``expunge verify``.

    Attributes:
        public_key: PEM file of the key to trust; None: the keys that the workspace records.
        log: A copy of the log; None: the workspace's log.
        tree_head: An earlier tree head of the log.
        replay: Train again and compare digests.
        apart: Read weights in a child process, to keep the memory of this one small.
    """

    public_key: Path | None = None
    log: Path | None = None
    tree_head: Path | None = None
    replay: bool = False
    apart: bool = False


def verify(
    workspace: Workspace | None, target: str, options: VerifyOptions, progress: Progress
) -> dict[str, Any]:
    """Verify a certificate file, a request id, or ``MODEL[@V]``.

    Args:
        workspace: For checks against the catalog; not needed to verify a certificate file.
        target: What to verify.
        options: Key, log, tree head, and whether to replay.
        progress: Receives the progress of a replay.

    Returns:
        ``valid`` (no check failed, and at least one passed) and ``checks``.

    Raises:
        InputError: If the target is none of these, or there is no key to verify with.
    """
    path = Path(target)
    is_request = log.REQUEST.fullmatch(target) is not None and not path.is_file()
    if workspace is None and (is_request or not path.is_file()):
        raise InputError(
            f"{target} is no file, and there is no workspace that could know it.",
            "Without a workspace only the file of a certificate can be verified.",
            "Name a certificate, or the workspace with --workspace.",
        )
    home = _home(workspace, options)
    content, head = _log_of(home, options)
    if workspace is not None and is_request:
        with workspace.session() as session:
            model_store.get_request(session, target)
        path = certificates.path_of(workspace, target)
        if not path.is_file():
            raise InputError(
                f"The request {target} has no certificate.", "", "One is made when it is executed."
            )
    earlier = read_file(options.tree_head, "The tree head") if options.tree_head else None
    checks: list[Check] = []
    if path.is_file():
        named = path.stem if log.REQUEST.fullmatch(path.stem) else None
        trusted = _trusted(home, options, content)
        read = check_certificate(path, trusted, named)
        checks = [*read.checks, *check_log(content, head, earlier, trusted, read)]
        checks += _check_statement(home, read, options, progress)
    else:
        assert workspace is not None
        with workspace.session() as session:
            published = model_store.find_model(session, target)
        checks = _check_model(workspace, published, published.digest, options, progress)
        if options.log is not None or earlier is not None:
            checks += check_log(content, head, earlier, _trusted(home, options, content), None)
    checks = [*_check_anchor(home), *checks]
    valid = all(c.ok is not False for c in checks) and any(c.ok for c in checks)
    return {"target": target, "valid": valid, "checks": [c.as_json() for c in checks]}


def _check_anchor(workspace: Workspace | None) -> list[Check]:
    """Return a failed check if the workspace was restored from a backup and is older than its anchor."""
    if workspace is None:
        return []
    try:
        anchor.check(workspace)
    except InputError as error:
        return [Check("workspace", False, f"{error.what} {error.why}".strip())]
    return []


def _log_of(workspace: Workspace | None, options: VerifyOptions) -> tuple[bytes | None, bytes | None]:
    """Return the bytes of the log and of its tree head; None for a missing file."""
    content, folder = None, workspace.root / "log" if workspace is not None else None
    if options.log is not None:
        content, folder = read_file(options.log, "The log"), options.log.parent
    elif folder is not None and (folder / log.ENTRIES).is_file():
        content = (folder / log.ENTRIES).read_bytes()
    beside = folder / log.HEAD if folder is not None else None
    return content, beside.read_bytes() if beside is not None and beside.is_file() else None


def _trusted(
    workspace: Workspace | None, options: VerifyOptions, content: bytes | None
) -> dict[str, PublicKey]:
    """Return the trusted keys by id; a key that comes with a certificate or workspace is never trusted."""
    if options.public_key is not None:
        given = read_public(options.public_key)
        return chained({given.key_id: given}, content or b"")
    if workspace is None:
        raise InputError(
            "There is no key to verify with.",
            "A key that comes with a certificate proves nothing.",
            "Give the signer's public key, from a source that you trust: --public-key PEM",
        )
    return trusted_keys(workspace)


def _home(workspace: Workspace | None, options: VerifyOptions) -> Workspace | None:
    """Return the workspace if it is the signer's; another workspace knows nothing of the certificate."""
    if workspace is None or options.public_key is None:
        return workspace
    return workspace if is_signers(workspace, read_public(options.public_key)) else None


def _check_statement(
    workspace: Workspace | None, read: Read, options: VerifyOptions, progress: Progress
) -> list[Check]:
    """Compare a decoded certificate with the workspace's catalog, files and checkpoints."""
    if read.statement is None:
        return []
    predicate = read.statement.predicate
    labels = [e.model for e in predicate.models]
    if workspace is None:
        why = "only in the workspace that the certificate comes from"
        return [Check(name, None, why) for name in ("request", "roots", *labels)]
    checks = [_check_request(workspace, predicate), _check_roots(workspace, predicate)]
    for entry in predicate.models:
        if entry.method == WITHDRAW:
            checks.append(_check_withdrawn(workspace, entry.model))
        for part in (entry.interim, entry):
            if part is None or not part.digest:
                continue
            try:
                with workspace.session() as session:
                    published = model_store.find_model(session, part.model)
            except InputError as error:
                checks.append(Check(f"{part.model}: known", False, error.what))
                continue
            checks.append(_check_entry(workspace, published, entry, part))
            checks.append(_check_files(workspace, part))
            checks += _check_model(workspace, published, part.digest, options, progress)
    return checks


def _check_withdrawn(workspace: Workspace, label: str) -> Check:
    """Check that a model which the certificate calls withdrawn is withdrawn in the catalog."""
    try:
        with workspace.session() as session:
            published = model_store.find_model(session, label)
    except InputError as error:
        return Check(f"{label}: withdrawn", False, error.what)
    withdrawn = published.withdrawn is not None and published.state == "superseded"
    detail = f"the catalog {'agrees' if withdrawn else 'does not know of that'}"
    return Check(f"{label}: withdrawn", withdrawn, detail)


def _check_request(workspace: Workspace, predicate: statement.Predicate) -> Check:
    """Check that the catalog's request has the dates, counts and models that the certificate states."""
    try:
        with workspace.session() as session:
            row = model_store.get_request(session, predicate.request)
            name = session.get_one(DatasetRow, row.dataset_id).name
            selection, after, received = row.selection, row.version_after, certificates.date(row.received)
    except InputError as error:
        return Check("request", False, error.what)
    before_leaves, removed_leaves = predicate.manifest.before.leaves, predicate.manifest.removed.leaves
    counts = certificates.removed_counts(selection, before_leaves, removed_leaves)
    same = (
        received == predicate.dates.received
        and predicate.dataset.after == f"{name}@{after}"
        and predicate.removed.model_dump() == counts
        and {entry.model.partition("@")[0] for entry in predicate.models} == set(selection["models"])
    )
    return Check("request", same, f"the catalog {'agrees' if same else 'differs'}")


def _check_roots(workspace: Workspace, predicate: statement.Predicate) -> Check:
    """Check that the Merkle roots follow from the catalog's leaves, and that after = before minus removed."""
    try:
        with workspace.session() as session:
            row = model_store.get_request(session, predicate.request)
            labels = predicate.dataset.model_dump().values()
            before, after = (int(label.rpartition("@")[2]) for label in labels)
            leaves = {n: manifest.leaves(session, row.dataset_id, n) for n in (before, after)}
            removed = manifest.removed_leaves(session, row.dataset_id, predicate.request, before)
    except (InputError, ValueError):
        return Check("roots", False, "the catalog does not have the versions' leaves")
    stated = predicate.manifest
    pairs = ((stated.before, leaves[before]), (stated.after, leaves[after]), (stated.removed, removed))
    for name, (tree, found) in zip(("before", "after", "removed"), pairs, strict=True):
        if manifest.tree_of(found).as_json() != tree.model_dump():
            return Check("roots", False, f"the leaves '{name}' give another root than the certificate states")
    if set(leaves[before]) - set(removed) != set(leaves[after]):
        return Check("roots", False, "the leaves after are not those before minus those removed")
    return Check("roots", True, f"after = before minus {len(removed)} leaves; both roots compute")


def _check_entry(
    workspace: Workspace,
    published: ModelVersion,
    entry: statement.Model,
    part: statement.Model | statement.Interim,
) -> Check:
    """Check a certificate's entry for a model against the catalog: plan, guarantee, composition, parent."""
    with workspace.session() as session:
        history = {p.label: p.digest for p in model_store.model_versions(session, published.name)}
    same = (
        (part is not entry or entry.guarantee == published.guarantee)
        and entry.plan == published.plan_digest
        and part.composition == published.composition
        and entry.parent_digest == history.get(entry.parent or "")
    )
    detail = f"plan, guarantee, composition and parent are {'those' if same else 'not those'} of the catalog"
    return Check(f"{published.label}: statement", same, detail)


def _check_files(workspace: Workspace, part: statement.Model | statement.Interim) -> Check:
    """Check that a model's files have the SHA-256 digests that the certificate states."""
    found, name = certificates.files_of(workspace, part.model), f"{part.model}: files"
    if not found:
        return Check(name, None, "the file is gone (purged?)")
    if not part.weights:
        return Check(name, None, "it was gone already when the certificate was made")
    same = found == part.weights
    return Check(name, same, f"the SHA-256 of {len(found)} files is {'as' if same else 'not as'} stated")


def _check_model(
    workspace: Workspace, published: ModelVersion, digest: str, options: VerifyOptions, progress: Progress
) -> list[Check]:
    """Check a published model's digest, files, lineage and retained data, and replay it on request."""
    name = published.label
    same = published.digest == digest
    checks = [
        Check(f"{name}: catalog", same, f"the catalog states {'the same' if same else 'another'} digest")
    ]
    path = workspace.root / published.weights
    checks.append(_check_weights(name, path, digest, options.apart))
    checks += [*_check_bytes(workspace, published, path), *_check_lineage(workspace, published)]
    if published.plan_digest is None:
        return [*checks, Check(f"{name}: exact", None, "adopted: nothing is known of its training")]
    try:
        model = ErasableModel.open(workspace, published, progress)
    except InputError as error:
        return [*checks, Check(f"{name}: plan", False, error.why)]
    clean = published.retained_digest == model.retained
    if published.state == "superseded" and not clean:
        checks.append(
            Check(f"{name}: retained data", None, "superseded: its data includes what was erased since")
        )
    else:
        detail = (
            "its training samples are exactly those that are retained" if clean else "it saw what is erased"
        )
        checks.append(Check(f"{name}: retained data", clean, detail))
        checks.append(_check_checkpoints(workspace, name, model))
    if options.replay:
        checks.append(_check_replay(workspace, model, published, digest, clean))
    return checks


def _check_bytes(workspace: Workspace, published: ModelVersion, path: Path) -> list[Check]:
    """Check that the files are those that were published, byte by byte: a loader reads more than tensors."""
    with workspace.session() as session:
        known = derivatives.files_of(session, [published.id])
    files = weight_files(path)
    if not known or not files:
        return []  # the digests were not recorded by an earlier release, or the files are gone
    changed = sum(file_digest(file) not in known for file in files)
    word = "other bytes than were published" if changed else "the bytes that were published"
    return [Check(f"{published.label}: bytes", not changed, f"{changed or len(files)} file(s) have {word}")]


def _check_lineage(workspace: Workspace, published: ModelVersion) -> list[Check]:
    """Check that the version holds no erased data through its start, or as a copy of another version."""
    with workspace.session() as session:
        known = ancestry.load_ancestry(session)
        found = known.held(ancestry.trained_on(session, known.versions)).get(published.id, {})
    sources = known.named(known.starts[published.id])
    links = [link for link in found.values() if link.kind != "data"]
    if links:
        source, word = known.versions[links[0].source].label, "is the same as"
        word = "was trained from" if links[0].kind == "start" else word
        detail = f"it {word} {source}, which holds what is erased"
        return [Check(f"{published.label}: start", False, detail)]
    if not sources:
        return []
    detail = f"it was trained from {sources[0].label}, which holds nothing that is erased"
    return [Check(f"{published.label}: start", True, detail)]


def _check_checkpoints(workspace: Workspace, name: str, model: ErasableModel) -> Check:
    with workspace.session() as session:
        newest = model_store.find_model(session, model.name)
    if newest.plan_digest != model.plan.digest:
        return Check(f"{name}: checkpoints", None, f"there are only those of {newest.label}, of another plan")
    wanted = {node.key for node in model.graph.nodes}
    stale = [key for key in model.store.stored() if key not in wanted]
    detail = f"{len(stale)} checkpoints saw what is erased" if stale else "no checkpoint saw what is erased"
    return Check(f"{name}: checkpoints", not stale, detail)


def _check_weights(name: str, path: Path, digest: str, apart: bool) -> Check:
    if not path.exists():
        return Check(f"{name}: weights", None, "the file is gone (purged?)")
    try:
        found = digest_apart(path) if apart else digest_of(path)
    except InputError as error:
        return Check(f"{name}: weights", False, error.why)
    return Check(f"{name}: weights", found == digest, f"the file's tensors have digest {found[7:19]}…")


def _check_replay(
    workspace: Workspace, model: ErasableModel, published: ModelVersion, digest: str, clean: bool
) -> Check:
    name = f"{published.label}: replay"
    if not clean:
        return Check(name, None, "superseded: it could only be repeated with data that is erased now")
    composition = Composition.from_json(
        published.composition or {"stages": {}, "polish": False, "public": False}
    )
    result = run_replay(workspace, model, composition)
    if result.error:
        return Check(name, None, f"it could not run: {result.error}")
    word = "equal" if result.digest == digest else "different"
    return Check(name, result.digest == digest, f"a fresh process gave {result.digest[7:19]}…: {word}")

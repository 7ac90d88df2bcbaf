# SPDX-License-Identifier: Apache-2.0
"""Verifies a certificate, a request or a model: each check with its own answer; replay is the strongest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, derivatives
from expunge.catalog import models as catalog
from expunge.catalog.models import WITHDRAW, Published
from expunge.catalog.tables import DatasetRow
from expunge.data.digest import file_digest
from expunge.errors import InputError
from expunge.evidence import anchor, certificate, log, manifest, statement
from expunge.evidence.check import Check
from expunge.evidence.keys import PublicKey, read_public
from expunge.evidence.offline import Read, check_certificate, check_log, read_file
from expunge.evidence.tensors import digest_apart, digest_of
from expunge.evidence.trust import chained, is_signers, trusted_keys
from expunge.exact.composition import Composition
from expunge.exact.model import ErasableModel
from expunge.exact.replay import replay as run_replay
from expunge.exact.weight_files import weight_files
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Means:
    """What a verifier brings along (the options of ``expunge verify``).

    Attributes:
        public_key: PEM file of the key to trust; None: the keys that the workspace records.
        log: A copy of the log; None: the workspace's.
        tree_head: A tree head that was kept from before.
        replay: Train again.
        apart: Read weights in a process of their own, so that this one does not grow by what it takes.
    """

    public_key: Path | None = None
    log: Path | None = None
    tree_head: Path | None = None
    replay: bool = False
    apart: bool = False


def verify(workspace: Workspace | None, target: str, means: Means, progress: Progress) -> dict[str, Any]:
    """Verify a certificate file, a request id, or ``MODEL[@V]``.

    Args:
        workspace: For the checks that compare with what is known here; a certificate can do without.
        target: What to verify.
        means: What to verify it with.
        progress: Where a replay reports.

    Returns:
        ``valid`` (no check failed, and at least one held) and ``checks``.

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
    home = _home(workspace, means)
    content, head = _log_of(home, means)
    if workspace is not None and is_request:
        with workspace.session() as session:
            catalog.get_request(session, target)
        path = certificate.path_of(workspace, target)
        if not path.is_file():
            raise InputError(
                f"The request {target} has no certificate.", "", "One is made when it is executed."
            )
    earlier = read_file(means.tree_head, "The tree head") if means.tree_head else None
    checks: list[Check] = []
    if path.is_file():
        named = path.stem if log.REQUEST.fullmatch(path.stem) else None
        trusted = _trusted(home, means, content)
        read = check_certificate(path, trusted, named)
        checks = [*read.checks, *check_log(content, head, earlier, trusted, read)]
        checks += _of_certificate(home, read, means, progress)
    else:
        assert workspace is not None
        with workspace.session() as session:
            published = catalog.find_model(session, target)
        checks = _of_model(workspace, published, published.digest, means, progress)
        if means.log is not None or earlier is not None:
            checks += check_log(content, head, earlier, _trusted(home, means, content), None)
    checks = [*_restored(home), *checks]
    valid = all(c.ok is not False for c in checks) and any(c.ok for c in checks)
    return {"target": target, "valid": valid, "checks": [c.as_json() for c in checks]}


def _restored(workspace: Workspace | None) -> list[Check]:
    """A failed check where the workspace is older than what is known of it: it cannot vouch for anything."""
    if workspace is None:
        return []
    try:
        anchor.check(workspace)
    except InputError as error:
        return [Check("workspace", False, f"{error.what} {error.why}".strip())]
    return []


def _log_of(workspace: Workspace | None, means: Means) -> tuple[bytes | None, bytes | None]:
    """The log and its tree head."""
    content, folder = None, workspace.root / "log" if workspace is not None else None
    if means.log is not None:
        content, folder = read_file(means.log, "The log"), means.log.parent
    elif folder is not None and (folder / log.ENTRIES).is_file():
        content = (folder / log.ENTRIES).read_bytes()
    beside = folder / log.HEAD if folder is not None else None
    return content, beside.read_bytes() if beside is not None and beside.is_file() else None


def _trusted(workspace: Workspace | None, means: Means, content: bytes | None) -> dict[str, PublicKey]:
    """The trusted keys by id: never one that a certificate or a workspace brings along."""
    if means.public_key is not None:
        given = read_public(means.public_key)
        return chained({given.key_id: given}, content or b"")
    if workspace is None:
        raise InputError(
            "There is no key to verify with.",
            "A key that comes with a certificate proves nothing.",
            "Give the signer's public key, from a source that you trust: --public-key PEM",
        )
    return trusted_keys(workspace)


def _home(workspace: Workspace | None, means: Means) -> Workspace | None:
    """The workspace, if it is that of the signer: another one knows nothing of the certificate."""
    if workspace is None or means.public_key is None:
        return workspace
    return workspace if is_signers(workspace, read_public(means.public_key)) else None


def _of_certificate(workspace: Workspace | None, read: Read, means: Means, progress: Progress) -> list[Check]:
    if read.statement is None:
        return []
    said = read.statement.predicate
    labels = [e.model for e in said.models]
    if workspace is None:
        why = "only in the workspace that the certificate comes from"
        return [Check(name, None, why) for name in ("request", "roots", *labels)]
    checks = [_request(workspace, said), _roots(workspace, said)]
    for entry in said.models:
        if entry.method == WITHDRAW:
            checks.append(_withdrawn(workspace, entry.model))
        for shown in (entry.interim, entry):
            if shown is None or not shown.digest:
                continue
            try:
                with workspace.session() as session:
                    published = catalog.find_model(session, shown.model)
            except InputError as error:
                checks.append(Check(f"{shown.model}: known", False, error.what))
                continue
            checks.append(_statement(workspace, published, entry, shown))
            checks.append(_files(workspace, shown))
            checks += _of_model(workspace, published, shown.digest, means, progress)
    return checks


def _withdrawn(workspace: Workspace, label: str) -> Check:
    """Whether a model that the certificate calls withdrawn is."""
    try:
        with workspace.session() as session:
            published = catalog.find_model(session, label)
    except InputError as error:
        return Check(f"{label}: withdrawn", False, error.what)
    gone = published.withdrawn is not None and published.state == "superseded"
    return Check(f"{label}: withdrawn", gone, f"the catalog {'agrees' if gone else 'does not know of that'}")


def _request(workspace: Workspace, said: statement.Predicate) -> Check:
    """Whether the catalog knows this request as the certificate tells it."""
    try:
        with workspace.session() as session:
            row = catalog.get_request(session, said.request)
            name = session.get_one(DatasetRow, row.dataset_id).name
            asked, after, received = row.selection, row.version_after, certificate.date(row.received)
    except InputError as error:
        return Check("request", False, error.what)
    same = (
        received == said.dates.received
        and said.dataset.after == f"{name}@{after}"
        and said.removed.model_dump()
        == certificate.removed_counts(asked, said.manifest.before.leaves, said.manifest.removed.leaves)
        and {entry.model.partition("@")[0] for entry in said.models} == set(asked["models"])
    )
    return Check("request", same, f"the catalog {'agrees' if same else 'tells another story'}")


def _roots(workspace: Workspace, said: statement.Predicate) -> Check:
    """Whether the roots compute from the leaves, and after = before minus what was removed."""
    try:
        with workspace.session() as session:
            row = catalog.get_request(session, said.request)
            before, after = (int(label.rpartition("@")[2]) for label in said.dataset.model_dump().values())
            leaves = {n: manifest.leaves(session, row.dataset_id, n) for n in (before, after)}
            gone = manifest.removed_leaves(session, row.dataset_id, said.request, before)
    except (InputError, ValueError):
        return Check("roots", False, "the catalog does not have the versions' leaves")
    stated = said.manifest
    pairs = ((stated.before, leaves[before]), (stated.after, leaves[after]), (stated.removed, gone))
    for name, (tree, found) in zip(("before", "after", "removed"), pairs, strict=True):
        if manifest.tree_of(found).as_json() != tree.model_dump():
            return Check("roots", False, f"the leaves '{name}' give another root than the certificate states")
    if set(leaves[before]) - set(gone) != set(leaves[after]):
        return Check("roots", False, "the leaves after are not those before minus those removed")
    return Check("roots", True, f"after = before minus {len(gone)} leaves; both roots compute")


def _statement(
    workspace: Workspace,
    published: Published,
    entry: statement.Model,
    shown: statement.Model | statement.Interim,
) -> Check:
    """Whether the certificate says of a version what the catalog says."""
    with workspace.session() as session:
        history = {p.label: p.digest for p in catalog.history(session, published.name)}
    same = (
        (shown is not entry or entry.guarantee == published.guarantee)
        and entry.plan == published.plan_digest
        and shown.composition == published.composition
        and entry.parent_digest == history.get(entry.parent or "")
    )
    detail = f"plan, guarantee, composition and parent are {'those' if same else 'not those'} of the catalog"
    return Check(f"{published.label}: statement", same, detail)


def _files(workspace: Workspace, shown: statement.Model | statement.Interim) -> Check:
    """Whether the files have the SHA-256 that the certificate is about."""
    found, name = certificate.files_of(workspace, shown.model), f"{shown.model}: files"
    if not found:
        return Check(name, None, "the file is gone (purged?)")
    if not shown.weights:
        return Check(name, None, "it was gone already when the certificate was made")
    same = found == shown.weights
    return Check(name, same, f"the SHA-256 of {len(found)} files is {'as' if same else 'not as'} stated")


def _of_model(
    workspace: Workspace, published: Published, digest: str, means: Means, progress: Progress
) -> list[Check]:
    name = published.label
    same = published.digest == digest
    checks = [
        Check(f"{name}: catalog", same, f"the catalog states {'the same' if same else 'another'} digest")
    ]
    path = workspace.root / published.weights
    checks.append(_weights(name, path, digest, means.apart))
    checks += [*_bytes(workspace, published, path), *_lineage(workspace, published)]
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
        checks.append(_checkpoints(workspace, name, model))
    if means.replay:
        checks.append(_replay(workspace, model, published, digest, clean))
    return checks


def _bytes(workspace: Workspace, published: Published, path: Path) -> list[Check]:
    """Whether the files are those that were published, to the last byte: a loader reads more than tensors."""
    with workspace.session() as session:
        known = derivatives.files_of(session, [published.id])
    files = weight_files(path)
    if not known or not files:
        return []  # of an earlier release, or gone
    changed = sum(file_digest(file) not in known for file in files)
    word = "other bytes than were published" if changed else "the bytes that were published"
    return [Check(f"{published.label}: bytes", not changed, f"{changed or len(files)} file(s) have {word}")]


def _lineage(workspace: Workspace, published: Published) -> list[Check]:
    """Whether the version holds what was erased through its start, or as a copy of another version."""
    with workspace.session() as session:
        known = ancestry.load(session)
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


def _checkpoints(workspace: Workspace, name: str, model: ErasableModel) -> Check:
    with workspace.session() as session:
        newest = catalog.find_model(session, model.name)
    if newest.plan_digest != model.plan.digest:
        return Check(f"{name}: checkpoints", None, f"there are only those of {newest.label}, of another plan")
    wanted = {node.key for node in model.graph.nodes}
    stale = [key for key in model.store.stored() if key not in wanted]
    detail = f"{len(stale)} checkpoints saw what is erased" if stale else "no checkpoint saw what is erased"
    return Check(f"{name}: checkpoints", not stale, detail)


def _weights(name: str, path: Path, digest: str, apart: bool) -> Check:
    if not path.exists():
        return Check(f"{name}: weights", None, "the file is gone (purged?)")
    try:
        found = digest_apart(path) if apart else digest_of(path)
    except InputError as error:
        return Check(f"{name}: weights", False, error.why)
    return Check(f"{name}: weights", found == digest, f"the file's tensors have digest {found[7:19]}…")


def _replay(
    workspace: Workspace, model: ErasableModel, published: Published, digest: str, clean: bool
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

# SPDX-License-Identifier: Apache-2.0
"""The commands ``init`` and ``data``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.data_tables import lineage_table, pairs_table, version_table
from expunge.cli.output import Context, common_options
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.data.checks import ImageChecks
    from expunge.data.types import Scan, Version


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option("--catalog", metavar="URL", help="A PostgreSQL database for the catalog of a new workspace.")
@click.option(
    "--key", metavar="PEM", type=click.Path(path_type=Path), help="Sign with this Ed25519 key. [generated]"
)
@common_options
def init(context: Context, folder: str, catalog: str | None, key: Path | None) -> None:
    """Make a workspace in a folder (the current one by default), and a key that signs its certificates."""
    from expunge.evidence import key_store
    from expunge.workspace import Workspace

    if key is not None:
        key_store.read_private(key)  # raises before anything is written
    workspace = Workspace.init(folder, catalog)
    if key is not None and key_store.public_path(workspace) is None:
        key_store.install(workspace, key)
    signer = key_store.signing_key(workspace).public
    if key is not None and signer.key_id != key_store.read_private(key).public.key_id:
        raise InputError(
            "The workspace has another signing key already.",
            "Its certificates would not verify under the new one alone.",
            "Change it with: expunge keys rotate --key PEM",
        )
    public = str(key_store.public_path(workspace))
    context.emit(
        {"workspace": str(workspace.root), "key": signer.key_id, "public_key": public},
        lambda: f"Workspace: {workspace.root}\nPublic key, for whoever verifies certificates: {public}",
    )


@click.group()
def data() -> None:
    """Add, show and export datasets."""


@data.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--subjects",
    "table",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="A table of samples and their subjects.",
)
@click.option(
    "--subject-from-path", "regex", metavar="REGEX", help="Take the subject from each path instead."
)
@click.option(
    "--public", multiple=True, metavar="FILE|GLOB", help="Samples for which no erasure is expected."
)
@click.option("--digests", metavar="FILE", type=click.Path(path_type=Path), help="Known digests (sha256sum).")
@click.option("--full", is_flag=True, help="PATH is complete: samples missing there leave the dataset.")
@click.option("--new-consent", is_flag=True, help="Erased people in PATH consented again: add them.")
@click.option("--skip-erased", is_flag=True, help="Leave out samples of PATH that were erased.")
@click.option(
    "--skip-unreadable", is_flag=True, help="Leave unusable samples out of training and evaluation."
)
@click.option("--trust-images", is_flag=True, help="Do not decode the images to check them.")
@common_options
def add(
    context: Context,
    name: str,
    path: Path,
    table: Path | None,
    regex: str | None,
    public: tuple[str, ...],
    digests: Path | None,
    full: bool,
    new_consent: bool,
    skip_erased: bool,
    skip_unreadable: bool,
    trust_images: bool,
) -> None:
    """Record a dataset, or its next version.

    PATH is an Ultralytics data.yaml, or an image-classification folder (train/ val/ CLASS/ files). Your files
    are not changed. If a dataset is added again without subjects, the recorded subjects are kept. Every image
    is decoded once and every label is read, so that training does not fail later.
    """
    if table is not None and regex is not None:
        raise click.UsageError("Give --subjects or --subject-from-path, not both.")
    if new_consent and skip_erased:
        raise click.UsageError("Give --new-consent or --skip-erased, not both.")
    workspace = context.workspace()
    from expunge.catalog.dataset_store import add_version, summarize
    from expunge.catalog.file_checks import read_file_checks
    from expunge.datasets.add import finish_adding, image_checks
    from expunge.evidence import anchor

    anchor.check(workspace)
    key = workspace.key
    with _without_collector():
        checks = image_checks(workspace, name, decode=not trust_images)
        scan = _read(context, path, table, regex, public, digests, checks, skip_unreadable)
    with workspace.session(write=True) as session:
        before = read_file_checks(session, name)
        version = add_version(
            session,
            name,
            scan,
            key=key,
            full=full,
            new_consent=new_consent,
            skip_erased=skip_erased,
            keep_subjects=table is None and regex is None,
            keep_public=not public,
        )
        counts = finish_adding(session, version, before, scan, partly=skip_erased)
        result = _described(version, summarize(session, version), counts.labels)
    for text in counts.warnings:
        context.say(f"warning: {text}")
    if new_consent:
        anchor.update_suppression(workspace)
    context.emit(result, lambda: version_table(result))


@data.command()
@click.argument("ref", metavar="NAME[@V]")
@click.option("--subject", metavar="ID", help="Show the lineage of this subject instead.")
@common_options
def show(context: Context, ref: str, subject: str | None) -> None:
    """Show a version of a dataset, or the lineage of one subject: samples, versions, models, exports."""
    workspace = context.workspace()
    if subject is not None:
        from expunge.models.lineage import lineage

        found = lineage(workspace, ref, subject)
        context.emit(found, lambda: lineage_table(found))
        return
    from expunge.catalog.dataset_store import get_version, parse_ref, summarize
    from expunge.catalog.file_checks import count_labels

    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        result = _described(version, summarize(session, version), count_labels(session, version))
    context.emit(result, lambda: version_table(result))


@data.command()
@click.argument("ref", metavar="NAME[@V]")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--link", is_flag=True, help="Make hard links instead of copies where possible.")
@common_options
def export(context: Context, ref: str, out: Path, link: bool) -> None:
    """Write a version without erased samples as a folder that Ultralytics can train on."""
    from expunge.datasets.sanitized import export_data

    result = export_data(context.workspace(), ref, out, link)
    context.emit(
        result,
        lambda: (
            f"{result['samples']} samples of {result['dataset']}.\n"
            f"Train on them with: yolo train data={result['data']}"
        ),
    )


@data.command()
@click.argument("ref", metavar="NAME[@V]")
@click.option("--of", "subject", metavar="ID", help="Only pictures that look like one of this subject.")
@click.option(
    "--distance",
    type=click.IntRange(0, 64),
    metavar="BITS",
    help="Largest distance of two hashes, of 64 bits. [3]",
)
@click.option(
    "--similarity",
    type=click.FloatRange(0.0, 1.0),
    metavar="X",
    help="Smallest correlation of two pictures. [0.9]",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Largest number of pairs. [10000]")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the pictures."
)
@click.option(
    "--decide",
    "table",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="Record decisions: a,b,decision.",
)
@common_options
def duplicates(
    context: Context,
    ref: str,
    subject: str | None,
    distance: int | None,
    similarity: float | None,
    limit: int | None,
    out: Path | None,
    table: Path | None,
) -> None:
    """Find near-duplicate pictures of different subjects.

    With --decide, record decisions on such pairs (same or different). If a later request erases a sample, the
    samples recorded as the same are erased, too.
    """
    from expunge.datasets import near_duplicates

    workspace = context.workspace()
    if table is not None:
        if any(value is not None for value in (subject, distance, similarity, limit, out)):
            raise click.UsageError("--decide only records decisions: give it without other options.")
        recorded = near_duplicates.decide(workspace, ref, table)
        context.emit(recorded, lambda: f"{recorded['decided']} decisions kept: {recorded['same']} the same.")
        return
    with _progress(context) as progress:
        result = near_duplicates.find_duplicates(
            workspace,
            ref,
            subject=subject,
            distance=distance,
            threshold=similarity,
            limit=limit,
            sheet=out,
            threads=context.threads or 1,
            progress=progress,
        )
    context.emit(result, lambda: pairs_table(result))


def _read(
    context: Context,
    path: Path,
    table: Path | None,
    regex: str | None,
    public: tuple[str, ...],
    digests: Path | None,
    checks: ImageChecks,
    skip_unreadable: bool,
) -> Scan:
    from expunge.data.scan import read_digests, scan
    from expunge.data.subjects import attach_subjects, read_subjects, subjects_from_regex

    if table is not None and not table.is_file():
        raise InputError(f"There is no file {table}.", "It was given with --subjects.", "Correct the path.")
    subjects = read_subjects(table) if table is not None else None
    known = read_digests(digests) if digests is not None else None
    with _progress(context) as progress:
        found = scan(
            path,
            known,
            progress,
            context.threads,
            checks=checks,
            skip_unreadable=skip_unreadable,
            strict=True,
        )
    del known
    if regex is not None:
        subjects = subjects_from_regex((sample.path for sample in found.samples), regex)
    elif subjects is not None:
        subjects = subjects.without(problem.path for problem in found.findings.left_out)
    found = attach_subjects(found, subjects, public)
    for note in found.notes:
        context.say(f"note: {note}")
    return found


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause Python's garbage collector, which takes seconds with a million samples."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@contextmanager
def _progress(context: Context) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal, and occasional lines elsewhere."""
    if not sys.stderr.isatty():
        yield _progress_lines()
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _progress_lines() -> Callable[[int, int], None]:
    from expunge.progress import Progress

    line, counted = Progress(), 0

    def show(done: int, total: int) -> None:
        nonlocal counted
        if not counted:
            line.begin("reading the data", total)
        line.add(done - counted)
        counted = done

    return show


def _described(version: Version, counts: dict[str, Any], labels: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {
        "dataset": version.label,
        "samples": version.samples,
        "subjects": version.subjects,
        "digest": f"sha256:{version.digest}" if version.digest else None,
        "kind": version.config.kind,
        "splits": counts["splits"],
        **labels,
        "classes": list(version.config.names),
        "class_samples": counts["classes"],
        "public": counts["public"],
        "erased_since": counts["erased_since"],
        "parent": f"{version.name}@{version.parent}" if version.parent else None,
        "request": version.request_id,
        "root": str(version.root),
    }

# SPDX-License-Identifier: Apache-2.0
"""The commands ``init`` and ``data``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import Context, common_options
from expunge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from expunge.data.types import Scan, Version


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option(
    "--key", metavar="PEM", type=click.Path(path_type=Path), help="Sign with this Ed25519 key. [a new one]"
)
@common_options
def init(context: Context, folder: str, key: Path | None) -> None:
    """Make a workspace in a folder (the current one by default), and a key to sign its certificates."""
    from expunge.evidence import keys
    from expunge.workspace import Workspace

    if key is not None:
        keys.read_private(key)  # refused before anything is made
    workspace = Workspace.init(folder)
    if key is not None and keys.public_path(workspace) is None:
        keys.install(workspace, key)
    signer = keys.signing_key(workspace).public
    if key is not None and signer.key_id != keys.read_private(key).public.key_id:
        raise InputError(
            "The workspace has another signing key already.",
            "Its certificates would not verify under the new one alone.",
            "Change it with: expunge keys rotate --key PEM",
        )
    public = str(keys.public_path(workspace))
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
    "--subjects", "table", metavar="CSV", type=click.Path(path_type=Path), help="Who is in which sample."
)
@click.option(
    "--subject-from-path", "regex", metavar="REGEX", help="Take the subject from each path instead."
)
@click.option("--public", multiple=True, metavar="FILE|GLOB", help="Samples of which no erasure is expected.")
@click.option("--digests", metavar="FILE", type=click.Path(path_type=Path), help="Known digests (sha256sum).")
@click.option("--full", is_flag=True, help="PATH is all there is: what is missing leaves the dataset.")
@click.option("--new-consent", is_flag=True, help="Erased people in PATH agreed anew: take them in again.")
@click.option("--skip-erased", is_flag=True, help="Leave out of PATH what was erased.")
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
) -> None:
    """Record a dataset, or its next version.

    PATH is an Ultralytics data.yaml, or an image-classification folder (train/ val/ CLASS/ files). No file of
    yours is changed. A dataset added again without saying whom its samples concern keeps what is known.
    """
    if table is not None and regex is not None:
        raise click.UsageError("Give --subjects or --subject-from-path, not both.")
    if new_consent and skip_erased:
        raise click.UsageError("Give --new-consent or --skip-erased, not both.")
    workspace = context.workspace()
    from expunge.catalog.datasets import add_version, summarize

    key = workspace.key
    scan = _read(context, path, table, regex, public, digests)
    with workspace.session(write=True) as session:
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
        result = _described(version, summarize(session, version))
    context.emit(result, lambda: _table(result))


@data.command()
@click.argument("ref", metavar="NAME[@V]")
@common_options
def show(context: Context, ref: str) -> None:
    """Show a version of a dataset."""
    workspace = context.workspace()
    from expunge.catalog.datasets import get_version, parse_ref, summarize

    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        result = _described(version, summarize(session, version))
    context.emit(result, lambda: _table(result))


@data.command()
@click.argument("ref", metavar="NAME[@V]")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--link", is_flag=True, help="Make hard links instead of copies where possible.")
@common_options
def export(context: Context, ref: str, out: Path, link: bool) -> None:
    """Write a version, without anything that was erased, as a tree that plain Ultralytics trains on."""
    workspace = context.workspace()
    from expunge.catalog.datasets import get_version, iter_samples, parse_ref
    from expunge.data.export import export_version

    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = list(iter_samples(session, version, without_erased=True))
    written = export_version(version, samples, out, link)
    result = {"dataset": version.label, "samples": len(samples), "data": str(written)}
    context.emit(
        result,
        lambda: f"{len(samples)} samples of {version.label}.\nTrain on them with: yolo train data={written}",
    )


def _read(
    context: Context,
    path: Path,
    table: Path | None,
    regex: str | None,
    public: tuple[str, ...],
    digests: Path | None,
) -> Scan:
    from expunge.data.scan import read_digests, scan
    from expunge.data.subjects import attach, read_subjects, subjects_from_regex

    if table is not None and not table.is_file():
        raise InputError(f"There is no file {table}.", "It was given with --subjects.", "Correct the path.")
    subjects = read_subjects(table) if table is not None else None
    known = read_digests(digests) if digests is not None else None
    with _progress(context) as progress:
        found = scan(path, known, progress, context.threads)
    del known
    if regex is not None:
        subjects = subjects_from_regex((sample.path for sample in found.samples), regex)
    return attach(found, subjects, public)


@contextmanager
def _progress(context: Context) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar with a time estimate, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _described(version: Version, counts: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": version.label,
        "samples": version.samples,
        "subjects": version.subjects,
        "digest": f"sha256:{version.digest}" if version.digest else None,
        "kind": version.config.kind,
        "splits": counts["splits"],
        "classes": list(version.config.names),
        "class_samples": counts["classes"],
        "public": counts["public"],
        "erased_since": counts["erased_since"],
        "parent": f"{version.name}@{version.parent}" if version.parent else None,
        "request": version.request_id,
        "root": str(version.root),
    }


def _table(result: dict[str, Any]) -> Table:
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
            f"  {split}": f"{n:,}" for split in ("train", "val", "test") if (n := result["splits"].get(split))
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

# SPDX-License-Identifier: Apache-2.0
"""The commands ``report``, ``keys`` and ``restored``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from expunge.cli.output import Context, common_options
from expunge.errors import InputError


@click.command()
@click.argument("request")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="The file to write. [REQUEST.html or .pdf]"
)
@click.option("--pdf", is_flag=True, help="Write PDF (needs the extra 'pdf'). Any browser prints the HTML.")
@click.option("--pictures", is_flag=True, help="Show the forgotten pictures that still exist.")
@common_options
def report(context: Context, request: str, out: Path | None, pdf: bool, pictures: bool) -> None:
    """Write a human-readable report of a request as one HTML (or PDF) file.

    The report names nobody. With --pictures it shows the forgotten pictures and is personal data itself.
    """
    from expunge.evidence.report_page import write
    from expunge.purge.originals import find_originals

    workspace = context.workspace()
    files = find_originals(workspace, request) if pictures else None
    target = write(workspace, request, out or Path(f"{request}.{'pdf' if pdf else 'html'}"), files, pdf=pdf)
    context.emit({"request": request, "report": str(target)}, lambda: f"Report: {target}")


@click.group()
def keys() -> None:
    """Show or change the key that signs certificates."""


@keys.command()
@common_options
def show(context: Context) -> None:
    """Show the public key, which verifiers need, and its file."""
    from expunge.evidence import key_store
    from expunge.evidence.trust import trusted_keys

    workspace = context.workspace()
    public = key_store.signing_key(workspace).public
    path = key_store.restore_public(workspace, public)
    result = {
        "key": public.key_id,
        "public_key": str(path),
        "pem": public.pem.decode(),
        "earlier": sorted(trusted_keys(workspace).keys() - {public.key_id}),
    }
    context.emit(result, lambda: f"{public.key_id}\n{path}\n{public.pem.decode().rstrip()}")


@keys.command()
@click.option(
    "--key", metavar="PEM", type=click.Path(path_type=Path), help="The new private key. [generated]"
)
@click.option("--lost", is_flag=True, help="The old key is lost, so it cannot name the new one.")
@common_options
def rotate(context: Context, key: Path | None, lost: bool) -> None:
    """Replace the signing key.

    The old key signs a log entry that names the new key, so verifiers who trust the old key can trust the new
    one. With --lost there is no such entry: give the new public key to verifiers.
    """
    from expunge.evidence import key_store
    from expunge.evidence.rotation import rotate as change

    workspace = context.workspace()
    public = change(workspace, key, lost=lost)
    path = str(key_store.public_path(workspace))
    context.emit({"key": public.key_id, "public_key": path}, lambda: f"{public.key_id}\n{path}")


@keys.command()
@click.argument("key", metavar="PEM", type=click.Path(path_type=Path))
@common_options
def pin(context: Context, key: Path) -> None:
    """Trust a key when certificates of this workspace are verified here.

    PEM is your private key, or a public key that you know to be yours. The pin is stored beside the private
    keys, not in the workspace. It is needed once for a key in another folder, if the workspace was made by an
    earlier version or the folder of keys was lost.
    """
    from expunge.evidence import key_store

    public = key_store.pin(context.workspace(), key)
    context.emit({"key": public.key_id}, lambda: f"{public.key_id} counts for this workspace.")


@click.command()
@click.option("--dry-run", is_flag=True, help="Show the data that came back; change nothing.")
@click.option("--actor", metavar="NAME", help="Name for the record. [the user of the operating system]")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@common_options
def restored(context: Context, dry_run: bool, actor: str | None, yes: bool) -> None:
    """After a backup was restored: erase again the people erased since.

    Restore the newest backup first. Requests, dates and certificates that are newer than the backup are lost.
    The erased people are known from a list outside the workspace. The log continues with an entry about the
    restoration; a verifier with a later tree head will see that the log was forked.
    """
    from expunge.erasure import restoration
    from expunge.progress import Progress

    workspace = context.workspace()
    if dry_run:
        found = restoration.restore_status(workspace)
    else:
        if sys.stdin.isatty() and not yes:
            context.say(_summary(restoration.restore_status(workspace)))
            if not click.confirm("Erase them again now?", err=True):
                raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
        found = restoration.erase_again(workspace, Progress(), actor)
    context.emit(found, lambda: _summary(found))


def _summary(found: dict[str, Any]) -> str:
    if not found["restored"]:
        return "The workspace is up to date; no backup was restored."
    counts = f"{found['subjects']} subjects and {found['samples']} samples that were erased came back."
    requests = [f"erased again: {o['request']} ({o['state']})" for o in found.get("requests", [])]
    return "\n".join([found["reason"] or "The restoration was not finished.", counts, *requests])

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
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Where to write it. [REQUEST.html or .pdf]"
)
@click.option("--pdf", is_flag=True, help="As PDF; needs the extra 'pdf'. The HTML prints from any browser.")
@click.option("--pictures", is_flag=True, help="Show the forgotten pictures, as far as they are still there.")
@common_options
def report(context: Context, request: str, out: Path | None, pdf: bool, pictures: bool) -> None:
    """Write what was done for a request as one HTML (or PDF) file, for people to read.

    It names nobody and shows no picture, unless that is asked for: then the file is personal data itself.
    """
    from expunge.evidence.report import write
    from expunge.queue.originals import originals

    workspace = context.workspace()
    files = originals(workspace, request) if pictures else None
    target = write(workspace, request, out or Path(f"{request}.{'pdf' if pdf else 'html'}"), files, pdf=pdf)
    context.emit({"request": request, "report": str(target)}, lambda: f"Report: {target}")


@click.group()
def keys() -> None:
    """Show or change the key that signs certificates."""


@keys.command()
@common_options
def show(context: Context) -> None:
    """Show the public key, which verifiers need, and where it lies."""
    from expunge.evidence import keys as store
    from expunge.evidence.trust import trusted_keys

    workspace = context.workspace()
    public = store.signing_key(workspace).public
    path = store.restore_public(workspace, public)
    result = {
        "key": public.key_id,
        "public_key": str(path),
        "pem": public.pem.decode(),
        "earlier": sorted(trusted_keys(workspace).keys() - {public.key_id}),
    }
    context.emit(result, lambda: f"{public.key_id}\n{path}\n{public.pem.decode().rstrip()}")


@keys.command()
@click.option("--key", metavar="PEM", type=click.Path(path_type=Path), help="The new key. [one is made]")
@click.option("--lost", is_flag=True, help="The old key is gone, so it cannot name the new one.")
@common_options
def rotate(context: Context, key: Path | None, lost: bool) -> None:
    """Sign with another key from now on.

    The old key signs an entry of the log that names the new one, so whoever trusts the old key can trust the
    new one. With --lost that cannot be: hand out the new public key then.
    """
    from expunge.evidence import keys as store
    from expunge.evidence.rotation import rotate as change

    workspace = context.workspace()
    public = change(workspace, key, lost=lost)
    path = str(store.public_path(workspace))
    context.emit({"key": public.key_id, "public_key": path}, lambda: f"{public.key_id}\n{path}")


@keys.command()
@click.argument("key", metavar="PEM", type=click.Path(path_type=Path))
@common_options
def pin(context: Context, key: Path) -> None:
    """Let a key count for this workspace, when you verify here.

    PEM is your private key, or a public key that you know to be yours. The pin is kept beside the private
    keys, not in the workspace. Needed once for a key in another folder, if the workspace was made by an
    earlier version or the folder of the keys was lost.
    """
    from expunge.evidence import keys as store

    public = store.pin(context.workspace(), key)
    context.emit({"key": public.key_id}, lambda: f"{public.key_id} counts for this workspace.")


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what came back; change nothing.")
@click.option("--actor", metavar="NAME", help="Who does it. [the user of the operating system]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common_options
def restored(context: Context, dry_run: bool, actor: str | None, yes: bool) -> None:
    """After a backup was restored: erase again who was erased since.

    Restore the newest backup first. What only the later catalog knew (requests, dates, certificates) does not
    come back; who was erased is known by the list outside of the workspace. The log goes on with an entry
    that says so: whoever kept a later tree head sees that it was forked.
    """
    from expunge.progress import Progress
    from expunge.queue import restored as work

    workspace = context.workspace()
    if dry_run:
        found = work.describe(workspace)
    else:
        if sys.stdin.isatty() and not yes:
            context.say(_returned(work.describe(workspace)))
            if not click.confirm("Erase them again now?", err=True):
                raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
        found = work.erase_again(workspace, Progress(), actor)
    context.emit(found, lambda: _returned(found))


def _returned(found: dict[str, Any]) -> str:
    if not found["restored"]:
        return "The workspace is what it was last."
    words = f"{found['subjects']} subjects and {found['samples']} samples that were erased came back."
    done = [f"erased again: {o['request']} ({o['state']})" for o in found.get("requests", [])]
    return "\n".join([found["reason"] or "The restoration was not finished.", words, *done])

# SPDX-License-Identifier: Apache-2.0
"""Reads the user's list of places outside this machine that may hold copies; the places are not checked."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError
from expunge.storage.user_files import read_text

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FILE = "external.txt"
ID_DIGITS = 32
MARK = re.compile(r"\[( |x|X)\]\s+")


def checklist(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the places listed in ``external.txt`` of the workspace.

    The file has one place per line (a bucket, a registry, a device): ``[x] PLACE`` if the deletion of the
    copies is confirmed, ``[ ] PLACE`` or ``PLACE`` if not. Empty lines and lines with ``#`` are ignored.

    Returns:
        For each place ``{place, confirmed, id}``. ``id`` identifies it in certificates, since its name may
        contain names of people: a digest keyed with the workspace's secret, so that nobody else can test a
        guess.

    Raises:
        InputError: If the file cannot be read.
    """
    path = workspace.root / FILE
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read.", type(error).__name__, "Make it a UTF-8 text file, one place per line."
        ) from error
    places = []
    for line in (line.strip() for line in lines):
        if line and not line.startswith("#"):
            mark = MARK.match(line)
            place = line[mark.end() :] if mark else line
            confirmed = bool(mark and mark.group(1) in "xX")
            digest = hmac.digest(workspace.key, f"place {place}".encode(), "sha256").hex()
            places.append({"place": place, "confirmed": confirmed, "id": digest[:ID_DIGITS]})
    return places

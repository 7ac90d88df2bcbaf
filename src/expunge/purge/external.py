# SPDX-License-Identifier: Apache-2.0
"""Places outside of this machine that may hold copies, as the user lists them: a checklist, never a check."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError
from expunge.user_files import read_text

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FILE = "external.txt"
ID_DIGITS = 32
MARK = re.compile(r"\[( |x|X)\]\s+")


def checklist(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the places of ``external.txt`` in the workspace: ``{place, confirmed, id}``.

    ``id`` stands for the place in certificates, since its name may name people: a digest under the
    workspace's secret, so that its owner can say which line is meant and nobody else can test a guess.

    One place a line (a bucket, a registry, a device): ``[x] PLACE`` where somebody confirmed that the copies
    are gone, ``[ ] PLACE`` or ``PLACE`` where nobody has. Empty lines and ``#`` lines count for nothing.

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
            f"{path} cannot be read.", type(error).__name__, "It is a text file in UTF-8, a place a line."
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

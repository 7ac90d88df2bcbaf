# SPDX-License-Identifier: Apache-2.0
"""The report of a request, for people: one HTML file with nothing outside it, made from the certificate."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Template

from expunge.catalog import models as catalog
from expunge.data.thumbnail import thumbnail
from expunge.errors import InputError
from expunge.evidence import certificate
from expunge.evidence.pdf import pdf_of
from expunge.evidence.statement import GUARANTEES
from expunge.exact.checkpoint import write_atomically
from expunge.templating import environment

if TYPE_CHECKING:
    from expunge.workspace import Workspace

SIDE_PIXELS, MOST_PICTURES = 160, 60
STATES = {
    "running": "The work is not finished: a final model is still to come.",
    "executed": "The models are done. The request stays open until everything else is gone, too.",
    "closed": "Everything that this tool can do is done, and its catalog has forgotten the rows.",
}
DUTIES = (
    "Tell the person what was done, within one month of receipt (GDPR Art. 12(3)); the dates are above.",
    "Tell each recipient to whom the data were disclosed, unless that is impossible or a disproportionate "
    "effort; name them to the person on request (Art. 19).",
    "If the data were made public, tell others who process them (Art. 17(2)).",
    "Withdraw the earlier models wherever they run; 'expunge status WEIGHTS' tells which one a file is.",
    "Delete, or let expire, what the list of what is not covered names.",
)


def write(
    workspace: Workspace,
    request_id: str,
    out: Path,
    pictures: Iterable[Path] | None = None,
    *,
    pdf: bool = False,
) -> Path:
    """Write the report of a request.

    Args:
        workspace: Where the request is known.
        request_id: Which request; it must have a certificate.
        out: The file.
        pictures: Files to show, small, as far as they are pictures; None: that was not asked for.
        pdf: As PDF in place of HTML.

    Raises:
        InputError: If the request is unknown, nothing was certified yet, or the extra for PDF is missing.
    """
    with workspace.session() as session:
        catalog.get_request(session, request_id)
    path = certificate.path_of(workspace, request_id)
    if not path.is_file():
        raise InputError(
            f"The request {request_id} has no certificate.", "", "One is made when it is executed."
        )
    shown = None if pictures is None else list(_pictures(pictures))
    page = render(certificate.predicate_of(path), shown)
    write_atomically(out, pdf_of(page) if pdf else page.encode(), "The report")
    return out


@cache
def _template() -> Template:
    pages = environment("expunge.evidence", {"short": short, "figure": figure, "moment": moment})
    return pages.get_template("report.html.j2")


def render(said: dict[str, Any], pictures: list[str] | None = None) -> str:
    """Return the report of what a certificate says as HTML; pictures are given as data addresses."""
    return _template().render(
        said=said,
        state=STATES.get(said["state"], said["state"]),
        sentences=GUARANTEES,
        duties=DUTIES,
        pictures=pictures,
    )


def short(digest: str | None) -> str:
    """The beginning of a digest, for people."""
    return f"{digest.removeprefix('sha256:')[:12]}…" if digest else "–"


def moment(text: str) -> str:
    """A moment of a certificate (ISO 8601) as people write it; a day stays a day."""
    found = datetime.fromisoformat(text)
    return found.strftime("%-d %B %Y" if len(text) == 10 else "%-d %B %Y, %H:%M %Z")


def figure(value: Any) -> str:
    """A number with three digits; anything else as it is."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _pictures(files: Iterable[Path]) -> Iterator[str]:
    """Small pictures as data addresses; of files that are no pictures, none."""
    count = 0
    for file in files:
        if count == MOST_PICTURES:
            return
        picture = thumbnail(file, SIDE_PIXELS)
        if picture is not None:  # else a label, or a file that went in between
            count += 1
            yield f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"

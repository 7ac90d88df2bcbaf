# SPDX-License-Identifier: Apache-2.0
"""Human-readable report of a request: one self-contained HTML or PDF file, made from its certificate."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Template

from expunge.catalog import model_store
from expunge.data.thumbnail import thumbnail
from expunge.errors import InputError
from expunge.evidence import certificates
from expunge.evidence.pdf import pdf_of
from expunge.evidence.statement import GUARANTEES
from expunge.storage.files import write_atomically
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
        workspace: The workspace of the request.
        request_id: A request that has a certificate.
        out: The file to write.
        pictures: Images to show as thumbnails; other files are skipped. None: no section for pictures.
        pdf: Write PDF instead of HTML.

    Raises:
        InputError: If the request is unknown, nothing was certified yet, or the extra for PDF is missing.
    """
    with workspace.session() as session:
        model_store.get_request(session, request_id)
    path = certificates.path_of(workspace, request_id)
    if not path.is_file():
        raise InputError(
            f"The request {request_id} has no certificate.", "", "One is made when it is executed."
        )
    thumbnails = None if pictures is None else list(_pictures(pictures))
    page = render(certificates.predicate_of(path), thumbnails)
    write_atomically(out, pdf_of(page) if pdf else page.encode(), "The report")
    return out


@cache
def _template() -> Template:
    pages = environment("expunge.evidence", {"short": short, "figure": figure, "moment": moment})
    return pages.get_template("report.html.j2")


def render(predicate: dict[str, Any], pictures: list[str] | None = None) -> str:
    """Return the report of a certificate's predicate as HTML; pictures are given as data URLs."""
    return _template().render(
        predicate=predicate,
        state=STATES.get(predicate["state"], predicate["state"]),
        sentences=GUARANTEES,
        duties=DUTIES,
        pictures=pictures,
    )


def short(digest: str | None) -> str:
    """Return the first 12 hex digits of a digest, for display."""
    return f"{digest.removeprefix('sha256:')[:12]}…" if digest else "–"


def moment(text: str) -> str:
    """Return an ISO 8601 date or time of a certificate, formatted for display."""
    parsed = datetime.fromisoformat(text)
    return parsed.strftime("%-d %B %Y" if len(text) == 10 else "%-d %B %Y, %H:%M %Z")


def figure(value: Any) -> str:
    """Return a number with three significant digits, and any other value as text."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _pictures(files: Iterable[Path]) -> Iterator[str]:
    """Yield thumbnails as data URLs; files that are no images are skipped."""
    count = 0
    for file in files:
        if count == MOST_PICTURES:
            return
        picture = thumbnail(file, SIDE_PIXELS)
        if picture is not None:  # None: a label file, or a file deleted meanwhile
            count += 1
            yield f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"

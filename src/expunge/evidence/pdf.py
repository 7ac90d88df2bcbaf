# SPDX-License-Identifier: Apache-2.0
"""The report as PDF, by WeasyPrint (BSD licence; the extra ``pdf``), from the page that browsers print."""

from __future__ import annotations

import importlib.util

from expunge.errors import InputError

OTHERWISE = "Or write the report as HTML and print that from any browser."


def pdf_of(page: str) -> bytes:
    """Return a page as PDF; nothing outside of the page is loaded.

    Raises:
        InputError: If WeasyPrint, or the system's library Pango that it needs, is not installed.
    """
    if importlib.util.find_spec("weasyprint") is None:
        raise InputError(
            "The report as PDF needs WeasyPrint.",
            "It comes with the extra 'pdf'; nothing is installed unasked.",
            f"Install it with: pip install 'expunge[pdf]'. {OTHERWISE}",
        )
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except OSError as error:
        raise InputError(
            "WeasyPrint cannot be used here.",
            "It needs the library Pango, which this system does not have.",
            f"Install it (Debian: libpango-1.0-0 and libpangoft2-1.0-0). {OTHERWISE}",
        ) from error
    inside = URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    made: bytes = HTML(string=page, url_fetcher=inside).write_pdf()
    return made

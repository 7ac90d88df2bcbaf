# SPDX-License-Identifier: Apache-2.0
"""Conversion of the HTML report to PDF by WeasyPrint (BSD licence; the extra ``pdf``)."""

from __future__ import annotations

import importlib.util

from expunge.errors import InputError

OTHERWISE = "Or write the report as HTML and print that from any browser."


def pdf_of(page: str) -> bytes:
    """Return an HTML page as PDF; nothing outside the page is loaded.

    Raises:
        InputError: If WeasyPrint or the system library Pango is not installed.
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
    data_urls_only = URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    pdf: bytes = HTML(string=page, url_fetcher=data_urls_only).write_pdf()
    return pdf

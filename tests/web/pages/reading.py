# SPDX-License-Identifier: Apache-2.0
"""Reads a page as a browser would, and complains about what no page of the desk may hold."""

from __future__ import annotations

from html.parser import HTMLParser

OWN_SCRIPTS = ("/static/vendor/htmx.min.js", "/static/desk.js")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[tuple[str, dict[str, str | None]]] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.faults += [f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action", "hx-get", "hx-post"):
            value = given.get(name) or ""
            if value and not value.startswith(("/", "#")):
                self.faults.append(f"<{tag} {name}={value}> leads elsewhere")
        if tag in ("style", "iframe", "object", "embed", "base"):
            self.faults.append(f"<{tag}>")
        if tag == "script":
            self._in_script = True
            if (given.get("src") or "").partition("?")[0] not in OWN_SCRIPTS:
                self.faults.append(f"<script src={given.get('src')}>")
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label":
            self.labelled.add(given.get("for") or "")
        if tag in ("input", "select", "textarea") and given.get("type") not in ("hidden", "submit"):
            self.fields.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.faults.append(f"a script with the text {data.strip()[:40]}")
        self.text.append(data)


def read(page: str) -> _Reader:
    """Read a page."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader


def faults(page: str) -> list[str]:
    """Return what must not be in a page: script, style, handlers, an id twice, a field without a label."""
    found = read(page)
    twice = {i for i in found.ids if found.ids.count(i) > 1}
    bare = [
        f"<{tag} name={given.get('name')}> without a label"
        for tag, given in found.fields
        if given.get("id") not in found.labelled and not given.get("aria-label")
    ]
    return [*found.faults, *(f"id {i} twice" for i in sorted(twice)), *bare]


def words(page: str) -> str:
    """Return the text of a page, with single spaces."""
    return " ".join(" ".join(read(page).text).split())

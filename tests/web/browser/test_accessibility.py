# SPDX-License-Identifier: Apache-2.0
"""axe-core finds no fault on any page, in light, in the dark and on a phone; no page is wider than that.

The pages of every day are looked at each time, on a phone in the dark; all of them in every mode by
``pytest -m slow tests/web/browser/test_accessibility.py``.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from web.browser.office import ALIKE, PASSWORD, Office

from expunge.erasure.intake import Opening, approve, open_request
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.workspace import Workspace
from expunge.evidence import certificates
from expunge.web.auth import accounts
from expunge.web.auth.roles import Role

MODES = {
    "light": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "phone in the dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}
PAGES = (
    "/requests", "/requests/new", "/requests/savings", "/requests/{waiting}", "/requests/{waiting}/scope",
    "/requests/{waiting}/lookalikes", "/requests/{done}", "/requests/{done}/report", "/models", "/datasets",
    "/datasets/shop", "/log", "/log/head", "/log/0", "/verify", "/account", "/accounts", "/trail", "/nowhere",
)  # fmt: skip
EVERY_DAY = ("/requests", "/requests/new", "/requests/{waiting}", "/requests/{done}", "/verify")
LOOKS = [
    pytest.param("phone in the dark", EVERY_DAY),
    *(pytest.param(mode, PAGES, marks=pytest.mark.slow) for mode in ("light", "dark", "phone")),
]
FOUND = """async () => (await axe.run(document)).violations.map(v =>
    `${v.impact} ${v.id}: ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 120)).join(' | ')}`)"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which a package for Playwright carries."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names(bare: Office) -> dict[str, str]:
    """A request that waits and one that is done, of a desk with an admin ``ada``."""
    workspace = Workspace.open(bare.folder / "w")
    if not accounts.has_admin(workspace):
        accounts.create(workspace, "ada", Role.ADMIN, PASSWORD)
    opening = Opening(actor="ada", ground="objection", note="a note", recipients=("Shop Ltd",))
    found = {}
    for name, ask in (
        ("waiting", ErasureRequest(subjects=("p1",))),
        ("done", ErasureRequest(samples=("images/val/0.png",))),
    ):
        found[name] = open_request(workspace, ask, opening)["request"]
    approve(workspace, found["done"], "ada")
    workspace.run(found["done"], "ada")
    assert certificates.path_of(workspace, found["done"]).is_file()
    assert (bare.data / ALIKE).is_file()
    return found


@pytest.mark.parametrize(("mode", "pages"), LOOKS)
def test_no_page_has_a_fault(
    browser: Any, bare: Office, axe: str, names: dict[str, str], mode: str, pages: tuple[str, ...]
) -> None:
    # The report's own policy allows no script at all, not even that of axe.
    context = browser.new_context(base_url=bare.address, bypass_csp=True, **MODES[mode])
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        faults = {"/login": look(page, axe, "/login")}
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/requests")
        for pattern in pages:
            at = pattern.format(**names)
            faults[pattern] = look(page, axe, at)
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > MODES[mode]["viewport"]["width"]:  # type: ignore[index]
                faults[pattern].append(f"it is {width} pixels wide")
    finally:
        context.close()
    assert {at: found for at, found in faults.items() if found} == {}


def test_a_fault_is_found(browser: Any, axe: str) -> None:
    """The control."""
    page = browser.new_page()
    page.set_content("<html><body><img src=x><input></body></html>")
    page.evaluate(axe)
    assert any("image-alt" in fault for fault in page.evaluate(FOUND))
    page.close()


def test_the_way_by_keyboard(browser: Any, bare: Office) -> None:
    """The first stop leads past the menu, and it can be seen where one is."""
    page = browser.new_page(base_url=bare.address)
    page.goto("/link/none")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.close()


def look(page: Any, axe: str, at: str) -> list[str]:
    """What axe finds on a page, once what is loaded later is there."""
    page.goto(at, wait_until="networkidle")
    page.evaluate(axe)
    found: list[str] = page.evaluate(FOUND)
    return found

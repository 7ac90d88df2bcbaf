# SPDX-License-Identifier: Apache-2.0
"""The officer's way through a real browser: from the first sign-in to a certificate that verifies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from web.browser.office import PASSWORD, Office

WAIT = 300_000  # milliseconds; a limit, not a pause: nothing here waits for longer than it takes


@contextmanager
def window(browser: Any, office: Office, **options: Any) -> Iterator[Any]:
    """A browser window of somebody's own; a script or style that the policy stops is a failure."""
    context = browser.new_context(base_url=office.address, **options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    refused: list[str] = []
    page.on("console", lambda m: refused.append(m.text) if "Content Security Policy" in m.text else None)
    page.on("pageerror", lambda error: refused.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    try:
        yield page
    finally:
        context.close()
    assert refused == []


def choose_password(page: Any, link: str, name: str | None = None) -> None:
    page.goto(link)
    page.goto(link)  # to look at it does not use it up
    if name is not None:
        page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The same password again").fill(PASSWORD)
    page.locator("main button").click()
    page.wait_for_url("**/requests")


def file_request(page: Any, subject: str) -> str:
    page.get_by_role("link", name="File a request").click()
    page.get_by_label("Subject ids").fill(subject)
    page.get_by_label("Ground").select_option("consent-withdrawn")
    page.get_by_label("Recipients of the data").fill("Acme <b>Analytics</b>")
    page.get_by_role("button", name="See what it would mean").click()
    page.locator("#preview").get_by_text("Samples to erase").wait_for()
    page.get_by_role("button", name="File the request").click()
    page.wait_for_url("**/requests/r-*")
    assert page.get_by_text("30 days left").count() + page.get_by_text("31 days left").count() > 0
    assert page.get_by_text("Acme <b>Analytics</b>").first.is_visible()
    return str(page.locator("h1 .mono").inner_text())


def decide_lookalike(page: Any) -> None:
    page.get_by_role("link", name="Look for near-duplicates").click()
    pair = page.locator("li[id^=pair-]")
    pair.wait_for()
    assert pair.count() == 1
    pair.locator("img").evaluate_all("images => Promise.all(images.map(image => image.decode()))")
    pair.get_by_role("button", name="Same: erase it too").click()
    pair.get_by_text("the same: it is erased too").wait_for()
    page.get_by_role("link", name="Back to the request").click()


def press(page: Any, name: str) -> None:
    """Press the button of a form, and go on when the page that answers is there as a whole.

    A click on a page that is still loading was lost once in some hundred runs, on a busy machine.
    """
    with page.expect_navigation(wait_until="load"):
        page.get_by_role("button", name=name).click()


def run(page: Any) -> None:
    press(page, "Approve")
    press(page, "Run it now")
    page.get_by_role("link", name="Certificate").wait_for(timeout=WAIT)


def compare(page: Any) -> None:
    """Look at what the detector finds, before and after."""
    page.get_by_role("button", name="Run the detector of before and of after").click()
    page.get_by_role("link", name="See what the detector finds").click(timeout=WAIT)
    assert page.locator("svg image").count() >= 8
    assert page.get_by_text("A picture that was erased").count() > 0
    page.get_by_role("link", name="Back to the request").click()


def download(page: Any, folder: Path) -> Path:
    with page.expect_download() as coming:
        page.get_by_role("link", name="Certificate").click()
    file = folder / coming.value.suggested_filename
    coming.value.save_as(file)
    return file


def drop(page: Any, file: Path) -> None:
    """Drop a file on the page, as a hand with a mouse does."""
    transfer = page.evaluate_handle(
        """text => { const t = new DataTransfer();
        t.items.add(new File([text], '<img src=x onerror=alert(1)>.json')); return t; }""",
        file.read_text(),
    )
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": transfer})


def verify_on_page(page: Any, file: Path, tmp_path: Path) -> None:
    page.goto("/verify")
    drop(page, file)
    page.get_by_text("It is valid: no check failed.").wait_for(timeout=WAIT)
    envelope = json.loads(file.read_text())
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(envelope))
    page.get_by_label("Another certificate").set_input_files(forged)
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("It is not valid: a check failed.").wait_for(timeout=WAIT)


def refused_as_viewer(admin: Any, browser: Any, office: Office, request: str) -> None:
    """A viewer sees that there is a request and its evidence; no id, no picture, and no deed is for them."""
    admin.goto("/accounts")
    admin.get_by_label("Name").fill("vera")
    admin.get_by_role("button", name="Add", exact=True).click()
    link = admin.locator("pre").inner_text()
    with window(browser, office) as page:
        choose_password(page, link)
        page.goto(f"/requests/{request}")
        assert page.get_by_text("visible only with the permission").is_visible()
        assert page.get_by_role("button", name="Run", exact=False).count() == 0
        csrf = page.locator("input[name=csrf]").first.get_attribute("value")
        here = f"/requests/{request}"
        for address in (
            "/requests/new",
            f"{here}/lookalikes",
            f"{here}/pictures/1.jpg",
            "/accounts",
            "/trail",
        ):
            assert page.request.get(address).status == 403, address
        headers = {"Sec-Fetch-Site": "same-origin"}
        for deed in ("approve", "run", "refuse", "comparison"):
            sent = page.request.post(f"{here}/{deed}", form={"csrf": csrf or ""}, headers=headers)
            assert sent.status == 403, deed
        page.goto("/requests/new")
        assert page.get_by_role("heading", name="Not allowed").is_visible()


def walk(browser: Any, office: Office, tmp_path: Path, replay: bool) -> None:
    with window(browser, office) as page:
        choose_password(page, office.link, "ada")
        request = file_request(page, "p1")
        before = int(page.locator("#scope dd").first.inner_text())
        decide_lookalike(page)
        page.locator("#scope dd").first.get_by_text(str(before + 1), exact=True).wait_for()
        run(page)
        page.get_by_role("link", name="Open the report").click()
        assert page.get_by_role("heading", name=f"Erasure request {request}").is_visible()
        page.go_back()
        if replay:
            compare(page)
        file = download(page, tmp_path)
        assert file.name == f"{request}.json"
        verify_on_page(page, file, tmp_path)
        code, found = office.shell("verify", str(file), *(["--replay"] if replay else []))
        assert (code, found["valid"]) == (0, True), found
        repeated = [c["ok"] for c in found["checks"] if c["name"].endswith("replay")]
        assert repeated == ([True, True] if replay else [])  # the interim model, and the final one
        refused_as_viewer(page, browser, office, request)
        assert page.request.get(office.link).status == 404  # used up


def test_from_the_first_sign_in_to_the_certificate(browser: Any, bare: Office, tmp_path: Path) -> None:
    walk(browser, bare, tmp_path, replay=False)


@pytest.mark.slow
def test_with_a_model_and_a_replay_from_the_shell(browser: Any, trained: Office, tmp_path: Path) -> None:
    walk(browser, trained, tmp_path, replay=True)

# SPDX-License-Identifier: Apache-2.0
"""A request for a whole class, filed on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk_kit import Desk
from requests_kit import PEOPLE
from web.pages.reading import faults, words

from expunge.catalog.dataset_store import add_version
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.web.auth.roles import Role
from expunge.workspace import Workspace

FORM = {"dataset": "pets", "class_name": "cat", "key": "k"}


@pytest.fixture
def pets(workspace: Workspace) -> Desk:
    """A desk with a data set of three cats and a dog."""
    samples = tuple(
        Sample(f"train/{kind}/{k}.png", "train", f"{kind}{k}".encode().hex().rjust(64, "0"), "", kind)
        for kind, count in (("cat", 3), ("dog", 1))
        for k in range(count)
    )
    with workspace.session(write=True) as session:
        config = DatasetConfig("folders", ("cat", "dog", "none"))
        add_version(session, "pets", Scan(Path("/nowhere"), config, samples), key=workspace.key)
    return Desk(workspace)


def test_a_class_is_filed(pets: Desk) -> None:
    client = pets.signed_in(Role.OFFICER)
    assert '<option value="cat">' in client.get("/requests/new").text
    assert "Samples to erase 3" in words(client.post("/requests/preview", data=FORM).text)
    page = client.post("/requests", data=FORM)
    assert faults(page.text) == []
    assert "all samples of a class" in words(page.text)
    assert "Class cat" in words(page.text)
    request = str(page.url).rpartition("/")[2].partition("?")[0]
    asked = client.get(f"/api/v1/requests/{request}/selection").json()
    assert (asked["class_name"], asked["subjects"], asked["samples"]) == ("cat", [], [])
    assert "Class cat" not in words(pets.signed_in(Role.VIEWER).get(f"/requests/{request}").text)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"subjects": PEOPLE[0]}, "for a class, or for people and samples"),
        ({"samples": "train/dog/0.png"}, "for a class, or for people and samples"),
        ({"class_name": "none"}, "has no sample"),
        ({"class_name": "horse"}, "horse"),
    ],
)
def test_what_is_no_class_is_said_and_kept_in_the_form(
    pets: Desk, workspace: Workspace, more: dict[str, str], said: str
) -> None:
    page = pets.signed_in(Role.OFFICER).post("/requests", data={**FORM, **more})
    assert page.status_code == 422
    assert said in words(page.text)
    assert f'value="{more.get("class_name", "cat")}"' in page.text
    assert workspace.query("SELECT id FROM request") == []

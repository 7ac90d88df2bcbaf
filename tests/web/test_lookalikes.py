# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates over the API: pairs with their pictures, decisions, and who may see and decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desk_kit import Desk
from PIL import Image, ImageEnhance
from requests_kit import PEOPLE, Paper
from sqlalchemy import select

from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.erasure import intake, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.progress import Progress
from expunge.storage.digest import file_digest
from expunge.web.auth.roles import Role
from expunge.web.settings import ServerSettings
from expunge.workspace import Workspace

GOES, ALIKE = f"train/{PEOPLE[0]}-0.png", "train/free-0.png"


@pytest.fixture
def desk(workspace: Workspace, paper: Paper, tmp_path: Path) -> Desk:
    """A desk that may show pictures; one of nobody's is one of a person's, a little brighter."""
    folder = tmp_path / "pictures"
    (folder / "train").mkdir(parents=True)
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    shown = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
    shown.save(folder / GOES)
    ImageEnhance.Brightness(shown).enhance(1.05).save(folder / ALIKE)
    with workspace.session(write=True) as session:
        session.scalars(select(DatasetRow)).one().root = str(folder)
        for row in session.scalars(select(SampleRow).where(SampleRow.path.in_([GOES, ALIKE]))):
            row.image_digest = file_digest(folder / row.path)
    return Desk(workspace, ServerSettings(workers=False, roots=(folder,)))


@pytest.fixture
def request_id(workspace: Workspace) -> str:
    return str(intake.open_request(workspace, ErasureRequest(subjects=PEOPLE[:1]))["request"])


def pairs(client: Any, request_id: str) -> Any:
    answer = client.get(f"/api/v1/requests/{request_id}/lookalikes")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_pair_is_seen_decided_and_goes(desk: Desk, workspace: Workspace, request_id: str) -> None:
    client = desk.bearer(Role.OFFICER)
    found = pairs(client, request_id)
    assert (found["count"], found["undecided"]) == (1, 1)
    (pair,) = found["pairs"]
    assert (pair["goes"]["path"], pair["goes"]["subjects"]) == (GOES, [PEOPLE[0]])
    assert (pair["alike"]["path"], pair["alike"]["subjects"], pair["decision"]) == (ALIKE, [], None)
    for side in ("goes", "alike"):
        picture = client.get(pair[side]["picture"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
        assert picture.headers["cache-control"] == "no-store"
    at = f"/api/v1/requests/{request_id}"
    named = {"goes": pair["goes"]["sample"], "alike": pair["alike"]["sample"]}
    assert client.get(f"{at}/scope").json()["samples"] == 2
    for decision, goes in (("same", 3), ("different", 2), ("same", 3)):
        decided = client.post(f"{at}/lookalikes", json={**named, "decision": decision})
        assert (decided.status_code, decided.json()) == (200, {**named, "decision": decision})
        assert pairs(client, request_id)["pairs"][0]["decision"] == decision
        assert client.get(f"{at}/scope").json()["samples"] == goes
    intake.approve(workspace, request_id)
    scheduler.run(workspace, scheduler.QueueSelection(ids=(request_id,)), Progress(quiet=True))
    assert client.post(f"{at}/lookalikes", json={**named, "decision": "same"}).status_code == 409
    assert client.get(f"{at}/lookalikes").status_code == 409


def test_without_the_right_nobody_is_named(desk: Desk, request_id: str) -> None:
    (pair,) = pairs(desk.bearer(Role.OFFICER, "pictures.view"), request_id)["pairs"]
    assert {side: (pair[side]["path"], pair[side]["subjects"]) for side in ("goes", "alike")} == {
        "goes": (None, None),
        "alike": (None, None),
    }
    assert desk.signed_in(Role.VIEWER).get(f"/api/v1/requests/{request_id}/lookalikes").status_code == 403
    assert desk.signed_in(Role.VIEWER).get(pair["goes"]["picture"]).status_code == 403


def test_what_is_no_pair(desk: Desk, workspace: Workspace, request_id: str) -> None:
    client = desk.signed_in(Role.OFFICER)
    at = f"/api/v1/requests/{request_id}"
    with workspace.session() as session:
        row = session.scalars(select(SampleRow.id).where(SampleRow.path == GOES)).one()
    for goes, alike, status in ((row, row, 422), (row, 10**6, 404), (row, 2**63, 422), (row, 2**63 - 1, 404)):
        sent = client.post(f"{at}/lookalikes", json={"goes": goes, "alike": alike, "decision": "same"})
        assert sent.status_code == status, sent.text
    assert client.get(f"{at}/pictures/{10**6}").status_code == 404
    assert client.get(f"{at}/pictures/{2**63}").status_code == 422
    assert client.get(f"/requests/{request_id}/pictures/{2**63}.jpg").status_code == 422
    assert desk.signed_in(Role.ADMIN).get(f"/trail?before={2**63}").status_code == 422


def test_pictures_come_from_named_folders_alone(desk: Desk, workspace: Workspace, request_id: str) -> None:
    (pair,) = pairs(desk.bearer(Role.OFFICER), request_id)["pairs"]
    elsewhere = Desk(workspace, ServerSettings(workers=False))
    assert elsewhere.bearer(Role.OFFICER).get(pair["goes"]["picture"]).status_code == 404

# SPDX-License-Identifier: Apache-2.0
"""The API fuzzed from its own description: no fault of the server, no answer that it does not describe.

The long run calls every operation 50 times with what it takes and 50 times with what it does not:
``pytest -m slow tests/web/test_fuzz.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from desk_kit import CHEAP, Desk
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests_kit import PEOPLE, Clock, Paper, add_people
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.python import asgi
from schemathesis.specs.openapi import checks as answers

from expunge.erasure import intake, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.progress import Progress
from expunge.web.auth import passwords
from expunge.web.auth.roles import Role
from expunge.web.jobs import job_store
from expunge.workspace import Workspace

CHECKS: list[Any] = [
    not_a_server_error,
    answers.status_code_conformance,
    answers.content_type_conformance,
    answers.response_headers_conformance,
    answers.response_schema_conformance,
]
OPERATIONS = 48
FEW, MANY = 3, 50
CALLER = "caller"  # an admin whom no call can name: who is closed by one call would see nothing in the next


class World:
    """A desk with something of each kind in it, over models of paper, and what a path can name."""

    def __init__(self, workspace: Workspace) -> None:
        requests = [
            intake.open_request(workspace, ErasureRequest(subjects=(p,)))["request"] for p in PEOPLE[:3]
        ]
        for request in requests[1:]:
            intake.approve(workspace, request)
        scheduler.run(workspace, scheduler.QueueSelection(ids=(requests[2],)), Progress(quiet=True))
        job = job_store.submit(workspace, job_store.RUN, {"requests": requests[1:2]}, "ann")
        with workspace.session(write=True) as session:
            job_store.finish(session, job.id, workspace.clock(), {"requests": []})
        self.desk = Desk(workspace)
        for name in ("ann", "bob"):
            self.desk.account(name, Role.ADMIN)
        self.names = {
            "request_id": requests, "job_id": [job.id], "ref": ["shop", "m", "m@1"], "index": [0],
            "name": ["ann", "bob"], "token_id": ["t-0123456789abcdef"],
            "sample": [1, 2, 3],
        }  # fmt: skip
        self.schema = schemathesis.openapi.from_dict(self.desk.app.openapi())
        self.schema.app = self.desk.app
        self.operations = [found.ok() for found in self.schema.get_all_operations()]
        self.client = asgi.get_client(self.desk.app)  # one for all calls: to start a server takes longer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "HASHER", CHEAP)
        workspace = Workspace(Workspace.init(tmp_path_factory.mktemp("fuzz")).root, Clock())
        add_people(workspace, PEOPLE)
        Paper(workspace).install(patch)
        world = World(workspace)
        with world.client:
            yield world


def fuzz(world: World, number: int, mode: GenerationMode, examples: int) -> None:
    """Call an operation with what its description says it takes, or with what it says it does not take."""
    operation = world.operations[number]
    headers = {"Authorization": world.desk.bearer(Role.ADMIN, name=CALLER).headers["Authorization"]}

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def once(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if mode == GenerationMode.POSITIVE and case.path_parameters:
            for name in case.path_parameters:  # else hardly a call would find anything
                case.path_parameters[name] = data.draw(st.sampled_from(world.names[name]))
        world.client.cookies.clear()
        response = case.call(session=world.client, base_url="http://localhost:8017", headers=headers)
        case.validate_response(response, checks=CHECKS)

    once()


def test_the_operations_are_as_many_as_this_test_takes(world: World) -> None:
    assert len(world.operations) == OPERATIONS


@pytest.mark.parametrize("number", range(OPERATIONS))
def test_an_operation_answers_as_described(world: World, number: int) -> None:
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        fuzz(world, number, mode, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(OPERATIONS))
def test_an_operation_answers_as_described_at_length(world: World, number: int) -> None:
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        fuzz(world, number, mode, MANY)

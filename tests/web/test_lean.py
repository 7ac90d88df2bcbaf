# SPDX-License-Identifier: Apache-2.0
"""A server that verifies a certificate does not load torch, also where weights are to be read for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from requests_kit import PEOPLE, Paper

from expunge.erasure import intake, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.evidence import certificates
from expunge.progress import Progress
from expunge.workspace import Workspace

KIT = Path(__file__).resolve().parents[1]
CODE = """
import json, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from desk_kit import CHEAP, Desk
from expunge.web.auth import passwords
from expunge.web.auth.roles import Role
from expunge.workspace import Workspace
passwords.HASHER = CHEAP
desk = Desk(Workspace.open(Path(sys.argv[1])))
with desk.signed_in(Role.VIEWER) as client:
    sent = Path(sys.argv[2]).read_bytes()
    found = client.post("/api/v1/certificates/verify", content=sent).json()
    page = client.post("/verify", files={"file": sent})
print(json.dumps([found, page.status_code, sorted({"torch", "ultralytics"} & set(sys.modules))]))
"""


def test_verifying_loads_no_torch(workspace: Workspace, paper: Paper) -> None:
    request = intake.open_request(workspace, ErasureRequest(subjects=PEOPLE[:1]))["request"]
    intake.approve(workspace, request)
    scheduler.run(workspace, scheduler.QueueSelection(ids=(request,)), Progress(quiet=True))
    damaged = workspace.root / paper.newest().weights
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no weights")
    arguments = [str(workspace.root), str(certificates.path_of(workspace, request)), str(KIT)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, *arguments], capture_output=True, text=True, check=True
    )
    found, status, heavy = json.loads(done.stdout.splitlines()[-1])
    assert (status, heavy) == (200, [])
    answers = {check["name"]: check["ok"] for check in found["checks"]}
    assert answers["signature"] is True
    assert answers[f"{paper.newest().label}: weights"] is False, "a child read them"
    assert answers[f"{paper.newest('z').label}: weights"] is None, "there are none"

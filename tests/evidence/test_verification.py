# SPDX-License-Identifier: Apache-2.0
"""``expunge.verify`` on committed fixtures, with a certificate and a public key only."""

from __future__ import annotations

import pytest
from evidence.forgery import CERTIFICATE, LOG
from evidence.make_fixtures import FOLDER

from expunge import verify
from expunge.errors import InputError

KEY = FOLDER / "valid" / "public.pem"


def test_a_certificate_is_valid_under_its_public_key() -> None:
    found = verify(FOLDER / "valid" / CERTIFICATE, public_key=KEY)
    assert found["valid"]
    assert {c["ok"] for c in found["checks"]} == {True, None}
    logged = verify(str(FOLDER / "valid" / CERTIFICATE), public_key=str(KEY), log=FOLDER / "valid" / LOG)
    assert {c["name"]: c["ok"] for c in logged["checks"]}["log: entry"]


def test_a_changed_certificate_is_invalid() -> None:
    assert not verify(FOLDER / "payload-date" / CERTIFICATE, public_key=KEY)["valid"]


def test_a_public_key_is_required() -> None:
    with pytest.raises(InputError):
        verify(FOLDER / "valid" / CERTIFICATE)

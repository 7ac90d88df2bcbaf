# SPDX-License-Identifier: Apache-2.0
"""Certificates of unchanged models are not issued, not signed again and not valid."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from evidence.forgery import number, predicate

from expunge.errors import InputError
from expunge.evidence import contradictions, statement
from expunge.evidence.certificates import refuse_unchanged


def stated(**values: Any) -> dict[str, Any]:
    """Return a predicate with other values for its only model."""
    body = copy.deepcopy(predicate())
    body["models"][0].update(values)
    return body


def faults(body: dict[str, Any]) -> dict[str, str]:
    return contradictions.find(statement.decode(statement.encode(json.loads(json.dumps(body)))))


BEFORE = f"sha256:{number('before')}"
AUDITED = {"plan": None, "guarantee": "audited", "verdict": "pass", "audit": {"method": "finetune"}}


@pytest.mark.parametrize("method", ["exact", "finetune", "retrain", "none"])
def test_unchanged_tensors_are_refused(method: str) -> None:
    more = AUDITED if method in ("finetune", "none") else {}
    body = stated(digest=BEFORE, method=method, **more)
    assert set(faults(body)) == {"change"}
    with pytest.raises(InputError, match="nothing was changed") as error:
        refuse_unchanged(body)
    assert "expunge request run r-00000000000000aa" in error.value.next_step


@pytest.mark.parametrize("method", ["exact", "retrain", "none"])
def test_a_model_not_trained_on_erased_data_may_stay_unchanged(method: str) -> None:
    """If a subject is only in val or test, no version is published, and the digest is the same."""
    more = AUDITED if method == "none" else {}
    body = stated(
        model="m@1", digest=BEFORE, weights={"m-1.pt": number("m-1.pt")}, method=method, interim=None
    )
    body["models"][0].update(more)
    assert faults(body) == {}
    refuse_unchanged(body)


def test_a_model_that_waits_for_repair_has_no_digest() -> None:
    body = stated(digest=None, weights={}, guarantee="exact-interim")
    assert "change" not in faults(body)
    refuse_unchanged(body)

# SPDX-License-Identifier: Apache-2.0
"""Building blocks of the fixtures: a statement, a log, and functions that change and sign them.

The keys are derived from known numbers and protect nothing.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge.evidence import dsse, log, manifest, statement
from expunge.evidence.key_store import SigningKey

MINE, FOREIGN, NEXT = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2, 3))
REQUEST, OTHER = "r-00000000000000aa", "r-00000000000000bb"
CERTIFICATE, LOG, HEAD, EARLIER = f"{REQUEST}.json", log.ENTRIES, log.HEAD, "earlier.json"


def number(name: str) -> str:
    """Return an arbitrary digest (hex), derived from a name."""
    return hashlib.sha256(name.encode()).hexdigest()


def predicate(request: str = REQUEST) -> dict[str, Any]:
    """Return the predicate of an exact erasure with an interim model."""
    composition = {"stages": {"0": 2, "1": 2}, "polish": False, "public": False}
    leaves = [bytes.fromhex(number(f"leaf {i}")) for i in range(12)]
    interim = {
        "model": "m@2",
        "digest": f"sha256:{number('interim')}",
        "weights": {"m-2.pt": number("m-2.pt")},
        "composition": {**composition, "stages": {"0": 1, "1": 2}},
    }
    model = {
        "model": "m@3",
        "parent": "m@1",
        "method": "exact",
        "digest": f"sha256:{number('final')}",
        "weights": {"m-3.pt": number("m-3.pt")},
        "parent_digest": f"sha256:{number('before')}",
        "parent_weights": {"m-1.pt": number("m-1.pt")},
        "plan": number("plan"),
        "guarantee": "exact",
        "composition": composition,
        "cost": {"predicted": 0.25, "measured": 0.26},
        "verdict": None,
        "audit": None,
        "interim": interim,
    }
    return {
        "request": request,
        "state": "closed",
        "dates": {
            "received": "2026-03-02T09:00:00+00:00",
            "issued": "2026-03-05T10:30:00+00:00",
            "due": "2026-04-02T09:00:00+00:00",
            "extended": None,
        },
        "method": "auto",
        "dataset": {"before": "shop@1", "after": "shop@2"},
        "removed": {"samples": 3, "subjects": 1},
        "manifest": {
            "algorithm": manifest.ALGORITHM,
            "before": manifest.tree_of(leaves).as_json(),
            "after": manifest.tree_of(leaves[3:]).as_json(),
            "removed": manifest.tree_of(leaves[:3]).as_json(),
        },
        "models": [model],
        "guarantees": {k: v for k, v in statement.GUARANTEES.items() if k != "none"},
        "environment": {number("plan"): {"torch": "2.15.0"}},
        "purged": [],
        "deployments": [],
        "catalog": {"forgotten": True, "suppression": statement.SUPPRESSION},
        "not_covered": list(statement.NOT_COVERED),
    }


def sealed(payload: bytes, key: SigningKey = MINE, kind: str = statement.PAYLOAD_TYPE) -> dict[str, Any]:
    """Return a signed envelope as JSON."""
    return dsse.sign(kind, payload, key).as_json()


def written(value: Any) -> bytes:
    """Return the bytes of a JSON file."""
    return (json.dumps(value, indent=1) + "\n").encode()


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the payload after a change, which need not be valid."""
    content = json.loads(statement.encode(predicate()))
    change(content)
    return json.dumps(content, sort_keys=True).encode()


def resigned(change: Callable[[dict[str, Any]], Any], key: SigningKey = MINE) -> bytes:
    """Return a certificate that was signed after a change."""
    return written(sealed(changed(change), key))


def unsigned(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return a certificate that was changed after signing."""
    envelope = sealed(statement.encode(predicate()))
    return written({**envelope, "payload": base64.b64encode(changed(change)).decode()})


def enveloped(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return a certificate whose envelope was changed."""
    envelope = copy.deepcopy(sealed(statement.encode(predicate())))
    change(envelope)
    return written(envelope)


def events() -> list[log.Event]:
    """Return the log's events: another request and this one, each certified."""
    mine = hashlib.sha256(statement.encode(predicate())).hexdigest()
    others = hashlib.sha256(statement.encode(predicate(OTHER))).hexdigest()
    rows = [
        (number("opened b"), "opened", OTHER, None),
        (others, "certified", OTHER, others),
        (number("opened a"), "opened", REQUEST, None),
        (number("rows a"), "rows-forgotten", REQUEST, number("removed leaves")),
        (mine, "certified", REQUEST, mine),
        (number("opened c"), "opened", "r-00000000000000cc", None),
    ]
    return [
        log.Event(event, kind, request, commitment, f"2026-03-0{1 + i}T10:30:00+00:00")
        for i, (event, kind, request, commitment) in enumerate(rows)
    ]


def lines_of(events: list[log.Event]) -> list[bytes]:
    """Return the log lines of events."""
    return [log.line_of(i, event) for i, event in enumerate(events)]


def joined(lines: list[bytes]) -> bytes:
    """Return the bytes of a log file."""
    return b"".join(line + b"\n" for line in lines)


def head(lines: list[bytes], key: SigningKey = MINE) -> bytes:
    """Return the tree head of any lines, signed at a fixed time."""
    entries = [log.Entry(i, log.Event("", ""), line) for i, line in enumerate(lines)]
    return log.sign_head(entries, key, "2026-03-06T10:30:00+00:00").as_bytes()

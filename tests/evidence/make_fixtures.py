# SPDX-License-Identifier: Apache-2.0
"""Write ``fixtures/``: a valid certificate with its log, and one folder for each kind of tampering.

``PYTHONPATH=tests python tests/evidence/make_fixtures.py`` reproduces the committed files byte for byte. A
folder holds the files that differ from ``valid``.
"""

from __future__ import annotations

import base64
from pathlib import Path

from evidence.contradiction_kinds import Kind, contradictions, model, of
from evidence.forgery import (
    CERTIFICATE,
    EARLIER,
    FOREIGN,
    HEAD,
    LOG,
    MINE,
    OTHER,
    REQUEST,
    changed,
    enveloped,
    events,
    head,
    joined,
    lines_of,
    number,
    predicate,
    resigned,
    sealed,
    unsigned,
    written,
)

from expunge.evidence import log, statement

FOLDER = Path(__file__).parent / "fixtures"


def kinds() -> dict[str, Kind]:
    """Return all kinds of tampering, by name."""
    lines = lines_of(events())
    text = enveloped(lambda e: None)

    def logged(content: list[bytes], check: str, says: str, **files: bytes) -> Kind:
        return Kind({LOG: joined(content), **files}, check, says)

    def dropped(all_events: list[log.Event]) -> list[bytes]:
        return lines_of([*all_events[:3], *all_events[4:]])

    forked = lines_of([events()[0], *events()[2:]])
    swapped = [events()[i] for i in (0, 2, 1, 3, 4, 5)]
    fake = log.Event(number("fake"), "opened", OTHER, None, "2026-03-01T10:30:00+00:00")
    embedded = base64.b64encode(FOREIGN.public.pem).decode()
    doubled = text.replace(b'"payload":', b'"payload": "e30=",\n "payload":', 1)
    twice = changed(lambda s: None).replace(b'"state": "closed"', b'"state": "running", "state": "closed"')
    return {
        # Payload changed after signing: every implementation must refuse it.
        "payload-date": of(
            unsigned(lambda s: s["predicate"]["dates"].update(issued="2026-03-04T10:30:00+00:00")),
            "signature",
            "changed after signing",
            signature=True,
        ),
        "payload-guarantee": of(
            unsigned(model(guarantee="audited")), "signature", "does not fit", signature=True
        ),
        "payload-digest": of(
            unsigned(model(digest=f"sha256:{number('x')}")), "signature", "payload", signature=True
        ),
        "payload-manifest": of(
            unsigned(lambda s: s["predicate"]["manifest"]["after"].update(root=number("x"))),
            "signature",
            "payload",
            signature=True,
        ),
        "payload-request": of(
            unsigned(lambda s: s["predicate"].update(request=OTHER)), "signature", "payload", signature=True
        ),
        "payload-other": of(
            enveloped(lambda e: e.update(payload=sealed(statement.encode(predicate(OTHER)))["payload"])),
            "signature",
            "does not fit",
            signature=True,
        ),
        "payload-base64": of(
            enveloped(lambda e: e.update(payload="%%" + e["payload"][2:])),
            "certificate",
            "payload is not base64",
            signature=True,
        ),
        "payload-type": of(
            enveloped(lambda e: e.update(payloadType="application/json")),
            "payload type",
            "application/json",
            signature=True,
        ),
        "payload-type-signed": of(
            written(sealed(statement.encode(predicate()), kind=log.HEAD_TYPE)), "payload type", "tree-head"
        ),
        # Signature and key.
        "signature-changed": of(
            enveloped(lambda e: e["signatures"][0].update(sig="AAAA" + e["signatures"][0]["sig"][4:])),
            "signature",
            "does not fit",
            signature=True,
        ),
        "signature-base64": of(
            enveloped(lambda e: e["signatures"][0].update(sig="!?")),
            "certificate",
            "signature is not base64",
            signature=True,
        ),
        "signature-of-another": of(
            enveloped(
                lambda e: e.update(signatures=sealed(statement.encode(predicate(OTHER)))["signatures"])
            ),
            "signature",
            "does not fit",
            signature=True,
        ),
        "signature-removed": of(
            enveloped(lambda e: e["signatures"].clear()),
            "certificate",
            "exactly one signature",
            signature=True,
        ),
        "signature-added": of(
            enveloped(
                lambda e: e["signatures"].extend(sealed(statement.encode(predicate()), FOREIGN)["signatures"])
            ),
            "certificate",
            "exactly one signature",
        ),
        "key-foreign": of(resigned(lambda s: None, FOREIGN), "key", "not trusted", signature=True),
        "key-claimed": of(
            written(
                {
                    **sealed(statement.encode(predicate()), FOREIGN),
                    "signatures": [
                        {
                            **sealed(statement.encode(predicate()), FOREIGN)["signatures"][0],
                            "keyid": MINE.public.key_id,
                        }
                    ],
                }
            ),
            "signature",
            "does not fit",
            signature=True,
        ),
        "key-renamed": of(text.replace(b"sha256", b"sha255"), "key", "sha255"),
        "key-embedded": of(
            written({**sealed(statement.encode(predicate()), FOREIGN), "publicKey": embedded}),
            "certificate",
            "publicKey",
            signature=True,
        ),
        # Format.
        "duplicate-in-envelope": of(doubled, "certificate", "'payload' stands twice"),
        "duplicate-in-payload": of(written(sealed(twice)), "statement", "'state' stands twice"),
        "envelope-field-added": of(enveloped(lambda e: e.update(note="all is well")), "certificate", "note"),
        "unsigned-of-before": of(
            written({"format": "expunge-certificate/1", "request": REQUEST, "signed": False}),
            "certificate",
            "not signed",
            signature=True,
        ),
        "file-truncated": of(text[: len(text) // 2], "", "breaks off", signature=True),
        "file-no-json": of(b"This certifies that all is well.\n", "", "not a certificate", signature=True),
        # Content that is wrong under a valid signature.
        "type-other": of(
            resigned(lambda s: s.update(_type="https://in-toto.io/Statement/v0.1")),
            "statement",
            "_type",
            intoto=True,
        ),
        "predicate-other": of(
            resigned(lambda s: s.update(predicateType="https://slsa.dev/provenance/v1")),
            "statement",
            "predicateType",
        ),
        "subject-empty": of(resigned(lambda s: s["subject"].clear()), "statement", "subject", intoto=True),
        "field-added": of(
            resigned(lambda s: s["predicate"].update(note="all is well")), "statement", "predicate.note"
        ),
        "field-missing": of(
            resigned(lambda s: s["predicate"].pop("not_covered")), "statement", "not_covered"
        ),
        "dates-order": of(
            resigned(lambda s: s["predicate"]["dates"].update(issued="2026-03-01T09:00:00+00:00")),
            "dates",
            "'issued' lies before 'received'",
        ),
        "dates-zone": of(
            resigned(lambda s: s["predicate"]["dates"].update(received="2026-03-02T09:00:00")),
            "dates",
            "no time zone",
        ),
        "guarantee-unknown": of(resigned(model(guarantee="certified")), "statement", "guarantee"),
        "guarantee-without-plan": of(
            resigned(model(plan=None)), "guarantees", "'exact' is for models with a plan"
        ),
        "guarantee-without-audit": of(resigned(model(guarantee="audited")), "guarantees", "without an audit"),
        "guarantee-redefined": of(
            resigned(
                lambda s: s["predicate"]["guarantees"].update(exact="The model has forgotten everything.")
            ),
            "guarantees",
            "definition of 'exact'",
        ),
        "digest-of-model": of(resigned(model(digest=f"sha256:{number('x')}")), "subjects", "m@3"),
        "digest-of-file": of(
            resigned(lambda s: s["subject"][0]["digest"].update(sha256=number("x"))), "subjects", "m@2"
        ),
        "manifest-count": of(
            resigned(lambda s: s["predicate"]["manifest"]["removed"].update(leaves=2)),
            "manifest",
            "12 leaves before, less 2, are not 9 after",
        ),
        "manifest-root": of(
            resigned(
                lambda s: s["predicate"]["manifest"]["after"].update(
                    s["predicate"]["manifest"]["before"], leaves=9
                )
            ),
            "subjects",
            "shop@2",
        ),
        **contradictions(),
        "another-request": of(written(sealed(statement.encode(predicate(OTHER)))), "which request", OTHER),
        "not-in-the-log": of(
            resigned(lambda s: s["predicate"]["not_covered"].clear()), "log: entry", "no entry"
        ),
        # The log.
        "log-entry-missing": logged([*lines[:3], *lines[4:]], "log", "entry 3 of the log is missing"),
        "log-entry-missing-renumbered": logged(dropped(events()), "log: tree head", "entries are missing"),
        "log-entry-replaced": logged(
            lines_of([fake, *events()[1:]]), "log: tree head", "changed, replaced or reordered"
        ),
        "log-reordered": logged([lines[1], lines[0], *lines[2:]], "log", "not in its order"),
        "log-reordered-renumbered": logged(lines_of(swapped), "log: tree head", "reordered"),
        "log-appended": logged(
            [*lines, log.line_of(6, fake)], "log: tree head", "last 1 entries are not signed"
        ),
        "log-entry-damaged": logged(
            [*lines[:2], lines[2][:-9], *lines[3:]], "log", "entry 2 of the log is damaged"
        ),
        "log-duplicate-key": logged(
            [*lines[:2], lines[2][:-1] + b',"kind":"closed"}', *lines[3:]],
            "log",
            "entry 2 of the log is damaged",
        ),
        "log-names-somebody": logged(
            [*lines[:2], lines[2].replace(b'"opened"', b'"Ann Smith"'), *lines[3:]],
            "log",
            "entry 2 of the log holds what no event holds",
        ),
        "log-truncated": Kind({LOG: joined(lines)[:-20]}, "log", "breaks off"),
        "log-rolled-back": logged(lines[:2], "consistency", "entries are missing", **{HEAD: head(lines[:2])}),
        "log-forked": logged(forked, "consistency", "forked", **{HEAD: head(forked)}),
        "head-changed": Kind(
            {HEAD: head(lines).replace(b'"payload": "eyJyb290', b'"payload": "eyJ5b290')},
            "log: tree head",
            "signature does not fit",
        ),
        "head-foreign": Kind({HEAD: head(lines, FOREIGN)}, "log: tree head", "not trusted"),
        "head-earlier-changed": Kind(
            {EARLIER: head(lines[:3]).replace(b"eyJyb290", b"eyJ5b290")},
            "consistency",
            "signature does not fit",
        ),
        "head-no-head": Kind({HEAD: text}, "log: tree head", "payload type"),
    }


def valid() -> dict[str, bytes]:
    """Return the valid files."""
    lines = lines_of(events())
    return {
        CERTIFICATE: written(sealed(statement.encode(predicate()))),
        LOG: joined(lines),
        HEAD: head(lines),
        EARLIER: head(lines[:3]),
        "public.pem": MINE.public.pem,
    }


def main() -> None:
    """Write all fixtures."""
    wanted = {"valid": valid(), **{name: kind.files for name, kind in kinds().items()}}
    for name, files in wanted.items():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (FOLDER / name / file).write_bytes(content)


if __name__ == "__main__":
    main()

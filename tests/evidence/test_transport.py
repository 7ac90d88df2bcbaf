# SPDX-License-Identifier: Apache-2.0
"""Changes by transport, which keep the signed bytes, are accepted; changes of signed bytes are reported."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evidence.forgery import (
    CERTIFICATE,
    MINE,
    REQUEST,
    enveloped,
    events,
    head,
    joined,
    lines_of,
    predicate,
    sealed,
    written,
)
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import InputError
from expunge.evidence import dsse, statement
from expunge.evidence.check import Check
from expunge.evidence.key_store import read_public
from expunge.evidence.offline import check_certificate, check_log

TRUSTED = {MINE.public.key_id: MINE.public}
LINES = lines_of(events())
CODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
BLANKS = st.text(" \t\r\n", max_size=4)
Answers = dict[str, Check]


def certified(content: bytes) -> Answers:
    """Return the checks of a certificate under the right key."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CERTIFICATE
        path.write_bytes(content)
        return {check.name: check for check in check_certificate(path, TRUSTED, REQUEST).checks}


def logged(content: bytes, signed: bytes) -> Answers:
    """Return the checks of a log with its tree head, which is also used as the earlier one."""
    return {check.name: check for check in check_log(content, signed, signed, TRUSTED, None)}


def holds(answers: Answers) -> bool:
    return all(check.ok is not False for check in answers.values())


def escaped(text: str) -> str:
    """Return a JSON text with every character of its strings escaped."""
    inside, found = False, []
    for letter in text:
        inside = inside != (letter == '"')
        found.append(f"\\u{ord(letter):04x}" if inside and letter != '"' else letter)
    return "".join(found)


def wrapped(text: str, width: int, end: str) -> str:
    return end.join(text[i : i + width] for i in range(0, len(text), width))


@st.composite
def transports(draw: st.DrawFn) -> Callable[[dict[str, Any]], bytes]:
    """Return a function that writes an envelope in another form."""
    url_safe, bare, width = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from((0, 60, 76)))
    raw, end, coding = (
        draw(st.booleans()),
        draw(st.sampled_from(("\n", "\r\n"))),
        draw(st.sampled_from(CODINGS)),
    )
    order, indent = draw(st.permutations(sorted(dsse.FIELDS))), draw(st.sampled_from((None, 0, 1, 4, "\t")))
    escapes, before, after = draw(st.booleans()), draw(BLANKS), draw(BLANKS)

    def base64_of(text: str) -> str:
        text = text.replace("+", "-").replace("/", "_") if url_safe else text
        text = text.rstrip("=") if bare else text
        return wrapped(text, width, "@" if raw else end) if width else text

    def write(envelope: dict[str, Any]) -> bytes:
        (signature,) = envelope["signatures"]
        found = {
            **envelope,
            "payload": base64_of(envelope["payload"]),
            "signatures": [{"sig": base64_of(signature["sig"]), "keyid": signature["keyid"]}],
        }
        text = json.dumps({name: found[name] for name in order}, indent=indent)
        text = escaped(text) if escapes and not width else text
        text = before + text.replace("\n", end).replace("@", end) + after
        return text.encode(coding)

    return write


@given(transports())
def test_a_transported_envelope_is_valid(write: Callable[[dict[str, Any]], bytes]) -> None:
    assert holds(certified(write(sealed(statement.encode(predicate())))))
    signed = dsse.parse(head(LINES)).as_json()
    assert holds(logged(joined(LINES), write(signed)))


@given(transports(), st.data())
def test_altered_signed_bytes_are_reported(
    write: Callable[[dict[str, Any]], bytes], data: st.DataObject
) -> None:
    """A flipped bit, missing bytes or added bytes of payload or signature are found in every form."""
    envelope = sealed(statement.encode(predicate()))
    (signature,) = envelope["signatures"]
    holder, name = data.draw(st.sampled_from(((envelope, "payload"), (signature, "sig"))))
    content = bytearray(base64.b64decode(holder[name]))
    kind = data.draw(st.sampled_from(("flip", "cut", "add")))
    if kind == "flip":
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content += data.draw(st.binary(min_size=1, max_size=9))
    holder[name] = base64.b64encode(content).decode()
    answers = certified(write(envelope))
    assert answers["signature"].ok is False
    assert "altered" in answers["signature"].detail
    assert "forged" not in str(answers)
    assert "statement" not in answers, "what is not authentic is not interpreted"


@pytest.mark.parametrize(
    ("change", "check", "named"),
    [
        (lambda e: e.update(payloadType="application/json"), "payload type", "application/json"),
        (lambda e: e["signatures"][0].update(keyid="sha256:0"), "key", "sha256:0"),
        (lambda e: e.update(note="x"), "certificate", "note"),
        (lambda e: e.pop("payloadType"), "certificate", "payloadType"),
        (lambda e: e.update(payload=e["payload"] + "="), "certificate", "payload"),
        (lambda e: e.update(payload="A" + e["payload"].rstrip("=")[: 4 * 40]), "certificate", "payload"),
        (lambda e: e.update(payload=7), "certificate", "no text"),
        (lambda e: e["signatures"][0].update(sig="§§"), "certificate", "signature"),
    ],
)
def test_another_change_of_the_envelope_is_named(change: Any, check: str, named: str) -> None:
    answers = certified(enveloped(change))
    assert answers[check].ok is False
    assert named in answers[check].detail


@st.composite
def log_transports(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Return a function that writes a log in another form."""
    end, coding = (
        draw(st.sampled_from(("\n", "\r\n", "\r", "\r\r\n", " \n", "\n\n"))),
        draw(st.sampled_from(CODINGS)),
    )
    last = draw(st.sampled_from(("", "\n", "\r\n", "\n\n\n", " \t\r\n")))

    def write(content: bytes) -> bytes:
        return (content.decode().rstrip("\n").replace("\n", end) + last).encode(coding)

    return write


@given(log_transports())
def test_a_transported_log_is_valid(write: Callable[[bytes], bytes]) -> None:
    answers = logged(write(joined(LINES)), head(LINES))
    assert holds(answers)
    assert answers["log: tree head"].ok is answers["consistency"].ok is True


@given(log_transports(), st.data())
def test_an_altered_line_is_found(write: Callable[[bytes], bytes], data: st.DataObject) -> None:
    content = bytearray(joined(LINES))
    place = data.draw(st.sampled_from([i for i, byte in enumerate(content) if byte != ord("\n")]))
    content[place] = data.draw(st.sampled_from([n for n in range(32, 127) if n != content[place]]))
    answers = logged(write(bytes(content)), head(LINES))
    assert answers["log"].ok is False or answers["log: tree head"].ok is False


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_truncated_log_is_reported(cut: int) -> None:
    answers = logged(joined(LINES)[: -1 - cut], head(LINES))
    assert "breaks off" in answers["log"].detail
    assert logged(joined(LINES[:-1]), head(LINES))["log: tree head"].detail.startswith("entries are missing")


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("around", ["", "\n\n", "the signer's key\n"])
def test_a_transported_public_key_is_read(tmp_path: Path, coding: str, end: str, around: str) -> None:
    file = tmp_path / "signer.pem"
    file.write_bytes((around + MINE.public.pem.decode() + around).replace("\n", end).encode(coding))
    assert read_public(file).key_id == MINE.public.key_id


def test_an_altered_public_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "signer.pem"
    lines = MINE.public.pem.decode().splitlines()
    for text in ("", lines[1], f"{lines[0]}\n{lines[1][:-8]}\n{lines[2]}\n"):
        file.write_text(text)
        with pytest.raises(InputError, match="no public key"):
            read_public(file)


def objects(value: Any) -> list[dict[str, Any]]:
    """Return all JSON objects with at least one name in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, dict) and value else []) + [o for v in inner for o in objects(v)]


def doubled(value: dict[str, Any], number: int) -> bytes:
    """Return JSON text in which the first name of the n-th object is duplicated."""
    objects(value)[number]["@"] = None
    first = next(iter(objects(value)[number]))
    return json.dumps(value).replace('"@": null', f'"{first}": null').encode()


def test_duplicate_names_are_refused() -> None:
    """JSON readers disagree on duplicate names, so they are refused in the envelope and in the payload."""
    payload = statement.encode(predicate())
    for number in range(len(objects(json.loads(payload)))):
        answers = certified(written(sealed(doubled(json.loads(payload), number))))
        assert "twice" in answers["statement"].detail, number
    envelope = sealed(payload)
    for number in range(len(objects(envelope))):
        assert "twice" in certified(doubled(sealed(payload), number))["certificate"].detail


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a":' * 100_000,
        "[" * 100_000,
        '{"a": 1' + "0" * 9999 + "}",
    ],
)
def test_json_that_readers_disagree_on_is_refused(text: str) -> None:
    """Non-finite numbers, lone surrogates and deep nesting are refused in payloads and in envelopes."""
    answers = certified(written(sealed(text.encode())))
    assert answers["signature"].ok is True
    assert answers["statement"].ok is False
    with contextlib.suppress(InputError):  # the file is no object at all
        assert certified(text.encode())["certificate"].ok is False

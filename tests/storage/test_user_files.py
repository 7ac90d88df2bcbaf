# SPDX-License-Identifier: Apache-2.0
"""Files that users name: special ones, and content that is nested or grows without end."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.storage.user_files import (
    NotAFile,
    TooComplex,
    open_text,
    parse_json,
    parse_toml,
    read_bytes,
    read_text,
)
from expunge.storage.user_yaml import parse_yaml

DEEP = 100_000


def nine(i: int) -> str:
    """Nine times the alias of the anchor before."""
    return ", ".join([f"*a{i - 1}" if i else "*a"] * 9)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe, sock, loop = tmp_path / "pipe", tmp_path / "sock", tmp_path / "loop"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        loop.symlink_to(loop)
        for path, kind in (
            (pipe, "pipe"),
            (sock, "socket"),
            (tmp_path, "folder"),
            (Path("/dev/zero"), "device"),
        ):
            for read in (read_bytes, read_text, open_text):
                with pytest.raises(NotAFile, match=kind):
                    read(path)
    for path in (loop, tmp_path / "none"):
        with pytest.raises(OSError, match=path.name):
            read_bytes(path)
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(NotAFile, match="named pipe"):
        read_bytes(tmp_path / "link")


def test_regular_files_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_bytes(file) == b"\xef\xbb\xbfa\r\nb"
    assert read_text(file) == "a\r\nb"
    with open_text(file) as lines:
        assert list(lines) == ["a\r\n", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP + "1" + "}" * DEEP,
        "[" * 200 + "]" * 200,
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_json_is_bounded(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|digits|Expecting"):
        parse_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        "{a: " * DEEP + "1" + "}" * DEEP,
        "- " * 2000 + "1",
        "\n".join(" " * i + f"k{i}:" for i in range(500)),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a [x]\n" + "".join(f"a{i}: &a{i} [{nine(i)}]\n" for i in range(9)),
        "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(500)),
        "a: &a {k: 1}\n" + "".join(
            f"a{i}: &a{i}\n  <<: [{nine(i)}]\n" for i in range(9)
        ),
        "nc: " + "9" * 10_000,
        "nc: 0x" + "f" * 10_000,
        "nc: 1" + ":1" * 10_000,
    ],
)  # fmt: skip
def test_yaml_is_bounded(text: str) -> None:
    with pytest.raises((TooComplex, yaml.YAMLError)):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text", ["a: 2026-99-99", "a: [", "? [a]\n: b", "a: !!binary x", "!!python/name:os.system"]
)
def test_yaml_that_cannot_be_built_is_no_yaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)


def test_ordinary_aliases_are_read() -> None:
    text = "base: &base {a: 1, b: [2, 3]}\none: {<<: *base, a: 4}\ntwo: *base\nempty:\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


def test_toml_is_bounded() -> None:
    assert parse_toml("a = [[1]]") == {"a": [[1]]}
    with pytest.raises(TooComplex):
        parse_toml("a = " + "[" * 5000 + "]" * 5000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=40)
@given(VALUES)
def test_what_is_flat_enough_is_read_as_by_the_libraries(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text) == yaml.safe_load(text)

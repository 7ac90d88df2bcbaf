# SPDX-License-Identifier: Apache-2.0
"""Undoes what mail, editors and version control do to text files: encodings, marks, line ends.

A signature covers the decoded payload of an envelope, and the lines of a log without their ends. None of
these changes alters signed bytes, so none of them may count as tampering.
"""

from __future__ import annotations

import json

MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # a byte order mark, decoded


def text_of(content: bytes) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ValueError: If it is none of these.
    """
    return content.decode(json.detect_encoding(content)).removeprefix(MARK)


def lines_of(content: bytes) -> bytes:
    r"""Return a text file in UTF-8 whose lines end with ``\n``, without empty lines or blanks at their ends.

    A file that cannot be decoded is returned as it is, so that its reader says what is wrong with it.
    """
    try:
        text = text_of(content)
    except ValueError:
        return content
    lines = [line.rstrip(" \t") for line in text.replace("\r", "\n").split("\n")]
    end = "" if lines[-1] else "\n"
    return ("\n".join(line for line in lines if line) + end).encode()

# SPDX-License-Identifier: Apache-2.0
"""Normalise text files after mail, editors or version control: encodings, byte order marks, line ends.

A signature covers the decoded payload of an envelope, and the lines of a log without their ends. Changes
of encoding or line ends do not alter signed bytes, so they must not count as tampering.
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
    r"""Return a text file as UTF-8 with ``\n`` line ends, without empty lines and trailing blanks.

    A file that cannot be decoded is returned unchanged, and its parser reports the error.
    """
    try:
        text = text_of(content)
    except ValueError:
        return content
    lines = [line.rstrip(" \t") for line in text.replace("\r", "\n").split("\n")]
    end = "" if lines[-1] else "\n"
    return ("\n".join(line for line in lines if line) + end).encode()

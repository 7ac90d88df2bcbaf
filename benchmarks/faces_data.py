# SPDX-License-Identifier: Apache-2.0
"""The detection material: the demo's scenes with ORL faces, in a cast of the benchmark's own."""

from __future__ import annotations

from pathlib import Path

from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.data.types import Scan
from expunge.demo.faces import Faces, fetch
from expunge.demo.scenes import Cast, build

PUBLIC = {"few": 6, "middle": 10}


def cast(share: str) -> Cast:
    """Return who appears: ``few`` = 6 public and 18 private people, ``middle`` = 10 and 14.

    The same 24 people are trained on; 6 others are for choosing (val), 10 for reporting (test).
    """
    people = [f"s{i}" for i in range(1, 41)]
    first = PUBLIC[share]
    return Cast(
        public=tuple(people[:first]),
        private=tuple(people[first:24]),
        val=tuple(people[24:30]),
        test=tuple(people[30:40]),
    )


def prepare(root: Path, share: str, without: tuple[str, ...] = ()) -> Scan:
    """Write the data set below ``root`` unless it is there, and return what is in it."""
    chosen = cast(share)
    for person in without:
        chosen = chosen.without(person)
    if not (root / "public.txt").is_file():
        build(root, Faces(fetch()), chosen)
    found = scan(root / "data.yaml")
    table = read_subjects(root / "subjects.csv")
    return attach_subjects(found, table, [str(root / "public.txt")])

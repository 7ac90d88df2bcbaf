# SPDX-License-Identifier: Apache-2.0
"""Assign subjects to samples, from a table or from their paths."""

from __future__ import annotations

import csv
import fnmatch
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from expunge.data.types import Sample, Scan, SubjectTable
from expunge.data.unicode_names import SampleNames
from expunge.errors import InputError
from expunge.storage.user_files import open_text, read_text

MAX_NAMED = 5


def read_subjects(path: Path) -> SubjectTable:
    """Return the content of a CSV file with the header ``sample,subject[,risk][,group…]``, one row per pair.

    Raises:
        InputError: If the file cannot be read, is malformed, or has no row.
    """
    table, shared = SubjectTable(), dict[tuple[str, ...], tuple[str, ...]]()
    try:
        with open_text(path) as file:
            rows = csv.reader(file, strict=True)
            header = _header(path, next(rows, None))
            risk_column = 2 if header[2:3] == ["risk"] else None
            groups = [(i, name) for i, name in enumerate(header) if i >= 2 and i != risk_column]
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                where = f"{path}, line {rows.line_num}"
                if len(row) != len(header):
                    raise InputError(
                        f"{where}: {len(row)} columns.", f"The header has {len(header)}.", "Correct the row."
                    )
                sample, subject = row[0].removeprefix("./"), sys.intern(row[1].strip())
                if not sample or not subject:
                    missing = "sample" if not sample else "subject"
                    raise InputError(
                        f"{where}: no {missing}.", "Each row is a pair of both.", "Correct or remove the row."
                    )
                others = table.subjects.get(sample, ())
                if subject not in others:
                    together = tuple(sorted((*others, subject)))
                    table.subjects[sample] = shared.setdefault(together, together)
                if risk_column is not None and row[risk_column].strip():
                    _add_risk(table, where, subject, row[risk_column])
                given = {name: row[i] for i, name in groups if row[i] != ""}
                if given:
                    _add_groups(table, where, (sample, subject), given)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read.", str(error), "Give a CSV file in UTF-8.") from error
    if not table.subjects:
        raise InputError(
            f"{path} names no subject.",
            "It has a header, and no rows.",
            "Add a row for each pair, or omit the file.",
        )
    return table


def subjects_from_regex(paths: Iterable[str], regex: str) -> SubjectTable:
    """Return the subjects found in paths by a regular expression.

    The subject is the first group of the match, or the whole match. Paths without a match have no subject.

    Args:
        paths: Paths relative to the root.
        regex: The regular expression; it may match anywhere in the path.

    Raises:
        InputError: If the expression is invalid or matches no path.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InputError(
            f"{regex!r} is not a regular expression.", str(error), "Correct --subject-from-path."
        ) from error
    table, shared = SubjectTable(), dict[str, tuple[str, ...]]()
    for path in paths:
        if match := pattern.search(path):
            subject = match.group(1) if pattern.groups else match.group()
            if subject:
                table.subjects[path] = shared.setdefault(subject, (subject,))
    if not table.subjects:
        raise InputError(
            f"{regex!r} finds a subject in no path.",
            "It is applied to each path relative to the root.",
            "Correct --subject-from-path.",
        )
    return table


def attach_subjects(scan: Scan, table: SubjectTable | None, public: Sequence[str] = ()) -> Scan:
    """Return the scan with subjects, risks, groups and public marks.

    Args:
        scan: The scan.
        table: The subjects of the samples, or None if there is no table.
        public: Globs over relative paths, or files that list relative paths, one per line.

    Raises:
        InputError: If the table or a list names unknown samples, a glob matches none, or a public sample
            shows a subject that is not public.
    """
    names = SampleNames([sample.path for sample in scan.samples])
    is_public = _matcher(scan, public, names)
    table = names.renamed(table) if table is not None else None
    known = table.subjects if table is not None else {}
    samples: list[Sample] = []
    seen = 0
    for sample in scan.samples:
        subjects = known.get(sample.path, ())
        seen += sample.path in known
        mark = is_public(sample.path)
        if subjects or mark:  # ``replace`` would take several seconds longer for a million samples
            sample = Sample(
                sample.path, sample.split, sample.image_digest, sample.label_digest, sample.class_name,
                subjects, mark, sample.arrived,
            )  # fmt: skip
        samples.append(sample)
    if seen < len(known):
        _refuse_unknown("The table of subjects names", (path for path in known if path not in names), scan)
    if public:
        _check_public(samples)
    risks, groups = (table.risks, table.groups) if table is not None else ({}, {})
    notes = (*scan.notes, *names.notes())
    return replace(scan, samples=tuple(samples), risks=risks, groups=groups, notes=notes)


def _header(path: Path, header: list[str] | None) -> list[str]:
    names = [name.strip() for name in header or []]
    if names[:2] != ["sample", "subject"] or "" in names or len(set(names)) != len(names):
        raise InputError(
            f"{path} has the wrong header.",
            f"It is {','.join(names) or 'empty'!r}.",
            "The header is sample,subject[,risk][,group…].",
        )
    if "risk" in names[3:]:
        raise InputError(f"{path} has the wrong header.", "'risk' is the third column.", "Move the column.")
    return names


def _add_risk(table: SubjectTable, where: str, subject: str, text: str) -> None:
    try:
        risk = float(text)
    except ValueError:
        risk = math.nan
    if not 0 <= risk <= 1:
        raise InputError(
            f"{where}: the risk is {text!r}.", "A risk lies between 0 and 1.", "Correct the row."
        )
    if table.risks.setdefault(subject, risk) != risk:
        raise InputError(
            f"{where}: the risk of {subject!r} is {risk:g}, and {table.risks[subject]:g} in an earlier row.",
            "A subject has one risk.",
            "Correct one of the rows.",
        )


def _add_groups(table: SubjectTable, where: str, pair: tuple[str, str], given: dict[str, str]) -> None:
    known = table.groups.setdefault(pair, {})
    for name, value in given.items():
        if known.setdefault(name, value) != value:
            raise InputError(
                f"{where}: the pair occurs again, with another {name!r}.",
                "A pair of a sample and a subject has one value in each column.",
                "Correct one of the rows.",
            )


def _matcher(scan: Scan, public: Sequence[str], names: SampleNames) -> Callable[[str], bool]:
    listed: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    for value in public:
        if Path(value).is_file():
            lines = [names.find(line) for line in _lines(Path(value))]
            listed.update(lines)
            _refuse_unknown(f"{value} names", (line for line in lines if line not in names), scan)
        else:
            pattern = glob_pattern(value)
            if not any(pattern.fullmatch(sample.path) for sample in scan.samples):
                raise InputError(
                    f"{value!r} matches no sample.",
                    "--public is a glob over paths relative to the root, or a file that lists such paths.",
                    "Correct it.",
                )
            patterns.append(pattern)
    return lambda path: path in listed or any(pattern.fullmatch(path) for pattern in patterns)


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob as fnmatch does. ``*`` also matches slashes, and ``**/`` also matches no folder."""
    parts = glob.removeprefix("./").split("**/")
    inner = [re.fullmatch(r"\(\?s:(.*)\)\\[zZ]", fnmatch.translate(part), re.DOTALL) for part in parts]
    return re.compile("(?:.*/)?".join(match.group(1) for match in inner if match), re.DOTALL)


def _lines(path: Path) -> list[str]:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read.", str(error), "Give a file of paths, one per line, in UTF-8."
        ) from error
    return [line.removeprefix("./") for line in text.splitlines() if line.strip()]


def _refuse_unknown(what: str, unknown: Iterator[str], scan: Scan) -> None:
    names = sorted(set(unknown))
    if names:
        first = ", ".join(repr(name) for name in names[:MAX_NAMED])
        raise InputError(
            f"{what} {len(names)} samples that do not exist: {first}{' …' if len(names) > MAX_NAMED else ''}",
            f"Paths are relative to the root {scan.root}.",
            "Correct the paths, or remove the rows.",
        )


def _check_public(samples: list[Sample]) -> None:
    private = {subject for sample in samples if not sample.public for subject in sample.subjects}
    for sample in samples:
        if sample.public and not private.isdisjoint(sample.subjects):
            count = len(private.intersection(sample.subjects))
            raise InputError(
                f"{sample.path} is public and also shows a private subject.",
                f"{count} of the subjects in it are in samples that are not public.",
                "Public is for people of whom no erasure is expected: mark all of their samples, or none.",
            )

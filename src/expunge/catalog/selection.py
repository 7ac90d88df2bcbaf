# SPDX-License-Identifier: Apache-2.0
"""Finds what a request means: the one dataset that it concerns, and every sample that goes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import and_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from expunge.catalog.suppression import suppressed_by
from expunge.catalog.tables import SampleRow, SampleSubjectRow, SubjectRow
from expunge.catalog.versions import get_dataset, in_version, iter_samples, list_datasets, not_erased
from expunge.data.types import Version
from expunge.data.unicode_names import forms_of
from expunge.errors import InputError

CHUNK = 500
Key = TypeVar("Key", int, str)


@dataclass(frozen=True)
class Selection:
    """What a request means in one dataset.

    Attributes:
        version: The newest version of the dataset.
        paths: Every sample that goes: all of each subject's, those asked for, and byte-identical copies.
        subjects: The subjects asked for.
        already_erased_by: For each id or path that was erased before, the request that did it.
    """

    version: Version
    paths: frozenset[str]
    subjects: frozenset[str]
    already_erased_by: dict[str, str] = field(default_factory=dict)


def resolve_selection(
    session: Session,
    *,
    key: bytes,
    subjects: Sequence[str] = (),
    sample_paths: Sequence[str] = (),
    listed: Sequence[str] = (),
    class_name: str | None = None,
    dataset: str | None = None,
) -> Selection:
    """Find the one dataset that a request concerns, and all samples that it takes out.

    Args:
        session: A session on the catalog.
        key: The workspace's secret for the suppression list.
        subjects: Ids of subjects.
        sample_paths: Paths relative to the dataset's root, or absolute ones below it.
        listed: Lines of a list: each a sample's path or a subject's id.
        class_name: All samples of a class.
        dataset: Look in this dataset only.
    """
    if dataset is not None:
        get_dataset(session, dataset)
    versions = [v for v in list_datasets(session) if dataset is None or v.name == dataset]
    resolver = _Resolver(session, versions, key, {*subjects, *listed}, {*sample_paths, *listed})
    for subject in subjects:
        resolver.resolve(subject, as_subject=True)
    for path in sample_paths:
        resolver.resolve(path, as_path=True)
    for line in listed:
        resolver.resolve(line, as_subject=True, as_path=True)
    if class_name is not None:
        resolver.resolve_class(class_name)
    return resolver.selection()


class _Resolver:
    """Resolves selectors one after the other; errors are told for all of them together."""

    def __init__(
        self, session: Session, versions: list[Version], key: bytes, subjects: set[str], paths: set[str]
    ) -> None:
        self.session, self.key = session, key
        self.versions = {version.name: version for version in versions}
        self.present: set[tuple[str, str, str]] = set()  # dataset, kind, value
        subjects, paths = _all_forms(subjects), _all_forms(paths)
        for version in versions:
            self.present.update(
                (version.name, "subject", name) for name in _present(session, version, subjects)
            )
            relative = {path for given in paths if (path := relative_path(version, given)) is not None}
            self.present.update(
                (version.name, "sample", path) for path in _present_paths(session, version, relative)
            )
        self.paths: dict[str, set[str]] = {}
        self.subjects: dict[str, set[str]] = {}
        self.erased: dict[str, tuple[str, str]] = {}
        self.unknown: list[str] = []

    def resolve(self, selector: str, *, as_subject: bool = False, as_path: bool = False) -> None:
        """Find a subject's id or a sample's path."""
        found: list[tuple[str, str, str]] = []  # dataset, kind, value
        erased: list[tuple[str, str]] = []  # dataset, request
        for version in self.versions.values():
            values = [("subject", selector)] if as_subject else []
            if as_path and (path := relative_path(version, selector)) is not None:
                values.append(("sample", path))
            for kind, value in values:
                if (known := self._known(version.name, kind, value)) is not None:
                    found.append((version.name, kind, known))
                elif request := suppressed_by(self.session, self.key, kind, version.name, value):
                    erased.append((version.name, request))
        if len(found) > 1:
            names = {name for name, _, _ in found}
            if len(names) > 1:
                raise _several(selector, names)
            raise InputError(
                f"{selector!r} is both a subject and a sample.",
                f"Both are in dataset {found[0][0]!r}.",
                "Name it with --subject or with --sample.",
            )
        if found:
            name, kind, value = found[0]
            (self.subjects if kind == "subject" else self.paths).setdefault(name, set()).add(value)
        elif erased:
            self.erased[selector] = erased[0]
        else:
            self.unknown.append(selector)

    def _known(self, dataset: str, kind: str, value: str) -> str | None:
        """Return the value as the dataset has it: exactly, or under another Unicode normal form."""
        forms = [form for form in forms_of(value) if (dataset, kind, form) in self.present]
        if not forms or forms[0] == value or len(forms) == 1:
            return forms[0] if forms else None
        raise InputError(
            f"{value!r} could mean {len(forms)} names in {dataset!r}.",
            "They look the same and differ in Unicode normalisation (NFC, NFD).",
            "Write the name exactly as the dataset has it.",
        )

    def resolve_class(self, class_name: str) -> None:
        """Find all samples of a class."""
        fitting = [v for v in self.versions.values() if class_name in v.config.names]
        if len(fitting) > 1:
            raise _several(class_name, {version.name for version in fitting})
        if not fitting:
            self.unknown.append(class_name)
            return
        version = fitting[0]
        paths = set(_paths_of_class(self.session, version, class_name))
        if not paths:
            raise InputError(
                f"Class {class_name!r} has no sample in {version.label}.", "", "Nothing needs to be done."
            )
        self.paths.setdefault(version.name, set()).update(paths)

    def selection(self) -> Selection:
        """Return what was found, if it is all in one dataset."""
        if self.unknown:
            shown = ", ".join(repr(selector) for selector in self.unknown[:5])
            more = f" and {len(self.unknown) - 5} more" if len(self.unknown) > 5 else ""
            where = ", ".join(sorted(self.versions)) or "no dataset"
            raise InputError(
                f"Unknown: {shown}{more}.",
                f"No subject or sample of that name is in {where}.",
                "See what is there with: expunge data show NAME",
            )
        names = self.paths.keys() | self.subjects.keys() or {name for name, _ in self.erased.values()}
        if not names:
            raise InputError(
                "The request selects nothing.", "", "Give --subject, --sample, --from or --class."
            )
        if len(names) > 1:
            raise InputError(
                "The request concerns several datasets.",
                f"What it selects is in {', '.join(sorted(names))}.",
                "Make one request for each dataset.",
            )
        version = self.versions[names.pop()]
        subjects, asked = self.subjects.get(version.name, set()), self.paths.get(version.name, set())
        live = in_version(version.dataset_id, version.number)
        asked = asked | self._decided(version, subjects, asked)
        paths, images = set(asked), set()
        for condition in row_conditions(version.dataset_id, subjects, asked):
            for path, image, removed in self.session.execute(
                select(SampleRow.path, SampleRow.image_digest, SampleRow.removed).where(condition)
            ):
                images.add(image)
                if removed is None:
                    paths.add(path)
        for chunk in in_chunks(images):
            paths.update(
                self.session.scalars(select(SampleRow.path).where(live, SampleRow.image_digest.in_(chunk)))
            )
        erased = {selector: request for selector, (_, request) in self.erased.items()}
        return Selection(version, frozenset(paths), frozenset(subjects), erased)

    def _decided(self, version: Version, subjects: set[str], paths: set[str]) -> set[str]:
        """Paths that a person decided to show the same as something that goes (near-duplicates)."""
        from expunge.catalog.decisions import joined

        ids: set[int] = set()
        for condition in row_conditions(version.dataset_id, subjects, paths):
            ids.update(self.session.scalars(select(SampleRow.id).where(condition)))
        return joined(self.session, version, ids) if ids else set()


def _all_forms(names: Iterable[str]) -> set[str]:
    return {form for name in names for form in forms_of(name)}


def _present(session: Session, version: Version, subjects: Iterable[str]) -> Iterator[str]:
    for chunk in in_chunks(subjects):
        yield from session.scalars(
            select(SubjectRow.name)
            .join(SampleSubjectRow, SampleSubjectRow.subject_id == SubjectRow.id)
            .join(SampleRow, SampleRow.id == SampleSubjectRow.sample_id)
            .where(SubjectRow.dataset_id == version.dataset_id, SubjectRow.name.in_(chunk), not_erased())
            .distinct()
        )


def _present_paths(session: Session, version: Version, paths: Iterable[str]) -> Iterator[str]:
    for condition in row_conditions(version.dataset_id, (), paths):
        yield from session.scalars(select(SampleRow.path).where(condition).distinct())


def relative_path(version: Version, selector: str) -> str | None:
    """Return a path given by a person as one relative to the dataset's root, or None if it lies elsewhere."""
    if not selector or "\0" in selector:
        return None
    if posixpath.isabs(selector):
        for root in (version.root, version.root.resolve()):
            relative = os.path.relpath(selector, root)
            if not relative.startswith(".."):
                return posixpath.normpath(relative)
        return None
    return posixpath.normpath(selector)


def _paths_of_class(session: Session, version: Version, class_name: str) -> Iterator[str]:
    from expunge.data.yolo import label_classes, label_file

    index = version.config.names.index(class_name)
    for sample in iter_samples(session, version):
        if version.config.kind == "folders":
            if sample.class_name == class_name:
                yield sample.path
        elif sample.label_digest and index in label_classes(label_file(version.root, sample.path)):
            yield sample.path


def row_conditions(
    dataset_id: int, subjects: Iterable[str], paths: Iterable[str]
) -> Iterator[ColumnElement[bool]]:
    """Yield conditions, in pieces SQLite can take, for all rows not erased yet of some subjects and paths."""
    here = and_(SampleRow.dataset_id == dataset_id, not_erased())
    for chunk in in_chunks(subjects):
        ids = (
            select(SampleSubjectRow.sample_id)
            .join(SubjectRow, SubjectRow.id == SampleSubjectRow.subject_id)
            .where(SubjectRow.dataset_id == dataset_id, SubjectRow.name.in_(chunk))
        )
        yield and_(here, SampleRow.id.in_(ids))
    for chunk in in_chunks(paths):
        yield and_(here, SampleRow.path.in_(chunk))


def retains_image(session: Session, digest: str) -> bool:
    """Say whether any dataset retains a picture with that SHA-256."""
    query = select(SampleRow.id).where(SampleRow.image_digest == digest, SampleRow.removed.is_(None))
    return session.scalar(query.limit(1)) is not None


def in_chunks(values: Iterable[Key]) -> Iterator[list[Key]]:
    """Yield sorted values in lists that fit into one statement."""
    pending = sorted(values)
    for start in range(0, len(pending), CHUNK):
        yield pending[start : start + CHUNK]


def _several(selector: str, names: Iterable[str]) -> InputError:
    return InputError(
        f"{selector!r} is in several datasets.",
        f"They are {', '.join(sorted(names))}.",
        "Say which with --dataset NAME.",
    )

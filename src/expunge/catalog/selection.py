# SPDX-License-Identifier: Apache-2.0
"""Resolve the selectors of a request into one dataset and the samples to erase."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from expunge.catalog.bulk import in_chunks
from expunge.catalog.suppression import suppressed_by
from expunge.catalog.tables import SampleRow, SampleSubjectRow, SubjectRow
from expunge.catalog.versions import get_dataset, in_version, iter_samples, list_datasets, not_erased
from expunge.data.types import Version
from expunge.data.unicode_names import forms_of
from expunge.errors import InputError


@dataclass(frozen=True)
class Selection:
    """The resolved selection of a request.

    Attributes:
        version: The newest version of the dataset.
        paths: Paths of all samples to erase: those of the subjects, selected ones, byte-identical copies.
        subjects: The selected subjects.
        already_erased_by: For each selected id or path that was erased before, the request that erased it.
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
    """Return the dataset that a request concerns and the samples that it erases.

    Args:
        session: A session on the catalog.
        key: The workspace's secret for the suppression list.
        subjects: Ids of subjects.
        sample_paths: Paths relative to the dataset's root, or absolute paths below it.
        listed: Lines of a list; each is a sample's path or a subject's id.
        class_name: Select all samples of this class.
        dataset: Search only this dataset.

    Raises:
        InputError: If a selector is unknown or ambiguous, or the selection is empty or spans datasets.
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
    """Resolves selectors one after the other, and reports unknown ones together."""

    def __init__(
        self, session: Session, versions: list[Version], key: bytes, subjects: set[str], paths: set[str]
    ) -> None:
        self.session, self.key = session, key
        self.versions = {version.name: version for version in versions}
        self.present: set[tuple[str, str, str]] = set()  # dataset, kind, value
        subjects, paths = _all_forms(subjects), _all_forms(paths)
        for version in versions:
            self.present.update(
                (version.name, "subject", name) for name in _present_subjects(session, version, subjects)
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
        """Resolve a subject's id or a sample's path.

        Raises:
            InputError: If the selector is ambiguous.
        """
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
                raise _ambiguous(selector, names)
            raise InputError(
                f"{selector!r} is both a subject and a sample.",
                f"Both are in dataset {found[0][0]!r}.",
                "Select it with --subject or with --sample.",
            )
        if found:
            name, kind, value = found[0]
            (self.subjects if kind == "subject" else self.paths).setdefault(name, set()).add(value)
        elif erased:
            self.erased[selector] = erased[0]
        else:
            self.unknown.append(selector)

    def _known(self, dataset: str, kind: str, value: str) -> str | None:
        """Return the value as spelled in the dataset (any Unicode normal form), or None if it is unknown."""
        forms = [form for form in forms_of(value) if (dataset, kind, form) in self.present]
        if not forms or forms[0] == value or len(forms) == 1:
            return forms[0] if forms else None
        raise InputError(
            f"{value!r} could mean {len(forms)} names in {dataset!r}.",
            "They look the same and differ in Unicode normalisation (NFC, NFD).",
            "Write the name exactly as in the dataset.",
        )

    def resolve_class(self, class_name: str) -> None:
        """Resolve a class to all of its samples.

        Raises:
            InputError: If several datasets have the class, or it has no sample.
        """
        candidates = [v for v in self.versions.values() if class_name in v.config.names]
        if len(candidates) > 1:
            raise _ambiguous(class_name, {version.name for version in candidates})
        if not candidates:
            self.unknown.append(class_name)
            return
        version = candidates[0]
        paths = set(_paths_of_class(self.session, version, class_name))
        if not paths:
            raise InputError(
                f"Class {class_name!r} has no sample in {version.label}.", "", "Nothing needs to be done."
            )
        self.paths.setdefault(version.name, set()).update(paths)

    def selection(self) -> Selection:
        """Return the selection made from all resolved selectors.

        Raises:
            InputError: If a selector is unknown, or the selection is empty or spans several datasets.
        """
        if self.unknown:
            first = ", ".join(repr(selector) for selector in self.unknown[:5])
            more = f" and {len(self.unknown) - 5} more" if len(self.unknown) > 5 else ""
            where = ", ".join(sorted(self.versions)) or "no dataset"
            raise InputError(
                f"Unknown: {first}{more}.",
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
        subjects, selected = self.subjects.get(version.name, set()), self.paths.get(version.name, set())
        in_newest = in_version(version.dataset_id, version.number)
        selected = selected | self._confirmed_duplicates(version, subjects, selected)
        paths, images = set(selected), set()
        for condition in row_conditions(version.dataset_id, subjects, selected):
            for path, image, removed in self.session.execute(
                select(SampleRow.path, SampleRow.image_digest, SampleRow.removed).where(condition)
            ):
                images.add(image)
                if removed is None:
                    paths.add(path)
        for chunk in in_chunks(images):
            paths.update(
                self.session.scalars(
                    select(SampleRow.path).where(in_newest, SampleRow.image_digest.in_(chunk))
                )
            )
        erased = {selector: request for selector, (_, request) in self.erased.items()}
        return Selection(version, frozenset(paths), frozenset(subjects), erased)

    def _confirmed_duplicates(self, version: Version, subjects: set[str], paths: set[str]) -> set[str]:
        """Return the paths of near-duplicates that a user confirmed to show the same as selected samples."""
        from expunge.catalog.decisions import same_samples

        ids: set[int] = set()
        for condition in row_conditions(version.dataset_id, subjects, paths):
            ids.update(self.session.scalars(select(SampleRow.id).where(condition)))
        return same_samples(self.session, version, ids) if ids else set()


def _all_forms(names: Iterable[str]) -> set[str]:
    return {form for name in names for form in forms_of(name)}


def _present_subjects(session: Session, version: Version, subjects: Iterable[str]) -> Iterator[str]:
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
    """Return a user's path relative to the dataset's root, or None if it lies outside the root."""
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
        elif sample.label_digest:
            try:
                found = label_classes(label_file(version.root, sample.path))
            except InputError:
                if sample.split == "train":
                    raise  # the unreadable label may hold the class
                continue  # unreadable samples of val and test are never used
            if index in found:
                yield sample.path


def row_conditions(
    dataset_id: int, subjects: Iterable[str], paths: Iterable[str]
) -> Iterator[ColumnElement[bool]]:
    """Yield conditions for all rows of the given subjects and paths that were not erased.

    Each condition is small enough for one SQLite statement.
    """
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
    """Return whether any dataset still contains an image file with this SHA-256 (hex)."""
    query = select(SampleRow.id).where(SampleRow.image_digest == digest, SampleRow.removed.is_(None))
    return session.scalar(query.limit(1)) is not None


def _ambiguous(selector: str, names: Iterable[str]) -> InputError:
    return InputError(
        f"{selector!r} is in several datasets.",
        f"They are {', '.join(sorted(names))}.",
        "Choose one with --dataset NAME.",
    )

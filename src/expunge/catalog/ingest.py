# SPDX-License-Identifier: Apache-2.0
"""Record a scan of a folder as the next version of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Table, func, insert, select, update
from sqlalchemy.orm import Session

from expunge.catalog.bulk import enlarge_cache, insert_rows
from expunge.catalog.commitments import fresh_salts
from expunge.catalog.dataset_folders import set_folder
from expunge.catalog.difference import Difference, compare, merge_config
from expunge.catalog.engine import begin_write
from expunge.catalog.names import NAME
from expunge.catalog.suppression import SuppressionList
from expunge.catalog.tables import DatasetRow, SampleRow, SampleSubjectRow, SubjectRow, VersionRow
from expunge.catalog.versions import (
    BATCH,
    config_as_json,
    get_version,
    in_version,
    iter_rows,
    not_erased,
    version_of,
)
from expunge.data.types import Scan, Version
from expunge.errors import InputError

SAMPLE_COLUMNS = (
    "id", "dataset_id", "path", "split", "image_digest", "label_digest", "class_name", "public", "arrived",
    "salt",
)  # fmt: skip
LINK_COLUMNS = ("sample_id", "subject_id")


def add_version(
    session: Session,
    name: str,
    scan: Scan,
    *,
    key: bytes,
    full: bool = False,
    new_consent: bool = False,
    skip_erased: bool = False,
    request_id: str | None = None,
    keep_subjects: bool = False,
    keep_public: bool = False,
) -> Version:
    """Record a scan as the first or next version of a dataset. Unchanged content makes no new version.

    Args:
        session: A session on the catalog.
        name: Name of the dataset.
        scan: The files on disk, with subjects attached.
        key: The workspace's secret for the suppression list.
        full: The scan is complete: samples missing from it are removed. By default they are kept.
        new_consent: Erased people in the scan gave new consent; take them off the suppression list.
        skip_erased: Leave erased samples out of the scan.
        request_id: The request that causes the version, if any.
        keep_subjects: The scan has no subjects; known samples keep theirs.
        keep_public: The scan has no public marks; known samples keep theirs.

    Returns:
        The new version, or the newest one if nothing changed.

    Raises:
        InputError: If the name is invalid, the scan holds erased samples or belongs to another dataset, or
            the version would be inconsistent or empty.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a dataset.",
            "A name is letters, digits, '.', '_' and '-', at most 100, and starts with a letter or digit.",
            "Choose another name.",
        )
    begin_write(session)
    if len(scan.samples) > BATCH:
        enlarge_cache(session)
    scan = _without_erased(session, name, scan, key, new_consent=new_consent, skip_erased=skip_erased)
    dataset = session.scalar(select(DatasetRow).where(DatasetRow.name == name))
    current = get_version(session, name) if dataset is not None else None
    if dataset is None or current is None:
        dataset, current = None, None
        config, number = scan.config, 1
        difference = compare(iter(()), scan, config, 1, full=full)
    else:
        _check_same_data(session, dataset, current, scan)
        config, number = merge_config(name, current.config, scan.config), current.number + 1
        rows = iter_rows(session, in_version(dataset.id, current.number))
        difference = compare(
            rows, scan, config, number, full=full, keep_subjects=keep_subjects, keep_public=keep_public
        )
    _check_difference(name, difference)
    if dataset is None:
        dataset = DatasetRow(name=name, kind=config.kind, root=str(scan.root), config=config_as_json(config))
        session.add(dataset)
        session.flush()
    _record_subjects(session, dataset, scan)
    if current is None or difference.digest != current.digest:
        _record(session, dataset, difference, scan, number)
        dataset.config = config_as_json(config)
        row = VersionRow(
            dataset_id=dataset.id,
            number=number,
            parent=current.number if current else None,
            request_id=request_id,
            digest=difference.digest,
            config=config_as_json(config),
            samples=difference.samples,
            subjects=len(difference.subjects),
        )
        session.add(row)
        session.flush()
        current = version_of(dataset, row)
    if scan.groups:
        _update_groups(session, current, scan)
    set_folder(session, dataset, scan.root)
    return replace(current, root=scan.root)


def _without_erased(
    session: Session, name: str, scan: Scan, key: bytes, *, new_consent: bool, skip_erased: bool
) -> Scan:
    suppressed = SuppressionList(session, key, name)
    erased = {sample.path for sample in scan.samples if suppressed.matches(sample)}
    if not erased:
        return scan
    if new_consent:
        suppressed.allow(sample for sample in scan.samples if sample.path in erased)
        return scan
    if skip_erased:
        return replace(scan, samples=tuple(s for s in scan.samples if s.path not in erased))
    raise InputError(
        f"{len(erased)} of the {len(scan.samples)} samples were erased on request and are refused.",
        "They match the suppression list by path, by content or by subject."
        + (
            f" {len(suppressed.from_others)} of the subjects were erased from another dataset: an id counts"
            " in the whole workspace."
            if suppressed.from_others
            else ""
        ),
        "Leave them out with --skip-erased; if the people concerned gave new consent, add --new-consent."
        + (
            " If their ids now stand for other people, give those people other ids."
            if suppressed.from_others
            else ""
        ),
    )


def _check_same_data(session: Session, dataset: DatasetRow, current: Version, scan: Scan) -> None:
    if dataset.kind != scan.config.kind:
        raise InputError(
            f"Dataset {dataset.name!r} is of another kind.",
            f"It holds {_kind(dataset.kind)}; the path given holds {_kind(scan.config.kind)}.",
            "Add the data under another name.",
        )
    if Path(dataset.root) == scan.root:
        return
    digests = {sample.path: sample.image_digest for sample in scan.samples}
    for _, sample in iter_rows(session, in_version(dataset.id, current.number)):
        if digests.get(sample.path) != sample.image_digest:
            raise InputError(
                f"Dataset {dataset.name!r} is the folder {dataset.root}, and the path given is another one.",
                "A moved folder must hold all images of the newest version unchanged;"
                f" {sample.path} is missing or differs.",
                "Give the folder of that dataset, or add this one under another name.",
            )


def _kind(kind: str) -> str:
    return {"yolo": "images with label files", "folders": "a folder for each class"}.get(kind, kind)


def _check_difference(name: str, difference: Difference) -> None:
    if difference.overlap:
        raise InputError(
            f"A public sample of {name!r} also shows a private subject.",
            f"{len(difference.overlap)} subjects are in public samples and in others as well.",
            "Public is for people of whom no erasure is expected: mark all of their samples, or none.",
        )
    if not difference.train:
        raise InputError(
            f"Nothing is left to train on in {name!r}.",
            "The version would have no sample in its train split.",
            "Give a folder with training images.",
        )


def _record_subjects(session: Session, dataset: DatasetRow, scan: Scan) -> None:
    """Insert new subjects. The risk of a known subject is fixed, because placement depends on it."""
    rows = session.execute(
        select(SubjectRow.id, SubjectRow.name, SubjectRow.risk).where(SubjectRow.dataset_id == dataset.id)
    )
    known = {name: (row_id, risk) for row_id, name, risk in rows}
    names = {subject for sample in scan.samples for subject in sample.subjects}
    for name, risk in scan.risks.items():
        if name in known and known[name][1] != risk and name in names:
            row_id = known[name][0]
            if _in_use(session, row_id):
                raise InputError(
                    f"The risk of subject {name!r} differs from the one recorded.",
                    f"Recorded: {known[name][1]}; given now: {risk}. The placement of samples depends on it,"
                    " so it cannot change within a dataset.",
                    "Leave the risk as it was, or add the data under another name.",
                )
            session.execute(update(SubjectRow).where(SubjectRow.id == row_id).values(risk=risk))
    added = [
        {"dataset_id": dataset.id, "name": name, "risk": scan.risks.get(name)}
        for name in sorted(names - known.keys())
    ]
    for batch in _batches(added):
        session.execute(insert(cast(Table, SubjectRow.__table__)), batch)


def _in_use(session: Session, subject_id: int) -> bool:
    query = (
        select(SampleRow.id)
        .join(SampleSubjectRow, SampleSubjectRow.sample_id == SampleRow.id)
        .where(SampleSubjectRow.subject_id == subject_id, not_erased())
        .limit(1)
    )
    return session.scalar(query) is not None


def _record(session: Session, dataset: DatasetRow, difference: Difference, scan: Scan, number: int) -> None:
    for ids, removal in ((difference.missing, "gone"), (difference.changed, "changed")):
        for start in range(0, len(ids), 500):
            session.execute(
                update(SampleRow)
                .where(SampleRow.id.in_(ids[start : start + 500]))
                .values(removed=number, removal=removal)
                .execution_options(synchronize_session=False)
            )
    query = select(SubjectRow.name, SubjectRow.id).where(SubjectRow.dataset_id == dataset.id)
    subject_ids = dict(session.execute(query).all())
    next_id = (session.scalar(select(func.max(SampleRow.id))) or 0) + 1
    samples, links = cast(Table, SampleRow.__table__), cast(Table, SampleSubjectRow.__table__)
    for start in range(0, len(difference.added), BATCH):
        batch = difference.added[start : start + BATCH]
        first = next_id + start
        insert_rows(
            session,
            samples,
            SAMPLE_COLUMNS,
            [
                (
                    first + offset, dataset.id, sample.path, sample.split, sample.image_digest,
                    sample.label_digest, sample.class_name, sample.public, number, salt,
                )
                for offset, (sample, salt) in enumerate(zip(batch, fresh_salts(len(batch)), strict=True))
            ],
        )  # fmt: skip
        pairs = [
            (first + offset, subject_ids[subject], scan.groups.get((sample.path, subject)))
            for offset, sample in enumerate(batch)
            for subject in sample.subjects
        ]
        insert_rows(session, links, LINK_COLUMNS, [pair[:2] for pair in pairs if pair[2] is None])
        names = (*LINK_COLUMNS, "groups")
        if grouped := [dict(zip(names, pair, strict=True)) for pair in pairs if pair[2] is not None]:
            session.execute(insert(links), grouped)


def _update_groups(session: Session, version: Version, scan: Scan) -> None:
    query = (
        select(
            SampleRow.path,
            SubjectRow.name,
            SampleSubjectRow.sample_id,
            SampleSubjectRow.subject_id,
            SampleSubjectRow.groups,
        )
        .join(SampleSubjectRow, SampleSubjectRow.sample_id == SampleRow.id)
        .join(SubjectRow, SubjectRow.id == SampleSubjectRow.subject_id)
        .where(in_version(version.dataset_id, version.number))
    )
    changed = [
        (sample_id, subject_id, scan.groups[path, subject])
        for path, subject, sample_id, subject_id, groups in session.execute(query)
        if (path, subject) in scan.groups and scan.groups[path, subject] != groups
    ]
    for sample_id, subject_id, groups in changed:
        session.execute(
            update(SampleSubjectRow)
            .where(SampleSubjectRow.sample_id == sample_id, SampleSubjectRow.subject_id == subject_id)
            .values(groups=groups)
            .execution_options(synchronize_session=False)
        )


def _batches(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))

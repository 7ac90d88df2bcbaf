# SPDX-License-Identifier: Apache-2.0
"""Read the attributes in the catalog: the additional columns of the table of subjects, by pair.

They are deleted with their pair when a request is closed (:mod:`expunge.erasure.catalog_rows`).
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.bias.groups import Attributes
from expunge.catalog.tables import SampleRow, SampleSubjectRow, SubjectRow
from expunge.catalog.versions import in_version
from expunge.data.types import Version


def stored_attributes(session: Session, version: Version) -> Attributes:
    """Return the attributes of a version's (sample, subject) pairs, erased ones included until closing."""
    query = (
        select(SampleRow.path, SubjectRow.name, SampleSubjectRow.groups)
        .join(SampleSubjectRow, SampleSubjectRow.sample_id == SampleRow.id)
        .join(SubjectRow, SubjectRow.id == SampleSubjectRow.subject_id)
        .where(in_version(version.dataset_id, version.number))
        .order_by(SampleRow.path, SubjectRow.name)
    )
    pairs = {(path, name): values for path, name, values in session.execute(query) if values}
    columns = dict.fromkeys(column for values in pairs.values() for column in values)
    return Attributes(tuple(columns), pairs=pairs)

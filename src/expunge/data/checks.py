# SPDX-License-Identifier: Apache-2.0
"""Read the samples of a dataset and find those that cannot be trained on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import cached_property

from expunge.data.decoding import BadImage, check_image, decode_image
from expunge.data.findings import DUPLICATE_ROWS, Findings, Problem
from expunge.data.label_files import LabelFiles
from expunge.data.labels import BadLabel, decode_label, parse_label
from expunge.data.listing import ListedFile, Listing, is_image
from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError
from expunge.storage.user_files import read_bytes


@dataclass(frozen=True)
class ImageChecks:
    """Options for checking images.

    Attributes:
        decode: Decode the pixels of every image.
        known_good: Returns the :func:`image_key` of every image that was decoded before.
    """

    decode: bool = True
    known_good: Callable[[], Container[str]] = frozenset


@dataclass(frozen=True, slots=True)
class SampleReading:
    """The result of reading one sample.

    Attributes:
        sample: The sample, or None if its image file cannot be read.
        problem: Why the sample cannot be trained on, if it cannot.
        undecoded: The pixels were not decoded, now or before.
        counts: Counts by name, as in :class:`Findings`.
        empty_label: Digest of the label file if it has no row, else empty.
    """

    sample: Sample | None
    problem: Problem | None = None
    undecoded: bool = False
    counts: tuple[tuple[str, int], ...] = ()
    empty_label: str = ""


@dataclass
class ReadingTotals:
    """Sums of the readings of a dataset."""

    samples: list[Sample] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    undecoded: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    empty_labels: set[str] = field(default_factory=set)
    done: int = 0

    def add(self, reading: SampleReading, skip_unreadable: bool, strict: bool) -> None:
        """Add a reading. An unusable sample is refused, left out, or kept in val or test as a problem.

        Args:
            reading: The reading.
            skip_unreadable: Leave unusable samples out of train instead of refusing them.
            strict: Refuse unusable samples of val and test as well.
        """
        self.done += 1
        for name, count in reading.counts:
            self.counts[name] = self.counts.get(name, 0) + count
        problem, sample = reading.problem, reading.sample
        if problem is not None and not skip_unreadable and (strict or problem.split == "train"):
            self.refused.append(problem)
            return
        if problem is not None and (sample is None or problem.split == "train"):
            self.left_out.append(problem)
            return
        assert sample is not None
        if problem is not None:
            self.problems.append(problem)
        self.samples.append(sample)
        self.undecoded += reading.undecoded
        if reading.empty_label:
            self.empty_labels.add(reading.empty_label)

    def findings(self) -> Findings:
        """Return the findings besides the samples."""
        return Findings(
            tuple(self.problems),
            tuple(self.left_out),
            self.counts,
            frozenset(self.empty_labels),
            self.undecoded,
        )


class SampleReader:
    """Reads the samples of a dataset.

    Args:
        listing: The dataset's files.
        digests: SHA-256 by path relative to the root. A file with a digest is not opened.
        checks: Options for checking images.

    Raises:
        InputError: If the dataset's ``kpt_shape`` is malformed.
    """

    def __init__(self, listing: Listing, digests: dict[str, str], checks: ImageChecks) -> None:
        self._root, self._config = str(listing.root), listing.config
        self._digests, self._checks = digests, checks
        has_label_files = listing.config.kind == "yolo"
        self._labels = LabelFiles(listing.root, listing.folders) if has_label_files else None
        self._keypoint_values = keypoint_values(listing.config) if self._labels else 0

    @cached_property
    def known_good(self) -> Container[str]:
        """The keys of the images that were decoded before."""
        return self._checks.known_good()

    def read(self, file: ListedFile) -> SampleReading:
        """Read one sample. This method is thread-safe."""
        counts: list[tuple[str, int]] = []
        digest, undecoded, problem = self._digests.get(file.path), True, None
        if digest is None:
            try:
                content = read_bytes(f"{self._root}/{file.path}")
            except OSError as error:
                return SampleReading(None, Problem(file.path, file.split, file.path, _reason(error), True))
            digest = hashlib.sha256(content).hexdigest()
            undecoded = False
            if image_key(digest, file.path) not in self.known_good:
                undecoded = not self._checks.decode
                try:
                    rewritten = check_image(content, file.path)
                    if self._checks.decode:
                        decode_image(content, file.path, self._config.kind)
                    counts += [("jpeg-end", 1)] if rewritten else []
                except BadImage as error:
                    problem = Problem(file.path, file.split, file.path, str(error), True)
        label = empty = ""
        if self._labels is not None:
            label, empty, label_problem, label_counts = self._read_label(file, self._labels)
            problem, counts = problem or label_problem, counts + label_counts
        sample = Sample(file.path, file.split, digest, label, file.class_name)
        return SampleReading(sample, problem, undecoded, tuple(counts), empty)

    def _read_label(
        self, file: ListedFile, places: LabelFiles
    ) -> tuple[str, str, Problem | None, list[tuple[str, int]]]:
        """Return the label's digest, its digest if the file has no row, its problem if any, and counts."""
        plain = places.plain(file.path)
        if self._digests and (digest := self._digests.get(self._relative(plain))) is not None:
            return digest, "", None, []
        found = places.existing(file.path)
        if not found:
            return "", "", None, []
        counts: list[tuple[str, int]] = []
        linked = places.linked(file.path)
        if linked and found == [plain] and not any(os.path.isfile(place) for place in linked):
            counts.append(("label-beside-link", 1))
        place, digest = self._relative(found[0]), ""
        place = found[0] if place.startswith("..") else place
        try:
            content = read_bytes(found[0])
            digest = hashlib.sha256(content).hexdigest()
            if any(read_bytes(other) != content for other in found[1:]):
                raise BadLabel(None, f"{found[1]} differs from it, and Ultralytics may read that one.")
            rows = parse_label(decode_label(content), len(self._config.names), self._keypoint_values)
        except (OSError, BadLabel) as error:
            line = f", line {error.line}" if isinstance(error, BadLabel) and error.line else ""
            reason = error.reason if isinstance(error, BadLabel) else _reason(error)
            return digest, "", Problem(file.path, file.split, f"{place}{line}", reason, False), counts
        if rows.duplicates:
            counts.append((DUPLICATE_ROWS, rows.duplicates))
        return digest, "" if len(rows.boxes) else digest, None, counts

    def _relative(self, place: str) -> str:
        inside = place.startswith(f"{self._root}/")
        return place[len(self._root) + 1 :] if inside else os.path.relpath(place, self._root)


def image_key(digest: str, path: str) -> str:
    """Return the key of an image for decoding checks: the digest of its bytes and its file suffix."""
    return f"{digest}.{path.rpartition('.')[2].lower()}"


def keypoint_values(config: DatasetConfig) -> int:
    """Return the number of keypoint values in each label row of a pose dataset; 0 for other datasets.

    Raises:
        InputError: If ``kpt_shape`` is not a pair of numbers.
    """
    shape = config.extra.get("kpt_shape")
    if shape is None:
        return 0
    match shape:
        case [int(points), int(values)] if points >= 0 and values >= 0:
            return points * values
    raise InputError(
        "The dataset's 'kpt_shape' cannot be read.",
        f"It is {shape!r}.",
        "Give the number of points and of values for each, such as [17, 3], or leave it out.",
    )


def count_hidden(listing: Listing) -> int:
    """Return the number of hidden images in a classification folder. Ultralytics would read them."""
    count = 0
    for split in sorted({file.path.partition("/")[0] for file in listing.files}):
        for folder, names, files in os.walk(listing.root / split):
            inside = os.path.relpath(folder, listing.root)
            hidden = any(part.startswith(".") for part in inside.split(os.sep))
            count += sum((hidden or name.startswith(".")) and is_image(name) for name in files)
            names.sort()
    return count


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "The file does not exist."
    return error.strerror or str(error)

# SPDX-License-Identifier: Apache-2.0
"""Sizes of the demo: its people, its training and its duration."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.demo.scenes import Cast


@dataclass(frozen=True, slots=True)
class Settings:
    """One size of the demo.

    Attributes:
        subject: The person who withdraws.
        epochs: Epochs over a shard's private pictures.
        public_epochs: Epochs over the public pictures, before the shards.
        ordinary_epochs, ordinary_threads: Epochs and threads of the ordinary training, for comparison.
        minutes: Announced duration on two cores.
        narrow: Train a YOLO26n of half the width.
        options: Further arguments of ``expunge train``.
        more: Further ``KEY=VALUE`` settings of the erasable training.
    """

    cast: Cast
    epochs: int
    public_epochs: int
    ordinary_epochs: int
    minutes: int
    subject: str = "s17"
    shards: int = 3
    slices: int = 2
    narrow: bool = False
    imgsz: int = 128
    batch: int = 8
    seed: int = 0
    options: tuple[str, ...] = ()
    ordinary_threads: int = 1
    more: tuple[str, ...] = ("lr0=0.004", "shard_lr=0.004")

    @property
    def model(self) -> str:
        """The model's name in the report."""
        return "YOLO26n at half its width" if self.narrow else "YOLO26n"


def _people(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"s{number}" for number in range(first, last + 1))


FULL = Settings(
    cast=Cast(
        public=_people(1, 7),
        private=_people(8, 20),
        val=_people(21, 30),
        test=_people(31, 40),
        pairs=(("s12", "s17"), ("s9", "s10"), ("s11", "s19")),
        unseen_scenes=8,
    ),
    epochs=16,
    public_epochs=60,
    ordinary_epochs=25,
    minutes=8,
)

QUICK = Settings(
    cast=Cast(
        public=_people(1, 7),
        private=("s9", "s10", "s12", "s15", "s17", "s19"),
        val=_people(21, 30),
        test=_people(31, 40),
        pairs=(("s12", "s17"),),
        scenes=8,
        unseen_scenes=3,
    ),
    epochs=8,
    public_epochs=42,
    ordinary_epochs=18,
    minutes=3,
    narrow=True,
)

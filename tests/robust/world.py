# SPDX-License-Identifier: Apache-2.0
"""What the tests here start from: one small shop, one training of it, and what undisturbed commands give."""

from __future__ import annotations

from pathlib import Path

from robust import scenes
from robust.commands import Nursery, Shop

TRAIN = (
    "train", "shop", "--name", "m", "--weights", "nano.yaml", "--shards", "2", "--slices", "2",
    "--epochs", "2", "--imgsz", "32", "--batch", "4",
)  # fmt: skip
FORGET = ("forget", "--subject", "s03")
LONG = tuple("100000" if word == "2" and TRAIN[i - 1] == "--epochs" else word for i, word in enumerate(TRAIN))
ADD = ("data", "add", "shop", "data/data.yaml", "--subjects", "data/subjects.csv")


def untrained(nursery: Nursery, folder: Path, **options: object) -> Shop:
    """Make a workspace with a data set (see ``scenes.make`` for the options)."""
    folder.mkdir(parents=True)
    shop = Shop(nursery, folder)
    scenes.make(shop.data, **options)  # type: ignore[arg-type]
    scenes.architecture(folder)
    shop.ok("init", ".")
    shop.ok(*ADD)
    return shop


def trained(nursery: Nursery, folder: Path, **options: object) -> Shop:
    """The same with a model ``m``."""
    shop = untrained(nursery, folder, **options)
    shop.ok(*TRAIN)
    return shop


def newest(shop: Shop, model: str = "m") -> str:
    """Digest of a model's newest version."""
    return str(shop.ok("models", model)["models"][-1]["digest"])


def never(nursery: Nursery, folder: Path, plan: Path, *gone: str, **options: object) -> str:
    """Digest of a training with a plan, elsewhere, on a folder in which some people never were."""
    shop = untrained(nursery, folder, without=gone, **options)
    return str(shop.ok("train", "shop", "--name", "m", "--plan", str(plan))["digest"])


def plan_of(shop: Shop) -> Path:
    """The plan of the only model."""
    (file,) = (shop.root / "plans").glob("*/plan.json")
    return file

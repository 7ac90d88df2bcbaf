# SPDX-License-Identifier: Apache-2.0
"""The story of the demo: pictures, training, a withdrawal, forgetting, proof, report."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from expunge.demo import command, faces, narrow, report, scenes
from expunge.demo.ordinary import train_ordinary
from expunge.demo.report_data import (
    Accuracy,
    Cell,
    Cost,
    Detection,
    Found,
    Proof,
    ReportData,
    Setting,
    State,
    Step,
)
from expunge.demo.scenes import Portraits, Scene
from expunge.demo.settings import Settings
from expunge.demo.sights import Sights
from expunge.errors import InputError
from expunge.exact.plan import Plan, load_plan

MODEL = "detector"
DATASET = "faces"
MARK = ".expunge-demo"
STANDARD = "yolo26n.yaml"
OUTCOMES = {True: "byte for byte the same weights", False: "OTHER weights", None: "not checked"}


class Predict(Protocol):
    """Whoever finds boxes in pictures with some weights."""

    def __call__(self, weights: Path, images: Sequence[Path], imgsz: int) -> list[tuple[Detection, ...]]:
        """Return the detections in each image."""
        ...


def predict(weights: Path, images: Sequence[Path], imgsz: int) -> list[tuple[Detection, ...]]:
    """Find faces with plain Ultralytics."""
    from expunge.tasks.predict import predict_boxes

    found = predict_boxes(weights, list(images), imgsz)
    return [tuple(Detection(box, confidence) for box, confidence in each) for each in found]


def fetched_faces() -> Portraits:
    """Return the ORL faces, downloaded at the first time."""
    return faces.Faces(faces.fetch())


@dataclass(frozen=True)
class Hands:
    """What the story calls to get its work done; the tests put others in their place."""

    portraits: Callable[[], Portraits] = fetched_faces
    run: Callable[..., dict[str, Any]] = command.run
    ordinary: Callable[[Path, Path, Path, Plan, Settings], Mapping[str, float]] = train_ordinary
    predict: Predict = predict


@dataclass
class Story:
    """One run of the demo in ``folder``."""

    folder: Path
    settings: Settings
    say: Callable[[str], None]
    hands: Hands = field(default_factory=Hands)
    steps: list[Step] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def tell(self) -> dict[str, Any]:
        """Run it all. Return the report's path and the figures that matter."""
        started = time.monotonic()
        self._open()
        prepare(self.folder)
        pictures = self._pictures()
        trained, plan = self._train()
        sights = Sights(self.folder / DATASET, pictures, self.settings, self._predict)
        sights.look("before", self._path(trained["weights"]))
        cells = self._dry_run()
        outcome = self._forget()
        sights.look("after", self._path(outcome["weights"]))
        proof, ordinary = self._prove(trained["digest"], outcome, plan)
        interim = outcome["interim"] or {}
        data = ReportData(
            setting=self._setting(pictures),
            date=f"{datetime.date.today():%d %B %Y}",
            interim_seconds=interim.get("seconds"),
            steps=tuple(self.steps),
            pictures=sights.person(),
            comparisons=sights.comparisons(),
            found=Found(len(sights.mine), sights.found("before"), sights.found("after")),
            cells=cells,
            accuracy=accuracies(self.settings.subject, ordinary, outcome),
            cost=Cost(outcome["cost_predicted"], outcome["cost_measured"], trained["cpu_seconds"]),
            proof=proof,
            commands=tuple(self.commands),
        )
        path = self.folder / "report.html"
        report.write(data, path)
        total = time.monotonic() - started
        self.say(f"\nbefore  {proof.before}\nafter   {proof.after}\nreplay  {OUTCOMES[proof.equal]}")
        self.say(f"\nDone in {report.seconds(total)}. The report: {path}")
        return {
            "report": str(path),
            "subject": self.settings.subject,
            "digest_before": proof.before,
            "digest_after": proof.after,
            "equal": proof.equal,
            "interim_seconds": interim.get("seconds"),
            "cost_measured": data.cost.measured,
            "seconds": round(total, 1),
        }

    def _open(self) -> None:
        s = self.settings
        self.say(
            f"A face detector is trained on {len(s.cast.public) + len(s.cast.private)} people. "
            f"One of them, {s.subject}, withdraws.\n"
            f"You will see the training, the erasure of {s.subject}, and the proof: "
            f"byte for byte, the result equals a training that never saw {s.subject}.\n"
            "The faces (4.7 MB) are downloaded once; nothing else is.\n"
            f"It takes about {s.minutes} minutes on two cores and ends with a report: "
            f"{self.folder / 'report.html'}"
        )

    def _pictures(self) -> list[Scene]:
        with self._step("Make the pictures") as done:
            pictures = scenes.build(self.folder / DATASET, self.hands.portraits(), self.settings.cast)
            done(f"{len(pictures)} scenes, with exact boxes and known people.")
        return pictures

    def _train(self) -> tuple[dict[str, Any], Plan]:
        s = self.settings
        with self._step("Train a model that can forget") as done:
            weights = narrow.write(self.folder) if s.narrow else STANDARD
            self._run("init", command.WORKSPACE)
            tables = ("--subjects", f"{DATASET}/subjects.csv", "--public", f"{DATASET}/public.txt")
            self._run("data", "add", DATASET, f"{DATASET}/data.yaml", *tables)
            shape = f"--shards {s.shards} --slices {s.slices} --epochs {s.epochs}"
            size = f"--imgsz {s.imgsz} --batch {s.batch} --seed {s.seed}"
            more = [f"--set {pair}" for pair in (f"public_epochs={s.public_epochs}", *s.more)]
            options = " ".join((shape, size, *more)).split()
            result = self._run("train", DATASET, "--name", MODEL, "--weights", weights, *options, *s.options)
            done(f"{s.model}: a public start, then {s.shards} shards of {s.slices} stages each.")
        return result, load_plan(self._path(result["plan"]))

    def _ordinary(self, plan: Plan) -> Mapping[str, float]:
        """Train what the erasable model is compared with, on a copy: Ultralytics leaves caches there."""
        weights = self._path(narrow.NAME) if self.settings.narrow else Path(STANDARD)
        folder = self.folder / "ordinary"
        data = scenes.write_config(shutil.copytree(self._path(DATASET), folder / DATASET))
        metrics = self.hands.ordinary(data, folder / "run", weights, plan, self.settings)
        shutil.rmtree(folder)
        return metrics

    def _dry_run(self) -> tuple[Cell, ...]:
        who = self.settings.subject
        with self._step("Ask for the price") as done:
            result = self._run("forget", "--subject", who, "--model", MODEL, "--dry-run")
            (model,) = result["models"]
            price = report.percent(model["cost_predicted"])
            done(f"Erasing {who} should cost {price} of a full retraining. A dry run changes nothing.")
        return cells_of(model["map"])

    def _forget(self) -> dict[str, Any]:
        who = self.settings.subject
        with self._step(f"Forget {who}") as done:
            args = ("--subject", who, "--model", MODEL, "--method", "exact", "--yes")
            outcome: dict[str, Any] = self._run("forget", *args)["models"][0]
            interim = outcome["interim"]
            first = (
                f"An interim model without {who} after {report.seconds(interim['seconds'])}; "
                if interim
                else ""
            )
            done(f"{first}the repair ran only the stages that had seen {who}.")
        return outcome

    def _prove(self, before: str, outcome: dict[str, Any], plan: Plan) -> tuple[Proof, Mapping[str, float]]:
        who = self.settings.subject
        with (
            self._step("Prove it, and train an ordinary model to compare") as done,
            ThreadPoolExecutor(1) as beside,
        ):
            # Nothing of what runs now is timed: the two may share the machine.
            ordinary = beside.submit(self._ordinary, plan)
            result = self._run("verify", outcome["model"], "--replay")
            checks = tuple((c["name"], c["ok"], c["detail"] or "") for c in result["checks"])
            replayed = next((ok for name, ok, _ in checks if name.endswith("replay")), None)
            equal = None if replayed is None else bool(result["valid"])
            metrics = ordinary.result()
            done(
                f"Trained from the beginning without {who}: {OUTCOMES[equal]}. Beside it, stock Ultralytics "
                f"learned the same pictures, {who}'s too: it can forget only by starting over."
            )
        interim = outcome["interim"] or {}
        return Proof(before, interim.get("digest"), outcome["digest"], equal, checks), metrics

    def _predict(self, weights: Path, images: Sequence[Path]) -> list[tuple[Detection, ...]]:
        return self.hands.predict(weights, images, self.settings.imgsz)

    def _setting(self, pictures: Sequence[Scene]) -> Setting:
        s = self.settings
        packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "ultralytics"))
        return Setting(
            subject=s.subject,
            model=s.model,
            training_pictures=sum(p.path.startswith("train/") for p in pictures),
            public_people=len(s.cast.public),
            private_people=len(s.cast.private),
            unseen_people=len(s.cast.val) + len(s.cast.test),
            environment=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {packages}",
        )

    def _run(self, *args: str) -> dict[str, Any]:
        self.commands.append(" ".join(("expunge", *args)))
        return self.hands.run(self.folder, *args)

    def _path(self, name: str) -> Path:
        """Return a path that a command named; commands run in the demo's folder."""
        return self.folder / name

    @contextmanager
    def _step(self, title: str) -> Iterator[Callable[[str], None]]:
        self.say(f"\n{len(self.steps) + 1}. {title}")
        begun = time.monotonic()

        def done(meaning: str) -> None:
            spent = time.monotonic() - begun
            self.steps.append(Step(title, meaning, spent))
            self.say(f"   {meaning} ({report.seconds(spent)})")

        yield done


def cells_of(chart: Iterable[Mapping[str, Any]]) -> tuple[Cell, ...]:
    """Return the stages of the training from the dry run's map.

    The person's pictures came in at the first stage of a chain that has to be trained again.
    """
    chains: set[tuple[str, int]] = set()
    cells = []
    for row in sorted(chart, key=lambda row: row["stage"]):
        chain = (row["phase"], row["shard"])
        entry = row["retrained"] and chain not in chains
        if entry:
            chains.add(chain)
        state: State = "retrained" if row["retrained"] else "reused"
        cells.append(Cell(row["phase"], row["shard"], row["stage"], row["images"], entry, state))
    return tuple(cells)


def accuracies(who: str, ordinary: Mapping[str, float], outcome: dict[str, Any]) -> tuple[Accuracy, ...]:
    """Return the accuracy table from the commands' metrics."""

    def row(name: str, note: str, metrics: Mapping[str, float] | None) -> Accuracy:
        found = metrics or {}
        return Accuracy(name, note, found.get("mAP50"), found.get("mAP50-95"))

    interim = outcome["interim"]
    return (
        row("Ordinary training", f"stock Ultralytics, same recipe, {who} in it", ordinary),
        row("Erasable, before", f"{who} in it", outcome["metrics_before"]),
        *([row("Interim", f"at once, without {who}", interim["metrics"])] if interim else []),
        row("Erasable, after", f"repaired, without {who}", outcome["metrics_after"]),
    )


def prepare(folder: Path) -> None:
    """Make an empty folder for the demo; only the folder of an earlier demo is emptied.

    Raises:
        InputError: The folder holds something else.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).exists())):
        raise InputError(
            f"{folder} holds something else than a demo.", "It would be overwritten.", "Choose another --out."
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()

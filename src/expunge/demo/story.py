# SPDX-License-Identifier: Apache-2.0
"""The steps of the demo: make pictures, train, predict the cost, forget, verify, write the report."""

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
from expunge.demo.face_detections import FaceDetections
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
from expunge.errors import InputError
from expunge.training.plan import Plan, load_plan

MODEL = "detector"
DATASET = "faces"
MARK = ".expunge-demo"
STANDARD = "yolo26n.yaml"
OUTCOMES = {True: "byte for byte the same weights", False: "OTHER weights", None: "not checked"}


class Predict(Protocol):
    """A function that runs a detector."""

    def __call__(self, weights: Path, images: Sequence[Path], imgsz: int) -> list[tuple[Detection, ...]]:
        """Return the detections in each image."""
        ...


def predict(weights: Path, images: Sequence[Path], imgsz: int) -> list[tuple[Detection, ...]]:
    """Return the faces that Ultralytics detects in each image."""
    from expunge.tasks.predict import predict_boxes

    found = predict_boxes(weights, list(images), imgsz)
    return [tuple(Detection(box, confidence) for box, confidence in each) for each in found]


def orl_faces() -> Portraits:
    """Return the ORL faces; they are downloaded once."""
    return faces.Faces(faces.fetch())


@dataclass(frozen=True)
class Services:
    """The functions that do the work of the demo; tests replace them."""

    portraits: Callable[[], Portraits] = orl_faces
    run: Callable[..., dict[str, Any]] = command.run
    ordinary: Callable[[Path, Path, Path, Plan, Settings], Mapping[str, float]] = train_ordinary
    predict: Predict = predict


@dataclass
class Story:
    """One run of the demo in ``folder``."""

    folder: Path
    settings: Settings
    say: Callable[[str], None]
    services: Services = field(default_factory=Services)
    steps: list[Step] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Run all steps; return the report's path, the digests and the main figures."""
        started = time.monotonic()
        self._announce()
        prepare(self.folder)
        pictures = self._make_scenes()
        trained, plan = self._train()
        detections = FaceDetections(self.folder / DATASET, pictures, self.settings, self._predict)
        detections.detect("before", self._path(trained["weights"]))
        cells = self._dry_run()
        outcome = self._forget()
        detections.detect("after", self._path(outcome["weights"]))
        proof, ordinary = self._verify(trained["digest"], outcome, plan)
        interim = outcome["interim"] or {}
        data = ReportData(
            setting=self._setting(pictures),
            date=f"{datetime.date.today():%d %B %Y}",
            interim_seconds=interim.get("seconds"),
            steps=tuple(self.steps),
            pictures=detections.erased_pictures(),
            comparisons=detections.comparisons(),
            found=Found(len(detections.erased), detections.found("before"), detections.found("after")),
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

    def _announce(self) -> None:
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

    def _make_scenes(self) -> list[Scene]:
        with self._step("Make the pictures") as done:
            made = scenes.build(self.folder / DATASET, self.services.portraits(), self.settings.cast)
            done(f"{len(made)} scenes, with exact boxes and known people.")
        return made

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
        """Train the ordinary model on a copy of the dataset, since Ultralytics writes caches into it."""
        weights = self._path(narrow.NAME) if self.settings.narrow else Path(STANDARD)
        folder = self.folder / "ordinary"
        data = scenes.write_config(shutil.copytree(self._path(DATASET), folder / DATASET))
        metrics = self.services.ordinary(data, folder / "run", weights, plan, self.settings)
        shutil.rmtree(folder)
        return metrics

    def _dry_run(self) -> tuple[Cell, ...]:
        subject = self.settings.subject
        with self._step("Ask for the price") as done:
            result = self._run("forget", "--subject", subject, "--model", MODEL, "--dry-run")
            (model,) = result["models"]
            price = report.percent(model["cost_predicted"])
            done(f"Erasing {subject} should cost {price} of a full retraining. A dry run changes nothing.")
        return cells_of(model["map"])

    def _forget(self) -> dict[str, Any]:
        subject = self.settings.subject
        with self._step(f"Forget {subject}") as done:
            args = ("--subject", subject, "--model", MODEL, "--method", "exact", "--yes")
            outcome: dict[str, Any] = self._run("forget", *args)["models"][0]
            interim = outcome["interim"]
            first = (
                f"An interim model without {subject} after {report.seconds(interim['seconds'])}; "
                if interim
                else ""
            )
            done(f"{first}the repair ran only the stages that had seen {subject}.")
        return outcome

    def _verify(self, before: str, outcome: dict[str, Any], plan: Plan) -> tuple[Proof, Mapping[str, float]]:
        """Replay the training and train an ordinary model; return the proof and that model's metrics."""
        subject = self.settings.subject
        with (
            self._step("Prove it, and train an ordinary model to compare") as done,
            ThreadPoolExecutor(1) as executor,
        ):
            # Neither run is timed, so they may share the machine.
            ordinary = executor.submit(self._ordinary, plan)
            result = self._run("verify", outcome["model"], "--replay")
            checks = tuple((c["name"], c["ok"], c["detail"] or "") for c in result["checks"])
            replayed = next((ok for name, ok, _ in checks if name.endswith("replay")), None)
            equal = None if replayed is None else bool(result["valid"])
            metrics = ordinary.result()
            done(
                f"Trained from the beginning without {subject}: {OUTCOMES[equal]}. Beside it, stock "
                f"Ultralytics learned the same pictures, {subject}'s too: it can forget only by retraining."
            )
        interim = outcome["interim"] or {}
        return Proof(before, interim.get("digest"), outcome["digest"], equal, checks), metrics

    def _predict(self, weights: Path, images: Sequence[Path]) -> list[tuple[Detection, ...]]:
        return self.services.predict(weights, images, self.settings.imgsz)

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
        return self.services.run(self.folder, *args)

    def _path(self, name: str) -> Path:
        """Return the absolute path for a path in a command's result; commands run in the demo's folder."""
        return self.folder / name

    @contextmanager
    def _step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Announce a step; the yielded function records its explanation and duration."""
        self.say(f"\n{len(self.steps) + 1}. {title}")
        started = time.monotonic()

        def done(meaning: str) -> None:
            elapsed = time.monotonic() - started
            self.steps.append(Step(title, meaning, elapsed))
            self.say(f"   {meaning} ({report.seconds(elapsed)})")

        yield done


def cells_of(chart: Iterable[Mapping[str, Any]]) -> tuple[Cell, ...]:
    """Return the training stages from the dry run's map.

    The first retrained stage of a chain is the one at which the person's pictures were introduced.
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


def accuracies(subject: str, ordinary: Mapping[str, float], outcome: dict[str, Any]) -> tuple[Accuracy, ...]:
    """Return the rows of the accuracy table."""

    def row(name: str, note: str, metrics: Mapping[str, float] | None) -> Accuracy:
        found = metrics or {}
        return Accuracy(name, note, found.get("mAP50"), found.get("mAP50-95"))

    interim = outcome["interim"]
    return (
        row("Ordinary training", f"stock Ultralytics, same recipe, {subject} in it", ordinary),
        row("Erasable, before", f"{subject} in it", outcome["metrics_before"]),
        *([row("Interim", f"at once, without {subject}", interim["metrics"])] if interim else []),
        row("Erasable, after", f"repaired, without {subject}", outcome["metrics_after"]),
    )


def prepare(folder: Path) -> None:
    """Create an empty folder for the demo; the folder of an earlier demo is emptied.

    Raises:
        InputError: If the folder holds other files.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).exists())):
        raise InputError(
            f"{folder} holds something else than a demo.", "It would be overwritten.", "Choose another --out."
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()

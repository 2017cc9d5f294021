"""The catalogue of runs: one folder a run, `runs/SCENARIO/NAME/`, written as things happen and readable at any time.

    scenario.toml    the scenario as it was trained (its labels may be a file's own)
    recipe.toml      how it was trained
    metrics.jsonl    a row a step: step, epoch, loss, learning_rate, gradient_norm, tokens_per_second, seconds
    checkpoint/      the last state of an unfinished training
    adapter/         adapter_config.json and adapter_model.safetensors, as PEFT writes them; or, where the base's own weights learned,
    model/           the whole model, as transformers writes it
    heads.json, heads.safetensors    an encoder's heads
    manifest.json    written last by training, so that its existence means the run is complete
    evaluation.json, predictions.jsonl, README.md    written by the evaluation (the model card)

A run whose files do not match its manifest is damaged: it is listed, never served.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from labkit import files, models, places, scenarios
from labkit.errors import LabError
from labkit.scenarios import Scenario

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Run:
    """One run's folder. Reading is always from disk, so that an object made while training sees what came since."""

    folder: Path

    @property
    def key(self) -> str:
        """How people name it: `SCENARIO/NAME`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def adapter_folder(self) -> Path:
        return self.folder / "adapter"

    @property
    def learned_folder(self) -> Path:
        """Where what was learned lies: the adapter's folder, or the model's where the base's own weights learned."""
        whole = self.folder / "model"
        return whole if whole.is_dir() else self.adapter_folder

    @property
    def weights_path(self) -> Path:
        """The file of the weights that were learned; of a large model the first of several."""
        if self.learned_folder == self.adapter_folder:
            return self.adapter_folder / "adapter_model.safetensors"
        return next(iter(sorted(self.learned_folder.glob("*.safetensors"))), self.learned_folder / "model.safetensors")

    def weights_sha256(self) -> str:
        """The sha256 of what was learned, by the manifest: what a server of this run must have loaded."""
        manifest = self.manifest()
        return (manifest.get("adapter") or manifest["model"])["sha256"]

    def writes(self) -> bool:
        """Whether it answers in words: a chat model, and not an encoder with heads."""
        return self.manifest().get("task", "chat") == "chat"

    @cached_property
    def scenario(self) -> Scenario:
        """The scenario as this run was trained on it."""
        return scenarios.read(self.folder / "scenario.toml")

    def manifest(self) -> dict[str, Any]:
        """What the run is made of; LabError where training has not finished."""
        if not (self.folder / "manifest.json").exists():
            raise LabError(f"run {self.key} is not finished; `labkit build` goes on with it")
        return files.read_json(self.folder / "manifest.json")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line that is still being written is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]

    def evaluation(self) -> dict[str, Any] | None:
        """What the evaluation found, or None where there was none yet."""
        path = self.folder / "evaluation.json"
        return files.read_json(path) if path.exists() else None

    def state(self) -> str:
        """`done`, `damaged`, `training` (a process is at it now) or `stopped` (unfinished, nobody is at it)."""
        if (self.folder / "manifest.json").exists():
            return "damaged" if verify(self) else "done"
        return "training" if _is_locked(self.folder) else "stopped"


def folder_for(scenario: str, name: str) -> Path:
    """Where a run of this name lives; LabError for a name that cannot be a folder's."""
    for part in (scenario, name):
        if not _NAME.fullmatch(part):
            raise LabError(f"{part!r} cannot be a run's name: use letters, digits, dot, dash and underscore, at most 64")
    return places.runs_folder() / scenario / name


def lock(folder: Path):
    """The lock that the process training this run holds; freed by the system when the process dies."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock", timeout=0)


@contextlib.contextmanager
def training(run: Run) -> Iterator[None]:
    """Within the block this process trains the run; LabError where another one does."""
    from filelock import Timeout

    try:
        with lock(run.folder):
            yield
    except Timeout:
        raise LabError(f"run {run.key} is being trained by another process; wait for it or choose another name") from None


def is_finished(run: Run, fingerprint: str, is_same: Callable[[], bool]) -> bool:
    """Whether there is nothing left to train: the run is finished, on data of this fingerprint and by the same recipe.

    Raises:
        LabError: it is damaged, or finished with other data or another recipe.
    """
    if not (run.folder / "manifest.json").exists():
        return False
    problems = verify(run)
    if problems:
        raise LabError(f"run {run.key} is damaged ({'; '.join(problems)}); delete {run.folder} to train it anew")
    if is_same() and run.manifest()["data"]["fingerprint"] == fingerprint:
        return True
    raise LabError(f"run {run.key} is finished already, with another recipe or other data; choose another name, "
                   f"or delete {run.folder}")


def catalogue() -> list[Run]:
    """All runs, the most recently changed first."""
    found = {path.parent for name in ("recipe.toml", "manifest.json") for path in places.runs_folder().glob(f"*/*/{name}")}
    return [Run(folder) for folder in sorted(found, key=lambda folder: (-folder.stat().st_mtime_ns, folder))]


def find(key: str) -> Run:
    """The run `SCENARIO/NAME`, or a scenario's `default` run where only the scenario is given; LabError lists the known ones."""
    known = {run.key: run for run in catalogue()}
    for wanted in (key, f"{key}/default"):
        if wanted in known:
            return known[wanted]
    listed = ", ".join(sorted(known)) or "none yet; `labkit build` trains them"
    raise LabError(f"there is no run {key!r}; known: {listed}")


def verify(run: Run) -> list[str]:
    """What is wrong with a finished run's files: missing or altered (by sha256). Empty means sound.

    Raises:
        LabError: the run is not finished.
    """
    try:
        listed = run.manifest()["files"]
    except (KeyError, TypeError):
        return ["manifest.json does not list the run's files"]
    problems = []
    for name, digest in listed.items():
        path = run.folder / name
        if not path.exists():
            problems.append(f"{name} is missing")
        elif models.hash_file(path) != digest:
            problems.append(f"{name} was altered after training")
    return problems


def _is_locked(folder: Path) -> bool:
    from filelock import Timeout

    if not (folder / ".lock").exists():
        return False
    try:
        with lock(folder):
            return False
    except Timeout:
        return True

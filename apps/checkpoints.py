"""What can be chosen on a page: the base model and the sound, finished runs of a scenario, always read from disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apps.texts import say
from labkit import models, runs, scenarios, serving
from labkit.errors import LabError
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.serving import Engine

BASE = "base"


@dataclass(frozen=True)
class Checkpoint:
    """A base model (`base`, or `base:NAME` where runs use another one than the lab's) or a run (`SCENARIO/NAME`).

    `scenario` asks and reads its answers: a run's is the one it was trained on, whose labels may be its own.
    """

    key: str
    scenario: Scenario
    base_name: str
    run: Run | None = None

    @property
    def name(self) -> str:
        """How people tell it from the scenario's other checkpoints; a folder's path is shortened to its last part."""
        return self.run.folder.name if self.run else Path(self.base_name).name

    @property
    def run_key(self) -> str:
        """How a vote names it: `base`, or the run's key."""
        return self.run.key if self.run else BASE

    def identity(self) -> tuple[str, str]:
        """What an engine must have loaded to answer for it now; LabError where it must not be served."""
        if self.run is None:
            return BASE, models.resolve(self.base_name).sha256
        if problems := runs.verify(self.run):
            raise serving.damaged(self.run, problems)
        return str(self.run.folder), self.run.weights_sha256()

    def open(self) -> Engine:
        """An engine of its own."""
        return serving.open_engine(models.resolve(self.base_name), self.run)


@dataclass(frozen=True)
class Listing:
    """A scenario's checkpoints: those that can answer, and the other runs with their state (see `Run.state`)."""

    available: dict[str, Checkpoint]
    missing: dict[str, str]

    @property
    def newest(self) -> str:
        """The key of the most recently changed run; of the base where there is none."""
        return next((key for key, found in self.available.items() if found.run), BASE)


def listing(scenario_name: str) -> Listing:
    """The checkpoints of a scenario as they are on disk now, bases first, then runs from new to old."""
    scenario = scenarios.load(scenario_name)
    missing: dict[str, str] = {}
    tuned = {found.key: found for found in _runs(scenario_name, missing)}
    others = sorted({found.base_name for found in tuned.values()} - {models.DEFAULT})
    bases = {BASE: Checkpoint(BASE, scenario, models.DEFAULT)}
    bases |= {f"{BASE}:{name}": Checkpoint(f"{BASE}:{name}", scenario, name) for name in others}
    return Listing(bases | tuned, missing)


def find(scenario_name: str, key: str | None) -> Checkpoint:
    """The checkpoint of this key; LabError where it cannot be chosen (any more)."""
    known = listing(scenario_name)
    if key not in known.available:
        state = known.missing.get(key or "", "")
        raise LabError(f"{key} is {state or 'not there'}; choose another checkpoint",
                       f"{key}：{say(f'state_{state}', 'zh') if state else '不存在'}；请选择其他模型")
    return known.available[key]


def _runs(scenario_name: str, missing: dict[str, str]) -> Iterator[Checkpoint]:
    for run in runs.catalogue():
        if run.folder.parent.name != scenario_name:
            continue
        try:
            state = run.state()
            if state == "done" and not run.writes():
                continue  # it gives labels, and cannot be chatted with
            if state == "done":
                yield Checkpoint(run.key, run.scenario, run.manifest()["base"]["name"], run)
                continue
        except (LabError, KeyError, TypeError):  # its files cannot be read as what they should be
            state = "damaged"
        missing[run.key] = state

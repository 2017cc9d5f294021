"""Trying: in this process, or in several that share the study.

A worker takes a trial, runs it, takes the next, until the budget is spent. Workers of their own are fresh processes (`spawn`): nothing of
torch's threads is copied, and what a trial leaves in memory goes with them. Each has its share of the cores. When the process that began
the search dies, they end too.
"""

import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.process import environment
from labkit.training.search import study as studies
from labkit.training.search.plan import Plan
from labkit.training.search.space import Settings, Space
from labkit.training.search.study import Report, Row

Trial = Callable[[Settings, Report], float]
OnTrial = Callable[[Row], None]

_BARREN = 3  # workers that may die in a row without having begun a trial
_LOOK = 0.3  # seconds between two looks at what the workers have finished
_ORPHAN = 3  # exit code of a worker whose parent died


@dataclass(frozen=True)
class Found:
    """What a search has found: `rows` as `study.rows` gives them, and the `direction` in which values are better."""

    rows: list[Row]
    space: Space
    direction: str

    @property
    def best(self) -> Row | None:
        """The whole trial with the best value; None where none is whole."""
        return studies.best(self.rows, self.direction)

    def count(self, state: str) -> int:
        return sum(row["state"] == state for row in self.rows)


def search(trial: Trial, space: Space, *, folder: str | os.PathLike, trials: int = 20, seconds: float = 0.0, workers: int = 1,
           on_trial: OnTrial | None = None, stop: threading.Event | None = None, **options: Any) -> Found:
    """Try settings until the budget is spent; where the folder holds a search already, go on with it.

    Args:
        trial: called with the settings that vary and with `report(step, value)`, which raises `optuna.TrialPruned` where the trial should
            be given up; gives the value. With several workers it must be picklable: a function of a module, or an instance of a class
            of one.
        folder: of the search.
        trials: settings tried in all, counting those of earlier calls; 0: no limit but `seconds` (and a grid's end).
        seconds: of this call, after which no trial begins; 0: no limit.
        workers: processes; 1: this one.
        on_trial: called with the row of each trial that ended in this call.
        stop: when set, no trial begins; those running are ended, and tried again when the search goes on.
        options: see `plan.Plan`: sampler, pruner, reduction, direction, storage, name, seed, identity, first.

    Raises:
        LabError: the settings cannot be, the storage cannot be used or holds another search, five trials in a row failed and none worked,
            or workers die before they begin.
    """
    if type(workers) is not int or workers < 1:
        raise LabError(f"search: workers must be a whole number of at least 1, not {workers!r}")
    if not trials and not seconds and options.get("sampler") != "grid":
        raise LabError("search: name a number of trials, or seconds, or both")
    plan = Plan(Path(folder), space, trials, time.time() + seconds if seconds else 0.0, **options)
    study = studies.begin(plan)
    before = {row["number"] for row in studies.rows(study, space) if row["state"] not in ("running", "waiting")}
    tell = _Teller(plan, study, before, on_trial)
    if workers == 1:
        _alone(plan, study, trial, stop, tell)
    else:
        _together(plan, study, trial, workers, stop, tell)
    with studies.asking(plan):
        studies.give_back(plan, study)
    return Found(studies.rows(study, space), space, plan.direction)


def read(space: Space, folder: str | os.PathLike, **options: Any) -> Found:
    """What a search has found so far; LabError where the folder holds none. May be called while it runs."""
    plan = Plan(Path(folder), space, **options)
    if not plan.storage and not (Path(folder) / "study.sqlite").exists():
        raise LabError(f"{folder} holds no search")
    return Found(studies.rows(studies.load(plan), space), space, plan.direction)


class _Teller:
    """Calls `on_trial` once for each trial that has ended."""

    def __init__(self, plan: Plan, study, told: set[int], on_trial: OnTrial | None) -> None:
        self.plan, self.study, self.told, self.on_trial = plan, study, told, on_trial

    def __call__(self) -> None:
        if self.on_trial is None:
            return
        for row in studies.rows(self.study, self.plan.space):
            if row["number"] not in self.told and row["state"] not in ("running", "waiting"):
                self.told.add(row["number"])
                if row["state"] != "twice":
                    self.on_trial(row)


def _alone(plan: Plan, study, trial: Trial, stop: threading.Event | None, tell: Callable[[], None]) -> None:
    with studies.worker(plan) as who:
        _work(plan, study, who, _stoppable(trial, stop) if stop else trial, stop, tell)


class _Stopped(BaseException):
    """Ends a trial from inside `report`; as an interruption does, it leaves the trial to be tried again."""


def _stoppable(trial: Trial, stop) -> Trial:
    def stopped(settings: Settings, report: Report) -> float:
        def looking(step: int, value: float) -> None:
            if stop.is_set():
                raise _Stopped
            report(step, value)

        return trial(settings, looking)

    return stopped


def _work(plan: Plan, study, who: str, trial: Trial, stop, tell: Callable[[], None]) -> None:
    failed = 0
    try:
        while not (stop is not None and stop.is_set()):
            asked = studies.take(plan, study, who)
            if asked is None:
                return
            failed = failed + 1 if studies.run(plan, study, asked, trial) == "failed" else 0
            tell()
            studies.check_hopeful(plan, study, failed)
    except _Stopped:
        return


def _together(plan: Plan, study, trial: Trial, workers: int, stop: threading.Event | None, tell: Callable[[], None]) -> None:
    """Keep so many workers alive until all have ended by themselves; raises what stopped one of them."""
    _check_picklable(trial)
    context = multiprocessing.get_context("spawn")
    ended, barren, alive = 0, 0, []
    stopping = context.Event()
    try:
        while True:
            if stop is not None and stop.is_set():
                stopping.set()
            while len(alive) + ended < workers:
                alive.append(_start(context, plan, trial, workers, stopping))
            if not alive:
                return
            multiprocessing.connection.wait([process.sentinel for process, _, _ in alive], timeout=_LOOK)
            tell()
            for entry in [entry for entry in alive if not entry[0].is_alive()]:
                process, pipe, begun = entry
                process.join()
                alive.remove(entry)
                _raise_what(pipe)
                if process.exitcode == 0:
                    ended += 1
                    continue
                barren = 0 if begun < _begun(study) else barren + 1
                if barren >= _BARREN:
                    raise LabError(f"search: {barren} workers in a row have died before they began a trial "
                                   f"(exit code {process.exitcode}); is there memory enough? use fewer workers")
    finally:
        for process, _, _ in alive:
            process.terminate()
        for process, _, _ in alive:
            process.join()
        tell()


def _begun(study) -> int:
    return sum("worker" in trial.user_attrs for trial in study.get_trials(deepcopy=False))


def _start(context, plan: Plan, trial: Trial, workers: int, stopping):
    """A worker, the pipe on which it says why it failed, and how many trials had begun before it."""
    ours, theirs = context.Pipe(duplex=False)
    begun = _begun(studies.load(plan))
    process = context.Process(target=_worker, args=(plan, trial, theirs, stopping), daemon=False)
    with _threads(max(1, cores() // workers)):
        process.start()
    theirs.close()
    return process, ours, begun


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(count: int) -> AbstractContextManager[None]:
    """What is started meanwhile computes with so many threads; fewer where the environment asks for fewer."""
    had = os.environ.get("OMP_NUM_THREADS", "")
    return environment("OMP_NUM_THREADS", str(min(count, int(had)) if had.isdigit() else count))


def _worker(plan: Plan, trial: Trial, pipe, stopping) -> None:
    """What a process of its own does: exit code 0 where nothing is left to do, 1 where it says on the pipe what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the workers
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(_ORPHAN)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        with studies.worker(plan) as who:
            _work(plan, studies.load(plan), who, _stoppable(trial, stopping), stopping, lambda: None)
    except LabError as error:
        pipe.send(("lab", str(error)))
        sys.exit(1)
    except Exception:
        pipe.send(("bug", traceback.format_exc()))
        sys.exit(1)


def _raise_what(pipe) -> None:
    """Raise what a worker said went wrong; one that was killed said nothing."""
    try:
        kind, said = pipe.recv() if pipe.poll() else ("", "")
    except EOFError:
        return
    if kind == "lab":
        raise LabError(said)
    if kind == "bug":
        raise RuntimeError(f"a worker of the search failed:\n{said}")


def _check_picklable(trial: Trial) -> None:
    """LabError where other processes could not be given the trial."""
    advice = "with several workers a trial must be a function of a module (a file), or an instance of a class of one; or use workers=1"
    try:
        pickle.dumps(trial)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise LabError(f"search: {advice} ({error})") from None
    home = getattr(trial, "__module__", type(trial).__module__)
    if home == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise LabError(f"search: {advice}")




def run_all(trial: Trial, jobs: list[Settings], workers: int = 1) -> Iterator[tuple[int, float]]:
    """Run the trial with each of these settings, without pruning; gives (place, value) as they are done.

    Raises:
        LabError: as the trial does, a value is not a finite number, or a worker died.
    """
    if workers == 1 or len(jobs) < 2:
        for place, settings in enumerate(jobs):
            yield place, _whole(trial, settings)
        return
    _check_picklable(trial)
    context = multiprocessing.get_context("spawn")
    with _threads(max(1, cores() // workers)), futures.ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        begun = {pool.submit(_whole, trial, settings): place for place, settings in enumerate(jobs)}
        try:
            for done in futures.as_completed(begun):
                yield begun[done], done.result()
        except futures.process.BrokenProcessPool:
            raise LabError("search: a worker died while seeds were repeated; what was measured is kept: start again") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _whole(trial: Trial, settings: Settings) -> float:
    value = float(trial(settings, lambda step, value: None))
    if not math.isfinite(value):
        raise LabError(f"search: with {settings} the value is not a finite number")
    return value

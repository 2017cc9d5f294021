"""What has been tried: one Optuna study, in a SQLite file or a database by URL, that any number of workers share.

Optuna suggests, prunes and keeps. What is added here is that a search can be killed at any moment and goes on:

- A worker holds a lock that the system frees when its process dies. A trial that runs without its worker is lost: it is marked failed, and
  its settings are queued again (three times at most: settings that kill every worker must not stop the search).
- Taking a trial is one step under a lock: taking back what dead workers had, the budget, the suggestion, the comparison with all that was
  tried. So the same settings are never tried twice, and a budget of 20 is 20.
- The sampler is made anew for each trial, seeded by the search's seed and the number of trials before. A search that was killed therefore
  suggests what it would have suggested, and does not repeat the beginning of its random numbers.

Workers on several machines share a database by URL. A lock of another machine cannot be seen, so their trials also carry the time at which
they were last alive, and are lost after two minutes of silence (`SILENCE`).
This module knows nothing about what a trial is.
"""

import hashlib
import itertools
import math
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.training.search import plan as plans
from labkit.training.search.plan import Plan
from labkit.training.search.space import Settings, Space

if TYPE_CHECKING:
    import optuna

Row = dict[str, Any]
Report = Callable[[int, float], None]

TRIES = 3  # how often settings are tried whose worker dies
SILENCE = 120.0  # seconds after which a trial on another machine is lost
_BEAT = 20.0  # seconds between two signs of life
_SAME = 3  # suggestions in a row that were tried already, after which something untried is drawn
_ALL_SAME = 100  # the same, of a space without end, after which the search ends
_GRID = 10_000
_FAILURES = 5  # trials in a row that may fail before any has worked


def begin(plan: Plan) -> "optuna.Study":
    """The study, made where it is not there yet, with what must be tried first in its queue.

    Raises:
        LabError: the storage cannot be used, a package is missing, or it holds a search of something else.
    """
    import optuna

    Path(plan.folder, "locks").mkdir(parents=True, exist_ok=True)
    plans.sampler(plan, 0)
    with asking(plan):
        storage = plans.storage(plan)
        study = optuna.create_study(storage=storage, study_name=plan.name, direction=plan.direction.replace("ise", "ize"),
                                    load_if_exists=True, pruner=plans.pruner(plan))
        identity = files.canonical_json({"space": plan.space.plain(), "defaults": plan.space.default(), "direction": plan.direction,
                                         **plan.identity})
        had = study.user_attrs.get("identity")
        if had is None:
            study.set_user_attr("identity", identity)
        elif had != identity:
            raise LabError(f"{plans.place(plan)} holds a search with other settings, another recipe or other data; "
                           "choose another name, or delete it")
        known = {files.canonical_json(row["parameters"]) for row in rows(study, plan.space)}
        for settings in _to_queue(plan):
            parameters = plan.space.active(settings)
            if files.canonical_json(parameters) not in known:
                study.enqueue_trial(parameters)
    return study


def load(plan: Plan) -> "optuna.Study":
    """The study that `begin` made, as a worker opens it."""
    import optuna

    return optuna.load_study(storage=plans.storage(plan), study_name=plan.name, pruner=plans.pruner(plan))


@contextmanager
def asking(plan: Plan) -> Iterator[None]:
    """Only one worker of this machine is in here at a time."""
    from filelock import FileLock

    with FileLock(Path(plan.folder) / "locks" / "asking.lock"):
        yield


@contextmanager
def worker(plan: Plan) -> Iterator[str]:
    """A worker's name, and the lock that says it is alive while the block runs."""
    from filelock import FileLock

    name = uuid.uuid4().hex[:12]
    path = Path(plan.folder) / "locks" / f"{name}.lock"
    with FileLock(path):
        yield f"{socket.gethostname()}:{name}"
    path.unlink(missing_ok=True)


def take(plan: Plan, study: "optuna.Study", who: str) -> "optuna.Trial | None":
    """The next trial for this worker, with its settings suggested (`Plan.space`); None where the budget is spent, or all was tried."""
    import optuna

    with asking(plan):
        give_back(plan, study)
        for attempt in itertools.count(1):
            known = rows(study, plan.space)
            counted = [row for row in known if row["state"] not in ("lost", "twice", "waiting")]
            waiting = any(row["state"] == "waiting" for row in known)
            if (plan.trials and len(counted) >= plan.trials) or (plan.deadline and time.time() >= plan.deadline):
                return None
            if plan.sampler == "grid" and not waiting:
                return None
            study.sampler = plans.sampler(plan, sum(row["state"] != "lost" for row in known))
            trial = study.ask()
            settings = plan.space.suggest(trial)
            if all(row["settings"] != settings for row in counted):
                trial.set_user_attr("worker", who)
                trial.set_user_attr("seen", time.time())
                return trial
            trial.set_user_attr("twice", True)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if _is_small(plan) and attempt >= _SAME and not waiting:
                untried = _untried(plan, counted)
                if not untried:
                    return None
                study.enqueue_trial(plan.space.active(untried[0]))
            elif attempt >= _ALL_SAME:
                return None


def give_back(plan: Plan, study: "optuna.Study") -> int:
    """Mark the trials of dead workers as failed, and queue their settings again; gives how many were lost. Under `asking`.

    May itself be killed anywhere: what is marked and not yet queued is queued the next time.
    """
    import optuna

    lost = 0
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if not _is_alive(plan, trial):
            study._storage.set_trial_user_attr(trial._trial_id, "lost", True)  # Optuna has no public way for a trial of another process
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
            lost += 1
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again") for trial in trials}
    for trial in trials:
        if trial.user_attrs.get("lost") and trial.number not in again and trial.user_attrs.get("tries", 1) < TRIES:
            parameters = trial.params or trial.system_attrs.get("fixed_params", {})
            study.enqueue_trial(parameters, user_attrs={"again": trial.number, "tries": trial.user_attrs.get("tries", 1) + 1})
    return lost


def run(plan: Plan, study: "optuna.Study", asked: "optuna.Trial", trial: Callable[[Settings, Report], float]) -> str:
    """Try the settings of `asked` and keep what came out; gives the new state: `complete`, `pruned` or `failed`.

    A LabError, or a value that is not a finite number, fails the trial and is kept as its `error`. Any other exception fails it and is
    raised: it is a bug. An interruption leaves the trial to be tried again.
    """
    import optuna

    settings = {**plan.space.default(), **asked.params}
    states = optuna.trial.TrialState

    def report(step: int, value: float) -> None:
        if not math.isfinite(value):
            raise LabError(f"the value reported at step {step} is not a finite number")
        asked.report(value, step)
        if asked.should_prune():
            raise optuna.TrialPruned

    beating = threading.Event()
    if not plan.is_local:
        threading.Thread(target=_beat, args=(asked, beating), daemon=True).start()
    try:
        value = float(trial(settings, report))
        if not math.isfinite(value):
            raise LabError("the trial's value is not a finite number")
    except optuna.TrialPruned:
        study.tell(asked, state=states.PRUNED, skip_if_finished=True)
        return "pruned"
    except Exception as error:
        asked.set_user_attr("error", str(error).splitlines()[0] if str(error) else type(error).__name__)
        study.tell(asked, state=states.FAIL, skip_if_finished=True)
        if isinstance(error, LabError):
            return "failed"
        raise
    finally:
        beating.set()
    study.tell(asked, value, skip_if_finished=True)
    return "complete"


def check_hopeful(plan: Plan, study: "optuna.Study", failed_in_a_row: int) -> None:
    """LabError where so many trials have failed, and none has worked, that the next would fail too."""
    known = rows(study, plan.space)
    if failed_in_a_row >= _FAILURES and not any(row["state"] in ("complete", "pruned") for row in known):
        error = next((row["error"] for row in reversed(known) if row["error"]), "")
        raise LabError(f"search: {failed_in_a_row} trials in a row have failed and none has worked: {error}")


def rows(study: "optuna.Study", space: Space) -> list[Row]:
    """All trials as plain values, in the order of their numbers.

    A row: `number`, `state` (`complete`, `pruned`, `failed`, `running`, `waiting`; `lost`, of a worker that died, tried again under another
    number; `twice`, a suggestion that was tried before and so was not run), `value` (of a pruned trial the last one reported; None where
    there is none), `settings` (all that vary), `parameters` (those whose condition holds), `reports` ([step, value] pairs), `seconds`,
    `again` (the number of the lost trial that this one repeats, or None), `error`.
    """
    found = []
    for trial in study.get_trials(deepcopy=False):
        given = trial.params or trial.system_attrs.get("fixed_params", {})
        settings = {**space.default(), **given}
        ends = (trial.datetime_start, trial.datetime_complete)
        seconds = None if None in ends else (ends[1] - ends[0]).total_seconds()
        found.append({"number": trial.number, "state": _state(trial), "value": trial.value if trial.values else None, "settings": settings,
                      "parameters": space.active(settings), "reports": [list(pair) for pair in sorted(trial.intermediate_values.items())],
                      "seconds": seconds, "again": trial.user_attrs.get("again"), "error": trial.user_attrs.get("error", "")})
    return found


def best(found: list[Row], direction: str) -> Row | None:
    """The whole trial with the best value, the first of equals; None where none is whole."""
    whole = [row for row in found if row["state"] == "complete"]
    return min(whole, key=lambda row: row["value"] if direction == "minimise" else -row["value"]) if whole else None


def _state(trial: "optuna.trial.FrozenTrial") -> str:
    for name in ("twice", "lost"):
        if trial.user_attrs.get(name):
            return "failed" if name == "lost" and trial.user_attrs.get("tries", 1) >= TRIES else name
    return {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}[trial.state.name]


def _is_alive(plan: Plan, trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether the worker of a running trial lives. One without a worker was being taken by a process that died: one takes at a time."""
    who = trial.user_attrs.get("worker")
    if who is None:
        began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return not plan.is_local and time.time() - began < SILENCE
    host, name = who.rsplit(":", 1)
    if host == socket.gethostname():
        return _is_held(Path(plan.folder) / "locks" / f"{name}.lock")
    return time.time() - trial.user_attrs.get("seen", 0.0) < SILENCE


def _is_held(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            pass
    except Timeout:
        return True
    path.unlink(missing_ok=True)
    return False


def _beat(asked: "optuna.Trial", done: threading.Event) -> None:
    while not done.wait(_BEAT):
        asked.set_user_attr("seen", time.time())


def _is_small(plan: Plan) -> bool:
    """Whether all combinations can be gone through."""
    return plan.space.size is not None and plan.space.size <= _GRID


def _untried(plan: Plan, counted: list[Row]) -> list[Settings]:
    """The combinations that are left, in no order that favours any setting."""
    tried = {files.canonical_json(row["settings"]) for row in counted}
    return [settings for settings in _shuffled(plan, plan.space.grid()) if files.canonical_json(settings) not in tried]


def _shuffled(plan: Plan, found: Iterable[Settings]) -> list[Settings]:
    return sorted(found, key=lambda settings: hashlib.sha256(files.canonical_json([plan.seed, settings]).encode()).digest())


def _to_queue(plan: Plan) -> list[Settings]:
    """What is tried first; of a grid all of it, in an order that does not favour any setting."""
    first = list(plan.first)
    if plan.sampler != "grid":
        return first
    if (plan.space.size or 0) > _GRID:
        raise LabError(f"the grid has up to {plan.space.size:,} combinations, more than {_GRID:,}; use fewer values, or another sampler")
    found = _shuffled(plan, plan.space.grid())
    return [settings for settings in first if settings in found] + [settings for settings in found if settings not in first]

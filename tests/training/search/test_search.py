"""The search on toy trials: budget, pruning, several processes, kill -9, going on."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.training.search import study as studies
from labkit.training.search import workers
from labkit.training.search.plan import Plan
from tests.training.search import toys

ROOT = Path(__file__).parents[3]


def settings_of(found, *states):
    return [json.dumps(row["settings"], sort_keys=True) for row in found.rows if not states or row["state"] in states]


def test_the_same_seed_suggests_the_same_and_the_best_is_kept(tmp_path):
    search = lambda name, seed: workers.search(toys.bowl, toys.space_of(), folder=tmp_path / name, trials=9, seed=seed)  # noqa: E731
    one, two, other = search("one", 1), search("two", 1), search("other", 2)
    assert settings_of(one) == settings_of(two) != settings_of(other)
    whole = [row["value"] for row in one.rows if row["state"] == "complete"]
    assert one.best["value"] == min(whole) and len(one.rows) == 9


def test_a_tree_of_densities_comes_nearer_with_time(tmp_path):
    found = workers.search(toys.bowl, toys.space_of(), folder=tmp_path, trials=24, pruner="none")
    values = [row["value"] for row in found.rows]
    assert sum(values[-8:]) < sum(values[:6])  # the first six are drawn at random


def test_directions_are_kept(tmp_path):
    upward = workers.search(lambda settings, report: -toys.bowl(settings, lambda step, value: None), toys.space_of(), trials=8,
                            folder=tmp_path, direction="maximise")
    assert upward.best["value"] == max(row["value"] for row in upward.rows)


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_pruning_ends_bad_trials_early(tmp_path, pruner):
    steps = []

    def counted(settings, report):
        steps.append(0)

        def counting(step, value):
            steps[-1] = step
            report(step, value)

        return toys.bowl(settings, counting)

    found = workers.search(counted, toys.space_of(), folder=tmp_path, trials=12, pruner=pruner, sampler="random")
    pruned = [row for row in found.rows if row["state"] == "pruned"]
    assert pruned and found.count("pruned") + found.count("complete") == 12
    assert [len(row["reports"]) for row in found.rows] == steps  # a pruned trial's code really stopped there
    assert min(len(row["reports"]) for row in pruned) < 5
    mean = lambda state: sum(row["value"] for row in found.rows if row["state"] == state) / found.count(state)  # noqa: E731
    assert mean("pruned") > mean("complete")


def test_a_search_goes_on_where_it_was_left_and_tries_nothing_twice(tmp_path):
    path = str(tmp_path / "log")
    trial, space = toys.Logged(path), toys.space_of()
    first = workers.search(trial, space, folder=tmp_path / "s", trials=5, pruner="none")
    told = []
    both = workers.search(trial, space, folder=tmp_path / "s", trials=9, pruner="none", on_trial=told.append)
    assert both.rows[:5] == first.rows and [row["number"] for row in told] == [5, 6, 7, 8]
    whole = workers.search(toys.Logged(str(tmp_path / "log2")), space, folder=tmp_path / "whole", trials=9, pruner="none")
    assert settings_of(both) == settings_of(whole)  # as if it had not been left
    assert len({json.dumps(note[3]) for note in toys.notes(path)}) == len(toys.notes(path)) // 2 == 9


def test_a_small_space_ends_when_all_was_tried(tmp_path):
    space = toys.space_of({"rank": [4, 8, 16], "alpha": [1, 2]})
    found = workers.search(lambda settings, report: float(settings["rank"] + settings["alpha"]), space, folder=tmp_path, trials=50)
    tried = sorted((row["settings"]["rank"], row["settings"]["alpha"]) for row in found.rows if row["state"] == "complete")
    assert tried == [(rank, alpha) for rank in (4, 8, 16) for alpha in (1, 2)]
    assert found.best["settings"] == {"rank": 4, "alpha": 1}


def test_a_space_with_an_end_on_one_side_only_goes_on_on_the_other(tmp_path):
    space = toys.space_of({"optimiser": ["adamw", "sgd"], "momentum": {"low": 0.5, "high": 0.9, "only_if": {"optimiser": "sgd"}}})
    found = workers.search(lambda settings, report: settings["optimiser"] == "sgd", space, folder=tmp_path, trials=6, sampler="random")
    whole = [row["settings"]["optimiser"] for row in found.rows if row["state"] == "complete"]
    assert sorted(whole) == ["adamw", *["sgd"] * 5]


def test_a_grid_tries_every_combination_and_goes_on_with_those_left(tmp_path):
    space = toys.space_of({"rank": [4, 8, 16], "alpha": {"low": 1, "high": 4}})
    total = lambda settings, report: float(settings["rank"] + settings["alpha"])  # noqa: E731
    half = workers.search(total, space, folder=tmp_path, trials=5, sampler="grid")
    assert half.count("complete") == 5 and half.count("waiting") == 7
    found = workers.search(total, space, folder=tmp_path, trials=0, sampler="grid")
    assert sorted((row["settings"]["rank"], row["settings"]["alpha"]) for row in found.rows) == [
        (rank, alpha) for rank in (4, 8, 16) for alpha in (1, 2, 3, 4)]
    assert found.best["settings"] == {"rank": 4, "alpha": 1} and found.count("complete") == 12


def test_what_is_named_first_is_tried_first(tmp_path):
    space = toys.space_of()
    first = {"learning_rate": 0.01, "rank": 4}
    found = workers.search(toys.bowl, space, folder=tmp_path, trials=3, first=(first,))
    assert found.rows[0]["settings"] == first and found.rows[0]["value"] == 0


def test_a_search_of_something_else_is_not_gone_on_with(tmp_path):
    workers.search(toys.bowl, toys.space_of(), folder=tmp_path, trials=1, identity={"data": "a"})
    with pytest.raises(LabError, match="another recipe or other data"):
        workers.search(toys.bowl, toys.space_of(), folder=tmp_path, trials=1, identity={"data": "b"})


def test_a_failed_trial_is_kept_with_its_reason_and_the_search_goes_on(tmp_path):
    def picky(settings, report):
        if settings["rank"] == 8:
            raise LabError("no rank of 8")
        return float("nan") if settings["rank"] == 16 else 1.0

    found = workers.search(picky, toys.space_of({"rank": [4, 8, 16]}), folder=tmp_path, sampler="grid", trials=0)
    assert {row["settings"]["rank"]: (row["state"], row["error"]) for row in found.rows} == {
        4: ("complete", ""), 8: ("failed", "no rank of 8"), 16: ("failed", "the trial's value is not a finite number")}


def test_a_search_in_which_nothing_works_ends_with_the_reason(tmp_path):
    with pytest.raises(LabError, match="5 trials in a row have failed and none has worked: no such data"):
        workers.search(toys.broken, toys.space_of(), folder=tmp_path, trials=50)


def test_a_bug_in_a_trial_is_raised(tmp_path):
    with pytest.raises(KeyError):
        workers.search(toys.buggy, toys.space_of(), folder=tmp_path / "one", trials=2)


def test_a_bug_in_a_trial_of_another_process_is_raised_with_its_trace(tmp_path):
    with pytest.raises(RuntimeError, match="KeyError"):
        workers.search(toys.buggy, toys.space_of(), folder=tmp_path / "two", trials=2, workers=2)


def test_seconds_end_a_search(tmp_path):
    at = time.monotonic()
    found = workers.search(toys.Logged(str(tmp_path / "log"), 0.2), toys.space_of(), folder=tmp_path, trials=0, seconds=1.0)
    assert 1 < time.monotonic() - at < 5 and 1 <= len(found.rows) <= 5


def test_a_stop_leaves_the_trial_to_be_tried_again(tmp_path):
    stop, space = threading.Event(), toys.space_of()

    def stopping(settings, report):
        if len(begun) == 2 and not stop.is_set():
            stop.set()
        begun.append(settings)
        report(1, 1.0)
        return 1.0

    begun = []
    found = workers.search(stopping, space, folder=tmp_path, trials=5, stop=stop, pruner="none")
    assert [row["state"] for row in found.rows] == ["complete", "complete", "lost", "waiting"]
    found = workers.search(stopping, space, folder=tmp_path, trials=5, pruner="none")
    assert found.count("complete") == 5 and begun[3] == begun[2] and found.rows[3]["again"] == 2


def test_two_workers_share_storage_and_cores_and_one_that_is_killed_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = str(tmp_path / "log")
    found = workers.search(toys.Logged(path, 0.3, dies_at=5), toys.space_of(), folder=tmp_path / "s", trials=10, workers=2, pruner="none")
    notes = toys.notes(path)
    assert found.count("complete") == 10
    lost = [row for row in found.rows if row["state"] == "lost"]
    repeated = [row for row in found.rows if row["again"] is not None]
    assert len(lost) == len(repeated) == 1 and repeated[0]["again"] == lost[0]["number"]
    assert repeated[0]["settings"] == lost[0]["settings"] and repeated[0]["state"] == "complete"
    ended = [json.dumps(note[3]) for note in notes if note[0] == "end"]
    assert len(ended) == len(set(ended)) == 10
    assert len({note[1] for note in notes}) >= 2 and os.getpid() not in {note[1] for note in notes}
    assert {note[2] for note in notes} == {str(max(1, workers.cores() // 2))}


@pytest.fixture()
def queue(tmp_path):
    """A plan and its study, to be taken from as a worker would that then dies: nobody holds a lock of that name."""
    plan = Plan(tmp_path, toys.space_of({"rank": [4, 8, 16]}), trials=3, pruner="none")
    return plan, studies.begin(plan), f"{socket.gethostname()}:nobody"


def states(queue):
    return [row["state"] for row in studies.rows(queue[1], queue[0].space)]


def test_settings_whose_worker_dies_every_time_are_given_up(queue):
    plan, study, dead = queue
    taken = [plan.space.suggest(studies.take(plan, study, dead)) for _ in range(studies.TRIES)]
    assert taken[0] == taken[1] == taken[2]
    assert plan.space.suggest(studies.take(plan, study, dead)) != taken[0]
    assert states(queue) == ["lost", "lost", "failed", "running"]


def test_a_worker_that_dies_while_it_takes_a_trial_does_not_hold_it(queue):
    plan, study, dead = queue
    study.ask()  # and no worker's name yet
    with studies.asking(plan):
        assert studies.give_back(plan, study) == 1
    assert states(queue) == ["lost", "waiting"]


def test_a_death_between_marking_a_trial_and_queueing_it_again_is_made_good(queue, monkeypatch):
    plan, study, dead = queue
    settings = plan.space.suggest(studies.take(plan, study, dead))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(study, "enqueue_trial", lambda *given, **named: (_ for _ in ()).throw(KeyboardInterrupt))
        studies.take(plan, study, dead)
    assert states(queue) == ["lost"]
    assert plan.space.suggest(studies.take(plan, study, dead)) == settings


def test_a_worker_that_lives_keeps_its_trial_and_a_late_result_of_a_dead_one_does_not_count(queue):
    plan, study, dead = queue
    with studies.worker(plan) as who:
        first = studies.take(plan, study, who)
        plan.space.suggest(first)
        studies.take(plan, study, dead)
        studies.take(plan, study, dead)
        assert states(queue)[0] == "running"
    with studies.asking(plan):
        studies.give_back(plan, study)
    assert states(queue)[0] == "lost"
    assert studies.run(plan, study, first, lambda settings, report: 1.0) == "complete"
    assert states(queue)[0] == "lost"


def test_a_killed_search_takes_its_workers_with_it_and_goes_on(tmp_path):
    path = str(tmp_path / "log")
    code = ("from tests.training.search import toys\nfrom labkit.training.search import workers\nfrom pathlib import Path\n"
            "if __name__ == '__main__':\n"
            f"    workers.search(toys.Logged({path!r}, 0.3), toys.space_of(), folder=Path({str(tmp_path / 's')!r}), trials=8, workers=2,\n"
            "                   pruner='none')\n")
    (tmp_path / "search.py").write_text(code)
    process = subprocess.Popen([sys.executable, tmp_path / "search.py"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 60
    while time.monotonic() < until and sum(note[0] == "end" for note in toys.notes(path)) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # longer than a trial: whoever was still at work would have gone on
    before = toys.notes(path)
    time.sleep(0.7)
    assert toys.notes(path) == before
    kept = settings_of(workers.read(toys.space_of(), tmp_path / "s"), "complete")
    found = workers.search(toys.Logged(path), toys.space_of(), folder=tmp_path / "s", trials=8, pruner="none")
    run = [json.dumps(note[3], sort_keys=True) for note in toys.notes(path)[len(before):] if note[0] == "end"]
    assert kept and len(kept) + len(run) == 8 and not set(kept) & set(run)  # what was kept is not run again, all else is
    assert sorted(kept + run) == sorted(settings_of(found, "complete")) and found.count("running") == 0
    begun = {json.dumps(note[3], sort_keys=True) for note in before}
    assert begun <= set(settings_of(found, "complete"))  # nothing that was cut off is lost


def test_what_a_search_has_found_can_be_read_while_it_runs(tmp_path):
    space, seen = toys.space_of(), []

    def looking(settings, report):
        seen.append([row["state"] for row in workers.read(space, tmp_path).rows])
        return 1.0

    workers.search(looking, space, folder=tmp_path, trials=2)
    assert seen == [["running"], ["complete", "running"]]
    with pytest.raises(LabError, match="holds no search"):
        workers.read(space, tmp_path / "none")


@pytest.mark.parametrize(("options", "says"), [
    ({"sampler": "magic"}, "sampler must be one of"), ({"pruner": "magic"}, "pruner must be one of"), ({"trials": 0}, "trials, or seconds"),
    ({"workers": 0}, "workers"), ({"reduction": 1}, "reduction"), ({"direction": "up"}, "direction"),
    ({"storage": "nonsense"}, "cannot be used"), ({"storage": "sqlite:////nowhere/at/all.sqlite"}, "cannot be used"),
])
def test_a_wrong_option_is_named(tmp_path, options, says):
    with pytest.raises(LabError, match=says):
        workers.search(toys.bowl, toys.space_of(), folder=tmp_path, **options)


def test_a_trial_that_no_other_process_can_have_is_refused(tmp_path):
    with pytest.raises(LabError, match="workers=1"):
        workers.search(lambda settings, report: 1.0, toys.space_of(), folder=tmp_path, workers=2)


def test_a_storage_by_url_holds_several_searches(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    for name in ("a", "b"):
        workers.search(toys.bowl, toys.space_of(), folder=tmp_path / name, trials=2, storage=url, name=name)
    assert [len(workers.read(toys.space_of(), tmp_path / name, storage=url, name=name).rows) for name in ("a", "b")] == [2, 2]


@pytest.mark.skipif(not os.environ.get("LABKIT_TEST_POSTGRESQL"), reason="LABKIT_TEST_POSTGRESQL names no database")
def test_two_workers_share_a_postgresql_database(tmp_path):
    name = f"test-{os.getpid()}-{time.time_ns()}"
    found = workers.search(toys.bowl, toys.space_of(), folder=tmp_path, trials=6, workers=2, name=name,
                           storage=os.environ["LABKIT_TEST_POSTGRESQL"])
    assert found.count("complete") + found.count("pruned") == 6

"""The job journal: nothing that was enqueued is lost. (What the server itself enqueues is tested in test_webhook.py.)"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.labeling.argilla_side import jobs

SIDE = Path(jobs.__file__).parents[1]


@pytest.fixture
def journal(tmp_path):
    opened = jobs.Journal(tmp_path / "jobs.sqlite").open()
    yield opened
    opened.close()


def retry(tries, *intervals):
    return SimpleNamespace(max=tries, intervals=list(intervals))


def test_a_job_comes_back_with_its_arguments_in_order_of_queueing(journal):
    queue = jobs.Queue("default", journal)
    identity, moment = uuid.uuid4(), datetime(2026, 1, 2, 3, 4, 5, 678)
    first = queue.enqueue_call(json.dumps, (identity, "文"), {"at": moment, "data": {"a": [1, None]}})
    second = queue.enqueue_call(json.loads, ("[]",))
    assert [job.get_status(refresh=True) for job in (first, second)] == ["queued", "queued"] and len(queue) == 2
    taken, function, arguments = journal.take("default")
    assert (taken, function) == (first.id, "json:dumps")
    assert json.loads(arguments, object_hook=jobs._untagged) == [[identity, "文"], {"at": moment, "data": {"a": [1, None]}}]
    assert journal.take("default")[0] == second.id and journal.take("default") is None


json_like = st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.uuids() | st.datetimes(),
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3), max_leaves=8)


@settings(max_examples=50, deadline=None)
@given(json_like)
def test_arguments_are_the_same_after_the_file(value):
    kept = json.dumps(value, default=jobs._tagged)
    assert json.loads(kept, object_hook=jobs._untagged) == value


def test_an_argument_that_cannot_be_kept_is_refused_when_it_is_enqueued(journal):
    with pytest.raises(TypeError, match="cannot be a set"):
        jobs.Queue("default", journal).enqueue_call(json.dumps, ({1, 2},))
    assert journal.count("default") == 0


def test_queues_do_not_wait_for_each_other(journal):
    jobs.Queue("default", journal).enqueue_call(json.dumps)
    assert journal.take("high") is None and journal.take("default")


def test_a_failed_job_is_tried_again_after_its_pauses_and_then_has_failed(journal):
    job = jobs.Queue("high", journal).enqueue_call(json.dumps, retry=retry(3, 0, 0.05))  # the last pause counts for the third try
    for expected in ("scheduled", "scheduled", "scheduled", "failed"):
        until = time.monotonic() + 5
        while journal.take("high") is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        journal.fail(job.id, "no")
        assert job.get_status() == expected
    assert journal.take("high") is None


def test_a_pause_holds_up_nobody_else(journal):
    queue = jobs.Queue("high", journal)
    waiting = queue.enqueue_call(json.dumps, retry=retry(1, 3600))
    journal.take("high")
    journal.fail(waiting.id, "no")
    other = queue.enqueue_call(json.dumps)
    assert journal.take("high")[0] == other.id and journal.take("high") is None


def test_the_arguments_of_a_job_are_forgotten_when_it_is_done(journal, tmp_path):
    job = jobs.Queue("default", journal).enqueue_call(json.dumps, ("hf_secret",))
    journal.take("default")
    journal.finish(job.id)
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as opened:
        assert opened.execute("SELECT status, arguments FROM jobs").fetchall() == [("finished", None)]


def test_an_interrupted_job_starts_again_but_not_for_ever(journal):
    job = jobs.Queue("default", journal).enqueue_call(json.dumps)
    for _ in range(jobs.MOST_STARTS):
        assert journal.resume() == 1 and journal.take("default")[0] == job.id
    assert journal.resume() == 0 and job.get_status() == "failed"


def test_old_jobs_go_and_their_ids_are_then_not_known(journal, monkeypatch):
    job = jobs.Queue("default", journal).enqueue_call(json.dumps)
    journal.take("default")
    journal.finish(job.id)
    tomorrow = time.time() + 25 * 3600
    monkeypatch.setattr(jobs.time, "time", lambda: tomorrow)
    journal.resume()
    assert job.get_status() is None


def test_only_functions_of_the_servers_jobs_are_called():
    with pytest.raises(ValueError, match="not a job"):
        jobs.run("os:getpid", "[[], {}]")


def test_calls_that_the_queue_does_not_know_are_refused(journal):
    with pytest.raises(NotImplementedError):
        jobs.Queue("default", journal).enqueue_call(json.dumps, depends_on=["other"])


def test_a_process_killed_between_enqueueing_and_running_loses_no_job(tmp_path):
    path = tmp_path / "jobs.sqlite"
    code = f"""
import json, sys
sys.path.insert(0, {str(SIDE)!r})
from pathlib import Path
from argilla_side import jobs
journal = jobs.Journal(Path({str(path)!r})).open()
number = 0
while True:
    print(jobs.Queue("default", journal).enqueue_call(json.dumps, (number,)).id, flush=True)
    number += 1
    if number % 3 == 0:
        journal.take("default")
"""
    acknowledged = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            acknowledged.append(line.strip())
            if len(acknowledged) % 20 == 0:
                os.kill(process.pid, signal.SIGKILL)
                break
        acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait()
    journal = jobs.Journal(path).open()
    assert journal.resume() >= len(acknowledged) == len(set(acknowledged))
    run = []
    while (taken := journal.take("default")) is not None:
        run.append(taken[0])
    assert set(acknowledged) <= set(run)
    journal.close()

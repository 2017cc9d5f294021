"""The server's job queue without redis: jobs are rows of a SQLite file, run by threads of the server's process.

The server enqueues through rq's `job` decorator, which asks a queue to `enqueue_call(...)`; the queues here write the job into the
journal, on disk, before they return, so a job that was acknowledged outlives the server. Jobs that were at work when it died start again
(each of them can run twice without harm: they recount, or repeat a message). A job is a function's name and its arguments as JSON;
nothing is pickled.
"""

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
import sqlite3
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

QUEUES = ("default", "high")
TRUSTED = "argilla_server.jobs."  # only functions of these modules are run, whatever the file says
MOST_STARTS = 5  # a job that takes the server down with it must not do so for ever
KEPT_SECONDS = {"finished": 24 * 3600, "failed": 30 * 24 * 3600}
POLL_SECONDS = 1.0

_LOGGER = logging.getLogger("argilla")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, function TEXT NOT NULL, arguments TEXT,
    status TEXT NOT NULL, due REAL NOT NULL, starts INTEGER NOT NULL DEFAULT 0, pauses TEXT NOT NULL, error TEXT,
    enqueued REAL NOT NULL, ended REAL);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (queue, due) WHERE status IN ('queued', 'scheduled');
"""


class Journal:
    """All jobs, in one SQLite file. Safe for use by many threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._connection = path, None
        self._lock = threading.Lock()
        self.news = threading.Condition()

    def open(self) -> "Journal":
        """Open the file, which is made where it is missing; nothing else works before."""
        self._connection = sqlite3.connect(self._path, timeout=60, check_same_thread=False, isolation_level=None)
        self._path.chmod(0o600)  # an export's arguments hold a key to the hub until it is done
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)
        return self

    def _do(self, statement: str, *values: Any) -> list[tuple]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def resume(self) -> int:
        """Called once, before the workers start: jobs that were interrupted wait again, old ones go. Returns how many wait."""
        self._do("UPDATE jobs SET status = 'failed', ended = ?, arguments = NULL, error = 'interrupted too often' "
                 "WHERE status = 'started' AND starts >= ?", time.time(), MOST_STARTS)
        self._do("UPDATE jobs SET status = 'queued' WHERE status = 'started'")
        for status, seconds in KEPT_SECONDS.items():
            self._do("DELETE FROM jobs WHERE status = ? AND ended < ?", status, time.time() - seconds)
        return self._do("SELECT count(*) FROM jobs WHERE status IN ('queued', 'scheduled')")[0][0]

    def add(self, queue: str, function: str, arguments: str, pauses: list[float], identity: str) -> None:
        """Write a job down; it is on disk when this returns. `pauses` are the seconds before each retry."""
        self._do("INSERT INTO jobs (id, queue, function, arguments, status, due, pauses, enqueued) VALUES (?, ?, ?, ?, 'queued', ?, ?, ?)",
                 identity, queue, function, arguments, time.time(), json.dumps(pauses), time.time())
        with self.news:
            self.news.notify_all()

    def take(self, queue: str) -> tuple[str, str, str] | None:
        """The next job of a queue that is due, now `started`: (id, function, arguments)."""
        rows = self._do("UPDATE jobs SET status = 'started', starts = starts + 1 WHERE number = (SELECT number FROM jobs WHERE queue = ? "
                        "AND status IN ('queued', 'scheduled') AND due <= ? ORDER BY number LIMIT 1) RETURNING id, function, arguments",
                        queue, time.time())
        return rows[0] if rows else None

    def finish(self, identity: str) -> None:
        """The job is done; its arguments, which may hold a key, are forgotten."""
        self._do("UPDATE jobs SET status = 'finished', ended = ?, arguments = NULL WHERE id = ?", time.time(), identity)

    def fail(self, identity: str, error: str) -> None:
        """The job failed: it waits for its next try, or has failed for good when it has none left."""
        pauses = json.loads(self._do("SELECT pauses FROM jobs WHERE id = ?", identity)[0][0])
        if pauses:
            self._do("UPDATE jobs SET status = 'scheduled', due = ?, pauses = ?, error = ? WHERE id = ?",
                     time.time() + pauses[0], json.dumps(pauses[1:]), error, identity)
        else:
            self._do("UPDATE jobs SET status = 'failed', ended = ?, arguments = NULL, error = ? WHERE id = ?", time.time(), error, identity)

    def status(self, identity: str) -> str | None:
        """`queued`, `started`, `scheduled`, `finished`, `failed`; None for a job that is not known."""
        rows = self._do("SELECT status FROM jobs WHERE id = ?", identity)
        return rows[0][0] if rows else None

    def count(self, queue: str) -> int:
        """Jobs of a queue that wait."""
        return self._do("SELECT count(*) FROM jobs WHERE queue = ? AND status IN ('queued', 'scheduled')", queue)[0][0]

    def empty(self, queue: str) -> None:
        """Forget the jobs of a queue that wait."""
        self._do("DELETE FROM jobs WHERE queue = ? AND status IN ('queued', 'scheduled')", queue)

    def ping(self) -> bool:
        """What the server asks redis at its start."""
        return self._do("SELECT 1") == [(1,)]

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class Job:
    """What the server sees of a job: its id and status."""

    def __init__(self, identity: str, journal: Journal) -> None:
        self.id, self._journal = identity, journal

    def get_status(self, refresh: bool = True) -> str | None:
        return self._journal.status(self.id)

    @classmethod
    def fetch(cls, identity: str, connection: Journal) -> "Job":
        """The job of this id.

        Raises:
            rq.exceptions.NoSuchJobError: there is none.
        """
        from rq.exceptions import NoSuchJobError

        if connection.status(identity) is None:
            raise NoSuchJobError(f"no job {identity}")
        return cls(identity, connection)


class Queue:
    """One of the server's queues, as rq's decorator calls it."""

    def __init__(self, name: str, connection: Journal) -> None:
        self.name, self.connection = name, connection

    def __len__(self) -> int:
        return self.connection.count(self.name)

    count = property(__len__)

    def empty(self) -> None:
        self.connection.empty(self.name)

    def enqueue_call(self, func: Callable, args: tuple = (), kwargs: dict | None = None, retry: Any = None, job_id: str | None = None,
                     **others: Any) -> Job:
        """Write the call down. Of rq's other settings (`others`) the server uses only times to live, which the journal has its own of,
        and `timeout`, which its jobs keep themselves (its HTTP client gives up by itself).

        Raises:
            TypeError: an argument is of a kind that the journal cannot keep.
        """
        if others.get("depends_on") or others.get("on_success") or others.get("on_failure") or others.get("on_stopped"):
            raise NotImplementedError("this queue knows no jobs that wait for others, and no callbacks")
        pauses = []
        if retry is not None:  # rq repeats the last pause where there are more tries than pauses
            pauses = [retry.intervals[min(number, len(retry.intervals) - 1)] if retry.intervals else 0 for number in range(retry.max)]
        identity = job_id or str(uuid.uuid4())
        arguments = json.dumps([list(args), kwargs or {}], default=_tagged, ensure_ascii=False)
        self.connection.add(self.name, f"{func.__module__}:{func.__qualname__}", arguments, pauses, identity)
        return Job(identity, self.connection)


def _tagged(value: Any) -> dict[str, str]:
    if isinstance(value, uuid.UUID):
        return {"$uuid": str(value)}
    if isinstance(value, datetime):
        return {"$datetime": value.isoformat()}
    raise TypeError(f"a job's argument cannot be a {type(value).__name__}")


def _untagged(value: dict[str, Any]) -> Any:
    if value.keys() == {"$uuid"}:
        return uuid.UUID(value["$uuid"])
    if value.keys() == {"$datetime"}:
        return datetime.fromisoformat(value["$datetime"])
    return value


def run(function: str, arguments: str) -> None:
    """Call a job's function, to its end."""
    module, _, name = function.partition(":")
    if not module.startswith(TRUSTED):
        raise ValueError(f"{function} is not a job of the server's")
    positional, named = json.loads(arguments, object_hook=_untagged)
    result = getattr(importlib.import_module(module), name)(*positional, **named)
    if inspect.iscoroutine(result):
        asyncio.run(result)


class Worker(threading.Thread):
    """Runs the jobs of one queue, one after the other."""

    def __init__(self, journal: Journal, queue: str) -> None:
        super().__init__(name=f"jobs-{queue}", daemon=True)
        self._journal, self._queue, self._ended = journal, queue, threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            job = self._journal.take(self._queue)
            if job is None:
                with self._journal.news:
                    self._journal.news.wait(POLL_SECONDS)
                continue
            identity, function, arguments = job
            try:
                run(function, arguments)
            except Exception as error:  # whatever a job raises is the job's failure, not the worker's
                _LOGGER.exception("job %s (%s) failed", identity, function)
                self._journal.fail(identity, f"{type(error).__name__}: {error}")
            else:
                self._journal.finish(identity)

    def stop(self) -> None:
        """Take no further job; one at work is finished, or starts again with the server."""
        self._ended.set()
        with self._journal.news:
            self._journal.news.notify_all()


def install(path: Path) -> Journal:
    """Put the journal's queues in place of the server's `jobs.queues`, before the server is imported (any module of it imports all
    of it). The journal is opened by `working`."""
    journal = Journal(path)
    module = types.ModuleType("argilla_server.jobs.queues", __doc__)
    module.REDIS_CONNECTION = journal
    module.DEFAULT_QUEUE, module.HIGH_QUEUE = (Queue(name, journal) for name in QUEUES)
    module.JOB_TIMEOUT_DISABLED = -1
    sys.modules[module.__name__] = module
    return journal


def connect() -> None:
    """What else must know of the journal, once the server's modules are imported: the handler that tells a job's status; and database
    sessions of the workers' own, since connections of the server's pool belong to the event loop of its requests."""
    import argilla_server.api.handlers.v1.jobs as handler
    from argilla_server import database
    from argilla_server.settings import settings
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlalchemy.pool import NullPool

    handler.Job = Job
    of_requests = database.AsyncSessionLocal
    of_workers = async_sessionmaker(autocommit=False, expire_on_commit=False, bind=create_async_engine(
        settings.database_url, poolclass=NullPool, **settings.database_engine_args))

    def session(*args: Any, **kwargs: Any):
        at_work = isinstance(threading.current_thread(), Worker)
        return (of_workers if at_work else of_requests)(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("argilla_server.") and vars(module).get("AsyncSessionLocal") is of_requests:
            module.AsyncSessionLocal = session


@contextlib.contextmanager
def working(journal: Journal) -> Iterator[None]:
    """Open the journal, and run the queues' jobs while the block runs."""
    waiting = journal.open().resume()
    if waiting:
        _LOGGER.warning("%d jobs go on that were waiting when the server ended", waiting)
    workers = [Worker(journal, name) for name in QUEUES]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join(3)

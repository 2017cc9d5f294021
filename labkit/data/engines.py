"""Ways to run one function over all chunks of a data set: in this process or a pool of its own, through `datasets`, or on Ray.

`work` is a picklable function from an Arrow table to an Arrow table. Every engine yields what it gave in the order of the records;
where the chunks begin and end may differ, so `work` must treat each record by itself. Engines know nothing of steps.
"""

import json
import logging
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    Work = Callable[[pa.Table], pa.Table]

NAMES = ("local", "datasets", "ray")
CHUNK = 1000  # records
# Starting a process and importing what the steps need takes about as long as 5,000 records of 40 words.
WORTH_A_POOL = 5000  # records
_RAY_STARTS = 3

Engine = Callable[["Dataset", "Work"], Iterator["pa.Table"]]


@contextmanager
def start(name: str, processes: int, *, records: int = WORTH_A_POOL) -> Iterator[Engine]:
    """An engine for the length of the block: `engine(dataset, work)` yields tables. Its processes end with the block, also where that
    ends by an exception.

    Raises:
        LabError: an unknown name, fewer than one process, or a package that is missing.
    """
    if name not in NAMES:
        raise LabError(f"there is no engine {name!r}; there are {', '.join(NAMES)}")
    if not isinstance(processes, int) or processes < 1:
        raise LabError(f"processes must be a whole number of at least 1, not {processes!r}")
    if name == "local" and (processes == 1 or records < WORTH_A_POOL):
        yield _in_this_process
    elif name == "local":
        with _pool(processes) as engine:
            yield engine
    elif name == "datasets":
        with tempfile.TemporaryDirectory(prefix="labkit-map-") as folder:
            yield _through_datasets(processes, folder)
    else:
        with _ray(processes) as engine:
            yield engine


def chunks(records: "Dataset", size: int = CHUNK) -> Iterator["pa.Table"]:
    """The records as Arrow tables of `size` rows."""
    arrow = records.with_format("arrow")
    for first in range(0, len(records), size):
        yield arrow[first:first + size]


def _in_this_process(records: "Dataset", work: "Work") -> Iterator["pa.Table"]:
    return map(work, chunks(records))


@contextmanager
def _pool(processes: int) -> Iterator[Engine]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Spawned, not forked: torch and the app's threads do not survive a fork.
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)

    def engine(records: "Dataset", work: "Work") -> Iterator["pa.Table"]:
        waiting: deque = deque()
        try:
            for chunk in chunks(records):
                waiting.append(executor.submit(_on_bytes, work, to_bytes(chunk)))
                if len(waiting) > 2 * processes:  # no more is held than the processes need to go on
                    yield from_bytes(waiting.popleft().result())
            while waiting:
                yield from_bytes(waiting.popleft().result())
        except BrokenProcessPool as error:
            raise LabError("a process of the preparation ended by itself; most often memory ran out, or a script without "
                           "`if __name__ == \"__main__\":` started it; try processes=1") from error

    try:
        yield engine
    finally:
        executor.shutdown(wait=True, cancel_futures=True)  # waits for at most the chunks at work, a fraction of a second


def _ignore_interrupts() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the pool


def _on_bytes(work: "Work", data: bytes) -> bytes:
    return to_bytes(work(from_bytes(data)))


def to_bytes(table: "pa.Table") -> bytes:
    """A table as an Arrow stream: a slice is sent without the rows around it."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_stream(data).read_all()


def _through_datasets(processes: int, folder: str) -> Engine:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    def engine(records: "Dataset", work: "Work") -> Iterator["pa.Table"]:
        if not len(records):
            return
        handle, path = tempfile.mkstemp(suffix=".arrow", dir=folder)
        os.close(handle)
        # The name takes the place of a hash over function and data: nothing is cached here.
        shows_bars = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            mapped = records.with_format("arrow").map(
                work, batched=True, batch_size=CHUNK, num_proc=processes if processes > 1 else None, cache_file_name=path,
                load_from_cache_file=False, new_fingerprint=os.path.basename(path), remove_columns=records.column_names)
        finally:
            if shows_bars:
                enable_progress_bars()
        yield from chunks(mapped)

    return engine


@dataclass(frozen=True)
class _Telling:
    """`work` with its LabErrors as JSON in the text of another error: of an error in one of its processes Ray keeps the text only."""

    work: "Work"

    def __call__(self, table: "pa.Table") -> "pa.Table":
        try:
            return self.work(table)
        except LabError as error:
            raise RuntimeError(f"{_TOLD}{json.dumps([str(error), error.zh])}") from error


_TOLD = "labkit.errors.LabError as JSON: "


def _told(error: BaseException) -> BaseException:
    """The LabError that `_Telling` told; else the error itself."""
    _, marker, rest = str(error).partition(_TOLD)
    return LabError(*json.JSONDecoder().raw_decode(rest)[0]) if marker else error


@contextmanager
def _ray(processes: int) -> Iterator[Engine]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise LabError("the engine ray needs Ray; install it: pip install 'ray[data]'",
                       "引擎 ray 需要 Ray\uff0c请安装\uff1apip install 'ray[data]'") from None

    ours = not ray.is_initialized()
    if ours:
        address = os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {"address": "local", "num_cpus": processes, "include_dashboard": False}
        for left in reversed(range(_RAY_STARTS)):
            try:
                ray.init(**({"address": address} if address else local), log_to_driver=False, logging_level="error")
                break
            except Exception as error:  # Ray raises Exception itself where its processes do not start within 30 s: a busy machine
                ray.shutdown()
                if not left:
                    raise LabError(f"Ray did not start: {str(error).splitlines()[0]}; try again, or use another engine") from error
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it tells of every pass on the screen, and of errors that are told here
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False

    def engine(records: "Dataset", work: "Work") -> Iterator["pa.Table"]:
        if not len(records):
            return
        # A block for every few chunks, so that there is work for every node and little to hold at a time.
        source = ray.data.from_arrow(list(map(from_bytes, map(to_bytes, chunks(records, 8 * CHUNK)))))
        mapped = source.map_batches(_Telling(work), batch_size=CHUNK, batch_format="pyarrow", zero_copy_batch=True)
        try:
            yield from mapped.iter_batches(batch_size=None, batch_format="pyarrow")
        except ray.exceptions.RayError as error:
            raise _told(error) from None

    try:
        yield engine
    finally:
        log.setLevel(level)
        context.execution_options.preserve_order, context.enable_progress_bars = before
        if ours:
            ray.shutdown()

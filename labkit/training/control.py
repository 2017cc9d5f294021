"""Steering a training while it runs: pause, resume, stop, measure now.

The loop asks a `Control` between two steps and knows nothing about who steers: a button of a notebook (another thread), another process
(`request` leaves an empty file in the run's folder, whose name says all), or Ctrl-C (`interruptible`).
"""

import contextlib
import os
import signal
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.errors import LabError

REQUESTS = ("pause", "resume", "stop", "evaluate")
FOLDER = "requests"  # in the run's folder

_LOOK_SECONDS = 0.2  # a step may take a few milliseconds, and the folder may lie on a network


class Control:
    """What a training has been asked to do. Every method may be called from any thread.

    Args:
        folder: the run's folder, see `listen`; without one only this process steers.
        stop: an event that stops the training when it is set, also from outside.

    Attributes:
        on_change: called after each change, in the thread that made it, with the lock held: for a face that shows the state.

    Example:
        >>> control = Control()
        >>> control.ask_evaluate()
        >>> control.take_evaluate(), control.take_evaluate()
        (True, False)
        >>> control.stop()
        >>> control.stopped
        True
    """

    def __init__(self, folder: str | os.PathLike | None = None, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self._changed = threading.Condition()
        self._paused = self._evaluate = self._interrupted = False
        self._waiting, self._waited, self._waiting_since = False, 0.0, None
        self._requests: Path | None = None
        self._looked = 0.0
        self.on_change: Callable[[], None] | None = None
        if folder is not None:
            self.listen(folder)

    def listen(self, folder: str | os.PathLike) -> None:
        """From now on, do also what `request` asks for in this run's folder. What was asked of an earlier training is thrown away: call
        this when the run's lock is held."""
        requests = Path(folder) / FOLDER
        for name in _waiting(requests):
            (requests / name).unlink(missing_ok=True)
        self._requests = requests

    def pause(self) -> None:
        """Halt before the next step, until `resume` or `stop`."""
        with self._changed:
            self._paused = True
            self._tell()

    def resume(self) -> None:
        """Go on."""
        with self._changed:
            self._paused = False
            self._tell()

    def stop(self) -> None:
        """End after the step at hand, with a checkpoint. This cannot be taken back."""
        with self._changed:
            self._stop.set()
            self._tell()

    def ask_evaluate(self) -> None:
        """Measure on the validation records after the step at hand. What is asked twice before it was done is done once."""
        with self._changed:
            self._evaluate = True
            self._tell()

    @property
    def evaluation_asked(self) -> bool:
        """Whether a measurement was asked for and not yet taken; leaves the request where it is."""
        return self._evaluate

    @property
    def stopped(self) -> bool:
        """Whether to end now."""
        self._look()
        return self._interrupted or self._stop.is_set()

    @property
    def paused(self) -> bool:
        """Whether to halt before the next step, or halted already."""
        self._look()
        return self._paused and not self.stopped

    @property
    def waiting(self) -> bool:
        """Whether the loop has halted, in `wait_while_paused`."""
        return self._waiting

    @property
    def paused_seconds(self) -> float:
        """How long the loop has waited in `wait_while_paused`, seconds: not part of the time that training took."""
        with self._changed:
            since = self._waiting_since
            return self._waited + (0.0 if since is None else time.perf_counter() - since)

    def take_evaluate(self) -> bool:
        """Whether a measurement was asked for since the last call."""
        self._look()
        with self._changed:
            asked, self._evaluate = self._evaluate, False
            if asked:
                self._tell()
            return asked

    def wait_while_paused(self, poll: float = 0.2, evaluate: Callable[[], None] | None = None) -> None:
        """Give back when not paused, or when stopped.

        Args:
            poll: how often requests of other processes are looked for, seconds.
            evaluate: called, in the loop's thread, where a measurement is asked for meanwhile; its time is not counted as paused.
        """
        if not self.paused:
            return
        self._halt(True)
        try:
            while self.paused:
                if evaluate is not None and self.take_evaluate():
                    evaluate()
                else:
                    self._wait(poll, wake_to_evaluate=evaluate is not None)
        finally:
            self._halt(False)

    def interrupt(self) -> None:
        """`stop` for a signal's handler, which may run while its own thread holds the lock: nothing is locked and nobody is woken."""
        self._interrupted = True

    def _halt(self, waiting: bool) -> None:
        with self._changed:
            self._waiting = waiting
            self._tell()

    def _wait(self, poll: float, wake_to_evaluate: bool) -> None:
        with self._changed:
            if not self._paused or (self._evaluate and wake_to_evaluate):  # changed since we asked, and nobody will wake us
                return
            self._waiting_since = time.perf_counter()
            try:
                self._changed.wait(poll)
            finally:
                self._waited += time.perf_counter() - self._waiting_since
                self._waiting_since = None

    def _tell(self) -> None:
        self._changed.notify_all()
        if self.on_change is not None:
            self.on_change()

    def _look(self) -> None:
        """Do what other processes have asked for, in their order."""
        requests = self._requests
        if requests is None or time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        with self._changed:  # two threads at once would mix up the order
            self._looked = time.monotonic()
            for name in _waiting(requests):
                (requests / name).unlink(missing_ok=True)
                {"pause": self.pause, "resume": self.resume, "stop": self.stop, "evaluate": self.ask_evaluate}[_asked(name)]()


def request(folder: str | os.PathLike, what: str) -> None:
    """Ask the training of the run in `folder`, in whatever process, for one of `REQUESTS`.

    Raises:
        LabError: nobody is training this run, there is no such request, or the folder cannot be written.
    """
    from labkit.runs import Run

    run = Run(Path(folder))
    if what not in REQUESTS:
        raise LabError(f"a training can be asked to {', '.join(REQUESTS)}, not {what!r}")
    state = run.state() if run.folder.is_dir() else "not there"
    if state != "training":
        raise LabError(f"run {run.key} is not being trained now (it is {state}); nobody would {what}")
    requests = run.folder / FOLDER
    try:
        requests.mkdir(exist_ok=True)
        (requests / f"{time.time_ns():020d}.{uuid.uuid4().hex[:8]}.{what}").touch(exist_ok=False)  # the name is the order
    except OSError as error:
        raise LabError(f"cannot write into {requests}: {error.strerror or error}") from error


@contextlib.contextmanager
def interruptible(control: Control, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """While the block runs, the first Ctrl-C (or SIGTERM, which schedulers of clusters send before they kill) asks `control` to stop
    after the step at hand; the second Ctrl-C ends at once (KeyboardInterrupt). The handlers from before are put back.

    In another thread than the main one, where Python allows no handlers, the block runs without.

    Args:
        say: told what will happen at the first signal; by default written to the terminal's error stream.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: types.FrameType | None) -> None:
        again = control._interrupted
        control.interrupt()
        if number == signal.SIGINT and again:
            raise KeyboardInterrupt
        if not again:
            (say or _say)("stopping after this step, with a checkpoint; Ctrl-C once more stops at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    """Past Python's buffers: the signal may have come in the middle of a print."""
    with contextlib.suppress(OSError, ValueError):  # no error stream, or one without a file below it
        os.write(sys.stderr.fileno(), f"\n{line}\n".encode())


def _waiting(requests: Path) -> list[str]:
    """The requests in a folder, the oldest first; what is none is left alone."""
    try:
        return sorted(name for name in os.listdir(requests) if _asked(name) in REQUESTS)
    except FileNotFoundError:
        return []


def _asked(name: str) -> str:
    return name.rpartition(".")[2]

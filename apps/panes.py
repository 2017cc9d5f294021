"""Engines and answers behind the panes: a bounded pool of engines, and for each browser page a desk with its answers.

An engine is lent to one answer at a time, so that panes at work side by side never share one. Nothing here knows Gradio.
"""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from apps.checkpoints import Checkpoint
from labkit.errors import LabError
from labkit.serving import Engine, Messages, Sampling, Speed, Weights

CAPACITY = 6  # engines open at once; the embedded base's takes about 100 MB beside the weights, which all share
_BEAT = 0.08  # seconds between two looks at what the panes have said

Owner = tuple[str, int]  # a page in a browser (its session), and which of its panes


@dataclass(eq=False)
class _Seat:
    """A place in the pool: what is (being) loaded, for whom it worked last, whether it works now."""

    identity: tuple[str, str]
    owner: Owner | None = None
    engine: Engine | None = None
    busy: bool = False
    used: int = 0


class Pool:
    """Engines that are opened when first asked for and closed, the longest unused first, when there are too many."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._seats: list[_Seat] = []
        self._changed = threading.Condition()
        self._loading = threading.Lock()  # transformers cannot be imported by two threads at once, and loads share the disk
        self._clock = itertools.count()

    @contextmanager
    def lent(self, checkpoint: Checkpoint, owner: Owner, stop: threading.Event) -> Iterator[Engine | None]:
        """An engine of this checkpoint for the block alone; None where `stop` was set while waiting for a free one.

        The owner gets the engine it had before, whose cache still holds the chat so far.

        Raises:
            LabError: the checkpoint cannot be served (any more).
        """
        with self._loading:
            identity = checkpoint.identity()
        seat = self._take(identity, owner, stop)
        try:
            if seat and seat.engine is None:
                with self._loading:
                    seat.engine = checkpoint.open()
            yield seat.engine if seat else None
        finally:
            if seat:
                self._give_back(seat)

    def warm(self, checkpoint: Checkpoint, owner: Owner, messages: Messages) -> threading.Thread:
        """Open an engine in a thread and let it read `messages`, so that the first answer starts fast."""
        def work() -> None:
            try:
                with self.lent(checkpoint, owner, threading.Event()) as engine:
                    engine.warm(messages)
            except LabError as error:  # the first question meets it again and shows it
                logging.getLogger(__name__).info("not warmed: %s", error)

        thread = threading.Thread(target=work, name="warm", daemon=True)
        thread.start()
        return thread

    def forget(self, session: str) -> None:
        """Leave the engines of a session that has gone to whoever comes next."""
        with self._changed:
            for seat in self._seats:
                if seat.owner and seat.owner[0] == session:
                    seat.owner = None

    def close(self) -> None:
        """Close all engines; answers that are under way end."""
        with self._changed:
            seats, self._seats = self._seats, []
        for seat in seats:
            if seat.engine:
                seat.engine.close()

    def _take(self, identity: tuple[str, str], owner: Owner, stop: threading.Event) -> _Seat | None:
        with self._changed:
            while not (seat := self._choose(identity, owner)):
                if stop.is_set():
                    return None
                self._changed.wait(0.1)
            if seat not in self._seats:
                evicted = self._make_room()
                self._seats.append(seat)
            else:
                evicted = None
            seat.busy, seat.owner, seat.used = True, owner, next(self._clock)
        if evicted and evicted.engine:
            evicted.engine.close()
        return seat

    def _choose(self, identity: tuple[str, str], owner: Owner) -> _Seat | None:
        """A seat that can be taken now, a new one where that is better; None where one has to wait."""
        same = [seat for seat in self._seats if seat.identity == identity]
        own = [seat for seat in same if seat.owner == owner]
        if own:
            return None if own[0].busy else own[0]  # busy: it is being warmed for this owner, or is about to stop
        idle = [seat for seat in same if not seat.busy]
        free = [seat for seat in idle if seat.owner is None]
        full = len(self._seats) >= self._capacity
        if free or full and idle:
            return min(free or idle, key=lambda seat: seat.used)
        return _Seat(identity) if not full or any(not seat.busy for seat in self._seats) else None

    def _make_room(self) -> _Seat | None:
        if len(self._seats) < self._capacity:
            return None
        oldest = min((seat for seat in self._seats if not seat.busy), key=lambda seat: seat.used)
        self._seats.remove(oldest)
        return oldest

    def _give_back(self, seat: _Seat) -> None:
        with self._changed:
            seat.busy = False
            if seat.engine is None and seat in self._seats:  # it could not be opened
                self._seats.remove(seat)
            self._changed.notify_all()


@dataclass(eq=False)
class Answer:
    """One pane's answer while it comes and when it has ended. `weights` are those the engine reports, not those asked for;
    `waited` are the seconds until an engine was there (loaded, or free), which the engine's own `speed` cannot know."""

    checkpoint: Checkpoint
    messages: Messages
    sampling: Sampling
    stop: threading.Event = field(default_factory=threading.Event)
    pieces: list[str] = field(default_factory=list)
    weights: Weights | None = None
    waited: float = 0.0
    speed: Speed | None = None
    error: LabError | None = None
    done: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def stopped(self) -> bool:
        return self.done and (self.speed.stopped if self.speed else self.stop.is_set())

    def start(self, pool: Pool, owner: Owner) -> None:
        """Answer in a thread."""
        threading.Thread(target=self._work, args=(pool, owner), name=f"pane {owner[1]}", daemon=True).start()

    def _work(self, pool: Pool, owner: Owner) -> None:
        asked = time.monotonic()
        try:
            with pool.lent(self.checkpoint, owner, self.stop) as engine:
                if engine is not None:
                    self.waited = time.monotonic() - asked
                    self.weights = engine.weights
                    for piece in engine.stream(self.messages, self.sampling, self.stop):
                        self.pieces.append(piece)
                    self.speed = engine.speed
        except LabError as error:
            self.error = error
        except Exception as error:  # a bug: the pane must end all the same, and the trace goes to the terminal
            self.error = LabError(f"{type(error).__name__}: {error}")
            raise
        finally:
            self.done = True


class Desk:
    """One page in one browser: its language, the answers in its panes, a line for its user to read (`hint`), and whatever the page
    keeps for itself (`kept`)."""

    def __init__(self, session: str, pool: Pool) -> None:
        self.session = session
        self.language = "en"
        self.answers: list[Answer] = []
        self.hint = ""
        self.kept: Any = None
        self._pool = pool

    @property
    def busy(self) -> bool:
        """Whether a pane still answers."""
        return not all(answer.done for answer in self.answers)

    def ask(self, answers: list[Answer]) -> None:
        """Start these answers side by side, the first in pane 0 and so on."""
        self.answers = answers
        for pane, answer in enumerate(answers):
            answer.start(self._pool, (self.session, pane))

    def warm(self, pane: int, checkpoint: Checkpoint) -> None:
        """Get ready for a question to this checkpoint in this pane."""
        system = {"role": "system", "content": checkpoint.scenario.system_prompt(self.language)}
        self._pool.warm(checkpoint, (self.session, pane), [system])

    def stop(self) -> None:
        """Stop all panes; a single one by its answer's own `stop`."""
        for answer in self.answers:
            answer.stop.set()

    def clear(self) -> None:
        """Stop, and forget the answers."""
        self.stop()
        self.answers, self.hint, self.kept = [], "", None

    async def follow(self) -> AsyncIterator[bool]:
        """Yields whenever there is more to show, True at the end; ends early, without True, where the answers were cleared.

        The panes are stopped where nobody follows any more.
        """
        answers, seen = self.answers, None
        try:
            while self.answers is answers:
                ended = not self.busy  # looked at first, so that the last look shows all
                state = [(len(answer.pieces), answer.done, answer.weights) for answer in answers]
                if ended or state != seen:
                    yield ended
                if ended:
                    return
                seen = state
                await asyncio.sleep(_BEAT)
        finally:
            for answer in answers:
                if not answer.done:
                    answer.stop.set()


class Desks:
    """The desks of all pages that are open, by Gradio's session, which is one page load."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def of(self, session: str | None) -> Desk:
        """This session's desk, a new one where it has none yet."""
        with self._lock:
            return self._desks.setdefault(session or "", Desk(session or "", self.pool))

    def leave(self, session: str | None) -> None:
        """The page was closed: stop its panes, and forget it."""
        with self._lock:
            desk = self._desks.pop(session or "", None)
        if desk:
            desk.clear()
        self.pool.forget(session or "")

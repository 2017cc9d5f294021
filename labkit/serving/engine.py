"""The loop that every engine shares: evaluate the prompt, draw a token, give its text, evaluate it, and so on.

A `Backend` evaluates tokens; it knows nothing about chats, sampling, text or threads of the caller.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from labkit.errors import LabError
from labkit.serving import Messages, Sampling, Speed, Weights
from labkit.serving.chat import ChatTokens, common
from labkit.serving.sampling import Picker

CONTEXT = 4096  # tokens of prompt and answer together; the embedded base's KV cache of this length takes 94 MB


class Backend(Protocol):
    """Weights and a KV cache: `context` tokens fit, `chunk` prompt tokens are evaluated at a time."""

    context: int
    chunk: int

    def evaluate(self, tokens: list[int], start: int, threads: int, wanted: bool = True) -> np.ndarray | None:
        """Put `tokens` into the KV cache from position `start`.

        Returns: the logits after the last token, float32 (vocabulary,), the caller's own; None unless `wanted`.
        """
        ...

    def forget(self, start: int) -> int:
        """Drop all from position `start` on; returns how many are held still (0 where it cannot keep a part)."""
        ...

    def close(self) -> None: ...


def chunk_for(parameters: int) -> int:
    """How many prompt tokens to evaluate between two looks at the stop event: about 0.35 s on one core.

    Measured with 135 million parameters on one core of an AMD EPYC: 230 tokens take 1.43 s of processor time in chunks of
    48, 1.36 s in 64, 1.32 s in 512.
    """
    return max(4, min(64, 8_700_000_000 // max(parameters, 1)))


class ChatEngine:
    """An `Engine` over a backend."""

    def __init__(self, backend: Backend, chat: ChatTokens, weights: Weights, threads: int | None) -> None:
        self.weights = weights
        self.speed: Speed | None = None
        self._backend = backend
        self._chat = chat
        self._threads = threads
        self._held: list[int] = []  # the tokens in the KV cache
        self._turn = threading.Lock()  # held as long as a stream lives, which may end in another thread
        self._step = threading.Lock()  # held while the backend works
        self._closed = False

    def stream(self, messages: Messages, sampling: Sampling, stop: threading.Event | None = None) -> Iterator[str]:
        """See `Engine.stream`."""
        tokens = self._chat.encode(messages)
        if len(tokens) >= self._backend.context:
            fit = self._backend.context - 1
            raise LabError(f"the chat has {len(tokens)} tokens and only {fit} fit; clear it or shorten it",
                           f"对话有 {len(tokens)} 个词元，最多容纳 {fit} 个；请清空或缩短对话")
        return self._answer(tokens, sampling, stop or threading.Event())

    def warm(self, messages: Messages) -> None:
        """See `Engine.warm`."""
        tokens = self._chat.prefix(messages)[: self._backend.context - 1]
        with self._my_turn(threading.Event()) as mine:
            if mine and common(tokens, self._held) < len(tokens):
                self._prompt(tokens, threading.Event())

    def close(self) -> None:
        """See `Engine.close`."""
        with self._step:
            if not self._closed:
                self._closed = True
                self._held = []
                self._backend.close()

    def _answer(self, tokens: list[int], sampling: Sampling, stop: threading.Event) -> Iterator[str]:
        with self._my_turn(stop) as mine:
            if not mine:
                self.speed = Speed(len(tokens), 0, 0.0, 0.0, stopped=True)
                return
            clock = _Clock()
            stopped = True
            try:
                for piece in self._pieces(tokens, sampling, stop, clock):
                    with clock.paused():
                        yield piece
                stopped = stop.is_set() or self._closed
            finally:
                self.speed = clock.speed(len(tokens), stopped)

    def _pieces(self, tokens: list[int], sampling: Sampling, stop: threading.Event, clock: "_Clock") -> Iterator[str]:
        picker, decoder, answer = Picker(sampling), self._chat.decoder(), []
        logits = self._prompt(tokens, stop)
        while logits is not None and not stop.is_set():
            token = picker.pick(logits, answer)
            clock.token()
            if token in self._chat.ends:
                return
            answer.append(token)
            piece = decoder.step(token)
            if piece:
                yield piece
            if len(answer) == sampling.max_tokens or len(self._held) >= self._backend.context or stop.is_set():
                return
            logits = self._evaluate([token])

    def _prompt(self, tokens: list[int], stop: threading.Event) -> np.ndarray | None:
        """Evaluate a prompt behind the prefix that is held already; None when stopped or closed before its end."""
        if not self._forget(min(common(tokens, self._held), len(tokens) - 1)):
            return None
        logits = None
        while len(self._held) < len(tokens) and not stop.is_set() and not self._closed:
            end = len(self._held) + self._backend.chunk
            logits = self._evaluate(tokens[len(self._held) : end], wanted=end >= len(tokens))
        return logits

    def _forget(self, start: int) -> bool:
        with self._step:
            if not self._closed:
                del self._held[self._backend.forget(start) :]
            return not self._closed

    def _evaluate(self, tokens: list[int], wanted: bool = True) -> np.ndarray | None:
        with self._step:
            if self._closed:
                return None
            start = len(self._held)
            self._held += tokens
            try:
                return self._backend.evaluate(tokens, start, self._threads or _cores.share(), wanted)
            except BaseException:
                del self._held[self._backend.forget(0) :]  # what the cache holds now is not known
                raise

    @contextmanager
    def _my_turn(self, stop: threading.Event) -> Iterator[bool]:
        """Wait until no other stream is open; False where stopped while waiting."""
        while not self._turn.acquire(timeout=0.05):
            if stop.is_set():
                yield False
                return
        try:
            if self._closed:
                raise LabError("this engine was closed; open it again")
            with _cores.at_work():
                yield True
        finally:
            self._turn.release()


class _Cores:
    """Shares the processor's cores among the engines at work in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def share(self) -> int:
        """How many threads each engine at work may use: one where the machine has more to do than cores.

        The threads of one engine wait for each other at every operation. Measured on 2 cores while other work kept the
        load at 2.9: 89 and 93 tokens/s with one thread, 1.2 and 2.5 with two; 141 with two when the other work paused.
        """
        if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores() + 0.5:
            return 1
        return max(1, cores() // max(self._busy, 1))


_cores = _Cores()


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Clock:
    """A stream's time, without the pauses in which nobody asked for more."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._idle = 0.0
        self._tokens: list[float] = []

    def token(self) -> None:
        self._tokens.append(self._now())

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._idle += time.perf_counter() - start

    def speed(self, prompt_tokens: int, stopped: bool) -> Speed:
        if not self._tokens:
            return Speed(prompt_tokens, 0, 0.0, 0.0, stopped)
        first, last = self._tokens[0], self._tokens[-1]
        rate = (len(self._tokens) - 1) / (last - first) if last > first else 0.0
        return Speed(prompt_tokens, len(self._tokens), first, rate, stopped)

    def _now(self) -> float:
        return time.perf_counter() - self._start - self._idle

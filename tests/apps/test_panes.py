"""The pool never lends an engine twice, stays bounded, and each desk minds its own panes."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import pytest

from apps.panes import Answer, Desk, Desks, Pool
from labkit.errors import LabError
from labkit.serving import Sampling
from tests.apps.conftest import Parrot

NEVER = threading.Event()


@dataclass
class Fake:
    """A checkpoint whose engines are parrots."""

    name: str
    pieces: tuple = ("a", "b")
    pause: float = 0.0
    opened: list = field(default_factory=list)

    def identity(self):
        return self.name, "hash"

    def open(self):
        self.opened.append(Parrot(self.pieces, self.pause))
        return self.opened[-1]


class Gone(Fake):
    def open(self):
        raise LabError("it is gone")


def answer(checkpoint):
    return Answer(checkpoint, [{"role": "user", "content": "q"}], Sampling())


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_two_panes_with_the_same_checkpoint_get_two_engines():
    pool, one = Pool(), Fake("one")
    with pool.lent(one, ("s", 0), NEVER) as first, pool.lent(one, ("s", 1), NEVER) as second:
        assert first is not second
    assert len(one.opened) == 2


def test_a_pane_gets_the_engine_it_had():
    pool, one = Pool(), Fake("one")
    had = {}
    for pane in (0, 1):
        with pool.lent(one, ("s", pane), NEVER) as engine:
            had[pane] = engine
    for pane in (1, 0, 0, 1):
        with pool.lent(one, ("s", pane), NEVER) as engine:
            assert engine is had[pane]


def test_the_longest_unused_engine_is_closed_when_there_are_too_many():
    pool, checkpoints = Pool(capacity=2), [Fake(name) for name in "abc"]
    for pane, checkpoint in enumerate([checkpoints[0], checkpoints[1], checkpoints[0], checkpoints[2]]):
        with pool.lent(checkpoint, ("s", pane), NEVER):
            pass
    assert [checkpoint.opened[0].closed for checkpoint in checkpoints] == [False, True, False]


def test_an_engine_at_work_is_never_closed_and_one_waits_for_it():
    pool, one, other = Pool(capacity=1), Fake("one"), Fake("other")
    got = []

    def wait():
        with pool.lent(other, ("t", 0), NEVER) as engine:
            got.append(engine)

    with pool.lent(one, ("s", 0), NEVER):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        assert not got and not one.opened[0].closed
    thread.join(10)
    assert got == other.opened and one.opened[0].closed


def test_who_waits_for_an_engine_can_be_stopped():
    pool, stop = Pool(capacity=1), threading.Event()
    with pool.lent(Fake("one"), ("s", 0), NEVER):
        waiting = answer(Fake("other"))
        waiting.stop = stop
        waiting.start(pool, ("t", 0))
        time.sleep(0.1)
        stop.set()
        until(lambda: waiting.done)
    assert (waiting.text, waiting.stopped, waiting.weights, waiting.error) == ("", True, None, None)


def test_an_engine_that_cannot_be_opened_leaves_no_seat_taken():
    pool = Pool(capacity=1)
    for _ in range(3):
        failed = answer(Gone("gone"))
        failed.start(pool, ("s", 0))
        until(lambda: failed.done)  # noqa: B023
        assert str(failed.error) == "it is gone"
    with pool.lent(Fake("one"), ("s", 0), NEVER) as engine:
        assert engine is not None


def test_the_engine_that_was_warmed_answers():
    pool, one = Pool(), Fake("one")
    pool.warm(one, ("s", 0), [{"role": "system", "content": "x"}])
    told = answer(one)
    told.start(pool, ("s", 0))
    until(lambda: told.done)
    assert told.text == "ab" and len(one.opened) == 1
    assert one.opened[0].warmed == [[{"role": "system", "content": "x"}]]


def test_engines_of_a_page_that_was_closed_go_to_the_next():
    pool, one = Pool(), Fake("one")
    with pool.lent(one, ("s", 0), NEVER) as first:
        pass
    pool.forget("s")
    with pool.lent(one, ("t", 0), NEVER) as second:
        assert second is first


def test_many_panes_at_once_each_hear_their_own_checkpoint():
    pool = Pool(capacity=3)
    told = [answer(Fake(name, pieces=(name,) * 20, pause=0.001)) for name in "abcdefgh"]
    for number, each in enumerate(told):
        each.start(pool, (f"s{number % 4}", number // 4))
    until(lambda: all(each.done for each in told), 30)
    assert [each.text for each in told] == [name * 20 for name in "abcdefgh"]


def test_a_bug_in_an_engine_ends_the_pane(monkeypatch):
    class Broken(Fake):
        def open(self):
            raise ZeroDivisionError("oh")

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    told = answer(Broken("broken"))
    told.start(Pool(), ("s", 0))
    until(lambda: told.done)
    assert str(told.error) == "ZeroDivisionError: oh"


def follow(desk):
    async def collect():
        return [ended async for ended in desk.follow()]

    return asyncio.run(collect())


def test_a_desk_is_followed_until_all_its_panes_have_ended():
    desk = Desk("s", Pool())
    desk.ask([answer(Fake("one", ("x",) * 5, 0.03)), answer(Fake("two", ("y",) * 15, 0.03))])
    looks = follow(desk)
    assert looks[-1] is True and not any(looks[:-1]) and len(looks) > 2
    assert [each.text for each in desk.answers] == ["x" * 5, "y" * 15] and not desk.busy


def test_stopping_one_pane_leaves_the_other():
    desk = Desk("s", Pool())
    desk.ask([answer(Fake("one", ("x",) * 1000, 0.01)), answer(Fake("two", ("y",) * 30, 0.01))])
    until(lambda: all(each.pieces for each in desk.answers))
    desk.answers[0].stop.set()
    follow(desk)
    assert [each.stopped for each in desk.answers] == [True, False]
    assert len(desk.answers[1].pieces) == 30


def test_clearing_ends_the_following_without_an_end():
    desk = Desk("s", Pool())
    endless = answer(Fake("one", ("x",) * 100_000, 0.01))
    desk.ask([endless])
    threading.Timer(0.3, desk.clear).start()
    assert True not in follow(desk) and desk.answers == []
    until(lambda: endless.done)
    assert endless.stopped


def test_nobody_stops_another_session():
    desks = Desks(Pool())
    mine, yours = desks.of("mine"), desks.of("yours")
    for desk in (mine, yours):
        desk.ask([answer(Fake(desk.session, ("x",) * 50, 0.01))])
    kept = mine.answers[0]
    desks.leave("mine")
    follow(yours)
    until(lambda: kept.done)
    assert kept.stopped and not yours.answers[0].stopped
    assert desks.of("yours") is yours and desks.of("mine") is not mine


@pytest.mark.parametrize("question", ["", "two"])
def test_desks_are_one_a_session(question):
    desks = Desks(Pool())
    assert desks.of(question) is desks.of(question)

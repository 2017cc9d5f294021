"""Steering a training: from another thread, from another process, by signals."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from labkit import runs
from labkit.errors import LabError
from labkit.training import control as controls
from labkit.training.control import Control, interruptible, request


def until(holds, seconds=10.0):
    """Wait until `holds()`; fails when it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


@pytest.fixture
def folder():
    """A run's folder that somebody is training."""
    found = runs.folder_for("small", "steered")
    with runs.lock(found):
        yield found


def ask_again(control):
    """Look at the folder now, however short ago it was."""
    control._looked = 0.0


def test_nothing_is_asked_at_first():
    control = Control()
    control.wait_while_paused()
    assert not control.stopped and not control.paused and not control.take_evaluate() and control.paused_seconds == 0.0


def test_a_measurement_is_taken_once_for_all_who_asked_before_it():
    control = Control()
    control.ask_evaluate()
    control.ask_evaluate()
    assert [control.take_evaluate() for _ in range(3)] == [True, False, False]


def test_a_paused_loop_waits_until_it_is_resumed_and_counts_the_time():
    control = Control()
    control.pause()
    threading.Timer(0.3, control.resume).start()
    began = time.perf_counter()
    control.wait_while_paused(poll=5.0)
    waited = time.perf_counter() - began
    assert 0.28 < waited < 3.0, "woken by resume, not by the poll"
    assert control.paused_seconds == pytest.approx(waited, abs=0.05)


def test_the_time_of_a_pause_grows_while_it_lasts():
    control = Control()
    control.pause()
    loop = threading.Thread(target=control.wait_while_paused)
    loop.start()
    until(lambda: control.paused_seconds > 0.05)
    control.resume()
    loop.join(5)
    before = control.paused_seconds
    time.sleep(0.05)
    assert control.paused_seconds == before


def test_stopping_ends_a_pause_and_cannot_be_taken_back():
    control = Control()
    control.pause()
    threading.Timer(0.1, control.stop).start()
    control.wait_while_paused(poll=5.0)
    control.resume()
    control.pause()
    assert control.stopped and not control.paused
    control.wait_while_paused()


def test_an_event_from_outside_stops_too():
    event = threading.Event()
    control = Control(stop=event)
    control.pause()
    threading.Timer(0.1, event.set).start()
    control.wait_while_paused(poll=0.05)
    assert control.stopped


def test_a_measurement_can_be_asked_for_in_a_pause():
    control, measured = Control(), []
    control.pause()
    loop = threading.Thread(target=control.wait_while_paused, args=(5.0, lambda: measured.append(threading.current_thread())))
    loop.start()
    control.ask_evaluate()
    until(lambda: measured)
    assert control.paused and measured == [loop]
    control.resume()
    loop.join(5)
    assert not loop.is_alive() and not control.take_evaluate()


def test_a_pause_without_a_way_to_measure_keeps_the_request():
    control = Control()
    control.pause()
    control.ask_evaluate()
    threading.Timer(0.1, control.resume).start()
    control.wait_while_paused()
    assert control.take_evaluate()


def test_it_can_be_seen_whether_the_loop_has_halted_already():
    control, seen = Control(), []
    control.on_change = lambda: seen.append((control.paused, control.waiting))
    control.pause()
    loop = threading.Thread(target=control.wait_while_paused)
    loop.start()
    until(lambda: control.waiting)
    control.resume()
    loop.join(5)
    assert seen == [(True, False), (True, True), (False, True), (False, False)]


def test_many_threads_may_steer_at_once():
    control, taken = Control(), []

    def hammer():
        for _ in range(300):
            control.pause()
            control.ask_evaluate()
            control.resume()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        control.wait_while_paused(poll=0.01)
        taken.append(control.take_evaluate())
    assert any([*taken, control.take_evaluate()]) and not control.paused


def test_a_face_is_told_of_every_change():
    control, seen = Control(), []
    control.on_change = lambda: seen.append((control.paused, control.evaluation_asked, control.stopped))
    for ask in (control.pause, control.ask_evaluate, control.take_evaluate, control.take_evaluate, control.resume, control.stop):
        ask()
    assert seen == [(True, False, False), (True, True, False), (True, False, False), (False, False, False), (False, False, True)]


def test_another_process_steers_through_files(folder):
    control = Control(folder)
    program = "import sys; from labkit.training.control import request; [request(sys.argv[1], what) for what in sys.argv[2:]]"
    subprocess.run([sys.executable, "-c", program, str(folder), "evaluate", "pause"], check=True)
    until(lambda: control.paused)
    assert control.take_evaluate() and list((folder / controls.FOLDER).iterdir()) == []
    threading.Timer(0.1, request, (folder, "resume")).start()
    control.wait_while_paused(poll=0.05)
    request(folder, "stop")
    until(lambda: control.stopped)


def test_requests_are_done_in_their_order(folder):
    control = Control(folder)
    for what in ("pause", "resume", "pause"):
        request(folder, what)
    assert control.paused
    request(folder, "resume")
    request(folder, "pause")
    request(folder, "resume")
    ask_again(control)
    assert not control.paused


def test_what_was_asked_of_an_earlier_training_is_thrown_away(folder):
    request(folder, "stop")
    (folder / controls.FOLDER / "notes.txt").write_text("mine")
    control = Control()
    control.listen(folder)
    assert not control.stopped
    assert [path.name for path in (folder / controls.FOLDER).iterdir()] == ["notes.txt"]


def test_looking_for_requests_costs_a_step_next_to_nothing(folder):
    control = Control(folder)
    began = time.perf_counter()
    for _ in range(10_000):
        assert not control.stopped
    assert time.perf_counter() - began < 1.0  # 0.1 ms each, on a loaded machine; 0.4 µs measured


def test_asking_where_nobody_trains_is_a_clear_error(tmp_path):
    with pytest.raises(LabError, match="not being trained now .it is not there.; nobody would pause"):
        request(runs.folder_for("small", "nowhere"), "pause")
    idle = runs.folder_for("small", "idle")
    idle.mkdir(parents=True)
    with pytest.raises(LabError, match="it is stopped"):
        request(idle, "stop")


def test_an_unknown_request_is_a_clear_error(folder):
    with pytest.raises(LabError, match="pause, resume, stop, evaluate, not 'hurry'"):
        request(folder, "hurry")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_the_handlers_from_before_come_back(number):
    before, said, control = signal.getsignal(number), [], Control()
    with interruptible(control, said.append):
        os.kill(os.getpid(), number)
        until(lambda: control.stopped)
        assert len(said) == 1 and "checkpoint" in said[0]
    assert signal.getsignal(number) is before


def test_the_second_interrupt_ends_at_once():
    control, said = Control(), []
    with pytest.raises(KeyboardInterrupt), interruptible(control, said.append):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        raise AssertionError("it went on")
    assert control.stopped and len(said) == 1


def test_an_interrupt_ends_a_pause():
    control = Control()
    control.pause()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with interruptible(control, lambda line: None):
        control.wait_while_paused(poll=0.05)
    assert control.stopped


def test_in_another_thread_nothing_is_installed():
    handlers = []

    def run():
        with interruptible(Control()):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    assert handlers == [signal.getsignal(signal.SIGINT)]

"""The live board: what it shows of a training, and that its buttons steer it."""

import asyncio
import functools
import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.training import trainer
from labkit.training.recipe import Recipe
from labkit.training.watching import diagnosis
from labkit.widgets.live import LiveBoard
from labkit.widgets.live_captions import CAPTIONS
from labkit.widgets.live_panels import MOST_MEASURES, MOST_POINTS, Panels, Thinned

ATTACK = "<img src=x onerror=alert(1)>"


def row_of(step, steps=100, **more):
    return {"step": step, "steps": steps, "epoch": 0, "loss": 2.0, "learning_rate": 2e-3, "gradient_norm": 0.87, "tokens": 500,
            "tokens_per_second": 1234.4, "seconds": 3.0 * step, **more}


def until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def curve(board, title):
    """(xs, ys) of the drawn curve with this name."""
    trace, = (trace for trace in board.figure.data if trace.name == title)
    return list(trace.x), list(trace.y)


def slow_training(steps=2000, seconds=0.002, **more):
    """A training as the loop runs it, without a model."""
    def train(on_step, on_prepare, control):
        on_prepare(1, 1)
        for step in range(1, steps + 1):
            control.wait_while_paused()
            time.sleep(seconds)
            on_step(row_of(step, steps, **more, **({"validation_loss": 0.5} if control.take_evaluate() else {})))
            if control.stopped:
                return f"stopped at {step}"
        return "finished"
    return train


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 20))
def test_a_thinned_curve_keeps_means_and_the_last_step(values, most):
    thinned = Thinned(most)
    for step, value in enumerate(values, 1):
        thinned.add(step, value)
    xs, ys = thinned.points()
    assert len(xs) == len(ys) <= 2 * most and xs == sorted(set(xs)) and xs[-1] == len(values)
    widths = [after - before for before, after in zip([0, *xs], xs, strict=False)]
    assert math.fsum(y * width for y, width in zip(ys, widths, strict=True)) == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-3)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=400), st.integers(1, 20))
def test_a_thinned_curve_of_peaks_keeps_the_highest(values, most):
    thinned = Thinned(most, peak=True)
    for step, value in enumerate(values, 1):
        thinned.add(step, value)
    assert max(thinned.points()[1]) == max(values)


def test_what_is_no_number_is_a_gap():
    thinned = Thinned()
    for step, value in enumerate((1.0, math.nan, math.inf, 2.0), 1):
        thinned.add(step, value)
    assert thinned.points() == ([1, 2, 3, 4], [1.0, None, None, 2.0])


def test_all_figures_are_drawn():
    board = LiveBoard("medical/mine")
    board.on_step(row_of(1))
    board.on_step(row_of(2, loss=4.0, memory_gb=1.5, validation_loss=0.5, validation={"macro_f1": 0.25, "note": "none"}))
    assert curve(board, "training") == ([1, 2], [2.0, 4.0]) and curve(board, "validation") == ([2], [0.5])
    assert curve(board, "training, smoothed")[1] == pytest.approx([2.0, 0.58 / 0.19])
    assert curve(board, "learning rate") == ([1, 2], [2e-3, 2e-3]) and curve(board, "gradient norm") == ([1, 2], [0.87, 0.87])
    assert curve(board, "tokens/s") == ([1, 2], [1234.4, 1234.4]) and curve(board, "memory (GB)")[1][1] == 1.5
    assert curve(board, "macro_f1") == ([2], [0.25])
    assert board.line.value.startswith("step 2 of 100, epoch 1: loss 3.0526, learning rate 2.0e-03, gradient norm 0.87, 1,234 tokens/s, ")
    assert board.line.value.endswith(", 4 min 54 s left") and board.bar.value == 0.02


def test_many_measures_do_not_flood_the_board():
    panels = Panels("x", CAPTIONS["en"], live=False)
    panels.see(row_of(1, validation={f"measure {number}": 0.5 for number in range(20)}), 2.0)
    assert sum(trace.name.startswith("measure ") for trace in panels.figure.data) == MOST_MEASURES


def test_chinese_and_english_say_the_same_things():
    assert CAPTIONS["en"].keys() == CAPTIONS["zh"].keys()
    board = LiveBoard("medical/mine", "zh")
    board.on_step(row_of(100))
    assert board.line.value.startswith("第 100 / 100 步，第 1 轮：损失 2.0000") and board.pause_button.description == "暂停"
    with pytest.raises(LabError, match="en, zh, not 'fr'"):
        LiveBoard("x", "fr")


def test_answers_are_escaped_and_shown_as_they_change():
    board = LiveBoard("medical/mine")
    for step, answer in ((1, ATTACK), (2, "no"), (3, "not yet"), (4, " yes ")):
        board.on_step(row_of(step, validation_loss=1.0, answers=[{"prompt": f"{ATTACK} & more", "answer": answer, "wanted": "yes"}]))
    shown = board.answers.value
    assert "<img" not in shown and shown.count("&lt;img") == 2 and "&amp; more" in shown
    assert [step for step in range(1, 5) if f"Step {step}<" in shown] == [1, 3, 4], "the first, and the latest two"
    assert shown.count("✓") == 1


def test_concerns_are_shown_with_their_step():
    board = LiveBoard("medical/mine", "zh")
    board.on_step(row_of(7, gradient_norm=0.0))
    assert "第 7 步" in board.concerns.value and diagnosis.WORDS["zh"]["still"] in board.concerns.value


def test_thousands_of_steps_do_not_slow_the_training():
    """Each step costs its own time and next to nothing for the board: drawing takes at most a twentieth of the time."""
    board, began = LiveBoard("medical/mine"), time.perf_counter()
    for step in range(1, 10_001):
        board.on_step(row_of(step, 10_000))
    assert time.perf_counter() - began < 10  # 0.12 s of processor time measured
    assert len(board.figure.data[0].x) <= 2 * MOST_POINTS and board.figure.data[0].x[-1] == 10_000


def test_drawing_is_bounded_in_time_and_often_enough():
    drawn = []
    board = LiveBoard("medical/mine", redraw_seconds=0.1)
    board.draw = lambda real=board.draw: (drawn.append(time.monotonic()), real())
    end = time.monotonic() + 1.0
    step = 0
    while time.monotonic() < end:
        step += 1
        board.on_step(row_of(step, 10**6))
    gaps = [after - before for before, after in zip(drawn, drawn[1:], strict=False)]
    assert 2 <= len(drawn) <= 11 and min(gaps) > 0.095


def test_the_buttons_are_only_there_where_they_work():
    board = LiveBoard("medical/mine")
    board.on_step(row_of(1))
    assert board.buttons.layout.display == "none"
    board.start(slow_training(2))
    assert board.buttons.layout.display == "flex" and board.result(20) == "finished"


def test_a_training_is_paused_measured_resumed_and_stopped_by_its_buttons():
    board = LiveBoard("medical/mine", redraw_seconds=0.01)
    board.start(slow_training())
    until(lambda: board.bar.value > 0)
    board.pause_button.click()
    until(lambda: "Paused" in board.message.value)
    step = board._row["step"]
    time.sleep(0.1)
    assert board._row["step"] == step and board.pause_button.disabled and not board.resume_button.disabled
    board.evaluate_button.click()
    assert board.evaluate_button.disabled
    board.resume_button.click()
    until(lambda: len(curve(board, "validation")[0]) == 1 and not board.evaluate_button.disabled)
    board.stop_button.click()
    assert board.result(20).startswith("stopped at") and not board.running
    assert "Start it once more to go on from there" in board.message.value
    assert all(button.disabled for button in board.buttons.children)


def test_an_error_is_shown_and_raised_where_the_result_is_asked_for():
    def fails(on_step, on_prepare, control):
        raise LabError(f"the disk is full {ATTACK}", "磁盘已满")

    for language, said in (("en", "It failed: the disk is full &lt;img"), ("zh", "训练失败：磁盘已满")):
        board = LiveBoard("medical/mine", language)
        board.start(fails)
        with pytest.raises(LabError, match="the disk is full"):
            board.result(20)
        assert said in board.message.value and "<img" not in board.message.value


def test_a_mistake_of_the_program_is_raised_with_its_place():
    def fails(on_step, on_prepare, control):
        return {}["missing"]

    board = LiveBoard("medical/mine")
    board.start(fails)
    with pytest.raises(KeyError) as caught:
        board.result(20)
    assert any(entry.name == "fails" for entry in caught.traceback) and "KeyError" in board.message.value


def test_a_cell_can_wait_for_the_end_and_cancelling_it_stops_the_training():
    board = LiveBoard("medical/mine")
    board.start(slow_training(3))
    assert asyncio.run(board.finished()) == "finished"
    board.start(slow_training())

    async def interrupted():
        async with asyncio.timeout(0.2):
            await board.finished()

    with pytest.raises(TimeoutError):
        asyncio.run(interrupted())
    assert board.result(20).startswith("stopped at")


def test_a_board_can_be_started_again_but_not_twice_at_once():
    board = LiveBoard("medical/mine")
    with pytest.raises(LabError, match="call start"):
        board.result()
    board.start(slow_training())
    with pytest.raises(LabError, match="already"):
        board.start(slow_training())
    with pytest.raises(TimeoutError):
        board.result(0.05)
    board.control.stop()
    assert board.result(20).startswith("stopped")
    board.start(slow_training(3))
    assert board.result(20) == "finished" and curve(board, "training")[0] == [1, 2, 3] and "Done: 3 steps in 9 s" in board.message.value


def test_a_run_that_was_finished_already_says_so():
    board = LiveBoard("medical/mine")
    board.start(lambda on_step, on_prepare, control: "the run")
    assert board.result(20) == "the run" and "finished already" in board.message.value


def test_the_training_runs_in_a_thread_that_does_not_hold_the_kernel():
    board, seen = LiveBoard("medical/mine"), []
    board.start(lambda on_step, on_prepare, control: seen.append(threading.current_thread()))
    board.result(20)
    assert seen[0].daemon and seen[0] is not threading.main_thread()


def test_a_real_training_is_watched_and_stopped(tiny_base, small_records, small_scenario):
    recipe = Recipe("small", "watched", base=tiny_base, layers=2, rank=4, epochs=200, batch_size=4, precision="fp32")
    board = LiveBoard("small/watched", redraw_seconds=0.05)
    board.start(functools.partial(trainer.train, recipe, small_records, small_scenario))
    until(lambda: len(curve(board, "training")[0]) >= 3, 60)
    board.evaluate_button.click()
    until(lambda: curve(board, "validation")[0], 60)
    board.stop_button.click()
    run = board.result(60)
    assert run.state() == "stopped" and run.metrics()[-1]["step"] < run.metrics()[-1]["steps"]
    missing = Recipe(**{**vars(recipe), "base": "nowhere/at-all", "name": "other"})
    board.start(functools.partial(trainer.train, missing, small_records, small_scenario))
    with pytest.raises(LabError):
        board.result(60)
    assert "It failed" in board.message.value

"""A training in a terminal and in a log file."""

import io
import os
import pty
import re
import select
import termios

from labkit.training.watching.terminal import watch


def row_of(step, **more):
    return {"step": step, "steps": 100, "epoch": 0, "loss": 2.0, "learning_rate": 2e-3, "gradient_norm": 0.87, "tokens": 500,
            "tokens_per_second": 1234.4, "seconds": 3.0 * step, **more}


def logged(*rows, **options):
    """What a log file holds after these rows."""
    file = io.StringIO()
    with watch("medical/mine", file, **options) as (_, on_step):
        for row in rows:
            on_step(row)
    return file.getvalue().splitlines()


def test_a_log_file_gets_a_plain_line_with_everything_that_matters():
    line, = logged(row_of(1))
    assert line.startswith("medical/mine step 1 of 100: loss 2.0000, rate 2.0e-03, gradient 0.87, 1,234 tokens/s, ")
    assert re.search(r", \d+\.\d GB, 4 min 57 s left$", line)  # 99 steps of 3 s


def test_a_log_file_gets_no_more_than_a_line_every_so_often_and_the_last_step():
    lines = logged(*(row_of(step) for step in range(1, 101)), every_seconds=60)
    assert [line.split(":")[0] for line in lines] == ["medical/mine step 1 of 100", "medical/mine step 100 of 100"]


def test_the_time_that_is_left_keeps_to_the_limit_of_the_recipe():
    assert logged(row_of(1), max_seconds=40)[0].endswith("37 s left")


def test_a_measurement_is_a_line_of_its_own_with_the_smoothed_loss():
    lines = logged(row_of(1), row_of(2, loss=4.0, validation_loss=0.512, validation={"macro_f1": 0.25}), every_seconds=60)
    # (0.9 * 0.1 * 2 + 0.1 * 4) / (1 - 0.9^2) = 0.58 / 0.19
    assert lines[1] == "medical/mine step 2: loss 3.0526, validation loss 0.5120, macro_f1 0.2500"


def test_answers_are_shown_on_one_line_without_what_steers_a_terminal():
    answers = [{"prompt": "two\nlines", "answer": "\x1b[31mred\x07", "wanted": "好" * 500},
               {"prompt": "second", "answer": "", "wanted": ""}]
    lines = logged(row_of(1, answers=answers), every_seconds=60)
    assert lines[1:] == ["medical/mine   prompt: two lines", "medical/mine   answer:  [31mred ", f"medical/mine   wanted: {'好' * 159}…"]


def test_chinese_is_spoken_too():
    line, = logged(row_of(1), language="zh")
    assert line.startswith("medical/mine 第 1 / 100 步: 损失 2.0000, 学习率 2.0e-03") and line.endswith("还需 4 分 57 秒")


def test_a_concern_is_a_line():
    lines = logged(row_of(1, gradient_norm=0.0), every_seconds=60)
    assert lines[1] == "medical/mine warning: the gradient is zero: nothing is learned."


def test_the_frozen_layers_are_counted():
    file = io.StringIO()
    with watch("x", file, every_seconds=60) as (on_prepare, _):
        for done in (10, 20, 30):
            on_prepare(done, 30)
    assert file.getvalue().splitlines() == ["x frozen layers: 10 of 30 records", "x frozen layers: 30 of 30 records"]


def test_a_terminal_gets_a_bar():
    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (40, 160))
    said = b""
    with os.fdopen(writing, "w") as terminal:
        with watch("medical/mine", terminal) as (on_prepare, on_step):
            on_prepare(12, 12)
            for step in range(41, 101):  # a training that goes on
                on_step(row_of(step, **({"validation_loss": 0.5} if step == 100 else {})))
        while select.select([reading], [], [], 0.2)[0]:
            said += os.read(reading, 4096)
    os.close(reading)
    said = said.decode()
    assert "medical/mine frozen layers: 100%" in said and "12/12" in said
    assert "100%" in said and "100/100" in said and "loss 2.0000" in said
    assert "step 100: loss 2.0000, validation loss 0.5000" in said

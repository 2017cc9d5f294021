"""Speed and time left, memory, and what looks wrong."""

import math
import random

import pytest

from labkit.training.watching import diagnosis, memory
from labkit.training.watching.diagnosis import Diagnosis
from labkit.training.watching.pace import Pace, duration


def row_of(step, **more):
    return {"step": step, "steps": 1000, "epoch": 0, "loss": 1.0, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens": 10,
            "tokens_per_second": 10.0, "seconds": float(step), **more}


def concerns(rows, **options):
    """(kind, step) of all concerns."""
    found = Diagnosis(**options)
    return [(each.kind, each.step) for row in rows for each in found.see(row)]


def test_the_pace_is_that_of_the_last_steps():
    pace, seconds = Pace(), 0.0
    for step in range(1, 201):
        seconds += 10.0 if step <= 100 else 2.0
        pace.see(row_of(step, seconds=seconds))
    assert pace.seconds_left == pytest.approx(800 * 2.0) and pace.tokens_per_second == pytest.approx(10 / 2.0)


def test_a_resumed_training_knows_its_pace_from_the_second_row():
    pace = Pace()
    pace.see(row_of(500, seconds=9000.0))
    assert pace.seconds_left is None and pace.tokens_per_second is None
    pace.see(row_of(501, seconds=9003.0))
    assert pace.seconds_left == pytest.approx(499 * 3.0)


def test_the_last_step_leaves_nothing():
    pace = Pace()
    pace.see(row_of(1, steps=1))
    assert pace.seconds_left == 0.0


@pytest.mark.parametrize(("seconds", "en", "zh"), [
    (0.4, "0 s", "0 秒"), (59.6, "1 min 0 s", "1 分 0 秒"), (3599.4, "59 min 59 s", "59 分 59 秒"), (3600, "1 h 0 min", "1 小时 0 分"),
])
def test_times_are_said_in_two_places(seconds, en, zh):
    assert duration(seconds) == en and duration(seconds, "zh") == zh


def test_memory_is_measured_in_gigabytes():
    before = memory.resident_gb()
    block = bytearray(200 * 2**20)
    assert memory.resident_gb() - before == pytest.approx(200 / 1024, abs=0.05)
    del block
    assert memory.peak_gb() >= before + 0.15
    assert 0 < memory.peak_gb() < memory.limit_gb()


def test_a_container_s_limit_counts_where_it_is_lower(tmp_path, monkeypatch):
    machine = memory.limit_gb()
    for said, expected in (("max", machine), (str(2**29), 0.5), (str(2**62), machine)):
        path = tmp_path / "memory.max"
        path.write_text(said + "\n")
        monkeypatch.setattr(memory, "_GROUP_LIMITS", (path,))
        assert memory.limit_gb() == pytest.approx(min(expected, machine), rel=0.2)


def test_a_healthy_training_gives_no_concern():
    noise = random.Random(0)
    rows = [row_of(step, loss=3 * math.exp(-step / 100) + 0.3 * noise.random(), gradient_norm=0.5 + noise.random())
            for step in range(1, 1001)]
    assert concerns(rows, memory_limit=64.0) == []


def test_a_noisy_loss_near_zero_is_not_called_diverging():
    for seed in range(10):
        noise = random.Random(seed)
        assert concerns([row_of(step, loss=0.01 * noise.expovariate(1.0)) for step in range(1, 1001)]) == []


def test_a_rising_loss_is_diverging_and_said_once_in_a_hundred_steps():
    rows = [row_of(step, loss=1.0 if step <= 50 else 1.0 + 0.05 * (step - 50)) for step in range(1, 151)]
    found = concerns(rows)
    assert {kind for kind, _ in found} == {"diverging"} and len(found) == 1 and 60 < found[0][1] < 110


def test_what_is_no_number_is_said():
    assert concerns([row_of(1, loss=math.nan)]) == [("not_a_number", 1)]
    assert concerns([row_of(1, gradient_norm=math.inf)]) == [("not_a_number", 1)]


def test_a_jump_of_the_gradient_is_a_spike_once_its_usual_size_is_known():
    assert concerns([row_of(step, gradient_norm=11.0 if step == 5 else 1.0) for step in range(1, 50)]) == []
    assert concerns([row_of(step, gradient_norm=11.0 if step == 40 else 1.0) for step in range(1, 50)]) == [("spike", 40)]
    assert concerns([row_of(step, gradient_norm=9.0 if step == 40 else 1.0) for step in range(1, 50)]) == []


def test_a_gradient_of_zero_is_said():
    assert concerns([row_of(1, gradient_norm=0.0)]) == [("still", 1)]


@pytest.mark.parametrize(("held_out", "kinds"), [
    ((1.0, 0.8, 0.9, 1.0), ["overfitting"]),
    ((1.0, 0.8, 0.9), []),                # one worse measurement may be chance
    ((1.0, 0.8, 0.9, 0.7), []),
    ((1.0, 0.8, 0.801, 0.802), []),       # hardly worse
])
def test_a_validation_loss_that_rises_twice_while_the_training_loss_falls_is_overfitting(held_out, kinds):
    rows = [row_of(step, loss=2.0 / step**0.5) for step in range(1, 10 * len(held_out) + 1)]
    for place, value in enumerate(held_out):
        rows[10 * place + 9]["validation_loss"] = value
    assert [kind for kind, _ in concerns(rows)] == kinds


def test_memory_near_its_limit_is_said():
    assert concerns([row_of(1, memory_gb=8.9), row_of(2, memory_gb=9.1)], memory_limit=10.0) == [("memory", 2)]
    assert concerns([row_of(1, memory_gb=9.1)]) == []


def test_every_concern_is_said_in_both_languages():
    assert diagnosis.WORDS["en"].keys() == diagnosis.WORDS["zh"].keys()
    rows = [row_of(step, gradient_norm=50.0 if step == 40 else 1.0) for step in range(1, 41)]
    found = Diagnosis()
    spike, = [each for row in rows for each in found.see(row)]
    assert "jumped to 50, 50 times its median" in spike.said() and "跳到 50，是中位数的 50 倍" in spike.said("zh")

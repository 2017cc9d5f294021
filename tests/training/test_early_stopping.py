"""Early stopping tells gains from none, stops after its patience, and goes on where it was left."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.training.early_stopping import EarlyStopping, Verdict

B, W, S = Verdict.BETTER, Verdict.WORSE, Verdict.STOP


def seen(watch, values):
    return [watch.see(step, value) for step, value in enumerate(values)]


def test_it_stops_after_as_many_measurements_without_a_gain_as_its_patience():
    watch = EarlyStopping(patience=2)
    assert seen(watch, [3.0, 2.0, 2.5, 1.9, 1.9, 2.0]) == [B, B, W, B, W, S]
    assert (watch.best, watch.best_step) == (1.9, 3)


def test_where_more_is_better_it_waits_for_more():
    assert seen(EarlyStopping(patience=1, mode="max"), [0.5, 0.6, 0.6]) == [B, B, S]


def test_a_gain_below_the_smallest_is_none_and_small_ones_add_up():
    assert seen(EarlyStopping(patience=3, smallest_gain=0.1), [1.0, 0.95, 0.89, 0.8]) == [B, W, B, W]


def test_without_patience_it_never_stops():
    assert S not in seen(EarlyStopping(patience=0), [1.0] + [2.0] * 50)


def test_a_measurement_that_is_no_number_is_worse_than_any():
    watch = EarlyStopping(patience=2)
    assert seen(watch, [float("nan"), 5.0, float("nan"), float("inf")]) == [W, B, W, S]


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20), st.integers(0, 4), st.sampled_from(["min", "max"]), st.data())
def test_left_and_gone_on_with_it_says_what_it_would_have_said(values, patience, mode, data):
    cut = data.draw(st.integers(0, len(values)))
    first = EarlyStopping(patience, mode=mode)
    seen(first, values[:cut])
    second = EarlyStopping(patience, mode=mode)
    second.load_state(json.loads(json.dumps(first.state())))
    assert [first.see(step, value) for step, value in enumerate(values[cut:])] == [
        second.see(step, value) for step, value in enumerate(values[cut:])]


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_the_best_is_the_first_of_the_least(values):
    watch = EarlyStopping(patience=0)
    seen(watch, values)
    assert watch.best == min(values) and watch.best_step == values.index(min(values))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="min or max"):
        EarlyStopping(1, mode="least")

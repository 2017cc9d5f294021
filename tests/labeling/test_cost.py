"""Time, money, suggestions and the cost of strategies, from annotations worked out by hand."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labkit.errors import LabError
from labkit.labeling import cost
from labkit.labeling.annotations import Annotation
from labkit.labeling.quality.intervals import Estimate

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def said(record, annotator="ann", *, after=0.0, seconds=None, field="kind", value="apple", status="submitted"):
    return Annotation(record, field, annotator, value, status, NOON + timedelta(seconds=after), seconds)


def test_the_time_of_a_record_is_what_was_measured_and_counts_once_for_all_its_fields():
    found = cost.times([said("1", seconds=20.0), said("1", seconds=20.0, field="note"), said("2", seconds=40.0)])
    assert found == {("ann", "1"): 20.0, ("ann", "2"): 40.0}
    assert cost.seconds_a_record([said("1", seconds=20.0), said("2", seconds=40.0)]).value == 30


def test_without_a_measured_time_it_is_the_gap_to_the_submission_before():
    given = [said("2", after=25), said("1"), said("3", after=65), said("9", "bob", after=30)]
    assert cost.times(given) == {("ann", "2"): 25.0, ("ann", "3"): 40.0}  # nobody's first one has a gap


def test_pauses_bulk_actions_and_drafts_are_left_out_and_discarded_records_are_not():
    given = [said("1"), said("2", after=400), said("3", after=400), said("4", after=430, value=None, status="discarded"),
             said("5", after=440, status="draft", seconds=10.0), said("6", after=450)]
    assert cost.times(given, pause=300) == {("ann", "4"): 30.0, ("ann", "6"): 20.0}


def test_a_price_is_seconds_times_records_times_annotators():
    found = cost.price(200, Estimate(36.0, 27.0, 45.0, 50), annotators=3, wage=20.0)
    assert found.seconds == Estimate(21_600.0, 16_200.0, 27_000.0, 50)
    assert (found.money.value, found.money.low, found.money.high) == pytest.approx((120, 90, 150))  # 6 hours at 20
    assert cost.price(10, 30.0).money.value is None


@pytest.mark.parametrize("arguments", [(-1, 30.0), (1, -30.0)])
def test_negative_prices_are_refused(arguments):
    with pytest.raises(LabError, match="negative"):
        cost.price(*arguments)


def test_what_suggestions_save_is_one_less_the_ratio_of_mean_times():
    suggestions = {"1": {"kind": "apple"}, "2": {"kind": "apple"}, "3": {"kind": "pear"}}
    given = [said("1", seconds=10.0), said("2", seconds=14.0), said("3", seconds=30.0), said("4", seconds=40.0), said("5", seconds=32.0)]
    found = cost.prelabelling(given, suggestions)
    assert found.accepted.value == pytest.approx(2 / 3) and found.accepted.records == 3
    assert (found.accepting.value, found.correcting.value, found.unaided.value) == (12, 30, 36)
    assert found.saved.value == pytest.approx(1 - 18 / 36)
    assert found.saved.low < 0.5 < found.saved.high


def test_a_record_is_accepted_where_all_its_suggestions_are():
    suggestions = {"1": {"kind": "apple", "note": "round"}}
    given = [said("1", seconds=10.0, field=field, value=value) for field, value in (("kind", "apple"), ("note", "square"), ("weight", 3))]
    found = cost.prelabelling(given, suggestions)
    assert found.accepted.value == 0.5 and found.correcting.value == 10 and found.accepting.value is None


def test_without_unaided_records_nothing_is_said_about_savings():
    found = cost.prelabelling([said("1", seconds=10.0)], {"1": {"kind": "apple"}})
    assert found.saved.value is None and set(found.saved.reason) == {"en", "zh"}


def test_the_target_is_reached_on_the_straight_line_between_two_points():
    assert cost.labels_to([100, 200, 300], [0.5, 0.7, 0.8], 0.75) == 250
    assert cost.labels_to([100, 200], [0.5, 0.7], 0.4) == 100
    assert math.isinf(cost.labels_to([100, 200], [0.5, 0.7], 0.71))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_a_reached_target_lies_within_the_curve(scores, target):
    labels = [50 * (place + 1) for place in range(len(scores))]
    found = cost.labels_to(labels, scores, target)
    assert math.isinf(found) == (max(scores) < target) and (math.isinf(found) or 50 <= found <= labels[-1])


def test_strategies_are_compared_by_what_they_need():
    counts = [100, 200, 300, 400]
    curves = {"random": [(counts, [0.5, 0.6, 0.7, 0.8]), (counts, [0.5, 0.6, 0.7, 0.8])],
              "margin": [(counts, [0.6, 0.8, 0.9, 0.9]), (counts, [0.7, 0.9, 0.9, 0.9])],
              "core_set": [(counts, [0.5, 0.6, 0.7, 0.75]), (counts, [0.5, 0.6, 0.7, 0.8])]}
    margin, random, core_set = cost.to_reach(curves, 0.8, 36.0, wage=10.0)
    assert (margin.strategy, random.strategy, core_set.strategy) == ("margin", "random", "core_set")
    assert margin.labels.value == 175 and margin.saved.value == pytest.approx(1 - 175 / 400)  # 200 and 150 labels
    half = stats.t.ppf(0.975, 1) * 25  # the standard error of 200 and 150
    assert (margin.labels.low, margin.labels.high) == pytest.approx((175 - half, 175 + half))
    assert margin.price.seconds.value == 175 * 36 and margin.price.money.value == pytest.approx(17.5)
    assert random.labels.value == 400 and random.saved.value == 0
    assert core_set.labels.value is None and core_set.runs == 1 and core_set.price is None and core_set.saved.value is None
    with pytest.raises(LabError, match="chance"):
        cost.to_reach(curves, 0.8, 36.0, against="chance")


def test_the_interval_over_runs_is_students():
    values = [3.0, 4.0, 8.0, 9.0]
    found = cost.over_runs(values)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert cost.over_runs([3.0]).low is None


@pytest.mark.parametrize(("seconds", "en", "zh"), [(1, "1 second", "1 秒"), (119.4, "119 seconds", "119 秒"), (150, "2 minutes", "2 分钟"),
                                                   (3600, "60 minutes", "60 分钟"), (10_800, "3 hours", "3 小时"),
                                                   (9_000, "2.5 hours", "2.5 小时"), (360_000, "100 hours", "100 小时")])
def test_times_are_said_in_words(seconds, en, zh):
    assert (cost.duration(seconds, "en"), cost.duration(seconds, "zh")) == (en, zh)

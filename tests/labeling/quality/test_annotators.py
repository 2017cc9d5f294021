"""Speed without pauses, drift, bias and straight-lining, on annotations made for the purpose."""

import random
from datetime import timedelta

import numpy as np
import pytest
from scipy import stats

from labkit.labeling.annotations import Annotation, ratings
from labkit.labeling.quality import annotators
from tests.labeling.quality import tables


def at(seconds, record, name="ana", field="kind", value="apple", status="submitted", took=None):
    return Annotation(record, field, name, value, status, tables.START + timedelta(seconds=seconds), took)


def test_speed_is_the_median_time_between_submissions_without_pauses():
    # Gaps 10, 20, 1000 (a pause), 30, 0 (saved together with the one before).
    found, = annotators.speed([at(seconds, f"r{number}") for number, seconds in enumerate((0, 10, 30, 1030, 1060, 1060))])
    assert found.seconds.value == 20 and found.seconds.records == 3 and found.pauses == 1
    assert (found.quarter, found.three_quarters) == (15, 25) and found.hours == pytest.approx(60 / 3600)


def test_a_record_of_several_fields_counts_once_and_drafts_do_not_count():
    given = [at(0, "r0"), at(10, "r1"), at(12, "r1", field="weight", value=3.0), at(20, "r2", status="draft"), at(32, "r3")]
    found, = annotators.speed(given)
    assert found.seconds.records == 2 and found.seconds.value == 16  # 12 and 20


def test_measured_seconds_are_taken_before_gaps():
    found, = annotators.speed([at(0, "r0", took=7.0), at(100, "r1", took=9.0), at(200, "r2", took=400.0)])
    assert found.seconds.value == 8 and found.pauses == 1


def test_the_interval_of_the_median_is_that_of_drawing_times():
    draw = random.Random(3)
    times = [draw.expovariate(1 / 20) for _ in range(31)]
    found, = annotators.speed([at(place, f"r{place:02}", took=time) for place, time in enumerate(times)], resamples=400, seed=9)
    draws = np.random.default_rng(9).integers(0, 31, size=(400, 31))
    medians = [np.median(np.sort(times)[one]) for one in draws]
    assert found.seconds.value == pytest.approx(np.median(times))
    assert [found.seconds.low, found.seconds.high] == pytest.approx(np.quantile(medians, [0.025, 0.975]))


def test_one_submission_has_no_speed_and_says_why():
    found, = annotators.speed([at(0, "r0")])
    assert found.seconds.value is None and found.seconds.reason["zh"] and found.quarter is None


def drifting(seed, count=160, early=0.95, late=0.5):
    """Two steady annotators and one who falls from `early` to `late` in the middle."""
    draw = random.Random(seed)
    truth = [draw.choice("xyz") for _ in range(count)]
    steady = lambda: [value if draw.random() < 0.95 else draw.choice("xyz") for value in truth]  # noqa: E731
    falls = [value if draw.random() < (early if place < count / 2 else late) else draw.choice("xyz") for place, value in enumerate(truth)]
    return {"ana": steady(), "ben": steady(), "cem": falls}


def test_one_who_gets_worse_is_found_and_the_steady_ones_are_not():
    found = {each.annotator: each for each in annotators.drift(tables.annotations("kind", drifting(1)), "kind")}
    assert found["cem"].trend.high < 0 and found["cem"].p < 0.01 and abs(found["cem"].change - 80) < 25
    assert [window.records for window in found["cem"].windows] == [20] * 8
    assert len(annotators.drift(tables.annotations("kind", drifting(1, 1200)), "kind", resamples=10)[0].windows) == 12
    assert found["cem"].windows[0].value > found["cem"].windows[-1].value


def test_a_change_is_claimed_for_one_in_twenty_steady_annotators_at_most():
    people = [each for seed in range(60) for each in annotators.drift(
        tables.annotations("kind", {"ana": drifting(seed, 60, late=0.95)["cem"]}), "kind",
        gold={f"r{place:03}": value for place, value in enumerate(drifting(seed, 60, late=0.95)["ana"])}, resamples=200)]
    claimed = sum(each.change is not None for each in people)
    assert len(people) == 60 and claimed <= stats.binom.ppf(0.999, 60, 0.05)


def test_the_trend_is_the_least_squares_line_over_all_records():
    agreed = [1, 1, 1, 0, 1, 0, 0, 1, 0, 0]
    gold = {f"r{place:03}": "x" if same else "y" for place, same in enumerate(agreed)}
    found, = annotators.drift(tables.annotations("kind", {"ana": ["x"] * 10}), "kind", gold=gold)
    slope = stats.linregress(np.linspace(0, 1, 10), agreed).slope
    assert found.trend.value == pytest.approx(slope)


def test_few_shared_records_have_no_trend():
    found, = annotators.drift(tables.annotations("kind", {"ana": ["x"] * 5}), "kind", gold={"r000": "x"})
    assert found.trend.value is None and found.change is None and found.p == 1


def test_bias_is_the_difference_from_the_others_on_the_same_records():
    given = tables.annotations("kind", {"ana": ["x", "x", "x", "y"], "ben": ["x", "y", "y", "y"], "cem": ["x", "y", None, None, "x"]})
    found = {(each.annotator, each.label): each for each in annotators.bias(ratings(given, "kind"))}
    assert (found["ana", "x"].share, found["ana", "x"].others) == (0.75, 0.25)
    assert found["ana", "x"].difference.value == pytest.approx(0.5) == -found["ana", "y"].difference.value
    assert found["cem", "x"].difference.value == pytest.approx((1 - 1 + 0 - 0.5) / 2)  # only the two records that others rated too


def test_offsets_of_numbers_are_means_of_differences():
    given = tables.annotations("weight", {"ana": [10.0, 20.0, 30.0], "ben": [8.0, 18.0, None], "cem": [12.0, None, 30.0]})
    found = annotators.offsets(ratings(given, "weight"))
    assert found["ana"].value == pytest.approx((0 + 2 + 0) / 3) and found["ben"].value == pytest.approx((-3 - 2) / 2)
    assert annotators.offsets(ratings(tables.annotations("weight", {"ana": [1.0]}), "weight"))["ana"].value is None


def test_a_long_run_of_one_label_stands_out_and_an_honest_order_does_not():
    draw = random.Random(4)
    honest = [draw.choice("xyz") for _ in range(80)]
    lazy = honest[:30] + ["x"] * 25 + honest[30:55]
    found = {each.annotator: each for each in annotators.straight_lining(tables.annotations("kind", {"ana": honest, "ben": lazy}), "kind")}
    assert found["ben"].label == "x" and 25 <= found["ben"].length <= 29 and found["ben"].p < 0.001
    assert found["ana"].p > 0.01 and found["ana"].records == 80


def test_the_chance_of_a_run_is_that_of_counting_all_orders():
    # xxyy: of 6 orders xxyy, yyxx, xyyx and yxxy have a run of two or more.
    found, = annotators.straight_lining(tables.annotations("kind", {"ana": ["x", "x", "y", "y"]}), "kind", orders=20_000)
    assert found.length == 2 and found.p == pytest.approx(4 / 6, abs=0.02)
    always, = annotators.straight_lining(tables.annotations("kind", {"ana": ["x"] * 9}), "kind")
    assert (always.length, always.p) == (9, 1)


def test_the_share_of_discarded_records_counts_the_last_status():
    given = [at(0, "r0", status="discarded", value=None), at(5, "r0"), at(9, "r1", status="discarded", value=None)]
    given.append(at(9, "r2", status="draft"))
    assert annotators.discarded(given)["ana"].value == 0.5

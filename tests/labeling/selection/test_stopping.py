"""Each rule stops where its reason holds, and goes on where too little is known."""

import math

import pytest

from labkit.errors import LabError
from labkit.labeling.selection import stopping


def test_predictions_that_no_longer_change_stop_the_work():
    same = ["a", "b"] * 50
    found = stopping.stable_predictions([["b", "a"] * 50, same, same, same, same])
    assert found.stop and "1.000" in found.reason["en"] and "1.000" in found.reason["zh"]


def test_kappa_of_successive_rounds_is_cohens():
    # 100 records, 50 and 50; 10 of each side change: observed agreement 0.8, by chance 0.5, kappa 0.6.
    before, after = ["a"] * 50 + ["b"] * 50, ["a"] * 40 + ["b"] * 10 + ["a"] * 10 + ["b"] * 40
    found = stopping.stable_predictions([before, after, before, after])
    assert not found.stop and "kappa 0.600" in found.reason["en"]
    assert stopping.stable_predictions([before, after, before, after], least=0.59).stop


def test_too_few_rounds_are_a_reason_to_go_on():
    assert not stopping.stable_predictions([["a"] * 10] * 3).stop
    assert stopping.stable_predictions([["a"] * 10] * 4).stop


def test_rounds_of_other_records_are_refused():
    with pytest.raises(LabError):
        stopping.stable_predictions([["a"], ["a", "b"]])


def test_a_flat_curve_stops_and_a_rising_one_does_not():
    labels = [100, 200, 300, 400, 500, 600]
    assert stopping.flat_curve(labels, [0.8, 0.8, 0.8, 0.8, 0.8, 0.8], 50).stop
    # 4 / sqrt(600) less 4 / sqrt(650) are 0.64 points
    assert not stopping.flat_curve(labels, [0.9 - 4 / math.sqrt(count) for count in labels], 50).stop
    assert not stopping.flat_curve([100, 200], [0.5, 0.5], 50).stop


def test_the_budget_counts_the_batch_to_come():
    assert not stopping.budget_spent(450, 50, most_labels=500).stop
    assert stopping.budget_spent(451, 50, most_labels=500).stop
    assert not stopping.budget_spent(450, 50, seconds_a_label=36, most_seconds=5 * 3600).stop  # 500 at 36 s are 5 hours
    found = stopping.budget_spent(451, 50, seconds_a_label=36, most_seconds=5 * 3600)
    assert found.stop and "5 hours" in found.reason["en"] and "5 小时" in found.reason["zh"]


def test_a_target_is_reached_by_the_lower_end_of_the_interval():
    # Wilson for 90 of 100: 0.8256 to 0.9448 (Wilson 1927; Newcombe 1998 gives the formula).
    assert stopping.target_reached(90, 100, 0.82).stop
    assert not stopping.target_reached(90, 100, 0.83).stop
    assert not stopping.target_reached(0, 0, 0.5).stop

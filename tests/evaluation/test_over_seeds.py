"""A difference over seeds and situations: its value is plain arithmetic, its interval covers what it should."""

import numpy as np
import pytest

from labkit.errors import LabError
from labkit.evaluation import over_seeds


def test_the_value_is_the_difference_of_the_means():
    found = over_seeds.difference([[1, 0, 0, 1], [1, 1, 0, 0]], [[1, 1, 0, 1], [1, 1, 1, 1]], ["a", "b", "c", "d"])
    assert found.value == 7 / 8 - 4 / 8 and found.records == 4 and found.low <= found.value <= found.high


def test_where_nothing_varies_the_interval_is_a_point():
    found = over_seeds.difference(np.zeros((3, 5)), np.ones((3, 5)), list("abcde"))
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_records_of_one_situation_count_as_one():
    """Ten tellings of each of 20 situations tell no more than one of each."""
    draw = np.random.default_rng(0)
    once = draw.integers(0, 2, (1, 20)).astype(float)
    alone = over_seeds.difference(1 - once, once, [str(place) for place in range(20)])
    told = over_seeds.difference(np.repeat(1 - once, 10, 1), np.repeat(once, 10, 1), [str(place) for place in range(20) for _ in range(10)])
    assert (told.value, told.low, told.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_seeds_that_differ_widen_the_interval():
    situations = [str(place) for place in range(400)]
    steady, shaky = np.zeros((4, 400)), np.zeros((4, 400))
    steady[:, :200], shaky[:2] = 1, 1  # the same mean: half the records right with each seed, or all with half the seeds
    width = lambda after: (lambda found: found.high - found.low)(over_seeds.difference(np.zeros((4, 400)), after, situations))  # noqa: E731
    assert width(shaky) > 5 * width(steady)


def test_its_width_is_that_of_a_paired_mean_over_records():
    """With one seed and each record a situation: 1.96 standard errors to either side."""
    gaps = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(1, 900), p=[0.1, 0.7, 0.2])
    found = over_seeds.difference(np.zeros_like(gaps), gaps, [str(place) for place in range(900)])
    assert found.high - found.low == pytest.approx(2 * 1.96 * gaps.std() / 30, rel=0.08)


def test_sides_that_do_not_match_are_refused():
    with pytest.raises(LabError, match="same seeds and records"):
        over_seeds.difference(np.zeros((2, 3)), np.zeros((1, 3)), list("abc"))

"""What repeated seeds say about a gain: intervals, chances, and the luck of the best of many."""

import json
import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labkit.errors import LabError
from labkit.training.search import noise


def test_the_best_of_many_equal_ones_gains_what_order_statistics_say():
    assert noise.best_of(1) == 0
    assert noise.best_of(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-7)
    assert noise.best_of(3) == pytest.approx(3 / (2 * math.sqrt(math.pi)), abs=1e-7)
    draws = numpy.random.default_rng(0).standard_normal((200_000, 20)).max(axis=1)
    assert noise.best_of(20) == pytest.approx(draws.mean(), abs=4 * draws.std() / math.sqrt(len(draws)))


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_interval_and_the_chances_are_those_of_scipy(pairs):
    best, default = (numpy.array(side) for side in zip(*pairs, strict=True))
    found = noise.compare(list(best), list(default))
    differences = default - best
    assert found["gain"] == pytest.approx(differences.mean(), abs=1e-9)
    if differences.std() > 1e-6:
        want = stats.ttest_rel(default, best).confidence_interval(0.95)
        assert (found["low"], found["high"]) == pytest.approx((want.low, want.high), rel=1e-6, abs=1e-9)
        assert found["probability"] == pytest.approx(1 - stats.ttest_rel(default, best, alternative="greater").pvalue, abs=1e-6)
    assert found["wins"] == pytest.approx(stats.mannwhitneyu(default, best).statistic / len(best) ** 2)


def test_for_a_measure_that_should_rise_a_higher_one_is_the_gain():
    found = noise.compare([0.9, 0.8], [0.5, 0.6], direction="maximise")
    assert found["gain"] == pytest.approx(0.3) and found["wins"] == 1.0


def test_equal_values_are_no_gain_and_no_error():
    found = noise.compare([1.0, 1.0], [1.0, 1.0])
    assert (found["gain"], found["low"], found["high"], found["probability"], found["verdict"]) == (0, 0, 0, 0.5, "unclear")


@pytest.mark.parametrize(("best", "verdict", "said"), [
    ([1.0, 1.01, 0.99], "better", "more than noise"), ([3.0, 3.01, 2.99], "worse", "is worse"),
    ([1.0, 3.0, 2.0], "unclear", "cannot be told")])
def test_the_sentence_says_what_the_interval_says(best, verdict, said):
    found = noise.compare(best, [2.0, 2.02, 1.98], searched={"best": 1.0, "default": 2.0, "trials": 12})
    assert found["verdict"] == verdict and said in noise.sentence(found)
    assert found["luck"] == pytest.approx(noise.best_of(12) * found["deviation"]) and found["seemed"] == 1.0
    assert "12 whole trials" in noise.sentence(found) and "12 次完整试验" in noise.sentence(found, "zh")


def test_pure_noise_seems_a_gain_in_the_search_and_is_seldom_called_one():
    """A hundred searches of twelve equal settings: the best seems better by about `luck`; the interval holds zero 95 times of 100."""
    drawn, seemed, called = numpy.random.default_rng(1), [], 0
    for _ in range(100):
        seemed.append(drawn.standard_normal() - drawn.standard_normal(12).min())
        found = noise.compare(list(drawn.standard_normal(5)), list(drawn.standard_normal(5)))
        called += found["verdict"] == "better"
    assert numpy.mean(seemed) == pytest.approx(noise.best_of(12), abs=0.4)
    assert called <= 8  # 2.5 expected


def test_seeds_are_repeated_for_both_and_what_is_known_is_not_run_again(tmp_path):
    run = []

    def trial(given, report):
        run.append((given["rank"], given["seed"]))
        report(1, 1.0)
        return given["rank"] + given["seed"] / 10

    found = noise.repeat(trial, {"rank": 4}, {"rank": 8}, [1, 2], folder=tmp_path)
    assert run == [(4, 1), (8, 1), (4, 2), (8, 2)]
    assert found["best"] == [4.1, 4.2] and found["default"] == [8.1, 8.2] and found["gain"] == pytest.approx(4)
    noise.repeat(trial, {"rank": 4}, {"rank": 8}, [1, 2, 3], folder=tmp_path)
    assert run[4:] == [(4, 3), (8, 3)]
    assert len(json.loads((tmp_path / "seeds.json").read_text())) == 6
    with pytest.raises(LabError, match="at least 2 seeds"):
        noise.repeat(trial, {"rank": 4}, {"rank": 8}, [1, 1], folder=tmp_path)

"""The learning curve: known curves are found again, the band holds what it should, and it says where it cannot say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from labkit.errors import LabError
from labkit.labeling import learning_curve
from labkit.labeling.quality.intervals import Estimate

LABELS = np.array([100, 150, 200, 300, 400, 600])
TRUE = {"power": lambda n: 0.95 - 1.2 * n**-0.5, "exponential": lambda n: 0.9 - 0.4 * np.exp(-n / 250),
        "logarithm": lambda n: 0.3 + 0.09 * np.log(n)}


@pytest.mark.parametrize("form", TRUE)
def test_a_curve_without_noise_is_found_again_and_goes_on_rightly(form):
    curve = learning_curve.fit(LABELS, TRUE[form](LABELS))
    wanted = np.array([250, 600, 900.0])
    assert curve.form == form and curve.at(wanted)[0] == pytest.approx(TRUE[form](wanted), abs=0.002)
    assert curve.gain(300).value == pytest.approx(TRUE[form](900.0) - TRUE[form](600.0), abs=0.002)


def test_labels_to_a_target_follow_from_the_power_law():
    curve = learning_curve.fit(LABELS, TRUE["power"](LABELS))
    # 0.95 - 1.2 / sqrt(n) = 0.91 where sqrt(n) = 30
    found = curve.labels_to(0.91)
    assert found.value == pytest.approx(900, rel=0.02) and found.low <= found.value <= found.high
    assert curve.labels_to(0.99).value is None and set(curve.labels_to(0.99).reason) == {"en", "zh"}


def test_the_fit_is_as_good_as_scipys():
    scores = TRUE["power"](LABELS) + np.random.default_rng(4).normal(0, 0.01, len(LABELS))
    shapes = learning_curve._shapes("power", LABELS)
    misses = learning_curve._best("power", LABELS.astype(float), scores[None], np.ones(len(LABELS)), shapes, 1.0)[3][0]
    found, _ = curve_fit(lambda n, a, b, c: a - b * n**-c, LABELS, scores, p0=(0.95, 1, 0.5), bounds=((0, 0, 0.05), (1, np.inf, 3)))
    theirs = float(((found[0] - found[1] * LABELS**-found[2] - scores) ** 2).sum())
    assert misses <= 1.01 * theirs


@pytest.mark.parametrize("form", TRUE)
def test_the_band_holds_the_true_gain_in_about_19_of_20_cases(form):
    counts = np.linspace(100, 600, 8)
    held = 0
    for seed in range(100):
        scores = TRUE[form](counts) + np.random.default_rng(seed).normal(0, 0.006, len(counts))
        gain = learning_curve.fit(counts, scores, seed=seed, draws=200).gain(200)
        held += gain.low <= TRUE[form](800.0) - TRUE[form](600.0) <= gain.high
    assert held >= 82  # it may be somewhat too narrow where the form is unknown


def test_more_noise_makes_a_wider_band():
    def width(noise):
        scores = TRUE["power"](LABELS) + noise * np.array([1, -1, 1, -1, 1, -1])
        gain = learning_curve.fit(LABELS, scores).gain(200)
        return gain.high - gain.low

    assert width(0.02) > 1.5 * width(0.005)


def test_known_errors_keep_the_band_from_being_too_narrow():
    scores = TRUE["power"](LABELS)
    narrow, wide = (learning_curve.fit(LABELS, scores, errors=errors).at([800]) for errors in (None, [0.01] * 6))
    assert wide[2] - wide[1] > 5 * (narrow[2] - narrow[1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=5, max_size=8), st.integers(0, 99))
def test_curves_never_fall_and_never_pass_the_best_score(scores, seed):
    curve = learning_curve.fit([50 * (place + 1) for place in range(len(scores))], scores, seed=seed, draws=50)
    value, low, high = curve.at(np.linspace(50, 5000, 30))
    assert (np.diff(value) >= -1e-9).all() and (low <= value).all() and (value <= high).all() and high.max() <= 1
    assert curve.gain(100).low >= -1e-9


def test_the_same_seed_gives_the_same_curve():
    one, two = (learning_curve.fit(LABELS, TRUE["power"](LABELS) + 0.01 * np.sin(LABELS), seed=3).gain(200) for _ in range(2))
    assert one == two


def test_three_numbers_of_labels_are_too_few_and_it_says_so():
    found = learning_curve.forecast([100, 100, 200, 300], [0.5, 0.5, 0.6, 0.7], 200, seconds_a_label=54)
    assert found.gain.value is None
    assert found.sentence("en") == ("What another 200 labels would buy cannot be said: a learning curve needs scores at 4 different "
                                    "numbers of labels or more, there are 3.")
    assert found.sentence("zh") == "无法预测再标 200 条的收益：学习曲线至少需要 4 种不同标注数量下的分数，目前只有 3 种。"
    with pytest.raises(LabError) as error:
        learning_curve.fit([100, 100, 200, 300], [0.5, 0.5, 0.6, 0.7])
    assert "至少" in error.value.said("zh")


def test_a_forecast_is_said_in_words_with_its_time_and_interval():
    forecast = learning_curve.Forecast(200, Estimate(0.015, 0.008, 0.022, 6), 10_800.0, False)
    assert forecast.sentence("en") == "Another 200 labels, about 3 hours, buy 1.5 ± 0.7 points of macro-F1."
    assert forecast.sentence("zh") == "再标 200 条（约 3 小时）可使宏平均 F1 提高 1.5 ± 0.7 个百分点。"
    uneven = learning_curve.Forecast(1, Estimate(0.015, 0.012, 0.040, 6), None, True)
    assert uneven.sentence("en", {"en": "accuracy"}) == (
        "Another 1 label buys 1.5 points (1.2 to 4.0) of accuracy. That is more than twice what was measured: take it with care.")


def test_a_gain_that_may_be_nothing_is_called_so():
    forecast = learning_curve.Forecast(200, Estimate(0.004, 0.0, 0.014, 6), None, False)
    assert forecast.sentence("en") == "Another 200 labels may buy nothing: 0.4 points (0.0 to 1.4) of macro-F1."
    assert "可能毫无收益" in forecast.sentence("zh")
    flat = learning_curve.forecast(LABELS, [0.81, 0.79, 0.80, 0.81, 0.79, 0.80], 200)
    assert "may buy nothing" in flat.sentence("en")


def test_far_forecasts_are_marked():
    scores = TRUE["power"](LABELS)
    assert not learning_curve.forecast(LABELS, scores, 600).far and learning_curve.forecast(LABELS, scores, 601).far


@pytest.mark.parametrize(("labels", "scores", "errors"), [([0, 1, 2, 3], [0.5] * 4, None), ([1, 2, 3, 4], [0.5] * 3, None),
                                                          ([1, 2, 3, 4], [0.5, 0.5, 0.5, 1.2], None), ([1, 2, 3, 4], [0.5] * 4, [0.0] * 4),
                                                          ([1, 2, 3, 4], [0.5, 0.5, 0.5, float("nan")], None)])
def test_points_that_cannot_be_are_refused(labels, scores, errors):
    with pytest.raises(LabError):
        learning_curve.fit(labels, scores, errors=errors)

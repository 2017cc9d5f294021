"""Agreement against published tables, the packages krippendorff and scikit-learn, and arithmetic in fractions."""

import random
from fractions import Fraction
from itertools import combinations

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from labkit.errors import LabError
from labkit.labeling.annotations import Ratings
from labkit.labeling.quality import agreement, intervals
from labkit.scenarios import Field, Label
from tests.labeling.quality import tables

RATERS = 4
TABLE = st.lists(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=RATERS, max_size=RATERS), min_size=1, max_size=25)


def ratings(rows):
    return Ratings([f"r{number}" for number in range(len(rows))], [f"a{number}" for number in range(len(rows[0]))], rows)


def from_counts(counts):
    """Ratings in which the raters of each record stand in any order."""
    return ratings([[value for value, count in enumerate(row) for _ in range(int(count))] for row in counts])


def from_square(square):
    """Two raters' table of counts as ratings, rows the first one's values."""
    return ratings([[first, second] for first, row in enumerate(square) for second, count in enumerate(row) for _ in range(count)])



def fleiss_in_fractions(rows):
    """Fleiss 1971, equations 2 to 7, with each record's own number of ratings."""
    rows = [[value for value in row if value is not None] for row in rows]
    rows = [row for row in rows if len(row) > 1]
    total = sum(map(len, rows))
    observed = sum(Fraction(sum(row.count(value) - 1 for value in row), len(row) * (len(row) - 1)) for row in rows) / len(rows)
    chance = sum(Fraction(sum(row.count(value) for row in rows), total) ** 2 for value in {value for row in rows for value in row})
    return (observed - chance) / (1 - chance)


def test_cohen_1960_table_2_has_kappa_0_492():
    # Cohen 1960, A coefficient of agreement for nominal scales: 200 cases, observed 0.70, by chance 0.41, kappa 29/59.
    found = agreement.cohen_kappa(from_square([[88, 10, 2], [14, 40, 6], [18, 10, 12]]), "a0", "a1")
    assert found.value == pytest.approx(29 / 59, abs=5e-5) and found.records == 200
    assert found.low < 29 / 59 < found.high


def test_cohen_1968_table_1_has_weighted_kappa_0_348():
    # Cohen 1968, Weighted kappa: proportions in hundredths; disagreement 0.90 observed, 1.38 by chance.
    square = [[44, 7, 9], [5, 20, 5], [1, 3, 6]]
    weights = [[0, 1, 3], [1, 0, 6], [3, 6, 0]]
    assert agreement.cohen_kappa(from_square(square), "a0", "a1", weights=weights).value == pytest.approx(1 - 0.90 / 1.38, abs=5e-5)


def test_fleiss_1971_table_1_has_kappa_0_430():
    found = agreement.fleiss_kappa(from_counts(tables.FLEISS_1971))
    assert round(found.value, 3) == 0.430  # as printed
    rows = [[value for value, count in enumerate(row) for _ in range(int(count))] for row in tables.FLEISS_1971]
    assert found.value == pytest.approx(float(fleiss_in_fractions(rows)), abs=5e-5)
    assert found.records == 30


@pytest.mark.parametrize(("rows", "level", "printed"), [
    (tables.KRIPPENDORFF_A, "nominal", 0.095), (tables.KRIPPENDORFF_B, "nominal", 0.692), (tables.KRIPPENDORFF_C, "nominal", 0.743),
    (tables.KRIPPENDORFF_C, "ordinal", 0.815), (tables.KRIPPENDORFF_C, "interval", 0.849),
])
def test_krippendorff_2011_examples_have_the_printed_alpha(rows, level, printed):
    number = rows[0][0].isdigit() or rows[0][0] == "*"
    found = agreement.krippendorff_alpha(tables.from_text(rows, number), level)
    assert round(found.value, 3) == printed
    codes = [[np.nan if each == "*" else float(ord(each)) for each in row] for row in rows]
    assert found.value == pytest.approx(krippendorff.alpha(codes, level_of_measurement=level), abs=5e-5)


@settings(max_examples=150, deadline=None)
@given(TABLE, st.sampled_from(agreement.LEVELS))
def test_alpha_is_that_of_another_package_on_any_table(rows, level):
    paired = [value for row in rows if sum(value is not None for value in row) > 1 for value in row if value is not None]
    found = agreement.krippendorff_alpha(ratings(rows), level, resamples=0)
    if len(set(paired)) < 2:
        assert found.value is None and found.reason["en"] and found.reason["zh"]
    else:
        data = np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=float).T
        assert found.value == pytest.approx(krippendorff.alpha(data, level_of_measurement=level), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40), st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_kappa_is_that_of_scikit_learn(pairs, weights):
    first, second = zip(*pairs, strict=True)
    found = agreement.cohen_kappa(ratings([list(pair) for pair in pairs]), "a0", "a1", weights=weights, order=range(4), resamples=0)
    if len(set(first)) == len(set(second)) == 1 and first[0] == second[0]:
        assert found.value is None
    else:
        assert found.value == pytest.approx(cohen_kappa_score(first, second, labels=range(4), weights=weights), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(TABLE)
def test_fleiss_kappa_is_that_of_fractions_with_any_number_of_ratings(rows):
    values = [value for row in rows if sum(value is not None for value in row) > 1 for value in row if value is not None]
    found = agreement.fleiss_kappa(ratings(rows), resamples=0)
    if len(set(values)) < 2:
        assert found.value is None
    else:
        assert found.value == pytest.approx(float(fleiss_in_fractions(rows)), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_alpha_and_fleiss_kappa_differ_by_the_size_of_the_sample_only(rows, shuffle):
    alpha, kappa = agreement.krippendorff_alpha(ratings(rows), resamples=0), agreement.fleiss_kappa(ratings(rows), resamples=0)
    if kappa.value is not None:
        total = 3 * len(rows)  # alpha draws the chance pair without putting the first value back
        assert 1 - alpha.value == pytest.approx((1 - kappa.value) * (total - 1) / total, abs=1e-9)
        names = [9, 8, 7, 6]
        shuffle.shuffle(names)
        renamed = [[names[value] for value in shuffle.sample(row, 3)] for row in shuffle.sample(rows, len(rows))]
        assert agreement.krippendorff_alpha(ratings(renamed), resamples=0).value == pytest.approx(alpha.value, abs=1e-9)


def test_percent_agreement_is_the_mean_share_of_equal_pairs():
    # 1 of 3 pairs, 1 of 1, 0 of 1; the record with one value does not count.
    found = agreement.percent_agreement(ratings([["x", "x", "y"], ["y", None, "y"], ["x", "y", None], [None, None, "x"]]))
    assert found.value == pytest.approx((1 / 3 + 1 + 0) / 3) and found.records == 3


def test_numbers_agree_within_a_tolerance():
    rows = [[1.0, 1.1], [1.0, 1.2], [5, 5]]
    assert agreement.percent_agreement(ratings(rows), tolerance=0.1).value == pytest.approx(2 / 3)
    assert agreement.percent_agreement(ratings(rows)).value == pytest.approx(1 / 3)


@pytest.mark.parametrize(("left", "right", "expected"), [
    ("rest and drink", "rest and sleep", 2 / 3), ("Rest, and DRINK!", "drink and rest", 1), ("多喝水", "多喝热水", 2 * 3 / 7), ("", "", 1),
    ("a", "", 0), ("!!", "!!", 1), ("!!", "??", 0), ("no no no", "no", 0.5),
])
def test_texts_are_as_similar_as_the_words_or_characters_they_share(left, right, expected):
    assert agreement.similarity(left, right) == agreement.similarity(right, left) == pytest.approx(expected)


def test_the_interval_is_that_of_drawing_records_and_asking_another_package():
    rows = tables.from_text(tables.KRIPPENDORFF_C, True)
    data = np.array([[np.nan if value is None else value for value in row] for row in rows.values], dtype=float)
    data = data[(~np.isnan(data)).sum(1) > 1]
    for level in agreement.LEVELS:
        draws = np.random.default_rng(5).integers(0, len(data), size=(300, len(data)))
        alphas = [krippendorff.alpha(data[draw].T, level_of_measurement=level) for draw in draws]
        low, high = np.quantile(alphas, [0.025, 0.975])
        found = agreement.krippendorff_alpha(rows, level, resamples=300, seed=5)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_nineteen_of_twenty_intervals_hold_the_true_agreement():
    # Both give the true one of four labels with a chance of 0.8, else another: they agree with 0.64 + 3 * (0.2 / 3)^2; chance is 1/4.
    draw = np.random.default_rng(7)
    both = 0.64 + 3 * (0.2 / 3) ** 2
    kappa, held = (both - 0.25) / 0.75, 0
    for seed in range(200):
        truth = draw.integers(0, 4, 150)
        rows = np.stack([np.where(draw.random(150) < 0.8, truth, (truth + draw.integers(1, 4, 150)) % 4) for _ in range(2)], axis=1)
        found = agreement.cohen_kappa(ratings(rows.tolist()), "a0", "a1", resamples=400, seed=seed)
        held += found.low <= kappa <= found.high
    assert 0.90 <= held / 200 <= 0.99  # 95% of 200 with three standard errors


def test_the_same_seed_gives_the_same_interval_and_blocks_of_draws_do_not_matter(monkeypatch):
    table = from_counts(tables.FLEISS_1971)
    found = agreement.fleiss_kappa(table, seed=3)
    assert found == agreement.fleiss_kappa(table, seed=3) != agreement.fleiss_kappa(table, seed=4)
    monkeypatch.setattr(intervals, "_BLOCK", 100)
    assert agreement.fleiss_kappa(table, seed=3) == found


def test_where_agreement_is_undefined_the_reason_is_said_in_both_languages():
    for found in (agreement.fleiss_kappa(ratings([["x", "x"], ["x", "x"]])), agreement.krippendorff_alpha(ratings([["x", None]])),
                  agreement.cohen_kappa(ratings([["x", None], [None, "x"]]), "a0", "a1"), agreement.percent_agreement(ratings([["x"]])),
                  agreement.krippendorff_alpha(Ratings([], [], []))):
        assert (found.value, found.low, found.high) == (None, None, None)
        assert found.reason["en"] and found.reason["zh"]


def test_one_record_has_a_value_but_no_interval():
    found = agreement.krippendorff_alpha(ratings([["x", "y"]]))
    assert found.value == pytest.approx(0) and found.low is None and found.reason["en"].startswith("no interval")


def test_labels_of_a_scale_are_ordered_by_the_scenario_and_not_by_their_names():
    grades = [Label(value, value, value) for value in ("low", "middle", "high")]
    field = Field("risk", "label", {"en": "Risk", "zh": "风险"}, {"en": "", "zh": ""}, tuple(grades))
    rows = [["low", "middle"], ["middle", "high"], ["low", "low"], ["high", "high"], ["high", "middle"]]
    found = agreement.of_field(ratings(rows), field, ordered=True, resamples=50)
    place = {"low": 0, "middle": 1, "high": 2}
    coded = np.array([[place[value] for value in row] for row in rows]).T
    assert found["alpha_ordinal"].value == pytest.approx(krippendorff.alpha(coded, level_of_measurement="ordinal"), abs=1e-9)
    assert set(found) == {"percent", "fleiss_kappa", "alpha", "alpha_ordinal"}


@pytest.mark.parametrize(("call", "message"), [
    (lambda table: agreement.krippendorff_alpha(table, "ratio"), "nominal, ordinal, interval"),
    (lambda table: agreement.krippendorff_alpha(table, "interval"), "needs numbers"),
    (lambda table: agreement.krippendorff_alpha(table, "ordinal", order=["x"]), "lacks y"),
    (lambda table: agreement.cohen_kappa(table, "a0", "nobody"), "no annotator 'nobody'"),
    (lambda table: agreement.cohen_kappa(table, "a0", "a1", weights="cubic"), "linear, quadratic"),
    (lambda table: agreement.cohen_kappa(table, "a0", "a1", weights=[[0, 1]]), "2 by 2"),
])
def test_what_cannot_be_reckoned_is_refused_in_one_line(call, message):
    with pytest.raises(LabError, match=message) as caught:
        call(ratings([["x", "y"], ["y", "y"]]))
    assert "\n" not in str(caught.value)


def test_ten_thousand_records_with_intervals_take_seconds():
    import time

    draw = random.Random(1)
    table = ratings([[draw.randrange(77) if draw.random() < 0.6 else None for _ in range(5)] for _ in range(10_000)])
    start = time.process_time()
    agreement.krippendorff_alpha(table, resamples=200)
    agreement.fleiss_kappa(table, resamples=200)
    assert time.process_time() - start < 10


def test_kappas_are_given_for_every_pair():
    found = agreement.cohen_kappas(tables.from_text(tables.KRIPPENDORFF_C), resamples=20)
    assert list(found) == list(combinations(["a0", "a1", "a2", "a3"], 2))

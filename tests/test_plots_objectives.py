"""The figures of objectives show the numbers they are given, in both languages."""

from types import SimpleNamespace

import numpy as np
import pytest

from labkit import plots_objectives
from labkit.labeling.quality.intervals import Estimate
from labkit.scenarios import Field, Label

ATTACK = "<img src=x onerror=alert(1)> $x^2$"
both = lambda text: {"en": text, "zh": text}  # noqa: E731
FIELD = Field("kind", "label", both("Kind"), both("?"), (Label("apple", "Apple", "苹果"), Label("pear", "Pear", "梨")))


def test_a_loss_whose_lowest_place_is_inside_is_marked_there():
    figure = plots_objectives.losses({"falls": [(0, 3), (1, 2), (2, 1)], "has a valley": [(0, 3), (1, 1), (2, 2)]})
    assert [trace.mode for trace in figure.data] == ["lines", "lines", "markers"]
    assert (figure.data[2].x, figure.data[2].y) == ((1,), (1,))


def test_the_plane_is_that_of_scikit_learn_and_tells_its_share():
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).normal(size=(40, 8))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    other = PCA(2, svd_solver="full").fit(unit)
    points, held = plots_objectives.plane(vectors)
    assert np.abs(points) == pytest.approx(np.abs(other.transform(unit)), abs=1e-9)
    assert held == pytest.approx(other.explained_variance_ratio_.sum())


def test_embeddings_of_one_place_have_no_share():
    assert plots_objectives.plane(np.ones((3, 4)))[1] == 0.0


def test_embeddings_have_a_panel_a_model_and_one_legend():
    vectors = np.random.default_rng(0).normal(size=(4, 8))
    figure = plots_objectives.embeddings({name: (vectors, ["apple", "pear", "pear", "pear"]) for name in ("before", "after")}, FIELD, "zh")
    drawn = [(trace.name, len(trace.x), trace.showlegend) for trace in figure.data]
    assert drawn == [("苹果", 1, True), ("梨", 3, True), ("苹果", 1, False), ("梨", 3, False)]
    assert [note.text.split(" ")[0] for note in figure.layout.annotations] == ["before", "after"]


def test_similarities_stand_row_by_row_with_the_first_on_top():
    figure = plots_objectives.similarities(np.array([[0.9, 0.1], [0.2, 0.8]]), ["a", "b"], ["A", "B"])
    assert [list(row) for row in figure.data[0].z] == [[0.9, 0.1], [0.2, 0.8]] and figure.layout.yaxis.autorange == "reversed"
    assert list(figure.layout.xaxis.ticktext) == ["A", "B"]


def test_every_seed_is_shown_and_their_mean_with_the_interval_of_student():
    figure = plots_objectives.over_seeds({"one": [0.5, 0.7], "other": [0.4, 0.4]}, "accuracy", against=0.3)
    seeds, means = figure.data
    assert list(seeds.x) == [0.5, 0.7, 0.4, 0.4] and list(means.x) == pytest.approx([0.6, 0.4]) and figure.layout.shapes[0].x0 == 0.3
    half = 12.7062 * 0.1  # t at 0.975 with one degree of freedom, times the standard error of two values 0.2 apart
    assert list(means.error_x.array) == pytest.approx([half, 0], rel=1e-4)


def test_a_difference_that_may_be_nothing_is_grey():
    found = {"sure": Estimate(0.1, 0.05, 0.2, 9), "chance": Estimate(0.1, -0.1, 0.3, 9), "one run": Estimate(0.1, None, None, 1)}
    figure = plots_objectives.differences(found, "accuracy")
    assert [trace.marker.color for trace in figure.data] == ["#0072B2", "#777777", "#777777"] and figure.layout.shapes[0].x0 == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_stay_text_and_axes_are_named(language):
    one = SimpleNamespace(value=0.5, low=0.4, high=0.6)
    figures = [plots_objectives.losses({ATTACK: [(0, 1)]}, language=language),
               plots_objectives.embeddings({ATTACK: (np.eye(2), ["apple", "pear"])}, FIELD, language),
               plots_objectives.similarities(np.eye(1), [ATTACK], [ATTACK], language),
               plots_objectives.over_seeds({ATTACK: [0.5]}, "accuracy", language=language),
               plots_objectives.differences({ATTACK: one}, "accuracy", language)]
    for figure in figures:
        drawn = figure.to_json()
        assert "<img" not in drawn and "\\u003cimg" not in drawn and "$x^2$" not in drawn
    assert all(figure.layout.xaxis.title.text for figure in figures if figure is not figures[2])

"""The figures of the mathematics show the numbers they are given, in both languages."""

from types import SimpleNamespace

import pytest

from labkit import plots_mathematics

ATTACK = "<img src=x onerror=alert(1)> $x^2$"
LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])


def test_attention_has_a_map_a_head_with_the_query_in_rows():
    figure = plots_mathematics.attention([[[1, 0], [0.25, 0.75]], [[0.5, 0.5], [0, 1]]], [" a", "b\n"], ["head 1", "head 2"])
    first, second = figure.data
    assert [list(row) for row in first.z] == [[1, 0], [0.25, 0.75]] and [list(row) for row in second.z] == [[0.5, 0.5], [0, 1]]
    assert list(figure.layout.xaxis.ticktext) == ["␣a", "b↵"] == list(figure.layout.yaxis.ticktext)
    assert figure.layout.yaxis.autorange == "reversed"  # the first token stands on top
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
    assert list(first.customdata[1][0]) == ["b↵", "␣a"]


def test_next_tokens_have_a_panel_a_model_and_equal_tokens_stay_apart():
    left, right = plots_mathematics.next_tokens({"random": [("a", 0.1), ("a", 0.1)], "trained": [(" the", 0.7)]}).data
    assert list(left.x) == [0.1, 0.1] and list(left.y) == [0, 1] and list(right.x) == [0.7]


def test_the_mean_of_the_losses_is_drawn_and_told():
    figure = plots_mathematics.token_losses({"one": [("a", 1.0), ("b", 3.0)], "two": [("a", 0.5), ("b", 0.5)]})
    assert [trace.name for trace in figure.data] == ["one, mean 2.00", "two, mean 0.50"]
    assert [line.y0 for line in figure.layout.shapes] == [2.0, 0.5] and figure.layout.yaxis.title.text == "loss (nats)"


def test_steps_count_from_one_and_the_end_is_marked():
    figure = plots_mathematics.learning_rates({"warm-up": [1e-5, 2e-5, 3e-5]}, end=2)
    assert list(figure.data[0].x) == [1, 2, 3] and figure.layout.shapes[0].x0 == 2
    assert plots_mathematics.learning_rates({"warm-up": [1e-5]}).layout.shapes == ()


def test_shares_stand_in_their_order_with_intervals_and_the_guess():
    estimates = {"zero-shot": SimpleNamespace(value=0.7, low=0.6, high=0.75), "seeds": SimpleNamespace(value=0.8, low=None, high=None)}
    figure = plots_mathematics.shares(estimates, guess=0.65)
    bars, = figure.data
    assert list(bars.y) == ["zero-shot", "seeds"] and list(bars.x) == [0.7, 0.8] and figure.layout.shapes[0].x0 == 0.65
    assert list(bars.error_x.array) == pytest.approx([0.05, 0]) and list(bars.error_x.arrayminus) == pytest.approx([0.1, 0])
    assert figure.layout.xaxis.range == (0, 1)


@LANGUAGES
def test_texts_stay_text_and_axes_are_named(language):
    figures = [plots_mathematics.attention([[[1.0]]], [ATTACK], [ATTACK], language),
               plots_mathematics.next_tokens({ATTACK: [(ATTACK, 1.0)]}, language),
               plots_mathematics.token_losses({ATTACK: [(ATTACK, 1.0)]}, language),
               plots_mathematics.learning_rates({ATTACK: [1.0]}, 1, language),
               plots_mathematics.shares({ATTACK: SimpleNamespace(value=0.5, low=0.4, high=0.6)}, 0.5, language)]
    for figure in figures:
        drawn = figure.to_json()
        assert "<img" not in drawn and "\\u003cimg" not in drawn and "$x^2$" not in drawn
        assert figure.layout.xaxis.title.text


def test_both_languages_say_the_same_things():
    assert plots_mathematics._WORDS["en"].keys() == plots_mathematics._WORDS["zh"].keys()

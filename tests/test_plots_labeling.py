"""The figures of labelling show the numbers they are given, with their intervals, in both languages."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from labkit import plots_labeling
from labkit.labeling.annotations import Annotation
from labkit.labeling.quality.intervals import Estimate, missing
from labkit.plots import COLOURS

ATTACK = "<img src=x onerror=alert(1)> $x^2$"
LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])


def said(record, annotator, value, status="submitted", minute=0, field="kind"):
    return Annotation(record, field, annotator, value, status, datetime(2026, 1, 1, 0, minute, tzinfo=UTC))


def point(value, low=None, high=None):
    return SimpleNamespace(value=value, low=low, high=high)


def test_a_record_counts_once_whatever_its_fields_say():
    rows = [said("r1", "ann", "pear"), said("r1", "ann", "n", "draft", field="note"), said("r2", "ann", None, "discarded"),
            said("r3", "ann", "pear", "draft"), said("r3", "ann", None, "discarded", field="note"), said("r1", "bob", "pear")]
    assert plots_labeling.counts(rows) == {"ann": {"submitted": 1, "draft": 1, "discarded": 1}, "bob": {"submitted": 1}}


def test_progress_stacks_to_the_total():
    figure = plots_labeling.progress({"ann": {"submitted": 5, "draft": 1}, "bob": {"discarded": 2}}, 10)
    assert {trace.name: list(trace.x) for trace in figure.data} == {
        "submitted": [5, 0], "drafts": [1, 0], "discarded": [0, 2], "left": [4, 8]}
    assert figure.layout.xaxis.title.text == "records" and figure.layout.barmode == "stack"


def test_pace_counts_each_record_at_its_first_submission():
    rows = [said("r1", "ann", "pear", minute=5), said("r1", "ann", "n", minute=3, field="note"), said("r2", "ann", "pear", minute=9),
            said("r3", "ann", None, "discarded", minute=1)]
    line, = plots_labeling.pace(rows).data
    assert [time.minute for time in line.x] == [3, 9] and list(line.y) == [1, 2]


def test_agreement_draws_intervals_and_says_why_a_measure_is_missing(small_scenario):
    estimates = {"kind": {"percent": Estimate(0.8, 0.7, 0.85, 40), "alpha": missing(40, "one value only", "只有一个值")},
                 "note": {"similarity": Estimate(0.5, None, None, 1)}}
    figure = plots_labeling.agreement(estimates, small_scenario.fields)
    kind, note = figure.data
    assert list(kind.x) == [0.8]
    assert list(kind.error_x.array) == pytest.approx([0.05]) and list(kind.error_x.arrayminus) == pytest.approx([0.1])
    assert list(note.error_x.array) == [0.0] == list(note.error_x.arrayminus)
    assert [each.text for each in figure.layout.annotations] == ["one value only"]
    assert len(figure.layout.yaxis.categoryarray) == 3
    chinese = plots_labeling.agreement(estimates, small_scenario.fields, "zh")
    assert chinese.layout.annotations[0].text == "只有一个值" and "种类" in chinese.layout.yaxis.categoryarray[0]


def test_confusion_shows_counts_and_the_share_of_their_row(small_scenario):
    rows = [said("r1", "ann", "pear"), said("r1", "bob", "pear"), said("r2", "ann", "pear"), said("r2", "bob", "apple"),
            said("r3", "ann", "pear"), said("r3", "bob", "apple"), said("r4", "ann", "apple")]
    pairs = plots_labeling.confusions(rows, "kind", "ann", "bob")
    assert pairs == {("pear", "pear"): 1, ("pear", "apple"): 2} and plots_labeling.confusions(rows, "kind", "ann", "cleo") == {}
    heat, = plots_labeling.confusion(pairs, small_scenario.field("kind"), "ann", "bob").data
    assert list(heat.y) == ["apple", "pear"]
    assert [list(row) for row in heat.z] == [[0, 0], [pytest.approx(2 / 3), pytest.approx(1 / 3)]]
    assert [list(row) for row in heat.text] == [["", ""], [2, 1]]


def test_the_forecast_begins_where_the_labels_end():
    curve = [(100, 0.6, 0.5, 0.7), (200, 0.7, 0.6, 0.8), (300, 0.75, 0.6, 0.9)]
    figure = plots_labeling.learning_curve([(100, 0.61), (200, 0.69)], curve, "macro-F1")
    drawn = {trace.name: trace for trace in figure.data}
    assert list(drawn["fitted"].x) == [100, 200] and list(drawn["forecast"].x) == [200, 300]
    assert list(drawn["95% band"].y) == [0.7, 0.8, 0.9, 0.6, 0.6, 0.5]
    assert drawn["forecast"].line.dash == "dash" and list(drawn["measured"].y) == [0.61, 0.69]
    assert figure.layout.yaxis.title.text == "macro-F1"
    between = {trace.name: trace for trace in plots_labeling.learning_curve([(150, 0.65)], curve).data}
    assert list(between["forecast"].x) == [100, 200, 300]
    assert [trace.name for trace in plots_labeling.learning_curve([(150, 0.65)]).data] == ["measured"]


def test_costs_stand_from_the_cheapest_to_those_that_never_get_there():
    needed = {"random": point(1000, 950, 1100), "margin": point(620, 600, 650), "odd": point(None)}
    figure = plots_labeling.cost(needed, 0.9)
    bars, = figure.data
    assert list(bars.y) == ["margin", "random"] and list(bars.error_x.array) == [30, 100] and list(bars.error_x.arrayminus) == [20, 50]
    assert list(figure.layout.yaxis.categoryarray) == ["margin", "random", "odd"] and figure.layout.annotations[0].text == "not reached"
    assert figure.layout.xaxis.title.text == "labels to reach 90.0%"
    assert plots_labeling.cost(needed, 0.9, "hours", "zh").layout.xaxis.title.text == "达到 90.0% 所需的小时"


def test_a_strategy_has_the_same_colour_in_its_curve_and_in_its_cost():
    curves = {"random": [(100, 0.5, 0.4, 0.6)], "margin": [(100, 0.6, 0.5, 0.7)]}
    lines = {trace.name: trace.line.color for trace in plots_labeling.strategies(curves, target=0.9).data if trace.showlegend is None}
    bars, = plots_labeling.cost({"random": point(9), "margin": point(5)}, 0.9).data
    assert dict(zip(bars.y, bars.marker.color, strict=True)) == lines == {"random": COLOURS[0], "margin": COLOURS[1]}


def test_a_number_of_each_annotator_has_its_interval_and_missing_ones_are_left_out():
    figure = plots_labeling.people({"ann": point(4.0, 3.0, 6.0), "bob": point(None)}, "seconds a record", line=5.0)
    dots, = figure.data
    assert list(dots.y) == ["ann"] and list(dots.error_x.array) == [2.0] and list(dots.error_x.arrayminus) == [1.0]
    assert figure.layout.shapes[0].x0 == 5.0 and figure.layout.xaxis.title.text == "seconds a record"


def test_drift_leaves_out_windows_without_a_value():
    figure = plots_labeling.drift({"ann": [point(0.9, 0.8, 1.0), point(None), point(0.5, 0.3, 0.6)], "bob": [point(1.0)]})
    ann, bob = figure.data
    assert list(ann.x) == [1, 3] and list(ann.y) == [0.9, 0.5] and list(ann.error_y.array) == pytest.approx([0.1, 0.1])
    assert ann.line.dash != bob.line.dash


@LANGUAGES
def test_names_of_the_data_stay_text_and_axes_are_named(small_scenario, language):
    figures = [plots_labeling.progress({ATTACK: {"submitted": 1}}, 2, language), plots_labeling.pace([said("r", ATTACK, "pear")], language),
               plots_labeling.confusion({("pear", "pear"): 1}, small_scenario.field("kind"), ATTACK, ATTACK, language),
               plots_labeling.strategies({ATTACK: [(1, 0.5, 0.4, 0.6)]}, language=language, target=0.5),
               plots_labeling.cost({ATTACK: point(None)}, 0.5, language=language), plots_labeling.people({ATTACK: point(1.0)}, "s"),
               plots_labeling.drift({ATTACK: [point(0.5)]}, language)]
    for figure in figures:
        drawn = figure.to_json()
        assert "<img" not in drawn and "\\u003cimg" not in drawn and "$x^2$" not in drawn
        assert figure.layout.xaxis.title.text


def test_both_languages_say_the_same_things():
    assert plots_labeling._WORDS["en"].keys() == plots_labeling._WORDS["zh"].keys()
    assert all(set(titles) == {"en", "zh"} for titles in plots_labeling.MEASURES.values())

"""The figures of training show the numbers they are given, in both languages."""

import math

import pytest

from labkit import plots, plots_training
from labkit.training import rate_finder
from labkit.training.recipe import Recipe

LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])
ATTACK = "<img src=x onerror=alert(1)> $x^2$"


def rows(count, every=5, **more):
    found = []
    for step in range(1, count + 1):
        measured = {"validation_loss": 2.0 / step, "validation": {"macro_f1": step / 100}} if step % every == 0 else {}
        found.append({"step": step, "seconds": step * 0.5, "loss": 3.0 / step, "learning_rate": 0.001 * step, "gradient_norm": 1.0 + step,
                      "tokens_per_second": 100.0, **measured, **more})
    return found


def by_name(figure):
    return {trace.name: trace for trace in figure.data}


@LANGUAGES
def test_a_schedule_shows_each_steps_rate_and_momentum_and_where_epochs_begin(language):
    figure = plots_training.schedule([0.1, 0.2, 0.1], [0.95, 0.85, 0.95], [1, 3], language)
    assert [list(trace.y) for trace in figure.data] == [[0.1, 0.2, 0.1], [0.95, 0.85, 0.95]]
    assert list(figure.data[0].x) == [1, 2, 3] and figure.data[1].yaxis == "y2"
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 3]
    assert figure.layout.xaxis.title.text == {"en": "step", "zh": "步"}[language]


def test_the_schedule_of_a_recipe_is_the_one_it_trains_by():
    from labkit.training import schedules

    recipe = Recipe(scenario="x", schedule="wsd", learning_rate=0.01, warmup=0.1)
    figure = plots_training.schedule_of(recipe, 50, 20)
    assert list(figure.data[0].y) == [0.01 * schedules.of_recipe(recipe, index, 50) for index in range(50)]
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 21, 41] and len(figure.data) == 1
    moved = plots_training.schedule_of(Recipe(scenario="x", schedule="one_cycle"), 50)
    assert min(moved.data[1].y) == pytest.approx(0.8)


def test_schedules_lie_over_each_other():
    figure = plots_training.schedules_compared({"linear": [1.0, 0.5], "constant": [1.0, 1.0]})
    assert {name: list(trace.y) for name, trace in by_name(figure).items()} == {"linear": [1.0, 0.5], "constant": [1.0, 1.0]}


@LANGUAGES
def test_a_sweep_shows_both_lines_its_marks_and_the_reason(language):
    losses = [2.0] * 20 + [2.0 - 0.05 * place for place in range(20)] + [1.0 + 0.4 * place for place in range(20)]
    dice = iter(losses)
    sweep = rate_finder.sweep(lambda rate: next(dice), 1e-6, 1.0, 60)
    figure = plots_training.rate_finder(sweep, language)
    assert list(figure.data[0].y) == list(sweep.losses) and list(figure.data[1].y) == list(sweep.smoothed)
    assert [trace.x[0] for trace in figure.data[2:]] == [sweep.steepest, sweep.lowest]
    assert figure.layout.shapes[0].x0 == sweep.suggestion and figure.layout.xaxis.type == "log"
    assert figure.layout.title.subtitle.text == (sweep.zh if language == "zh" else sweep.reason)


def test_a_sweep_without_a_suggestion_says_so():
    figure = plots_training.rate_finder(rate_finder.sweep(lambda rate: 1.0, 1e-6, 1.0, 30))
    assert figure.layout.title.text == "no suggestion" and not figure.layout.shapes
    assert plots_training.rate_finder(rate_finder.sweep(lambda rate: math.nan, 1e-6, 1.0, 30)).layout.title.text == "no suggestion"


@LANGUAGES
def test_curves_show_each_value_thin_and_the_running_mean_thick(language):
    figure = plots_training.curves({"s/default": rows(10), "s/b": rows(6)}, "loss", 0.5, language)
    thin, thick = figure.data[:2]
    assert list(thin.y) == [3.0 / step for step in range(1, 11)] and thin.line.width < thick.line.width
    assert thick.y[0] == 3.0 and thick.y[1] == pytest.approx((0.5 * 3.0 + 1.5) / 1.5)  # weights 0.5 and 1
    assert len(figure.data) == 4 and list(figure.data[2].x) == list(range(1, 7))
    assert thin.line.color == plots.colour("s/default")


def test_what_is_measured_now_and_then_has_marks_and_may_be_any_metric():
    for measure, expected in (("validation_loss", [0.4, 0.2]), ("macro_f1", [0.05, 0.1])):
        trace, = plots_training.curves({"a": rows(10)}, measure).data
        assert list(trace.x) == [5, 10] and list(trace.y) == expected and trace.mode == "lines+markers"


def test_curves_over_time_and_runs_of_one_colour_are_told_apart():
    figure = plots_training.curves({"x/default": rows(4), "y/default": rows(4)}, smoothing=0.0, seconds=True)
    assert list(figure.data[0].x) == [0.5, 1.0, 1.5, 2.0]
    first, second = (trace.line for trace in figure.data)
    assert first.color == second.color and first.dash != second.dash


@LANGUAGES
def test_a_measure_that_nobody_has_says_that_there_is_nothing_yet(language):
    figure = plots_training.curves({"a": rows(3)}, "bleu", language=language)
    assert not figure.data and figure.layout.annotations[0].text == {"en": "nothing to show yet", "zh": "还没有可显示的内容"}[language]


@LANGUAGES
def test_panels_show_rate_norm_speed_and_memory_and_say_what_is_missing(language):
    figure = plots_training.panels({"a": rows(3), "b": rows(2)}, language=language)
    assert [list(trace.y) for trace in figure.data[:4]] == [[0.001, 0.002, 0.003], [0.001, 0.002], [2.0, 3.0, 4.0], [2.0, 3.0]]
    assert {"en": "nothing to show yet", "zh": "还没有可显示的内容"}[language] in [each.text for each in figure.layout.annotations]
    with_memory = plots_training.panels({"a": rows(2, memory_gb=1.5)}, language=language)
    assert list(with_memory.data[3].y) == [1.5, 1.5] and len(with_memory.layout.annotations) == 4


def test_a_landscape_has_the_surface_and_every_trail_from_its_start():
    figure = plots_training.landscape(lambda x, y: x * x + 10 * y * y, {"sgd": [(1.0, 1.0), (0.5, 0.0)], "lion": [(1.0, 1.0), (0.9, 0.9)]},
                                      ((-2, 2), (-1, 1)), levels=10)
    contour = figure.data[0]
    assert contour.customdata.shape == (21, 21) and contour.customdata[10][10] == 0 and contour.customdata[0][0] == 4 + 10
    assert list(by_name(figure)["sgd"].x) == [1.0, 0.5] and list(by_name(figure)["lion"].y) == [1.0, 0.9]
    assert list(by_name(figure)["start"].x) == [1.0]


def test_names_of_runs_stay_text():
    for figure in (plots_training.curves({ATTACK: rows(3)}), plots_training.panels({ATTACK: rows(3)}),
                   plots_training.schedules_compared({ATTACK: [1.0]}),
                   plots_training.landscape(lambda x, y: x, {ATTACK: [(0, 0)]}, ((0, 1), (0, 1)))):
        assert all("<img" not in (trace.name or "") and "$" not in (trace.name or "") for trace in figure.data)


def test_a_value_that_is_no_number_is_not_drawn():
    broken = rows(3)
    broken[1]["loss"] = math.nan
    assert list(plots_training.curves({"a": broken}, smoothing=0.0).data[0].x) == [1, 3]

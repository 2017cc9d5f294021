"""Importance, figures and the page of a search."""

import json
import random

import pytest
from plotly.offline import get_plotlyjs

from labkit import plots_search
from labkit.training import recipe as recipes
from labkit.training.search import report as reports
from labkit.training.search import space as spaces
from labkit.training.search import workers
from labkit.training.search.importance import comparable, importance
from tests.training.search import toys

TABLE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "weight_decay": {"low": 0.0, "high": 0.1},
         "method": ["lora", "full"], "rank": {"choices": [4, 8], "only_if": {"method": "lora"}}, "share_prefix": [True, False]}


def row(number, settings, value, state="complete", reports=(), space=None):
    return {"number": number, "state": state, "value": value, "settings": settings, "parameters": space.active(settings),
            "reports": [list(pair) for pair in reports], "seconds": 1.0, "again": None, "error": ""}


def made(count, value, states=lambda number: "complete"):
    """A search of `count` random trials, whose value is a function of their settings."""
    space, drawn, rows = toys.space_of(TABLE), random.Random(0), []
    for number in range(count):
        settings = {**space.default(), "learning_rate": 10 ** drawn.uniform(-4, -1), "weight_decay": drawn.uniform(0, 0.1),
                    "method": drawn.choice(["lora", "full"]), "share_prefix": drawn.choice([True, False])}
        if settings["method"] == "lora":
            settings["rank"] = drawn.choice([4, 8])
        final = value(settings)
        reported = [(1, final + 1), (2, final + 0.5), (3, final)][:1 if states(number) == "pruned" else 3]
        rows.append(row(number, settings, reported[-1][1], states(number), reported, space))
    return workers.Found(rows, space, "minimise")


def test_the_setting_that_decides_is_the_important_one():
    value = lambda settings: 100 * settings["weight_decay"] + 0.01 * settings["share_prefix"]  # noqa: E731
    found = importance(made(40, value).rows, toys.space_of(TABLE))
    shares = {name: entry["share"] for name, entry in found["settings"].items()}
    assert next(iter(shares)) == "weight_decay" and shares["weight_decay"] > 0.8 and sum(shares.values()) == pytest.approx(1)
    assert found["settings"]["weight_decay"]["low"] > 0.6
    assert found["unrated"] == ["rank"] and found["step"] is None and found["trials"] == 40


def test_too_few_trials_and_equal_values_have_no_importance():
    assert importance(made(7, lambda settings: settings["weight_decay"]).rows, toys.space_of(TABLE)) is None
    assert importance(made(20, lambda settings: 1.0).rows, toys.space_of(TABLE)) is None


def test_pruned_trials_are_compared_where_most_of_them_were():
    rows = made(20, lambda settings: settings["weight_decay"], lambda number: "complete" if number % 4 == 0 else "pruned").rows
    step, values = comparable(rows)
    assert step == 1 and len(values) == 20 and values[0][1] == rows[0]["reports"][0][1]


@pytest.fixture(scope="module")
def report():
    found = made(20, lambda settings: settings["weight_decay"] + 0.1 * (settings["method"] == "full"),
                 lambda number: "pruned" if number % 3 == 2 else "complete")
    found.rows[4].update(state="failed", value=None, error="<script>alert(1)</script>", reports=[])
    noise = {"seeds": [1, 2], **reports.noises.compare([0.1, 0.2], [0.4, 0.3], searched={"best": 0.1, "default": 0.3, "trials": 13})}
    return reports.build(found, toys.RECIPE, noise=noise)


def test_every_figure_has_its_trials_and_titles_in_both_languages(report):
    for language in ("en", "zh"):
        figures = [plots_search.history(report, language), plots_search.intermediate(report, language),
                   plots_search.contour(report, "learning_rate", "method", language), plots_search.parallel(report, language),
                   plots_search.importances(report, language), plots_search.seeds(report, language),
                   *(plots_search.slice_of(report, name, language) for name in TABLE)]
        assert all(figure.data and len(figure.to_json()) > 100 for figure in figures)
    history = plots_search.history(report)
    shown = {trace.name: trace for trace in history.data}
    assert len(shown["whole trials"].x) == report["counts"]["complete"] == 13
    assert len(shown["pruned, at its last measurement"].x) == report["counts"]["pruned"] == 6
    assert list(shown["best so far"].y) == sorted(shown["best so far"].y, reverse=True)
    assert shown["best so far"].y[-1] == report["best"]["value"]
    assert plots_search.slice_of(report, "learning_rate").layout.xaxis.type == "log"
    lines = plots_search.intermediate(report).data
    assert sorted(len(line.x) for line in lines) == [1] * 6 + [3] * 13
    assert plots_search.history(report, "zh").layout.xaxis.title.text == "试验"
    lora = [entry for entry in report["trials"] if "rank" in entry["parameters"] and entry["state"] != "failed"]
    assert sum(len(trace.x) for trace in plots_search.slice_of(report, "rank").data) == len(lora)


def test_the_report_is_written_as_json_page_summary_and_recipe(report, tmp_path):
    paths = reports.write(report, tmp_path)
    assert json.loads(paths["report.json"].read_text()) == json.loads(json.dumps(report))
    page = paths["report.html"].read_text().replace(get_plotlyjs(), "")
    assert "<script>alert(1)" not in page and "http://" not in page and "https://" not in page
    assert "超参数搜索" in page and "增益" in page
    figures = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    assert {"history", "intermediate", "parallel", "importance", "seeds", *(f"slice:{name}" for name in TABLE)} <= figures.keys()
    summary = paths["report.md"].read_text()
    assert "13 whole, 6 pruned, 1 failed" in summary and "| learning_rate |" in summary
    tuned = recipes.read(paths["best.toml"])
    assert tuned == spaces.apply(toys.RECIPE, report["best"]["settings"], name="default-tuned")


def test_a_search_without_a_whole_trial_has_a_report_all_the_same(tmp_path):
    found = workers.search(toys.bowl, toys.space_of(), folder=tmp_path, trials=1)
    empty = workers.Found([{**found.rows[0], "state": "failed", "value": None, "reports": [], "error": "x"}], found.space, "minimise")
    report = reports.build(empty, toys.RECIPE)
    assert set(reports.write(report, tmp_path)) == {"report.json", "report.html", "report.md"}
    assert "None was whole" in reports.sentence(report) and "没有一次完整的试验" in reports.sentence(report, "zh")
    assert "nobody knows" in reports.how_sure(report)

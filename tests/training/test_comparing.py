"""Comparing runs: what differs, what came of it, and what must be known to read it."""

import json

import pytest

from labkit import files, runs
from labkit.errors import LabError
from labkit.runs import Run
from labkit.training import comparing
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe


def row_of(step, loss, **more):
    return {"step": step, "steps": 4, "epoch": 0, "loss": loss, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens": 30,
            "tokens_per_second": 1.0, "seconds": 10.0 * step, **more}


def made(name, losses=(2.0, 1.0), finished=True, data="a" * 64, base="b" * 64, torch="2.13.0", evaluation=None, **settings):
    """A run as training leaves it, without its weights."""
    run = Run(runs.folder_for("small", name))
    run.folder.mkdir(parents=True)
    recipes.write(Recipe("small", name, **settings), run.folder / "recipe.toml")
    rows = [row_of(step, loss) for step, loss in enumerate(losses, 1)]
    rows[-1] |= {"validation_loss": 0.75, "validation": {"macro_f1": 0.5, "note": "text"}, "memory_gb": 1.25}
    rows[0] |= {"validation_loss": 0.5}
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        files.write_json(run.folder / "manifest.json", {
            "files": {}, "base": {"name": "smollm2", "sha256": base}, "versions": {"torch": torch},
            "data": {"fingerprint": data, "train": 8, "sources": ["x"], "left_out_as_too_long": ["one", "two"]},
            "training": {"precision": "float32", "device": "cpu"}})
    else:
        files.write_json(run.folder / "begun.json", {"recipe": "", "data": data, "base": base})
    if evaluation:
        files.write_json(run.folder / "evaluation.json", evaluation)
    return run


def differing(*found):
    return [(row.part, row.name, row.default, row.values) for row in comparing.difference(found)]


def outcomes(*found):
    return {row.key: row.values for row in comparing.outcome(found)}


def test_settings_that_differ_stand_beside_the_default():
    default = Recipe("small")
    found = made("one", rank=8), made("two", rank=16, learning_rate=1e-4), made("three", rank=8)
    assert differing(*found) == [
        ("recipe", "rank", default.rank, (8, 16, 8)),
        ("recipe", "learning_rate", default.learning_rate, (default.learning_rate, 1e-4, default.learning_rate)),
    ]


def test_base_data_and_versions_are_compared_by_what_they_are():
    found = made("one"), made("two", data="c" * 64, base="d" * 64, torch="2.12.0")
    assert differing(*found) == [
        ("base", "sha256", None, ("bbbbbbbb", "dddddddd")), ("data", "fingerprint", None, ("aaaaaaaa", "cccccccc")),
        ("versions", "torch", None, ("2.13.0", "2.12.0")),
    ]
    said = " ".join(comparing.notes(found))
    assert "different data" in said and "different bases" in said


def test_an_unfinished_run_is_compared_by_what_it_wrote_when_it_began():
    found = made("one"), made("two", finished=False, data="c" * 64)
    assert differing(*found) == [("data", "fingerprint", None, ("aaaaaaaa", "cccccccc"))]
    assert comparing.notes(found)[-1] == "Not finished: small/two." and outcomes(*found)["state"] == ("done", "stopped")


def test_runs_that_differ_in_the_seed_alone_show_noise():
    assert comparing.notes([made("one", seed=0), made("two", seed=1)]) == [
        "The runs differ in nothing but the seed: the spread of what came of it is noise."]
    assert comparing.notes([made("three", seed=0), made("four", seed=1, rank=8)]) == []


def test_outcomes_are_what_the_metrics_say():
    found = outcomes(made("one", losses=(2.0, 1.0)), made("two", losses=[9.0] * 10 + [2.0] * 20))
    assert found["loss"] == (1.5, 2.0) and found["steps"] == (2, 30)  # means of the last 20 steps
    assert found["validation_loss"] == (0.75, 0.75) and found["best_validation_loss"] == (0.5, 0.5) and found["at_step"] == (1, 1)
    assert found["validation macro_f1"] == (0.5, 0.5) and "validation note" not in found
    assert found["seconds"] == (20.0, 300.0) and found["tokens_per_second"] == (3.0, 3.0) and found["memory_gb"] == (1.25, 1.25)


def test_the_evaluation_s_measures_come_with_their_intervals():
    accuracy = {"value": 0.75, "low": 0.5, "high": 0.9}
    tested = {"fine_tuned": {"overall": {"fields": {"kind": {"kind": "label", "n": 4, "accuracy": accuracy}}}}}
    found = made("one", evaluation=tested), made("two")
    assert outcomes(*found)["test kind accuracy"] == (accuracy, None)
    assert "| test kind: accuracy | 0.75 (0.5 – 0.9) | – |" in comparing.as_markdown(found)


def test_a_run_without_a_step_yet_is_shown_too():
    fresh = made("two", finished=False)
    (fresh.folder / "metrics.jsonl").unlink()
    assert outcomes(made("one"), fresh)["loss"] == (1.5, None)


def test_curves_go_over_steps_seconds_or_tokens():
    found = [made("one"), made("two", losses=(3.0, 2.0, 1.0))]
    assert comparing.curves(found) == {"small/one": ([1, 2], [2.0, 1.0]), "small/two": ([1, 2, 3], [3.0, 2.0, 1.0])}
    assert comparing.curves(found, x="tokens")["small/two"][0] == [30, 60, 90]
    assert comparing.curves(found, "validation_loss", "seconds")["small/one"] == ([10.0, 20.0], [0.5, 0.75])
    assert comparing.curves(found, "validation/macro_f1")["small/two"] == ([3], [0.5])
    assert comparing.curves(found, "nothing") == {}
    with pytest.raises(LabError, match="step, seconds or tokens"):
        comparing.curves(found, x="epoch")


def test_the_figure_has_a_curve_for_each_run():
    figure = comparing.figure([made("one"), made("two")])
    assert {trace.name for trace in figure.data} == {"small/one", "small/two"}


@pytest.mark.parametrize(("language", "heading", "setting"), [("en", "What differs", "recipe"), ("zh", "不同之处", "配方")])
def test_the_comparison_is_written_for_terminal_report_and_page(language, heading, setting):
    found = made("one", rank=8), made("two", rank=16)
    default = str(Recipe("small").rank)
    text, markdown, page = (write(found, language) for write in (comparing.as_text, comparing.as_markdown, comparing.as_html))
    assert heading in text and any(line.split() == [setting, "rank", default, "8", "16"] for line in text.splitlines())
    assert f"### {heading}" in markdown and f"| {setting} | rank | {default} | 8 | 16 |" in markdown
    assert f"<tr><td>{setting}</td><td>rank</td><td>{default}</td><td>8</td><td>16</td></tr>" in page


def test_what_people_wrote_is_escaped():
    found = made("one", base="x" * 64), made("two")
    recipe = (found[0].folder / "recipe.toml").read_text().replace('monitor = "validation_loss"', 'monitor = "<img src=x>|y"')
    (found[0].folder / "recipe.toml").write_text(recipe)
    assert "<img" not in comparing.as_html(found) and "&lt;img" in comparing.as_html(found)
    assert "<img src=x>\\|y" in comparing.as_markdown(found)


def test_equal_runs_are_said_to_be_equal():
    assert "Nothing differs." in comparing.as_text([made("one"), made("two")])


def test_one_run_cannot_be_compared():
    with pytest.raises(LabError, match="at least two"):
        comparing.difference([made("one")])


def test_both_languages_have_all_words():
    assert comparing._WORDS["en"].keys() == comparing._WORDS["zh"].keys()
    with pytest.raises(LabError, match="en, zh"):
        comparing.as_text([made("one"), made("two")], "fr")

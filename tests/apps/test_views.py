"""What the pages show: nothing anyone wrote is markup, and every text is there in both languages."""

import html
import re
import string

import pytest

from apps import checkpoints, texts, views
from apps.panes import Answer
from labkit import models, runs, scenarios
from labkit.errors import LabError
from labkit.scenarios.answers import render
from labkit.serving import Sampling, Speed, Weights
from tests.apps.conftest import add_run

NASTY = "<img src=x onerror=alert(1)> {{x}} ${y} `z` __i18n__{\"key\": 1} & \\ \"'"


@pytest.fixture
def answer(small_scenario):
    def make(text="Kind: apple\nWeight: 3.0\nNote: red", **changes):
        made = Answer(checkpoints.Checkpoint("base", small_scenario, "/some/where/tiny"), [], Sampling(), pieces=[text], done=True)
        made.weights = Weights("tiny", "ab12cd34" * 8, None, "llama.cpp")
        made.speed = Speed(3, 12, 0.123, 45.6, False)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    return make


def test_safe_text_is_shown_as_it_is_and_leaves_nothing_to_interpret():
    safe = views.safe(NASTY)
    assert html.unescape(safe) == NASTY
    assert not set(safe.replace("&", "")) & set("<>{}$`_\\\"'")


def test_what_a_model_or_a_person_writes_is_never_markup(answer):
    for page in (views.pane("A", answer(NASTY), "en"), views.conversation([(NASTY, answer(NASTY))], "en"),
                 views.pane("A", answer("", error=LabError(NASTY)), "en"),
                 views.fields(answer().checkpoint.scenario, f"Note: {NASTY}", "en")):
        assert "<img" not in page and "{{" not in page and "${" not in page and views.safe(NASTY) in page


def test_a_pane_shows_name_fields_speed_and_hashes(answer):
    page = views.pane("A", answer(), "en")
    for expected in ("base model · tiny", "46 tokens/s", "first token after 0.12 s", "<code>ab12cd34</code>", "no adapter", "apple", "3.0",
                     "red"):
        assert expected in page


def test_a_hidden_pane_tells_neither_name_nor_speed_nor_hash(answer):
    page = views.pane("B", answer(weights=Weights("tiny", "a" * 64, "c" * 64, "llama.cpp")), "en", hidden=True)
    for secret in ("tiny", "base model", "fine-tuned", "tokens", "aaaa", "cccc", "llama", "colour"):
        assert secret not in page
    assert "hidden until you vote" in page and "apple" in page


def test_fields_that_cannot_be_read_say_so(small_scenario):
    table = views.fields(small_scenario, "Kind: plum\nWeight: many", "zh")
    assert table.count("回答中没有") == 3 and "种类" in table and "重量" in table


@pytest.mark.parametrize("language", scenarios.LANGUAGES)
def test_the_table_reads_what_render_wrote(small_scenario, language):
    text = render(small_scenario, {"kind": "pear", "weight": 12.5, "note": "x"}, language)
    table = views.fields(small_scenario, text, language)
    assert ("pear" if language == "en" else "梨") in table and "12.5" in table


def test_waiting_for_a_model_is_not_hidden_in_the_first_token(answer):
    assert "9.9 s until the model was ready" in views.measures(answer(waited=9.9), "en")
    assert "until" not in views.measures(answer(waited=0.1), "en")


def test_the_tally_shows_counts_and_interval():
    row = {"scenario": "s", "first": "s/default@1234abcd", "second": "base", "first_wins": 3, "second_wins": 1, "ties": 2, "both_bad": 0,
           "votes": 6, "share": 0.75, "low": 0.3006, "high": 0.9544}
    page = views.tally([row], "en")
    assert "default@1234abcd" in page and "base model" in page and "75% (30%–95%)" in page
    assert "–" in views.tally([{**row, "share": None, "low": None, "high": None}], "zh")
    assert "No votes" in views.tally([], "en")


def test_the_list_has_the_base_and_the_sound_runs_and_says_why_others_are_not_there(lab, scenario, monkeypatch):
    monkeypatch.setenv("LABKIT_RUNS", str(lab))
    found = checkpoints.listing(scenario.name)
    assert set(found.available) == {"base", f"{scenario.name}/alpha", f"{scenario.name}/beta"}
    assert found.missing == {f"{scenario.name}/broken": "damaged", f"{scenario.name}/begun": "stopped"}
    note = views.runs_note(found, scenario.name, "en")
    assert "damaged" in note and "not finished" in note and "labkit build" not in note


def test_without_runs_the_page_says_how_to_train(scenario):
    found = checkpoints.listing(scenario.name)
    assert list(found.available) == ["base"] and found.newest == "base"
    assert html.unescape(views.runs_note(found, scenario.name, "zh")).count(f"labkit build --scenario {scenario.name}") == 1


def test_a_run_on_another_base_brings_that_base_along(scenario, tiny_base, tmp_path):
    run = add_run(tmp_path / "runs", scenario, "own", models.resolve(tiny_base))
    found = checkpoints.listing(scenario.name)
    assert set(found.available) == {"base", f"base:{tiny_base}", run.key}
    other = found.available[f"base:{tiny_base}"]
    assert (other.run_key, other.name) == ("base", "llama")
    engine = found.available[run.key].open()
    try:
        assert engine.weights.adapter == run.manifest()["adapter"]["sha256"]
    finally:
        engine.close()


def test_a_run_that_was_damaged_since_is_not_served(scenario, tiny_base, tmp_path):
    run = add_run(tmp_path / "runs", scenario, "own", models.resolve(tiny_base))
    chosen = checkpoints.find(scenario.name, run.key)
    (run.adapter_folder / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(checkpoints.LabError, match="damaged"):
        chosen.identity()
    with pytest.raises(checkpoints.LabError, match="damaged"):
        checkpoints.find(scenario.name, run.key)


def test_an_unreadable_run_is_listed_as_damaged(scenario, tmp_path):
    for name, manifest in (("a", "{"), ("b", "[]"), ("c", "{}")):
        folder = tmp_path / "runs" / scenario.name / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(manifest)
    assert set(checkpoints.listing(scenario.name).missing.values()) == {"damaged"}


def test_the_card_shows_base_and_fine_tuned_with_intervals(scenario, tiny_base, tmp_path):
    import json

    run = add_run(tmp_path / "runs", scenario, "own", models.resolve(tiny_base))
    chosen = checkpoints.find(scenario.name, run.key)
    assert "labkit evaluate" in html.unescape(views.card(chosen, "en"))
    field = scenario.label_fields[0]
    sides = {side: {"overall": {"fields": {field.name: {"kind": "label", "n": 9, "accuracy": {"value": value, "low": 0.1, "high": 0.9}}}}}
             for side, value in (("base", 0.25), ("fine_tuned", 0.75))}
    (run.folder / "evaluation.json").write_text(json.dumps({**sides, "tfidf": None, "records": {"count": 9}}))
    card = views.card(chosen, "zh")
    assert field.title["zh"] in card and "25 <small>10–90" in card and "75 <small>10–90" in card
    (run.folder / "evaluation.json").write_text("{}")
    assert "labkit evaluate" in html.unescape(views.card(chosen, "en"))
    assert runs.Run(run.folder).state() == "done"


def test_both_languages_have_every_text_with_the_same_places_to_fill():
    for key, pair in texts.TEXTS.items():
        english, chinese = ({name for _, name, _, _ in string.Formatter().parse(text) if name} for text in pair)
        assert english == chinese, key
        assert not re.search("[\u4e00-\u9fff]", pair[0]) or key == "other_language", key
        assert all(pair)


def test_what_an_evaluator_may_meet_is_said_in_chinese_too():
    with pytest.raises(LabError) as gone:
        checkpoints.find("finance", "finance/gone")
    assert gone.value.said("en") == "finance/gone is not there; choose another checkpoint"
    assert gone.value.said("zh") == "finance/gone：不存在；请选择其他模型"
    assert LabError("only English").said("zh") == "only English"

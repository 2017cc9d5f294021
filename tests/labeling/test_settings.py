"""A scenario in Argilla's words: plain data, no server."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import records, scenarios
from labkit.errors import LabError
from labkit.labeling import settings
from labkit.scenarios import Field, Label

BOTH = {"en": "x", "zh": "某"}


def number(minimum, maximum, decimals=0):
    return Field("n", "number", BOTH, BOTH, (), minimum, maximum, decimals)


def by_name(items):
    return {item["name"]: item for item in items}


@pytest.mark.parametrize("name", scenarios.names())
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_scenario_becomes_a_dataset_with_a_question_a_field(name, language):
    scenario = scenarios.load(name)
    made = settings.of(scenario, language)
    assert [question["name"] for question in made.questions] == [field.name for field in scenario.fields]
    for question, field in zip(made.questions, scenario.fields, strict=True):
        assert question["title"] == field.title[language]
        assert field.question[language] in question["description"]
        assert question["required"] == (field.kind == "label")
        if field.kind == "label":
            assert [option["value"] for option in question["settings"]["options"]] == field.values
            assert [option["text"] for option in question["settings"]["options"]] == [label.title(language) for label in field.labels]


@pytest.mark.parametrize("name", scenarios.names())
def test_guidelines_say_the_scenarios_texts_and_notice_in_both_languages_its_own_first(name):
    scenario = scenarios.load(name)
    for first, other in (("en", "zh"), ("zh", "en")):
        text = settings.guidelines(scenario, first)
        for language in (first, other):
            assert scenario.instructions[language].strip() in text and scenario.notice[language] in text
            assert all(field.question[language] in text for field in scenario.fields)
        assert text.index(scenario.notice[first]) < text.index(scenario.notice[other])


@pytest.mark.parametrize(("field", "kind"), [
    (number(0, 10), "rating"), (number(1, 5), "rating"), (number(0, 100), "text"), (number(-1, 5), "text"), (number(0, 10, 1), "text"),
    (number(0.5, 5), "text"), (Field("t", "text", BOTH, BOTH), "text"),
    (Field("l", "label", BOTH, BOTH, (Label("a", "a", "甲"), Label("b", "b", "乙"))), "label_selection")])
def test_a_number_is_a_rating_where_its_range_allows_and_a_text_elsewhere(field, kind):
    assert settings.question_kind(field) == kind


def test_a_rating_has_every_whole_number_of_its_range(small_scenario):
    scenario = dataclasses.replace(small_scenario, fields=(number(2, 5), small_scenario.fields[0]))
    question = by_name(settings.of(scenario, "en").questions)["n"]
    assert question["settings"] == {"type": "rating", "options": [{"value": 2}, {"value": 3}, {"value": 4}, {"value": 5}]}


def test_a_number_asked_as_text_says_its_range_in_the_language(small_scenario):
    assert by_name(settings.of(small_scenario, "en").questions)["weight"]["description"] == "? A number from 0.0 to 500.0."
    assert by_name(settings.of(small_scenario, "zh").questions)["weight"]["description"] == "?0.0 到 500.0 的数。"


def test_where_no_field_is_a_label_the_first_question_is_required(small_scenario):
    scenario = dataclasses.replace(small_scenario, fields=small_scenario.fields[1:])
    assert [question["required"] for question in settings.of(scenario, "en").questions] == [True, False]


def test_more_labels_than_argilla_takes_are_an_error_and_many_are_left_out_of_the_guidelines(small_scenario):
    def with_labels(count):
        labels = tuple(Label(f"label {number}", f"fruit number {number}", f"第{number}种水果") for number in range(count))
        return dataclasses.replace(small_scenario, fields=(Field("kind", "label", BOTH, BOTH, labels),))

    assert "number 499" not in settings.guidelines(with_labels(500)) and "number 99" in settings.guidelines(with_labels(100))
    assert len(settings.guidelines(with_labels(500))) <= 10_000
    with pytest.raises(LabError, match="has 501 labels; Argilla takes 500"):
        settings.of(with_labels(501), "en")


def test_a_field_of_the_scenario_keeps_its_name_where_it_is_called_text(small_scenario):
    scenario = dataclasses.replace(small_scenario, fields=(Field("text", "text", BOTH, BOTH), *small_scenario.fields))
    assert settings.of(scenario, "en", conversation=False).fields[0]["name"] == "text_"


def test_hidden_metadata_and_vectors_are_declared(small_scenario):
    made = settings.of(small_scenario, "en", hidden=("gold",), vectors={"minilm-l6": 384})
    assert by_name(made.metadata)["gold"]["visible_for_annotators"] is False
    assert by_name(made.metadata)["language"]["visible_for_annotators"] is True
    assert made.vectors == ({"name": "minilm-l6", "title": "minilm-l6", "dimensions": 384},)


# records


def record(*messages, language="en", answer=None):
    turns = [{"role": role, "content": content} for role, content in messages]
    return records.make("small", language, turns, answer or {}, source="test", license="CC0-1.0", split="train")


def test_one_message_is_shown_as_it_is_and_more_as_a_conversation(small_scenario):
    chat, text = (settings.of(small_scenario, "en", conversation=kind).fields[0] for kind in (True, False))
    one, two = record(("user", "an apple")), record(("user", "hi"), ("assistant", ""), ("user", "an apple"))
    assert settings.shown(one, small_scenario, "en", text) == {"text": "an apple"}
    assert settings.shown(one, small_scenario, "en", chat) == {"conversation": [{"role": "user", "content": "an apple"}]}
    assert settings.shown(two, small_scenario, "zh", text) == {"text": "用户：hi\n\n助手：（空）\n\n用户：an apple"}
    assert settings.shown(two, small_scenario, "en", chat)["conversation"][1] == {"role": "assistant", "content": "(empty)"}


def test_a_conversation_longer_than_argilla_takes_is_an_error(small_scenario):
    chat = settings.of(small_scenario, "en").fields[0]
    with pytest.raises(LabError, match="a message of 20,001 characters"):
        settings.shown(record(("user", "a" * 20_001)), small_scenario, "en", chat)
    with pytest.raises(LabError, match="501 messages"):
        settings.shown(record(*[("user", "a")] * 501), small_scenario, "en", chat)


def test_metadata_has_what_is_known_and_the_lowest_score(small_scenario):
    suggested = {"kind": ("apple", 0.9, "m"), "weight": (3.0, 0.4, "m"), "note": ("n", None, "m")}
    assert settings.metadata(record(("user", "x")), 7, suggested) == {
        "language": "en", "source": "test", "license": "CC0-1.0", "split": "train", "row": 7, "confidence": 0.4}
    assert "confidence" not in settings.metadata(record(("user", "x")), 7, {})


def test_suggestions_are_made_as_the_questions_take_them(small_scenario):
    made = settings.suggestions({"kind": ("苹果", 0.5, "small/运行@1a"), "weight": (3, 1, "m"), "note": (None, 0.1, "m")},
                                small_scenario, "en")
    assert made == {"kind": {"value": "apple", "score": 0.5, "agent": "small/---1a", "type": "model"},
                    "weight": {"value": "3.0", "score": 1.0, "agent": "m", "type": "model"}}


@pytest.mark.parametrize(("suggested", "says"), [
    ({"kind": ("plum", 0.5, "m")}, "'plum' is none of its labels"), ({"kind": ("apple", 1.5, "m")}, "the score 1.5 is not between 0 and 1"),
    ({"weight": (501, None, "m")}, "501 is outside 0 to 500"), ({"size": (1, None, "m")}, "has no field 'size'")])
def test_a_suggestion_that_fits_nothing_is_an_error(small_scenario, suggested, says):
    with pytest.raises(LabError, match=says):
        settings.suggestions(suggested, small_scenario, "en")


def test_predictions_become_suggestions_with_scores_where_they_are_known(small_scenario):
    rows = [{"id": "1", "answer": {"kind": "apple", "note": "n"}, "scores": {"kind": 0.75}}, {"id": "2", "answer": {}}]
    assert settings.predictions(rows, small_scenario, "small/x") == {
        "1": {"kind": ("apple", 0.75, "small/x"), "note": ("n", None, "small/x")}, "2": {}}


@given(st.floats(0, 500), st.sampled_from([0, 1, 3]))
def test_a_number_comes_back_as_it_went_up(value, decimals):
    field = number(0, 500, decimals)
    assert settings.from_argilla(field, settings.to_argilla(field, value, "en")) == round(value, decimals)


@given(st.integers(0, 10))
def test_a_rating_comes_back_as_it_went_up(value):
    assert settings.from_argilla(number(0, 10), settings.to_argilla(number(0, 10), value, "zh")) == value


@pytest.mark.parametrize("value", ["abc", "501", "-1", "nan", "12 kg", "1e9", True, ["1"], {"a": 1}])
def test_a_value_outside_a_numbers_range_or_none_at_all_is_an_error(value):
    with pytest.raises(LabError):
        settings.from_argilla(number(0, 500), value)


def test_an_empty_text_is_no_value(small_scenario):
    assert settings.from_argilla(small_scenario.field("note"), "  \n") is None
    assert settings.from_argilla(small_scenario.field("weight"), "") is None

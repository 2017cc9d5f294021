"""Scenario files: the four of the lab, and what is wrong in a wrong one."""

import pytest

from labkit import scenarios
from labkit.errors import LabError

NEEDED = {
    "customer_service": {"intent": "label", "sentiment": "label", "reply": "text"},
    "medical": {"condition": "label", "differential": "text", "urgency": "label", "advice": "text"},
    "finance": {"grade": "label", "risk_score": "number", "decision": "label", "reasons": "text"},
    "legal": {"category": "label", "summary": "text", "outcome": "label"},
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_scenario_of_the_lab_has_its_fields(name):
    found = {field.name: field.kind for field in scenarios.load(name).fields}
    assert NEEDED[name].items() <= found.items()


@pytest.mark.parametrize("name", NEEDED)
def test_a_scenario_written_and_read_again_is_equal(name, tmp_path):
    scenario = scenarios.load(name)
    scenarios.write(scenario, tmp_path / "copy.toml")
    assert scenarios.read(tmp_path / "copy.toml") == scenario


@pytest.mark.parametrize("language", scenarios.LANGUAGES)
@pytest.mark.parametrize("name", NEEDED)
def test_the_system_prompt_names_every_field_and_label(name, language):
    scenario = scenarios.load(name)
    prompt = scenario.system_prompt(language)
    for field in scenario.fields:
        assert field.title[language] in prompt
        assert all(label.title(language) in prompt for label in field.labels)


def test_an_unknown_scenario_lists_the_known_ones():
    with pytest.raises(LabError, match="customer_service.*legal"):
        scenarios.load("cooking")


def test_grades_and_scores_have_the_asked_for_values():
    finance = scenarios.load("finance")
    assert finance.field("grade").values == ["A", "B", "C", "D", "E"]
    assert (finance.field("risk_score").minimum, finance.field("risk_score").maximum) == (0, 100)
    assert finance.field("decision").values == ["approve", "review", "decline"]
    assert scenarios.load("medical").field("urgency").values == ["self_care", "see_a_doctor", "urgent", "emergency"]


@pytest.mark.parametrize(("change", "says"), [
    (lambda raw: raw.pop("notice"), "notice is missing"),
    (lambda raw: raw.update(colour="red"), "colour is not known"),
    (lambda raw: raw["title"].pop("zh"), "'zh'"),
    (lambda raw: raw["fields"].clear(), "at least one"),
    (lambda raw: raw["fields"].append(raw["fields"][0]), "same name"),
    (lambda raw: raw["fields"][0].update(kind="picture"), "picture"),
    (lambda raw: raw["fields"][0]["labels"].append(raw["fields"][0]["labels"][0] | {"value": "other"}), "stands for two labels"),
    (lambda raw: raw["fields"][0]["title"].update(en="A: b"), "colon"),
])
def test_a_wrong_scenario_is_refused_with_file_and_reason(change, says, small_scenario):
    raw = scenarios.to_dict(small_scenario)
    change(raw)
    with pytest.raises(LabError, match=says) as error:
        scenarios.from_dict(raw, "mine.toml")
    assert "mine.toml" in str(error.value)


def test_a_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(LabError, match="bad.toml is not valid TOML"):
        scenarios.read(tmp_path / "bad.toml")

"""render and parse are each other's inverse, and parse reads what models write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import scenarios
from labkit.errors import LabError
from labkit.scenarios import answers

ALL = [scenarios.load(name) for name in scenarios.names()]


def answers_of(scenario):
    """A strategy for complete, tidy answers; texts may hold anything, even lines that look like fields."""
    titles = [field.title[language] for field in scenario.fields for language in scenarios.LANGUAGES]
    line = st.one_of(st.text(max_size=30), st.sampled_from(titles).map(lambda title: f"{title}: x"),
                     st.sampled_from(titles).map(lambda title: f"  {title}\uff1ax"))
    text = st.lists(line, min_size=1, max_size=5).map(lambda lines: answers.tidy_text("\n".join(lines))).filter(bool)
    made = {}
    for field in scenario.fields:
        if field.kind == "label":
            made[field.name] = st.sampled_from(field.values)
        elif field.kind == "number":
            scale = 10**field.decimals
            made[field.name] = st.integers(int(field.minimum * scale), int(field.maximum * scale)).map(
                lambda value, scale=scale: value if scale == 1 else value / scale)
        else:
            made[field.name] = text
    return st.fixed_dictionaries(made)


@pytest.mark.parametrize("language", scenarios.LANGUAGES)
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_parse_gives_back_what_render_wrote(scenario, language):
    @settings(max_examples=150, deadline=None)
    @given(answers_of(scenario))
    def check(answer):
        assert answers.parse(scenario, answers.render(scenario, answer, language)) == answer

    check()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_partial_answer_comes_back_as_it_was(data):
    scenario = data.draw(st.sampled_from(ALL))
    answer = data.draw(answers_of(scenario))
    kept = data.draw(st.lists(st.sampled_from(sorted(answer)), unique=True))
    partial = {name: answer[name] for name in answer if name in kept}
    assert answers.parse(scenario, answers.render(scenario, partial, "en")) == partial


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_parse_never_fails_on_any_text(text):
    for scenario in ALL:
        found = answers.parse(scenario, text)
        assert answers.tidy(scenario, found) == found


def test_parse_reads_what_models_write_a_little_wrong(small_scenario):
    text = "Sure! Here it is.\n**x**\nKIND:  Apple.\n重量\uff1a12.34 grams\nNote: ripe\nand sweet\nKind: pear"
    assert answers.parse(small_scenario, text) == {"kind": "apple", "weight": 12.3, "note": "ripe\nand sweet"}


def test_what_cannot_be_read_is_left_out(small_scenario):
    text = "Kind: banana\nWeight: 9000\nNote:   "
    assert answers.parse(small_scenario, text) == {}
    assert not answers.is_complete(small_scenario, {})


@pytest.mark.parametrize(("answer", "says"), [
    ({"kind": "banana"}, "banana"), ({"weight": 501}, "outside"), ({"weight": "heavy"}, "not a number"),
    ({"note": " \n "}, "empty"), ({"colour": "red"}, "colour"),
])
def test_render_refuses_a_wrong_value_and_names_it(small_scenario, answer, says):
    with pytest.raises(LabError, match=says):
        answers.render(small_scenario, answer, "en")

"""Labels of a file come to the scenario's spelling, and never to another label's."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import records, scenarios
from labkit.data.steps import labels
from labkit.errors import LabError


def rows(*kinds, name="small", field="kind"):
    return records.from_list(records.make(name, "en", [{"role": "user", "content": f"text {number}"}], {field: kind} if kind else {},
                                          source="t", license="") for number, kind in enumerate(kinds))


def after(scenario, *kinds, field="kind", **parameters):
    data = rows(*kinds, field=field)
    found = []
    for record, mark in zip(data, labels.label_spelling(data, scenario, **parameters), strict=True):
        found.append(mark.drop or mark.changes.get("answer", record["answer"]).get(field))
    return found


def test_case_spaces_width_and_titles_come_to_the_value(small_scenario):
    assert after(small_scenario, "apple", "Apple", " APPLE ", "ａｐｐｌｅ", "苹果", "梨", "ap_ple", "ap ple", "pear.") == [
        "apple"] * 5 + ["pear"] + ["apple"] * 2 + ["pear"]


def test_one_slip_is_mended_where_only_one_label_comes_near(small_scenario):
    assert after(small_scenario, "appple", "appel", "applw") == ["apple"] * 3
    assert after(small_scenario, "aple", "peat", "bpple") == ["unknown_label"] * 3  # too short to tell, too short, another first letter
    assert after(small_scenario, "appel", slips=False) == ["unknown_label"]


def test_what_fits_no_label_is_dropped_or_left_unlabelled(small_scenario):
    assert after(small_scenario, "plum", "apple", None) == ["unknown_label", "apple", None]
    assert after(small_scenario, "plum", "apple", unknown="clear") == [None, "apple"]
    with pytest.raises(LabError, match="unknown must be drop or clear"):
        after(small_scenario, "plum", unknown="keep")


def test_labels_from_the_file_are_merged_into_the_frequent_spelling(small_scenario):
    kinds = ["lost card"] * 60 + ["Lost_Card"] * 3 + ["lost crad"] * 2 + ["top up"] * 30 + ["top up 2"] * 1
    # Two spellings that differ by case alone are no labels of one scenario (`scenarios.check`), so the file's are a part here.
    scenario = small_scenario.narrowed("small", {"kind": ["lost card", "lost crad", "top up", "top up 2"]}, ["kind"])
    assert Counter(after(scenario, *kinds)) == {"lost card": 65, "top up": 30, "top up 2": 1}


def test_two_frequent_labels_that_differ_by_a_letter_stay_apart(small_scenario):
    scenario = small_scenario.narrowed("small", {"kind": ["card lost", "card list"]}, ["kind"])
    assert Counter(after(scenario, *["card lost"] * 40, *["card list"] * 5)) == {"card lost": 40, "card list": 5}


def test_labels_that_no_record_has_any_more_leave_a_scenario_that_took_them_from_the_file(small_scenario):
    scenario = small_scenario.narrowed("small", {"kind": ["a label", "a lable", "b label"]}, ["kind"])
    assert labels.still_used(scenario, rows("a label", "b label")).field("kind").values == ["a label", "b label"]
    assert labels.still_used(small_scenario, rows("apple")) is small_scenario


@pytest.mark.parametrize("name", sorted(scenarios.names()))
def test_every_value_and_title_of_a_scenario_is_its_own(name):
    for field in scenarios.load(name).label_fields:
        spellings = Counter({text: 1 for label in field.labels for text in (label.value, label.en, label.zh)})
        found = labels.mapping(field, spellings)
        assert all(found[text] == label.value for label in field.labels for text in (label.value, label.en, label.zh))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=12))
def test_any_spelling_goes_to_a_label_or_to_none(spellings):
    field = scenarios.load("legal").field("category")
    assert set(labels.mapping(field, Counter(spellings)).values()) <= {*field.values, ""}

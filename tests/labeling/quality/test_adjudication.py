"""What goes back to be decided, why, and how decisions come in."""

from datetime import timedelta

import pytest

from labkit import records
from labkit.errors import LabError
from labkit.labeling.annotations import Annotation
from labkit.labeling.quality import adjudication, aggregation
from labkit.labeling.quality.errors import Suspect
from tests.labeling.quality import tables


def kinds(item):
    return {(reason.kind, reason.field) for reason in item.reasons}


def test_ties_and_disputes_go_back_and_what_is_agreed_or_outvoted_does_not(small_scenario):
    given = tables.annotations("kind", {"ana": ["apple", "apple", "apple"], "ben": ["apple", "apple", "pear"],
                                        "cem": ["apple", "pear", None]})
    found = adjudication.queue(given, small_scenario, method="majority", least=0.6)
    assert [item.record for item in found] == ["r002"]
    assert kinds(found[0]) == {("tie", "kind"), ("disagreement", "kind"), ("unsure", "kind")}
    assert found[0].given == {"kind": {"ana": "apple", "ben": "pear"}}
    # tie 0.75, one of two differs 0.5, 1 - confidence 0.5
    assert found[0].priority == pytest.approx(1 - 0.25 * 0.5 * 0.5)


def test_every_reason_is_said_in_both_languages(small_scenario):
    given = tables.annotations("kind", {"ana": ["apple", "pear"], "ben": ["pear", "pear"]})
    given += tables.annotations("weight", {"ana": [1.0], "ben": [400.0]})
    given.append(Annotation("r001", "kind", "cem", None, "discarded", tables.START))
    suspects = {"kind": [Suspect(1, "r001", "pear", "apple", 0.9, True), Suspect(0, "r009", "pear", "apple", 0.4, False)]}
    found = {item.record: item for item in adjudication.queue(given, small_scenario, suspects=suspects)}
    assert set(found) == {"r000", "r001"}
    assert ("error", "kind") in kinds(found["r001"]) and ("discarded", "") in kinds(found["r001"])
    assert ("disagreement", "weight") in kinds(found["r000"])
    texts = [reason.text for item in found.values() for reason in item.reasons]
    assert all(set(text) == {"en", "zh"} and all(text.values()) for text in texts)
    assert any("苹果" in text["zh"] and "apple" in text["en"] for text in texts)


def test_the_most_urgent_comes_first_and_what_is_decided_does_not_come_again(small_scenario):
    given = tables.annotations("kind", {"ana": ["apple"] * 3, "ben": ["apple", "pear", "apple"], "cem": ["apple", "apple", "apple"]})
    suspects = {"kind": [Suspect(2, "r002", "apple", "pear", 0.6, True), Suspect(0, "r000", "apple", "pear", 0.99, True)]}
    found = adjudication.queue(given, small_scenario, method="majority", suspects=suspects)
    assert [item.record for item in found] == ["r001", "r000", "r002"]
    assert [item.priority for item in found] == sorted((item.priority for item in found), reverse=True)
    left = adjudication.queue(given, small_scenario, method="majority", suspects=suspects, decided=["r000"])
    assert [item.record for item in left] == ["r001", "r002"]


def test_a_gold_question_goes_back_only_where_its_key_is_in_doubt(small_scenario):
    key = {"r000": {"kind": "apple"}, "r001": {"kind": "apple"}, "r002": {"kind": "apple"}}
    given = tables.annotations("kind", {"ana": ["pear", "pear", "pear"], "ben": ["pear", "apple", None], "cem": ["apple", "apple", None]})
    found = adjudication.queue(given, small_scenario, gold=key)
    assert [(item.record, kinds(item)) for item in found] == [("r000", {("gold", "kind")})]
    assert "2 of 3" in found[0].reasons[0].text["en"] and "金标题" in found[0].reasons[0].text["zh"]


def test_a_decision_is_an_annotation_of_the_adjudicator_and_settles_the_record(small_records, small_scenario):
    rows = list(records.rows(small_records))
    name = rows[0]["id"]
    votes = {"ana": "apple", "ben": "apple", "cem": "pear"}
    given = [Annotation(name, "kind", person, value, "submitted", tables.START) for person, value in votes.items()]
    decision = adjudication.decide(name, {"kind": "梨", "weight": 12.34}, "judge", small_scenario, time=tables.START + timedelta(hours=1))
    assert [(each.field, each.value, each.annotator, each.status) for each in decision] == [
        ("kind", "pear", "judge", "submitted"), ("weight", 12.3, "judge", "submitted")]
    everything = given + decision
    settled = adjudication.settled(everything, ["judge"])
    assert settled == {name: {"kind": "pear", "weight": 12.3}}
    assert adjudication.without(everything, ["judge"]) == given
    made = next(records.rows(aggregation.answers(small_records, everything, small_scenario, gold=settled)))
    assert (made["answer"]["kind"], made["answer"]["weight"]) == ("pear", 12.3)
    later = adjudication.decide(name, {"kind": "apple"}, "judge", small_scenario, time=tables.START + timedelta(hours=2))
    assert adjudication.settled(later + everything, ["judge"])[name]["kind"] == "apple"


def test_a_decision_that_does_not_fit_the_scenario_is_refused(small_scenario):
    with pytest.raises(LabError, match="plum"):
        adjudication.decide("r0", {"kind": "plum"}, "judge", small_scenario)
    with pytest.raises(LabError, match="no value"):
        adjudication.decide("r0", {}, "judge", small_scenario)


def test_nothing_to_decide_is_an_empty_queue(small_scenario):
    assert adjudication.queue([], small_scenario) == []
    assert adjudication.queue(tables.annotations("kind", {"ana": ["apple"], "ben": ["apple"]}), small_scenario, method="majority") == []

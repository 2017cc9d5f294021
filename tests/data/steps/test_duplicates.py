"""The steps that drop duplicates keep the better record and count what contradicts; the leak check fails loudly."""

import pytest

from labkit import records, scenarios
from labkit.data.steps import duplicates as steps
from labkit.errors import LabError

LONG = "I would like to know when the parcel that I ordered last week will be at my door because I am away on Friday"
CHINESE = "你好\uff0c我上周买的那件蓝色外套到现在还没有收到\uff0c请帮我查一下快递到哪里了\uff0c谢谢"


def rows(scenario, *entries):
    """Records from (text or texts, answer, split, meta)."""
    made = []
    for number, (text, answer, split, meta) in enumerate(entries, 1):
        texts = text if isinstance(text, list) else [text]
        messages = [{"role": "assistant" if place % 2 else "user", "content": content} for place, content in enumerate(texts)]
        language = "zh" if "\u4e00" <= texts[0][0] <= "\u9fff" else "en"
        made.append(records.make(scenario.name, language, messages, answer, source="mine.csv", license="CC0-1.0", split=split,
                                 meta={"row": number, **meta}))
    return records.from_list(made)


def outcome(marks):
    return [(mark.drop, mark.counts, f"mine.csv, row {mark.twin + 1}" if mark.twin >= 0 else "") for mark in marks]


def test_the_first_of_equal_conversations_stays(small_scenario):
    data = rows(small_scenario, (LONG, {}, "", {}), (CHINESE, {}, "", {}), (LONG, {}, "", {"a": 1}), (LONG + "!", {}, "", {}),
                (CHINESE, {}, "", {}))
    marks = steps.exact_duplicates(data, small_scenario, processes=1)
    assert outcome(marks) == [("", {}, ""), ("", {}, ""), ("exact_duplicate", {}, "mine.csv, row 1"), ("", {}, ""),
                              ("exact_duplicate", {}, "mine.csv, row 2")]


def test_near_conversations_are_one_in_both_languages(small_scenario):
    data = rows(small_scenario, (LONG, {}, "", {}), (CHINESE, {}, "", {}), (LONG.upper() + "!", {}, "", {}),
                (CHINESE + "\uff01", {}, "", {}), ("something else", {}, "", {}))
    drops = [mark.drop for mark in steps.near_duplicates(data, small_scenario, processes=2)]
    assert drops == ["", "", "near_duplicate", "near_duplicate", ""]


def test_a_labelled_record_stays_before_an_unlabelled_one_and_one_of_the_test_before_others(small_scenario):
    pear = {"kind": "pear"}
    data = rows(small_scenario, (LONG, {}, "test", {}), (LONG, pear, "train", {}), (LONG, pear, "test", {}), (LONG, pear, "test", {}))
    drops = [mark.drop for mark in steps.exact_duplicates(data, small_scenario, processes=1)]
    assert drops == ["exact_duplicate", "exact_duplicate", "", "exact_duplicate"]


def test_labels_that_contradict_what_the_cluster_says_are_counted(small_scenario):
    data = rows(small_scenario, (LONG, {}, "", {}), (LONG, {"kind": "pear", "weight": 1.0}, "", {}), (LONG, {"kind": "apple"}, "", {}),
                (LONG, {"kind": "pear", "weight": 9.0}, "", {}), (LONG, {"note": "n"}, "", {}))
    marks = steps.exact_duplicates(data, small_scenario, processes=1)
    assert [mark.counts for mark in marks] == [{}, {}, {"conflicting_labels": 1}, {}, {}]


def test_the_whole_conversation_is_compared(small_scenario):
    one, other = [LONG, "When did you order?", "On Monday"], [LONG, "Where are you?", "In the old town"]
    data = rows(small_scenario, (one, {}, "", {}), (other, {}, "", {}), (one, {}, "", {}))
    assert [mark.drop for mark in steps.exact_duplicates(data, small_scenario, processes=1)] == ["", "", "exact_duplicate"]
    assert [mark.drop for mark in steps.near_duplicates(data, small_scenario, processes=1)] == ["", "", "near_duplicate"]


def test_the_english_encoder_leaves_chinese_records_alone_and_says_so(small_scenario):
    data = rows(small_scenario, (CHINESE, {}, "", {}), ("How do I change my address?", {}, "", {}), (CHINESE, {}, "", {}),
                ("How can I change my address?", {"kind": "pear"}, "", {}))
    marks = steps.semantic_duplicates(data, small_scenario, threshold=0.9, processes=1)
    missed = ("", {"not_compared": 1}, "")
    assert outcome(marks) == [missed, ("semantic_duplicate", {}, "mine.csv, row 4"), missed, ("", {}, "")]


def test_a_leak_stops_the_preparation_and_names_both_rows(small_scenario):
    data = rows(small_scenario, (LONG, {}, "train", {}), (CHINESE, {}, "test", {}), (LONG + " again", {}, "test", {}),
                ("something else", {}, "train", {}), (CHINESE, {}, "validation", {}))
    says = "leak: 2 of the records.*mine.csv, row 1 ~ mine.csv, row 3; mine.csv, row 5 ~ mine.csv, row 2;"
    with pytest.raises(LabError, match=says) as caught:
        steps.leaks(data, small_scenario, processes=1)
    assert "2 条" in caught.value.said("zh") and "\n" not in str(caught.value)
    marks = steps.leaks(data, small_scenario, action="drop", processes=1)
    assert outcome(marks) == [("leak", {}, "mine.csv, row 3"), ("", {}, ""), ("", {}, ""), ("", {}, ""), ("leak", {}, "mine.csv, row 2")]
    assert not any(mark.drop for mark in steps.leaks(data.select([1, 2, 3]), small_scenario, processes=1))


def test_the_leak_check_needs_splits(small_scenario):
    with pytest.raises(LabError, match="put the step split before it"):
        steps.leaks(rows(small_scenario, (LONG, {}, "", {})), small_scenario, processes=1)
    with pytest.raises(LabError, match="fail or drop"):
        steps.leaks(rows(small_scenario, (LONG, {}, "test", {})), small_scenario, action="warn", processes=1)


def test_no_records_are_no_duplicates(small_scenario):
    nothing = rows(small_scenario, (LONG, {}, "test", {})).select([])
    for step in (steps.exact_duplicates, steps.near_duplicates, steps.semantic_duplicates):
        assert step(nothing, small_scenario, processes=1) == []


@pytest.mark.parametrize("name", scenarios.names())
def test_the_samples_hold_no_duplicates_and_no_leaks(name):
    scenario = scenarios.load(name)
    samples = records.samples(scenario)
    assert not any(mark.drop for mark in steps.near_duplicates(samples, scenario, processes=1))
    assert not any(mark.drop for mark in steps.leaks(samples, scenario, processes=1))

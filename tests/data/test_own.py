"""Somebody's own file: its labels become the scenario's, its bad rows are listed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import records, scenarios
from labkit.data import own
from labkit.errors import LabError


@pytest.fixture()
def service():
    return scenarios.load("customer_service")


def write(path, rows):
    path.write_text("message,kind\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return path


def test_the_files_labels_become_the_scenarios(tmp_path, service):
    path = write(tmp_path / "mine.csv", [(f"question {number}", ["lost card", "top_up", "冻结"][number % 3]) for number in range(60)])
    imported = own.read(path, service, own.parse_mapping("text=message,intent=kind", service))
    assert imported.scenario.field("intent").values == ["lost card", "top_up", "冻结"]
    assert [field.name for field in imported.scenario.fields] == ["intent"]
    assert len(imported.records) == 60 and set(imported.records["split"]) == {"train", "validation", "test"}
    assert imported.records[1]["answer"] == {"intent": "top_up"} and imported.records[1]["meta"] == {"line": 3}
    assert all(records.check(row, imported.scenario) == row for row in imported.records)


def test_bad_rows_are_listed_with_their_line(tmp_path, service):
    path = write(tmp_path / "mine.csv", [("good", "a"), ("", "a"), ("no label", ""), ("too,many", "cells"), ("fine", "b")])
    imported = own.read(path, service, {"text": "message", "intent": "kind"})
    assert len(imported.records) == 2
    assert [(reject["line"], reject["problem"]) for reject in imported.rejects] == [
        (3, "column 'message' is empty"), (4, "column 'kind' is empty"), (5, "3 cells where the header has 2")]


def test_a_file_with_no_row_that_works_says_why(tmp_path, service):
    says = "none of its 2 rows works; the first: line 2: column 'words' is missing; there are message, kind"
    with pytest.raises(LabError, match=says):
        own.read(write(tmp_path / "mine.csv", [("a", "b"), ("c", "d")]), service, {"text": "words", "intent": "kind"})


def test_a_label_with_one_value_is_refused(tmp_path, service):
    with pytest.raises(LabError, match="only the value 'b'"):
        own.read(write(tmp_path / "mine.csv", [("a", "b"), ("c", "b")]), service, {"text": "message", "intent": "kind"})


@pytest.mark.parametrize(("mapping", "says"), [
    ("text", "FIELD=COLUMN"), ("intent=a", "needs text=COLUMN"), ("text=a", "at least one answer field"),
    ("text=a,mood=b", "no field 'mood'"),
    ("text=a,text=b,intent=c", "twice"),
])
def test_a_wrong_mapping_is_explained(service, mapping, says):
    with pytest.raises(LabError, match=says):
        own.parse_mapping(mapping, service)


def test_equal_texts_are_on_the_same_side(tmp_path, service):
    path = write(tmp_path / "mine.csv", [(f"question {number % 20}", "ab"[number % 2]) for number in range(200)])
    imported = own.read(path, service, {"text": "message", "intent": "kind"})
    sides = {}
    for row in imported.records:
        sides.setdefault(row["messages"][0]["content"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_very_small_file_has_rows_to_learn_from_and_rows_to_measure_on(tmp_path, service, count):
    for start in range(20):
        path = write(tmp_path / "mine.csv", [(f"question {start + number}", "ab"[number % 2]) for number in range(count)])
        splits = own.read(path, service, {"text": "message", "intent": "kind"}).records["split"]
        assert "train" in splits and "test" in splits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from(["a", "b", ""])), min_size=1, max_size=30))
def test_every_row_is_kept_or_rejected(tmp_path_factory, rows):
    import json

    path = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    path.write_text("".join(json.dumps({"message": text, "kind": label}) + "\n" for text, label in rows), encoding="utf-8")
    try:
        imported = own.read(path, scenarios.load("customer_service"), {"text": "message", "intent": "kind"})
    except LabError:
        return
    assert len(imported.records) + len(imported.rejects) == len(rows)

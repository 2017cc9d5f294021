"""What the lab keeps of labelling, in a real database file."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import database
from labkit.labeling import store
from labkit.labeling.annotations import STATUSES, Annotation
from labkit.labeling.store import Reject
from tests import databases

NOW = datetime(2024, 3, 1, 9, 30, 15, 123456, tzinfo=UTC)


def said(record, annotator, value, field="kind", status="submitted", later=0):
    return Annotation(record, field, annotator, value, status, NOW + timedelta(seconds=later))


@pytest.fixture(params=["sqlite", "postgresql"], autouse=True)
def dataset(request, monkeypatch):
    """A dataset in the default SQLite file, and in a PostgreSQL database where LABKIT_TEST_POSTGRESQL names one."""
    databases.use(request.param, monkeypatch, store._TABLES)
    store.know("d1", "http://here", "fruit", "small")
    return "d1"


def test_annotations_come_back_as_they_were(dataset):
    given = [said("1", "ana", "apple"), said("1", "ana", 12.5, "weight"), said("1", "晨", "圆的\n红的", "note"),
             said("2", "bo", None, status="discarded"), Annotation("3", "kind", "bo", "pear", "draft", NOW, 4.5)]
    store.keep(dataset, ["1", "2", "3"], given)
    good, bad = store.annotations(dataset)
    key = lambda each: (each.record, each.field, each.annotator)  # noqa: E731
    assert sorted(good, key=key) == sorted(given, key=key) and bad == []


def test_what_is_kept_twice_is_there_once_and_counts_once(dataset):
    given = [said("1", "ana", "apple"), said("2", "ana", "pear")]
    assert store.keep(dataset, ["1", "2"], given) == (2, 0)
    assert store.keep(dataset, ["1", "2"], given) == (0, 0)
    assert store.keep(dataset, ["1", "2"], [said("1", "ana", "pear", later=5), given[1]]) == (1, 0)
    assert store.annotations(dataset)[0] == [said("1", "ana", "pear", later=5), given[1]]


def test_what_vanished_is_left_out_but_not_deleted_and_may_come_back(dataset):
    store.keep(dataset, ["1", "2"], [said("1", "ana", "apple"), said("2", "ana", "pear")])
    assert store.keep(dataset, ["1"], []) == (0, 1)
    assert [each.record for each in store.annotations(dataset)[0]] == ["2"] and store.annotated(dataset) == {"2"}
    assert store.keep(dataset, ["1"], []) == (0, 0)  # it is counted once
    with database.connection(store._TABLES) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM annotations").scalar() == 2
    assert store.keep(dataset, ["1"], [said("1", "ana", "apple")]) == (1, 0)
    assert len(store.annotations(dataset)[0]) == 2


def test_records_that_are_not_asked_about_are_left_alone(dataset):
    store.keep(dataset, ["1", "2"], [said("1", "ana", "apple"), said("2", "ana", "pear")])
    store.keep(dataset, ["2"], [said("2", "ana", "apple", later=1)])
    assert [each.value for each in store.annotations(dataset)[0]] == ["apple", "apple"]


def test_rejects_are_kept_apart_with_their_reason(dataset):
    reject = Reject(said("1", "ana", "abc", "weight"), "weight: 'abc' is not a number")
    store.keep(dataset, ["1"], [said("1", "ana", "apple"), reject])
    assert store.annotations(dataset) == ([said("1", "ana", "apple")], [reject])
    store.keep(dataset, ["1"], [said("1", "ana", "apple"), said("1", "ana", 3.0, "weight", later=1)])
    assert store.annotations(dataset)[1] == []


def test_datasets_of_one_name_are_not_mixed_up(dataset):
    store.know("d2", "http://there", "fruit", "small")
    store.know("d3", "http://here", "other", "large")
    store.keep("d1", ["1"], [said("1", "ana", "apple")])
    store.keep("d2", ["1"], [said("1", "ana", "pear")])
    store.keep("d3", ["1"], [said("1", "bo", "plum")])
    assert [each.value for each in store.annotations("d2")[0]] == ["pear"]
    assert sorted(each.value for each in store.annotations(scenario="small")[0]) == ["apple", "pear"]
    assert len(store.annotations()[0]) == 3
    assert [each["id"] for each in store.datasets("http://here")] == ["d1", "d3"]


def test_to_know_a_dataset_again_forgets_nothing(dataset):
    store.set_pulled(dataset, {"stands": [1, "二"]})
    store.know(dataset, "http://elsewhere", "fruit", "small")
    assert store.pulled(dataset) == {"stands": [1, "二"]} and store.pulled("other") == {}
    assert store.datasets() == [{"id": "d1", "server": "http://elsewhere", "name": "fruit", "scenario": "small"}]


def test_pushed_records_come_back_in_the_order_of_their_rows_and_as_they_went_up_last(dataset):
    records = [{"id": name, "answer": {"kind": "苹果"}, "meta": {"n": [1]}} for name in "zay"]
    store.keep_pushed(dataset, [(record["id"], record, f"place {record['id']}", row) for row, record in enumerate(records)])
    store.keep_pushed(dataset, [("a", {**records[1], "answer": {}}, "place a", 1)])
    assert store.pushed(dataset) == {"z": records[0], "a": {**records[1], "answer": {}}, "y": records[2]}
    assert list(store.pushed(dataset)) == ["z", "a", "y"] and store.pushed("other") == {}


def test_a_thousand_records_are_kept_in_one_go(dataset):
    given = [said(str(number), name, "apple") for number in range(1200) for name in ("ana", "bo")]
    assert store.keep(dataset, [str(number) for number in range(1200)], given) == (2400, 0)
    assert store.keep(dataset, [str(number) for number in range(1200)], given[:-1]) == (0, 1)


one = st.builds(said, st.sampled_from("12"), st.sampled_from(["ana", "bo"]), st.sampled_from([None, "", "苹果", 0, 1.5]),
                st.sampled_from(["kind", "note"]), st.sampled_from(STATUSES), st.integers(0, 5))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # it waits for the disk, not for itself
@given(st.lists(st.lists(one, max_size=6, unique_by=lambda each: (each.record, each.annotator, each.field)), max_size=4))
def test_after_any_number_of_pulls_the_last_is_what_is_kept(pulls):
    store.know("any", "http://here", "fruit", "small")
    store.keep("any", ["1", "2"], [])
    for found in pulls:
        store.keep("any", ["1", "2"], found)
    kept = {(each.record, each.annotator, each.field): each for each in store.annotations("any")[0]}
    assert kept == {(each.record, each.annotator, each.field): each for each in (pulls[-1] if pulls else ())}

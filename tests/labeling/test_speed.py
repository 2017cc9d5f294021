"""What the launcher replaces in the server changes nothing but the time it takes."""

import sqlite3
from contextlib import closing

import argilla
import pytest

from labkit.labeling.server import DATABASE


@pytest.fixture(scope="module")
def dataset(argilla_server):
    """A data set with a suggestion of each kind and a vector."""
    client = argilla.Argilla(api_url=argilla_server.url, api_key=argilla_server.owner_key)
    settings = argilla.Settings(
        fields=[argilla.TextField("text")],
        questions=[argilla.LabelQuestion("kind", labels=["apple", "pear"]),
                   argilla.MultiLabelQuestion("tastes", labels=["sweet", "sour"], required=False),
                   argilla.RatingQuestion("ripe", values=[1, 2, 3], required=False)],
        metadata=[argilla.FloatMetadataProperty("weight")], vectors=[argilla.VectorField("place", dimensions=2)])
    made = argilla.Dataset(name="quick", workspace="lab", settings=settings, client=client)
    made.create()
    yield made
    made.delete()


def record(identity, kind, place, *suggestions):
    return argilla.Record(id=identity, fields={"text": f"text of {identity}"}, metadata={"weight": 1.5}, vectors={"place": place},
                          suggestions=[argilla.Suggestion("kind", kind, score=0.5, agent="first"), *suggestions])


def read(dataset):
    found = {}
    for each in dataset.records(with_suggestions=True, with_vectors=True):
        found[each.id] = ({suggestion.question_name: (suggestion.value, suggestion.score, suggestion.agent)
                           for suggestion in each.suggestions}, each.vectors["place"])
    return found


def test_suggestions_and_vectors_come_back_as_they_went_also_when_they_are_logged_again(dataset):
    dataset.records.log([record("a", "apple", [1.0, 0.0]),
                         record("b", "pear", [0.0, 1.0], argilla.Suggestion("tastes", ["sweet", "sour"], score=[0.75, 0.25])),
                         record("c", "pear", [0.5, 0.5], argilla.Suggestion("ripe", 3))])
    assert read(dataset) == {
        "a": ({"kind": ("apple", 0.5, "first")}, [1.0, 0.0]),
        "b": ({"kind": ("pear", 0.5, "first"), "tastes": (["sweet", "sour"], [0.75, 0.25], None)}, [0.0, 1.0]),
        "c": ({"kind": ("pear", 0.5, "first"), "ripe": (3, None, None)}, [0.5, 0.5])}

    dataset.records.log([record("a", "pear", [2.0, 2.0], argilla.Suggestion("ripe", 1, score=0.125)), record("d", "apple", [3.0, 3.0])])
    again = read(dataset)
    assert again["a"] == ({"kind": ("pear", 0.5, "first"), "ripe": (1, 0.125, None)}, [2.0, 2.0])
    assert again["d"] == ({"kind": ("apple", 0.5, "first")}, [3.0, 3.0])
    assert again["b"][1] == [0.0, 1.0] and set(again) == {"a", "b", "c", "d"}


def test_what_a_batch_answers_is_what_it_wrote(argilla_server, dataset):
    from labkit.labeling import accounts

    question = next(each.id for each in dataset.settings.questions if each.name == "kind")
    path = f"datasets/{dataset.id}/records/bulk"
    for value in ("apple", "pear"):  # made, then changed
        answer, = accounts.call(argilla_server.url, argilla_server.owner_key, "PUT", path, {"items": [
            {"external_id": "e", "fields": {"text": "e"}, "vectors": {"place": [1, 2]},
             "suggestions": [{"question_id": str(question), "value": value}]}]})["items"]
        suggestion, = answer["suggestions"]
        assert suggestion["value"] == value and (suggestion["updated_at"] > suggestion["inserted_at"]) == (value == "pear")
        assert answer["vectors"] == {"place": [1.0, 2.0]}


def test_a_suggestion_without_score_is_kept_as_the_server_keeps_it_by_itself(argilla_server, dataset):
    """Filters on scores ask the database: JSON's null, not SQL's."""
    from labkit.labeling import accounts

    question = next(each.id for each in dataset.settings.questions if each.name == "ripe")
    given = {"question_id": str(question), "value": 1}
    items = [{"external_id": "bulk", "fields": {"text": "bulk"}, "suggestions": [given]}, {"external_id": "one", "fields": {"text": "one"}}]
    url, key = argilla_server.url, argilla_server.owner_key
    bulk, single = accounts.call(url, key, "PUT", f"datasets/{dataset.id}/records/bulk", {"items": items})["items"]
    accounts.call(url, key, "PUT", f"records/{single['id']}/suggestions", given)
    with closing(sqlite3.connect(argilla_server.folder / DATABASE)) as database:
        rows = [database.execute("SELECT value, score, type, agent FROM suggestions WHERE record_id = ?",
                                 (each["id"].replace("-", ""),)).fetchone() for each in (bulk, single)]
    assert rows[0] == rows[1] and rows[0][1] == "null" and str(rows[0][0]) == "1"


@pytest.mark.slow
def test_records_are_logged_at_eighty_a_second_or_more(argilla_server, dataset):
    """A tenth of the benchmark's records, in processor time of the server, since other programs may be at work on the machine."""
    import psutil

    process = psutil.Process(argilla_server.pid)
    rows = [record(f"r{number}", "apple", [number / 7, 1.0], argilla.Suggestion("ripe", 2), argilla.Suggestion("tastes", ["sweet"]))
            for number in range(1000)]
    before = process.cpu_times()
    dataset.records.log(rows)
    after = process.cpu_times()
    assert 1000 / (after.user + after.system - before.user - before.system) > 80


def test_somebody_who_is_taken_out_of_the_workspace_sees_its_records_no_more(argilla_server, dataset):
    from labkit.errors import LabError
    from labkit.labeling import accounts
    from tests.labeling import asking

    url, key = argilla_server.url, argilla_server.owner_key
    dora = accounts.add(url, key, "dora")
    assert asking.found(url, dora.api_key, dataset.id) == asking.found(url, key, dataset.id) > 0
    place = next(each["id"] for each in accounts.call(url, key, "GET", "me/workspaces")["items"] if each["name"] == accounts.WORKSPACE)
    user = next(each["id"] for each in accounts.call(url, key, "GET", "users")["items"] if each["username"] == "dora")
    accounts.call(url, key, "DELETE", f"workspaces/{place}/users/{user}")
    with pytest.raises(LabError, match="403"):
        asking.found(url, dora.api_key, dataset.id)
    accounts.remove(url, key, "dora")

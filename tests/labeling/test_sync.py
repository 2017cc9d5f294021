"""Records up to a real Argilla server and back; what annotators do there is done through its own API with their keys."""

import dataclasses
import time
import uuid

import httpx
import pytest

from labkit import records as recs
from labkit import scenarios
from labkit.errors import LabError
from labkit.labeling import remote, settings, store, sync
from labkit.labeling.annotations import Annotation

ANA, BO, CHEN = "ana", "bo", "晨"


@pytest.fixture
def line(argilla_server):
    with sync.connect(argilla_server.url, argilla_server.owner_key) as opened:
        yield opened


@pytest.fixture
def name():
    """A dataset of this test's own."""
    return f"sync-{uuid.uuid4().hex[:8]}"


def push(line, name, records, scenario, **arguments):
    return sync.push(records, scenario, line, dataset=name, **{"vectors": False, "progress": lambda done, total: None, **arguments})


def pull(line, name, scenario, **arguments):
    return sync.pull(scenario, line, dataset=name, **{"progress": lambda done, total: None, **arguments})


def answer(person, line, name, record, values, status="submitted"):
    """What a person says about a record on the page."""
    place = places(line, name)[record]
    body = {"values": {key: {"value": value} for key, value in values.items()}, "status": status, "record_id": place}
    told = person.post("me/responses/bulk", {"items": [body]})["items"][0]
    assert told["error"] is None, told


def places(line, name):
    there = remote.find(line, name)
    return {each["external_id"]: each["id"] for page, _ in remote.records(line, there) for each in page}


def on_the_server(line, name, *include):
    there = remote.find(line, name)
    return {each["external_id"]: each for page, _ in remote.records(line, there, *include) for each in page}


def rows_of(records):
    return {row["id"]: row for row in recs.rows(records)}


def changed(row, **answer):
    """The same record with another answer: its id stays, as in the lab."""
    return {**row, "answer": {**row["answer"], **answer}}


# push


def test_records_are_on_the_server_as_they_are_here(line, name, small_scenario, small_records):
    rows = list(recs.rows(small_records))
    done = push(line, name, small_records, small_scenario, suggestions={rows[0]["id"]: {"kind": ("pear", 0.25, "small/x")}})
    assert sorted(done.created) == sorted(small_records["id"]) and not done.updated and not done.conflicts
    there = on_the_server(line, name, "suggestions")
    assert {key: each["fields"] for key, each in there.items()} == {
        row["id"]: {"text": row["messages"][0]["content"]} for row in rows}
    assert {key: each["metadata"]["row"] for key, each in there.items()} == {row["id"]: number for number, row in enumerate(rows)}
    assert there[rows[1]["id"]]["metadata"] == {"language": "zh", "source": "test", "license": "CC0-1.0", "split": "train", "row": 1}
    assert there[rows[0]["id"]]["metadata"]["confidence"] == 0.25
    (suggestion,) = there[rows[0]["id"]]["suggestions"]
    assert (suggestion["value"], suggestion["score"], suggestion["agent"]) == ("pear", 0.25, "small/x")


def test_the_client_reads_what_was_pushed(argilla_server, line, name, small_scenario, small_records):
    import argilla

    push(line, name, small_records, small_scenario, language="zh", suggestions=settings.present_answers(list(recs.rows(small_records))))
    client = argilla.Argilla(api_url=argilla_server.url, api_key=argilla_server.owner_key)
    dataset = client.datasets(name)
    assert dataset.settings.questions["kind"].title == "种类" and dataset.settings.questions["kind"].labels == ["apple", "pear"]
    found = {record.id: record for record in dataset.records(with_suggestions=True)}
    assert sorted(found) == sorted(small_records["id"])
    for row in recs.rows(small_records):
        record = found[row["id"]]
        assert record.fields["text"] == row["messages"][0]["content"]
        suggested = {each: record.suggestions[each].value for each in ("kind", "weight")}
        assert suggested == {"kind": row["answer"]["kind"], "weight": str(row["answer"]["weight"])}


def test_a_second_push_sends_nothing(line, name, small_scenario, small_records):
    suggested = settings.present_answers(list(recs.rows(small_records)))
    push(line, name, small_records, small_scenario, suggestions=suggested)
    before = on_the_server(line, name, "suggestions")
    done = push(line, name, small_records, small_scenario, suggestions=suggested)
    assert (done.created, done.updated, sorted(done.unchanged)) == ([], [], sorted(small_records["id"]))
    assert on_the_server(line, name, "suggestions") == before


def test_only_records_that_differ_are_sent_again(line, name, small_scenario, small_records):
    rows = list(recs.rows(small_records))
    push(line, name, rows[:8], small_scenario, suggestions={rows[0]["id"]: {"kind": ("apple", 0.5, "m"), "note": ("n", None, "m")}})
    done = push(line, name, rows, small_scenario, suggestions={rows[0]["id"]: {"kind": ("pear", 0.5, "m")}})
    assert done.updated == [rows[0]["id"]] and len(done.created) == 4 and len(done.unchanged) == 7
    (left,) = on_the_server(line, name, "suggestions")[rows[0]["id"]]["suggestions"]
    assert left["value"] == "pear"  # the other one is no longer made


def test_a_push_without_suggestions_leaves_those_that_are_there(line, name, small_scenario, small_records):
    suggested = settings.present_answers(list(recs.rows(small_records)))
    push(line, name, small_records, small_scenario, suggestions=suggested)
    done = push(line, name, small_records, small_scenario)
    assert not done.updated and len(done.unchanged) == 12
    assert all(len(each["suggestions"]) == 3 for each in on_the_server(line, name, "suggestions").values())


def test_a_push_cut_off_in_the_middle_goes_on_where_it_was(line, name, small_scenario, small_records):
    def stop(done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(line, name, small_records, small_scenario, batch=3, progress=stop)
    assert len(on_the_server(line, name)) == 6
    told = []
    done = push(line, name, small_records, small_scenario, batch=4, progress=lambda *numbers: told.append(numbers))
    assert len(done.created) == 6 and len(done.unchanged) == 6 and told == [(0, 6), (4, 6), (6, 6)]
    assert sorted(on_the_server(line, name)) == sorted(small_records["id"])


def test_a_dataset_that_was_half_made_is_finished(line, name, small_scenario, small_records):
    made = line.post("datasets", {"name": name, "workspace_id": remote.workspace(line)})
    line.post(f"datasets/{made['id']}/questions", settings.of(small_scenario, "en").questions[0])
    assert len(push(line, name, small_records, small_scenario).created) == 12


def test_a_push_from_a_lab_that_lost_its_database_doubles_nothing(line, name, small_scenario, small_records, tmp_path, monkeypatch):
    push(line, name, small_records, small_scenario)
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "other"))
    done = push(line, name, small_records, small_scenario)
    assert len(done.unchanged) == 12 and len(on_the_server(line, name)) == 12


def test_a_record_deleted_on_the_server_is_named_and_sent_again_only_when_asked_for(line, name, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    lost = small_records["id"][3]
    line.delete(f"records/{places(line, name)[lost]}")
    done = push(line, name, small_records, small_scenario)
    assert done.gone == [lost] and not done.created
    assert pull(line, name, small_scenario).gone == [lost]
    assert push(line, name, small_records, small_scenario, again=True).created == [lost]


def test_a_label_given_in_between_is_a_conflict_and_not_overwritten(line, name, people, small_scenario, small_records):
    rows = list(recs.rows(small_records))
    push(line, name, small_records, small_scenario)
    first = rows[0]  # its kind is apple
    answer(people[ANA], line, name, first["id"], {"kind": "pear", "note": "green"})
    edited = [changed(first, kind="apple", note="red"), *rows[1:]]
    done = push(line, name, edited, small_scenario, suggestions=settings.present_answers(edited))
    assert {(each.record, each.field, each.local, each.server) for each in done.conflicts} == {
        (first["id"], "kind", "apple", "pear"), (first["id"], "note", "red", "green")}
    assert first["id"] not in done.updated and len(done.updated) == 11
    assert done.conflicts[0].by == {ANA: "pear"}
    assert on_the_server(line, name, "suggestions")[first["id"]]["suggestions"] == []
    pull(line, name, small_scenario)
    assert not push(line, name, edited, small_scenario, suggestions=settings.present_answers(edited)).conflicts  # it has been seen


def test_a_record_that_argilla_refuses_is_named_and_the_others_go_up(line, name, small_scenario, small_records):
    rows = list(recs.rows(small_records))
    long = recs.make("small", "en", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 20_001},
                                     {"role": "user", "content": "c"}], {}, source="test", license="CC0-1.0")
    twice = {**rows[0]}
    wrong = {rows[1]["id"]: {"kind": ("plum", None, "m")}}
    done = push(line, name, [*rows, long, twice], small_scenario, suggestions=wrong)
    assert {each.record: each.problem for each in done.refused} == {
        long["id"]: "a message of 20,001 characters; Argilla takes 20,000 in a conversation",
        rows[0]["id"]: "another record before it has the same id",
        rows[1]["id"]: "kind: 'plum' is none of its labels (apple, pear)"}
    assert len(done.created) == 11


def test_what_only_the_server_finds_wrong_is_found_in_its_batch(line, name, small_scenario, small_records):
    there = remote.make(line, name, settings.of(small_scenario, "en", conversation=False))
    bodies = [{"external_id": str(number), "fields": {"text": f"text {number}"} if number != 5 else {"other": "x"}} for number in range(9)]
    found, refused = remote.upsert(line, there, bodies)
    assert sorted(found) == ["0", "1", "2", "3", "4", "6", "7", "8"] and list(refused) == ["5"] and "text" in refused["5"]


def test_annotators_do_not_see_hidden_metadata(line, name, people, small_scenario, small_records):
    gold = small_records["id"][0]
    push(line, name, small_records, small_scenario, hidden={gold: {"gold": "yes"}})
    assert on_the_server(line, name)[gold]["metadata"]["gold"] == "yes"
    there = remote.find(line, name)
    seen = people[ANA].post(f"me/datasets/{there.id}/records/search", {}, limit=100)["items"]
    assert len(seen) == 12 and not any("gold" in each["record"]["metadata"] for each in seen)
    assert len(push(line, name, small_records, small_scenario).unchanged) == 12  # a push that says nothing of it leaves it


def test_gold_questions_go_up_with_their_mark_hidden(line, name, people, small_scenario, small_records):
    from labkit.labeling.quality import gold

    key = gold.draw(small_records, small_scenario, 2)
    mixed = gold.mix(recs.from_list([row for row in recs.rows(small_records) if row["id"] not in key["id"][:]]), key)
    push(line, name, mixed, small_scenario)
    marks = {each["metadata"]["gold"] for each in on_the_server(line, name).values()}
    assert marks == {"yes", "no"}
    there = remote.find(line, name)
    seen = people[ANA].post(f"me/datasets/{there.id}/records/search", {}, limit=100)["items"]
    assert len(seen) == 12 and not any("gold" in each["record"]["metadata"] for each in seen)


def test_records_whose_ids_followed_their_new_answers_are_known_again(line, name, people, small_scenario, small_records):
    from labkit.labeling.quality import aggregation

    push(line, name, small_records, small_scenario)
    record = small_records["id"][0]
    answer(people[ANA], line, name, record, {"kind": "pear"})
    pulled = pull(line, name, small_scenario)
    labelled = aggregation.answers(small_records, pulled.annotations, small_scenario)
    assert record not in labelled["id"][:]
    done = push(line, name, labelled, small_scenario)
    assert not done.created and len(on_the_server(line, name)) == 12
    again = pull(line, name, small_scenario, records=labelled)
    assert not again.unknown and not again.gone and not again.conflicts
    (row,) = [row for row in recs.rows(again.records) if row["meta"].get("labels", {}).get("record") == record]
    assert row["answer"]["kind"] == "pear" and row["meta"]["annotations"]["by"][ANA]["values"] == {"kind": "pear"}


def test_a_dataset_that_asks_something_else_is_left_alone(line, name, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    other = small_scenario.narrowed("small", {"kind": ["apple", "plum"]}, ["kind"])
    with pytest.raises(LabError, match=f"dataset {name}: question kind has other labels there \\(pear, plum\\); push under another name"):
        push(line, name, small_records, other)


def test_a_dataset_that_shows_something_else_is_left_alone(line, name, small_scenario, small_records):
    made = dataclasses.replace(settings.of(small_scenario, "en"), fields=tuple(
        {"name": each, "title": each, "required": True, "settings": {"type": "text"}} for each in ("question", "context")))
    remote.make(line, name, made)
    with pytest.raises(LabError, match="shows context, question there, not text; push under another name"):
        push(line, name, small_records, small_scenario)


def test_vectors_find_the_same_text_first(line, name, small_scenario):
    texts = ["a ripe red apple", "the train to Paris is late", "ripe red apples"]
    rows = [recs.make("small", "en", [{"role": "user", "content": text}], {}, source="t", license="CC0-1.0") for text in texts]
    push(line, name, rows, small_scenario, vectors=True)
    there = remote.find(line, name)
    query = {"query": {"vector": {"name": "minilm-l6", "record_id": places(line, name)[rows[0]["id"]]}}}
    found = line.post(f"datasets/{there.id}/records/search", query, limit=10)["items"]
    order = [each["record"]["external_id"] for each in found if each["record"]["external_id"] != rows[0]["id"]]
    assert order == [rows[2]["id"], rows[1]["id"]]


def test_conversations_and_chinese_go_up_as_a_chat(line, name, small_scenario):
    turns = [{"role": "user", "content": "这是什么水果？"}, {"role": "assistant", "content": "请描述一下。"},
             {"role": "user", "content": "又圆又红"}]
    row = recs.make("small", "zh", turns, {}, source="测试", license="CC0-1.0")
    push(line, name, [row], small_scenario)
    assert on_the_server(line, name)[row["id"]]["fields"] == {"conversation": turns}
    there = remote.find(line, name)
    assert there.shown["title"] == "对话" and there.questions["kind"]["title"] == "种类"
    assert push(line, name, [row], small_scenario).unchanged == [row["id"]]


# pull


def test_three_annotators_answers_come_back_with_status_and_time(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario, answers_each=3)
    first, second = small_records["id"][:2]
    answer(people[ANA], line, name, first, {"kind": "apple", "weight": "12.5", "note": "round"})
    answer(people[BO], line, name, first, {"kind": "apple"})
    answer(people[CHEN], line, name, first, {"kind": "pear", "note": "圆的"})
    answer(people[CHEN], line, name, second, {"kind": "pear"}, "draft")
    answer(people[BO], line, name, second, {}, "discarded")
    found = pull(line, name, small_scenario)
    assert {(each.record, each.field, each.annotator, each.value, each.status) for each in found.annotations} == {
        (first, "kind", ANA, "apple", "submitted"), (first, "weight", ANA, 12.5, "submitted"), (first, "note", ANA, "round", "submitted"),
        (first, "kind", BO, "apple", "submitted"), (first, "kind", CHEN, "pear", "submitted"), (first, "note", CHEN, "圆的", "submitted"),
        (second, "kind", CHEN, "pear", "draft"),
        (second, "kind", BO, None, "discarded"), (second, "weight", BO, None, "discarded"), (second, "note", BO, None, "discarded")}
    for each in found.annotations:
        assert each.time.utcoffset().total_seconds() == 0 and abs(each.time.timestamp() - time.time()) < 120
    rows = rows_of(found.records)
    assert rows[first]["answer"] == {"kind": "apple", "weight": 12.5, "note": "note 0"}  # two notes, one vote each: undecided
    assert found.undecided == [(first, "note")]
    note = rows[first]["meta"]["annotations"]
    assert note["answer"] == {"kind": "apple", "weight": 12.5} and note["by"][CHEN]["values"] == {"kind": "pear", "note": "圆的"}
    assert {(each.field, each.before, each.now) for each in found.changed} == {("weight", 10.5, 12.5)}


def test_a_second_pull_finds_the_same_and_reads_nothing(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    answer(people[ANA], line, name, small_records["id"][0], {"kind": "pear"})
    first, second = pull(line, name, small_scenario, records=small_records), pull(line, name, small_scenario, records=small_records)
    assert (first.new, first.read, second.new, second.read) == (1, True, 0, False)
    third = pull(line, name, small_scenario, records=small_records, full=True)
    assert third.read and third.new == 0
    for each in (second, third):
        assert each.annotations == first.annotations and each.changed == first.changed and not each.conflicts
        assert rows_of(each.records) == rows_of(first.records)


def test_pulling_into_pulled_records_changes_nothing_until_somebody_says_something_else(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    record = small_records["id"][0]  # an apple
    answer(people[ANA], line, name, record, {"kind": "pear"})
    first = pull(line, name, small_scenario, records=small_records)
    again = pull(line, name, small_scenario, records=first.records)
    assert rows_of(again.records) == rows_of(first.records) and not again.changed and not again.conflicts
    answer(people[ANA], line, name, record, {"kind": "apple"})
    later = pull(line, name, small_scenario, records=again.records)
    assert (later.new, [(each.before, each.now) for each in later.changed]) == (1, [("pear", "apple")])
    assert rows_of(later.records)[record]["answer"]["kind"] == "apple" and not later.conflicts
    assert len(later.annotations) == 1  # the changed answer took the place of the old one


def test_a_record_changed_here_and_there_is_a_conflict_with_both_values(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    rows = list(recs.rows(small_records))
    record = rows[0]["id"]
    answer(people[ANA], line, name, record, {"kind": "apple", "note": "theirs"})
    edited = [changed(rows[0], note="ours"), *rows[1:]]
    found = pull(line, name, small_scenario, records=edited)
    assert [(each.record, each.field, each.local, each.server, each.by) for each in found.conflicts] == [
        (record, "note", "ours", "theirs", {ANA: "theirs"})]
    assert rows_of(found.records)[record]["answer"]["note"] == "ours"
    again = pull(line, name, small_scenario, records=found.records)
    assert again.conflicts == found.conflicts  # it stays visible
    taken = pull(line, name, small_scenario, records=found.records, take="server")
    assert not taken.conflicts and rows_of(taken.records)[record]["answer"]["note"] == "theirs"
    assert [(each.before, each.now) for each in taken.changed] == [("ours", "theirs")]


def test_values_that_fit_nothing_are_listed_and_come_to_no_record(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    one, two = small_records["id"][:2]
    answer(people[ANA], line, name, one, {"kind": "apple", "weight": "about a pound"})
    answer(people[BO], line, name, two, {"kind": "pear", "weight": "501"})
    found = pull(line, name, small_scenario)
    assert {(each.annotation.record, each.annotation.annotator, each.annotation.value, each.problem) for each in found.rejected} == {
        (one, ANA, "about a pound", "weight: 'about a pound' is not a number"), (two, BO, "501", "weight: 501 is outside 0 to 500")}
    assert rows_of(found.records)[one]["answer"]["weight"] == 10.5
    assert pull(line, name, small_scenario).rejected == found.rejected
    wider = dataclasses.replace(small_scenario, fields=tuple(
        dataclasses.replace(field, maximum=600.0) if field.name == "weight" else field for field in small_scenario.fields))
    assert [each.annotation.value for each in pull(line, name, wider).rejected] == ["about a pound"]


def test_an_answer_taken_back_is_no_longer_counted(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    record = small_records["id"][0]
    answer(people[ANA], line, name, record, {"kind": "pear", "note": "x"})
    pull(line, name, small_scenario)
    answer(people[ANA], line, name, record, {"kind": "pear"})
    found = pull(line, name, small_scenario)
    assert [(each.field, each.value) for each in found.annotations] == [("kind", "pear")] and found.vanished == 1
    line.delete(f"records/{places(line, name)[record]}")
    found = pull(line, name, small_scenario)
    assert found.annotations == [] and found.gone == [record] and found.vanished == 1


def test_a_pull_cut_off_in_the_middle_is_made_good_by_the_next(line, name, people, small_scenario, small_records, monkeypatch):
    monkeypatch.setattr(remote, "_PAGE", 5)
    push(line, name, small_records, small_scenario)
    for record in small_records["id"][:12]:
        answer(people[ANA], line, name, record, {"kind": "pear"})

    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(line, name, small_scenario, progress=stop)
    found = pull(line, name, small_scenario)
    assert found.read and found.new == 2 and len(found.annotations) == 12


def test_a_pull_notices_that_one_record_went_and_another_came(line, name, small_scenario, small_records):
    rows = list(recs.rows(small_records))
    push(line, name, rows[:6], small_scenario)
    assert pull(line, name, small_scenario).read and not pull(line, name, small_scenario).read
    line.delete(f"records/{places(line, name)[rows[2]['id']]}")
    push(line, name, [rows[8]], small_scenario)
    found = pull(line, name, small_scenario, records=rows[:6])
    assert (found.read, found.gone, found.unknown) == (True, [rows[2]["id"]], [rows[8]["id"]])


def test_an_aggregate_of_ones_own_is_given_all_annotations_at_once(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    one, two = small_records["id"][:2]
    answer(people[ANA], line, name, one, {"kind": "pear"})
    answer(people[BO], line, name, one, {"kind": "apple"})
    answer(people[BO], line, name, two, {"kind": "apple"})

    def trust_bo(scenario, annotations):
        return {each.record: {each.field: each.value} for each in annotations if each.annotator == BO}

    rows = rows_of(pull(line, name, small_scenario, aggregate=trust_bo).records)
    assert (rows[one]["answer"]["kind"], rows[two]["answer"]["kind"]) == ("apple", "apple")


def test_records_that_are_not_given_are_named(line, name, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    found = pull(line, name, small_scenario, records=list(recs.rows(small_records))[2:])
    assert found.unknown == sorted(small_records["id"][:2]) and len(found.records) == 10


def test_a_pull_on_another_machine_needs_the_records(line, name, people, small_scenario, small_records, tmp_path, monkeypatch):
    push(line, name, small_records, small_scenario)
    answer(people[ANA], line, name, small_records["id"][0], {"kind": "pear"})
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "other"))
    with pytest.raises(LabError, match="the lab database knows no records of dataset"):
        pull(line, name, small_scenario)
    found = pull(line, name, small_scenario, records=small_records)
    assert [(each.field, each.local, each.server) for each in found.conflicts] == [("kind", "apple", "pear")]  # nobody knows who is right


def test_progress_counts_by_annotator(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    one, two = small_records["id"][:2]
    answer(people[ANA], line, name, one, {"kind": "pear"})
    answer(people[ANA], line, name, two, {"kind": "pear"}, "draft")
    answer(people[BO], line, name, one, {}, "discarded")
    users = {each["username"]: each for each in sync.progress(small_scenario, line, dataset=name)["users"]}
    assert users == {ANA: {"username": ANA, "submitted": 1, "draft": 1, "discarded": 0},
                     BO: {"username": BO, "submitted": 0, "draft": 0, "discarded": 1}}


def test_majority_takes_the_most_frequent_label_and_the_median_of_numbers(small_scenario):
    from datetime import UTC, datetime

    def said(field, *values, status="submitted"):
        return [Annotation("r", field, f"person {number}", value, status, datetime.now(UTC)) for number, value in enumerate(values)]

    assert sync.majority(small_scenario, said("kind", "apple", "pear", "pear")) == {"r": {"kind": "pear"}}
    assert sync.majority(small_scenario, said("kind", "apple", "pear")) == {}
    assert sync.majority(small_scenario, said("weight", 1.0, 2.0, 40.0)) == {"r": {"weight": 2.0}}
    assert sync.majority(small_scenario, said("weight", 1.0, 2.0)) == {"r": {"weight": 1.5}}
    assert sync.majority(small_scenario, said("kind", "apple", status="draft")) == {}


# many


@pytest.mark.slow
def test_two_thousand_records_go_up_and_come_back(line, name, people, small_scenario):
    rows = [recs.make("small", "zh" if number % 2 else "en", [{"role": "user", "content": f"水果 fruit {number}"}], {}, source="t",
                      license="CC0-1.0") for number in range(2000)]
    started = time.monotonic()
    suggested = {row["id"]: {"kind": ("apple", 0.5, "m")} for row in rows}
    assert len(push(line, name, rows, small_scenario, suggestions=suggested, batch=250).created) == 2000
    went_up = time.monotonic()
    assert len(push(line, name, rows, small_scenario, suggestions=suggested).unchanged) == 2000
    again = time.monotonic()
    answer(people[ANA], line, name, rows[1999]["id"], {"kind": "pear"})
    found = pull(line, name, small_scenario)
    print(f"up {went_up - started:.1f} s, again {again - went_up:.1f} s, down {time.monotonic() - again:.1f} s")
    assert [each.record for each in found.annotations] == [rows[1999]["id"]] and len(found.records) == 2000


# connections


def test_a_server_that_is_not_there_is_an_error_of_one_line():
    with pytest.raises(LabError, match="no Argilla server answers at http://127.0.0.1:9") as error:
        sync.connect("http://127.0.0.1:9", "key")
    assert "\n" not in str(error.value) and "labkit label up" in str(error.value)


def test_a_wrong_key_is_an_error_of_one_line(argilla_server):
    with pytest.raises(LabError, match="does not accept this API key"):
        sync.connect(argilla_server.url, "nobody.apikey")


def test_an_annotators_key_may_not_read_what_others_said(line, name, people, small_scenario, small_records):
    push(line, name, small_records, small_scenario)
    with pytest.raises(LabError, match="use the key of an owner"):
        pull(people[ANA], name, small_scenario)


def test_a_dataset_that_is_not_there_is_an_error_that_names_it(line, name, small_scenario):
    with pytest.raises(LabError, match=f"has no dataset '{name}'"):
        pull(line, name, small_scenario)


@pytest.mark.parametrize(("url", "says"), [("127.0.0.1:6900", "begins with http://"), ("ftp://x", "begins with http://")])
def test_an_address_that_is_none_is_an_error(url, says):
    with pytest.raises(LabError, match=says):
        sync.connect(url, "key")


@pytest.mark.parametrize(("answered", "says"), [
    (httpx.Response(200, json={"version": "1.29.1"}), "is Argilla 1.29.1; the lab speaks with 2.x"),
    (httpx.Response(200, text="<html>"), "not as an Argilla server does"), (httpx.Response(200, json=[1]), "not as an Argilla server does"),
    (httpx.Response(301, headers={"location": "https://there/"}), "sends on to https://there/; give the address"),
    (httpx.Response(500, text="oops"), "failed \\(HTTP 500\\); look at its log")])
def test_what_is_no_argilla_of_this_version_is_an_error(monkeypatch, answered, says):
    monkeypatch.setattr(httpx.Client, "request", lambda *arguments, **named: answered)
    with pytest.raises(LabError, match=says):
        sync.connect("http://127.0.0.1:1", "key")


def test_without_a_server_of_ones_own_the_error_says_how_to_start_one(monkeypatch):
    monkeypatch.delenv("ARGILLA_API_URL", raising=False)
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    with pytest.raises(LabError, match="labkit label up"):
        sync.connect()
    with pytest.raises(LabError, match="http://elsewhere wants an API key"):
        sync.connect("http://elsewhere")


def test_every_scenario_of_the_lab_goes_up(line, name):
    for language in ("en", "zh"):
        for each in scenarios.names():
            scenario = scenarios.load(each)
            rows = [row for row in recs.rows(recs.samples(scenario)) if row["language"] == language][:5]
            done = push(line, f"{name}-{each}-{language}", rows, scenario, suggestions=settings.present_answers(rows))
            assert len(done.created) == 5 and not done.refused
            assert len(push(line, f"{name}-{each}-{language}", rows, scenario, suggestions=settings.present_answers(rows)).unchanged) == 5


def test_the_database_keeps_each_thing_once(line, name, people, small_scenario, small_records):
    for _ in range(2):
        push(line, name, small_records, small_scenario)
        answer(people[ANA], line, name, small_records["id"][0], {"kind": "pear"})
        pull(line, name, small_scenario, full=True)
    (known,) = store.datasets()
    assert known["name"] == name and len(store.pushed(known["id"])) == 12 and len(store.annotations(known["id"])[0]) == 1
    assert list(store.pushed(known["id"])) == small_records["id"][:]

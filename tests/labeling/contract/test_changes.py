"""What is written is found at once, what is deleted is gone at once: text, filters, sorts, similarity, progress and metrics agree."""

import copy
import random
import threading

import pytest

from tests.labeling.contract import corpus, words
from tests.labeling.contract.asking import Asked, between, order, terms
from tests.labeling.contract.corpus import Item, similarity

QUERIES = [("refund", words.word("refund")), ("退款", words.phrase("退款")), ("-card", ~words.word("card")),
           ("lost | 订单", words.word("lost") | words.phrase("订单")), ("zebra", words.word("zebra"))]


@pytest.fixture(scope="module")
def changing(argilla_server):
    """A data set of 60 records of its own."""
    return Asked(argilla_server.url, argilla_server.owner_key, "changing", corpus.make(60, seed=11))


@pytest.fixture()
def item(changing):
    """A new record with nothing but a text; it goes at the end."""
    made = Item("fresh", {"text": "a zebra crossing"}, {}, {}, {}, {})
    add(changing, made)
    yield made
    if made in changing.items:
        remove(changing, made)


def add(asked, item):
    asked.items.append(item)
    asked.log([item])
    asked.read_times()


def remove(asked, item):
    asked.http("DELETE", f"datasets/{asked.dataset.id}/records", ids=item.server_id)
    asked.items.remove(item)


def agrees(asked):
    """The server's answers to a dozen questions are those of the records."""
    items = asked.items
    for query, wanted in QUERIES:
        assert sorted(asked.found(query)) == sorted(item.id for item in items if wanted(words.parts(item.fields))), query
    for name, of in (("kind.suggestion", lambda item: item.suggestions.get("kind", ("",))[0]),
                     ("metadata.topic", lambda item: item.metadata.get("topic")), ("status", lambda item: item.status)):
        for value in ("refund", "card", "completed", "pending"):
            wanted = sorted(item.id for item in items if of(item) == value)
            assert sorted(asked.found(filters=[terms(name, value)])) == wanted, (name, value)
    for user in corpus.USERS[1:]:
        pending = [item.id for item in items if user not in item.responses]
        assert sorted(asked.found(filters=[terms("response.status", "pending")], user=user)) == sorted(pending)
        refunds = [item.id for item in items if item.responses.get(user, ("", {}))[1].get("kind") == "refund"]
        assert sorted(asked.found(filters=[terms("kind.response", "refund")], user=user)) == sorted(refunds)
        metrics = asked.http("GET", f"me/datasets/{asked.dataset.id}/metrics", user=user)["responses"]
        assert (metrics["total"], metrics["pending"]) == (len(items), len(pending))
    scored = [item.id for item in items if (item.suggestions.get("kind", (0, 0))[1] or 0) >= 0.5]
    assert sorted(asked.found(filters=[between("kind.score", 0.5)])) == sorted(scored)
    vector = [0.5, -0.5, 0.1, 0.7]
    answer = asked.search(vector={"name": "small", "value": vector})["items"]
    nearest = sorted((similarity(item.vectors["small"], vector) for item in items if "small" in item.vectors), reverse=True)
    assert [item["query_score"] for item in answer] == pytest.approx(nearest, abs=1e-5)
    assert asked.dataset.progress()["total"] == len(items)
    assert asked.dataset.progress()["completed"] == sum(item.status == "completed" for item in items)


def test_a_new_record_is_found_at_once(changing, item):
    assert changing.found("zebra") == [item.id]
    assert changing.found('"a zebra crossing"', sort=[order("inserted_at", "desc")]) == [item.id]
    agrees(changing)


def test_a_changed_text_is_found_by_its_new_words_alone(changing, item):
    item.fields = {"text": "斑马 and a giraffe"}
    changing.log([item])
    assert changing.found("zebra") == [] and changing.found("giraffe") == [item.id] and changing.found("斑马") == [item.id]


def test_a_field_that_is_added_later_is_found(changing, item):
    item.fields = {**item.fields, "note": "a striped horse"}
    changing.log([item])
    assert changing.found("zebra striped") == [item.id] and changing.found("striped", field="text") == []


def test_changed_metadata_is_filtered_and_counted_anew(changing, item):
    item.metadata = {"topic": "zoo", "weight": 3e7, "row-count": 5}
    changing.log([item])
    assert changing.found(filters=[terms("metadata.topic", "zoo")]) == [item.id]
    assert changing.found(sort=[order("metadata.weight", "desc")])[0] == item.id
    changing.http("PATCH", f"records/{item.server_id}", {"metadata": {"topic": "circus"}})
    item.metadata = {"topic": "circus"}
    assert changing.found(filters=[terms("metadata.topic", "zoo")]) == []
    assert changing.found(filters=[terms("metadata.topic", "circus")]) == [item.id]
    assert changing.found(filters=[between("metadata.weight", 1e7)]) == []


def test_a_changed_vector_moves_the_record(changing, item):
    item.vectors = {"small": [1.0, 0.0, 0.0, 0.0]}
    changing.log([item])
    assert changing.found(vector={"name": "small", "value": [1, 0, 0, 0]}, limit=1) == [item.id]
    item.vectors = {"small": [-1.0, 0.0, 0.0, 0.0]}
    changing.log([item])
    assert changing.found(vector={"name": "small", "value": [1, 0, 0, 0]}, limit=1) != [item.id]
    assert changing.found(vector={"name": "small", "value": [1, 0, 0, 0], "order": "least_similar"}, limit=1) == [item.id]


def test_a_suggestion_is_put_replaced_and_deleted(changing, item):
    put = {"question_id": changing.question_ids["kind"], "value": "other", "score": 0.875, "agent": "zebra-model", "type": "model"}
    made = changing.http("PUT", f"records/{item.server_id}/suggestions", put)
    assert changing.found(filters=[terms("kind.agent", "zebra-model")]) == [item.id]
    assert changing.found(filters=[between("kind.score", 0.875, 0.875), terms("kind.suggestion", "other")]) == [item.id]
    changing.http("PUT", f"records/{item.server_id}/suggestions", {**put, "value": "refund", "score": None})
    assert changing.found(filters=[terms("kind.agent", "zebra-model"), terms("kind.suggestion", "other")]) == []
    assert changing.found(filters=[terms("kind.agent", "zebra-model"), terms("kind.suggestion", "refund")]) == [item.id]
    assert changing.found(filters=[terms("kind.agent", "zebra-model"), between("kind.score", 0)]) == []
    changing.http("DELETE", f"records/{item.server_id}/suggestions", ids=made["id"])
    assert changing.found(filters=[terms("kind.agent", "zebra-model")]) == []


def test_a_response_is_drafted_submitted_discarded_and_deleted(changing, item):
    only = terms("id", item.server_id)
    made = changing.http("POST", f"records/{item.server_id}/responses", {"status": "draft", "values": {"quality": {"value": 5}}},
                         user="anna")
    assert changing.found(filters=[only, terms("response.status", "draft")], user="anna") == [item.id]
    assert changing.found(filters=[only, between("quality.response", 5)]) == [item.id]
    values = {"kind": {"value": "refund"}, "quality": {"value": 2}}
    changing.http("PUT", f"responses/{made['id']}", {"status": "submitted", "values": values}, user="anna")
    assert changing.found(filters=[only, terms("response.status", "draft")], user="anna") == []
    assert changing.found(filters=[only, terms("response.status", "submitted"), terms("kind.response", "refund")], user="anna") == [item.id]
    assert changing.found(filters=[only, between("quality.response", 5)]) == []
    assert changing.found(filters=[only, terms("response.status", "pending")], user="bo") == [item.id]
    changing.http("PUT", f"responses/{made['id']}", {"status": "discarded"}, user="anna")
    assert changing.found(filters=[only, terms("response.status", "discarded")], user="anna") == [item.id]
    changing.http("DELETE", f"responses/{made['id']}", user="anna")
    assert changing.found(filters=[only, terms("response.status", "pending")], user="anna") == [item.id]
    agrees(changing)


def test_a_record_is_completed_by_the_second_submission_and_pending_again_without_it(changing, item):
    only, body = terms("id", item.server_id), {"status": "submitted", "values": {"kind": {"value": "card"}}}
    changing.http("POST", f"records/{item.server_id}/responses", body, user="anna")
    assert changing.found(filters=[only, terms("status", "completed")]) == []
    made = changing.http("POST", f"records/{item.server_id}/responses", body, user="bo")
    assert changing.found(filters=[only, terms("status", "completed")]) == [item.id]
    changing.http("DELETE", f"responses/{made['id']}", user="bo")
    assert changing.found(filters=[only, terms("status", "completed")]) == []


def test_many_responses_at_once_are_counted(changing):
    items = [each for each in changing.items if "cleo" not in each.responses][:8]
    rows = [{"record_id": each.server_id, "status": "submitted", "values": {"kind": {"value": "迟到"}}} for each in items]
    changing.http("POST", "me/responses/bulk", {"items": rows}, user="cleo")
    for each in items:
        each.responses["cleo"] = ("submitted", {"kind": "迟到"})
    agrees(changing)


def test_deleted_records_are_gone_from_every_answer(changing):
    item = changing.items[5]
    remove(changing, item)
    agrees(changing)
    changing.items.insert(5, item)
    changing.log([item])
    changing.read_times()
    agrees(changing)


def test_the_client_deletes_records(changing, item):
    import argilla as rg

    record = next(iter(changing.dataset.records(query=rg.Query(filter=[("id", "==", item.id)]))))
    changing.dataset.records.delete([record])
    changing.items.remove(item)
    assert changing.found("zebra") == []
    agrees(changing)


def test_twenty_random_changes_leave_the_server_in_agreement(changing):
    draw = random.Random(3)
    for number in range(20):
        what = draw.choice(("new", "change", "delete", "change"))
        if what == "new":
            add(changing, Item(f"new{number}", {"text": draw.choice(("zebra refund", "退款 zebra", "lost"))}, {"topic": "card"}, {}, {},
                               {"small": [draw.uniform(-1, 1) for _ in range(4)]}))
        elif what == "delete":
            remove(changing, draw.choice(changing.items))
        else:
            each = draw.choice(changing.items)
            other = copy.deepcopy(draw.choice(changing.items))
            each.fields, each.metadata = other.fields, other.metadata
            each.suggestions = {**each.suggestions, **other.suggestions}
            each.vectors = {**each.vectors, **other.vectors}
            changing.log([each])
    agrees(changing)


def test_writers_at_the_same_time_lose_nothing(changing):
    made = [[Item(f"thread{thread}-{number}", {"text": f"parallel zebra {thread} 退款"}, {"topic": "card"}, {}, {}, {})
             for number in range(5)] for thread in range(4)]
    failures = []

    def write(items):
        for each in items:
            try:
                changing.http("POST", f"datasets/{changing.dataset.id}/records/bulk",
                              {"items": [{"fields": each.fields, "metadata": each.metadata, "external_id": each.id}]})
                changing.found("parallel")
            except Exception as error:  # noqa: BLE001  counted below: a thread must not end quietly
                failures.append(error)

    threads = [threading.Thread(target=write, args=(items,)) for items in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    changing.items += sum(made, [])
    changing.read_times()
    assert len(changing.found("parallel")) == 20
    agrees(changing)


def test_a_metadata_property_and_a_vector_that_are_added_later_can_be_asked_for(changing, item):
    changing.http("POST", f"datasets/{changing.dataset.id}/metadata-properties",
                  {"name": "later", "title": "Later", "settings": {"type": "integer"}, "visible_for_annotators": True})
    changing.http("POST", f"datasets/{changing.dataset.id}/vectors-settings", {"name": "later", "title": "Later", "dimensions": 2})
    changing.http("PATCH", f"records/{item.server_id}", {"metadata": {"later": 41}, "vectors": {"later": [0.6, 0.8]}})
    assert changing.found(filters=[between("metadata.later", 40, 42)]) == [item.id]
    answer = changing.search(vector={"name": "later", "value": [0.8, 0.6]})["items"]
    assert [(row["record"]["external_id"], row["query_score"]) for row in answer] == [(item.id, pytest.approx((1 + 0.96) / 2, abs=1e-6))]


def test_data_sets_do_not_see_each_other_and_a_deleted_one_leaves_nothing(argilla_server, changing, item):
    other = Asked(argilla_server.url, argilla_server.owner_key, "neighbour",
                  [Item("other", {"text": "a zebra 退款"}, {"topic": "card"}, {}, {}, {"small": [1.0, 2.0, 3.0, 4.0]})])
    assert other.found("zebra") == ["other"] and changing.found("zebra crossing") == [item.id]
    assert other.found(vector={"name": "small", "value": [1, 2, 3, 4]}) == ["other"]
    other.dataset.delete()
    agrees(changing)
    again = Asked(argilla_server.url, argilla_server.owner_key, "neighbour-2", [])
    assert again.found() == [] and again.found("zebra") == [] and again.found(vector={"name": "small", "value": [1, 2, 3, 4]}) == []
    assert again.dataset.progress()["total"] == 0

"""Sorts, pages, totals, progress and metrics."""

import pytest

from tests.labeling.contract import corpus
from tests.labeling.contract.asking import order, terms


def first(values):
    return min(values) if isinstance(values, list) else values


def last(values):
    return max(values) if isinstance(values, list) else values


def suggestion(question, place):
    return lambda item: item.suggestions.get(question, (None,) * 4)[place]


def mean_response(question, users=corpus.USERS):
    def value(item):
        given = [item.responses[user][1][question] for user in users if user in item.responses and question in item.responses[user][1]]
        return sum(given) / len(given) if given else None
    return value


SORTS = [
    ("inserted_at", lambda item: item.inserted_at), ("updated_at", lambda item: item.updated_at), ("external_id", lambda item: item.id),
    ("status", lambda item: item.status),
    ("metadata.topic", lambda item: item.metadata.get("topic")), ("metadata.code", lambda item: item.metadata.get("code")),
    ("metadata.row-count", lambda item: item.metadata.get("row-count")), ("metadata.weight", lambda item: item.metadata.get("weight")),
    ("metadata.both", lambda item: item.metadata.get("both")),
    ("kind.suggestion", suggestion("kind", 0)), ("quality.suggestion", suggestion("quality", 0)),
    ("tags.suggestion", suggestion("tags", 0)),
    ("kind.score", suggestion("kind", 1)), ("tags.score", suggestion("tags", 1)), ("quality.score", suggestion("quality", 1)),
    ("kind.agent", suggestion("kind", 2)), ("quality.response", mean_response("quality")),
]


def keys_in_order(items, key, direction):
    """The keys as a sort should show them: of several values the lowest counts upwards and the highest downwards; nothing comes last."""
    values = [key(item) for item in items]
    there = [(first if direction == "asc" else last)(value) for value in values if value is not None]
    return sorted(there, reverse=direction == "desc") + [None] * (len(values) - len(there))


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize(("name", "key"), [pytest.param(*row, id=row[0]) for row in SORTS])
def test_a_sort_orders_all_records_and_those_without_a_value_come_last(asked, name, key, direction):
    by_id = {item.id: item for item in asked.items}
    found = asked.found(sort=[order(name, direction)])
    assert sorted(found) == sorted(by_id)
    shown = [key(by_id[each]) for each in found]
    shown = [None if value is None else (first if direction == "asc" else last)(value) for value in shown]
    assert shown == keys_in_order(asked.items, key, direction)


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("user", ["anna", "bo"])
def test_on_a_persons_page_a_sort_by_rating_is_by_the_persons_own(asked, user, direction):
    by_id, key = {item.id: item for item in asked.items}, mean_response("quality", [user])
    found = asked.found(sort=[order("quality.response", direction)], user=user)
    assert [key(by_id[each]) for each in found] == keys_in_order(asked.items, key, direction)


def test_a_second_sort_breaks_the_ties_of_the_first(asked):
    by_id = {item.id: item for item in asked.items if "topic" in item.metadata and "row-count" in item.metadata}
    found = [each for each in asked.found(sort=[order("metadata.topic", "asc"), order("metadata.row-count", "desc")]) if each in by_id]
    keys = [(by_id[each].metadata["topic"], -by_id[each].metadata["row-count"]) for each in found]
    assert len(found) == len(by_id) and keys == sorted(keys)


def test_a_sort_holds_for_a_search_with_filters_too(asked):
    found = asked.found("refund | 退款", filters=[terms("status", "pending")], sort=[order("external_id", "desc")])
    assert found == sorted(found, reverse=True) and len(found) > 10


@pytest.mark.parametrize(("offset", "limit"), [(0, 1), (0, 50), (50, 50), (200, 50), (239, 10), (240, 10), (1000, 10), (7, 13)])
def test_pages_are_cut_out_of_the_whole_and_the_total_stays(asked, offset, limit):
    whole = asked.found()
    page = asked.search(offset=offset, limit=limit)
    assert [item["record"]["external_id"] for item in page["items"]] == whole[offset:offset + limit]
    assert page["total"] == len(asked.items)


@pytest.mark.parametrize("query", ["refund", "退款 | refund", "-card", "ref*"])
def test_pages_of_a_search_hold_each_record_once(asked, query):
    whole = asked.found(query)
    pages = [asked.search(query, offset=offset, limit=7) for offset in range(0, len(whole) + 7, 7)]
    assert [item["record"]["external_id"] for page in pages for item in page["items"]] == whole
    assert {page["total"] for page in pages} == {len(whole)}


def test_the_client_reads_every_record_once_in_small_batches(asked):
    import argilla as rg

    found = [row.id for row in asked.dataset.records(query=rg.Query(filter=[("status", "in", ["pending", "completed"])]), batch_size=17)]
    assert sorted(found) == sorted(item.id for item in asked.items)


@pytest.mark.parametrize("user", ["anna", "bo", "cleo"])
def test_a_person_meets_all_records_in_an_order_that_stays(asked, user):
    whole = asked.found(user=user)
    assert sorted(whole) == sorted(item.id for item in asked.items)
    assert asked.found(user=user) == whole
    assert [item["record"]["external_id"] for item in asked.search(user=user, offset=60, limit=20)["items"]] == whole[60:80]


def test_persons_meet_records_in_different_orders(asked):
    assert asked.found(user="anna") != asked.found(user="bo")


def test_progress_counts_completed_and_pending_records(asked):
    completed = sum(item.status == "completed" for item in asked.items)
    progress = asked.dataset.progress()
    assert (progress["total"], progress["completed"], progress["pending"]) == (len(asked.items), completed, len(asked.items) - completed)


@pytest.mark.parametrize("user", corpus.USERS)
def test_progress_of_a_person_counts_the_persons_responses_by_status(asked, user):
    given = [item.responses[user][0] for item in asked.items if user in item.responses]
    counts = {status: given.count(status) for status in ("submitted", "draft", "discarded")}
    metrics = asked.http("GET", f"me/datasets/{asked.dataset.id}/metrics", user=user)["responses"]
    assert metrics == {**counts, "pending": len(asked.items) - len(given), "total": len(asked.items)}


@pytest.mark.parametrize("name", ["topic", "code", "both"])
def test_metrics_of_terms_count_each_term(asked, name):
    counts = {}
    for item in asked.items:
        value = item.metadata.get(name, [])
        for term in value if isinstance(value, list) else [value]:
            counts[term] = counts.get(term, 0) + 1
    metrics = metrics_of(asked, name)
    assert {value["term"]: value["count"] for value in metrics["values"]} == counts
    assert metrics["total"] == sum(counts.values())
    assert [value["count"] for value in metrics["values"]] == sorted(counts.values(), reverse=True)


@pytest.mark.parametrize("name", ["row-count", "weight"])
def test_metrics_of_numbers_are_the_ends_of_their_range(asked, name):
    values = [item.metadata[name] for item in asked.items if name in item.metadata]
    metrics = metrics_of(asked, name)
    assert (metrics["min"], metrics["max"]) == (pytest.approx(min(values)), pytest.approx(max(values)))


def metrics_of(asked, name):
    identity = next(each.id for each in asked.dataset.settings.metadata if each.name == name)
    return asked.http("GET", f"metadata-properties/{identity}/metrics")


def test_the_agents_that_the_page_offers_are_those_of_the_suggestions(asked):
    offered = asked.http("GET", f"datasets/{asked.dataset.id}/records/search/suggestions/options")["items"]
    for each in offered:
        name = each["question"]["name"]
        assert set(each["agents"]) == {item.suggestions[name][2] for item in asked.items if name in item.suggestions} - {None}

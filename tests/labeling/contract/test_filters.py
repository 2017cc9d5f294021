"""Filters: metadata, suggestions, responses, status, dates, alone and together, each against a condition on the records in plain Python."""

import pytest

from tests.labeling.contract import corpus, words
from tests.labeling.contract.asking import between, order, terms
from tests.labeling.contract.words import phrase, word

METADATA = [
    (("metadata.topic", "==", "card"), lambda item: item.metadata.get("topic") == "card"),
    (("metadata.topic", "in", ["card", "loan"]), lambda item: item.metadata.get("topic") in ("card", "loan")),
    (("metadata.topic", "==", "账户"), lambda item: item.metadata.get("topic") == "账户"),
    (("metadata.topic", "==", "web form"), lambda item: item.metadata.get("topic") == "web form"),
    (("metadata.topic", "==", 'the "app"'), lambda item: item.metadata.get("topic") == 'the "app"'),
    (("metadata.topic", "==", "Card"), lambda item: False),  # terms are taken as they are
    (("metadata.topic", "==", "web"), lambda item: False),
    (("metadata.topic", "in", ["nowhere", "loan"]), lambda item: item.metadata.get("topic") == "loan"),
    (("metadata.code", "==", "7"), lambda item: item.metadata.get("code") == "7"),  # neither 007 nor 7.0
    (("metadata.code", "==", "007"), lambda item: item.metadata.get("code") == "007"),
    (("metadata.code", "==", "1000"), lambda item: item.metadata.get("code") == "1000"),
    (("metadata.code", "in", ["7.0", "1e3"]), lambda item: item.metadata.get("code") in ("7.0", "1e3")),
    (("metadata.both", "==", "x"), lambda item: "x" in item.metadata.get("both", [])),
    (("metadata.both", "in", ["x", "z"]), lambda item: {"x", "z"} & set(item.metadata.get("both", []))),
    (("metadata.row-count", ">=", 2), lambda item: item.metadata.get("row-count", -99) >= 2),
    (("metadata.row-count", "<=", 0), lambda item: item.metadata.get("row-count", 99) <= 0),
    (("metadata.row-count", ">=", 2**40), lambda item: item.metadata.get("row-count") == 2**40),
    (("metadata.row-count", ">=", 2**40 + 1), lambda item: False),
    (("metadata.row-count", "<=", -3), lambda item: item.metadata.get("row-count") == -3),
    (("metadata.row-count", "==", "10"), lambda item: item.metadata.get("row-count") == 10),
    (("metadata.row-count", "in", ["0", "1"]), lambda item: item.metadata.get("row-count") in (0, 1)),
    (("metadata.weight", ">=", 0), lambda item: item.metadata.get("weight", -99) >= 0),
    (("metadata.weight", "<=", -0.5), lambda item: item.metadata.get("weight", 99) <= -0.5),
    (("metadata.weight", ">=", 0.25), lambda item: item.metadata.get("weight", -99) >= 0.25),
    (("metadata.weight", ">=", 1e6), lambda item: item.metadata.get("weight", -99) >= 1e6),
    (("metadata.weight", "<=", -6), lambda item: False),
]


def suggested(question, test, place=0):
    """Whether the suggestion's value (0), score (1), agent (2) or type (3), or any of them where there are several, is as wanted."""
    def holds(item):
        values = item.suggestions.get(question, (None, None, None, None))[place]
        return any(value is not None and test(value) for value in (values if isinstance(values, list) else [values]))
    return holds


SUGGESTIONS = [
    (("kind", "==", "refund"), suggested("kind", lambda value: value == "refund")),
    (("kind.suggestion", "==", "迟到"), suggested("kind", lambda value: value == "迟到")),
    (("kind.suggestion", "in", ["refund", "迟到"]), suggested("kind", lambda value: value in ("refund", "迟到"))),
    (("kind.suggestion", "==", "Refund"), lambda item: False),
    (("tags.suggestion", "==", "urgent"), suggested("tags", lambda value: value == "urgent")),
    (("tags.suggestion", "in", ["重复", "vip"]), suggested("tags", lambda value: value in ("重复", "vip"))),
    (("quality.suggestion", "==", "3"), suggested("quality", lambda value: value == 3)),
    (("quality.suggestion", "in", ["1", "5"]), suggested("quality", lambda value: value in (1, 5))),
    (("quality.suggestion", ">=", 4), suggested("quality", lambda value: value >= 4)),
    (("quality.suggestion", "<=", 2), suggested("quality", lambda value: value <= 2)),
    (("kind.score", ">=", 0.5), suggested("kind", lambda value: value >= 0.5, 1)),
    (("kind.score", "<=", 0), suggested("kind", lambda value: value <= 0, 1)),
    (("kind.score", ">=", 1), suggested("kind", lambda value: value >= 1, 1)),
    (("kind.score", "<=", 1), suggested("kind", lambda value: True, 1)),
    (("tags.score", ">=", 0.9), suggested("tags", lambda value: value >= 0.9, 1)),
    (("tags.score", "<=", 0.1), suggested("tags", lambda value: value <= 0.1, 1)),
    (("quality.score", ">=", 0.75), suggested("quality", lambda value: value >= 0.75, 1)),
    (("comment.score", ">=", 0.5), suggested("comment", lambda value: value >= 0.5, 1)),
    (("names.score", "<=", 0.5), suggested("names", lambda value: value <= 0.5, 1)),
    (("kind.agent", "==", "model-a"), suggested("kind", lambda value: value == "model-a", 2)),
    (("kind.agent", "in", ["model-a", "model-b"]), suggested("kind", lambda value: True, 2)),
    (("order.agent", "==", "model-a"), suggested("order", lambda value: value == "model-a", 2)),
    (("quality.agent", "==", "model-c"), lambda item: False),
    (("kind.type", "==", "human"), suggested("kind", lambda value: value == "human", 3)),
    (("kind.type", "in", ["model", "human"]), suggested("kind", lambda value: True, 3)),
    (("quality.type", "==", "model"), suggested("quality", lambda value: value == "model", 3)),
    (("comment.suggestion", "==", "fine 好"), lambda item: False),  # texts, rankings and spans are not compared, as in Elasticsearch
    (("order.suggestion", "==", "a"), lambda item: False),
    (("names.suggestion", "==", "person"), lambda item: False),
]


def answered(question, test, users=corpus.USERS):
    def holds(item):
        for user in users:
            values = item.responses.get(user, ("", {}))[1].get(question)
            if any(value is not None and test(value) for value in (values if isinstance(values, list) else [values])):
                return True
        return False
    return holds


def has_status(*wanted, users=corpus.USERS):
    """Pending is who has not answered at all: for one user that user, for everybody a record without any response."""
    def holds(item):
        given = {item.responses[user][0] for user in users if user in item.responses}
        return bool(given & set(wanted)) or ("pending" in wanted and not given)
    return holds


RESPONSES = [
    (("kind.response", "==", "refund"), answered("kind", lambda value: value == "refund")),
    (("kind.response", "==", "迟到"), answered("kind", lambda value: value == "迟到")),
    (("kind.response", "in", ["card", "other"]), answered("kind", lambda value: value in ("card", "other"))),
    (("tags.response", "==", "vip"), answered("tags", lambda value: value == "vip")),
    (("tags.response", "in", ["angry", "重复"]), answered("tags", lambda value: value in ("angry", "重复"))),
    (("quality.response", "==", "5"), answered("quality", lambda value: value == 5)),
    (("quality.response", ">=", 3), answered("quality", lambda value: value >= 3)),
    (("quality.response", "<=", 1), answered("quality", lambda value: value <= 1)),
    (("comment.response", "==", "good"), lambda item: False),
    (("response.status", "==", "submitted"), has_status("submitted")),
    (("response.status", "==", "draft"), has_status("draft")),
    (("response.status", "==", "discarded"), has_status("discarded")),
    (("response.status", "==", "pending"), has_status("pending")),
    (("response.status", "in", ["draft", "discarded"]), has_status("draft", "discarded")),
    (("response.status", "in", ["pending", "draft"]), has_status("pending", "draft")),
    (("response.status", "in", ["pending", "draft", "submitted", "discarded"]), lambda item: True),
]
RECORDS = [
    (("status", "==", "completed"), lambda item: item.status == "completed"),
    (("status", "==", "pending"), lambda item: item.status == "pending"),
    (("status", "in", ["pending", "completed"]), lambda item: True),
    (("id", "==", "r017"), lambda item: item.id == "r017"),
    (("id", "in", ["r017", "r100", "r999"]), lambda item: item.id in ("r017", "r100")),
]
TOGETHER = [
    ([("metadata.topic", "==", "card"), ("metadata.row-count", ">=", 2)],
     lambda item: item.metadata.get("topic") == "card" and item.metadata.get("row-count", -99) >= 2),
    ([("metadata.row-count", ">=", 0), ("metadata.row-count", "<=", 2)], lambda item: 0 <= item.metadata.get("row-count", -99) <= 2),
    ([("metadata.topic", "==", "card"), ("metadata.topic", "==", "loan")], lambda item: False),
    ([("metadata.both", "==", "x"), ("metadata.both", "==", "y")], lambda item: {"x", "y"} <= set(item.metadata.get("both", []))),
    ([("kind", "==", "refund"), ("kind.score", ">=", 0.5)], lambda item: item.suggestions.get("kind", ("",))[0] == "refund"
     and (item.suggestions["kind"][1] or 0) >= 0.5),
    ([("kind", "==", "card"), ("tags", "==", "vip")],
     lambda item: item.suggestions.get("kind", ("",))[0] == "card" and "vip" in item.suggestions.get("tags", ([],))[0]),
    ([("kind.agent", "==", "model-a"), ("quality", "in", ["4", "5"])],
     lambda item: item.suggestions.get("kind", (0, 0, ""))[2] == "model-a" and item.suggestions.get("quality", (0,))[0] >= 4),
    ([("response.status", "==", "submitted"), ("status", "==", "pending")],
     lambda item: has_status("submitted")(item) and item.status == "pending"),
    ([("kind.response", "==", "refund"), ("kind.suggestion", "==", "refund")],
     lambda item: answered("kind", lambda value: value == "refund")(item) and item.suggestions.get("kind", ("",))[0] == "refund"),
    ([("kind.response", "==", "refund"), ("response.status", "==", "draft"), ("metadata.weight", "<=", 1.5)],
     lambda item: answered("kind", lambda value: value == "refund")(item) and has_status("draft")(item)
     and item.metadata.get("weight", 99) <= 1.5),
    ([("metadata.topic", "in", ["card", "账户"]), ("metadata.code", "in", ["7", "007", "1000"]), ("status", "==", "pending")],
     lambda item: item.metadata.get("topic") in ("card", "账户") and item.metadata.get("code") in ("7", "007", "1000")
     and item.status == "pending"),
]
WITH_TEXT = [
    ("refund", [("metadata.topic", "==", "card")], word("refund"), lambda item: item.metadata.get("topic") == "card"),
    ("退款", [("kind.suggestion", "==", "迟到")], phrase("退款"), lambda item: item.suggestions.get("kind", ("",))[0] == "迟到"),
    ("-card", [("response.status", "==", "submitted")], ~word("card"), has_status("submitted")),
    ("lost | late", [("status", "==", "completed")], word("lost") | word("late"), lambda item: item.status == "completed"),
    ('"lost card"', [("metadata.weight", ">=", 0)], phrase("lost card"), lambda item: item.metadata.get("weight", -99) >= 0),
    ("信用卡 | 银行卡", [("quality.response", ">=", 3), ("metadata.row-count", ">=", 1)], phrase("信用卡") | phrase("银行卡"),
     lambda item: answered("quality", lambda value: value >= 3)(item) and item.metadata.get("row-count", -99) >= 1),
    ("unheard", [("status", "==", "pending")], word("unheard"), lambda item: True),
]


def expected(asked, holds):
    return sorted(item.id for item in asked.items if holds(item))


def named(table):
    return [pytest.param(*row, id=f"{number}: {row[0]}") for number, row in enumerate(table)]


@pytest.mark.parametrize(("condition", "holds"), named(METADATA))
def test_metadata_filters(asked, condition, holds):
    assert sorted(asked.by_client(filters=[condition])) == expected(asked, holds)


@pytest.mark.parametrize(("condition", "holds"), named(SUGGESTIONS))
def test_suggestion_filters(asked, condition, holds):
    assert sorted(asked.by_client(filters=[condition])) == expected(asked, holds)


@pytest.mark.parametrize(("condition", "holds"), named(RESPONSES))
def test_response_filters_over_everybody(asked, condition, holds):
    assert sorted(asked.by_client(filters=[condition])) == expected(asked, holds)


@pytest.mark.parametrize(("condition", "holds"), named(RECORDS))
def test_record_filters(asked, condition, holds):
    assert sorted(asked.by_client(filters=[condition])) == expected(asked, holds)


@pytest.mark.parametrize(("conditions", "holds"), named(TOGETHER))
def test_filters_together_must_all_hold(asked, conditions, holds):
    assert sorted(asked.by_client(filters=conditions)) == expected(asked, holds)


@pytest.mark.parametrize(("query", "conditions", "wanted", "holds"), named(WITH_TEXT))
def test_text_and_filters_must_both_hold(asked, query, conditions, wanted, holds):
    assert sorted(asked.by_client(query, filters=conditions)) == expected(
        asked, lambda item: wanted(words.parts(item.fields)) and holds(item))


@pytest.mark.parametrize("user", corpus.USERS)
@pytest.mark.parametrize("statuses", [["pending"], ["submitted"], ["draft"], ["discarded"], ["pending", "draft"],
                                      ["submitted", "discarded"]], ids="+".join)
def test_on_a_persons_page_the_status_is_that_of_the_persons_own_responses(asked, user, statuses):
    found = asked.found(filters=[terms("response.status", *statuses)], user=user)
    assert sorted(found) == expected(asked, has_status(*statuses, users=[user]))


@pytest.mark.parametrize(("user", "filters", "holds"), [
    ("anna", [terms("kind.response", "refund")], answered("kind", lambda value: value == "refund", ["anna"])),
    ("bo", [terms("kind.response", "card", "迟到")], answered("kind", lambda value: value in ("card", "迟到"), ["bo"])),
    ("cleo", [terms("tags.response", "vip")], answered("tags", lambda value: value == "vip", ["cleo"])),
    ("anna", [between("quality.response", 2, 4)], answered("quality", lambda value: 2 <= value <= 4, ["anna"])),
    ("owner", [terms("kind.response", "refund")], lambda item: False),
    ("bo", [terms("response.status", "pending"), terms("kind.suggestion", "refund")],
     lambda item: "bo" not in item.responses and item.suggestions.get("kind", ("",))[0] == "refund"),
    ("anna", [terms("response.status", "submitted"), between("quality.response", 4)],
     lambda item: item.responses.get("anna", ("",))[0] == "submitted" and item.responses["anna"][1].get("quality", 0) >= 4),
])
def test_on_a_persons_page_the_answers_are_the_persons_own(asked, user, filters, holds):
    assert sorted(asked.found(filters=filters, user=user)) == expected(asked, holds)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2), (0, 0), (-3, 1), (1.5, 1e6)])
def test_a_range_with_both_ends_includes_them(asked, low, high):
    assert sorted(asked.found(filters=[between("metadata.weight", low, high)])) == expected(
        asked, lambda item: low <= item.metadata.get("weight", 1e9) <= high)


@pytest.mark.parametrize("name", ["inserted_at", "updated_at"])
@pytest.mark.parametrize("place", [0, 45, 130, 239])
def test_dates_from_and_until_a_records_own(asked, name, place):
    moment = getattr(asked.items[place], name)
    assert sorted(asked.by_client(filters=[(name, ">=", moment)])) == expected(asked, lambda item: getattr(item, name) >= moment)
    assert sorted(asked.by_client(filters=[(name, "<=", moment)])) == expected(asked, lambda item: getattr(item, name) <= moment)


def test_dates_far_away_and_in_another_zone(asked):
    assert asked.by_client(filters=[("inserted_at", ">=", "2000-01-01")]) != []
    assert asked.by_client(filters=[("inserted_at", "<=", "2000-01-01T00:00:00+08:00")]) == []


def test_a_filter_by_the_servers_own_id(asked):
    item = asked.items[100]
    assert asked.by_client(filters=[("_server_id", "==", item.server_id)]) == [item.id]


def test_fifty_filters_and_two_hundred_and_fifty_values_are_the_servers_limit(asked):
    many = [terms("metadata.topic", *["card"] + [f"no {number}" for number in range(249)]) for _ in range(50)]
    assert sorted(asked.found(filters=many)) == expected(asked, lambda item: item.metadata.get("topic") == "card")


@pytest.mark.parametrize("asking", [
    {"filters": [terms("metadata.nothing", "x")]}, {"filters": [terms("nothing.suggestion", "x")]},
    {"filters": [terms("nothing.response", "x")]}, {"sort": [order("metadata.nothing", "asc")]}, {"sort": [order("nothing.score", "desc")]},
    {"query": "card", "field": "nothing"}, {"vector": {"name": "nothing", "value": [1, 2]}},
    {"vector": {"name": "small", "value": [1, 2, 3]}},  # which has four
], ids=lambda asking: next(iter(asking)))
def test_what_does_not_exist_is_refused_in_words(asked, asking):
    with pytest.raises(AssertionError, match=": 422 "):
        asked.search(**asking)


def test_a_range_of_words_where_numbers_are_compared_does_not_stop_the_server(asked):
    with pytest.raises(AssertionError, match=": (422|400|500) "):
        asked.search(filters=[between("metadata.weight", "low", "more")])
    assert asked.search(limit=1)["total"] == len(asked.items)

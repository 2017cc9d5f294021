"""Similar records: nearest and farthest by the cosine, with text and filters, from a vector or from a record."""

import pytest

from tests.labeling.contract import words
from tests.labeling.contract.asking import terms
from tests.labeling.contract.corpus import similarity
from tests.labeling.contract.words import phrase, word

VECTORS = {"small": [0.3, -0.2, 0.9, 0.1], "wide": [0.1, 0.2, -0.7, 0.4, 0.5, -0.6, 0.3, 0.2]}


def ranked(items, name, vector, nearest=True):
    """Pairs of id and similarity, the best first; the similarity of the farthest is that with the opposite vector."""
    sign = 1 if nearest else -1
    pairs = [(item.id, similarity(item.vectors[name], [sign * value for value in vector])) for item in items if name in item.vectors]
    return sorted(pairs, key=lambda pair: -pair[1])


def same(found, wanted, limit):
    """The same ids in the same order with the same scores, to float32."""
    wanted = wanted[:limit]
    assert [identity for identity, _ in found] == [identity for identity, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=1e-5)


@pytest.mark.parametrize("nearest", [True, False], ids=["nearest", "farthest"])
@pytest.mark.parametrize("name", ["small", "wide"])
@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_vector_finds_its_nearest_and_its_farthest(asked, name, nearest, limit):
    import argilla as rg

    found = asked.by_client(similar=rg.Similar(name, VECTORS[name], most_similar=nearest), limit=limit)
    same(found, ranked(asked.items, name, VECTORS[name], nearest), limit)


@pytest.mark.parametrize("nearest", [True, False], ids=["nearest", "farthest"])
@pytest.mark.parametrize("name", ["small", "wide"])
@pytest.mark.parametrize("number", [3, 120])
def test_a_record_finds_others_and_never_itself(asked, name, nearest, number):
    import argilla as rg

    item = next(each for each in asked.items[number:] if name in each.vectors)
    record = next(iter(asked.dataset.records(query=rg.Query(filter=[("id", "==", item.id)]))))
    found = asked.by_client(similar=rg.Similar(name, record, most_similar=nearest), limit=20)
    same(found, ranked([each for each in asked.items if each is not item], name, item.vectors[name], nearest), 20)


@pytest.mark.parametrize(("query", "filters", "holds"), [
    (None, [("metadata.topic", "==", "card")], lambda item: item.metadata.get("topic") == "card"),
    (None, [("kind.suggestion", "==", "refund")], lambda item: item.suggestions.get("kind", ("",))[0] == "refund"),
    (None, [("kind.score", ">=", 0.5)], lambda item: (item.suggestions.get("kind", (0, 0))[1] or 0) >= 0.5),
    (None, [("status", "==", "completed"), ("metadata.row-count", ">=", 1)],
     lambda item: item.status == "completed" and item.metadata.get("row-count", -99) >= 1),
    (None, [("response.status", "==", "draft")], lambda item: any(status == "draft" for status, _ in item.responses.values())),
    (None, [("metadata.topic", "==", "nowhere")], lambda item: False),
    ("refund", None, lambda item: word("refund")(words.parts(item.fields))),
    ("退款", None, lambda item: phrase("退款")(words.parts(item.fields))),
    ("-card", None, lambda item: not word("card")(words.parts(item.fields))),
    ("unheard", None, lambda item: False),
    ("refund | 退款", [("status", "==", "pending")],
     lambda item: item.status == "pending" and (word("refund") | phrase("退款"))(words.parts(item.fields))),
])
def test_text_and_filters_hold_for_similar_records_too(asked, query, filters, holds):
    import argilla as rg

    for nearest in (True, False):
        found = asked.by_client(query, filters=filters, similar=rg.Similar("wide", VECTORS["wide"], most_similar=nearest), limit=30)
        same(found, ranked([item for item in asked.items if holds(item)], "wide", VECTORS["wide"], nearest), 30)


@pytest.mark.parametrize("user", ["anna", "bo"])
def test_on_a_persons_page_similar_records_are_those_that_the_person_has_not_done(asked, user):
    answer = asked.search(vector={"name": "small", "value": VECTORS["small"]}, filters=[terms("response.status", "pending")], user=user,
                          limit=25)
    found = [(item["record"]["external_id"], item["query_score"]) for item in answer["items"]]
    same(found, ranked([item for item in asked.items if user not in item.responses], "small", VECTORS["small"]), 25)


def test_pages_of_similar_records_follow_each_other(asked):
    vector = {"name": "small", "value": VECTORS["small"]}
    found = [asked.found(vector=vector, offset=offset, limit=20) for offset in (0, 20, 40)]
    assert sum(found, []) == [identity for identity, _ in ranked(asked.items, "small", VECTORS["small"])[:60]]


def test_a_longer_vector_of_the_same_direction_finds_the_same(asked):
    long = [1000 * value for value in VECTORS["small"]]
    assert asked.found(vector={"name": "small", "value": long}, limit=50) == asked.found(
        vector={"name": "small", "value": VECTORS["small"]}, limit=50)


def test_a_record_without_that_vector_is_refused_and_the_server_goes_on(asked):
    item = next(each for each in asked.items if "small" not in each.vectors)
    with pytest.raises(AssertionError, match="does not have a vector"):
        asked.search(vector={"name": "small", "record_id": item.server_id})
    assert asked.search(limit=1)["total"] == len(asked.items)

"""The index over a database as the server writes it: it finds what is there, and nothing else, whatever happened in between."""

import pytest

from tests.labeling.search.database import found

from argilla_side.search import conditions  # isort: skip
from argilla_side.search.conditions import Condition, Order, Scope  # isort: skip


def test_words_are_found_in_every_kind_of_field_but_pictures(server, shop, opened):
    text = server.record(shop, "a lost card")
    note = server.record(shop, "nothing", note="银行卡丢失")
    chat = server.record(shop, chat=[{"role": "user", "content": "my card"}, {"role": "assistant", "content": "which one"}])
    form = server.record(shop, form={"item": "card", "count": 3})
    server.record(shop, picture="https://example.com/card")
    index = opened()
    assert sorted(found(index, shop, "card")) == sorted([text, chat, form])
    assert found(index, shop, "card", "form") == [form]
    assert found(index, shop, "丢失") == [note]
    assert found(index, shop, "行丢") == []
    assert found(index, shop, "3") == [form]
    assert found(index, shop, "user") == []  # a role is nothing that was said
    assert found(index, shop, '"card which"') == found(index, shop, '"card which"~5') == []  # not across messages


def test_a_field_that_is_not_there_finds_nothing(server, shop, opened):
    server.record(shop, "card")
    assert found(opened(), shop, "card", "elsewhere") == found(opened(), shop, "-card", "picture") == []


def test_what_is_committed_is_found_without_anybody_telling(server, shop, opened):
    index = opened()
    assert found(index, shop) == []
    record = server.record(shop, "late", suggestions={"kind": ("refund", 0.7, "model-a", "model")})
    assert found(index, shop, "late") == [record]
    server.change("records", record, fields='{"text": "lost"}')
    assert (found(index, shop, "late"), found(index, shop, "lost")) == ([], [record])
    server.change("records", record, status="completed")
    assert index.progress(shop) == {"total": 1, "completed": 1}
    server.delete("records", record)
    assert found(index, shop) == [] and index.progress(shop) == {"total": 0}


def test_what_is_rolled_back_was_never_there(server, shop, opened):
    index = opened()
    server.connection.execute("BEGIN")
    server.record(shop, "late")
    assert found(index, shop, "late") == []
    server.connection.execute("ROLLBACK")
    assert found(index, shop, "late") == []
    record = server.record(shop, "late")
    assert found(index, shop, "late") == [record]


def test_what_goes_with_something_else_is_gone_too(server, shop, opened):
    """A person's responses go with the person, suggestions with their question: the engine is told of neither."""
    record, person = server.record(shop, "late", suggestions={"kind": "refund"}), server.user("ana")
    server.respond(record, person, kind="refund")
    index = opened()
    suggested, answered = Condition(Scope("suggestion", "kind", "value"), ("refund",)), Condition(Scope("response", "kind"), ("refund",))
    assert found(index, shop, where=[suggested, answered]) == [record]
    assert index.progress_of(shop, person) == {"total": 1, "submitted": 1}
    server.delete("users", person)
    assert found(index, shop, where=[answered]) == [] and index.progress_of(shop, person) == {"total": 0}
    server.delete("questions", server.id_of("questions", shop, "kind"))
    assert found(index, shop, where=[suggested]) == [] and found(index, shop) == [record]


def test_a_deleted_dataset_leaves_nothing_and_its_neighbour_everything(server, shop, opened):
    other = server.dataset()
    kept = server.record(other, "late")
    server.record(shop, "late", vectors={"v": [1, 0]})
    index = opened()
    assert len(found(index, shop, "late")) == 1
    server.delete("datasets", shop)
    assert found(index, shop, "late") == [] and found(index, other, "late") == [kept]
    left = [index.store.connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0] for table in ("rows", "vectors", "datasets")]
    assert left == [1, 0, 1]


def test_a_metadata_property_that_comes_later_knows_the_earlier_records(server, shop, opened):
    record = server.record(shop, "late", {"topic": "card", "shop": "north"})
    index = opened()
    wanted = [Condition(Scope("metadata", "shop"), ("north",))]
    assert found(index, shop, where=wanted) == []
    server.put("metadata_properties", name="shop", settings='{"type": "terms"}', dataset_id=shop)
    assert found(index, shop, where=wanted) == [record] and index.terms(shop, "shop") == [("north", 1)]


# -- conditions ---------------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def three(server, shop):
    """Three records and two people: the first said `refund` of the first, the second `card` of the first and second."""
    first = server.record(shop, "one", {"topic": "card", "age": 3, "weight": 0.5}, "completed", "b",
                          {"kind": ("refund", 0.9, "model-a", "model"), "tags": (["x", "y"], [0.2, 0.8]), "stars": 5}, {"v": [1, 0]})
    second = server.record(shop, "two", {"topic": ["card", "loan"], "age": "007", "weight": -1.5}, "pending", "a",
                           {"kind": ("card", 0.4), "tags": (["y"], [0.5]), "stars": 2}, {"v": [0, 2]})
    third = server.record(shop, "three", None, vectors={"v": [-1, 0.001]})
    ana, bo = server.user("ana"), server.user("bo")
    server.respond(first, ana, kind="refund", stars=1)
    server.respond(first, bo, "draft", kind="card", stars=4)
    server.respond(second, bo, "discarded", kind="card")
    return [first, second, third, ana, bo]


METADATA, SUGGESTED = lambda name: Scope("metadata", name), lambda name, what="value": Scope("suggestion", name, what)  # noqa: E731
CONDITIONS = [
    (Condition(METADATA("topic"), ("card",)), "12"), (Condition(METADATA("topic"), ("loan", "none")), "2"),
    (Condition(METADATA("topic"), ("car",)), ""), (Condition(METADATA("age"), ("7",)), "2"),
    (Condition(METADATA("age"), ("3.0", "word")), "1"), (Condition(METADATA("age"), low=3, high=6), "1"),
    (Condition(METADATA("age"), low=4), "2"), (Condition(METADATA("weight"), high=0.5), "12"),
    (Condition(METADATA("weight"), high=0.4), "2"), (Condition(METADATA("nothing"), ("card",)), ""),
    (Condition(SUGGESTED("kind"), ("refund",)), "1"), (Condition(SUGGESTED("kind"), ("refund", "card")), "12"),
    (Condition(SUGGESTED("tags"), ("x",)), "1"), (Condition(SUGGESTED("tags"), ("y",)), "12"),
    (Condition(SUGGESTED("stars"), ("5",)), "1"), (Condition(SUGGESTED("stars"), low=2, high=4), "2"),
    (Condition(SUGGESTED("kind", "score"), low=0.9), "1"), (Condition(SUGGESTED("kind", "score"), ("0.4",)), "2"),
    (Condition(SUGGESTED("tags", "score"), low=0.6), "1"), (Condition(SUGGESTED("tags", "score"), low=0.3, high=0.6), "2"),
    (Condition(SUGGESTED("kind", "agent"), ("model-a",)), "1"), (Condition(SUGGESTED("kind", "type"), ("model",)), "1"),
    (Condition(SUGGESTED("kind", "type"), ("human",)), ""), (Condition(SUGGESTED("comment"), ("x",)), ""),
    (Condition(SUGGESTED("gone"), ("x",)), ""), (Condition(Scope("record", None, "status"), ("pending",)), "23"),
    (Condition(Scope("record", None, "external_id"), ("a", "z")), "2"), (Condition(Scope("record", None, "external_id"), low="b"), "1"),
    (Condition(Scope("record", None, "inserted_at"), low="2024-05-01", high="2024-05-01"), "123"),
    (Condition(Scope("record", None, "inserted_at"), high="2024-04-30"), ""),
    (Condition(Scope("record", None, "updated_at"), low="2024-05-01T14:00:00+02:00"), "123"),
    (Condition(Scope("response", "kind"), ("card",)), "12"), (Condition(Scope("response", "kind"), ("refund",)), "1"),
    (Condition(Scope("response", "stars"), low=3), "1"), (Condition(Scope("response", "stars"), ("1", "2")), "1"),
    (Condition(Scope("response", "comment"), ("x",)), ""), (Condition(Scope("response", None, "status"), ("submitted",)), "1"),
    (Condition(Scope("response", None, "status"), ("pending",)), "3"),
    (Condition(Scope("response", None, "status"), ("discarded", "pending")), "23"),
    (Condition(Scope("response", None, "status"), ()), "123"),
]
OF_PEOPLE = [
    ("ana", "kind", None, ("card",), ""), ("bo", "kind", None, ("card",), "12"), ("ana", None, "status", ("pending",), "23"),
    ("bo", None, "status", ("pending",), "3"), ("ana", None, "status", ("submitted", "pending"), "123"),
    ("bo", None, "status", ("submitted",), ""), ("bo", None, "status", ("draft", "pending"), "13"), ("ana", None, "status", (), "1"),
]


@pytest.mark.parametrize(("condition", "numbers"), CONDITIONS)
def test_conditions_hold_for_the_right_records(three, shop, opened, condition, numbers):
    assert found(opened(), shop, where=[condition]) == [three[int(number) - 1] for number in numbers]


@pytest.mark.parametrize(("person", "question", "what", "values", "numbers"), OF_PEOPLE)
def test_conditions_on_one_persons_responses(three, shop, opened, person, question, what, values, numbers):
    scope = Scope("response", question, what, dict(zip(("ana", "bo"), three[3:], strict=True))[person])
    assert found(opened(), shop, where=[Condition(scope, values)]) == [three[int(number) - 1] for number in numbers]


def test_a_person_who_never_answered_has_everything_before_them(server, three, shop, opened):
    scope = Scope("response", None, "status", server.user("new"))
    assert found(opened(), shop, where=[Condition(scope, ("pending",))]) == three[:3]
    assert found(opened(), shop, where=[Condition(scope, ("draft",))]) == []


def test_all_conditions_and_the_words_must_hold(three, shop, opened):
    index = opened()
    both = [Condition(METADATA("topic"), ("card",)), Condition(SUGGESTED("stars"), low=2)]
    assert found(index, shop, "two | three", where=both) == [three[1]]


@pytest.mark.parametrize("condition", [
    Condition(Scope("record", None, "colour"), ("x",)), Condition(Scope("response", None, "status"), low=1), Condition(Scope("word")),
    Condition(METADATA("age"), low="many")])
def test_a_condition_that_makes_no_sense_is_an_error(three, shop, opened, condition):
    with pytest.raises(ValueError):
        opened().search(shop, where=[condition])


ORDERS = [
    (METADATA("age"), "123", "213"), (METADATA("weight"), "213", "123"), (METADATA("topic"), "123", "213"),
    (SUGGESTED("kind"), "213", "123"), (SUGGESTED("kind", "score"), "213", "123"), (SUGGESTED("tags", "score"), "123", "123"),
    (SUGGESTED("stars"), "213", "123"), (SUGGESTED("kind", "agent"), "123", "123"), (Scope("record", None, "external_id"), "213", "123"),
    (Scope("record", None, "status"), "123", "231"), (Scope("record", None, "inserted_at"), "123", "321"),
    (Scope("response", "stars"), "123", "123"), (Scope("response", "kind"), "123", "123"),
    (Scope("response", None, "status"), "213", "123"), (Scope("metadata", "nothing"), "123", "123"),
]


@pytest.mark.parametrize(("scope", "up", "down"), ORDERS)
def test_orders_up_and_down_have_what_is_missing_last(three, shop, opened, scope, up, down):
    index = opened()
    for descending, numbers in ((False, up), (True, down)):
        assert found(index, shop, orders=[Order(scope, descending)]) == [three[int(number) - 1] for number in numbers]


def test_ratings_of_several_people_are_sorted_by_their_mean(server, shop, opened):
    high, low = server.record(shop, "high"), server.record(shop, "low")
    for record, ratings in ((high, (1, 5, 4)), (low, (2, 3, 2))):  # means 10/3 and 7/3, smallest 1 and 2, largest 5 and 3
        for number, stars in enumerate(ratings):
            server.respond(record, server.user(f"{record}{number}"), stars=stars)
    assert found(opened(), shop, orders=[Order(Scope("response", "stars"))]) == [low, high]


def test_pages_together_are_the_whole(server, opened):
    dataset = server.dataset()
    records = [server.record(dataset, "card " * (number % 3 + 1) + "x " * (number % 5)) for number in range(60)]
    index, person = opened(), server.user("ana")
    for options in ({}, {"text": "card"}, {"user": person}, {"text": "card", "user": person}):
        whole = [record for record, _ in index.search(dataset, **options).items]
        pages = [record for start in range(0, 60, 7) for record, _ in index.search(dataset, offset=start, limit=7, **options).items]
        assert pages == whole and sorted(whole) == sorted(records)
    assert index.search(dataset, limit=0).total == 60 and index.search(dataset, limit=0).items == []
    assert index.search(dataset, offset=70).items == []


def test_everybody_has_an_order_of_their_own_that_stays(server, opened):
    dataset = server.dataset()
    records = [server.record(dataset, "card") for _ in range(50)]
    people = [server.user(name) for name in ("ana", "bo")]
    index = opened()
    assert found(index, dataset) == records
    orders = [found(index, dataset, user=person) for person in people]
    assert len({tuple(order) for order in [*orders, records]}) == 3
    server.record(dataset, "another")
    index = opened()
    for person, before in zip(people, orders, strict=True):
        assert [record for record in found(index, dataset, user=person) if record in records] == before


def test_chance_is_even(server, opened):
    """Over 200 people the first of ten records is each one about 20 times: chi-square with 9 degrees of freedom, 27.9 at p = 0.001."""
    dataset = server.dataset()
    records = [server.record(dataset, "card") for _ in range(10)]
    index = opened()
    firsts = [index.search(dataset, limit=1, user=server.user(str(number))).items[0][0] for number in range(200)]
    assert sum((firsts.count(record) - 20) ** 2 / 20 for record in records) < 27.9


def test_better_matches_come_first(server, opened):
    dataset = server.dataset()
    worse, better = server.record(dataset, "card and many other words besides"), server.record(dataset, "card card")
    answer = opened().search(dataset, "card")
    assert [record for record, _ in answer.items] == [better, worse]
    assert answer.items[0][1] > answer.items[1][1] > 0


# -- similarity and metrics ---------------------------------------------------------------------------------------------------------------
def test_similarity_in_both_directions(server, three, shop, opened):
    index, settings = opened(), server.id_of("vectors_settings", shop, "v")
    near = index.similar(shop, settings, [3, 0])
    assert [record for record, _ in near.items] == three[:3]
    assert [score for _, score in near.items] == pytest.approx([1, 0.5, 0], abs=1e-4)
    far = index.similar(shop, settings, [3, 0], opposite=True)
    assert [record for record, _ in far.items] == three[2::-1]
    assert [record for record, _ in index.similar(shop, settings, [3, 0], without=three[0], limit=1).items] == [three[1]]
    assert [record for record, _ in index.similar(shop, settings, [3, 0], threshold=0.5).items] == three[:2]
    assert [record for record, _ in index.similar(shop, settings, [3, 0], text="two | three").items] == three[1:3]
    assert [record for record, _ in index.similar(shop, settings, [3, 0], where=[Condition(METADATA("age"), low=4)]).items] == [three[1]]
    with pytest.raises(ValueError, match="length 2"):
        index.similar(shop, settings, [1, 2, 3])


def test_vectors_change_with_the_database(server, shop, opened):
    index, settings = opened(), server.id_of("vectors_settings", shop, "v")
    first, second = server.record(shop, "a", vectors={"v": [1, 0]}), server.record(shop, "b", vectors={"v": [0, 1]})
    assert [record for record, _ in index.similar(shop, settings, [1, 0]).items] == [first, second]
    server.connection.execute("UPDATE vectors SET value = '[-1, 0]' WHERE record_id = ?", (first,))
    assert [record for record, _ in index.similar(shop, settings, [1, 0]).items] == [second, first]
    server.connection.execute("DELETE FROM vectors WHERE record_id = ?", (second,))
    assert [record for record, _ in index.similar(shop, settings, [1, 0]).items] == [first]
    third = server.record(shop, "c", vectors={"v": [1, 1]})
    assert [record for record, _ in index.similar(shop, settings, [1, 0]).items] == [third, first]
    server.delete("records", third)
    assert [record for record, _ in opened().similar(shop, settings, [1, 0]).items] == [first]


def test_metrics_count_terms_and_span_numbers(three, shop, opened):
    index = opened()
    assert index.terms(shop, "topic") == [("card", 2), ("loan", 1)]
    assert index.extremes(shop, "age") == (3, 7) and index.extremes(shop, "weight") == (-1.5, 0.5)
    assert index.terms(shop, "nothing") == [] and index.extremes(shop, "nothing") is None


@pytest.mark.parametrize(("value", "upper", "moment"), [
    ("1970-01-02", False, 86_400_000_000), ("1970-01-01", True, 86_399_999_999), ("1970-01-01T01:00:00Z", True, 3_600_000_000),
    ("1970-01-01T01:00:00+01:00", False, 0), (1500, False, 1_500_000)])
def test_times(value, upper, moment):
    assert conditions.moment(value, upper) == moment


@pytest.mark.parametrize("condition", [
    Condition(Scope("record", None, "inserted_at"), low="yesterday"), Condition(METADATA("age"), high="old")])
def test_what_makes_no_sense_is_refused_with_a_reason(three, shop, opened, condition):
    with pytest.raises(conditions.Senseless, match="yesterday|old"):
        opened().search(shop, where=[condition])

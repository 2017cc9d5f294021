"""Gold questions are spread over the labels, hidden among the others, and scored with intervals."""

import random
from collections import Counter

import pytest

from labkit import records
from labkit.errors import LabError
from labkit.labeling.quality import gold, intervals
from tests.labeling.quality import tables


def labelled(scenario, counts):
    rows = []
    for kind, count in counts.items():
        rows += [records.make(scenario.name, "zh" if number % 2 else "en", [{"role": "user", "content": f"{kind} {number}"}],
                              {"kind": kind, "weight": 10.0 + number, "note": "n"}, source="judged", license="CC0-1.0", split="test")
                 for number in range(count)]
    return records.from_list(rows)


def unlabelled(scenario, count):
    return records.from_list(records.make(scenario.name, "en", [{"role": "user", "content": f"plain {number}"}], {}, source="shop",
                                          license="CC0-1.0", split="train", meta={"n": number}) for number in range(count))


def test_every_label_is_asked_and_the_rest_is_in_proportion(small_scenario):
    drawn = gold.draw(labelled(small_scenario, {"apple": 90, "pear": 10}), small_scenario, 10)
    assert Counter(row["answer"]["kind"] for row in records.rows(drawn)) == {"apple": 9, "pear": 1}
    drawn = gold.draw(labelled(small_scenario, {"apple": 97, "pear": 3}), small_scenario, 4)
    assert Counter(row["answer"]["kind"] for row in records.rows(drawn)) == {"apple": 3, "pear": 1}


def test_only_the_records_named_are_drawn_and_the_seed_settles_which(small_scenario):
    data = labelled(small_scenario, {"apple": 30, "pear": 30})
    among = data["id"][10:40]
    first, again, other = (gold.draw(data, small_scenario, 8, among=among, seed=seed)["id"][:] for seed in (1, 1, 2))
    assert first == again != other and set(first) <= set(among)


def test_more_than_there_are_cannot_be_drawn(small_scenario):
    with pytest.raises(LabError, match="7 gold questions cannot be drawn from 6"):
        gold.draw(labelled(small_scenario, {"apple": 3, "pear": 3}), small_scenario, 7)
    with pytest.raises(LabError, match="0 records"):
        gold.draw(unlabelled(small_scenario, 3), small_scenario, 1)


def test_gold_questions_look_like_the_others(small_scenario):
    drawn = gold.draw(labelled(small_scenario, {"apple": 9, "pear": 9}), small_scenario, 5)
    plain = unlabelled(small_scenario, 50)
    mixed = list(records.rows(gold.mix(plain, drawn, seed=4)))
    asked = [row for row in mixed if row["meta"]["gold"]]
    assert len(mixed) == 55 and {row["id"] for row in asked} == set(gold.answers(drawn))
    for key in ("source", "license", "split"):
        assert {row[key] for row in asked} == {row[key] for row in mixed if not row["meta"]["gold"]}
    assert all(row["answer"] == {} and set(row["meta"]) == {"gold"} and row["id"] == records.content_id(row) for row in asked)
    assert [row["id"] for row in mixed if not row["meta"]["gold"]] == plain["id"][:]
    places = [place for place, row in enumerate(mixed) if row["meta"]["gold"]]
    assert all(11 * number <= place < 11 * (number + 1) for number, place in enumerate(places))  # one in each fifth


def test_a_gold_question_that_is_among_the_records_goes_once(small_scenario):
    data = labelled(small_scenario, {"apple": 20, "pear": 20})
    drawn = gold.draw(data, small_scenario, 6)
    mixed = gold.mix(data, drawn)
    assert len(mixed) == 40 and sum(row["meta"]["gold"] for row in records.rows(mixed)) == 6
    texts = [row["messages"][0]["content"] for row in records.rows(mixed)]
    assert len(set(texts)) == 40


def test_more_gold_than_other_records_is_refused(small_scenario):
    drawn = gold.draw(labelled(small_scenario, {"apple": 9, "pear": 9}), small_scenario, 5)
    with pytest.raises(LabError, match="5 gold questions among 4"):
        gold.mix(unlabelled(small_scenario, 4), drawn)


def test_annotators_are_scored_with_wilsons_interval_and_warned(small_scenario):
    key = {f"r{number:03}": {"kind": "apple", "weight": 100.0} for number in range(20)}
    given = tables.annotations("kind", {"ana": ["apple"] * 19 + ["pear"], "ben": ["apple"] * 15 + ["pear"] * 5,
                                        "cem": ["apple"] * 8 + ["pear"] * 12, "dan": [None] * 20 + ["pear"]})
    found = gold.scores(given, key, small_scenario, threshold=0.8)
    assert [(each.annotator, each.share.value, each.warning) for each in found] == [
        ("cem", 0.4, "below"), ("ben", 0.75, "maybe"), ("ana", 0.95, "")]
    assert found[2].wrong == ("r019",)


@pytest.mark.parametrize(("right", "total", "low", "high"), [
    (0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662),
])
def test_wilsons_interval_is_that_of_the_literature(right, total, low, high):
    # 81 of 263: Newcombe 1998, Two-sided confidence intervals for the single proportion, Table I, method 3. The others by
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96.
    found = intervals.wilson(right, total)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_numbers_are_right_near_the_key_and_texts_are_not_scored(small_scenario):
    key = {"r000": {"weight": 100.0, "note": "n"}, "r001": {"weight": 100.0, "note": "n"}}
    given = tables.annotations("weight", {"ana": [125.0, 126.0]}) + tables.annotations("note", {"ana": ["m", "m"]})
    found = gold.scores(given, key, small_scenario)  # the range is 500: 25 away is near
    assert [(each.field, each.share.value, each.wrong) for each in found] == [("weight", 0.5, ("r001",))]


def test_skills_from_gold_are_never_certain(small_scenario):
    key = {f"r{number:03}": {"kind": "apple"} for number in range(8)}
    found = gold.scores(tables.annotations("kind", {"ana": ["apple"] * 8, "ben": ["pear"] * 8}), key, small_scenario)
    assert gold.skills(found, "kind") == {"ana": pytest.approx(0.9), "ben": pytest.approx(0.1)}


def test_shares_add_up_and_pass_no_groups_size():
    draw = random.Random(2)
    for _ in range(200):
        sizes = {name: draw.randint(1, 30) for name in range(draw.randint(1, 8))}
        count = draw.randint(1, sum(sizes.values()))
        taken = gold._shares(sizes, count)
        assert sum(taken.values()) == count and all(0 <= taken[name] <= sizes[name] for name in sizes)
        assert count < len(sizes) or all(taken.values())

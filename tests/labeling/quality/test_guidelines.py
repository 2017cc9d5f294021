"""Labels that are mixed up stand out of those that are merely frequent, and are told in both languages."""

import random

import pytest
from scipy import stats

from labkit.labeling.annotations import ratings
from labkit.labeling.quality import guidelines
from labkit.scenarios import Field, Label, Scenario
from tests.labeling.quality import tables

TEXT = {"en": "x", "zh": "x"}
COLOURS = [("red", "红"), ("pink", "粉"), ("green", "绿"), ("blue", "蓝")]
COLOUR = Field("colour", "label", {"en": "Colour", "zh": "颜色"}, TEXT, tuple(Label(en, en, zh) for en, zh in COLOURS))
RISK = Field("risk", "number", {"en": "Risk", "zh": "风险"}, TEXT)
NOTE = Field("note", "text", {"en": "Note", "zh": "备注"}, TEXT)
SCENARIO = Scenario("toy", TEXT, TEXT, TEXT, TEXT, {"en": (), "zh": ()}, (COLOUR, RISK, NOTE))


def mixed_up(seed, count=200):
    """Three annotators who confuse red and pink in a third of the cases, and anything else in one of thirty."""
    draw = random.Random(seed)
    truth = [draw.choices(["red", "pink", "green", "blue"], [2, 2, 4, 4])[0] for _ in range(count)]

    def said(value):
        if value in ("red", "pink") and draw.random() < 0.33:
            return "pink" if value == "red" else "red"
        return draw.choice(["red", "pink", "green", "blue"]) if draw.random() < 1 / 30 else value

    return {name: [said(value) for value in truth] for name in ("ana", "ben", "cem")}


def test_disagreement_is_counted_by_record_and_expected_from_frequency():
    given = tables.annotations("colour", {"ana": ["red", "red", "green", "blue"], "ben": ["pink", "red", "green", "green"],
                                          "cem": ["pink", "pink", "green", None]})
    first, second = guidelines.confusions(ratings(given, "colour"))
    # Records: red pink pink: 2 of 3 pairs; red red pink: 2 of 3; blue green: 1 of 1.
    assert (first.first, first.second, first.records) == ("pink", "red", 2) and first.observed == pytest.approx(4 / 3)
    assert (second.first, second.second) == ("blue", "green") and second.observed == pytest.approx(1)
    shares = {"red": 1 / 3 + 2 / 3, "pink": 2 / 3 + 1 / 3, "green": 1 + 0.5, "blue": 0.5}
    mass = sum(shares[a] * shares[b] for a in shares for b in shares if a < b)
    assert first.expected == pytest.approx((4 / 3 + 1) * shares["red"] * shares["pink"] / mass)
    assert first.excess == pytest.approx(first.observed - first.expected) and first.examples == ("r000", "r001")
    assert first.p == pytest.approx(stats.binom.sf(0, 3, shares["red"] * shares["pink"] / mass))


def test_the_pair_that_is_mixed_up_comes_first_though_others_are_more_frequent():
    found = guidelines.confusions(ratings(tables.annotations("colour", mixed_up(1)), "colour"))
    assert {found[0].first, found[0].second} == {"pink", "red"} and found[0].p < 1e-6
    assert all(each.p > 0.01 for each in found[1:])


def test_nothing_is_confused_where_all_agree():
    assert guidelines.confusions(ratings(tables.annotations("colour", {"ana": ["red"], "ben": ["red"]}), "colour")) == []
    assert guidelines.confusions(ratings([], "colour")) == []


def test_advice_names_the_pair_the_field_and_examples_in_both_languages():
    found = guidelines.advice(tables.annotations("colour", mixed_up(2)), SCENARIO)
    confusion, = [each for each in found if each.kind == "confusion"]
    assert "“pink” and “red”" in confusion.text["en"] and "“粉”与“红”" in confusion.text["zh"]
    assert confusion.text["en"].startswith("Colour: ") and confusion.text["zh"].startswith("颜色：") and len(confusion.records) == 5
    agreement, = [each for each in found if each.kind == "agreement"]
    assert "alpha" in agreement.text["en"] and agreement.records


def test_an_annotator_who_favours_a_label_or_high_numbers_is_named():
    draw = random.Random(3)
    truth = [draw.choice(["red", "green", "blue"]) for _ in range(150)]
    people = {name: [value if draw.random() < 0.97 else draw.choice(["red", "green", "blue"]) for value in truth]
              for name in ("ana", "ben")}
    people["cem"] = ["blue" if value == "green" and draw.random() < 0.5 else value for value in truth]
    risk = [draw.uniform(10, 80) for _ in truth]
    numbers = {"ana": [value + draw.gauss(0, 2) for value in risk], "ben": [value + draw.gauss(0, 2) for value in risk],
               "cem": [value + 8 + draw.gauss(0, 2) for value in risk]}
    found = guidelines.advice(tables.annotations("colour", people) + tables.annotations("risk", numbers), SCENARIO)
    assert any(each.kind == "bias" and "cem gives “blue” more often" in each.text["en"] and "cem" in each.text["zh"] for each in found)
    assert not any(each.kind == "bias" and "ana" in each.text["en"] for each in found)
    offset, = [each for each in found if each.kind == "offset"]
    assert offset.text["en"].startswith("Risk: cem gives higher numbers than the others, by ") and "cem 给出的数值" in offset.text["zh"]
    assert float(offset.text["en"].split(", by ")[1].split()[0]) == pytest.approx(8, abs=0.6)


def test_careful_annotators_get_no_advice():
    draw = random.Random(8)
    truth = [draw.choice(["red", "pink", "green", "blue"]) for _ in range(120)]
    people = {name: [value if draw.random() < 0.98 else draw.choice(["red", "pink", "green", "blue"]) for value in truth]
              for name in ("ana", "ben", "cem")}
    assert guidelines.advice(tables.annotations("colour", people), SCENARIO) == []


def test_texts_that_have_nothing_in_common_are_named():
    given = tables.annotations("note", {"ana": ["rest now", "多喝水"], "ben": ["call us", "去医院"]})
    found, = guidelines.advice(given, SCENARIO)
    assert found.kind == "agreement" and "similarity 0.00" in found.text["en"] and found.records == ("r000", "r001")


def test_the_most_disputed_records_come_first():
    given = tables.annotations("colour", {"ana": ["red", "red", "red", "red"], "ben": ["red", "pink", "green", None],
                                          "cem": ["red", "red", "blue"]})
    assert guidelines.disputed(ratings(given, "colour")) == ["r002", "r001"]
    numbers = tables.annotations("risk", {"ana": [1.0, 1.0], "ben": [1.5, 9.0]})
    assert guidelines.disputed(ratings(numbers, "risk"), tolerance=1) == ["r001"]

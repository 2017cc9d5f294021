"""What votes come to: by hand, against Dawid and Skene's paper, and against crowd-kit."""

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene, OneCoinDawidSkene
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import records
from labkit.errors import LabError
from labkit.labeling.annotations import Ratings, ratings
from labkit.labeling.quality import aggregation
from tests.labeling.quality import tables

TABLE = st.lists(st.lists(st.one_of(st.none(), st.sampled_from("xyz")), min_size=4, max_size=4).filter(any), min_size=1, max_size=20)


def table(rows, names="abcd"):
    return Ratings([f"r{number:02}" for number in range(len(rows))], list(names[:len(rows[0])]), rows)


def anaesthetists():
    """Records, annotators and labels (from 0) of Dawid and Skene's Table 1, one entry a label: int64 (315,) each."""
    patients = [each.split() for each in tables.DAWID_SKENE_1979.replace("\n", "").split("|")]
    entries = [(patient, person, int(label) - 1) for patient, cells in enumerate(patients) for person, cell in enumerate(cells)
               for label in cell]
    assert len(patients) == 45 and len(entries) == 315
    return [np.array(column) for column in zip(*entries, strict=True)]


def other_package(model, items, people, labels, classes):
    """crowd-kit's posterior (records, classes). Its own stop compares a bound that its clipping of zeros spoils and comes after 4
    steps on the anaesthetists; with this tolerance it takes all 60."""
    fitted = model(n_iter=60, tol=-1e9).fit(pd.DataFrame({"task": items, "worker": people, "label": labels}))
    return fitted.probas_.reindex(columns=range(classes)).sort_index().to_numpy(), fitted


def test_the_anaesthetists_of_dawid_and_skene_1979():
    items, people, labels = anaesthetists()
    prior, confusion, posterior, _, _ = aggregation.fit(items, people, labels, (45, 5, 4))
    assert prior.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]  # as printed with their Table 2
    expected, fitted = other_package(DawidSkene, items, people, labels, 4)
    assert posterior == pytest.approx(expected, abs=5e-5)
    for person in range(5):
        for label in set(labels[people == person]):
            column = fitted.errors_.loc[(person, label)].reindex(range(4)).to_numpy()
            assert confusion[person, :, label] == pytest.approx(column, abs=5e-5)


def test_one_coin_is_that_of_another_package_on_the_anaesthetists():
    items, people, labels = anaesthetists()
    _, confusion, posterior, _, _ = aggregation.fit(items, people, labels, (45, 5, 4), one_coin=True)
    expected, fitted = other_package(OneCoinDawidSkene, items, people, labels, 4)
    assert posterior == pytest.approx(expected, abs=5e-5)
    assert confusion[:, 0, 0] == pytest.approx(fitted.skills_.sort_index().to_numpy(), abs=5e-5)


def test_the_fit_is_a_maximum_of_the_likelihood():
    items, people, labels = anaesthetists()
    sizes, draw = (45, 5, 4), np.random.default_rng(0)
    prior, confusion, _, _, likelihood = aggregation.fit(items, people, labels, sizes, tolerance=1e-12)

    def log_likelihood(prior, confusion):
        chances = np.tile(prior, (45, 1))
        for item, person, label in zip(items, people, labels, strict=True):
            chances[item] *= confusion[person, :, label]
        return np.log(chances.sum(1)).sum()

    assert log_likelihood(prior, confusion) == pytest.approx(likelihood, abs=1e-6)
    for _ in range(50):
        near = confusion * draw.uniform(0.97, 1.03, confusion.shape)
        assert log_likelihood(prior, near / near.sum(2, keepdims=True)) < likelihood
    steps = [aggregation.fit(items, people, labels, sizes, iterations=number)[-1] for number in range(1, 12)]
    assert all(before <= after + 1e-9 for before, after in zip(steps, steps[1:], strict=False))


def planted(seed, count=300, classes=4, skills=(0.95, 0.9, 0.6, 0.55, 0.5)):
    """Rows of labels by annotators who err always to the next label, and the truth."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, count)
    rows = [[int(value) if draw.random() < skill else int((value + 1) % classes) for skill in skills] for value in truth]
    return table(rows, "vwxyz"), truth


def test_skills_and_confusions_that_were_planted_are_found():
    rated, truth = planted(3)
    found, fitted = aggregation.dawid_skene(rated, classes=range(4))
    assert list(fitted.skills.values()) == pytest.approx([0.95, 0.9, 0.6, 0.55, 0.5], abs=0.1)
    assert fitted.confusion[4, 2, 3] > 0.4 and fitted.confusion[4, 2, 1] < 0.05
    right = np.mean([each.value == value for each, value in zip(found, truth, strict=True)])
    by_majority = np.mean([each.value == value for each, value in zip(aggregation.majority(rated), truth, strict=True)])
    assert right > by_majority + 0.05


def test_smoothing_makes_posteriors_of_few_labels_honest():
    losses = {0.0: [], 5.0: []}
    for seed in range(8):
        rated, truth = planted(seed, count=40, skills=(0.85, 0.75, 0.65))
        for smoothing, found in losses.items():
            _, fitted = aggregation.dawid_skene(rated, classes=range(4), smoothing=smoothing)
            found.append(-np.log(np.maximum(fitted.posterior[np.arange(40), truth], 1e-6)).mean())
    assert np.mean(losses[5.0]) < 0.7 * np.mean(losses[0.0])


def test_gold_answers_stand_and_turn_the_rest():
    # Three who always say the other label than b: taken alone the three are right; with b's answers as gold they are known to be wrong.
    rows = [["y", "x", "y", "y"] if number % 2 else ["x", "y", "x", "x"] for number in range(20)]
    alone, _ = aggregation.dawid_skene(table(rows))
    gold = {f"r{number:02}": rows[number][1] for number in range(12)}
    found, fitted = aggregation.dawid_skene(table(rows), gold=gold)
    assert [each.value for each in alone] == [row[0] for row in rows]
    assert [each.value for each in found] == [row[1] for row in rows]
    assert all(each.confidence == 1 for each in found[:12])
    assert fitted.skills["b"] > 0.9 > 0.4 > fitted.skills["a"]


def test_the_majority_wins_and_says_who_differs():
    first, second = aggregation.majority(table([["x", "x", "y", None], ["y", None, None, None]]))
    assert (first.value, first.votes, first.differ, first.tied) == ("x", 3, ("c",), False)
    assert first.confidence == pytest.approx(2 / 3) and second.confidence == 1


def test_a_tie_goes_to_the_commoner_label_then_to_the_first_in_order():
    rows = [["x", "y", None], ["y", "y", None], ["x", "z", "x"], ["z", "x", "z"], ["z", "z", None]]
    found = aggregation.majority(table(rows))
    assert (found[0].value, found[0].tied) == ("x", True)  # x: 4 times over all records, y: 3 times
    even = aggregation.majority(table([["x", "y"]]))[0], aggregation.majority(table([["x", "y"]]), order=["y", "x"])[0]
    assert [each.value for each in even] == ["x", "y"] and all(each.tied for each in even)


def test_weights_outvote_numbers():
    rows = table([["x", "y", "y"]])
    assert aggregation.majority(rows, weights={"a": 3, "b": 1, "c": 1})[0].value == "x"
    assert aggregation.majority(rows, weights={"a": 0, "b": 0, "c": 0})[0].value == "y"


def test_weights_by_skill_are_the_log_odds_and_nothing_at_guessing():
    found = aggregation.skill_weights({"good": 0.9, "guesses": 0.25, "perverse": 0.1, "perfect": 1.0}, 4)
    assert found["good"] == pytest.approx(np.log(3 * 9)) and found["guesses"] == pytest.approx(0, abs=1e-12)
    assert found["perverse"] < 0 and found["perfect"] == pytest.approx(np.log(3 * 99))


@settings(max_examples=100, deadline=None)
@given(TABLE, st.sampled_from(["majority", "dawid_skene", "one coin"]))
def test_every_record_gets_a_label_that_somebody_gave_or_at_least_knows(rows, method):
    rated = table(rows)
    found = aggregation.majority(rated) if method == "majority" else aggregation.dawid_skene(rated, one_coin=method == "one coin")[0]
    assert [each.record for each in found] == rated.records
    for each, row in zip(found, rows, strict=True):
        assert each.value in "xyz" and 0 < each.confidence <= 1 + 1e-12
        assert each.votes == sum(value is not None for value in row)
        assert set(each.differ) == {name for name, value in zip("abcd", row, strict=False) if value not in (None, each.value)}
        if set(row) - {None} == {each.value} and method == "majority":
            assert each.confidence == 1


@pytest.mark.parametrize(("values", "weights", "expected"), [
    ([1, 2, 9], {}, 2), ([1, 2, 3, 9], {}, 2.5), ([4], {}, 4), ([1, 2, 9], {"c": 5}, 9), ([1, 2, 9], {"c": 2}, 5.5), ([1, 5], {"a": 0}, 5),
])
def test_numbers_come_to_their_weighted_median(values, weights, expected):
    found = aggregation.numbers(table([values]), weights=weights)[0]
    assert found.value == pytest.approx(expected)


def test_confidence_in_a_number_is_the_share_of_votes_close_to_it():
    found = aggregation.numbers(table([[10, 12, 30, None]]), tolerance=3)[0]
    assert (found.value, found.votes, found.differ) == (12, 3, ("c",)) and found.confidence == pytest.approx(2 / 3)
    assert aggregation.numbers(table([[10, 12, 30]]), method="mean")[0].value == pytest.approx(52 / 3)


def test_the_text_most_like_the_others_is_chosen():
    found = aggregation.texts(table([["rest and drink", "rest and drink water", "see a doctor now", None], ["多喝水", None, None, None]]))
    # 6/7 and 0 with the others: mean 3/7 for the first two; between them the first stands.
    assert (found[0].value, found[0].differ) == ("rest and drink", ("c",))
    assert found[0].confidence == pytest.approx(3 / 7) and not found[0].tied
    assert (found[1].value, found[1].confidence) == ("多喝水", 1)


def test_two_texts_that_have_nothing_in_common_are_tied():
    found = aggregation.texts(table([["rest", "run"]]))[0]
    assert found.tied and found.confidence == 0 and found.differ == ("b",)


def test_answers_become_records_with_new_ids_and_say_how_they_came_about(small_records, small_scenario):
    rows = list(records.rows(small_records))
    first, second = rows[0]["id"], rows[1]["id"]
    one = [each for name, kind, weight in (("ana", "apple", 10.04), ("ben", "apple", 11), ("cem", "pear", 300))
           for each in tables.annotations("kind", {name: [kind]}) + tables.annotations("weight", {name: [weight]})]
    one = [each.__class__(**{**vars(each), "record": first}) for each in one]
    out = aggregation.answers(small_records, one, small_scenario, method="majority")
    made = list(records.rows(out))
    assert made[0]["answer"] == {"kind": "apple", "weight": 11.0, "note": rows[0]["answer"]["note"]}
    assert made[0]["id"] == records.content_id(made[0]) != first
    labels = made[0]["meta"]["labels"]
    assert labels["record"] == first and labels["kind"] == {"confidence": 0.6667, "votes": 3, "differ": ["cem"], "method": "majority"}
    assert labels["weight"]["method"] == "median" and labels["weight"]["differ"] == ["cem"] and "note" not in labels
    assert made[1] == rows[1] and made[1]["id"] == second
    held = aggregation.answers(small_records, one, small_scenario, method="majority", least={"kind": 0.7})
    assert "kind" not in next(records.rows(held))["answer"]
    judged = aggregation.answers(small_records, one, small_scenario, gold={first: {"kind": "pear", "weight": 99}})
    assert next(records.rows(judged))["answer"] == {"kind": "pear", "weight": 99.0, "note": rows[0]["answer"]["note"]}
    labels = next(records.rows(judged))["meta"]["labels"]
    # 99 is more than 25, a twentieth of the range, away from all three weights.
    assert labels["kind"] == {"confidence": 1.0, "votes": 3, "differ": ["ana", "ben"], "method": "gold"}
    assert labels["weight"]["differ"] == ["ana", "ben", "cem"]
    unseen = list(records.rows(aggregation.answers(small_records, one, small_scenario, gold={second: {"kind": "apple"}})))[1]
    assert unseen["answer"]["kind"] == "apple" and unseen["meta"]["labels"]["kind"]["votes"] == 0


@pytest.mark.parametrize("method", aggregation.METHODS)
def test_fields_are_aggregated_by_their_kind(method, small_scenario):
    given = tables.annotations("kind", {"a": ["apple", "pear"], "b": ["apple", "pear"], "c": ["pear", "pear"]})
    found = aggregation.of_field(given, small_scenario.field("kind"), method=method)
    assert [each.value for each in found] == ["apple", "pear"]
    assert aggregation.of_field([], small_scenario.field("kind"), method=method) == []


def test_what_does_not_fit_is_refused(small_records, small_scenario):
    strange = tables.annotations("kind", {"a": ["apple"]})
    with pytest.raises(LabError, match="r000"):
        aggregation.answers(small_records, strange, small_scenario)
    with pytest.raises(LabError, match="majority, dawid_skene, skill"):
        aggregation.of_field(strange, small_scenario.field("kind"), method="best")
    with pytest.raises(LabError, match="plum is none of the labels apple, pear"):
        aggregation.of_field(tables.annotations("kind", {"a": ["plum"]}), small_scenario.field("kind"), method="majority")
    with pytest.raises(LabError, match="plum is none of the labels"):
        aggregation.dawid_skene(ratings(tables.annotations("kind", {"a": ["plum"]}), "kind"), classes=["apple", "pear"])
    with pytest.raises(LabError, match="median or mean"):
        aggregation.numbers(table([[1, 2]]), method="mode")


def test_ten_thousand_records_of_seventy_seven_labels_take_seconds():
    import time

    draw = np.random.default_rng(0)
    truth = draw.integers(0, 77, 10_000)
    rows = [[int(value) if draw.random() < 0.8 else int(draw.integers(0, 77)) for _ in range(3)] for value in truth]
    start = time.process_time()
    found, _ = aggregation.dawid_skene(table(rows), classes=range(77))
    assert time.process_time() - start < 20
    assert np.mean([each.value == value for each, value in zip(found, truth, strict=True)]) > 0.9

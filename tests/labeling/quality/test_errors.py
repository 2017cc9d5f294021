"""Wrong labels come first, in English and Chinese, and what cannot be judged is left out."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import order_label_issues

from labkit import records, scenarios
from labkit.errors import LabError
from labkit.labeling.quality import errors

TOPICS = {
    "en": {"card": ["card", "chip", "pin", "bank", "blocked"], "parcel": ["parcel", "courier", "delivery", "late", "street"],
           "food": ["soup", "bread", "cold", "plate", "waiter"]},
    "zh": {"card": ["银行卡", "密码", "冻结", "芯片", "挂失"], "parcel": ["快递", "包裹", "送货", "签收", "物流"],
           "food": ["米饭", "汤", "服务员", "菜单", "味道"]},
}
BANKING77 = Path(__file__).parents[3].parent / "shared" / "data" / "banking77_train.csv"


def sentences(language, count, seed):
    """Texts of six words of their topic and of common ones, the topics, and the rows whose label was then flipped."""
    draw = random.Random(seed)
    topics = TOPICS[language]
    labels = [draw.choice(list(topics)) for _ in range(count)]
    common = ["my", "is", "the", "please", "now"] if language == "en" else ["我的", "请问", "现在", "怎么", "了"]
    texts = [("" if language == "zh" else " ").join(draw.choices(topics[label], k=3) + draw.choices(common, k=3)) for label in labels]
    flipped = sorted(draw.sample(range(count), count // 20))
    for row in flipped:
        labels[row] = draw.choice([label for label in topics if label != labels[row]])
    return texts, labels, flipped


@pytest.mark.parametrize("language", ["en", "zh"])
def test_flipped_labels_are_found_from_texts_alone(language):
    texts, labels, flipped = sentences(language, 300, 1)
    found = errors.ranked(labels, errors.out_of_sample(texts, labels))
    first = {each.row for each in found[:24]}  # 8%
    assert len(first & set(flipped)) >= 0.8 * len(flipped)
    assert sorted(each.row for each in found) == list(range(300))
    worst = found[0]
    assert worst.given == labels[worst.row] != worst.suggested and worst.likely and worst.score > 0.5 > found[-1].score


def test_chinese_texts_are_judged_without_the_english_encoder(monkeypatch):
    from labkit.data import duplicates

    monkeypatch.setattr(duplicates, "embed", lambda *given, **settings: pytest.fail("the encoder knows no Chinese"))
    texts, labels, _ = sentences("zh", 60, 2)
    assert errors.out_of_sample(texts, labels).shape == (60, 3)


def test_no_text_is_judged_by_a_model_that_saw_its_label():
    # All texts are the same: whoever saw the label of one could do better than the shares of the others.
    labels = ["x", "y"] * 20
    made = errors.out_of_sample(["same"] * 40, labels, vectors=np.ones((40, 1), np.float32), seed=3)
    own = made[np.arange(40), [0, 1] * 20]
    assert own.max() <= 0.5 + 1e-6


def test_the_order_follows_the_odds_and_the_list_of_likely_errors_is_cleanlabs():
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet([0.4] * 4, size=200)
    labels = [int(draw.choice(4, p=0.7 * row + 0.075)) for row in probabilities]
    found = errors.ranked(labels, probabilities)
    own = probabilities[np.arange(200), labels]
    others = np.where(np.eye(4, dtype=bool)[labels], 0, probabilities).max(1)
    assert [each.score for each in found] == pytest.approx(np.sort(others / (own + others))[::-1])
    assert all(each.score == pytest.approx(others[each.row] / (own[each.row] + others[each.row])) for each in found)
    mask = find_label_issues(np.array(labels), probabilities, filter_by="prune_by_noise_rate", n_jobs=1)
    assert {each.row for each in found if each.likely} == set(np.flatnonzero(mask).tolist())


@pytest.mark.parametrize("method", ["self_confidence", "normalized_margin"])
def test_cleanlabs_own_orders_can_be_had(method):
    draw = np.random.default_rng(1)
    probabilities = draw.dirichlet([1] * 3, size=50)
    labels = draw.integers(0, 3, 50)
    expected = order_label_issues(np.ones(50, bool), labels, probabilities, rank_by=method)
    assert [each.row for each in errors.ranked(labels.tolist(), probabilities, method=method)] == expected.tolist()


def test_a_label_that_no_other_text_has_cannot_be_judged_and_is_left_out():
    texts, labels, _ = sentences("zh", 40, 3)
    made = errors.out_of_sample([*texts, "独一无二"], [*labels, "zebra"])
    assert np.isnan(made[-1]).all() and not np.isnan(made[:-1]).any()
    assert 40 not in {each.row for each in errors.ranked([*labels, "zebra"], made)}


def test_labels_that_few_texts_have_are_judged_all_the_same():
    made = errors.out_of_sample(["甲 一", "甲 二", "乙 一", "乙 二", ""], ["a", "a", "b", "b", "a"], folds=5)
    assert made.shape == (5, 2) and made.sum(1) == pytest.approx(np.ones(5))


def test_the_same_seed_gives_the_same_probabilities():
    texts, labels, _ = sentences("zh", 50, 4)
    first, again = (errors.out_of_sample(texts, labels, seed=6) for _ in range(2))
    assert (first == again).all()


def test_a_field_of_records_is_looked_through_and_named_by_ids(small_scenario):
    texts, labels, flipped = sentences("zh", 120, 5)
    kinds = {"card": "apple", "parcel": "pear", "food": "apple"}
    rows = [records.make("small", "zh", [{"role": "user", "content": text + str(number)}], {"kind": kinds[label]}, source="t",
                         license="CC0-1.0")
            for number, (text, label) in enumerate(zip(texts, labels, strict=True))]
    bare = records.make("small", "zh", [{"role": "user", "content": "无标签"}], {}, source="t", license="CC0-1.0")
    data = records.from_list([bare, *rows])
    found = errors.of_records(data, small_scenario.field("kind"))
    assert len(found) == 120 and bare["id"] not in {each.record for each in found}
    assert all(each.record == rows[each.row]["id"] for each in found)
    with pytest.raises(LabError, match="note is a text"):
        errors.of_records(data, small_scenario.field("note"))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: errors.out_of_sample(["a", "b"], ["x", "x"]), "at least two"),
    (lambda: errors.out_of_sample(["a", "b"], ["x"]), "2 texts, 1 labels"),
    (lambda: errors.out_of_sample(["a", "b"], ["x", "y"], folds=1), "not 1"),
    (lambda: errors.ranked(["x", "y"], np.ones((2, 3))), "do not fit"),
    (lambda: errors.ranked(["x", "y"], np.full((2, 2), 0.5), method="guess"), "odds, self_confidence"),
    (lambda: errors.ranked(["x", "y"], np.full((2, 2), 0.5), classes=["x", "z"]), "do not fit"),
])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(LabError, match=message):
        call()


@pytest.mark.slow
def test_most_flipped_labels_of_banking77_are_among_the_first_ranked():
    if not BANKING77.is_file():
        pytest.skip(f"{BANKING77} is not there: this test did not run")
    with BANKING77.open(encoding="utf-8", newline="") as file:
        rows = random.Random(0).sample(list(csv.DictReader(file)), 1000)
    labels, classes = [row["category"] for row in rows], sorted({row["category"] for row in rows})
    draw = random.Random(1)
    flipped = draw.sample(range(1000), 50)
    for row in flipped:
        labels[row] = draw.choice([label for label in classes if label != labels[row]])
    found = errors.ranked(labels, errors.out_of_sample([row["text"] for row in rows], labels))
    assert len({each.row for each in found[:80]} & set(flipped)) >= 40


def test_the_samples_of_a_scenario_can_be_looked_through():
    scenario = scenarios.load("finance")
    data = records.samples(scenario).select(range(60))
    found = errors.of_records(data, scenario.field("decision"))
    assert {each.record for each in found} <= set(data["id"]) and all(0 <= each.score <= 1 for each in found)

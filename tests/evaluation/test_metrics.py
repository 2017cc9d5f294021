"""Scores against arithmetic done by hand, scikit-learn and rouge-score."""

import math
import random

import pytest
from rouge_score import rouge_scorer
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from labkit import records
from labkit.errors import LabError
from labkit.evaluation import metrics
from labkit.scenarios import Field, Label, Scenario

TEXT = {"en": "x", "zh": "x"}
COLOURS = ("red", "green", "blue")
COLOUR = Field("colour", "label", {"en": "Colour", "zh": "颜色"}, TEXT, tuple(Label(c, c, f"{c}色") for c in COLOURS))
SCORE = Field("score", "number", {"en": "Score", "zh": "分数"}, TEXT, minimum=0, maximum=100)
REPLY = Field("reply", "text", {"en": "Reply", "zh": "回复"}, TEXT)
SCENARIO = Scenario("toy", TEXT, TEXT, TEXT, TEXT, {"en": (), "zh": ()}, (COLOUR, SCORE, REPLY))


def record(text, answer, language="en", core=None):
    return records.make("toy", language, [{"role": "user", "content": text}], answer, source="test", license="CC0-1.0",
                        split="test", meta={"core": core} if core else {})


def row(identity, answer):
    return {"id": identity, "text": "", "answer": answer, "complete": len(answer) == 3}


def guesses(seed, count):
    draw = random.Random(seed)
    return [draw.choice(COLOURS[:2]) for _ in range(count)], [draw.choice((*COLOURS, None)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_macro_f1_equal_scikit_learn_with_missing_answers_as_wrong(seed):
    truth, predicted = guesses(seed, 40)  # blue is predicted but never true
    known = [value or "none" for value in predicted]
    assert metrics.accuracy(truth, predicted) == pytest.approx(accuracy_score(truth, known))
    expected = f1_score(truth, known, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert metrics.macro_f1(truth, predicted) == pytest.approx(expected)


def test_macro_f1_by_hand():
    # red: 1 right, 1 missed, 0 wrong -> 2/3; green: 1 right, 0 missed, 1 wrong -> 2/3
    assert metrics.macro_f1(["red", "red", "green"], ["red", "green", "green"]) == pytest.approx(2 / 3)


def test_a_missing_number_counts_as_the_middle_of_the_range():
    assert metrics.mean_absolute_error([10, 90, 30], [20, None, 30], SCORE) == pytest.approx((10 + 40 + 0) / 3)
    assert metrics.mean_absolute_error([10, 90], [12.5, 80], SCORE) == pytest.approx(mean_absolute_error([10, 90], [12.5, 80]))


def test_english_rouge_l_is_that_of_rouge_score_with_its_own_tokenizer():
    pairs = [("Your parcel left on 3 May.", "The parcel left May 3!"), ("don't wait", "Do not wait"), ("a b c", "c b a")]
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    expected = [scorer.score(a, b)["rougeL"].fmeasure for a, b in pairs]
    assert metrics.rouge_l([a for a, _ in pairs], [b for _, b in pairs]) == pytest.approx(sum(expected) / 3)


def test_chinese_rouge_l_takes_characters_as_tokens():
    # longest common subsequence 您的在途 of 6 and 5 characters: precision 4/5, recall 4/6, F1 = 8/11
    assert metrics.rouge_l(["您的包裹在途"], ["您的货在途。"]) == pytest.approx(8 / 11)
    assert metrics.CharacterTokenizer().tokenize("订单A12已发货\uff0cOK") == ["订", "单", "a12", "已", "发", "货", "ok"]


def test_a_missing_text_scores_nothing():
    assert metrics.rouge_l(["here it is", "same"], [None, "same"]) == pytest.approx(0.5)


def made():
    """4 English and 2 Chinese records with predictions, and the values that follow from them by hand."""
    data = [record("a", {"colour": "red", "score": 10, "reply": "go now"}),
            record("b", {"colour": "red", "score": 20, "reply": "wait"}),
            record("c", {"colour": "green", "score": 30, "reply": "stop"}),
            record("d", {"colour": "green"}),
            record("e", {"colour": "red", "score": 40, "reply": "好"}, "zh"),
            record("f", {"colour": "blue", "score": 50, "reply": "不"}, "zh")]
    said = [{"colour": "red", "score": 20, "reply": "go now"}, {"colour": "green", "reply": "wait"},
            {"colour": "green", "score": 30, "reply": "go"}, {},
            {"colour": "red", "score": 45, "reply": "好"}, {"colour": "red", "score": 50, "reply": "不"}]
    return records.from_list(data), [row(entry["id"], answer) for entry, answer in zip(data, said, strict=True)]


def test_score_has_every_field_overall_and_by_language_with_counts():
    data, predicted = made()
    found = metrics.score(data, list(reversed(predicted)), SCENARIO)  # the order of predictions does not matter
    assert set(found) == {"overall", "en", "zh"}
    english, overall = found["en"]["fields"], found["overall"]
    assert english["colour"]["accuracy"]["value"] == pytest.approx(2 / 4)
    assert english["colour"]["missing"] == pytest.approx(1 / 4)
    assert (english["colour"]["n"], english["score"]["n"]) == (4, 3)
    assert english["score"]["mean_absolute_error"]["value"] == pytest.approx((10 + 30 + 0) / 3)
    assert english["score"]["missing"] == pytest.approx(1 / 3)
    assert english["reply"]["rouge_l"]["value"] == pytest.approx(2 / 3)
    assert found["zh"]["fields"]["colour"]["macro_f1"]["value"] == pytest.approx((2 / 3 + 0) / 2)
    assert overall["parsed"]["value"] == pytest.approx(4 / 6)
    assert overall["records"] == 6


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    count, right = 200, 140
    data = records.from_list([record(str(n), {"colour": "red"}) for n in range(count)])
    predicted = [row(identity, {"colour": "red" if n < right else "green"}) for n, identity in enumerate(data["id"])]
    found = metrics.score(data, predicted, SCENARIO, resamples=4000)["overall"]["fields"]["colour"]["accuracy"]
    spread = 1.96 * math.sqrt(0.7 * 0.3 / count)
    assert found["low"] == pytest.approx(0.7 - spread, abs=0.012)
    assert found["high"] == pytest.approx(0.7 + spread, abs=0.012)


def test_records_of_one_situation_are_drawn_together():
    # 20 situations with 5 tellings each, right or wrong as a whole: as uncertain as 20 records, not as 100
    data = records.from_list([record(f"{core} {n}", {"colour": "red"}, core=f"c{core}") for core in range(20) for n in range(5)])
    predicted = [row(identity, {"colour": "red" if n < 50 else "green"}) for n, identity in enumerate(data["id"])]
    found = metrics.score(data, predicted, SCENARIO)["overall"]
    interval = found["fields"]["colour"]["accuracy"]
    assert found["situations"] == 20
    assert interval["high"] - interval["low"] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 20), abs=0.06)


def test_comparing_predictions_with_themselves_finds_no_difference():
    data, predicted = made()
    found = metrics.compare(data, predicted, predicted, SCENARIO)["overall"]
    assert found["fields"]["colour"]["accuracy"] == {"value": 0, "low": 0, "high": 0, "p": 1}
    assert found["parsed"]["p"] == 1


def test_a_large_difference_is_significant_and_a_lower_error_is_negative():
    data = records.from_list([record(str(n), {"colour": "red", "score": 50, "reply": "yes"}) for n in range(60)])
    before = [row(identity, {"colour": "green", "score": 20, "reply": "no"}) for identity in data["id"]]
    after = [row(identity, {"colour": "red" if n % 4 else "blue", "score": 45, "reply": "yes"}) for n, identity in enumerate(data["id"])]
    found = metrics.compare(data, before, after, SCENARIO)["overall"]["fields"]
    assert found["colour"]["accuracy"]["value"] == pytest.approx(0.75)
    assert found["colour"]["accuracy"]["low"] > 0.5
    assert found["colour"]["accuracy"]["p"] == pytest.approx(2 / 2001)
    assert found["score"]["mean_absolute_error"]["value"] == pytest.approx(-25)


def test_the_same_seed_gives_the_same_intervals():
    data, predicted = made()
    assert metrics.score(data, predicted, SCENARIO, seed=3) == metrics.score(data, predicted, SCENARIO, seed=3)


def test_predictions_of_other_records_are_refused():
    data, predicted = made()
    with pytest.raises(LabError, match="5 predictions do not match 6 records"):
        metrics.score(data, predicted[:5], SCENARIO)

"""TF-IDF with logistic regression in the form of predictions."""

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from labkit import records
from labkit.errors import LabError
from labkit.evaluation import baseline, metrics
from labkit.scenarios import Field, Label, Scenario

TEXT = {"en": "x", "zh": "x"}
KIND = Field("kind", "label", {"en": "Kind", "zh": "种类"}, TEXT, (Label("fruit", "fruit", "水果"), Label("animal", "animal", "动物")))
REPLY = Field("reply", "text", {"en": "Reply", "zh": "回复"}, TEXT)
SCENARIO = Scenario("toy", TEXT, TEXT, TEXT, TEXT, {"en": (), "zh": ()}, (KIND, REPLY))
TRAIN = {"en": [("a ripe apple", "fruit"), ("sweet pears today", "fruit"), ("the dog barks", "animal"), ("a small cat", "animal")],
         "zh": [("红苹果", "fruit"), ("甜梨子", "fruit"), ("大黑狗", "animal"), ("小花猫", "animal")]}
TEST = {"en": [("one apple please", "fruit"), ("the cat sleeps", "animal")], "zh": [("青苹果汁", "fruit"), ("黑狗", "animal")]}


def data(pairs, split):
    return records.from_list([records.make("toy", language, [{"role": "user", "content": text}], {"kind": kind, "reply": "ok"},
                                           source="test", license="CC0-1.0", split=split)
                              for language, entries in pairs.items() for text, kind in entries])


def test_labels_are_learned_in_each_language_and_can_be_scored():
    test = data(TEST, "test")
    rows = baseline.tfidf(data(TRAIN, "train"), test, SCENARIO)
    assert metrics.score(test, rows, SCENARIO)["overall"]["fields"]["kind"]["accuracy"]["value"] == 1
    assert [entry["id"] for entry in rows] == test["id"]
    assert not any(entry["complete"] for entry in rows)  # it says nothing about texts


def test_it_predicts_what_scikit_learn_predicts_with_the_documented_settings():
    test = {"en": [("the sweet dog", "animal"), ("apple cat apple", "fruit"), ("barks today", "animal")]}
    rows = baseline.tfidf(data(TRAIN, "train"), data(test, "test"), SCENARIO)
    pieces = TfidfVectorizer(ngram_range=(1, 2))
    model = LogisticRegression(C=10, max_iter=2000).fit(pieces.fit_transform([t for t, _ in TRAIN["en"]]), [k for _, k in TRAIN["en"]])
    expected = list(model.predict(pieces.transform([text for text, _ in test["en"]])))
    assert [entry["answer"]["kind"] for entry in rows] == expected


def test_a_language_without_training_records_gets_no_label_and_one_with_a_single_label_that_one():
    rows = baseline.tfidf(data({"en": TRAIN["en"][:2]}, "train"), data(TEST, "test"), SCENARIO)
    assert [entry["answer"] for entry in rows] == [{"kind": "fruit"}, {"kind": "fruit"}, {}, {}]


def test_no_training_records_is_an_error():
    empty = data(TRAIN, "train").select([])
    with pytest.raises(LabError, match="no training records"):
        baseline.tfidf(empty, data(TEST, "test"), SCENARIO)

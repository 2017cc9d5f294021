"""Texts near and far: what is an example, what is searched, and what the embeddings are worth."""

import dataclasses

import numpy as np
import pytest
from datasets import Dataset, Features, Value

from labkit import models
from labkit.errors import LabError
from labkit.training.tasks import embeddings, texts
from tests.training.tasks import tiny


@pytest.fixture(scope="module")
def tokenizer():
    return texts.tokenizer_of(models.resolve("minilm-l6"))


def outputs_of(*vectors):
    return {"": [np.array(vector, dtype=np.float32) for vector in vectors]}


def rows_of(**columns):
    kinds = {name: Value({float: "float64", int: "int64", str: "string"}[type(values[0])]) for name, values in columns.items()}
    return Dataset.from_dict(columns, Features(kinds))


def test_columns_say_what_is_learned():
    assert embeddings.kind_of(tiny.data("embed").train) == "pairs"
    assert embeddings.kind_of(tiny.data("similarity").train) == "similarity"
    assert embeddings.kind_of(tiny.data("classify").train) == "labels"
    for rows in (tiny.data("pairs").train, tiny.data("multi_label").train, tiny.data("tag").train):
        with pytest.raises(LabError, match="embeddings cannot learn from the columns"):
            embeddings.kind_of(rows)


def test_an_anchor_brings_its_positive_and_its_negative(tokenizer):
    part = embeddings.learned(rows_of(anchor=["a b", "c"], positive=["d", "e f"], negative=["g", "h"]), "train", tokenizer, 64)
    said = [[tokenizer.decode(tokens, skip_special_tokens=True) for tokens in (example.tokens, *example.others)]
            for example in part.examples]
    assert said == [["a b", "d", "g"], ["c", "e f", "h"]]


def test_a_similarity_becomes_a_share_of_its_range(tokenizer):
    part = embeddings.learned(rows_of(text=["a", "b", "c"], text_pair=["d", "e", "f"], label=[1.0, 5.0, 2.0]), "train", tokenizer, 64)
    assert [example.targets["embedding"] for example in part.examples] == [0.0, 1.0, 0.25]
    assert all(len(example.others) == 1 for example in part.examples)


def test_a_positive_is_searched_among_all_texts_that_are_there_once_each(tokenizer):
    """Anchor 0 is nearest to its own positive, anchor 1 to a negative first: recall 1/2, reciprocal ranks 1 and 1/2."""
    part = embeddings.measured(rows_of(anchor=["a", "b"], positive=["p", "q"], negative=["n", "p"]), "validation", tokenizer, 64)
    assert len(part.examples) == 2 + 3  # p comes twice and is embedded once
    outputs = outputs_of([1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0])  # a, b, p, q, n
    assert part.score(outputs) == pytest.approx({"recall_at_1": 0.5, "recall_at_5": 1.0, "recall_at_10": 1.0, "mean_reciprocal_rank": 0.75})
    assert part.judge(outputs).predicted == [1, 2] and part.judge(outputs).measure == "ranks"


def test_of_each_label_every_second_text_is_searched_by_the_others(tokenizer):
    """Labels 0, 0, 1, 1, 2: texts 1 and 3 search, 0, 2 and 4 are found; label 2 is only there to be mistaken for another."""
    part = embeddings.measured(rows_of(text=["a", "b", "c", "d", "e"], label=[0, 0, 1, 1, 2]), "validation", tokenizer, 64)
    said = [tokenizer.decode(example.tokens, skip_special_tokens=True) for example in part.examples]
    assert said == ["b", "d", "a", "c", "e"] and part.ids == ["validation-2", "validation-4"]
    assert part.score(outputs_of([1, 0], [0, 1], [1, 0], [1, 1], [0, 1]))["recall_at_1"] == 0.5


def test_the_cosine_is_measured_by_its_rank_correlation_with_the_similarity(tokenizer):
    part = embeddings.measured(rows_of(text=["a", "b", "c"], text_pair=["d", "e", "f"], label=[0.0, 5.0, 2.0]), "validation", tokenizer, 64)
    found = part.score(outputs_of([1, 0], [1, 0], [1, 0], [0, 1], [2, 0], [1, 1]))  # cosines 0, 1 and 0.71: the same order
    assert found["spearman"] == pytest.approx(1.0)
    swapped = part.score(outputs_of([1, 0], [1, 0], [1, 0], [2, 0], [0, 1], [1, 1]))  # 1, 0, 0.71: the reverse
    assert swapped["spearman"] == pytest.approx(-1.0)


def test_each_kind_takes_the_objectives_that_can_learn_from_it():
    embeddings.check("pairs", "info_nce", negatives=False)
    embeddings.check("pairs", "triplet", negatives=True)
    for kind, objective in (("pairs", "triplet"), ("pairs", "supervised_contrastive"), ("labels", "info_nce"), ("similarity", "info_nce")):
        with pytest.raises(LabError, match="does not fit this data"):
            embeddings.check(kind, objective, negatives=False)


def test_texts_that_are_too_long_are_counted_once_a_row(tokenizer):
    long = "word " * 30
    part = embeddings.learned(rows_of(anchor=[long, "a"], positive=[long, "b"]), "train", tokenizer, 16)
    assert part.cut == ["train-1"] and "1 of 2 texts are longer than 16 tokens" in part.warnings[0]
    assert max(len(tokens) for example in part.examples for tokens in (example.tokens, *example.others)) == 16


def test_data_of_labels_is_given_for_any_number_type():
    rows = tiny.data("classify")
    assert embeddings.kind_of(dataclasses.replace(rows).train.cast_column("label", Value("int32"))) == "labels"

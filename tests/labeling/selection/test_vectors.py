"""Embeddings for choosing: Chinese texts of one topic are nearer to each other than to those of another."""

import numpy as np
import pytest

from labkit import records
from labkit.labeling.selection import vectors

CARD = ["我的银行卡丢了怎么办", "银行卡丢失了，怎么挂失", "银行卡被偷了，要挂失"]
PARCEL = ["包裹什么时候到货", "我的包裹还没有送到", "快递包裹显示已签收"]


def test_chinese_texts_of_a_topic_are_alike():
    made = vectors.hashed_ngrams(CARD + PARCEL)
    similar = made @ made.T
    within = [similar[0, 1], similar[0, 2], similar[1, 2], similar[3, 4], similar[3, 5], similar[4, 5]]
    assert np.mean(within) > 3 * similar[:3, 3:].mean()


def test_rows_have_length_one_and_an_empty_text_has_none():
    made = vectors.hashed_ngrams([*CARD, ""])
    assert made.dtype == np.float32 and np.linalg.norm(made, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-6)
    assert vectors.hashed_ngrams([]).shape == (0, vectors.DIMENSIONS)


def test_cosines_are_those_of_the_counts_up_to_the_projection():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [f"{first}{second}" for first in CARD for second in PARCEL]
    exact = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True).fit_transform(texts)
    made = vectors.hashed_ngrams(texts)
    assert np.abs(made @ made.T - (exact @ exact.T).toarray()).max() < 0.2  # four times 1 / sqrt(384)


def test_records_of_two_languages_are_never_similar(small_records):
    made = vectors.of_records(small_records)
    chinese = np.array(small_records["language"][:]) == "zh"
    assert made.shape == (12, 768) and np.linalg.norm(made, axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    assert not (made[chinese] @ made[~chinese].T).any()


def test_records_of_one_language_have_its_dimensions_only(small_records):
    for language in ("en", "zh"):
        rows = [row for row in records.rows(small_records) if row["language"] == language]
        assert vectors.of_records(records.from_list(rows)).shape == (6, vectors.DIMENSIONS)

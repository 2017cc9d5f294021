"""Labels from the nearest examples, token by token: against a plain loop, and with real token states."""

import numpy as np
import pytest

from labkit.errors import LabError
from labkit.training import nearest, predictor, trainer
from tests.training.tasks import tiny


def texts(seed, count):
    draw = np.random.default_rng(seed)
    return [draw.standard_normal((length, 8)).astype(np.float32) for length in draw.integers(1, 7, count)]


def by_hand(text, example):
    cosine = lambda one, other: float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))  # noqa: E731
    return np.mean([max(cosine(token, other) for other in example) for token in text])


@pytest.mark.parametrize("most", [1, 1024])
def test_similarities_are_those_of_a_plain_loop_whatever_is_compared_at_once(monkeypatch, most):
    monkeypatch.setattr(nearest, "_MOST", most)
    known, asked = texts(0, 9), texts(1, 5)
    found = nearest.similarities(nearest.of(known, list("abcabcabc")), asked)
    assert found == pytest.approx(np.array([[by_hand(text, example) for example in known] for text in asked]), abs=1e-6)


@pytest.mark.parametrize("most", [1, 1024])
def test_rare_tokens_count_more(monkeypatch, most):
    monkeypatch.setattr(nearest, "_MOST", most)
    known, asked = texts(0, 6), texts(1, 5)
    draw = np.random.default_rng(2)
    of_known, of_asked = ([draw.integers(0, 9, len(each)).tolist() for each in part] for part in (known, asked))
    examples = nearest.of(known, list("ababab"), of_known)
    found = nearest.similarities(examples, asked, of_asked)
    having = [sum(number in own for own in of_known) for number in range(9)]
    for text, numbers, row in zip(asked, of_asked, found, strict=True):
        weights = np.array([np.log(7 / (having[number] + 1)) + 0.1 for number in numbers])
        each = [[by_hand(text[place : place + 1], example) for example in known] for place in range(len(text))]
        assert row == pytest.approx(weights @ np.array(each) / weights.sum(), abs=1e-6)
    assert np.exp(nearest.log_probabilities(examples, asked, of_asked)).sum(1) == pytest.approx(1)
    for one, other in ((examples, None), (nearest.of(known, list("ababab")), of_asked)):
        with pytest.raises(LabError, match="for the examples and the texts, or for neither"):
            nearest.similarities(one, asked, other)


def test_a_labels_probability_is_the_share_of_its_examples():
    known, asked = texts(0, 4), texts(1, 3)
    examples = nearest.of(known, ["b", "a", "b", "b"])
    weights = np.exp(nearest.similarities(examples, asked).astype(float) / 0.1)
    found = np.exp(nearest.log_probabilities(examples, asked, temperature=0.1))
    assert examples.names == ("a", "b") and found.sum(1) == pytest.approx(1)
    assert found[:, 0] == pytest.approx(weights[:, 1] / weights.sum(1))
    assert nearest.log_probabilities(examples, []).shape == (0, 2)


def test_what_has_no_label_or_is_nothing_is_refused():
    with pytest.raises(LabError, match="2 examples with 1 labels"):
        nearest.of(texts(0, 2), ["a"])
    with pytest.raises(LabError, match="at least one example"):
        nearest.of([], [])


def test_token_states_are_those_that_the_embedding_is_the_mean_of(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path))
    base = tiny.save_tiny_bert(tmp_path / "bert")
    ready = predictor.load(trainer.train_task(tiny.recipe(base, "classify", epochs=1), tiny.data("classify")))
    said = ["red stone", "apple", "a long red stone and an apple"]
    states, numbers = ready.tokens(said)
    assert [len(each) for each in states] == [len(ready.tokenizer(text)["input_ids"]) for text in said]
    assert [list(each) for each in numbers] == [ready.tokenizer(text)["input_ids"] for text in said]
    assert np.stack([each.mean(0) for each in states]) == pytest.approx(ready.embed(said), abs=1e-5)
    assert ready.tokens([]) == ([], [])

"""The rule that draws tokens: checked against arithmetic and against transformers' own logits processors."""

import math
from collections import Counter

import numpy as np
import pytest

from labkit.errors import LabError
from labkit.serving import Sampling
from labkit.serving.sampling import Picker, candidates, penalised

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], dtype=np.float32))


def test_temperature_zero_takes_the_likeliest():
    assert Picker(Sampling(temperature=0)).pick(LOGITS, []) == 1


def test_top_k_keeps_the_k_likeliest_in_their_order():
    ids, probabilities = candidates(LOGITS, Sampling(temperature=1, top_k=2, top_p=1))
    assert ids.tolist() == [1, 3] and probabilities == pytest.approx([4 / 7, 3 / 7])


def test_top_p_keeps_the_fewest_that_hold_so_much():
    ids, probabilities = candidates(LOGITS, Sampling(temperature=1, top_k=0, top_p=0.69))
    assert ids.tolist() == [1, 3] and probabilities == pytest.approx([4 / 7, 3 / 7])
    assert candidates(LOGITS, Sampling(temperature=1, top_k=0, top_p=0.71))[0].tolist() == [1, 3, 2]
    assert candidates(LOGITS, Sampling(temperature=1, top_k=0, top_p=0.01))[0].tolist() == [1]


def test_top_k_nought_and_top_p_one_keep_everything():
    ids, probabilities = candidates(LOGITS, Sampling(temperature=1, top_k=0, top_p=1))
    assert ids.tolist() == [1, 3, 2, 0] and probabilities == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_temperature_sharpens_as_the_softmax_says():
    _, probabilities = candidates(LOGITS, Sampling(temperature=0.5, top_k=0, top_p=1))
    squares = [0.16, 0.09, 0.04, 0.01]
    assert probabilities == pytest.approx([value / sum(squares) for value in squares])


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.7, top_k=20, top_p=0.8),
                                      Sampling(temperature=1.4, top_k=0, top_p=0.95)])
def test_the_candidates_are_those_of_transformers(sampling):
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = np.random.default_rng(5).standard_normal(300).astype(np.float32) * 2
    scores = TemperatureLogitsWarper(sampling.temperature)(None, torch.tensor(logits)[None])
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    wanted = TopPLogitsWarper(sampling.top_p)(None, scores).softmax(-1)[0].numpy()
    found = np.zeros(300)
    ids, probabilities = candidates(logits, sampling)
    found[ids] = probabilities
    assert found == pytest.approx(wanted, abs=1e-6)


def test_tokens_come_as_often_as_their_probability():
    picker = Picker(Sampling(temperature=1, top_k=0, top_p=1, seed=3))
    counts = Counter(picker.pick(LOGITS, []) for _ in range(4000))
    for token, probability in enumerate([0.1, 0.4, 0.2, 0.3]):
        spread = math.sqrt(4000 * probability * (1 - probability))
        assert abs(counts[token] - 4000 * probability) < 4 * spread


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    def draw(seed):
        picker = Picker(Sampling(temperature=1, seed=seed))
        return [picker.pick(LOGITS, []) for _ in range(40)]

    assert draw(1) == draw(1) != draw(2)


def test_the_repeat_penalty_is_that_of_transformers():
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = np.array([2.0, -1.0, 0.5, 3.0], dtype=np.float32)
    penalise = RepetitionPenaltyLogitsProcessor(1.3)
    wanted = penalise(torch.tensor([[0, 1, 1]]), torch.tensor(logits)[None].clone())[0].numpy()
    assert penalised(logits, [0, 1, 1], 1.3) == pytest.approx(wanted)
    assert logits[0] == 2.0  # the caller's logits stay as they are


@pytest.mark.parametrize("wrong", [{"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.01}, {"top_k": -1},
                                   {"max_tokens": 0}, {"seed": -1}, {"repeat_penalty": 0}])
def test_a_value_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(LabError, match=next(iter(wrong))):
        Sampling(**wrong)

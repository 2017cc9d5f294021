"""Texts in parts: each once, no part too large, little padding, and few different sizes."""

import random

import pytest

from labkit.training.tasks import passes


@pytest.mark.parametrize("most", [1, 60, 400, 10**6])
def test_every_text_is_in_one_part_that_is_not_too_large(most):
    draw = random.Random(0)
    lengths = [draw.randint(3, 90) for _ in range(101)]
    parts = passes.parts(lengths, most)
    assert sorted(place for part in parts for place in part) == list(range(101))
    assert all(len(part) == 1 or len(part) * max(lengths[place] for place in part) <= most for part in parts)
    assert passes.parts([], most) == []


def test_parts_have_little_padding_and_whole_eights_of_texts():
    draw = random.Random(0)
    lengths = [min(90, int(draw.lognormvariate(2.6, 0.5)) + 3) for _ in range(128)]
    parts = passes.parts(lengths, 10**6)
    tokens, one = sum(lengths), 128 * max(lengths)
    assert one > 2.5 * tokens and passes.through(lengths, parts) < 1.4 * tokens
    assert all(len(part) % 8 == 0 for part in parts) and len(parts) < 12


def test_texts_of_one_length_stay_together():
    assert len(passes.parts([20] * 128, 10**6)) == 1

"""Pairs and batches by label: what may stand together, how often, and always the same for one seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.training.objectives.pairing import label_batches, label_pairs

quick = settings(max_examples=60, deadline=None)
several = st.lists(st.sampled_from("abcd"), min_size=2, max_size=12).filter(lambda labels: len(set(labels)) > 1)


@quick
@given(several, st.integers(0, 60), st.integers(0, 99))
def test_pairs_say_truly_whether_their_labels_are_the_same_and_half_of_them_are(labels, count, seed):
    found = label_pairs(labels, count, seed)
    assert len(found.first) == len(found.second) == len(found.same) == count
    for one, other, same in zip(*found, strict=True):
        assert one != other and (labels[one] == labels[other]) == bool(same)
    possible = any(number > 1 for number in Counter(labels).values())
    assert sum(found.same) == ((count + 1) // 2 if possible else 0)


@quick
@given(several, st.integers(0, 60), st.integers(0, 99))
def test_no_pair_comes_again_before_all_have_come(labels, count, seed):
    found = label_pairs(labels, count, seed)
    for kind in (0, 1):
        times = Counter(frozenset(pair) for *pair, same in zip(*found, strict=True) if same == kind)
        there = sum((labels[one] == labels[other]) == bool(kind) for one in range(len(labels)) for other in range(one))
        assert max(times.values(), default=0) <= -(-sum(times.values()) // max(1, there))


def test_pairs_depend_on_the_seed_alone():
    labels = list("aabbccdd") * 5
    assert label_pairs(labels, 50, 3) == label_pairs(labels, 50, 3) != label_pairs(labels, 50, 4)


def test_all_rows_come_into_pairs_about_equally_often():
    labels = list("abcdefgh") * 10
    found = label_pairs(labels, 4000, 0)
    times = Counter(found.first + found.second)
    assert len(times) == 80 and min(times.values()) > 60 and max(times.values()) < 140  # 100 each, standard deviation 10


def test_rows_of_one_label_give_no_pairs():
    with pytest.raises(LabError, match="at least two labels"):
        label_pairs(["a", "a"], 4, 0)


@quick
@given(st.lists(st.sampled_from("abcde"), max_size=30), st.integers(2, 9), st.integers(2, 3), st.integers(0, 99))
def test_batches_hold_every_row_once_and_no_row_alone_with_its_label_that_need_not_be(labels, size, rows_each, seed):
    found = label_batches(labels, size, seed, rows_each)
    assert sorted(row for batch in found for row in batch) == list(range(len(labels)))
    for batch in found:
        assert len(batch) <= max(size, rows_each + 1)
        times = Counter(labels[row] for row in batch)
        assert all(number > 1 or labels.count(label) == 1 for label, number in times.items())

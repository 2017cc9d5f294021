"""Strategies choose what they say they choose: expected rows from arithmetic on small tables."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labkit.errors import LabError
from labkit.labeling import selection
from labkit.labeling.selection import coverage, disagreement, mixtures, uncertainty
from labkit.labeling.selection.choices import REASONS

TABLE = np.array([[0.98, 0.01, 0.01], [0.50, 0.45, 0.05], [0.40, 0.30, 0.30], [0.60, 0.39, 0.01]])
# margins 0.97, 0.05, 0.10, 0.21; best labels 0.98, 0.50, 0.40, 0.60; the third row is the nearest to equal


def rows(choices):
    return [choice.row for choice in choices]


def circle(*degrees):
    """Points on the unit circle: their distance is 2 sin(half the angle between them)."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def blobs(*sizes, width=0.02, dimensions=8, seed=0):
    """Groups of records about the axes: float32 (records, dimensions), the group of each."""
    draw = np.random.default_rng(seed)
    belongs = np.repeat(np.arange(len(sizes)), sizes)
    return (np.eye(dimensions)[belongs] + draw.normal(0, width, (len(belongs), dimensions))).astype(np.float32), belongs


def softmax(logits):
    made = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return made / made.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("measure", "expected", "value"), [("margin", [1, 2, 3, 0], 0.05), ("least_confidence", [2, 1, 3, 0], 0.40),
                                                            ("entropy", [2, 1, 3, 0], None)])
def test_the_record_the_model_is_least_sure_of_comes_first(measure, expected, value):
    found = uncertainty.uncertain(TABLE, 4, measure=measure)
    assert rows(found) == expected
    assert found[0].value == pytest.approx(value if value is not None else stats.entropy(TABLE[2]) / math.log(3))


def test_equal_records_keep_their_order_and_labelled_ones_are_left_out():
    assert rows(uncertainty.uncertain(np.full((5, 2), 0.5), 3, labelled=[1])) == [0, 2, 3]


def test_entropy_is_one_for_equal_probabilities_and_nothing_for_a_certain_label():
    assert uncertainty.entropy(np.array([[0.25] * 4, [1, 0, 0, 0]])) == pytest.approx([1, 0])


def test_vote_entropy_counts_votes():
    # Four checkpoints, three labels: all for one; two against two; two, one, one.
    votes = [[0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 2]]
    committee = np.eye(3)[np.array(votes)]
    expected = [0, math.log(2) / math.log(3), (0.5 * math.log(2) + 0.5 * math.log(4)) / math.log(3)]
    assert disagreement.vote_entropy(committee) == pytest.approx(expected)


def test_divergence_is_the_mean_divergence_from_the_mean():
    committee = softmax(np.random.default_rng(1).normal(size=(3, 50, 4)))
    mean = committee.mean(axis=0)
    expected = [np.mean([stats.entropy(member[record], mean[record]) for member in committee]) for record in range(50)]
    assert disagreement.divergence(committee) == pytest.approx(expected)


def test_equal_votes_are_ordered_by_divergence():
    sure, unsure = [[1.0, 0.0], [0.0, 1.0]], [[0.55, 0.45], [0.45, 0.55]]
    committee = np.stack([unsure, sure, sure], axis=1)  # (checkpoints, records, labels)
    assert rows(disagreement.disputed(committee, 2, measure="vote_entropy", labelled=[2])) == [1, 0]


def test_core_set_goes_where_nothing_is_labelled():
    found = coverage.core_set(circle(0, 10, 90, 180), 3, labelled=[0])
    assert rows(found) == [3, 2, 1]
    assert [choice.value for choice in found] == pytest.approx([2, math.sqrt(2), 2 * math.sin(math.radians(5))], abs=1e-3)


def test_core_set_covers_as_well_as_a_search_by_hand():
    vectors = np.random.default_rng(3).normal(size=(60, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = [7]
    for _ in range(10):
        apart = np.linalg.norm(vectors[:, None] - vectors[chosen], axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    assert rows(coverage.core_set(vectors, 10, labelled=[7])) == chosen[1:]


def test_copies_of_a_labelled_record_come_last_in_a_core_set():
    vectors = circle(0, 0, 0, 45, 90)
    assert set(rows(coverage.core_set(vectors, 4, labelled=[0]))[:2]) == {3, 4}


def test_diverse_takes_one_record_from_each_group_the_biggest_first():
    vectors, belongs = blobs(40, 25, 10)
    found = coverage.diverse(vectors, 3)
    assert [belongs[choice.row] for choice in found] == [0, 1, 2]
    assert [choice.others for choice in found] == [40, 25, 10]


def test_typical_records_come_from_groups_without_labels_first():
    vectors, belongs = blobs(40, 25, 10)
    found = coverage.typical(vectors, 2, labelled=[0])  # three groups, one of them has a label
    assert [belongs[choice.row] for choice in found] == [1, 2]


def test_the_typical_record_is_the_one_with_the_nearest_neighbours():
    # 21 records, so that the 20 nearest neighbours are all the others; the middle one has the least squared distances in all.
    vectors = circle(*range(-20, 21, 2))
    assert rows(coverage.typical(vectors, 1)) == [10]


def test_a_batch_of_uncertain_records_is_not_fifty_times_the_same():
    vectors, belongs = blobs(101, 5, 5, 400, width=0.01)
    probabilities = np.array([[0.50, 0.50], [0.52, 0.48], [0.52, 0.48], [1, 0]])[belongs]  # of the last 400 it is sure
    assert {belongs[row] for row in rows(uncertainty.uncertain(probabilities, 3))} == {0}
    found = mixtures.clustered_margin(vectors, probabilities, 3, candidates=37)  # 111 candidates: all that it is not sure of
    assert {belongs[choice.row] for choice in found} == {0, 1, 2}
    assert sorted(choice.others for choice in found) == [5, 5, 101]


def test_rare_labels_are_preferred_where_the_model_is_equally_unsure():
    probabilities = np.array([[0.5, 0.4, 0.1], [0.4, 0.5, 0.1]] * 10)
    vectors = np.random.default_rng(0).normal(size=(20, 4))
    found = mixtures.clustered_margin(vectors, probabilities, 5, label_counts=[99, 0, 3], candidates=2)
    assert all(choice.row % 2 == 1 for choice in found)  # those whose likeliest label is the second


def test_staged_begins_with_typical_records_and_goes_on_with_uncertain_ones():
    vectors, _ = blobs(30, 30)
    probabilities = np.full((60, 3), 1 / 3)

    def used(**arguments):
        return {choice.strategy for choice in mixtures.staged(vectors, 4, **arguments)}

    assert used() == {"typical"}
    assert used(probabilities=probabilities, labelled=range(5)) == {"typical"}
    assert used(probabilities=probabilities, labelled=range(6)) == {"clustered_margin"}  # two for each of three labels


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(selection.STRATEGIES)), st.integers(2, 30), st.integers(1, 35), st.integers(0, 10**6), st.data())
def test_every_strategy_gives_different_unlabelled_records_and_the_same_ones_again(strategy, size, count, seed, data):
    labelled = data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=size))
    draw = np.random.default_rng(seed)
    arrays = {"vectors": draw.normal(size=(size, 4)).astype(np.float32), "probabilities": softmax(draw.normal(size=(size, 3))),
              "committee": softmax(draw.normal(size=(3, size, 3))), "label_counts": draw.integers(0, 5, 3)}
    found = selection.choose(strategy, count, labelled=labelled, seed=seed, **arrays)
    assert len(set(rows(found))) == len(found) == min(count, size - len(labelled))
    assert not set(rows(found)) & set(labelled) and all(0 <= row < size for row in rows(found))
    assert found == selection.choose(strategy, count, labelled=labelled, seed=seed, **arrays)
    for choice in found:
        assert "{" not in choice.reason("en") + choice.reason("zh")


@pytest.mark.parametrize("strategy", ["staged", "clustered_margin", "typical", "core_set"])
def test_a_pool_of_copies_of_one_record_is_no_trouble(strategy):
    found = selection.choose(strategy, 5, vectors=np.ones((8, 3), np.float32), probabilities=np.full((8, 2), 0.5), labelled=[3])
    assert len(set(rows(found))) == 5 and 3 not in rows(found)


def test_reasons_are_said_in_both_languages():
    choice = selection.Choice(4, "margin", 0.05)
    assert choice.reason("en") == "the two best labels are only 5% apart"
    assert choice.reason("zh") == "前两个标签的概率只差 5%"
    assert all(set(text) == {"en", "zh"} for text in [*REASONS.values(), *selection.STRATEGIES.values()])


def test_chance_draws_every_record_about_equally_often():
    counts = np.bincount([choice.row for seed in range(400) for choice in selection.drawn(10, 3, labelled=[0], seed=seed)], minlength=10)
    assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > 0.001


@pytest.mark.parametrize(("arguments", "said"), [
    ({"strategy": "guess"}, "no strategy 'guess'"), ({"strategy": "margin"}, "needs probabilities"),
    ({"strategy": "clustered_margin", "probabilities": TABLE}, "needs vectors"), ({"strategy": "divergence"}, "needs committee"),
    ({"strategy": "margin", "probabilities": TABLE, "vectors": np.ones((3, 2))}, "of the same records"),
    ({"strategy": "margin", "probabilities": TABLE, "labelled": [4]}, "from 0 to 3"),
    ({"strategy": "margin", "probabilities": TABLE, "count": 0}, "at least one"),
    ({"strategy": "margin", "probabilities": np.array([[0.5, np.nan]])}, "from 0 to 1"),
    ({"strategy": "margin", "probabilities": np.array([[3.0, -2.0]])}, "from 0 to 1"),
    ({"strategy": "margin", "probabilities": np.ones((4, 1))}, "at least two labels"),
    ({"strategy": "typical", "vectors": np.array([[1.0, np.inf]])}, "embedding 0"),
    ({"strategy": "divergence", "committee": TABLE[None]}, "at least two"),
    ({"strategy": "clustered_margin", "probabilities": TABLE, "vectors": np.ones((4, 2)), "label_counts": [1]}, "label counts"),
])
def test_what_cannot_be_is_said_in_one_line(arguments, said):
    with pytest.raises(LabError, match=said) as found:
        selection.choose(**arguments)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("strategy", ["staged", "typical", "core_set", "diverse", "margin"])
def test_memory_is_bounded_by_a_few_times_the_embeddings(strategy):
    vectors = np.random.default_rng(0).normal(size=(30_000, 64)).astype(np.float32)  # 7.7 MB; all distances would be 3.6 GB
    arrays = {"vectors": vectors, "probabilities": softmax(vectors[:, :10].astype(np.float64)), "labelled": range(100)}
    tracemalloc.start()
    try:
        assert len(selection.choose(strategy, 20, **arrays)) == 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 250e6

"""Contrastive losses against sentence-transformers and the papers' formulas, one anchor at a time in float64."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as theirs
from torch.nn import functional

from labkit.errors import LabError
from labkit.training.objectives.contrastive import (
    batch_all,
    batch_hard,
    cosine_pairs,
    info_nce,
    multiple_negatives,
    supervised_contrastive,
    triplet,
)
from tests.training.objectives.near import assert_equal as near
from tests.training.objectives.near import gradients, numbers, whole

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)
assert_equal = partial(near, double=True)
DISTANCES = {"cosine": theirs.BatchHardTripletLossDistanceFunction.cosine_distance,
             "euclidean": theirs.BatchHardTripletLossDistanceFunction.euclidean_distance}


@quick
@given(st.integers(1, 7), st.integers(0, 2), st.sampled_from([0.02, 0.05, 1.0]), seeds)
def test_info_nce_with_hard_negatives_is_that_of_sentence_transformers(pairs, negatives, temperature, seed):
    embeddings = [numbers(pairs, 6, seed=seed + number) for number in range(2 + negatives)]
    reference = theirs.MultipleNegativesRankingLoss(None, scale=1 / temperature)
    joined = lambda each: torch.cat(each) if each else None  # noqa: E731
    assert_equal(lambda first, second, *others: info_nce(first, second, joined(others), temperature=temperature).mean(),
                 lambda *all_of_them: reference.compute_loss_from_embeddings(list(all_of_them), None), *embeddings)


@quick
@given(st.integers(1, 7), seeds)
def test_info_nce_in_both_directions_is_that_of_sentence_transformers(pairs, seed):
    directions = ("query_to_doc", "doc_to_query")
    reference = theirs.MultipleNegativesRankingLoss(None, scale=20.0, directions=directions, partition_mode="per_direction")
    two = numbers(pairs, 5, seed=seed), numbers(pairs, 5, seed=seed + 1)
    assert_equal(lambda first, second: info_nce(first, second, temperature=0.05, both_directions=True).mean(),
                 lambda *both: reference.compute_loss_from_embeddings(list(both), None), *two)


def test_multiple_negatives_is_info_nce_by_its_scale():
    one, other, more = numbers(4, 5), numbers(4, 5, seed=1), numbers(4, 3, 5, seed=2)
    reference = theirs.MultipleNegativesRankingLoss(None)
    assert_equal(lambda *three: multiple_negatives(*three).mean(),
                 lambda one, other, more: reference.compute_loss_from_embeddings([one, other, *more.unbind(1)], None), one, other, more)


@quick
@given(st.lists(st.integers(0, 2), min_size=1, max_size=7), seeds)
def test_keys_of_a_querys_own_group_are_no_negatives(groups, seed):
    first, second = numbers(len(groups), 4, seed=seed), numbers(len(groups), 4, seed=seed + 1)

    def by_hand(first, second):
        total = 0.0
        for query, group in enumerate(groups):
            left = [key for key, other in enumerate(groups) if key == query or other != group]
            similar = functional.cosine_similarity(first[query].double(), second[left].double(), dim=-1) / 0.1
            total = total - torch.log_softmax(similar, -1)[left.index(query)]
        return total / len(groups)

    assert_equal(lambda first, second: info_nce(first, second, temperature=0.1, groups=torch.tensor(groups)).mean(), by_hand, first, second)


@quick
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.sampled_from([0.07, 0.5]), seeds)
def test_supervised_contrastive_is_the_papers_equation_2_one_anchor_at_a_time(labels, temperature, seed):
    embeddings = numbers(len(labels), 6, seed=seed)

    def equation_2(embeddings):
        unit = functional.normalize(embeddings.double(), dim=-1)
        found = [0.0 * embeddings.double().sum()]
        for anchor in range(len(labels)):
            others = [place for place in range(len(labels)) if place != anchor]
            positives = [place for place in others if labels[place] == labels[anchor]]
            if positives:
                below = sum(torch.exp(unit[anchor] @ unit[place] / temperature) for place in others)
                terms = [torch.log(torch.exp(unit[anchor] @ unit[place] / temperature) / below) for place in positives]
                found.append(-sum(terms) / len(positives))
        return sum(found) / max(1, len(found) - 1)

    assert_equal(lambda embeddings: supervised_contrastive(embeddings, torch.tensor(labels), temperature=temperature).mean(),
                 equation_2, embeddings)


def test_an_anchor_without_a_positive_is_counted_out():
    found = supervised_contrastive(numbers(3, 4), torch.tensor([0, 0, 1]))
    assert found.weights.tolist() == [1, 1, 0] and found.values[2] == 0


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [1, 1, 1]])
@pytest.mark.parametrize("loss", [lambda rows, labels: supervised_contrastive(rows, labels),
                                  lambda rows, labels: batch_hard(rows, labels, margin=0.2),
                                  lambda rows, labels: batch_hard(rows, labels, margin=0.2, distance="euclidean"),
                                  lambda rows, labels: batch_all(rows, labels, margin=0.2, distance="euclidean")])
def test_a_batch_without_positives_or_of_one_label_gives_finite_losses_and_gradients(loss, labels):
    for rows in (numbers(len(labels), 4), torch.ones(len(labels), 4), torch.zeros(len(labels), 4)):
        value, (gradient,) = gradients(lambda rows: loss(rows, torch.tensor(labels)).mean(), rows)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


@quick
@given(st.integers(1, 8), st.sampled_from([0.0, 0.2, 5.0]), seeds)
def test_triplets_are_those_of_sentence_transformers(triplets, margin, seed):
    three = [numbers(triplets, 5, seed=seed + number) for number in range(3)]
    for distance, metric in (("cosine", theirs.TripletDistanceMetric.COSINE), ("euclidean", theirs.TripletDistanceMetric.EUCLIDEAN)):
        reference = theirs.TripletLoss(None, metric, margin)
        assert_equal(lambda *three: triplet(*three, margin=margin, distance=distance).mean(),  # noqa: B023
                     lambda *three: reference.compute_loss_from_embeddings(list(three), None), *three)  # noqa: B023


def test_euclidean_triplets_of_one_and_the_same_text_have_no_gradient_that_is_not_a_number():
    same = torch.ones(2, 3)
    value, found = gradients(lambda *three: triplet(*three, margin=1.0, distance="euclidean").mean(), same, same, same)
    assert value == 1 and all(torch.isfinite(each).all() for each in found)


paired = st.lists(st.integers(0, 3), min_size=2, max_size=5).filter(lambda labels: len(set(labels)) > 1)


@quick
@given(paired, st.sampled_from(sorted(DISTANCES)), seeds)
def test_batch_hard_is_that_of_sentence_transformers_where_every_anchor_has_both(half, distance, seed):
    labels = torch.tensor(half + half)
    reference = theirs.BatchHardTripletLoss(None, DISTANCES[distance], margin=0.5)
    assert_equal(lambda rows: batch_hard(rows, labels, margin=0.5, distance=distance).mean(),
                 lambda rows: reference.compute_loss_from_embeddings([rows], labels), numbers(len(labels), 5, seed=seed))


@quick
@given(paired, st.sampled_from(sorted(DISTANCES)), seeds)
def test_batch_all_is_that_of_sentence_transformers(half, distance, seed):
    labels = torch.tensor(half + half[:1])
    reference = theirs.BatchAllTripletLoss(None, DISTANCES[distance], margin=0.5)
    assert_equal(lambda rows: batch_all(rows, labels, margin=0.5, distance=distance).mean(),
                 lambda rows: reference.compute_loss_from_embeddings([rows], labels), numbers(len(labels), 5, seed=seed))


def test_batch_all_over_all_triplets_counts_each_of_them():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    found = batch_all(numbers(6, 4), labels, margin=0.1, over="all")
    assert found.weights.tolist() == [2 * 3] * 3 + [1 * 4] * 2 + [0]
    with pytest.raises(LabError, match="active or all"):
        batch_all(numbers(6, 4), labels, margin=0.1, over="hard")


def test_ties_among_hardest_triplets_give_the_loss_of_any_of_them():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    value, (gradient,) = gradients(lambda rows: batch_hard(rows, labels, margin=0.5).mean(), rows)
    # distances: 1 within label 0 from row 0, 2 to label 1; rows 1, 2: 1 and 1; rows 3, 4: 0 and 1
    assert value.item() == pytest.approx((0 + 0.5 + 0.5 + 0 + 0) / 5) and torch.isfinite(gradient).all()


@quick
@given(st.integers(1, 8), seeds)
def test_cosine_pairs_are_those_of_sentence_transformers(pairs, seed):
    wanted, two = whole(2, pairs, seed=seed), (numbers(pairs, 5, seed=seed), numbers(pairs, 5, seed=seed + 1))
    reference = theirs.CosineSimilarityLoss(None)
    assert_equal(lambda one, other: cosine_pairs(one, other, wanted).mean(),
                 lambda one, other: reference.compute_loss_from_embeddings([one, other], wanted), *two)


def test_an_unknown_distance_is_an_error():
    with pytest.raises(LabError, match="cosine, euclidean"):
        triplet(*[numbers(1, 2)] * 3, margin=1.0, distance="manhattan")
    with pytest.raises(LabError, match="cosine, euclidean"):
        batch_hard(numbers(2, 2), whole(2, 2), margin=1.0, distance="manhattan")


def test_losses_of_low_precision_embeddings_are_made_in_float32():
    rows = numbers(4, 8).bfloat16()
    assert torch.allclose(info_nce(rows, rows).values, info_nce(rows.float(), rows.float()).values, atol=1e-6)

"""Losses of labels and numbers against torch.nn.functional, scikit-learn and the papers' formulas in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from labkit.errors import LabError
from labkit.training.objectives import IGNORED, Losses
from labkit.training.objectives.cross_entropy import class_weights, cross_entropy, multi_label, sequence_log_likelihood, squared_error
from tests.training.objectives.near import assert_equal, gradients, numbers, whole

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)


def masked(labels, seed):
    """About a third of the labels ignored, never all."""
    found = labels.masked_fill(torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.33, IGNORED)
    found.view(-1)[0] = labels.view(-1)[0]
    return found


@quick
@given(st.integers(1, 9), st.integers(1, 7), st.sampled_from([0.0, 0.1, 0.9]), st.booleans(), seeds)
def test_the_mean_is_that_of_torch_with_smoothing_class_weights_and_ignored_labels(rows, labels, smoothing, weighted, seed):
    scores, wanted = numbers(rows, labels, seed=seed, scale=3), masked(whole(labels, rows, seed=seed), seed)
    weights = torch.rand(labels, generator=torch.Generator().manual_seed(seed)) + 0.1 if weighted else None
    assert_equal(lambda scores: cross_entropy(scores, wanted, class_weights=weights, label_smoothing=smoothing).mean(),
                 lambda scores: functional.cross_entropy(scores, wanted, weights, label_smoothing=smoothing), scores)


def test_tokens_of_several_texts_are_averaged_over_the_tokens_that_count():
    scores, wanted = numbers(3, 5, 4, scale=2), masked(whole(4, 3, 5), 1)
    assert_equal(lambda scores: cross_entropy(scores, wanted).mean(),
                 lambda scores: functional.cross_entropy(scores.flatten(0, 1), wanted.flatten()), scores)


@quick
@given(st.integers(1, 8), st.integers(2, 6), st.sampled_from([0.5, 1.0, 2.0, 5.0]), seeds)
def test_focal_loss_is_the_papers_equation_in_float64(rows, labels, gamma, seed):
    scores, wanted = numbers(rows, labels, seed=seed, scale=2), whole(labels, rows, seed=seed)
    weights = torch.rand(labels, generator=torch.Generator().manual_seed(seed)) + 0.1

    def equation_5(scores):
        p = torch.softmax(scores.double(), -1)[torch.arange(rows), wanted]
        return (-weights.double()[wanted] * (1 - p) ** gamma * torch.log(p)).sum() / weights.double()[wanted].sum()

    assert_equal(lambda scores: cross_entropy(scores, wanted, class_weights=weights, focal_gamma=gamma).mean(), equation_5, scores)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    scores, wanted = numbers(6, 4), whole(4, 6)
    assert_equal(lambda scores: cross_entropy(scores, wanted, focal_gamma=0.0).mean(),
                 lambda scores: functional.cross_entropy(scores, wanted), scores)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_scores_far_apart_give_finite_losses_and_gradients(gamma, smoothing):
    scores = torch.tensor([[1e4, -1e4, 0.0], [-3e4, 3e4, 1e4], [0.0, 0.0, 0.0]])
    value, (gradient,) = gradients(lambda scores: cross_entropy(scores, torch.tensor([0, 0, 1]), focal_gamma=gamma,
                                                                label_smoothing=smoothing).mean(), scores)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()
    sure = cross_entropy(scores[:1], torch.tensor([0]), focal_gamma=gamma).values
    assert sure.item() == 0


def test_a_single_label_is_certain():
    for gamma in (0.0, 2.0):
        value, (gradient,) = gradients(lambda scores: cross_entropy(scores, torch.tensor([0, 0]), focal_gamma=gamma).mean(), numbers(2, 1))  # noqa: B023
        assert value == 0 and torch.equal(gradient, torch.zeros(2, 1))


def test_where_all_labels_are_ignored_the_loss_is_0_and_so_is_its_gradient():
    nothing = torch.full((4,), IGNORED)
    for gamma in (0.0, 2.0):
        loss = lambda scores: cross_entropy(scores, nothing, focal_gamma=gamma, label_smoothing=0.1).mean()  # noqa: B023, E731
        value, (gradient,) = gradients(loss, numbers(4, 3))
        assert value == 0 and not gradient.any()


def test_the_number_format_of_the_scores_does_not_change_the_arithmetic():
    scores, wanted = numbers(5, 7).bfloat16(), whole(7, 5)
    reference = functional.cross_entropy(scores.float(), wanted, reduction="none")
    assert torch.allclose(cross_entropy(scores, wanted).values, reference, atol=1e-6)


@quick
@given(st.integers(1, 8), st.integers(2, 5), st.lists(st.integers(1, 8), max_size=4), seeds)
def test_any_cut_into_micro_batches_gives_the_same_gradient(rows, labels, cuts, seed):
    scores, wanted = numbers(rows, labels, seed=seed), masked(whole(labels, rows, seed=seed), seed)
    weights = torch.rand(labels, generator=torch.Generator().manual_seed(seed)) + 0.1
    loss = lambda part: cross_entropy(scores_now[part], wanted[part], class_weights=weights, focal_gamma=2.0, label_smoothing=0.1)  # noqa: E731
    scores_now = scores.clone().requires_grad_()
    loss(slice(0, rows)).mean().backward()
    in_one = scores_now.grad
    scores_now = scores.clone().requires_grad_()
    places = sorted({0, rows, *(each for each in cuts if each < rows)})
    total = loss(slice(0, rows)).weights.sum()
    for start, end in zip(places, places[1:], strict=False):
        (loss(slice(start, end)).values.sum() / total).backward()
    assert torch.allclose(scores_now.grad, in_one, atol=1e-6)


@quick
@given(st.integers(1, 6), st.integers(1, 5), seeds)
def test_several_labels_at_once_are_torchs_binary_cross_entropy(rows, labels, seed):
    scores, targets = numbers(rows, labels, seed=seed, scale=3), whole(2, rows, labels, seed=seed).float()
    weights = torch.rand(labels, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert_equal(lambda scores: multi_label(scores, targets, positive_weights=weights).mean(),
                 lambda scores: functional.binary_cross_entropy_with_logits(scores, targets, pos_weight=weights), scores)


def test_smoothed_targets_of_several_labels_lie_between_them_and_a_half():
    scores, targets = numbers(3, 4), whole(2, 3, 4).float()
    assert_equal(lambda scores: multi_label(scores, targets, label_smoothing=0.2).mean(),
                 lambda scores: functional.binary_cross_entropy_with_logits(scores, torch.where(targets == 1, 0.9, 0.1)), scores)


@quick
@given(st.integers(1, 6), st.sampled_from([0.5, 2.0]), seeds)
def test_binary_focal_loss_is_the_papers_equation_in_float64(rows, gamma, seed):
    scores, targets = numbers(rows, 3, seed=seed, scale=2), whole(2, rows, 3, seed=seed)

    def equation_4(scores):
        p = torch.sigmoid(scores.double())
        p_t = torch.where(targets == 1, p, 1 - p)
        return (-((1 - p_t) ** gamma) * torch.log(p_t)).mean()

    assert_equal(lambda scores: multi_label(scores, targets, focal_gamma=gamma).mean(), equation_4, scores)


def test_an_unknown_label_among_several_counts_nothing_and_extreme_scores_stay_finite():
    scores, targets = torch.tensor([[1e5, -1e5, 0.5], [2.0, 3e4, -3e4]]), torch.tensor([[0.0, 1.0, IGNORED], [IGNORED, 1.0, 0.0]])
    found = multi_label(scores, targets, focal_gamma=0.5)
    assert found.weights.sum() == 4 and found.values[0, 2] == found.values[1, 0] == 0
    value, (gradient,) = gradients(lambda scores: multi_label(scores, targets, focal_gamma=0.5).mean(), scores)
    assert torch.isfinite(value) and torch.isfinite(gradient).all() and gradient[0, 2] == 0


def test_squared_errors_leave_out_what_has_no_number():
    predictions, targets = numbers(5), torch.tensor([1.0, float("nan"), 3.0, -2.0, float("nan")])
    known = ~targets.isnan()
    assert_equal(lambda predictions: squared_error(predictions, targets).mean(),
                 lambda predictions: functional.mse_loss(predictions[known], targets[known]), predictions)
    nothing = squared_error(predictions, torch.full((5,), float("nan")))
    assert nothing.mean() == 0


@quick
@given(st.integers(1, 4), st.integers(2, 6), seeds)
def test_a_texts_log_likelihood_is_the_product_of_its_tokens_probabilities(texts, tokens, seed):
    scores, labels = numbers(texts, tokens, 5, seed=seed), whole(5, texts, tokens, seed=seed)
    labels[:, 0] = IGNORED  # nothing predicts the first token
    found = sequence_log_likelihood(scores, labels)
    probabilities = torch.softmax(scores.double(), -1)
    for text in range(texts):
        product = torch.stack([probabilities[text, place - 1, labels[text, place]] for place in range(1, tokens)]).prod()
        assert found.values[text].item() == pytest.approx(product.log().item(), abs=1e-5)
        assert found.weights[text] == tokens - 1


def test_a_texts_log_likelihood_and_gradient_are_those_of_trl():
    from trl.experimental.orpo import ORPOTrainer

    scores, labels = numbers(3, 6, 8, scale=2), masked(whole(8, 3, 6), 4)
    labels[:, :2] = IGNORED
    labels[:, -1] = 3
    assert_equal(lambda scores: sequence_log_likelihood(scores, labels).values.sum(),
                 lambda scores: ORPOTrainer.get_batch_logps(scores, labels).sum(), scores)


def test_padding_behind_a_text_changes_nothing():
    scores, labels = numbers(1, 4, 5), whole(5, 1, 4)
    padded = torch.cat([scores, numbers(1, 3, 5, seed=9)], 1), torch.cat([labels, torch.full((1, 3), IGNORED)], 1)
    assert torch.equal(sequence_log_likelihood(scores, labels).values, sequence_log_likelihood(*padded).values)
    assert torch.equal(sequence_log_likelihood(scores, labels).weights, sequence_log_likelihood(*padded).weights)


@quick
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_balanced_class_weights_are_scikit_learns(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    wanted = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    found = class_weights("balanced", counts)
    assert np.allclose(found.numpy(), wanted, rtol=1e-6)
    assert (found @ torch.tensor(counts).float()).item() == pytest.approx(sum(counts), rel=1e-5)


def test_a_label_without_rows_weighs_nothing_and_no_rows_at_all_are_an_error():
    assert class_weights("balanced", [3, 0, 1]).tolist() == pytest.approx([2 / 3, 0, 2])
    assert class_weights("none", [3, 0]) is None
    with pytest.raises(LabError, match="at least one labelled row"):
        class_weights("balanced", [0, 0])
    with pytest.raises(LabError, match="none or balanced"):
        class_weights("even", [1])


def test_the_mean_of_losses_is_their_sum_over_their_weights():
    assert Losses(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 3.0])).mean() == 2

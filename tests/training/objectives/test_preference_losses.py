"""DPO, ORPO and KTO against the papers' formulas in float64, and against TRL's own code, value and gradient: `_compute_loss` of its DPO and
KTO trainers, called with a model that gives chosen log-probabilities, and ORPO's `odds_ratio_loss`."""

import math
import os
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.training.objectives.preference import dpo, kto, kto_divergence, orpo
from tests.training.objectives.near import assert_equal, gradients, numbers, whole

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)


@pytest.fixture(scope="module")
def trl_orpo():
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOTrainer

    own = SimpleNamespace(beta=0.25, accelerator=SimpleNamespace(device="cpu"))
    return lambda chosen, rejected: ORPOTrainer.odds_ratio_loss(own, chosen, rejected)[0]


class Trainer(SimpleNamespace):
    """What `_compute_loss` of TRL's trainers asks of its own object; the reference's log-probabilities come with the batch."""

    def __init__(self, **settings):
        alone = SimpleNamespace(device="cpu", gather=lambda value: value, gather_for_metrics=lambda value: value)
        super().__init__(model=SimpleNamespace(training=True), accelerator=alone, aux_loss_enabled=False, precompute_ref_logps=True,
                         _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1, **settings)


def model_of(answers, mismatched=None):
    """Gives log-probabilities (rows, tokens) as TRL's fused head would; where the first token's id is 1, those of mismatched answers."""
    def model(input_ids, **_):
        logs = answers if input_ids[0, 0] == 0 else mismatched
        return SimpleNamespace(log_probs=logs, entropy=torch.zeros_like(logs), mean_logits=torch.zeros_like(logs),
                               is_top1=torch.zeros_like(logs, dtype=torch.bool))
    return model


def batch_of(rows, tokens, first=0):
    ids = torch.full((rows, tokens + 1), first)
    return ids, torch.ones_like(ids)


@quick
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.01, 0.1, 1.0]), seeds)
def test_dpo_is_that_of_trl(pairs, tokens, beta, seed):
    from trl import DPOTrainer

    chosen, rejected = (-numbers(pairs, tokens, seed=seed + number).abs() for number in range(2))
    references = [-5 * numbers(pairs, seed=seed + number).abs() for number in (2, 3)]
    ids, mask = batch_of(2 * pairs, tokens)

    def of_trl(chosen, rejected):
        own = Trainer(beta=beta, ld_alpha=None, f_divergence_type="reverse_kl", loss_types=["sigmoid"], loss_weights=[1.0],
                      use_weighting=False)
        batch = {"input_ids": ids, "attention_mask": mask, "completion_mask": mask, "ref_chosen_logps": references[0],
                 "ref_rejected_logps": references[1]}
        return DPOTrainer._compute_loss(own, model_of(torch.cat([chosen, rejected])), batch, False)

    assert_equal(lambda chosen, rejected: dpo(chosen.sum(1), rejected.sum(1), *references, beta=beta).mean(), of_trl, chosen, rejected)


@quick
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.01, 0.1, 1.0]), seeds)
def test_kto_and_the_point_it_measures_from_are_those_of_trl(answers, tokens, beta, seed):
    from trl import KTOTrainer

    logs, mismatched = (-numbers(answers, tokens, seed=seed + number).abs() for number in range(2))
    reference, reference_mismatched = (-tokens * numbers(answers, seed=seed + number).abs() for number in (2, 3))
    good = whole(2, answers, seed=seed).bool()
    (ids, mask), (other_ids, other_mask) = batch_of(answers, tokens), batch_of(answers, tokens, first=1)

    def of_trl(logs, mismatched):
        own = Trainer(beta=beta, loss_type="kto", calculate_KL=True, desirable_weight=1.5, undesirable_weight=0.5)
        own._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(own, model, batch)
        batch = {"input_ids": ids, "attention_mask": mask, "completion_mask": mask, "label": good, "ref_logps": reference,
                 "KL_input_ids": other_ids, "KL_attention_mask": other_mask, "KL_completion_mask": other_mask,
                 "ref_KL_logps": reference_mismatched}
        return KTOTrainer._compute_loss(own, model_of(logs, mismatched), batch, False)

    def ours(logs, mismatched):
        point = kto_divergence(mismatched.sum(1), reference_mismatched)
        return kto(logs.sum(1), reference, good, point, beta=beta, desirable_weight=1.5, undesirable_weight=0.5).mean()

    assert_equal(ours, of_trl, logs, mismatched)


@quick
@given(st.integers(1, 6), st.sampled_from([0.01, 0.1, 1.0]), seeds)
def test_dpo_is_the_papers_equation_7(pairs, beta, seed):
    four = [-10 * numbers(pairs, seed=seed + number).abs() for number in range(4)]

    def equation_7(chosen, rejected, reference_chosen, reference_rejected):
        ratio = lambda p, q: torch.log(torch.exp(p.double()) / torch.exp(q.double()))  # noqa: E731
        gain = beta * ratio(chosen, reference_chosen) - beta * ratio(rejected, reference_rejected)
        return -torch.log(1 / (1 + torch.exp(-gain))).mean()

    assert_equal(lambda *four: dpo(*four, beta=beta).mean(), equation_7, *four)


def test_a_model_that_is_its_reference_loses_log_2():
    chosen, rejected = -numbers(3).abs(), -numbers(3, seed=1).abs()
    assert dpo(chosen, rejected, chosen, rejected).values.tolist() == pytest.approx([math.log(2)] * 3)


@quick
@given(st.integers(1, 6), seeds)
def test_orpo_is_the_papers_odds_and_that_of_trl(trl_orpo, pairs, seed):
    chosen, rejected = (-numbers(pairs, seed=seed + number).abs() - 0.01 for number in range(2))
    loss = numbers(pairs, seed=seed + 2).abs()

    def by_odds(chosen, rejected, loss):
        odds = lambda p: torch.exp(p.double()) / (1 - torch.exp(p.double()))  # noqa: E731
        ratio = torch.log(odds(chosen) / odds(rejected))
        return (loss.double() - 0.25 * torch.log(torch.sigmoid(ratio))).mean()

    assert_equal(lambda *three: orpo(*three, beta=0.25).mean(), by_odds, chosen, rejected, loss)
    assert_equal(lambda *three: orpo(*three, beta=0.25).mean(),
                 lambda chosen, rejected, loss: loss.mean() - trl_orpo(chosen, rejected).mean(), chosen, rejected, loss)


@quick
@given(st.integers(1, 6), seeds)
def test_kto_is_the_papers_equations_7_and_8(answers, seed):
    logs, reference = (-5 * numbers(answers, seed=seed + number).abs() for number in range(2))
    desirable, divergence = whole(2, answers, seed=seed).bool(), torch.tensor(0.4)

    def equation_7(logs, reference):
        total = 0.0
        for answer in range(answers):
            gain = logs[answer].double() - reference[answer].double()
            if desirable[answer]:
                total = total + 1.5 - 1.5 / (1 + torch.exp(-0.2 * (gain - 0.4)))
            else:
                total = total + 0.5 - 0.5 / (1 + torch.exp(-0.2 * (0.4 - gain)))
        return total / answers

    settings_ = {"beta": 0.2, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    assert_equal(lambda logs, reference: kto(logs, reference, desirable, divergence, **settings_).mean(), equation_7, logs, reference)


def test_the_divergence_of_kto_is_a_mean_that_is_never_negative_and_has_no_gradient():
    logs = torch.tensor([-1.0, -2.0], requires_grad=True)
    assert kto_divergence(logs, torch.tensor([-3.0, -2.5])).item() == 1.25
    assert kto_divergence(logs, torch.tensor([0.0, 0.0])).item() == 0
    assert not kto_divergence(logs, torch.zeros(2)).requires_grad


@pytest.mark.parametrize("logs", [[0.0, -1e-9, -1e-4], [-1e4, -1e5, -5e5]])
def test_log_probabilities_near_0_and_far_below_give_finite_losses_and_gradients(logs):
    first, second = torch.tensor(logs), torch.tensor(logs[::-1])
    for loss in (lambda one, other: dpo(one, other, other, one).mean(), lambda one, other: orpo(one, other, -one).mean(),
                 lambda one, other: kto(one, other, torch.tensor([True, False, True]), torch.tensor(0.0)).mean()):
        value, found = gradients(loss, first, second)
        assert torch.isfinite(value) and all(torch.isfinite(each).all() for each in found)


def test_what_raises_the_chosen_answer_lowers_every_loss():
    low, high, other = torch.tensor([-3.0]), torch.tensor([-2.0]), torch.tensor([-2.5])
    assert dpo(high, other, low, other).mean() < dpo(low, other, low, other).mean()
    assert orpo(high, other, -high).mean() < orpo(low, other, -low).mean()
    for desirable in (True, False):
        better, worse = (high, low) if desirable else (low, high)
        losses = [kto(each, other, torch.tensor([desirable]), torch.tensor(0.0)).mean() for each in (better, worse)]
        assert losses[0] < losses[1]

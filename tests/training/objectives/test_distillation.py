"""Distillation against torch's KL divergence, and its limits."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from labkit.training.objectives import IGNORED
from labkit.training.objectives.distillation import distillation, token_distillation
from tests.training.objectives.near import assert_equal, gradients, numbers, whole

quick = settings(max_examples=40, deadline=None)


@quick
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 999))
def test_it_is_the_softened_divergence_of_torch_and_cross_entropy(rows, labels, temperature, share, seed):
    student, teacher = (numbers(rows, labels, seed=seed + number, scale=2) for number in range(2))
    wanted = whole(labels, rows, seed=seed)

    def reference(student):
        softened = torch.softmax(teacher / temperature, -1)
        soft = functional.kl_div(torch.log_softmax(student / temperature, -1), softened, reduction="batchmean")
        return share * temperature**2 * soft + (1 - share) * functional.cross_entropy(student, wanted)

    assert_equal(lambda student: distillation(student, teacher, wanted, temperature=temperature, share=share).mean(), reference, student)


def test_without_labels_the_teacher_alone_is_followed():
    student, teacher = numbers(4, 3), numbers(4, 3, seed=1)
    assert_equal(lambda student: distillation(student, teacher, temperature=1.0).mean(),
                 lambda student: functional.kl_div(torch.log_softmax(student, -1), torch.log_softmax(teacher, -1), log_target=True,
                                                   reduction="batchmean"), student)
    assert distillation(teacher, teacher).mean().abs() < 1e-6


def test_tokens_that_do_not_count_have_no_loss_and_scores_are_for_the_token_behind():
    student, teacher, labels = numbers(2, 5, 4), numbers(2, 5, 4, seed=1), whole(4, 2, 5)
    labels[0, :3], labels[1, 4] = IGNORED, IGNORED
    places = [(0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]  # each predicts the token at the next place

    def reference(student):
        total = 0.0
        for text, place in places:
            p, q = torch.softmax(teacher[text, place].double(), -1), torch.softmax(student[text, place].double(), -1)
            total = total + 0.5 * (p * (p / q).log()).sum() - 0.5 * q[labels[text, place + 1]].log()
        return total / len(places)

    assert_equal(lambda student: token_distillation(student, teacher, labels).mean(), reference, student)
    nothing, (gradient,) = gradients(lambda student: token_distillation(student, teacher, torch.full((2, 5), IGNORED)).mean(), student)
    assert nothing == 0 and not gradient.any()


def test_a_teacher_that_rules_labels_out_and_scores_far_apart_stay_finite():
    teacher = torch.tensor([[0.0, -torch.inf, 1.0], [1e5, -1e5, 0.0]])
    value, (gradient,) = gradients(lambda student: distillation(student, teacher, torch.tensor([0, 0])).mean(),
                                   torch.tensor([[0.0, 2.0, 1.0], [-1e4, 1e4, 0.0]]))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_the_teacher_gets_no_gradient():
    _, (gradient,) = gradients(lambda teacher: distillation(numbers(2, 3).requires_grad_(), teacher).mean(), numbers(2, 3, seed=1))
    assert not gradient.any()

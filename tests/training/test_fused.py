"""The functions with gradients of their own give what PyTorch's own operations give."""

import pytest
import torch

from labkit.training import fused


def close(ours, others, tolerance):
    return all(torch.allclose(one, other, atol=tolerance, rtol=tolerance) for one, other in zip(ours, others, strict=True))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("sizes", [[7], [12, 4, 4], [9, 9]])
def test_lora_of_several_maps_is_each_ones_sum(sizes, biased):
    torch.manual_seed(0)
    weight, bias = torch.randn(sum(sizes), 6), torch.randn(sum(sizes)) if biased else None
    states = torch.randn(2, 5, 6).requires_grad_()
    pairs = [(torch.randn(3, 6).requires_grad_(), torch.randn(size, 3).requires_grad_()) for size in sizes]
    learned = [states, *(matrix for pair in pairs for matrix in pair)]
    got = fused.lora(states, weight, bias, 1.5, pairs)
    biases = bias.split(sizes) if biased else [None] * len(sizes)
    want = [torch.nn.functional.linear(states, own, shift) + 1.5 * states @ down.T @ up.T
            for own, shift, (down, up) in zip(weight.split(sizes), biases, pairs, strict=True)]
    want = torch.cat(want, -1)
    assert close([got], [want], 1e-5)
    ours, others = (torch.autograd.grad(found.square().sum(), learned) for found in (got, want))
    assert close(ours, others, 1e-3)


def test_swiglu_is_silu_of_the_first_half_times_the_second():
    torch.manual_seed(0)
    both = torch.randn(2, 5, 12).requires_grad_()
    gate, up = both.chunk(2, -1)
    got, want = fused.swiglu(both), torch.nn.functional.silu(gate) * up
    push = torch.randn(2, 5, 6)
    ours, others = (torch.autograd.grad(found, both, push) for found in (got, want))
    assert close([got], [want], 1e-6) and close(ours, others, 1e-6)


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_the_norm_is_the_models_own(kind, tolerance):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    norm = LlamaRMSNorm(32, eps=1e-5).to(kind).requires_grad_(False)
    norm.weight.copy_(torch.rand(32) + 0.5)
    states = (3 * torch.randn(2, 7, 32)).to(kind).requires_grad_()
    got, want = fused.rms_norm(states, norm.weight, norm.variance_epsilon), norm(states)
    assert got.dtype == kind and close([got.float()], [want.float()], tolerance)
    push = torch.randn(2, 7, 32).to(kind)
    ours, others = (torch.autograd.grad(found, states, push)[0].float() for found in (got, want))
    assert (ours - others).norm() < max(tolerance, 1e-5) * others.norm()

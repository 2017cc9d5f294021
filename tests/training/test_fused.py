"""The functions with gradients of their own give what PyTorch's own operations give."""

import pytest
import torch

from labkit.training import fused


def close(ours, others, tolerance):
    return all(torch.allclose(one, other, atol=tolerance, rtol=tolerance) for one, other in zip(ours, others, strict=True))


@pytest.mark.parametrize("biased", [False, True])
def test_lora_is_the_sum_of_both_products(biased):
    torch.manual_seed(0)
    weight, bias = torch.randn(7, 6), torch.randn(7) if biased else None
    states, down, up = (torch.randn(shape).requires_grad_() for shape in ((2, 5, 6), (3, 6), (7, 3)))
    got = fused.lora(states, weight, bias, down, up, 1.5)
    want = torch.nn.functional.linear(states, weight, bias) + 1.5 * states @ down.T @ up.T
    assert close([got], [want], 1e-5)
    ours, others = (torch.autograd.grad(found.square().sum(), [states, down, up]) for found in (got, want))
    assert close(ours, others, 1e-3)


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

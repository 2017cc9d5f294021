"""The functions with gradients of their own give what PyTorch's own operations give."""

import pytest
import torch

from labkit.training import fused, kernels


def close(ours, others, tolerance):
    return all(torch.allclose(one, other, atol=tolerance, rtol=tolerance) for one, other in zip(ours, others, strict=True))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("sizes", [(7,), (7, 4), (5, 3, 3)])
def test_adapted_maps_are_the_sums_of_both_products(biased, sizes):
    torch.manual_seed(0)
    weights, biases = [torch.randn(size, 6) for size in sizes], [torch.randn(size) if biased else None for size in sizes]
    downs, ups = [torch.nn.Parameter(torch.randn(3, 6)) for _ in sizes], [torch.nn.Parameter(torch.randn(size, 3)) for size in sizes]
    states = torch.randn(2, 5, 6).requires_grad_()
    maps = fused.Adapted(weights, biases, downs, ups, 1.5)
    for _ in range(2):  # the second time with other matrices
        got = maps(states)
        want = [torch.nn.functional.linear(states, weight, bias) + 1.5 * states @ down.T @ up.T
                for weight, bias, down, up in zip(weights, biases, downs, ups, strict=True)]
        assert [each.shape for each in got] == [each.shape for each in want] and close(got, want, 1e-4)
        ours, others = (torch.autograd.grad(sum(each.square().sum() for each in found), [states, *downs, *ups]) for found in (got, want))
        assert close(ours, others, 1e-3)
        without, whole = (torch.autograd.grad(maps(each)[0].sum(), [downs[0]]) for each in (states.detach(), states))
        assert close(without, whole, 1e-5)
        with torch.no_grad():
            for each in (*downs, *ups):
                each.mul_(0.5).add_(0.1)


def test_frozen_weights_lie_in_memory_once():
    weight = torch.randn(7, 6)
    maps = fused.Adapted([weight], [None], [torch.nn.Parameter(torch.zeros(3, 6))], [torch.nn.Parameter(torch.zeros(7, 3))], 1.0)
    assert torch.equal(maps.weight(0), weight) and maps.weight(0).data_ptr() != weight.data_ptr()


@pytest.mark.parametrize("before", ["norm", "gated"])
def test_what_is_written_where_the_maps_want_it_is_read_by_one_of_them_as_by_any(before):
    """Twice by the same maps and once by others: only the first may have the room behind the states."""
    torch.manual_seed(0)
    width = {"norm": 6, "gated": 12}[before]
    maps, others = (fused.Adapted([torch.randn(size, 6)], [None], [torch.nn.Parameter(torch.randn(3, 6))],
                                  [torch.nn.Parameter(torch.randn(size, 3))], 1.5) for size in (7, 4))
    weight = torch.rand(6)
    run = {"norm": lambda states, **then: fused.rms_norm(states, weight, 1e-5, **then), "gated": fused.gated}[before]
    entered = torch.randn(2, 5, width).requires_grad_()
    matrices = [entered, *maps.downs, *maps.ups, *others.downs, *others.ups]

    def found(**then):
        states = run(entered, **then)
        outputs = [maps(states)[0], others(states)[0], maps(states)[0]]
        return [states, *outputs, *torch.autograd.grad(sum(each.sin().sum() for each in outputs), matrices)]

    with_room = found(then=maps)
    assert close(with_room, found(), 1e-5)
    if kernels.usable(entered):
        assert run(entered, then=maps).stride(1) == 9  # 6 and the low rank's 3
        assert run(entered).is_contiguous()
    assert run(entered, then=fused.Adapted([torch.randn(4, 5)], [None], [torch.nn.Parameter(torch.randn(3, 5))],
                                           [torch.nn.Parameter(torch.randn(4, 3))], 1.0)).is_contiguous()  # other maps than they say


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

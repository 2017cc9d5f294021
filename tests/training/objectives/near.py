"""How these tests compare: value and gradient of one function with those of another, within 1e-5."""

import torch


def gradients(function, *tensors):
    """The scalar that `function` gives for copies of the tensors, and its gradient to each."""
    own = [each.detach().clone().requires_grad_() for each in tensors]
    value = function(*own)
    value.backward()
    return value.detach(), [torch.zeros_like(each) if each.grad is None else each.grad for each in own]


def assert_equal(one, other, *tensors, double=False, within=1e-5):
    """Both functions give the same scalar and the same gradients; nothing is NaN or infinite.

    With `double` the other is given float64: the logarithm of a sum of exponentials of 50 and more, as low temperatures make them, costs
    a library's own float32 more than a hundred-thousandth (3e-5, where ours was 3e-7 from float64).
    """
    value, found = gradients(one, *tensors)
    wanted_value, wanted = gradients(other, *(each.double() if double else each for each in tensors))
    for each, reference in zip([value, *found], [wanted_value, *wanted], strict=True):
        assert torch.isfinite(each).all()
        scale = max(1.0, reference.abs().max().item())
        assert (each.double() - reference.double()).abs().max().item() <= within * scale


def numbers(*shape, seed=0, scale=1.0):
    """Random numbers of a normal distribution."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(below, *shape, seed=0):
    """Random whole numbers from 0."""
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed))

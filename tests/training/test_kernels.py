"""The compiled kernels against PyTorch: values and gradients, what is not a number, and a machine without a compiler."""

import dataclasses
import math

import pytest
import torch

from labkit.training import fused, kernels, packed_attention
from labkit.training.packed_attention import Group, Heads, Plan

pytestmark = pytest.mark.skipif(kernels.compiled() is None, reason="NO C++ COMPILER: the kernels were not tried")
HEADS = Heads(count=2, group=3, size=16, scale=0.25)


def both(function, *tensors):
    """The result, and the gradients of a random weighing of it."""
    inputs = [each.detach().clone().requires_grad_() for each in tensors]
    out = function(*inputs)
    torch.manual_seed(7)
    (out.float() * torch.randn(out.shape)).sum().backward()
    return [out.detach(), *(each.grad for each in inputs)]


def near(found, wanted, dtype):
    limit = 1e-5 if dtype == torch.float32 else 0.02
    for one, other in zip(found, wanted, strict=True):
        assert (one.float() - other.float()).abs().max() <= limit * max(1.0, other.float().abs().max()), (one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 8), (5, 33), (2, 7, 576)])
def test_norm(dtype, shape):
    torch.manual_seed(0)
    states, weight = torch.randn(shape).to(dtype), torch.rand(shape[-1]).to(dtype)
    plain = lambda x: (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)).to(dtype) * weight  # noqa: E731
    near(both(lambda x: fused.rms_norm(x, weight, 1e-5), states), both(plain, states), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 16, 257, 1536])
def test_gated(dtype, size):
    torch.manual_seed(0)
    states = (torch.randn(9, 2 * size) * 5).to(dtype)
    plain = lambda x: torch.nn.functional.silu(x[:, :size].float()).mul(x[:, size:].float()).to(dtype)  # noqa: E731
    near(both(fused.gated, states), both(plain, states), dtype)


def test_gated_far_from_zero():
    states = torch.tensor([[-1e4, -90.0, -45.0, 45.0, 1e4, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]])
    assert torch.allclose(fused.gated(states), torch.nn.functional.silu(states[:, :6]) * 2, atol=1e-6, rtol=1e-6)


def turned(x, cos, sin):
    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


def plain_attention(qkv, cos, sin, rows, heads):
    """Attention of each query head over its row's earlier tokens, written out. rows: the places of each row's tokens, prefix first."""
    count, group, size = heads.count, heads.group, heads.size
    query, key, value = qkv.float().split([count * group * size, count * size, count * size], -1)
    query = turned(query.view(-1, count * group, size), cos[:, None], sin[:, None])
    key = turned(key.view(-1, count, size), cos[:, None], sin[:, None])
    out = torch.zeros(len(qkv), count * group * size)
    done = set()
    for places in rows:
        for number, place in enumerate(places):
            if place in done:
                continue
            done.add(place)
            seen = torch.tensor(places[: number + 1])
            for head in range(count * group):
                weights = (key[seen, head // group] @ query[place, head] * heads.scale).softmax(0)
                start = head * size
                out = out.index_put((torch.tensor(place), torch.arange(start, start + size)),
                                    weights @ value.view(-1, count, size)[seen, head // group])
    return out


def laid_out(sections):
    """The plan, rows (as `plain_attention` takes them), positions and the number of tokens, for sections of (prefix, lengths of rows)."""
    groups, rows, positions, start = [], [], [], 0
    for prefix, lengths in sections:
        groups.append(Group(start, prefix, lengths))
        shared, own = list(range(start, start + prefix)), start + prefix
        positions += range(prefix)
        for length in lengths:
            rows.append(shared + list(range(own, own + length)))
            positions += range(prefix, prefix + length)
            own += length
        start = own
    return Plan(groups), rows, positions, start


def of_sections(sections, size, dtype):
    """The plan, rows, queries with keys and values, cos and sin; three more tokens fill the sequence up."""
    plan, rows, positions, count = laid_out(sections)
    torch.manual_seed(1)
    qkv = torch.randn(count + 3, HEADS.count * (HEADS.group + 2) * size).to(dtype)
    angles = torch.tensor(positions + [0] * 3)[:, None] * torch.rand(size // 2)
    cos, sin = (torch.cat([table, table], -1).to(dtype) for table in (angles.cos(), angles.sin()))
    return plan, rows, qkv, cos, sin


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [16, 6, 24])
@pytest.mark.parametrize("sections", [[(0, [1])], [(0, [5, 2, 3])], [(4, [3])], [(3, [2, 6, 1]), (5, [4, 4]), (0, [2])],
                                      [(37, [70, 1, 33])], [(2, [3] * 40)]])
def test_packed_attention(dtype, size, sections):
    heads = dataclasses.replace(HEADS, size=size)
    plan, rows, qkv, cos, sin = of_sections(sections, size, dtype)
    found = both(lambda x: packed_attention.attend(x, plan, heads, cos, sin), qkv)
    wanted = both(lambda x: plain_attention(x, cos.float(), sin.float(), rows, heads), qkv)
    near(found, wanted, dtype)
    assert not found[0][-3:].any() and not found[1][-3:].any()


def test_packed_attention_is_the_same_however_many_threads():
    plan, _, qkv, cos, sin = of_sections([(9, [7, 30, 12] * 9), (0, [40])], HEADS.size, torch.bfloat16)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(both(lambda x: packed_attention.attend(x, plan, HEADS, cos, sin), qkv))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for each in found[1:] for one, other in zip(found[0], each, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows, inner, columns", [(1, 8, 8), (130, 608, 3072), (129, 48, 576), (704, 3072, 608)])
def test_a_product_is_pytorchs_however_it_is_divided(rows, inner, columns, threads, monkeypatch):
    before = torch.get_num_threads()
    torch.manual_seed(0)
    left, right, add = (torch.randn(shape).bfloat16() for shape in ((rows, inner), (columns, inner), (rows, columns + 5)))
    wanted = left.float() @ right.float().T
    try:
        torch.set_num_threads(threads)
        for weights in (right.T, right.T.contiguous()):
            for more in (None, add[:, :columns], add[:1, :columns].expand(rows, -1)):
                found, expected = kernels.product(left, weights, more), wanted if more is None else wanted + more.float()
                assert (found.float() - expected).abs().max() < 0.01 * math.sqrt(inner) + 0.01 * expected.abs().max()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_not_lost(value):
    states = torch.ones(3, 32)
    states[1, 5] = value
    assert not torch.isfinite(fused.rms_norm(states, torch.ones(32), 1e-5)[1]).all()
    assert not torch.isfinite(fused.gated(states)[1]).all()
    plan, _, _, count = laid_out([(2, [3, 1])])
    qkv = torch.ones(count, HEADS.count * (HEADS.group + 2) * HEADS.size)
    qkv[3, 0] = math.nan
    table = torch.ones(count, HEADS.size)
    assert torch.isnan(packed_attention.attend(qkv, plan, HEADS, table, table)[3]).any()


def test_without_a_compiler_training_goes_on_with_pytorch(monkeypatch, tmp_path):
    kernels._library.cache_clear()
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    try:
        assert not kernels.usable(torch.ones(2, 2))
        states = torch.randn(4, 6)
        assert torch.allclose(fused.gated(states), torch.nn.functional.silu(states[:, :3]) * states[:, 3:])
        assert fused.rms_norm(states, torch.ones(6), 1e-5).shape == (4, 6)
    finally:
        kernels._library.cache_clear()


def test_the_library_is_compiled_once_and_where_it_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.sys, "prefix", "/proc")  # nobody can write there
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    path = kernels.compiled()
    assert path.parent == tmp_path / "cache" and path.stat().st_size > 10_000
    made = path.stat().st_mtime_ns
    assert kernels.compiled() == path and path.stat().st_mtime_ns == made
    monkeypatch.setenv("LABKIT_KERNELS", "off")
    assert kernels.compiled() is None


def test_no_compiler_is_no_library(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    assert kernels.compiled() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_its_gradient_the_same_places(dtype):
    torch.manual_seed(0)
    states = (torch.rand(500, 400) + 0.5).to(dtype).requires_grad_()
    for probability in (0.1, 0.6):
        torch.manual_seed(1)
        found = fused.dropout(states, probability)
        kept = found != 0
        assert torch.allclose(found[kept].float(), states[kept].float() / (1 - probability), rtol=1e-6 if dtype is torch.float32 else 1e-2)
        assert (1 - kept.float().mean()).item() == pytest.approx(probability, abs=0.005)  # its standard deviation: 0.0011
        for along in (0, 1):  # no row and no column is treated apart
            assert (1 - kept.float().mean(along) - probability).abs().max() < 6 * (probability * (1 - probability) / 400) ** 0.5
        neighbours = (kept[:, 1:] & kept[:, :-1]).float().mean().item()
        assert neighbours == pytest.approx((1 - probability) ** 2, abs=0.01)
        (gradient,) = torch.autograd.grad(found.sum(), states)
        assert torch.equal(gradient != 0, kept) and (gradient[kept] * (1 - probability) - 1).abs().max() < 1e-2
        torch.manual_seed(1)
        assert torch.equal(fused.dropout(states, probability), found)
        assert not torch.equal(fused.dropout(states, probability), found)  # the next draw is another
    assert torch.equal(fused.dropout(states, 0.0), states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu(dtype):
    states = torch.cat([torch.linspace(-12, 12, 3001), torch.tensor([0.0, -0.0, 1e-20, -1e-20, 90.0, -90.0, 1e30, -1e30])]).to(dtype)
    near(both(fused.gelu, states), both(torch.nn.functional.gelu, states.float()), dtype)
    assert torch.isnan(fused.gelu(torch.tensor([1.0, torch.nan]))).tolist() == [False, True]

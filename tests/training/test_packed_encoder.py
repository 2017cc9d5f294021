"""An encoder's layers without padding give what they give with it, and so do their gradients."""

import copy

import pytest
import torch
import transformers

from labkit.training import heads, packed_attention, packed_encoder, packing
from labkit.training.packed_attention import Group, Heads, Plan
from labkit.training.tasks import passes
from labkit.training.tasks.task import Head

SMALL = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32,
         "max_position_embeddings": 64, "pad_token_id": 0}
TEXTS = [((5, 6, 7), (0, 0, 1)), ((8,), (0,)), (tuple(range(3, 36)), (0,) * 20 + (1,) * 13), ((9, 9), (0, 0))]


def model_of(kind, **changes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **({"embedding_size": 16} if kind == "Electra" else {}), **changes)
    return getattr(transformers, f"{kind}Model")(config)


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "XLMRoberta", "Camembert", "Electra"])
def test_states_and_gradients_are_the_padded_ones(kind):
    plain = model_of(kind, type_vocab_size=2).eval()
    ours = copy.deepcopy(plain)
    assert packed_encoder.prepared(ours)
    batch = passes.collate(TEXTS)
    kept = batch["attention_mask"].bool()
    torch.manual_seed(1)
    counts = torch.randn(int(kept.sum()), 24)
    found = packed_encoder.states(ours, batch)[kept]
    wanted, again = (each(**batch).last_hidden_state[kept] for each in (plain, ours))
    assert torch.allclose(found, wanted, atol=1e-5) and torch.allclose(again, wanted, atol=1e-5)
    for states in (found, wanted):
        (states * counts).sum().backward()
    for (name, one), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-4), name


def test_what_has_other_layers_or_writes_runs_as_ever():
    assert not packed_encoder.prepared(model_of("Bert", is_decoder=True))
    other = transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=40, dim=24, n_layers=1, n_heads=3, hidden_dim=32))
    made = heads.make(other, (Head("kind", "label", ("a", "b")),), "mean")
    assert not packed_encoder.prepared(other) and not made.packs
    assert made(passes.collate(TEXTS))["kind"].shape == (4, 2)


def test_without_kernels_an_encoder_runs_as_ever(monkeypatch):
    monkeypatch.setattr(packed_encoder.kernels, "usable", lambda tensor: False)
    assert not packed_encoder.prepared(model_of("Bert"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[1], [3, 40, 1, 7], [33, 65]])
@pytest.mark.parametrize("size", [8, 12, 32])
def test_attention_both_ways_is_pytorchs(lengths, size, dtype):
    shape, count = Heads(3, 1, size, size**-0.5), sum(lengths)
    torch.manual_seed(0)
    ours = torch.randn(count + 2, 9 * size).to(dtype).requires_grad_()
    theirs = ours.detach().float().requires_grad_()
    found = packed_attention.attend(ours, Plan([Group(0, 0, lengths)]), shape, both_ways=True)
    query, key, value = (part.unflatten(1, (3, size)).transpose(0, 1) for part in theirs[:count].split(3 * size, 1))
    wanted = torch.cat([torch.nn.functional.scaled_dot_product_attention(*each).transpose(0, 1).flatten(1)
                        for each in zip(*(part.split(lengths, 1) for part in (query, key, value)), strict=True)])
    tolerance = 1e-5 if dtype is torch.float32 else 3e-2
    assert torch.allclose(found[:count].float(), wanted, atol=tolerance) and not found[count:].any()
    counts = torch.randn(count, 3 * size)
    for states in (found[:count].float(), wanted):
        (states * counts).sum().backward()
    assert torch.allclose(ours.grad.float(), theirs.grad, atol=10 * tolerance)


def test_dropped_weights_are_a_share_and_the_gradient_knows_which():
    shape, lengths = Heads(2, 1, 16, 0.25), [50, 30]
    plan = Plan([Group(0, 0, lengths)])
    torch.manual_seed(0)
    qkv = torch.randn(80, 6 * 16)
    counts, direction = torch.randn(80, 32), torch.randn(80, 6 * 16)

    def attended(states, seed=3, dropout=0.3):
        torch.manual_seed(seed)
        return packed_attention.attend(states, plan, shape, both_ways=True, dropout=dropout)

    assert torch.equal(attended(qkv), attended(qkv)) and not torch.equal(attended(qkv), attended(qkv, seed=4))
    states = qkv.clone().requires_grad_()
    (attended(states) * counts).sum().backward()
    step = 1e-2
    along = ((attended(qkv + step * direction) - attended(qkv - step * direction)) * counts).sum() / (2 * step)
    assert (states.grad * direction).sum().item() == pytest.approx(along.item(), rel=2e-3)
    mean = torch.stack([attended(qkv, seed) for seed in range(400)]).mean(0)
    assert (mean - attended(qkv, dropout=0.0)).abs().mean() < 0.01
    # With values that are 1 a query gets the weights that are left, raised by what was dropped.
    qkv[:, 64:] = 1.0
    qkv[:, :32] = 0.0  # all weights alike
    left = attended(qkv)[:, :32] * 0.7
    assert left.mean().item() == pytest.approx(0.7, abs=0.02)
    assert ((left[:50] * 50).round() - left[:50] * 50).abs().max() < 1e-3 and left.std() > 0.03


def test_a_batchs_padded_sizes_do_not_matter_for_its_parts():
    lengths = [3] * 50 + [90] * 4
    assert len(passes.parts(lengths, 1500, packs=True)) == 1 and passes.through(lengths, [], packs=True) == 510
    for most in (1, 64, 200):
        parts = passes.parts(lengths, most, packs=True)
        assert sorted(place for part in parts for place in part) == list(range(54))
        assert all(len(part) == 1 or sum(lengths[place] for place in part) <= most for part in parts)


def test_chosen_tokens_come_and_go_with_their_gradients():
    states = torch.arange(12.0).view(6, 2).requires_grad_()
    chosen = packing.Chosen(torch.tensor([4, 1, 2]), 6)
    taken = chosen.take(states)
    assert taken[:3].tolist() == [[8, 9], [2, 3], [4, 5]] and len(taken) == packing.rounded(3, packing.SMALL_STEP)
    back = chosen.put_back(taken * 2)
    assert back[[4, 1, 2]].tolist() == [[16, 18], [4, 6], [8, 10]]
    back[[4, 2]].sum().backward()
    assert states.grad[:, 0].tolist() == [0, 0, 2, 0, 2, 0]

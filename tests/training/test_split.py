"""The split model and the cache of frozen layers give the full model's loss and gradients."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from labkit.errors import LabError
from labkit.training import liger, methods, shared_prefix
from labkit.training.objective import token_losses
from labkit.training.recipe import Recipe
from labkit.training.shared_prefix import Rows
from labkit.training.split import check_exact, scores, split

SIZES = {"vocab_size": 120, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 5, "num_attention_heads": 4,
         "num_key_value_heads": 2, "pad_token_id": 0}
SHAPES = [LlamaConfig(**SIZES), Qwen2Config(**SIZES), Qwen3Config(**SIZES, head_dim=12), MistralConfig(**SIZES),
          MistralConfig(**SIZES, sliding_window=7)]


def model_of(config, seed=0):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config)


def loss_of(hidden, head, tokens, lengths):
    """Mean cross-entropy over the last three tokens of each row; `hidden` is (rows, tokens, hidden)."""
    states = torch.cat([hidden[row, length - 4 : length - 1] for row, length in enumerate(lengths)])
    return torch.nn.functional.cross_entropy(head(states), last_three(tokens, lengths))


def last_three(tokens, lengths):
    return torch.cat([tokens[row, length - 3 : length] for row, length in enumerate(lengths)])


@pytest.mark.parametrize("shared", [0, 6])
@pytest.mark.parametrize("layers", [1, 3, 5])
@pytest.mark.parametrize("config", SHAPES, ids=lambda config: config.model_type)
def test_loss_and_gradients_equal_the_full_models(config, layers, shared):
    lengths = [11, 17, 14]
    tokens = torch.randint(1, 120, (3, 17), generator=torch.Generator().manual_seed(1))
    tokens[:, :shared] = tokens[:1, :shared]
    recipe = Recipe(scenario="x", rank=4, alpha=32, layers=layers)
    cut = 5 - layers

    def trained():
        model = methods.apply(model_of(config), recipe, cut)
        torch.manual_seed(3)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        return model

    whole, ours = trained(), trained()
    mask = torch.arange(17)[None] < torch.tensor(lengths)[:, None]
    hidden = whole.get_base_model().model(input_ids=tokens, attention_mask=mask.long(), use_cache=False).last_hidden_state
    want = loss_of(hidden, whole.get_base_model().lm_head, tokens, lengths)
    want.backward()

    parts = split(ours.get_base_model(), cut)
    prefix = tokens[0, :shared] if shared else None
    own = [length - shared for length in lengths]
    before = parts.enter(prefix, [shared]) if shared else None
    entered = parts.enter(torch.cat([tokens[row, shared:length] for row, length in enumerate(lengths)]), own, prefix)
    ends = [sum(own[: row + 1]) for row in range(3)]
    wanted = [place for end in ends for place in (end - 4, end - 3, end - 2)]
    got = token_losses(parts.head, parts.finish([Rows(entered, own, before, wanted)])[0], last_three(tokens, lengths)).mean()
    got.backward()

    assert abs(want.item() - got.item()) < 1e-5
    compared = 0
    for (name, left), (_, right) in zip(whole.named_parameters(), ours.named_parameters(), strict=True):
        if left.requires_grad:
            assert torch.allclose(left.grad, right.grad, atol=1e-5), name
            compared += 1
    assert compared == layers * 7 * 2


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize(("heads", "prefix"), [(4, 0), (4, 13), (2, 13)])
def test_a_gpus_attention_is_the_same_there_and_back(heads, prefix, window):
    torch.manual_seed(0)
    layout = shared_prefix._Layout(0, prefix, [5, 11, 8], torch.device("cpu"))
    parts = [torch.randn(count, layout.end, 16, dtype=torch.float64, requires_grad=True) for count in (4, heads, heads)]
    found = []
    for attend in (shared_prefix._attend_group, shared_prefix._attend_on_gpu):
        for part in parts:
            part.grad = None
        out = torch.cat(attend(layout, *parts, 0.0, window))
        (out * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
        found.append([out.detach(), *(part.grad for part in parts)])
    assert found[0][0].shape == (layout.end, 64)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("config", SHAPES, ids=lambda config: config.model_type)
def test_groups_in_one_pass_do_not_see_each_other(config):
    model = model_of(config)
    parts = split(model, 2)
    draw = torch.Generator().manual_seed(2)
    groups = []
    for prefix, lengths in ((6, [5, 9]), (0, [4]), (3, [7, 1, 2])):
        start = torch.randint(1, 120, (prefix,), generator=draw) if prefix else None
        tokens = torch.randint(1, 120, (sum(lengths),), generator=draw)
        groups.append((start, tokens, lengths))
    with torch.no_grad():
        before = [None if start is None else parts.enter(start, [len(start)]) for start, _, _ in groups]
        found = parts.finish([Rows(parts.enter(tokens, lengths, start), lengths, states)
                              for (start, tokens, lengths), states in zip(groups, before, strict=True)])
        for (start, tokens, lengths), states in zip(groups, found, strict=True):
            for row, got in zip(tokens.split(lengths), states.split(lengths), strict=True):
                whole = row if start is None else torch.cat([start, row])
                want = model.model(input_ids=whole[None], use_cache=False).last_hidden_state[0, -len(row) :]
                assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("config", SHAPES[:4], ids=lambda config: config.model_type)
def test_tokens_that_are_left_out_leave_gaps_in_the_positions(config):
    model = model_of(config)
    parts = split(model, 0)
    tokens = torch.randint(1, 120, (12,), generator=torch.Generator().manual_seed(4))
    kept = torch.tensor([3, 4, 6, 9, 10, 11])
    with torch.no_grad():
        states = parts.enter(tokens, [12])
        got = parts.finish([Rows(states[kept], [6], states[:3], None, kept)])[0]
        there = torch.cat([torch.arange(3), kept])
        want = model.model(inputs_embeds=states[there][None], attention_mask=torch.ones(1, 9), position_ids=there[None],
                           use_cache=False).last_hidden_state[0, 3:]
    assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_fused_functions_give_pefts_outputs_and_gradients(dropout):
    """With dropout PEFT's own way runs, and in evaluation without it."""
    tokens = torch.arange(1, 31).view(2, 15)
    ours, pefts = (methods.apply(model_of(SHAPES[1]), Recipe(scenario="x", rank=4, alpha=12, dropout=dropout, layers=2), 3) for _ in "ab")
    for module in pefts.modules():
        module.__dict__.pop("forward", None)
    torch.manual_seed(5)
    for (_, one), (_, other) in zip(ours.named_parameters(), pefts.named_parameters(), strict=True):
        if one.requires_grad:
            torch.nn.init.normal_(one, std=0.1)
            other.data.copy_(one.data)
    ours.eval(), pefts.eval()
    logits = [model(input_ids=tokens).logits for model in (ours, pefts)]
    assert torch.allclose(*logits, atol=1e-5)
    for found in logits:
        found.square().mean().backward()
    gradients = [[parameter.grad for parameter in model.parameters() if parameter.requires_grad] for model in (ours, pefts)]
    assert len(gradients[0]) == 2 * 7 * 2
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_the_whole_model_is_left_as_it_was():
    model = model_of(SHAPES[0])
    tokens = torch.arange(1, 12)[None]
    before = model(input_ids=tokens).logits
    parts = split(model, 3)
    parts.finish([Rows(parts.enter(tokens[0], [11]), [11])])
    assert len(model.model.layers) == 5
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_dropout_in_the_frozen_layers_is_refused():
    with pytest.raises(LabError, match="dropout in its frozen layers"):
        split(model_of(LlamaConfig(**SIZES, attention_dropout=0.1)), 2)


def test_a_model_whose_layers_are_no_list_is_refused():
    from transformers import BertConfig, BertLMHeadModel

    small = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")}
    with pytest.raises(LabError, match="not a plain list"):
        split(BertLMHeadModel(BertConfig(**small, num_hidden_layers=2, is_decoder=True)), 1)


def test_a_model_that_treats_its_inputs_specially_is_refused():
    model = model_of(SHAPES[0])
    decoder, plain = model.model, type(model.model).forward

    class Scaled(type(decoder)):
        def forward(self, input_ids=None, inputs_embeds=None, **others):
            embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            return plain(self, inputs_embeds=embeds * 3.0, **others)

    decoder.__class__ = Scaled
    with pytest.raises(LabError, match="would not be exact"):
        check_exact(model, split(model, 2), scores(model, torch.arange(1, 12)), torch.arange(1, 12))


def test_ligers_modules_stay_in_place_beside_adapted_maps(monkeypatch):
    """A stand-in that computes as the model does, and counts: the package's own kernels need a GPU."""
    import sys
    import types

    import transformers.utils
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    seen, asked = [], {}

    def in_place(model, **which):
        asked.update(which)
        for module in model.modules():
            if isinstance(module, LlamaMLP | LlamaRMSNorm):
                forward = type(module).forward
                module.forward = lambda states, module=module, forward=forward: seen.append(type(module)) or forward(module, states)

    package = types.ModuleType("liger_kernel.transformers")
    package._apply_liger_kernel_to_instance = in_place
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    for where in (transformers.utils, __import__("transformers.integrations.liger", fromlist=["x"])):
        monkeypatch.setattr(where, "is_liger_kernel_available", lambda: True)
    tokens, found = torch.arange(1, 30), []
    recipe = Recipe(scenario="x", rank=4, layers=3)
    for device in ("cpu", "cuda:0"):
        model = model_of(SHAPES[0])
        liger.apply(model, device)
        model = methods.apply(model, recipe, 2)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(len(name)))
            elif "lora_A" in name:
                torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(len(name) + 1))
        seen.clear()
        parts = split(model.get_base_model(), 2)
        states = parts.finish([Rows(parts.enter(tokens, [29]), [29])])[0]
        (states * torch.arange(states.numel()).view(states.shape).cos()).sum().backward()
        found.append([states.detach(), *(parameter.grad for parameter in model.parameters() if parameter.requires_grad)])
    assert asked == {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
    assert seen.count(LlamaMLP) == 5 and seen.count(LlamaRMSNorm) == 11
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4)

"""Answers to many prompts at once are those that transformers gives one by one."""

import random

import pytest

from labkit.evaluation import predict

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models are faster so, and other processes cannot slow them down as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SHAPE = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512)


def tiny(kind: str, seed: int = 0, **changes):
    """A tiny random decoder in float32 with weights large enough that its greedy answers vary."""
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **changes}, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.4 if "embed" in name or "head" in name else 0.25)
    return model


def one_by_one(model, prompts, limits, ends):
    """transformers' own greedy answer to each prompt alone, without the token that ended it."""
    found = []
    for prompt, limit in zip(prompts, limits, strict=True):
        new = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                             max_new_tokens=limit, eos_token_id=sorted(ends), pad_token_id=0)[0, len(prompt) :].tolist()
        found.append(new[:-1] if new and new[-1] in ends else new)
    return found


def prompts_with_starts(draw: random.Random, count: int) -> list[list[int]]:
    """Prompts of 1 to 60 tokens: some with one of two common starts, some without any, some equal to another."""
    starts = [[draw.randrange(96) for _ in range(40)], [draw.randrange(96) for _ in range(45)], []]
    found = [draw.choice(starts) + [draw.randrange(96) for _ in range(draw.randint(1, 15))] for _ in range(count)]
    return found + found[:2]


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_answers_equal_those_of_generate_one_by_one(kind):
    model, draw = tiny(kind), random.Random(1)
    prompts = prompts_with_starts(draw, 20)
    limits = [draw.randint(1, 25) for _ in prompts]
    free = one_by_one(model, prompts, limits, {999})
    ends = {free[0][len(free[0]) // 2], free[7][-1]}  # tokens that do occur, so that rows end at different steps
    expected = one_by_one(model, prompts, limits, ends)
    assert len({len(ids) for ids in expected}) > 3
    assert predict.generate(model, prompts, limits, ends) == expected


def test_small_batches_and_chunks_give_the_same_answers(monkeypatch):
    model, draw = tiny("Llama", 3), random.Random(5)
    prompts = prompts_with_starts(draw, 13)
    expected = one_by_one(model, prompts, [12] * 15, {999})
    monkeypatch.setattr(predict, "ROWS", 4)
    monkeypatch.setattr(predict, "CHUNK_TOKENS", 20)
    assert predict.generate(model, prompts, [12] * 15, {999}) == expected
    monkeypatch.setattr(predict, "CACHE_BYTES", 1)
    assert predict.generate(model, prompts, [12] * 15, {999}) == expected


def test_batches_that_run_side_by_side_give_the_same_answers(monkeypatch):
    model, draw = tiny("Llama", 4), random.Random(9)
    prompts = prompts_with_starts(draw, 22)
    limits = [draw.randint(1, 20) for _ in prompts]
    expected = one_by_one(model, prompts, limits, {7})
    torch.set_num_threads(3)
    monkeypatch.setattr(predict, "WORKER_ROWS", 6)
    assert predict.generate(model, prompts, limits, {7}) == expected
    assert torch.get_num_threads() == 3


def test_an_error_in_one_batch_ends_the_others_and_reaches_the_caller(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(predict, "WORKER_ROWS", 2)

    def stop(done, total):
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        predict.generate(tiny("Llama"), [[1, 2], [3], [4, 5, 6], [8]], [400, 1, 400, 400], {999}, stop)


def test_a_model_with_a_sliding_window_goes_through_transformers_and_gives_the_same_answers():
    model, draw = tiny("Mistral", 2, sliding_window=16), random.Random(2)
    prompts = prompts_with_starts(draw, 9)
    expected = one_by_one(model, prompts, [9] * 11, {5})
    assert predict.generate(model, prompts, [9] * 11, {5}) == expected


def test_the_model_answers_as_before_after_it_was_used():
    model = tiny("Llama")
    tokens = torch.arange(50)[None]
    before = model(tokens).logits
    predict.generate(model, [list(range(40)), list(range(39)) + [7]], [3, 3], {999})
    assert torch.equal(model(tokens).logits, before)


def test_progress_counts_up_to_all_answers():
    seen = []
    predict.generate(tiny("Llama"), [[1, 2], [3], [4, 5, 6]], [2, 4, 3], {999}, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_packed_weights_give_the_same_scores():
    from labkit.training.precision import best_precision

    if best_precision() != "bf16":
        pytest.skip("this processor does not multiply bfloat16 natively: weights are not packed")
    model = tiny("Llama").bfloat16()
    tokens = torch.arange(1, 40)[None]
    with torch.inference_mode():
        want = model(input_ids=tokens).logits
        predict._pack(model)
        got = model(input_ids=tokens).logits
    assert "forward" in vars(model.lm_head)
    assert torch.allclose(got.float(), want.float(), atol=0.05, rtol=0.05)

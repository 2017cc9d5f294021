"""Chats of a task's own data: what is learned, what is written while learning, and what is left out."""

import dataclasses

import pytest
from datasets import Dataset

from labkit import models
from labkit.errors import LabError
from labkit.evaluation import task_metrics
from labkit.training import trainer
from labkit.training.examples import chat_tokens
from labkit.training.tasks import dialogues, of_data
from tests.training.tasks import tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, tiny_base):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def recipe(tiny_base, **changes):
    return tiny.recipe(tiny_base, "chat", **{"method": "lora", "layers": 2, "learning_rate": 0.01, "epochs": 1,
                                             **changes})


def tokenizer_of(tiny_base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


def test_a_chat_is_its_template_its_answer_and_the_end(tiny_base):
    tokenizer = tokenizer_of(tiny_base)
    encoded = dialogues.encode(tiny.data("chat").train, tokenizer, 512)
    for row, example in zip(tiny.data("chat").train, encoded.examples, strict=True):
        assert list(example.tokens[: example.answer_start]) == chat_tokens(tokenizer, row["messages"])
        assert tokenizer.decode(example.tokens[example.answer_start :]) == row["answer"] + tokenizer.eos_token
        assert "".join(tokenizer.decode([example.tokens[place]]) for place in sorted(example.spoken)) == row["messages"][0]["content"]
        assert example.tokens[: len(encoded.prefixes[0])] == encoded.prefixes[0] and len(encoded.prefixes[0]) > 5


def test_chats_that_are_too_long_are_left_out_and_told_before_training(tiny_base):
    rows = tiny.data("chat").train.to_list()
    rows[2]["messages"][0]["content"] = "very " * 300
    plain = tiny.data("chat")
    data = dataclasses.replace(plain, splits={**plain.splits, "train": Dataset.from_list(rows, plain.train.features)})
    learner, described = of_data.learner(recipe(tiny_base, max_tokens=200), data, models.resolve(tiny_base))
    assert described["left_out_as_too_long"] == ["c2"]
    assert of_data.warnings(learner) == ["1 of 14 chats are too long with their answer and are left out (c2); raise max_tokens"]
    with pytest.raises(LabError, match="none of 8 chats fits into 5 tokens"):
        of_data.learner(recipe(tiny_base, max_tokens=5), data, models.resolve(tiny_base))


def test_an_encoder_cannot_write(tmp_path):
    base = tiny.save_tiny_bert(tmp_path / "bert")
    with pytest.raises(LabError, match="cannot write text"):
        of_data.learner(recipe(base), tiny.data("chat"), models.resolve(base))


@pytest.mark.parametrize("method", ["lora", "full", "prefix", "prompt"])
def test_what_is_written_while_learning_is_what_the_saved_run_writes(tiny_base, method):
    run = trainer.train_task(recipe(tiny_base, method=method), tiny.data("chat"))
    last = run.metrics()[-1]
    base, tokenizer, rows = models.resolve(tiny_base), tokenizer_of(tiny_base), tiny.data("chat").validation.to_list()
    limits = dialogues.limits(rows, tokenizer)
    prompts = [chat_tokens(tokenizer, row["messages"]) for row in rows]
    written = dialogues.write(dialogues.load(run, base), prompts, [limits["en"]] * len(rows), {tokenizer.eos_token_id})
    said = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in written]
    assert [each["answer"] for each in last["answers"]] == said[:4]
    assert [each["wanted"] for each in last["answers"]] == [row["answer"] for row in rows[:4]]
    assert last["validation"] == task_metrics.score("chat", [row["answer"] for row in rows], said, ("exact_match",), ["en"] * len(rows))
    assert last["validation_loss"] > 0


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_a_learned_beginning_writes_what_the_likeliest_next_tokens_are(tiny_base, method):
    """The whole text anew for each token, with the learner's own states; prompts of different lengths."""
    import torch

    base, tokenizer = models.resolve(tiny_base), tokenizer_of(tiny_base)
    learner, _ = of_data.learner(recipe(tiny_base, method=method), tiny.data("chat"), base)
    model = learner.model.eval()
    prompts = [chat_tokens(tokenizer, [{"role": "user", "content": said}]) for said in ("Say red.", "Say something long about it.", "Go.")]
    written = dialogues.write(model, prompts, [6, 6, 3], set())
    assert [len(said) for said in written] == [6, 6, 3] and len({len(prompt) for prompt in prompts}) == 3
    for prompt, said in zip(prompts, written, strict=True):
        text = list(prompt)
        for _ in said:
            tokens = torch.tensor([text])
            with torch.no_grad():
                states = learner.inner._states(tokens, torch.ones_like(tokens), torch.arange(len(text))[None])
                text.append(int(model.get_base_model().get_output_embeddings()(states[0, -1]).argmax()))
        assert said == text[len(prompt) :]


def test_the_rows_that_are_answered_are_spread_over_the_split(tiny_base):
    data = tiny.data("chat", train=8)
    learner, _ = of_data.learner(recipe(tiny_base), data, models.resolve(tiny_base))
    assert [row["id"] for row in learner.rows] == [f"c{number}" for number in range(8, 14)]
    many = [{"id": str(number), "answer": "a", "language": "en", "messages": []} for number in range(100)]
    spread = dialogues.Answering(learner.inner, models.resolve(tiny_base), data, many)
    assert len(spread.rows) <= dialogues.ANSWERED and [row["id"] for row in spread.rows] == [str(number) for number in range(0, 100, 7)]


def test_the_micro_batch_can_be_halved_through_the_wrapping(tiny_base):
    learner, _ = of_data.learner(recipe(tiny_base), tiny.data("chat"), models.resolve(tiny_base))
    learner.micro_tokens = 17
    assert learner.inner.micro_tokens == 17 and learner.micro_tokens == 17

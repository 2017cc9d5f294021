"""Pairs of a better and a worse answer: read, checked, told apart into what is learned and what is measured, and put into tokens."""

import hashlib
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.training.examples import chat_tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pair:
    """A prompt (messages up to where the assistant answers), and which of two answers to it is the better one."""

    prompt: tuple[tuple[str, str], ...]  # (role, content)
    chosen: str
    rejected: str

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the sha256 over prompt and answers."""
        return hashlib.sha256(files.canonical_json([self.prompt, self.chosen, self.rejected]).encode()).hexdigest()[:16]

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in self.prompt]

    def with_answer(self, answer: str) -> list[dict[str, str]]:
        return [*self.messages, {"role": "assistant", "content": answer}]


def read(path: str | os.PathLike) -> list[Pair]:
    """Read a JSONL file of pairs: objects with `prompt` (messages), `chosen` and `rejected` (a text, or one assistant message in a list);
    other keys are left alone. `labkit.labeling.preferences.write` makes such a file of votes.

    Raises:
        LabError: the file is missing or empty, or a row is no pair; names file and line.
    """
    found = files.read_lines(path, _pair)
    if not found:
        raise LabError(f"{path} has no pairs")
    return found


def pairs_of(rows: Iterable[Mapping[str, Any] | Pair]) -> list[Pair]:
    """Rows (such as `labkit.labeling.preferences.pairs().pairs`) as pairs; LabError names the row, counted from 1."""
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(row if isinstance(row, Pair) else _pair(row))
        except LabError as error:
            raise LabError(f"pairs, row {number}: {error}") from None
    return found


def held_out(pairs: list[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(pairs to learn from, pairs to measure on): all pairs of a prompt go to one side; the second has this share of the prompts, rounded
    down."""
    prompts = sorted({pair.prompt for pair in pairs})
    random.Random(seed).shuffle(prompts)
    measured = set(prompts[:int(share * len(prompts))])
    return [pair for pair in pairs if pair.prompt not in measured], [pair for pair in pairs if pair.prompt in measured]


def fitting(pairs: list[Pair], tokenizer: "PreTrainedTokenizerBase", most: int) -> tuple[list[Pair], dict[str, int]]:
    """The pairs whose prompt and either answer fit into `most` tokens, and of the others id and length (tokens, with the longer answer);
    LabError where none does."""
    chat_tokens(tokenizer, pairs[0].messages)  # says so where there is no chat template
    length = lambda messages: len(tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"])  # noqa: E731
    lengths = [max(length(pair.with_answer(pair.chosen)), length(pair.with_answer(pair.rejected))) for pair in pairs]
    if min(lengths) > most:
        raise LabError(f"none of {len(pairs)} pairs fits into {most} tokens; raise max_tokens in the recipe")
    each = list(zip(pairs, lengths, strict=True))
    return [pair for pair, tokens in each if tokens <= most], {pair.id: tokens for pair, tokens in each if tokens > most}


def told(learned: list[Pair], measured: list[Pair], too_long: Mapping[str, int], most: int) -> list[str]:
    """What a person should read before training starts, a line each: how many pairs are learned from, and what is left out and why."""
    lines = []
    if too_long:
        longest = sorted(too_long.items(), key=lambda each: -each[1])
        listed = ", ".join(f"{id} with {tokens:,} tokens" for id, tokens in longest[:3]) + (", …" if len(longest) > 3 else "")
        total = len(learned) + len(measured) + len(too_long)
        lines.append(f"{len(too_long):,} of {total:,} pairs are left out, as they are longer with their longer answer than max_tokens "
                     f"({most:,}): {listed}; raise max_tokens")
    return [*lines, f"{len(learned):,} pairs are learned from, {len(measured):,} are held out to measure"]


def dataset(pairs: list[Pair], method: str, tokenizer: "PreTrainedTokenizerBase", seed: int | None = None) -> "Dataset":
    """The pairs as TRL's trainer of this method takes them.

    Args:
        seed: of KTO's order; None: each good answer stands beside the bad one of the next pair, so that parts of an even size have as many
            of both, and what is measured over them does not depend on the size.
    """
    from datasets import Dataset

    if method == "orpo":  # as texts: TRL would write a second end behind the template's line break
        return Dataset.from_list([as_texts(pair, tokenizer) for pair in pairs])
    if method == "dpo":
        return Dataset.from_list([{"prompt": pair.messages, "chosen": pair.with_answer(pair.chosen)[-1:],
                                   "rejected": pair.with_answer(pair.rejected)[-1:]} for pair in pairs])
    # TRL keeps their order, and pairs each prompt with its neighbour's answer
    row = lambda pair, answer, good: {"prompt": pair.messages, "completion": pair.with_answer(answer)[-1:], "label": good}  # noqa: E731
    others = pairs if seed is not None else pairs[1:] + pairs[:1]
    rows = [each for pair, other in zip(pairs, others, strict=True)
            for each in (row(pair, pair.chosen, True), row(other, other.rejected, False))]
    if seed is not None:
        random.Random(seed).shuffle(rows)
    return Dataset.from_list(rows)


def as_texts(pair: Pair, tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    prompt = tokenizer.apply_chat_template(pair.messages, add_generation_prompt=True, tokenize=False)
    found = {"prompt": prompt}
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        whole = tokenizer.apply_chat_template(pair.with_answer(answer), tokenize=False)
        if not whole.startswith(prompt):
            raise LabError("the base model's chat template writes a prompt otherwise where an answer follows; use method dpo or kto")
        found[name] = whole[len(prompt):].rstrip()
    return found


def _pair(row: Any) -> Pair:
    if not isinstance(row, Mapping):
        raise LabError("a pair must be a JSON object")
    missing = {"prompt", "chosen", "rejected"} - set(row)
    if missing:
        raise LabError(f"a pair needs prompt, chosen and rejected; missing: {', '.join(sorted(missing))}")
    prompt = row["prompt"]
    if not isinstance(prompt, list) or not prompt or not all(_is_message(message) for message in prompt):
        raise LabError("prompt must be a list of messages with role (system, user or assistant) and content")
    if prompt[-1]["role"] != "user":
        raise LabError("the prompt's last message must be the user's")
    chosen, rejected = (_answer(row[name], name) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise LabError("chosen and rejected are the same answer")
    return Pair(tuple((message["role"], message["content"]) for message in prompt), chosen, rejected)


def _is_message(message: Any) -> bool:
    return (isinstance(message, Mapping) and message.get("role") in ("system", "user", "assistant")
            and isinstance(message.get("content"), str))


def _answer(value: Any, name: str) -> str:
    if isinstance(value, list) and len(value) == 1 and _is_message(value[0]) and value[0]["role"] == "assistant":
        value = value[0]["content"]
    if not isinstance(value, str) or not value.strip():
        raise LabError(f"{name} must be a text that is not empty, or a list of one assistant message")
    return value


def fingerprint(pairs: list[Pair]) -> str:
    return hashlib.sha256("\n".join(pair.id for pair in pairs).encode()).hexdigest()

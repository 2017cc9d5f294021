"""Chats of a task's own data (question answering, dialogue, summarisation, translation): what a decoder learns from, and how it writes.

The learner is `chat`'s or `chat_plain`'s; around it, at each measurement, the model answers a few validation chats as it is then, and what
it writes is measured by the data's own metrics.
"""

import warnings as warnings_of
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.training import examples, methods
from labkit.training import recipe as recipes
from labkit.training.chat_data import ChatData
from labkit.training.examples import Encoded, Example
from labkit.training.learner import Learner
from labkit.training.recipe import Recipe
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.task import listed

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

ANSWERED = 16  # validation chats that are answered at a measurement: a few seconds with the embedded model
_SHOWN = 4     # of which a person is shown so many
_WRITTEN = 16  # chats a batch where transformers' own `generate` writes

Row = dict[str, Any]


def learner(recipe: Recipe, data: TaskData, base: BaseModel) -> "Answering":
    """What learns to write this data's answers.

    Raises:
        LabError: the base cannot write text or has no chat template, or there is nothing to learn from.
    """
    from labkit.training.trainer import chat_learner

    if not base.is_decoder:
        raise LabError(f"base model {base.name} cannot write text; choose a causal language model, such as smollm2-135m-instruct")
    encoded = read(recipe, data, base)
    held_out = data.splits.get("validation")
    return Answering(chat_learner(recipe, base, encoded), base, data, held_out.to_list() if held_out is not None else [])


def read(recipe: Recipe, data: TaskData, base: BaseModel) -> ChatData:
    """The chats of the splits `train` and `validation` as tokens; those that are too long are left out and listed."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    settings = (tokenizer, recipe.max_tokens, recipe.share_prefix)
    train = encode(data.train, *settings)
    long = set(train.too_long)
    held_out = data.splits.get("validation")
    encoded = None
    if held_out is not None and len(held_out):
        encoded = encode(held_out, *settings, may_be_empty=True)
    ids = [identity for identity in data.train["id"][:] if identity not in long]
    return ChatData(train, encoded if encoded and encoded.examples else None, ids, tokenizer)


def warnings(data: ChatData) -> list[str]:
    """The line that says which chats are too long and left out."""
    left_out = data.left_out
    if not left_out:
        return []
    count = len(data.train_ids) + (len(data.held_out.examples) if data.held_out else 0) + len(left_out)
    return [f"{len(left_out):,} of {count:,} chats are too long with their answer and are left out ({listed(left_out)}); raise max_tokens"]


def encode(rows: "Dataset", tokenizer: Any, max_tokens: int, share_prefix: bool = True, may_be_empty: bool = False) -> Encoded:
    """Chats as tokens: the tokenizer's chat template, the answer, the end token. With `share_prefix` chats of one language form a group.

    Raises:
        LabError: no chat fits, or the template refuses one.
    """
    made: list[tuple[str, Example]] = []
    too_long = []
    groups: dict[str, int] = {}
    for row in rows:
        start, spoken = _prompt(tokenizer, row["messages"])
        answer = tokenizer(row["answer"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        if len(start) + len(answer) > max_tokens:
            too_long.append(row["id"])
            continue
        group = groups.setdefault(row["language"] if share_prefix else "", len(groups))
        made.append((row["id"], Example(tuple(start + answer), len(start), group, frozenset(), spoken)))
    if not made and not may_be_empty:
        raise LabError(f"none of {len(rows)} chats fits into {max_tokens} tokens; raise max_tokens in the recipe")
    found = [example for _, example in made]
    prefixes = [_start([example for example in found if example.group == group]) if share_prefix else () for group in range(len(groups))]
    return Encoded(found, prefixes, too_long)


def _prompt(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], frozenset[int]]:
    """The prompt's token ids, and the places of those that lie within what was said."""
    tokens = examples.chat_tokens(tokenizer, messages)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    spans, at = [], 0
    for message in messages:
        said = message["content"].strip()
        start = text.find(said, at)
        if start < 0:  # the template writes it otherwise
            return tokens, frozenset()
        at = start + len(said)
        spans.append((start, at))
    return tokens, frozenset(place for place, (start, end) in enumerate(offsets)
                             if any(first <= start and end <= last for first, last in spans))


def _start(found: list[Example]) -> tuple[int, ...]:
    """The longest run of tokens that all begin with, short of the last prompt token (which predicts the answer)."""
    if len(found) < 2:
        return ()
    length, first = min(example.answer_start for example in found) - 1, found[0].tokens
    for example in found[1:]:
        length = next((place for place in range(length) if example.tokens[place] != first[place]), length)
    return first[:length]


class Answering:
    """A chat learner that also answers a few validation chats at each measurement. All else is the learner's own.

    Attributes:
        inner: the learner.
        rows: the validation chats that are answered: `ANSWERED` of them, spread evenly over the split, the same each time.
    """

    def __init__(self, inner: Learner, base: BaseModel, data: TaskData, held_out: list[Row]) -> None:
        from labkit.evaluation import predict

        self.inner, self._metrics, self._written = inner, data.metrics, []
        step = max(1, -(-len(held_out) // ANSWERED))
        self.rows = held_out[::step]
        self._tokenizer = inner.data.tokenizer
        self._limits = limits(held_out, self._tokenizer)
        self._ends = predict.end_tokens(base, self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def micro_tokens(self) -> int:
        return self.inner.micro_tokens

    @micro_tokens.setter
    def micro_tokens(self, value: int) -> None:
        self.inner.micro_tokens = value

    def measure(self) -> dict[str, float]:
        """The learner's validation loss, and the data's metrics of what is written for `rows`."""
        from labkit.evaluation import task_metrics

        found = self.inner.measure()
        if not self.rows:
            return found
        model = self.inner.model
        model.eval()
        try:
            prompts = [examples.chat_tokens(self._tokenizer, row["messages"]) for row in self.rows]
            most = [self._limits[row["language"]] for row in self.rows]
            written = write(model, prompts, most, self._ends)
            self._written = [self._tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in written]
        finally:
            model.train()
        return found | task_metrics.score("chat", [row["answer"] for row in self.rows], self._written, self._metrics,
                                          [row["language"] for row in self.rows])

    def answers(self) -> list[dict[str, str]]:
        return [{"prompt": row["messages"][-1]["content"], "answer": said, "wanted": row["answer"]}
                for row, said in zip(self.rows[:_SHOWN], self._written, strict=False)]


def limits(rows: Sequence[Row], tokenizer: Any) -> dict[str, int]:
    """The most tokens an answer may have, by language: 1.25 times the longest of these answers', and 8 more."""
    longest: dict[str, int] = {}
    for row in rows:
        count = len(tokenizer(row["answer"], add_special_tokens=False)["input_ids"])
        longest[row["language"]] = max(longest.get(row["language"], 0), count)
    return {language: int(count * 1.25) + 8 for language, count in longest.items()}


def load(run: Run, base: BaseModel) -> "torch.nn.Module":
    """A finished run's model, in the number format it was trained in, ready for `write`."""
    from labkit.evaluation import predict

    own, precision = run.folder / "model", precision_of(run)
    if own.exists():
        return predict.load(replace(base, folder=own), precision=precision)
    with warnings_of.catch_warnings():
        warnings_of.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT asks by the old name
        if recipes.read(run.folder / "recipe.toml").method not in ("prefix", "prompt"):
            return predict.load(base, run.adapter_folder, precision)
        from peft import PeftModel

        model = predict.load(base, precision=precision)
        return PeftModel.from_pretrained(model, run.adapter_folder, autocast_adapter_dtype=False).to(model.dtype).eval()


def precision_of(run: Run) -> str:
    """`bf16` or `fp32`: what a finished run was trained in."""
    return "bf16" if run.manifest()["training"]["precision"] == "bfloat16" else "fp32"


def write(model: "torch.nn.Module", prompts: list[list[int]], limits: list[int], ends: set[int]) -> list[list[int]]:
    """Greedy continuations of token ids by a model as it learns, PEFT's included, in the order of the prompts."""
    from labkit.evaluation import predict

    if not hasattr(model, "peft_config") or not model.active_peft_config.is_prompt_learning:
        return predict.generate(methods.inner(model), prompts, limits, ends)
    return _with_virtual_tokens(model, prompts, limits, ends)


def _with_virtual_tokens(model: "torch.nn.Module", prompts: list[list[int]], limits: list[int], ends: set[int]) -> list[list[int]]:
    """Prefix and prompt tuning go through PEFT's own `generate`. Only prompts of one length share a batch: padding would stand between the
    learned part and the text, where nothing stood while learning."""
    import torch

    device = next(model.parameters()).device
    written: list[list[int]] = [[] for _ in prompts]
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(row)
    batches = [rows[at : at + _WRITTEN] for rows in by_length.values() for at in range(0, len(rows), _WRITTEN)]
    with torch.inference_mode(), warnings_of.catch_warnings():
        warnings_of.filterwarnings("ignore", "Position ids are not supported")  # there is no padding that they would be needed for
        for rows in batches:
            tokens = torch.tensor([prompts[row] for row in rows], device=device)
            new = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=max(limits[row] for row in rows),
                                 do_sample=False, num_beams=1, eos_token_id=sorted(ends) or None,
                                 pad_token_id=min(ends, default=0))[:, tokens.shape[1] :].tolist()
            for row, said in zip(rows, new, strict=True):
                ended = next((place for place, token in enumerate(said) if token in ends), len(said))
                written[row] = said[: min(ended, limits[row])]
    return written

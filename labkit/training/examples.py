"""Records as token ids, and their order: which tokens are the answer, which prefix they share, which go into a batch."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit import records as recs
from labkit.errors import LabError
from labkit.scenarios import Scenario, answers

if TYPE_CHECKING:
    from datasets import Dataset

# Attention scores a head and layer that are held at once: 8 records of 100 tokens behind a prompt of 150 have 200,000, a single one
# of 1,000 tokens a million.
_SCORES = 1_500_000


@dataclass(frozen=True)
class Example:
    """One record as tokens. `tokens[answer_start:]` is the answer, which alone counts for the loss; `group` numbers the
    prefix it shares (see `Encoded.prefixes`); `decisive` are the places in the answer of the labels' and numbers' tokens;
    `spoken` those in `tokens` of what was said in the conversation, without the system prompt and the chat template's own."""

    tokens: tuple[int, ...]
    answer_start: int
    group: int = 0
    decisive: frozenset[int] = frozenset()
    spoken: frozenset[int] = frozenset()

    @property
    def answer_tokens(self) -> int:
        return len(self.tokens) - self.answer_start


@dataclass(frozen=True)
class Encoded:
    """Examples, the prefix of each group (token ids that all its examples begin with), and the ids left out as too long."""

    examples: list[Example]
    prefixes: list[tuple[int, ...]]
    too_long: list[str]

    @property
    def tokens(self) -> int:
        """All tokens of all examples, prefixes counted for each."""
        return sum(len(example.tokens) for example in self.examples)

    def own(self, row: int) -> tuple[int, ...]:
        """The tokens of an example behind the prefix of its group."""
        example = self.examples[row]
        return example.tokens[len(self.prefixes[example.group]) :]


def chat_tokens(tokenizer, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of a chat up to where the assistant's answer begins, by the tokenizer's own chat template.

    Raises:
        LabError: the tokenizer has no chat template, or its template refuses the messages.
    """
    return tokenizer(_chat_text(tokenizer, messages), add_special_tokens=False)["input_ids"]


def _chat_text(tokenizer, messages: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise LabError("this base model's tokenizer has no chat template; choose an instruct or chat model")
    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # templates raise whatever jinja raises
        raise LabError(f"the base model's chat template refuses these messages: {error}") from error


def encode(records: "Dataset", scenario: Scenario, tokenizer, max_tokens: int, share_prefix: bool = True) -> Encoded:
    """Encode records; with `share_prefix` those with the same system prompt form a group with a common prefix.

    Raises:
        LabError: no record has an answer that fits.
    """
    rows: list[tuple[str, list[int], list[int], frozenset[int], frozenset[int]]] = []
    too_long = []
    for record in records:
        prompt = recs.prompt(record, scenario)
        start, spoken = _prompt_tokens(tokenizer, prompt)
        answer, decisive = _answer_tokens(tokenizer, record, scenario)
        if len(start) + len(answer) > max_tokens:
            too_long.append(record["id"])
        else:
            rows.append((prompt[0]["content"], start, answer, decisive, spoken))
    if not rows:
        raise LabError(f"none of {len(records)} records fits into {max_tokens} tokens; raise max_tokens in the recipe")
    groups: dict[str, int] = {}
    for system, *_ in rows:
        groups.setdefault(system if share_prefix else "", len(groups))
    examples = [Example(tuple(start + answer), len(start), groups[system if share_prefix else ""], decisive, spoken)
                for system, start, answer, decisive, spoken in rows]
    prefixes = [_common_prefix([e for e in examples if e.group == group]) if share_prefix else () for group in range(len(groups))]
    return Encoded(examples, prefixes, too_long)


def _prompt_tokens(tokenizer, messages: list[dict[str, str]]) -> tuple[list[int], frozenset[int]]:
    """The prompt's token ids, and the places of those that lie within what was said after the system prompt."""
    text = _chat_text(tokenizer, messages)
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans, at = [], 0
    for message in messages:
        said = message["content"].strip()
        start = text.find(said, at)
        if start < 0:  # the template writes it otherwise
            return coded["input_ids"], frozenset()
        at = start + len(said)
        spans.append((start, at))
    return coded["input_ids"], frozenset(place for place, (start, end) in enumerate(coded["offset_mapping"])
                                         if any(first <= start and end <= last for first, last in spans[1:]))


def _answer_tokens(tokenizer, record, scenario: Scenario) -> tuple[list[int], frozenset[int]]:
    """The answer's token ids with the end token, and the places of those that hold a label or a number."""
    coded = tokenizer(recs.target(record, scenario) + tokenizer.eos_token, add_special_tokens=False, return_offsets_mapping=True)
    spans = [(start, end) for field, start, end in answers.value_spans(scenario, record["answer"], record["language"])
             if field.kind != "text"]
    decisive = frozenset(place for place, (start, end) in enumerate(coded["offset_mapping"])
                         if any(start < last and end > first for first, last in spans))
    return coded["input_ids"], decisive


def _common_prefix(examples: list[Example]) -> tuple[int, ...]:
    """The longest run of tokens that all begin with, short of the last prompt token (which predicts the answer)."""
    length = min(example.answer_start for example in examples) - 1
    first = examples[0].tokens
    for example in examples[1:]:
        while example.tokens[:length] != first[:length]:
            length -= next(back for back in range(1, length + 1) if example.tokens[: length - back] == first[: length - back])
    return first[:length] if len(examples) > 1 else ()


def batches(examples: list[Example], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's batches of row numbers: every row once, of similar length within a group, in an order drawn from the seed.

    Each batch has its share of every group, so that a small one (a language with few records) is learned from at every step.
    Rows are shuffled within their group and sorted by length in windows of 16 batches; the groups' rows are then dealt out to
    the batches evenly, and the batches shuffled.
    """
    draw = random.Random(seed * 1_000_003 + epoch)
    count = -(-len(examples) // batch_size)
    dealt: list[tuple[float, int]] = []  # (how far along its group, row)
    for group in sorted({example.group for example in examples}):
        rows = [row for row, example in enumerate(examples) if example.group == group]
        draw.shuffle(rows)
        window = max(1, 16 * batch_size * len(rows) // len(examples))
        ordered = [row for start in range(0, len(rows), window)
                   for row in sorted(rows[start : start + window], key=lambda row: len(examples[row].tokens))]
        dealt += [((place + 0.5) / len(rows), row) for place, row in enumerate(ordered)]
    order = [row for _, row in sorted(dealt)]
    found = [order[at * batch_size : (at + 1) * batch_size] for at in range(count)]
    draw.shuffle(found)
    return found


def by_length(examples: list[Example], batch_size: int) -> list[list[int]]:
    """Batches for a pass without training: of one group each, sorted by length."""
    rows = sorted(range(len(examples)), key=lambda row: (examples[row].group, len(examples[row].tokens), row))
    found: list[list[int]] = []
    for row in rows:
        if found and len(found[-1]) < batch_size and examples[found[-1][0]].group == examples[row].group:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def micro_batches(encoded: Encoded, rows: list[int], micro_tokens: int) -> list[list[int]]:
    """The rows by group in parts that go through the model at once (at least one row each): of at most `micro_tokens` tokens,
    prefixes not counted, and of so few that the memory for attention stays small."""
    parts: list[list[int]] = []
    tokens = scores = 0
    for row in sorted(rows, key=lambda row: encoded.examples[row].group):
        own, whole = len(encoded.own(row)), len(encoded.examples[row].tokens)
        if not parts or tokens + own > micro_tokens or scores + own * whole > _SCORES:
            parts.append([])
            tokens = scores = 0
        parts[-1].append(row)
        tokens += own
        scores += own * whole
    return parts

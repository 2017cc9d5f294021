"""The records of a scenario as a decoder learns from them: those to train on and those to measure on, as tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit import records as recs
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.scenarios import Scenario
from labkit.training.examples import Encoded, encode
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from datasets import Dataset


@dataclass(frozen=True)
class ChatData:
    """Encoded records; `train_ids` are the ids of the train examples in their order."""

    train: Encoded
    held_out: Encoded | None
    train_ids: list[str]
    tokenizer: object

    @property
    def left_out(self) -> list[str]:
        """The ids of records that are too long and were left out."""
        return self.train.too_long + (self.held_out.too_long if self.held_out else [])


def read(recipe: Recipe, records: "Dataset", scenario: Scenario, base: BaseModel) -> ChatData:
    """Encode the labelled records of the splits `train` and `validation`.

    Raises:
        LabError: none to train on, or none that fits into the recipe's `max_tokens`.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    labelled = records.filter(lambda answer: bool(answer), input_columns=["answer"]) if len(records) else records
    train_records, held_out = recs.in_split(labelled, "train"), recs.in_split(labelled, "validation")
    if not len(train_records):
        raise LabError(f"scenario {scenario.name}: no labelled record is in the split `train`")
    settings = (scenario, tokenizer, recipe.max_tokens, recipe.share_prefix)
    train = encode(train_records, *settings)
    long = set(train.too_long)
    return ChatData(train, encode(held_out, *settings) if len(held_out) else None,
                    [identity for identity in train_records["id"][:] if identity not in long], tokenizer)


def answers(model: "torch.nn.Module", base: BaseModel, data: ChatData, count: int) -> list[dict[str, str]]:
    """What the model writes now for `count` validation records, spread evenly: `prompt` (what was said), `answer` and `wanted`."""
    from labkit.evaluation import predict
    from labkit.training.tasks import dialogues

    if not count or data.held_out is None:
        return []
    every = max(1, -(-len(data.held_out.examples) // count))
    chosen = data.held_out.examples[::every]
    model.eval()
    try:
        written = dialogues.write(model, [list(example.tokens[: example.answer_start]) for example in chosen],
                                  [2 * example.answer_tokens + 8 for example in chosen], predict.end_tokens(base, data.tokenizer))
    finally:
        model.train()
    read = lambda tokens: data.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()  # noqa: E731
    return [{"prompt": read(example.tokens[place] for place in sorted(example.spoken)), "answer": read(tokens),
             "wanted": read(example.tokens[example.answer_start :])} for example, tokens in zip(chosen, written, strict=True)]

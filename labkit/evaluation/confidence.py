"""How sure a model is of what it answered: the probability that it gives to each label and number behind all that stands before it.

The probabilities are the model's own and not calibrated: a fine-tuned model is surer than it is right. They order records well enough to
show the doubtful ones first.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit import records as recs
from labkit.evaluation.predict import Progress, load
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.scenarios import Scenario, answers
from labkit.training.examples import chat_tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel


def add(rows: Sequence[Mapping[str, Any]], records: "Dataset", scenario: Scenario, base: BaseModel, run: Run | None = None,
        progress: Progress | None = None) -> list[dict[str, Any]]:
    """Predictions (`predict.predict` of these records, in their order) with `scores`: for each label and number that was read the
    probability of its value. Texts have none.

    Raises:
        LabError: the base's tokenizer has no chat template, or the template refuses a record.
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    model = load(base, run.learned_folder if run else None)
    found = []
    with torch.inference_mode():
        for row, record in zip(rows, recs.rows(records), strict=True):
            prompt = chat_tokens(tokenizer, recs.prompt(record, scenario))
            tokens, places = _places(tokenizer, scenario, row["answer"], record["language"])
            found.append({**row, "scores": of_places(model, prompt, tokens, places)})
            if progress:
                progress(len(found), len(rows))
    return found


def of_places(model: "PreTrainedModel", prompt: Sequence[int], answer: Sequence[int],
              places: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """The probability of the tokens at these places of the answer together, each behind all tokens before it, by name."""
    import torch

    wanted = sorted({place for each in places.values() for place in each})
    if not wanted:
        return {}
    last = wanted[-1]
    given = torch.tensor([[*prompt, *answer[:last + 1]]], device=model.device)
    rows = torch.tensor([len(prompt) + place - 1 for place in wanted], device=model.device)  # the place before a token predicts it
    logits = model(input_ids=given, use_cache=False).logits[0, rows].float()
    chosen = torch.log_softmax(logits, dim=-1)[torch.arange(len(wanted)), torch.tensor([answer[place] for place in wanted])]
    log = dict(zip(wanted, chosen.tolist(), strict=True))
    return {name: min(1.0, float(torch.tensor(sum(log[place] for place in each)).exp())) for name, each in places.items() if each}


def _places(tokenizer, scenario: Scenario, answer: Mapping[str, Any], language: str) -> tuple[list[int], dict[str, list[int]]]:
    """The answer's tokens, and where those of each label and number stand, with the token behind it: without that, "refund" would be
    taken for the beginning of "refund for a friend" as well."""
    text = answers.render(scenario, dict(answer), language)
    coded = tokenizer(text + (tokenizer.eos_token or ""), add_special_tokens=False, return_offsets_mapping=True)
    found = {}
    for field, first, last in answers.value_spans(scenario, dict(answer), language):
        if field.kind != "text":
            own = [place for place, (start, end) in enumerate(coded["offset_mapping"]) if start < last and end > first]
            behind = [own[-1] + 1] if own and own[-1] + 1 < len(coded["input_ids"]) else []
            found[field.name] = own + behind
    return coded["input_ids"], found

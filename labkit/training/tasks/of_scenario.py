"""A scenario's records as texts for an encoder: what was said, and a head for each field that is to be learned."""

from typing import TYPE_CHECKING

from labkit import records as recs
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.scenarios import Scenario
from labkit.training.recipe import Recipe
from labkit.training.tasks import texts
from labkit.training.tasks.task import Head, Prepared

if TYPE_CHECKING:
    from datasets import Dataset

_KINDS = {"label": "label", "number": "number"}


def data(recipe: Recipe, records: "Dataset", scenario: Scenario, base: BaseModel) -> Prepared:
    """The labelled records of the splits `train` and `validation`.

    Raises:
        LabError: the task is not one for a scenario's records, or a field cannot be learned by a head.
    """
    if recipe.task not in ("classify", "regress"):
        raise LabError(f"task {recipe.task!r} is not one for a scenario's records; choose chat, classify or regress")
    heads = tuple(_head(scenario, name) for name in recipe.fields or _usual(scenario, recipe.task))
    tokenizer = texts.tokenizer_of(base)
    of = lambda split: [texts.Text(record["id"], text_of(record), None, record["answer"])  # noqa: E731
                        for record in recs.rows(recs.in_split(records, split)) if record["answer"]]
    return texts.prepare(f"scenario {scenario.name}", tokenizer, heads, of("train"), of("validation"), recipe.max_tokens)


def text_of(record: recs.Record) -> str:
    """What was said, as one text; of a longer chat each message with who said it."""
    messages = record["messages"]
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _usual(scenario: Scenario, task: str) -> list[str]:
    kind = "label" if task == "classify" else "number"
    found = [field.name for field in scenario.fields if field.kind == kind]
    if not found:
        raise LabError(f"scenario {scenario.name} has no field of kind {kind!r}, which task {task!r} would learn")
    return found


def _head(scenario: Scenario, name: str) -> Head:
    field = scenario.field(name)
    if field.kind not in _KINDS:
        raise LabError(f"scenario {scenario.name}: field {name!r} is a {field.kind}, which an encoder cannot write; learn it with "
                       "task = \"chat\"")
    return Head(name, _KINDS[field.kind], tuple(field.values))

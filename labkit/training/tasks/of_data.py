"""A task's own data (`formats`: GLUE, SQuAD, CoNLL-2003, chats, the samples) as what a learner learns from, for every task.

Which task a recipe may have for which data:

| data | tasks |
|---|---|
| classify, multi_label, regress, tag, span, chat, embed | its own |
| classify of single texts | also `embed`: texts of one label are near |
| regress of pairs | also `embed`: the cosine is the similarity |
"""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training.learner import Learner
from labkit.training.recipe import Recipe
from labkit.training.tasks import embeddings, spans, tagging, texts
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.task import Head, Judged, Outputs, Part, Prepared

if TYPE_CHECKING:
    from datasets import Dataset

HEAD = "label"
_KINDS = {"classify": "label", "multi_label": "labels", "regress": "number"}
_MORE = {"classify": ("accuracy", "macro_f1"), "multi_label": (), "regress": ("mean_absolute_error",)}  # besides what the data asks for


def group(name: str) -> str:
    """The folder of the runs on this data, which is also their recipes' `scenario`: `glue-sst2` for `glue/sst2`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:64]


def fingerprint(data: TaskData) -> str:
    """The sha256 over task, labels and all rows of all splits in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256(files.canonical_json([data.task, list(data.labels)]).encode())
    for split, rows in data.splits.items():
        digest.update(f"\n{split}\n".encode())
        for row in rows:
            digest.update(files.canonical_json(row).encode())
    return digest.hexdigest()


def learner(recipe: Recipe, data: TaskData, base: BaseModel) -> tuple[Learner, dict[str, Any]]:
    """What learns from the data, and what the data is, for the manifest.

    Raises:
        LabError: the recipe's task, objective or base does not fit the data, there is nothing to learn from, or a row cannot be used.
    """
    check(recipe, data)
    described = {"name": data.name, "task": data.task, "sources": [data.source], "licenses": [data.license],
                 **{split: len(rows) for split, rows in data.splits.items()}}
    if recipe.task == "chat":
        from labkit.training.tasks import dialogues

        made = dialogues.learner(recipe, data, base)
        return made, {**described, "left_out_as_too_long": made.data.left_out}
    from labkit.training.encoders import Encoder

    made = Encoder(recipe, base, prepare(recipe, data, texts.tokenizer_of(base)))
    return made, {**described, **made.described()}


def warnings(learner: Learner) -> list[str]:
    """What a person should read before training starts: how much is cut off or left out, a line each. For any learner."""
    found = getattr(learner.data, "warnings", None)
    if found is not None:
        return list(found)
    from labkit.training.tasks import dialogues

    return [*learner.notes, *dialogues.warnings(learner.data)]


def check(recipe: Recipe, data: TaskData) -> None:
    """LabError where the recipe cannot be trained on this data."""
    also = {"classify": "text_pair" not in data.train.column_names, "regress": "text_pair" in data.train.column_names}
    if recipe.task != data.task and not (recipe.task == "embed" and also.get(data.task)):
        raise LabError(f"recipe: task is {recipe.task!r}, but {data.name} is for {data.task!r}; they must be the same")
    if recipe.fields:
        raise LabError(f"recipe: fields are those of a scenario; {data.name} has one thing to learn, so leave fields empty")
    if recipe.task == "embed":
        embeddings.check(embeddings.kind_of(data.train), recipe.objective, "negative" in data.train.column_names)
    elif recipe.objective != "cross_entropy" and recipe.task != "classify":
        raise LabError(f"recipe: objective {recipe.objective!r} is for classify and embed; task {recipe.task!r} learns by cross_entropy")
    elif recipe.objective == "info_nce":
        raise LabError("recipe: objective 'info_nce' needs texts that belong together two by two; choose supervised_contrastive for labels")


def prepare(recipe: Recipe, data: TaskData, tokenizer: Any) -> Prepared:
    """The splits to learn from and to measure on while learning, for an encoder; without a validation split nothing is measured."""
    found = heads(recipe, data)
    train = part(recipe, data, "train", tokenizer, found, learn=True)
    name = validation_of(data)
    held_out = part(recipe, data, name, tokenizer, found) if name else None
    if not train.examples:
        raise LabError("; ".join([f"{data.name}: nothing is left in the split `train` to learn from", *train.warnings[:1]]))
    return Prepared(data.name, found, train.examples, held_out.examples if held_out else [], train.ids,
                    lambda examples, outputs: held_out.score(outputs) if held_out else {},
                    train.cut + (held_out.cut if held_out else []), train.warnings + (held_out.warnings if held_out else []),
                    held_out.show if held_out else None)


def heads(recipe: Recipe, data: TaskData) -> tuple[Head, ...]:
    """What is predicted for this data; a number is scaled by the training split's."""
    if recipe.task == "embed":
        return embeddings.heads()
    if recipe.task == "tag":
        return tagging.heads(data.labels)
    if recipe.task == "span":
        return spans.heads(any(spans.has_unanswerable(rows) for rows in data.splits.values()))
    head = Head(HEAD, _KINDS[recipe.task], data.labels)
    return (texts.fitted(head, _texts(data.train, "train", head, data)),)


def part(recipe: Recipe, data: TaskData, split: str, tokenizer: Any, heads: tuple[Head, ...], learn: bool = False) -> Part:
    """A split as an encoder sees it.

    Args:
        heads: those of `heads`, or of a run that is to be measured.
        learn: whether it is to be learned from, not measured.

    Raises:
        LabError: there is no such split, it has no answers, or a row cannot be used.
    """
    if split not in data.splits:
        raise LabError(f"{data.name} has no split {split!r}, only {', '.join(data.splits)}")
    rows = data.splits[split]
    if not has_answers(recipe.task, rows):
        raise LabError(f"{data.name}: the split {split!r} was published without answers, so nothing can be measured on it; choose another")
    if recipe.task == "embed":
        return (embeddings.learned if learn else embeddings.measured)(rows, split, tokenizer, recipe.max_tokens)
    if recipe.task == "tag":
        return tagging.read(rows, split, tokenizer, heads[0], recipe.max_tokens, data.metrics)
    if recipe.task == "span":
        return spans.read(rows, split, tokenizer, heads[0], recipe.max_tokens, data.metrics, learn)
    return _text_part(recipe, data, split, tokenizer, heads[0])


def has_answers(task: str, rows: "Dataset") -> bool:
    """Whether a split has what is to be predicted."""
    wanted = {"tag": "tags", "span": "answers", "chat": "answer"}.get(task, "label")
    return wanted in rows.column_names or (task == "embed" and "positive" in rows.column_names)


def validation_of(data: TaskData) -> str | None:
    """The split to measure on while learning, of MNLI the matched one; None where there is none with answers."""
    usable = lambda name: name in data.splits and has_answers(data.task, data.splits[name])  # noqa: E731
    return next((name for name in ("validation", "validation_matched") if usable(name)), None)


def _text_part(recipe: Recipe, data: TaskData, split: str, tokenizer: Any, head: Head) -> Part:
    rows = _texts(data.splits[split], split, head, data)
    cut: list[str] = []
    examples = texts.encode(tokenizer, rows, (head,), recipe.max_tokens, cut, data.name)
    columns = data.splits[split].column_names
    languages = data.splits[split]["language"][:] if "language" in columns else None
    names = tuple(dict.fromkeys((*data.metrics, *_MORE[recipe.task])))

    def judge(outputs: Outputs) -> Judged:
        truth = [row.targets[head.name] for row in rows]
        said = [texts.value_of(head, output) for output in outputs[head.name]]
        if head.kind == "label":  # numbers: some metrics are those of label 1
            truth, said = ([head.labels.index(value) for value in values] for values in (truth, said))
        clusters = [row.id if row.second is None else row.first for row in rows]
        return Judged(recipe.task, [row.id for row in rows], truth, said, clusters, languages)

    def score(outputs: Outputs) -> dict[str, float]:
        from labkit.evaluation import task_metrics

        judged = judge(outputs)
        return task_metrics.score(judged.measure, judged.truth, judged.predicted, names)

    return Part(len(rows), examples, [row.id for row in rows], score, judge,
                lambda example, outputs: texts.show((head,), rows[example.row], outputs), cut,
                texts.cut_warnings(cut, len(rows), tokenizer, recipe.max_tokens))


def _texts(rows: "Dataset", split: str, head: Head, data: TaskData) -> list[texts.Text]:
    seconds = rows["text_pair"][:] if "text_pair" in rows.column_names else [None] * len(rows)
    found = []
    for number, (first, second, label) in enumerate(zip(rows["text"][:], seconds, rows["label"][:], strict=True), 1):
        identity = f"{split}-{number}"
        found.append(texts.Text(identity, first, second, {head.name: _named(label, head, data, identity)}))
    return found


def _named(label: Any, head: Head, data: TaskData, identity: str) -> Any:
    """A label's name, the names of several, or the number as it is."""
    if head.kind == "number":
        return label
    several = label if head.kind == "labels" else [label]
    if any(not 0 <= each < len(data.labels) for each in several):
        raise LabError(f"{data.name}, row {identity}: label {label} is none of {len(data.labels)}: {', '.join(data.labels[:8])}")
    return tuple(data.labels[each] for each in several) if head.kind == "labels" else data.labels[label]

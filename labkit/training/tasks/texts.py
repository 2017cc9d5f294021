"""Texts and pairs of texts with labels, sets of labels or numbers: what classification, regression and multi-task training learn from."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training.tasks.task import Example, Head, Outputs, Prepared, listed

if TYPE_CHECKING:
    import numpy as np

_COUNT_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their first position stands behind the padding token's number


@dataclass(frozen=True)
class Text:
    """A text, or a pair, with what is known of it: by head a label's name, a collection of names, or a number."""

    id: str
    first: str
    second: str | None = None
    targets: dict[str, Any] = field(default_factory=dict)


def prepare(name: str, tokenizer, heads: tuple[Head, ...], train: list[Text], held_out: list[Text], max_tokens: int) -> Prepared:
    """Tokenise; numbers are centred and scaled by the training texts' mean and standard deviation.

    Raises:
        LabError: nothing to train on, or a target that its head does not have (names the row's id).
    """
    if not train:
        raise LabError(f"{name}: no labelled text is in the split `train`")
    heads = tuple(fitted(head, train) for head in heads)
    cut: list[str] = []
    made = [encode(tokenizer, texts, heads, max_tokens, cut, name) for texts in (train, held_out)]
    return Prepared(name, heads, *made, [text.id for text in train], lambda examples, outputs: score(heads, examples, outputs), cut,
                    cut_warnings(cut, len(train) + len(held_out), tokenizer, max_tokens),
                    lambda example, outputs: show(heads, held_out[example.row], outputs))


def encode(tokenizer, texts: list[Text], heads: tuple[Head, ...], max_tokens: int, cut: list[str], name: str = "data") -> list[Example]:
    """The texts as examples; the ids of those longer than `max_tokens` are added to `cut` (the longer text of a pair is cut first)."""
    if not texts:
        return []
    limit = min(max_tokens, limit_of(tokenizer))
    pairs = any(text.second is not None for text in texts)
    firsts = [text.first for text in texts]
    seconds = [text.second or "" for text in texts] if pairs else None
    coded = tokenizer(firsts, seconds, truncation=False, return_token_type_ids=True, verbose=False)
    found = []
    for row, text in enumerate(texts):
        tokens, segments = coded["input_ids"][row], coded["token_type_ids"][row]
        if len(tokens) > limit:
            cut.append(text.id)
            short = tokenizer(text.first, text.second, truncation="longest_first", max_length=limit, return_token_type_ids=True)
            tokens, segments = short["input_ids"], short["token_type_ids"]
        targets = {head.name: _target(head, text.targets[head.name], name, text.id) for head in heads
                   if text.targets.get(head.name) is not None}
        found.append(Example(tuple(tokens), tuple(segments), targets, row))
    return found


def cut_warnings(cut: list[str], rows: int, tokenizer, max_tokens: int) -> list[str]:
    """The line that says which of so many rows lose the end of their text, where there are any."""
    if not cut:
        return []
    limit = min(max_tokens, limit_of(tokenizer))
    helps = "raise max_tokens" if limit == max_tokens and limit < limit_of(tokenizer) else "the base model takes no more"
    return [f"{len(cut):,} of {rows:,} texts are longer than {limit} tokens and lose their end ({listed(cut)}); {helps}"]


def limit_of(tokenizer) -> int:
    """The most tokens that the encoder takes; tokenizers without a limit say a huge number (see `tokenizer_of`)."""
    return tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else 10**6


def tokenizer_of(base: BaseModel) -> Any:
    """The base model's tokenizer, whose limit is that of the model's positions where the tokenizer itself has none or a higher one."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer, config = AutoTokenizer.from_pretrained(base.folder), AutoConfig.from_pretrained(base.folder)
    places = getattr(config, "max_position_embeddings", None) or 10**6
    if config.model_type in _COUNT_FROM_PADDING:
        places -= config.pad_token_id + 1
    tokenizer.model_max_length = min(tokenizer.model_max_length, places)
    return tokenizer


def fitted(head: Head, train: list[Text]) -> Head:
    """A number's head with the mean and the standard deviation of the training texts' numbers; other heads as they are."""
    import dataclasses
    import statistics

    if head.kind != "number":
        return head
    known = [text.targets[head.name] for text in train if text.targets.get(head.name) is not None]
    if not known:
        raise LabError(f"no training text has a number for {head.name}")
    return dataclasses.replace(head, centre=statistics.fmean(known), scale=statistics.pstdev(known) or 1.0)


def _target(head: Head, value: Any, name: str, identity: str) -> Any:
    try:
        if head.kind == "number":
            return (float(value) - head.centre) / head.scale
        if head.kind == "labels":
            chosen = {head.labels.index(each) for each in value}
            return tuple(1.0 if place in chosen else 0.0 for place in range(head.outputs))
        return head.labels.index(value)
    except (ValueError, TypeError):
        known = ", ".join(head.labels[:8]) or "numbers"
        raise LabError(f"{name}, row {identity}: {head.name} cannot be {value!r}; it has {known}") from None


def value_of(head: Head, output: "np.ndarray") -> Any:
    """What a head's outputs (outputs,) say: a label's name, the tuple of names with a probability of at least a half, or a number."""
    if head.kind == "number":
        return float(output[0]) * head.scale + head.centre
    if head.kind == "labels":
        return tuple(label for label, score in zip(head.labels, output, strict=True) if score >= 0)
    return head.labels[int(output.argmax())]


def score(heads: Iterable[Head], examples: list[Example], outputs: Outputs) -> dict[str, float]:
    """Metrics of each head, prefixed with its name where there are several, and then `mean`, the mean macro-F1 of the heads with labels."""
    heads = [head for head in heads if head.outputs]
    found: dict[str, float] = {}
    for head in heads:
        known = [place for place, example in enumerate(examples) if head.name in example.targets]
        if not known:
            continue
        own = _scores(head, [examples[place].targets[head.name] for place in known], [outputs[head.name][place] for place in known])
        found |= {f"{head.name}.{key}" if len(heads) > 1 else key: value for key, value in own.items()}
    macro = [value for key, value in found.items() if key.endswith(".macro_f1")]
    return found | ({"mean": sum(macro) / len(macro)} if macro else {})


def _scores(head: Head, truth: list[Any], outputs: "list[np.ndarray]") -> dict[str, float]:
    import numpy as np

    if head.kind == "number":
        gap = [abs(float(output[0]) - wanted) * head.scale for output, wanted in zip(outputs, truth, strict=True)]
        return {"mean_absolute_error": float(np.mean(gap))}
    from sklearn.metrics import f1_score

    if head.kind == "labels":
        wanted, said = np.array(truth), np.stack(outputs) >= 0
        return {"micro_f1": float(f1_score(wanted, said, average="micro", zero_division=0)),
                "macro_f1": float(f1_score(wanted, said, average="macro", zero_division=0)),
                "exact_match": float((wanted == said).all(1).mean())}
    said = [int(output.argmax()) for output in outputs]
    return {"accuracy": sum(a == b for a, b in zip(said, truth, strict=True)) / len(truth),
            "macro_f1": float(f1_score(truth, said, average="macro", labels=sorted(set(truth)), zero_division=0))}


def show(heads: tuple[Head, ...], text: Text, outputs: "dict[str, np.ndarray]") -> dict[str, str]:
    """A text, what the heads say of it, and what is right, for a person to read."""
    say = lambda values: "; ".join(f"{name}: {value}" for name, value in values.items())  # noqa: E731
    prompt = text.first if text.second is None else f"{text.first}\n{text.second}"
    return {"prompt": prompt, "answer": say({head.name: value_of(head, outputs[head.name]) for head in heads if head.outputs}),
            "wanted": say({head.name: text.targets.get(head.name, "?") for head in heads if head.outputs})}


def label_counts(examples: list[Example], head: Head) -> list[int]:
    """How many examples have each label of a head."""
    counted = Counter(example.targets[head.name] for example in examples if head.name in example.targets)
    return [counted[place] for place in range(head.outputs)]

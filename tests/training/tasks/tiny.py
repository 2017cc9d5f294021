"""A tiny random BERT with the embedded encoder's tokenizer, and small data for every task."""

import functools

import torch
from datasets import Dataset, Features, List, Value

from labkit import models
from labkit.training.recipe import Recipe
from labkit.training.tasks.formats import TaskData

WORDS = ["red", "blue", "round", "old", "small", "bright", "quiet", "heavy", "green", "warm", "sharp", "long"]
PEOPLE, TOWNS = ["Ada", "Grace", "Alan", "Emmy"], ["Paris", "Oslo", "Rome", "Lima"]


def save_tiny_bert(folder, **settings) -> str:
    """Save a random BERT of 2 layers, 32 wide, float32; returns the folder as text."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(models.resolve("minilm-l6").folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": len(tokenizer),
             "max_position_embeddings": 512}
    torch.manual_seed(0)
    BertModel(BertConfig(**{**sizes, **settings})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _sentence(number: int, length: int = 4) -> str:
    return " ".join(WORDS[(number * 5 + place * (number % 3 + 1)) % len(WORDS)] for place in range(length + number % 5))


def _rows(task: str, count: int, offset: int) -> Dataset:
    numbers = range(offset, offset + count)
    text, whole, real = Value("string"), Value("int64"), Value("float64")
    if task == "classify":
        return Dataset.from_dict({"text": [f"{'apple' if n % 3 else 'stone'} {_sentence(n)}" for n in numbers],
                                  "label": [int(n % 3 > 0) for n in numbers]},
                                 Features({"text": text, "label": whole}))
    if task == "pairs":
        return Dataset.from_dict({"text": [_sentence(n) for n in numbers], "text_pair": [_sentence(n + n % 2) for n in numbers],
                                  "label": [n % 2 for n in numbers]}, Features({"text": text, "text_pair": text, "label": whole}))
    if task == "multi_label":
        return Dataset.from_dict({"text": [("wet " if n % 2 else "") + ("dark " if n % 3 else "") + _sentence(n) for n in numbers],
                                  "label": [[*([0] if n % 2 else []), *([1] if n % 3 else [])] for n in numbers]},
                                 Features({"text": text, "label": List(whole)}))
    if task in ("regress", "similarity"):
        rows = {"text": [_sentence(n) for n in numbers], "label": [float(n % 6) for n in numbers]}
        kinds = {"text": text, "label": real}
        if task == "similarity":
            rows, kinds = rows | {"text_pair": [_sentence(n + n % 6) for n in numbers]}, kinds | {"text_pair": text}
        return Dataset.from_dict(rows, Features(kinds))
    if task == "tag":
        made = [_tagged(n) for n in numbers]
        return Dataset.from_dict({"tokens": [words for words, _ in made], "tags": [tags for _, tags in made],
                                  "document": [n // 3 for n in numbers]},
                                 Features({"tokens": List(text), "tags": List(whole), "document": Value("int32")}))
    if task == "span":
        made = [_asked(n) for n in numbers]
        return Dataset.from_list(made, Features({"id": text, "title": text, "question": text, "context": text,
                                                 "answers": {"text": List(text), "answer_start": List(Value("int32"))}}))
    if task == "embed":
        return Dataset.from_dict({"anchor": [f"{WORDS[n % 12]} {PEOPLE[n % 4]} {n}" for n in numbers],
                                  "positive": [f"{WORDS[n % 12]} thing {n}" for n in numbers],
                                  "negative": [_sentence(n + 1) for n in numbers]},
                                 Features(dict.fromkeys(("anchor", "positive", "negative"), text)))
    return Dataset.from_dict({"id": [f"c{n}" for n in numbers],
                              "messages": [[{"role": "user", "content": f"Say {WORDS[n % 12]}."}] for n in numbers],
                              "answer": [WORDS[n % 12] for n in numbers], "language": ["en"] * count},
                             Features({"id": text, "messages": List({"role": text, "content": text}), "answer": text, "language": text}))


def _tagged(number: int) -> tuple[list[str], list[int]]:
    person, town = PEOPLE[number % 4], TOWNS[number % 3]
    words, tags = [person, "went", "to", town], [1, 0, 0, 3]
    if number % 2:
        words, tags = ["Then", person, "Byron", "left", town, *WORDS[: number % 5]], [0, 1, 2, 0, 3, *[0] * (number % 5)]
    return words, tags


def _asked(number: int) -> dict:
    person, town = PEOPLE[number % 4], TOWNS[number % 3]
    context = f"{_sentence(number, 6)}. {person} lives in {town}. {_sentence(number + 1, 9)}."
    asked = {"id": f"q{number}", "title": "t", "context": context}
    if number % 4 == 3:
        return {**asked, "question": f"How old is {person}?", "answers": {"text": [], "answer_start": []}}
    start = context.index(town, context.index("lives"))
    return {**asked, "question": f"Where does {person} live?", "answers": {"text": [town], "answer_start": [start]}}


LABELS = {"classify": ("stone", "apple"), "pairs": ("no", "yes"), "multi_label": ("wet", "dark"),
          "tag": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")}
METRICS = {"classify": ("accuracy",), "pairs": ("f1", "accuracy"), "multi_label": ("micro_f1",), "regress": ("pearson",),
           "similarity": ("pearson", "spearman"), "tag": ("entity_f1",), "span": ("f1", "exact_match"), "embed": ("recall_at_1",),
           "chat": ("exact_match",)}
TASKS = {"classify": "classify", "pairs": "classify", "multi_label": "multi_label", "regress": "regress", "similarity": "regress",
         "tag": "tag", "span": "span", "embed": "embed", "chat": "chat"}


@functools.cache
def data(kind: str, train: int = 8) -> TaskData:
    """Small data of a kind (`TASKS`): 8 rows to train on, 6 to validate, 6 to test."""
    splits = {"train": _rows(kind, train, 0), "validation": _rows(kind, 6, train), "test": _rows(kind, 6, train + 6)}
    return TaskData(kind, TASKS[kind], splits, LABELS.get(kind, ()), METRICS[kind], "test", "CC0-1.0")


def recipe(base: str, kind: str, **changes) -> Recipe:
    """A recipe for a kind of data in which every step sees all eight rows, and nothing is random but the heads' beginning."""
    return Recipe(**{"scenario": kind, "base": base, "task": TASKS[kind], "method": "full", "layers": 0, "lora_plus": 1.0,
                     "token_drop": 0.0, "precision": "fp32", "batch_size": 8, "epochs": 2, "rank": 2, "alpha": 4, "learning_rate": 2e-3,
                     "checkpoint_steps": 50, "objective": "info_nce" if kind == "embed" else "cross_entropy", **changes})

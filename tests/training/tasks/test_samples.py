"""The samples that come with the lab: whole, as large as their card says, and without leaks between the splits."""

import filecmp
import itertools
import re
import subprocess
import sys

import pytest

from labkit import places
from labkit.training.tasks import formats

NAMES = [entry.name for entry in formats.catalogue() if entry.name.startswith("samples/")]
LEAST = {"sentiment": 200, "entailment": 120, "similarity": 120, "risk_factors": 150, "names": 150, "names_zh": 80, "questions": 120,
         "reading": 80, "summaries": 60, "translation": 150, "dialogue": 60, "retellings": 150}


def folder():
    return places.samples_folder() / "tasks"


@pytest.fixture(scope="module")
def loaded():
    return {name: formats.load(name) for name in NAMES}


def test_the_same_parts_make_the_same_bytes(tmp_path):
    subprocess.run([sys.executable, folder() / "make.py", "--out", tmp_path], check=True, capture_output=True)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) > 30
    assert [path for path in made if not filecmp.cmp(tmp_path / path, folder() / path, shallow=False)] == []


def test_there_are_as_many_rows_as_the_card_says_and_enough(loaded):
    card = (folder() / "README.md").read_text(encoding="utf-8")
    for name, data in loaded.items():
        said = re.search(rf"\| `{name.removeprefix('samples/')}` \|[^|]*\|[^|]*\|[^|]*\| ([^|]*) \|", card)[1]
        counts = [len(rows) for rows in data.splits.values()]
        if name == "samples/dialogue":  # a dialogue of four turns is two chats
            counts = [count // 2 for count in counts]
        assert [int(number) for number in re.findall(r"\d+", said)] == counts, name
        assert sum(counts) >= LEAST.get(name.removeprefix("samples/"), 0), name


def test_every_sample_has_titles_a_task_and_metrics(loaded):
    for entry in formats.catalogue():
        assert entry.task in formats.TASKS and entry.titles["en"] and entry.titles["zh"]
    for entry in formats.catalogue()[: len(NAMES)]:
        data = loaded[entry.name]
        assert data.task == entry.task and data.license == "CC0-1.0" and data.name == entry.name


def test_metrics_are_ones_that_exist(loaded):
    from labkit.evaluation.task_metrics import METRICS
    from labkit.training.tasks.formats import chats, glue

    for data in [*loaded.values(), *glue.TASKS.values()]:
        assert set(data.metrics) <= set(METRICS[data.task]), data
    for names in chats.METRICS.values():
        assert set(names) <= set(METRICS["chat"])


def test_every_label_occurs_in_training(loaded):
    for name, data in loaded.items():
        if data.labels and "label" in data.train.column_names:
            column = data.train["label"][:]
            seen = set(itertools.chain.from_iterable(column)) if data.task == "multi_label" else set(column)
            assert seen == set(range(len(data.labels))), name


def grams(text):
    text = re.sub(r"\W+", " ", text.lower())
    units = text.split() if re.search("[a-z]", text) else list(text.replace(" ", ""))
    return {tuple(units[start : start + 5]) for start in range(max(1, len(units) - 4))}


COLUMNS = {"entailment": "text", "similarity": "text", "names": "tokens", "names_zh": "tokens", "questions": "context",
           "questions_zh": "context", "translation": "answer", "dialogue": "answer", "summaries": "answer", "sentiment": "text",
           "sentiment_zh": "text"}


@pytest.mark.parametrize("name", COLUMNS)
def test_no_held_out_text_is_nearly_one_of_training(name, loaded):
    data = loaded[f"samples/{name}"]
    texts = {split: {" ".join(value) if isinstance(value, list) else value for value in rows[COLUMNS[name]][:]}
             for split, rows in data.splits.items()}
    train = [(text, grams(text)) for text in texts.pop("train")]
    close = [(one, other) for split in texts.values() for one in split for other, others in train
             if len(grams(one) & others) >= 0.5 * len(grams(one) | others)]
    assert close == []


def test_long_contexts_are_longer_than_an_encoder_takes(loaded):
    from transformers import AutoTokenizer

    from labkit import models

    tokenizer = AutoTokenizer.from_pretrained(models.resolve("minilm-l6").folder)
    for split, rows in loaded["samples/questions"].splits.items():
        lengths = [len(tokenizer(context, truncation=False, verbose=False)["input_ids"]) for context in set(rows["context"][:])]
        assert sum(length > 512 for length in lengths) >= 1, split
        assert sum(not answers["text"] for answers in rows["answers"][:]) >= 5, split

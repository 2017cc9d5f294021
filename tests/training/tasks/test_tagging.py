"""Words with tags: from sentences of any length to tags for each word, and what is said of words that are lost."""

import dataclasses

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

from labkit import models
from labkit.errors import LabError
from labkit.training.tasks import tagging, texts
from tests.training.tasks import tiny

LABELS = tiny.LABELS["tag"]
FEATURES = Features({"tokens": List(Value("string")), "tags": List(Value("int64"))})


@pytest.fixture(scope="module")
def tokenizer():
    return texts.tokenizer_of(models.resolve("minilm-l6"))


def part_of(tokenizer, sentences, tags, max_tokens=256, labels=LABELS):
    rows = Dataset.from_dict({"tokens": sentences, "tags": tags}, FEATURES)
    return tagging.read(rows, "test", tokenizer, tagging.heads(labels)[0], max_tokens, ("entity_f1", "accuracy"))


def oracle(part, labels=LABELS):
    """Outputs that give every token that counts its own label, and any other token one that is wrong."""
    found = []
    for example in part.examples:
        scores = np.zeros((len(example.tokens), len(labels)), dtype=np.float32)
        for place, tag in enumerate(example.targets["tags"]):
            scores[place, tag if tag != -100 else 1] = 5.0
        found.append(scores)
    return {"tags": found}


@pytest.mark.parametrize("max_tokens", [12, 20, 256])
def test_the_right_outputs_give_the_right_tags_whatever_the_windows(tokenizer, max_tokens):
    long = (["Ada", "Byron", "unquestionably", "visited", "Paris"] * 8, [1, 2, 0, 0, 3] * 8)
    part = part_of(tokenizer, [long[0], ["Oslo", "sleeps"]], [long[1], [3, 0]], max_tokens)
    judged = part.judge(oracle(part))
    assert judged.predicted == judged.truth == [[LABELS[tag] for tag in long[1]], ["B-LOC", "O"]]
    assert part.score(oracle(part)) == {"entity_f1": 1.0, "accuracy": 1.0}
    assert (len(part.examples) > 2) == (max_tokens < 256) and max(len(example.tokens) for example in part.examples) <= max_tokens
    counted = sum(tag != -100 for example in part.examples for tag in example.targets["tags"])
    assert counted == 42  # each word counts once for the loss, however many windows hold it


def test_what_is_shown_are_the_entities_of_a_sentence(tokenizer):
    part = part_of(tokenizer, [["Then", "Ada", "Byron", "left", "Rome"]], [[0, 1, 2, 0, 3]])
    said = oracle(part)["tags"][0]
    assert part.show(part.examples[0], {"tags": said}) == {"prompt": "Then Ada Byron left Rome", "answer": "PER: Ada Byron; LOC: Rome",
                                                           "wanted": "PER: Ada Byron; LOC: Rome"}
    assert part.show(part.examples[0], {"tags": np.zeros_like(said)})["answer"] == "–"


def test_words_that_the_tokenizer_does_not_know_are_told(tokenizer):
    part = part_of(tokenizer, [["Ada", "\U0001f3d3\U0001f3d3"], ["Rome"]], [[1, 0], [3]])
    assert part.warnings == ["1 words in test are unknown to the base model's tokenizer and look all the same to it (test-1); "
                             "choose a base for this language"]


def test_a_row_without_words_or_with_other_tags_is_refused_by_name(tokenizer):
    for sentences, tags, match in (([["a"], []], [[0], []], "row test-2 has no words"), ([["a", "b"]], [[0]], "2 words and 1 tags"),
                                   ([["a"]], [[9]], "none of O, B-PER")):
        with pytest.raises(LabError, match=match):
            part_of(tokenizer, sentences, tags)


def test_a_split_without_tags_has_no_targets(tokenizer):
    rows = Dataset.from_dict({"tokens": [["Ada"]]}, Features({"tokens": List(Value("string"))}))
    part = tagging.read(rows, "test", tokenizer, tagging.heads(LABELS)[0], 64, ("entity_f1",))
    assert [example.targets for example in part.examples] == [{}]


def test_sentences_of_a_document_are_drawn_together(tokenizer):
    part = tagging.read(tiny.data("tag").train, "train", tokenizer, dataclasses.replace(tagging.heads(LABELS)[0]), 64, ("entity_f1",))
    assert part.judge(oracle(part)).clusters == [f"document {row // 3}" for row in range(8)]

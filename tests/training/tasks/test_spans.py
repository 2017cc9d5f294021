"""Questions with their answer in a text: from windows to one answer each, and what is left out or cut off."""

import numpy as np
import pytest
from datasets import Dataset

from labkit import models
from labkit.training.tasks import spans, texts
from tests.training.tasks import tiny


@pytest.fixture(scope="module")
def tokenizer():
    return texts.tokenizer_of(models.resolve("minilm-l6"))


def rows_of(*asked):
    features = tiny.data("span").train.features
    return Dataset.from_list([{"id": f"q{number}", "title": "t", "question": question, "context": context,
                               "answers": {"text": [answer] if answer else [], "answer_start": [context.index(answer)] if answer else []}}
                              for number, (question, context, answer) in enumerate(asked)], features=features)


def read(rows, tokenizer, max_tokens=64, learn=False):
    head = spans.heads(spans.has_unanswerable(rows))[0]
    return spans.read(rows, "validation", tokenizer, head, max_tokens, ("f1", "exact_match"), learn), head


def oracle(part):
    found = []
    for example in part.examples:
        scores = np.zeros((len(example.tokens), 2), dtype=np.float32)
        start, end = example.targets["answer"]
        scores[start, 0] = scores[end, 1] = 8.0
        found.append(scores)
    return {"answer": found}


FILLER = " ".join(f"Day {number} was quiet." for number in range(40))


@pytest.mark.parametrize("max_tokens", [48, 64, 384])
def test_the_right_outputs_give_the_right_answers_whatever_the_windows(tokenizer, max_tokens):
    rows = rows_of(("Where does Ada live?", f"{FILLER} Ada lives in Rome. {FILLER}", "Rome"),
                   ("Where is Alan?", "Alan went to Oslo.", "Oslo"), ("How old is Alan?", "Alan went to Oslo.", ""))
    part, _ = read(rows, tokenizer, max_tokens)
    judged = part.judge(oracle(part))
    assert judged.predicted == ["Rome", "Oslo", ""] and judged.truth == [["Rome"], ["Oslo"], []]
    assert part.score(oracle(part)) == {"f1": 1.0, "exact_match": 1.0, "has_answer_f1": 1.0, "no_answer_accuracy": 1.0}
    assert max(len(example.tokens) for example in part.examples) <= max_tokens
    assert len(part.examples) > 3  # the first text is longer than any window


def test_questions_that_all_have_answers_are_never_left_unanswered(tokenizer):
    part, head = read(rows_of(("Where is Alan?", "Alan went to Oslo.", "Oslo")), tokenizer)
    assert not spans.allows_none(head)
    nothing = {"answer": [np.eye(len(example.tokens), 1) * [[9.0, 9.0]] for example in part.examples]}  # all say [CLS]
    assert part.judge(nothing).predicted[0] != ""


def test_an_answer_in_no_window_is_not_taught_as_no_answer_but_left_out_and_told(tokenizer):
    long = "Ada " + "very " * 60 + "late"
    rows = rows_of(("What?", f"It was {long}.", long), ("Where is Alan?", "Alan went to Oslo.", "Oslo"))
    part, _ = read(rows, tokenizer, 48, learn=True)
    assert {example.row for example in part.examples} == {1}
    assert part.warnings == ["1 of 2 answers in validation are in no window as a whole and are left out (q0); raise max_tokens"]
    measured, _ = read(rows, tokenizer, 48)
    assert {example.row for example in measured.examples} == {0, 1} and "cannot be found" in measured.warnings[0] and measured.cut == ["q0"]


def test_a_question_that_is_cut_is_told(tokenizer):
    part, _ = read(rows_of(("Where " + "really " * 40 + "is Alan?", "Alan went to Oslo.", "Oslo")), tokenizer, 64)
    assert part.cut == ["q0"] and "1 of 1 questions in validation are too long and lose their end (q0)" in part.warnings[0]


def test_a_chinese_answer_is_measured_by_characters(tokenizer):
    part, _ = read(rows_of(("艾达住在哪里？", "艾达住在北京市。", "北京市")), tokenizer)
    judged = part.judge(oracle(part))
    assert judged.languages == ["zh"]


def test_what_is_shown_is_what_the_window_says(tokenizer):
    part, _ = read(rows_of(("Where is Alan?", "Alan went to Oslo.", "Oslo"), ("How old is Alan?", "Alan went to Oslo.", "")), tokenizer)
    said = oracle(part)["answer"]
    assert part.show(part.examples[0], {"answer": said[0]}) == {"prompt": "Where is Alan?", "answer": "Oslo", "wanted": "Oslo"}
    assert part.show(part.examples[1], {"answer": said[1]}) == {"prompt": "How old is Alan?", "answer": "–", "wanted": "–"}


def test_questions_about_one_text_are_drawn_together(tokenizer):
    part, _ = read(rows_of(("Where is Alan?", "Alan went to Oslo.", "Oslo"), ("Who went?", "Alan went to Oslo.", "Alan")), tokenizer)
    assert len(set(part.judge(oracle(part)).clusters)) == 1

"""Chat tasks and this lab's own JSON lines."""

import json

import pytest

from labkit.errors import LabError
from labkit.training.tasks import formats
from labkit.training.tasks.formats import chats
from labkit.training.tasks.formats.reading import Broken


def put(folder, *rows, name="train.jsonl"):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def one(kind, line):
    return list(chats.chats(kind, line, "x-1"))


def test_a_summary_is_asked_for_in_the_lines_language():
    english = one("summarisation", {"document": "D", "summary": "S"})
    chinese = one("summarisation", {"document": "D", "summary": "S", "language": "zh"})
    assert english == [{"id": "x-1", "messages": [{"role": "user", "content": "Summarise the following text in one sentence.\n\nD"}],
                        "answer": "S", "language": "en"}]
    assert "概括" in chinese[0]["messages"][0]["content"] and chinese[0]["language"] == "zh"


def test_a_translation_is_asked_for_in_its_sources_language():
    line = {"source": "Hello.", "target": "你好。", "source_language": "en", "target_language": "zh"}
    made = one("translation", line)
    assert made[0]["messages"][0]["content"] == "Translate the following text from English to Chinese.\n\nHello."
    assert made[0]["answer"] == "你好。" and made[0]["language"] == "zh"
    assert one("translation", {"translation": {"en": "Hello.", "zh": "你好。"}}) == made


def test_braces_in_a_text_are_no_gaps_to_fill():
    assert one("summarisation", {"document": "{x} {document}", "summary": "S"})[0]["messages"][0]["content"].endswith("{x} {document}")


def test_a_question_without_a_context_is_asked_as_it_is():
    assert one("question_answering", {"question": "Why?", "answer": "So."})[0]["messages"][0]["content"] == "Why?"
    assert "T" in one("question_answering", {"question": "Why?", "answer": "So.", "context": "T"})[0]["messages"][0]["content"]


def test_each_turn_of_the_assistant_becomes_a_chat():
    turns = [{"role": ("user", "assistant")[place % 2], "content": str(place)} for place in range(4)]
    made = one("dialogue", {"messages": turns, "id": "d"})
    assert [(row["id"], row["messages"], row["answer"]) for row in made] == [("d-1", turns[:1], "1"), ("d-2", turns[:3], "3")]


@pytest.mark.parametrize("kind, line, why", [
    ("summarisation", {"document": "D"}, "'summary' must be a text"),
    ("summarisation", {"document": " ", "summary": "S"}, "'document' must be"),
    ("summarisation", {"document": "D", "summary": "S", "language": "fr"}, "one of en, zh, not 'fr'"),
    ("translation", {"source": "A", "target": "B", "source_language": "en", "target_language": "en"}, "are both 'en'"),
    ("translation", {"translation": {"en": "A"}}, "two languages"), ("dialogue", {"messages": []}, "at least two"),
    ("dialogue", {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}, "message 1 must have"),
    ("dialogue", {"messages": [{"role": r, "content": "a"} for r in ("user", "assistant", "user")]},
     "last message must be the assistant's"),
])
def test_what_is_wrong_with_a_line_is_said(kind, line, why):
    with pytest.raises(Broken, match=why):
        one(kind, line)


def test_a_broken_line_is_refused_with_its_place_or_left_out_and_listed(tmp_path):
    put(tmp_path, {"document": "D", "summary": "S"}, "", "{", '"text"', {"document": "D"}, {"document": "E", "summary": "T"})
    with pytest.raises(LabError, match=r"train.jsonl, line 3: not JSON"):
        formats.load("chats/summarisation", tmp_path)
    data = formats.load("chats/summarisation", tmp_path, leave_out_broken=True)
    assert data.train["answer"][:] == ["S", "T"] and [place.split(":")[0].split()[-1] for place in data.left_out] == ["3", "4", "5"]


def test_an_id_must_not_come_twice(tmp_path):
    put(tmp_path, {"id": 1, "document": "D", "summary": "S"}, {"id": 1, "document": "E", "summary": "T"})
    with pytest.raises(LabError, match="line 2: the id '1' is that of line 1 too"):
        formats.load("chats/summarisation", tmp_path)


def test_labels_are_numbered_in_the_alphabets_order(tmp_path):
    put(tmp_path, {"text": "a", "labels": ["late", "broken"]}, {"text": "b", "labels": []})
    put(tmp_path, {"text": "c", "labels": ["cheap"]}, name="dev.jsonl")
    data = formats.load("multi_label", tmp_path)
    assert data.labels == ("broken", "cheap", "late") and data.train["label"][:] == [[0, 2], []] and data.validation["label"][:] == [[1]]


@pytest.mark.parametrize("line, why", [({"text": "a", "labels": "late"}, "list of names"),
                                       ({"text": "a", "labels": ["x", "x"]}, "comes twice"), ({"labels": ["x"]}, "'text' must be")])
def test_a_malformed_multi_label_line_is_named(line, why, tmp_path):
    put(tmp_path, line)
    with pytest.raises(LabError, match=f"line 1: .*{why}"):
        formats.load("multi_label", tmp_path)


def test_embeddings_learn_from_pairs_triples_or_labels_but_not_a_mixture(tmp_path):
    put(tmp_path, {"anchor": "a", "positive": "b"})
    assert formats.load("embed", tmp_path).train.column_names == ["anchor", "positive"]
    put(tmp_path, {"text": "a", "label": "y"}, {"text": "b", "label": "x"})
    assert formats.load("embed", tmp_path).train["label"][:] == [1, 0]
    put(tmp_path, {"anchor": "a", "positive": "b"}, {"anchor": "a", "positive": "b", "negative": "c"})
    with pytest.raises(LabError, match="same keys"):
        formats.load("embed", tmp_path)


def test_an_unknown_name_lists_what_there_is(tmp_path):
    with pytest.raises(LabError, match="samples/sentiment.*glue/cola.*chats/dialogue"):
        formats.load("imdb")
    with pytest.raises(LabError, match="no sample is called"):
        formats.load("samples/nothing")
    with pytest.raises(LabError, match="none of train, validation"):
        formats.load("chats/dialogue", tmp_path)

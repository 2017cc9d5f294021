"""SQuAD's files: every answer stands where the file says, in both versions."""

import json

import pytest

from labkit.errors import LabError
from labkit.training.tasks import formats
from labkit.training.tasks.formats import squad

CONTEXT = "北京 is the capital. The capital is old."


def question(**changes):
    return {"question": "Which city?", "id": "q1", "answers": [{"text": "北京", "answer_start": 0}], **changes}


def put(folder, *questions, name="train-v2.0.json", context=CONTEXT):
    folder.mkdir(exist_ok=True)
    content = {"version": "v2.0", "data": [{"title": "Cities", "paragraphs": [{"context": context, "qas": list(questions)}]}]}
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_questions_come_with_their_context_and_answers(tmp_path):
    put(tmp_path, question(), question(id="q2", answers=[], is_impossible=True, plausible_answers=[{"text": "old", "answer_start": 36}]))
    data = formats.load("squad_v2", tmp_path)
    assert data.train[0] == {"id": "q1", "title": "Cities", "question": "Which city?", "context": CONTEXT,
                             "answers": {"text": ["北京"], "answer_start": [0]}}
    assert data.train[1]["answers"] == {"text": [], "answer_start": []}


def test_several_answers_are_kept_and_both_versions_files_found(tmp_path):
    twice = [{"text": "capital", "answer_start": 10}, {"text": "capital", "answer_start": 23}]
    put(tmp_path, question(answers=twice), name="dev-v1.1.json", context="xx is the capital. The capital is old.")
    assert formats.load("squad", tmp_path).validation[0]["answers"] == {"text": ["capital"] * 2, "answer_start": [10, 23]}


@pytest.mark.parametrize("changes, why", [
    ({"answers": [{"text": "北京", "answer_start": 1}]}, "'北京' is not at character 1, .* it stands at 0"),
    ({"answers": [{"text": "Paris", "answer_start": 0}]}, "'Paris' is not at character 0, where '北京 is' stands$"),
    ({"answers": [{"text": "", "answer_start": 0}]}, "the answer '' is not"),
    ({"answers": [{"text": "京", "answer_start": -38}]}, "not at character -38"),
    ({"answers": [{"text": "北京", "answer_start": "0"}]}, "'answer_start' must be a whole number"),
    ({"answers": []}, "no answer; a question without one needs is_impossible"),
    ({"is_impossible": True}, "is_impossible is true, yet there are answers"),
    ({"question": None}, "'question' must be a text"),
])
def test_a_malformed_question_is_named_with_article_paragraph_and_id(changes, why, tmp_path):
    put(tmp_path, question(**changes))
    with pytest.raises(LabError, match=rf"train-v2.0.json, article 1 \(Cities\), paragraph 1, question q1: .*{why}"):
        formats.load("squad_v2", tmp_path)


def test_version_1_has_no_question_without_an_answer(tmp_path):
    put(tmp_path, question(answers=[], is_impossible=True), name="train-v1.1.json")
    with pytest.raises(LabError, match="load it as squad_v2"):
        formats.load("squad", tmp_path)


def test_an_id_must_not_come_twice(tmp_path):
    put(tmp_path, question(), question(question="Again?"))
    with pytest.raises(LabError, match="'q1' comes twice"):
        formats.load("squad_v2", tmp_path)


@pytest.mark.parametrize("text, why", [("[]", "needs a list"), ("{", "not valid JSON"), ('{"data": []}', "has no questions"),
                                       ('{"data": [3]}', "article 1: 'title' must be")])
def test_other_json_is_refused(text, why, tmp_path):
    (tmp_path / "train-v2.0.json").write_text(text)
    with pytest.raises(LabError, match=why):
        formats.load("squad_v2", tmp_path)


def test_predictions_are_written_as_the_evaluation_script_reads_them(tmp_path):
    squad.write_predictions(tmp_path / "predictions.json", {"q1": "北京", "q2": ""}, {"q1": -3.5, "q2": 2.0})
    assert json.loads((tmp_path / "predictions.json").read_text()) == {"q1": "北京", "q2": ""}
    assert json.loads((tmp_path / "predictions-na-prob.json").read_text()) == {"q1": -3.5, "q2": 2.0}
    with pytest.raises(LabError, match="do not match"):
        squad.write_predictions(tmp_path / "predictions.json", {"q1": ""}, {})

"""SQuAD 1.1 (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250) and 2.0 (2018, https://arxiv.org/abs/1806.03822): JSON of articles,
their paragraphs, and the paragraphs' questions; answers are texts with the character of the paragraph where they begin.

Every answer is checked to stand where the file says. In 2.0 a question with `is_impossible` has no answer in its paragraph.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.formats.reading import find, from_hub

if TYPE_CHECKING:
    from datasets import Dataset, Features

VERSIONS = {"squad": "v1.1", "squad_v2": "v2.0"}
_HUB = {"squad": "rajpurkar/squad", "squad_v2": "rajpurkar/squad_v2"}
METRICS = ("f1", "exact_match")
_LICENSE = "CC-BY-SA-4.0"


def load(name: str, folder: Path | None = None) -> TaskData:
    """`squad` (1.1) or `squad_v2` (2.0) from `train-v1.1.json` and `dev-v1.1.json` (or v2.0; or without the version) or from the hub.

    Raises:
        LabError: no file is there, or one is malformed (names file, article, paragraph and question).
    """
    version = VERSIONS[name]
    if folder is None:
        splits = {split: rows.select_columns(list(features())).cast(features()) for split, rows in from_hub(_HUB[name]).items()}
        return TaskData(name, "span", splits, (), METRICS, f"the hub, {_HUB[name]}", _LICENSE)
    found = {split: find(folder, *(f"{stem}{ending}.json" for stem in stems for ending in (f"-{version}", "")))
             for split, stems in {"train": ("train",), "validation": ("dev", "validation"), "test": ("test",)}.items()}
    splits = {split: read(path, unanswerable=name == "squad_v2") for split, path in found.items() if path is not None}
    if not splits:
        raise LabError(f"{folder} has neither train-{version}.json nor dev-{version}.json")
    return TaskData(name, "span", splits, (), METRICS, str(folder), _LICENSE)


def features() -> "Features":
    """The columns."""
    from datasets import Features, List, Value

    text = Value("string")
    return Features({"id": text, "title": text, "question": text, "context": text,
                     "answers": {"text": List(text), "answer_start": List(Value("int32"))}})


def read(path: Path, unanswerable: bool = True) -> "Dataset":
    """The questions of one file in their order.

    Args:
        unanswerable: whether a question may have no answer (2.0).

    Raises:
        LabError: the file is not SQuAD's JSON, an answer does not stand where it says, or an id comes twice.
    """
    from datasets import Dataset

    content = files.read_json(path)
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list):
        raise LabError(f"{path}: the outermost object needs a list \"data\" of articles, as SQuAD has it")
    rows = list(_rows(path, articles, unanswerable))
    if not rows:
        raise LabError(f"{path} has no questions")
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            raise LabError(f"{path}, article {row['title']!r}: the question id {row['id']!r} comes twice; give every question its own")
        seen.add(row["id"])
    return Dataset.from_list(rows, features=features())


def _rows(path: Path, articles: list[Any], unanswerable: bool) -> Iterator[dict[str, Any]]:
    for article_number, article in enumerate(articles, 1):
        place = f"{path}, article {article_number}"
        title = _get(article, "title", str, place)
        for paragraph_number, paragraph in enumerate(_get(article, "paragraphs", list, place), 1):
            at = f"{place} ({title}), paragraph {paragraph_number}"
            context = _get(paragraph, "context", str, at)
            for question_number, question in enumerate(_get(paragraph, "qas", list, at), 1):
                identity = question.get("id", question_number) if isinstance(question, dict) else question_number
                where = f"{at}, question {identity}"
                yield {"id": str(_get(question, "id", (str, int), where)), "title": title, "context": context,
                       "question": _get(question, "question", str, where), "answers": _answers(question, context, where, unanswerable)}


def _answers(question: dict[str, Any], context: str, where: str, unanswerable: bool) -> dict[str, list]:
    impossible = question.get("is_impossible", False)
    listed = _get(question, "answers", list, where)
    if impossible and listed:
        raise LabError(f"{where}: is_impossible is true, yet there are answers; what only seems to be one belongs in plausible_answers")
    if not listed and not impossible:
        raise LabError(f"{where}: no answer; a question without one needs is_impossible (SQuAD 2.0)")
    if impossible and not unanswerable:
        raise LabError(f"{where}: SQuAD 1.1 has no questions without an answer; load it as squad_v2")
    texts, starts = [], []
    for answer in listed:
        text, start = _get(answer, "text", str, where), _get(answer, "answer_start", int, where)
        if not text or start < 0 or context[start : start + len(text)] != text:
            stands = context[max(start, 0) : max(start, 0) + max(len(text), 1)]
            hint = f"; it stands at {context.index(text)}" if text and text in context else ""
            raise LabError(f"{where}: the answer {text!r} is not at character {start}, where {stands!r} stands{hint}")
        texts.append(text)
        starts.append(start)
    return {"text": texts, "answer_start": starts}


def _get(holder: Any, key: str, kind: Any, where: str) -> Any:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {str: "a text", int: "a whole number", list: "a list"}.get(kind, "a text")
        raise LabError(f"{where}: {key!r} must be {wanted}")
    return value


def write_predictions(path: Path, answers: dict[str, str], no_answer: dict[str, float] | None = None) -> None:
    """Write predictions as SQuAD's evaluation script reads them: `{id: text}`, "" for no answer; with `no_answer`, for 2.0, a second
    file beside it, `NAME-na-prob.json`, of the scores that there is none (`--na-prob-file`).

    Raises:
        LabError: the two do not have the same questions, or the disk is full.
    """
    if no_answer is not None and set(no_answer) != set(answers):
        raise LabError(f"{len(no_answer)} no-answer scores do not match {len(answers)} answers; predict the questions anew")
    files.write_json(path, answers)
    if no_answer is not None:
        path = Path(path)
        files.write_json(path.with_name(f"{path.stem}-na-prob.json"), no_answer)

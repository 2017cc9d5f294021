"""Question answering, dialogue, summarisation and translation as JSON lines, and as chats that a decoder can learn.

| kind | a line |
|---|---|
| `question_answering` | `question`, `answer`, maybe `context` |
| `dialogue` | `messages`: a list of `role` (user, assistant) and `content`, the assistant's last; each of its turns becomes a chat |
| `summarisation` | `document`, `summary` |
| `translation` | `source`, `target`, `source_language`, `target_language`; or, as WMT's copies have it, `translation`: {language: text} |

Each line may have `id`, and, but for translation, `language` (`en` or `zh`; `en` where it is missing). What the user says is the template
of the line's language (`TEMPLATES`), of a translation that of its source's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.scenarios import LANGUAGES
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.formats.reading import Broken, Strictness, json_lines, split_files, text_of

if TYPE_CHECKING:
    from datasets import Dataset

KINDS = ("question_answering", "dialogue", "summarisation", "translation")
METRICS = {"question_answering": ("f1", "exact_match"), "dialogue": ("rouge_l", "bleu"),
           "summarisation": ("rouge_l", "rouge_1", "rouge_2", "meteor"), "translation": ("bleu", "chrf")}
TEMPLATES = {
    "question_answering": {"en": "Answer the question from the text, in as few words as you can.\n\nText: {context}\n\n"
                                 "Question: {question}",
                           "zh": "请根据材料回答问题，答案尽量简短。\n\n材料：{context}\n\n问题：{question}"},
    "summarisation": {"en": "Summarise the following text in one sentence.\n\n{document}",
                      "zh": "请用一句话概括下面的内容。\n\n{document}"},
    "translation": {"en": "Translate the following text from {source_language} to {target_language}.\n\n{source}",
                    "zh": "请把下面的{source_language}翻译成{target_language}。\n\n{source}"},
}
LANGUAGE_NAMES = {"en": {"en": "English", "zh": "Chinese"}, "zh": {"en": "英文", "zh": "中文"}}


def load(kind: str, folder: Path, leave_out_broken: bool = False) -> TaskData:
    """The splits of a folder of `train.jsonl`, `validation.jsonl` (or `dev`) and `test.jsonl`.

    Raises:
        LabError: no file is there, or a line is malformed (names file and line).
    """
    strict = Strictness(leave_out_broken)
    splits = {split: read(kind, path, strict) for split, path in split_files(folder, (".jsonl",)).items()}
    return TaskData(f"chats/{kind}", "chat", splits, (), METRICS[kind], str(folder), "see the publisher", tuple(strict.left_out))


def read(kind: str, path: Path, strict: Strictness) -> "Dataset":
    """The chats of one file: `id`, `messages`, `answer`, `language` (of the answer)."""
    from datasets import Dataset, Features, List, Value

    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, line in json_lines(path, strict):
        try:
            made = list(chats(kind, line, f"{path.stem}-{number}"))
            first = seen.setdefault(made[0]["id"], number)
            if first != number:
                raise Broken(f"the id {made[0]['id']!r} is that of line {first} too")
            rows += made
        except Broken as error:
            strict.broken(path, number, str(error))
    if not rows:
        raise LabError(f"{path} has no examples")
    text = Value("string")
    return Dataset.from_list(rows, features=Features({"id": text, "messages": List({"role": text, "content": text}), "answer": text,
                                                      "language": text}))


def chats(kind: str, line: dict[str, Any], identity: str = "") -> Iterator[dict[str, Any]]:
    """The chats that one line of a kind becomes; `Broken` says what is wrong with it."""
    identity = str(line.get("id", identity))
    if kind == "dialogue":
        yield from _dialogue(line, identity)
        return
    if kind == "translation":
        said, answer, language = _translation(line)
    else:
        language = _language(line.get("language", "en"))
        if kind == "summarisation":
            said, answer = TEMPLATES[kind][language].format(document=text_of(line, "document")), text_of(line, "summary")
        else:
            said, answer = _question(line, language), text_of(line, "answer")
    yield {"id": identity, "messages": [{"role": "user", "content": said}], "answer": answer, "language": language}


def _question(line: dict[str, Any], language: str) -> str:
    question = text_of(line, "question")
    if "context" not in line:
        return question
    return TEMPLATES["question_answering"][language].format(context=text_of(line, "context"), question=question)


def _translation(line: dict[str, Any]) -> tuple[str, str, str]:
    if "translation" in line:
        texts = line["translation"]
        if not isinstance(texts, dict) or len(texts) != 2:
            raise Broken("'translation' must be an object of two languages")
        (source_language, source), (target_language, target) = texts.items()
        line = {"source": source, "target": target, "source_language": source_language, "target_language": target_language}
    source_language, target_language = _language(line.get("source_language")), _language(line.get("target_language"))
    if source_language == target_language:
        raise Broken(f"source and target are both {source_language!r}")
    names = LANGUAGE_NAMES[source_language]
    said = TEMPLATES["translation"][source_language].format(source=text_of(line, "source"), source_language=names[source_language],
                                                            target_language=names[target_language])
    return said, text_of(line, "target"), target_language


def _dialogue(line: dict[str, Any], identity: str) -> Iterator[dict[str, Any]]:
    messages, language = line.get("messages"), _language(line.get("language", "en"))
    if not isinstance(messages, list) or len(messages) < 2:
        raise Broken("'messages' must be a list of at least two messages")
    for place, message in enumerate(messages):
        role = "assistant" if place % 2 else "user"
        if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] != role:
            raise Broken(f"message {place + 1} must have content and the role {role}: user and assistant take turns, the user first")
        text_of(message, "content")
    if len(messages) % 2:
        raise Broken("the last message must be the assistant's")
    for turn in range(1, len(messages), 2):
        yield {"id": f"{identity}-{turn // 2 + 1}", "messages": messages[:turn], "answer": messages[turn]["content"], "language": language}


def _language(value: Any) -> str:
    if value not in LANGUAGES:
        raise Broken(f"a language must be one of {', '.join(LANGUAGES)}, not {value!r}")
    return value

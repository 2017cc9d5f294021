"""A scenario in Argilla's words: fields, questions, guidelines, metadata and vectors of a dataset, and values there and back.

The scenario's TOML is the single source. The conversation becomes a chat field (a text field where every record is one message), each
answer field a question: a label a choice with titles in the language, a whole number between 0 and 10 a rating, any other number a text
that is checked when it is read back, a text a text. Everything here is plain data in the form of Argilla's HTTP API.
This module knows nothing about servers.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import LANGUAGES, Field, Scenario, answers

Suggestion = tuple[Any, float | None, str]  # value, score from 0 to 1 where known, and who suggests it
Suggestions = Mapping[str, Mapping[str, Suggestion]]  # record id -> field name -> suggestion

_TEXT = {"en": "Text", "zh": "文本"}
_CONVERSATION = {"en": "Conversation", "zh": "对话"}
_ROLES = {"user": {"en": "User", "zh": "用户"}, "assistant": {"en": "Assistant", "zh": "助手"}}
_EMPTY = {"en": "(empty)", "zh": "（空）"}
_RANGE = {"en": "A number from {low} to {high}.", "zh": "{low} 到 {high} 的数。"}
_LABELS = {"en": "Labels", "zh": "标签"}
_NOTICE = {"en": "Notice", "zh": "注意"}
_METADATA = {"language": {"en": "Language", "zh": "语言"}, "source": {"en": "Source", "zh": "来源"},
             "license": {"en": "License", "zh": "许可"}, "split": {"en": "Split", "zh": "划分"},
             "row": {"en": "Row", "zh": "行"}, "confidence": {"en": "Model's confidence", "zh": "模型置信度"}}
# The limits of Argilla 2.8
_GUIDELINES = 10_000  # characters
_MESSAGE = 20_000  # characters a chat message
_MESSAGES = 500
_OPTIONS = 500
_VISIBLE = 20  # labels shown before "more"
_AGENT = re.compile(r"[^a-zA-Z0-9_:./\s-]")


@dataclass(frozen=True)
class Settings:
    """What a dataset is made of, each item as Argilla's API takes it; `language` is that of the titles."""

    language: str
    guidelines: str
    fields: tuple[dict[str, Any], ...]
    questions: tuple[dict[str, Any], ...]
    metadata: tuple[dict[str, Any], ...]
    vectors: tuple[dict[str, Any], ...]


def of(scenario: Scenario, language: str, *, conversation: bool = True, hidden: Sequence[str] = (),
       vectors: Mapping[str, int] | None = None) -> Settings:
    """The dataset's settings for a scenario.

    Args:
        language: of titles and descriptions, `en` or `zh`; the guidelines have both.
        conversation: a chat field; otherwise a text field, for records of one message.
        hidden: names of metadata that annotators do not see, such as a mark of gold questions.
        vectors: encoder -> dimensions.

    Raises:
        LabError: the language is neither, or a label field has more labels than Argilla takes.
    """
    if language not in LANGUAGES:
        raise LabError(f"the language of a dataset must be one of {', '.join(LANGUAGES)}, not {language!r}")
    questions = [_question(field, language) for field in scenario.fields]
    if not any(question["required"] for question in questions):
        questions[0]["required"] = True  # Argilla publishes no dataset without one
    shown = {"type": "chat", "use_markdown": False} if conversation else {"type": "text", "use_markdown": False}
    title = _CONVERSATION if conversation else _TEXT
    metadata = [{"name": name, "title": titles[language], "settings": _metadata_kind(name), "visible_for_annotators": True}
                for name, titles in _METADATA.items()]
    metadata += [{"name": name, "title": name, "settings": {"type": "terms"}, "visible_for_annotators": False} for name in hidden]
    return Settings(
        language, guidelines(scenario, language),
        ({"name": _field_name(scenario, conversation), "title": title[language], "required": True, "settings": shown},),
        tuple(questions), tuple(metadata),
        tuple({"name": name, "title": name, "dimensions": dimensions} for name, dimensions in (vectors or {}).items()))


def guidelines(scenario: Scenario, first: str = "en") -> str:
    """What annotators read: the scenario's own texts as Markdown in both languages, `first` before the other.

    Where all labels are more than Argilla takes, they are left to the questions, which list them anyway.
    """
    order = sorted(LANGUAGES, key=lambda language: language != first)
    for labels in (True, False):
        text = "\n\n---\n\n".join(_guidelines(scenario, language, labels) for language in order)
        if len(text) <= _GUIDELINES:
            return text
    raise LabError(f"scenario {scenario.name}: its texts make {len(text):,} characters of guidelines; Argilla takes {_GUIDELINES:,}")


def question_kind(field: Field) -> str:
    """Argilla's kind of question for a field: `label_selection`, `rating` or `text`."""
    if field.kind == "label":
        return "label_selection"
    whole = field.decimals == 0 and float(field.minimum).is_integer() and float(field.maximum).is_integer()
    return "rating" if field.kind == "number" and whole and 0 <= field.minimum and field.maximum <= 10 else "text"


def to_argilla(field: Field, value: Any, language: str) -> str | int:
    """A value of an answer as the question takes it; LabError where it is none of this field's."""
    value = answers.tidy_value(field, value)
    return field.show(value, language) if field.kind == "number" and question_kind(field) == "text" else value


def from_argilla(field: Field, value: Any) -> Any:
    """`to_argilla`'s inverse: a question's value as it stands in an answer, None where it is an empty text.

    Raises:
        LabError: it fits no label or range.
    """
    if isinstance(value, str) and not value.strip():
        return None
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise LabError(f"{field.name}: {str(value)[:60]!r} is neither text nor number")
    return answers.tidy_value(field, value)


def asked(record: Record) -> str:
    """The id under which annotators are asked about a record: its own, or the one it had before its annotations were put into it (an id
    follows the content; see `labkit.labeling.quality.aggregation.answers`)."""
    labels = record["meta"].get("labels")
    return labels["record"] if isinstance(labels, dict) and isinstance(labels.get("record"), str) else record["id"]


def shown(record: Record, scenario: Scenario, language: str, field: Mapping[str, Any]) -> dict[str, Any]:
    """The record's messages as the dataset's field (`Settings.fields[0]`, or the server's) takes them.

    Raises:
        LabError: the conversation is longer than Argilla takes.
    """
    messages = [(each["role"], each["content"] if each["content"].strip() else _EMPTY[language]) for each in record["messages"]]
    if field["settings"]["type"] == "text":
        if len(messages) == 1:
            return {field["name"]: messages[0][1]}
        colon = "\uff1a" if language == "zh" else ": "
        return {field["name"]: "\n\n".join(_ROLES[role][language] + colon + content for role, content in messages)}
    if len(messages) > _MESSAGES:
        raise LabError(f"a conversation of {len(messages)} messages; Argilla takes {_MESSAGES}")
    longest = max(len(content) for _, content in messages)
    if longest > _MESSAGE:
        raise LabError(f"a message of {longest:,} characters; Argilla takes {_MESSAGE:,} in a conversation")
    return {field["name"]: [{"role": role, "content": content} for role, content in messages]}


def metadata(record: Record, row: int, suggested: Mapping[str, Suggestion]) -> dict[str, Any]:
    """What is known about a record beside its text: language, source, license, split, row, and the model's confidence: the lowest score
    of its suggestions."""
    known = {name: record[name] for name in ("language", "source", "license", "split") if record[name]}
    scores = [score for _, score, _ in suggested.values() if score is not None]
    return {**known, "row": row, **({"confidence": min(scores)} if scores else {})}


def suggestions(suggested: Mapping[str, Suggestion], scenario: Scenario, language: str) -> dict[str, dict[str, Any]]:
    """A record's suggestions by field, each with `value`, `score`, `agent` and `type`; values of None are left out.

    Raises:
        LabError: a field the scenario does not have, a value that is none of the field's, a score outside 0 to 1.
    """
    found = {}
    for name, (value, score, agent) in suggested.items():
        field = scenario.field(name)
        if value is None:
            continue
        if score is not None and not 0 <= score <= 1:
            raise LabError(f"{name}: the score {score} is not between 0 and 1")
        agent = _AGENT.sub("-", agent)[:200].strip()
        found[name] = {"value": to_argilla(field, value, language), "score": None if score is None else float(score),
                       "agent": agent if re.search("[a-zA-Z0-9]", agent) else "model", "type": "model"}
    return found


def present_answers(records: Sequence[Record], agent: str = "record") -> dict[str, dict[str, Suggestion]]:
    """The answers that records have already, as suggestions without a score."""
    return {asked(record): {name: (value, None, agent) for name, value in record["answer"].items()} for record in records}


def hidden_marks(records: Iterable[Record]) -> dict[str, dict[str, str]]:
    """Which records are gold questions (`labkit.labeling.quality.gold.mix` notes it in each record's `meta`), as hidden metadata."""
    from labkit.labeling.quality.gold import KEY

    return {asked(record): {KEY: "yes" if record["meta"][KEY] else "no"} for record in records if isinstance(record["meta"].get(KEY), bool)}


def predictions(rows: Sequence[Mapping[str, Any]], scenario: Scenario, agent: str) -> dict[str, dict[str, Suggestion]]:
    """A checkpoint's predictions (`labkit.evaluation.predict.predict`: rows with `id` and `answer`, and `scores` by field where the
    model gives any) as suggestions."""
    names = [field.name for field in scenario.fields]
    return {row["id"]: {name: (row["answer"][name], _score(row.get("scores", {}).get(name)), agent)
                        for name in names if row["answer"].get(name) is not None} for row in rows}


def _score(score: float | None) -> float | None:
    return None if score is None or math.isnan(score) else min(1.0, max(0.0, float(score)))


def _field_name(scenario: Scenario, conversation: bool) -> str:
    """A name that no question has: the client finds fields and questions in one list."""
    name = "conversation" if conversation else "text"
    while name in {field.name for field in scenario.fields}:
        name += "_"
    return name


def _question(field: Field, language: str) -> dict[str, Any]:
    kind = question_kind(field)
    asked, settings = field.question[language], {"type": kind}
    if kind == "label_selection":
        if len(field.labels) > _OPTIONS:
            raise LabError(f"field {field.name} has {len(field.labels)} labels; Argilla takes {_OPTIONS}")
        settings["options"] = [{"value": label.value, "text": label.title(language)} for label in field.labels]
        settings["visible_options"] = min(len(field.labels), _VISIBLE) if len(field.labels) > 2 else None
    elif kind == "rating":
        settings["options"] = [{"value": value} for value in range(int(field.minimum), int(field.maximum) + 1)]
    else:
        settings["use_markdown"] = False
        if field.kind == "number":
            low, high = field.show(field.minimum, language), field.show(field.maximum, language)
            asked = f"{asked}{'' if language == 'zh' else ' '}{_RANGE[language].format(low=low, high=high)}"
    return {"name": field.name, "title": field.title[language], "description": asked, "required": field.kind == "label",
            "settings": settings}


def _metadata_kind(name: str) -> dict[str, Any]:
    if name == "confidence":
        return {"type": "float", "min": 0.0, "max": 1.0}
    return {"type": "integer"} if name == "row" else {"type": "terms"}


def _guidelines(scenario: Scenario, language: str, labels: bool) -> str:
    colon, comma = ("\uff1a", "、") if language == "zh" else (": ", ", ")
    lines = [f"# {scenario.title[language]}", scenario.description[language], scenario.instructions[language].strip()]
    for field in scenario.fields:
        text = f"**{field.title[language]}**{colon}{field.question[language]}"
        if field.kind == "label" and labels:
            text += f" {_LABELS[language]}{colon}{comma.join(label.title(language) for label in field.labels)}"
        elif field.kind == "number":
            low, high = field.show(field.minimum, language), field.show(field.maximum, language)
            text += f" {_RANGE[language].format(low=low, high=high)}"
        lines.append(f"- {text}")
    lines.append(f"*{_NOTICE[language]}{colon}{scenario.notice[language]}*")
    return "\n\n".join(line for line in lines if line.strip())

"""The answer's format: `render` writes an answer as text, `parse` reads it back; each is the other's inverse.

One field a line, `Title: value`, in the scenario's order. The further lines of a text are indented by two spaces, so that a
text may hold anything, even lines that look like fields. `parse` also reads what a model writes a little wrong (another
language's title or label, a missing indent, a full stop after a label) and leaves out what it cannot read.
"""

import re
from typing import Any

from labkit.errors import LabError
from labkit.scenarios import LANGUAGES, Field, Scenario

Answer = dict[str, Any]

_INDENT = "  "
_COLON = re.compile("[:\uff1a]")  # also the full-width colon
_BREAK = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def tidy_text(text: str) -> str:
    """The form in which a text is kept: line breaks as line feeds, no other control characters, no outer white space."""
    if _CONTROL.search(text):
        text = _CONTROL.sub("", _BREAK.sub("\n", text))
    return text.strip()


def tidy(scenario: Scenario, answer: Answer) -> Answer:
    """The answer with each value in the form in which it is kept; fields that are None or missing are left out.

    Raises:
        LabError: a field the scenario does not have, a label it does not know, a number out of range, an empty text.
    """
    known = {field.name: field for field in scenario.fields}
    for name in answer:
        if name not in known:
            raise LabError(f"field {name!r} is not in scenario {scenario.name} ({', '.join(known)})")
    return {name: tidy_value(field, answer[name]) for name, field in known.items() if answer.get(name) is not None}


def tidy_value(field: Field, value: Any) -> Any:
    """One value in the form in which it is kept; LabError says what is wrong with it."""
    if field.kind == "label":
        found = _read_label(field, str(value))
        if found is None:
            known = ", ".join(field.values[:12]) + (", …" if len(field.values) > 12 else "")
            raise LabError(f"{field.name}: {str(value)[:60]!r} is none of its labels ({known})")
        return found
    if field.kind == "number":
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise LabError(f"{field.name}: {str(value)[:60]!r} is not a number") from None
        if not field.minimum <= number <= field.maximum:
            raise LabError(f"{field.name}: {number:g} is outside {field.minimum:g} to {field.maximum:g}")
        return _rounded(field, number)
    text = tidy_text(str(value))
    if not text:
        raise LabError(f"{field.name}: the text is empty")
    return text


def render(scenario: Scenario, answer: Answer, language: str) -> str:
    """The answer as the model should write it: the given fields in the scenario's order.

    Raises:
        LabError: see `tidy`.
    """
    return _render(scenario, answer, language)[0]


def value_spans(scenario: Scenario, answer: Answer, language: str) -> list[tuple[Field, int, int]]:
    """Where each field's value stands in what `render` writes: (field, first character, one behind the last).

    Raises:
        LabError: see `tidy`.
    """
    return _render(scenario, answer, language)[1]


def _render(scenario: Scenario, answer: Answer, language: str) -> tuple[str, list[tuple[Field, int, int]]]:
    colon = "\uff1a" if language == "zh" else ": "
    answer = tidy(scenario, answer)
    text, spans = "", []
    for field in scenario.fields:
        if field.name in answer:
            text += ("\n" if text else "") + field.title[language] + colon
            shown = field.show(answer[field.name], language).replace("\n", "\n" + _INDENT)
            spans.append((field, len(text), len(text) + len(shown)))
            text += shown
    return text, spans


def parse(scenario: Scenario, text: str) -> Answer:
    """The fields that can be read from a model's answer, in the scenario's order; the first of a repeated field counts."""
    titles = {field.title[language].casefold(): field for field in scenario.fields for language in LANGUAGES}
    found: dict[str, list[str]] = {}
    current: str | None = None
    for line in text.split("\n"):
        head, value = _split_title(line, titles)
        if head is not None:
            current = head.name if head.name not in found else None
            if current:
                found[current] = [value]
        elif current:
            found[current].append(line.removeprefix(_INDENT))
    values = {name: _read(scenario.field(name), lines) for name, lines in found.items()}
    return {field.name: values[field.name] for field in scenario.fields if values.get(field.name) is not None}


def is_complete(scenario: Scenario, answer: Answer) -> bool:
    """Whether every field of the scenario could be read: the answer parses."""
    return all(field.name in answer for field in scenario.fields)


def _split_title(line: str, titles: dict[str, Field]) -> tuple[Field | None, str]:
    match = None if line.startswith(_INDENT) else _COLON.search(line)
    if match is None:
        return None, ""
    return titles.get(line[: match.start()].strip().casefold()), line[match.end() :]


def _read(field: Field, lines: list[str]) -> Any:
    if field.kind == "label":
        return _read_label(field, lines[0])
    if field.kind == "number":
        match = _NUMBER.match(lines[0].strip())
        number = float(match.group()) if match else None
        return _rounded(field, number) if number is not None and field.minimum <= number <= field.maximum else None
    return tidy_text("\n".join(lines)) or None


def _read_label(field: Field, text: str) -> str | None:
    text = text.strip().strip(".。").strip().casefold()
    for label in field.labels:
        if text in (label.value.casefold(), label.en.casefold(), label.zh.casefold()):
            return label.value
    return None


def _rounded(field: Field, number: float) -> float | int:
    number = round(number, field.decimals)
    return int(number) if field.decimals == 0 else number

"""One row as one record, or why it can be none.

Nothing is mended here: texts and labels stay as they stand, without their outer white space.
"""

import math
from collections import Counter
from contextlib import suppress
from typing import Any

from labkit import records as recs
from labkit.data import mapping as maps
from labkit.data.readers import Notes, chats
from labkit.data.rows import Row
from labkit.data.script import script_of
from labkit.errors import LabError
from labkit.scenarios import LANGUAGES, Field, Scenario


class _Unfit(Exception):
    """A row can be no record; says why."""


class Maker:
    """Records out of rows. `unseen` are the mapped columns that no row had yet, `columns` those that rows had until none was left
    of them; `labels` counts the spellings in each label field."""

    def __init__(self, scenario: Scenario, mapping: dict[str, str], titles: dict[str, str], license: str, language: str | None,
                 notes: dict[str, Notes]) -> None:
        self.scenario, self.mapping, self._titles = scenario, mapping, titles
        self._license, self._language = license, language
        self._notes = notes
        self._fields = {field.name: field for field in scenario.fields}
        self.unseen: set[str] | None = None
        self.columns: dict[str, None] = {}
        self.labels: dict[str, Counter[str]] = {field.name: Counter() for field in scenario.label_fields}

    def make(self, row: Row) -> tuple[recs.Record | None, str]:
        """The record and no problem, or none and why."""
        self._look_for_columns(row.values)
        try:
            return self._made(row), ""
        except (_Unfit, LabError) as error:
            return None, str(error)

    def _made(self, row: Row) -> recs.Record:
        values, mapping, fields = row.values, self.mapping, self._fields
        if "text" in mapping:
            messages = [{"role": "user", "content": _needed_text(values, mapping["text"])}]
        else:
            messages = _chat(values, mapping["messages"])
        further: dict[str, str] = {}
        answer: dict[str, Any] = {}
        for target, column in mapping.items():
            if target in maps.CONTENT:
                continue
            text = _text(values, column)
            if not text:
                continue
            if target in fields:
                answer[target] = _number(fields[target], text) if fields[target].kind == "number" else text
            else:
                further[target] = text
        answer = {name: answer[name] for name in fields if name in answer}
        title = self.title(row.file)
        meta: dict[str, Any] = {"row": row.number}
        if "source" in further:
            meta["file"] = title
        for target, key in (("group", "group"), ("time", "time"), ("id", "source_id")):
            if target in further:
                meta[key] = further[target]
        record = recs.make(self.scenario.name, self._language_of(further, messages), messages, answer,
                           source=further.get("source", title), license=further.get("license") or self._license_of(row.file),
                           split=_split(further.get("split", "")), meta=meta)
        for name in self.labels:
            if name in answer:
                self.labels[name][answer[name]] += 1
        return record

    def _look_for_columns(self, values: dict[str, Any]) -> None:
        if self.unseen is None:
            self.unseen = set(self.mapping.values())
        if self.unseen:
            self.columns.update(dict.fromkeys(values))
            for column in tuple(self.unseen):
                with suppress(KeyError):
                    maps.value_of(values, column)
                    self.unseen.remove(column)

    def _license_of(self, file: str) -> str:
        """What was said, else what the hub says of its data set."""
        known = self._notes.get(file) if self._license == "unknown" else None
        return known.license or "unknown" if known else self._license

    def title(self, file: str) -> str:
        """What records say they come from, for the file that a row names."""
        known = self._titles.get(file)
        if known:
            return known
        book, mark, sheet = file.partition("#sheet=")
        return self._titles.get(book, book) + mark + sheet

    def _language_of(self, further: dict[str, str], messages: list[dict[str, str]]) -> str:
        if "language" in further:
            found = maps.language_of(further["language"])
            if found is None:
                raise _Unfit(f"the language {further['language'][:40]!r} is none of {', '.join(LANGUAGES)}")
            return found
        return self._language or script_of(messages[-1]["content"])


def _text(values: dict[str, Any], column: str) -> str:
    try:
        value = values[column] if column in values else maps.value_of(values, column)
    except KeyError:
        return ""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list | dict | tuple | bytes):
        raise _Unfit(f"column {column!r} holds {'bytes' if isinstance(value, bytes) else 'a list or an object'}, not text")
    if isinstance(value, float) and math.isnan(value):  # how pandas writes an empty cell
        return ""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _needed(values: dict[str, Any], column: str) -> Any:
    try:
        return maps.value_of(values, column)
    except KeyError:
        raise _Unfit(f"column {column!r} is missing; there are {', '.join(list(map(str, values))[:20]) or 'none'}") from None


def _needed_text(values: dict[str, Any], column: str) -> str:
    _needed(values, column)
    text = _text(values, column)
    if not text:
        raise _Unfit(f"column {column!r} is empty")
    return text


def _chat(values: dict[str, Any], column: str) -> list[dict[str, str]]:
    value = _needed(values, column)
    try:
        messages = value if column == chats.CHAT else chats.messages_of(value)[chats.CHAT]
    except LabError as error:
        raise _Unfit(f"column {column!r}: {error}") from None
    if not messages[-1]["content"].strip():
        raise _Unfit("the user's last message is empty")
    return messages


def _number(field: Field, text: str) -> float | int:
    try:
        number = float(text)
    except ValueError:
        raise _Unfit(f"{field.name}: {text[:60]!r} is not a number") from None
    if not math.isfinite(number):
        raise _Unfit(f"{field.name}: {text[:60]!r} is not a finite number")
    return int(number) if number.is_integer() and field.decimals == 0 else number


def _split(value: str) -> str:
    found = maps.split_of(value) if value else ""
    if found is None:
        raise _Unfit(f"the split {value[:40]!r} is none of train, validation and test")
    return found

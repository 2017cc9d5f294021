"""JSON and JSON Lines. Neither is ever held as a whole: of a list one value at a time is in memory.

Python's parser reads the values; around it stands what it does not do: streaming, a bound on a value's size and depth, and an error
for a key that stands twice in an object. (A streaming parser such as ijson holds a string however long, and keeps the last of
two keys.)
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from labkit.data.readers import DEFAULT, Limits, Notes, megabytes, texts
from labkit.data.readers.streams import Stream
from labkit.data.rows import Row
from labkit.errors import LabError

_SPACE = re.compile(r"[ \t\r\n]*")
_OUTSIDE = re.compile(r'["\[\]{}]')  # what counts between strings
_INSIDE = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[\s,\[\]{}:\"]")


class _Broken(Exception):
    """A value that cannot be taken; says why."""


def lines(stream: Stream, limits: Limits, notes: Notes) -> Iterator[Row]:
    """JSON Lines: an object a line. Empty lines are no rows."""
    encoding = texts.encoding_of(stream, notes, texts.CHINESE)  # JSON is in no single-byte encoding
    for number, text, problem in texts.lines(stream, encoding, limits):
        if problem:
            yield Row(stream.name, number, {"": text[:500]} if text else {}, problem)
        elif text and not text.isspace():
            try:
                value = _loads(text, limits)
            except _Broken as error:
                yield Row(stream.name, number, {"": text[:500]}, str(error))
            else:
                yield _row(stream.name, number, value)


def rows(stream: Stream, again: Callable[[], Stream], limits: Limits, notes: Notes) -> Iterator[Row]:
    """A JSON file: a list of objects, an object that holds one list of them, or an object of objects (each is a row, with its name
    in the column `key`). A row's number is its place. `again` opens the same file once more: an object is first looked through.

    Raises:
        LabError: it is none of these, or no JSON any more from some row on.
    """
    encoding = texts.encoding_of(stream, notes, texts.CHINESE)  # JSON is in no single-byte encoding
    text = _Window(stream, encoding, limits)
    first = text.next_character()
    if first == "[":
        yield from _list(text)
    elif first == "{":
        with again() as before:
            wanted = _inside(_Window(before, encoding, limits))
        yield from _list_at(text, wanted) if wanted is not None else _objects(text)
    else:
        raise LabError(f"{stream.name}: is not a JSON list or object: it begins with {first[:1]!r}")
    if text.next_character():
        raise LabError(f"{stream.name}: something stands behind the end of the JSON value")


def parsed(text: str, limits: Limits = DEFAULT) -> Any:
    """The value of one JSON text.

    Raises:
        LabError: it is not JSON, or cannot be taken.
    """
    try:
        return _loads(text, limits)
    except _Broken as error:
        raise LabError(str(error)) from None


class _Window:
    """The part of a JSON text that is being read. What is behind `at` is forgotten."""

    def __init__(self, stream: Stream, encoding: str, limits: Limits) -> None:
        self.name, self.limits = stream.name, limits
        self._blocks, self._decoder = stream.blocks(), texts.decoder(encoding)
        self.text, self.at, self.ended = "", 0, False

    def more(self) -> bool:
        """Take in as much again as is held, at least a block; False at the end of the file."""
        if self.ended:
            return False
        pieces = [self.text[self.at:]]
        wanted = max(len(pieces[0]), 1)
        while wanted > 0:
            block = next(self._blocks, None)
            if block is None:
                pieces.append(self._decoder.decode(b"", True))
                self.ended = True
                break
            pieces.append(self._decoder.decode(block))
            wanted -= len(pieces[-1])
        self.text, self.at = "".join(pieces), 0
        return True

    def next_character(self) -> str:
        """The next character that is not white space, which stays where it is; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, characters: str, where: str) -> str:
        """The next character, which must be one of these."""
        found = self.next_character()
        if not found or found not in characters:
            wanted = " or ".join(repr(each) for each in characters)
            raise LabError(f"{self.name}: {where}: not valid JSON: {wanted} expected, not {found or 'the end of the file'!r}")
        self.at += 1
        return found

    def value(self, where: str) -> Any:
        """The value that begins at the next character.

        Raises:
            _Broken: it cannot be taken, but what follows it can be read.
            LabError: it is not JSON, so that nobody can say where it ends.
        """
        self.next_character()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:  # else the value may go on, as a number does
                    begin, self.at = self.at, end
                    if end - begin > self.limits.value:
                        raise _Broken(f"a value longer than {megabytes(self.limits.value)}")
                    _check_depth(self.text, begin, end, value, self.limits)
                    return value
            except _Refused as error:
                self.skip(where)
                raise _Broken(str(error)) from None
            except RecursionError:
                self.skip(where)
                raise _Broken(_too_deep(self.limits)) from None
            except ValueError as error:
                if "integer string" in str(error):
                    self.skip(where)
                    raise _Broken("a number of more than 4,300 digits") from None
                if self.ended:
                    said = error.msg if isinstance(error, json.JSONDecodeError) else error
                    raise LabError(f"{self.name}: {where}: not valid JSON, or cut off: {said}") from None
            if len(self.text) - self.at > self.limits.value:
                self.skip(where)
                raise _Broken(f"a value longer than {megabytes(self.limits.value)}, or not valid JSON")
            self.more()

    def skip(self, where: str) -> None:
        """Pass over the next value without holding it."""
        first = self.next_character()
        if first in ('"', "{", "["):
            depth, inside = 0, False
            while True:
                match = (_INSIDE if inside else _OUTSIDE).search(self.text, self.at)
                if match is None:
                    self.at = len(self.text)
                    if not self.more():
                        raise LabError(f"{self.name}: {where}: not valid JSON: the file ends within a value")
                    continue
                found, self.at = match.group(), match.end()
                if found == "\\":
                    if self.at >= len(self.text):
                        self.more()
                    self.at += 1
                    continue
                if found == '"':
                    inside = not inside
                else:
                    depth += 1 if found in "[{" else -1
                if depth <= 0 and not inside:
                    return
        while True:
            match = _SCALAR_END.search(self.text, self.at)
            self.at = match.start() if match else len(self.text)
            if match or not self.more():
                return


def _list(text: _Window) -> Iterator[Row]:
    """The rows of the list that begins here."""
    text.take("[", "the list")
    number = 0
    while not (number == 0 and text.next_character() == "]"):
        number += 1
        where = f"entry {number}"
        try:
            row = _row(text.name, number, text.value(where))
        except _Broken as error:
            row = Row(text.name, number, {}, str(error))
        yield row
        if text.take(",]", f"behind {where}") == "]":
            return
    text.at += 1


def _keys(text: _Window) -> Iterator[str]:
    """The keys of the object that begins here, each time with its value next; who asks for the next one has taken that."""
    text.take("{", "the object")
    if text.next_character() == "}":
        text.at += 1
        return
    while True:
        text.next_character()
        try:
            key = text.value("a key")
        except _Broken as error:
            raise LabError(f"{text.name}: a key of the object: {error}") from None
        if not isinstance(key, str):
            raise LabError(f"{text.name}: not valid JSON: a key must be a text")
        text.take(":", f"behind {key[:60]!r}")
        yield key
        if text.take(",}", f"behind the value of {key[:60]!r}") == "}":
            return


def _inside(text: _Window) -> str | None:
    """The key of the only list that an object holds; None where it is an object of objects."""
    lists, others, objects = [], 0, 0
    for key in _keys(text):
        first = text.next_character()
        if first == "[":
            if key in lists:
                raise LabError(f"{text.name}: the key {key[:60]!r} stands twice in the object")
            lists.append(key)
        elif first == "{":
            objects += 1
        else:
            others += 1
        if len(lists) > 1:
            found = ", ".join(each[:60] for each in lists)
            raise LabError(f"{text.name}: the object holds more than one list ({found}); keep only that of the rows")
        text.skip(f"the value of {key[:60]!r}")
    if lists:
        return lists[0]
    if others or not objects:
        raise LabError(f"{text.name}: a list of objects is needed, or an object that holds one list")
    return None


def _list_at(text: _Window, wanted: str) -> Iterator[Row]:
    for key in _keys(text):
        if key == wanted:
            yield from _list(text)
        else:
            text.skip(f"the value of {key[:60]!r}")


def _objects(text: _Window) -> Iterator[Row]:
    seen: set[str] = set()
    for number, key in enumerate(_keys(text), 1):
        try:
            value = text.value(f"the value of {key[:60]!r}")
            row = _row(text.name, number, {"key": key, **value})
        except _Broken as error:
            row = Row(text.name, number, {"key": key}, str(error))
        if key in seen:
            row = Row(text.name, number, {"key": key}, f"the key {key[:60]!r} stands twice in the object")
        seen.add(key)
        yield row


class _Refused(ValueError):
    """JSON that is well-formed for the parser, and yet cannot be taken."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _Refused(f"the key {twice[:60]!r} stands twice in an object")
    return found


def _constant(name: str) -> None:
    raise _Refused(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _loads(text: str, limits: Limits) -> Any:
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _Broken(_too_deep(limits)) from None
    except _Refused as error:
        raise _Broken(str(error)) from None
    except json.JSONDecodeError as error:
        raise _Broken(f"not JSON: {error.msg} at character {error.pos + 1:,}") from None
    except ValueError:
        raise _Broken("a number of more than 4,300 digits") from None
    _check_depth(text, 0, len(text), value, limits)
    return value


def _check_depth(text: str, begin: int, end: int, value: Any, limits: Limits) -> None:
    """Only a value with many brackets is walked through."""
    if text.count("[", begin, end) + text.count("{", begin, end) <= limits.depth:
        return
    layer, depth = [value], 0
    while layer := [each for outer in layer if isinstance(outer, dict | list)
                    for each in (outer.values() if isinstance(outer, dict) else outer)]:
        depth += 1
        if depth > limits.depth:
            raise _Broken(_too_deep(limits))


def _too_deep(limits: Limits) -> str:
    return f"values nested more than {limits.depth} deep"


def _row(name: str, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        return Row(name, number, {"": str(value)[:500]}, "not a JSON object")
    return Row(name, number, value)

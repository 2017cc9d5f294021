"""Tables as text: CSV and TSV. One row may span lines; a row that never ends gives only its first line away.

The parser is Python's `csv`, strictly: text behind a closing quotation mark is an error there, where being lenient would glue two
rows together in silence.
"""

import csv
from collections import deque
from collections.abc import Iterator

from labkit.data.readers import Limits, Notes, megabytes, texts
from labkit.data.readers.streams import Stream
from labkit.data.rows import Row
from labkit.errors import LabError

_DELIMITERS = ",;\t|"


def rows(stream: Stream, limits: Limits, notes: Notes, delimiter: str = "") -> Iterator[Row]:
    """The rows of a table; its first line names the columns (an empty name becomes `column N`). Without a `delimiter` it is the one
    of comma, semicolon, tab and bar that gives the header the most columns.

    Raises:
        LabError: the header is broken or names a column twice.
    """
    name, encoding = stream.name, texts.encoding_of(stream, notes)
    feed = _Feed(texts.lines(stream, encoding, limits), limits.value)
    notes.delimiter = delimiter = delimiter or _delimiter(stream, encoding)
    csv.field_size_limit(max(csv.field_size_limit(), limits.value + 1))  # the feed sees to it that no row grows larger
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        try:
            cells, problem = next(reader), feed.problem
        except StopIteration:
            break
        except (csv.Error, _Endless) as error:
            cells, problem = [feed.give_back()], _said(error, limits)
            reader = csv.reader(feed, delimiter=delimiter, strict=True)
        number = feed.next_row()
        if not cells and not problem:
            continue  # an empty line
        if not header:
            if problem:
                raise LabError(f"{name}: line {number}, the header: {problem}")
            if number == 1 and len(cells) == 1 and cells[0].startswith("sep="):
                continue  # a line in which Excel tells itself the delimiter
            header = _header(name, number, cells, limits)
        elif problem:
            yield Row(name, number, dict(zip(header, cells, strict=False)), problem)
        elif len(cells) != len(header):
            yield Row(name, number, dict(zip(header, cells, strict=False)), f"{len(cells)} cells where the header has {len(header)}")
        else:
            yield Row(name, number, dict(zip(header, cells, strict=True)))
    if not header:
        raise LabError(f"{name}: has no header line")


class _Endless(Exception):
    """A row grows beyond the limit."""


class _Feed:
    """Lines for `csv.reader`. Those of the row that is being read are kept, so that they can be read again as rows of their own."""

    def __init__(self, lines: Iterator[texts.Line], limit: int) -> None:
        self._lines, self._limit = lines, limit
        self._again: deque[texts.Line] = deque()
        self._taken: list[texts.Line] = []
        self._size = 0
        self.problem = ""

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        number, text, problem = line
        self._size += len(text) + 1
        if self._size > self._limit + 1:
            raise _Endless
        if problem and not self.problem:
            self.problem = problem if len(self._taken) == 1 else f"line {number}: {problem}"
        return text + "\n"

    def give_back(self) -> str:
        """The first line of the row that failed; those behind it will be read again."""
        first, *rest = self._taken
        self._again.extendleft(reversed(rest))
        self._taken = [first]
        return first[1][:500]

    def next_row(self) -> int:
        """Begin the next row; the line where the one that ends here began."""
        number = self._taken[0][0]
        self._taken.clear()
        self._size, self.problem = 0, ""
        return number


def _said(error: Exception, limits: Limits) -> str:
    text = str(error)
    if isinstance(error, _Endless):
        return f"a row of more than {megabytes(limits.value)}, or a quotation mark that is never closed"
    if "end of data" in text:
        return "a quotation mark that is never closed"
    if "new-line character" in text:
        return "a carriage return in the middle of the line"
    if "expected after" in text:
        return "text behind a closing quotation mark"
    return text


def _delimiter(stream: Stream, encoding: str) -> str:
    first = next((line for line in texts.decoder(encoding).decode(stream.head).splitlines() if line.strip()), "")
    if first.startswith("sep=") and len(first.strip()) == 5:
        return first[4]

    def columns(delimiter: str) -> int:
        return max((len(cells) for cells in csv.reader([first], delimiter=delimiter)), default=0)

    try:
        return max(_DELIMITERS, key=columns)
    except csv.Error:  # told where the header is read
        return ","


def _header(name: str, number: int, cells: list[str], limits: Limits) -> list[str]:
    if len(cells) > limits.columns:
        raise LabError(f"{name}: line {number}: {len(cells):,} columns; at most {limits.columns:,} can be read")
    header = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    twice = next((cell for place, cell in enumerate(header) if cell in header[:place]), None) if len(set(header)) < len(header) else None
    if twice is not None:
        raise LabError(f"{name}: line {number}: the header names the column {twice[:60]!r} twice; give each column a name of its own")
    return header

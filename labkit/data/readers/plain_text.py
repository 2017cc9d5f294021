"""Plain text: a row for each line, or for each paragraph (lines up to an empty one)."""

from collections.abc import Iterator

from labkit.data.readers import Limits, Notes, megabytes, texts
from labkit.data.readers.streams import Stream
from labkit.data.rows import Row

UNITS = ("line", "paragraph")


def rows(stream: Stream, limits: Limits, notes: Notes, unit: str = "line") -> Iterator[Row]:
    """Rows with one column, `text`. Empty lines are no rows."""
    encoding = texts.encoding_of(stream, notes)
    held: list[str] = []
    begin = size = 0
    problem = ""
    for number, text, wrong in texts.lines(stream, encoding, limits):
        text = text.rstrip("\r")
        if unit == "line":
            if text.strip() or wrong:
                yield Row(stream.name, number, {"text": text}, wrong)
            continue
        if not text.strip() and not wrong:
            if held:
                yield Row(stream.name, begin, {"text": "\n".join(held)}, problem)
            held, size, problem = [], 0, ""
            continue
        if not held:
            begin = number
        size += len(text) + 1
        if size > limits.value:
            wrong, text, held = wrong or f"longer than {megabytes(limits.value)}", "", [""]
        problem = problem or wrong and (wrong if number == begin else f"line {number}: {wrong}")
        held.append(text)
    if held:
        yield Row(stream.name, begin, {"text": "\n".join(held)}, problem)

"""Text out of bytes: which encoding a file has, and its lines, each with its number and what is wrong with it.

A file has one encoding. Bytes that do not fit it are marked, so that the line with them is reported, never guessed at.
"""

import codecs
import re
from collections.abc import Iterator

from labkit.data.readers import Limits, Notes, megabytes
from labkit.data.readers.streams import HEAD, Stream
from labkit.errors import LabError

MARK = "\udcff"  # stands for bytes that are not text; half a surrogate pair, so it comes out of no valid text

_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
                (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # UTF-32 before UTF-16: its mark begins alike
CANDIDATES = ("gb18030", "big5", "cp1252")
CHINESE = CANDIDATES[:2]
_SAMPLE = 1 << 16  # bytes: enough for the statistics, and charset-normalizer takes its time
_HIGH = re.compile(rb"[\x80-\xff]+")
_MOST = 0.9  # of the lines with other than ASCII characters must fit an encoding; the others are then broken ones
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_USUAL = re.compile(r"[\t\r\n\x20-\x7e\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")

Line = tuple[int, str, str]  # number from 1, text without its line feed, problem


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return MARK, error.end


codecs.register_error("labkit-mark", _mark)


def decoder(encoding: str) -> codecs.IncrementalDecoder:
    """Takes bytes as they come and gives their text, with a `MARK` for what does not fit."""
    return codecs.getincrementaldecoder(encoding)("labkit-mark")


def encoding_of(stream: Stream, notes: Notes, candidates: tuple[str, ...] = CANDIDATES) -> str:
    """The encoding of a text file: by its byte order mark, strictly as UTF-8, or else by statistics among the candidates.

    Raises:
        LabError: the file is empty or not text.
    """
    head = stream.head
    encoding = next((name for mark, name in _ORDER_MARKS if head.startswith(mark)), "") or _wide(head)
    if encoding:
        if not decoder(encoding).decode(head).strip():
            raise LabError(f"{stream.name}: is empty, apart from its byte order mark")
    elif not head.strip():
        raise LabError(f"{stream.name}: is empty")
    elif len(_CONTROL.findall(head)) > max(len(head) // 20, 20):
        raise LabError(f"{stream.name}: is not text: it is full of control characters")
    encoding = encoding or _by_content(head, candidates)
    notes.encoding = shown(encoding)
    return encoding


def _wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a byte order mark: the zeros of the line feeds and other ASCII characters all fall on one side."""
    sample = head[: len(head) // 4 * 4 or len(head)][:4096]
    zeros = [sample[start::4].count(0) * 4 / max(len(sample), 1) for start in range(4)]
    low = [share < 0.05 for share in zeros]
    if zeros[2] > 0.9 and zeros[3] > 0.9 and low[0]:
        return "utf-32-le"
    if zeros[0] > 0.9 and zeros[1] > 0.9 and low[3]:
        return "utf-32-be"
    if low[0] and low[2] and zeros[1] > 0.2 and zeros[3] > 0.2:
        return "utf-16-le"
    if low[1] and low[3] and zeros[0] > 0.2 and zeros[2] > 0.2:
        return "utf-16-be"
    if b"\0" in head and not _fits(head, "utf-8", whole=False):  # Chinese: zeros in the line feeds and punctuation only
        return next((name for name in ("utf-16-le", "utf-16-be") if _is_plausible(head, name)), "")
    return ""


def _is_plausible(head: bytes, encoding: str) -> bool:
    if not _fits(head, encoding, whole=False):
        return False
    text = decoder(encoding).decode(head)
    return "\0" not in text and len(_USUAL.findall(text)) > 0.9 * len(text)


def shown(encoding: str) -> str:
    """The encoding's name as people know it."""
    return "utf-8" if encoding == "utf-8-sig" else encoding


def _by_content(head: bytes, candidates: tuple[str, ...]) -> str:
    if _fits(head, "utf-8", whole=len(head) < HEAD):
        return "utf-8"
    rows = head[:_SAMPLE].split(b"\n")
    if len(head) > _SAMPLE and len(rows) > 1:
        rows.pop()  # it is cut
    rows = [row for row in rows if not row.isascii()]
    if not rows:
        return "utf-8"  # what is wrong comes later, in lines that are then reported
    good = sum(_fits(row, "utf-8") for row in rows)
    if good > len(rows) - good:  # UTF-8 with broken lines: in another encoding hardly a line is valid UTF-8, least of all most of them
        return "utf-8"
    fitting = [name for name in candidates if sum(_fits(row, name) for row in rows) > _MOST * len(rows)]
    if "gb18030" in fitting and _is_simplified(rows):
        return "gb18030"
    if len(fitting) > 1:
        from charset_normalizer import from_bytes

        sample = b"\n".join(row for row in rows if all(_fits(row, name) for name in fitting))
        best = from_bytes(sample, cp_isolation=fitting).best()
        return best.encoding if best else fitting[0]
    # Latin-1 takes every byte; Windows-1252 is the same but for 27 characters such as quotation marks and the euro
    return fitting[0] if fitting else "latin-1" if candidates is CANDIDATES else "utf-8"


def _is_simplified(rows: list[bytes]) -> bool:
    """Whether the bytes beyond ASCII come in pairs that are, most of them, punctuation or one of the 3,755 common characters of
    GB 2312 (its rows 16 to 55). That is right from one word on, where statistics of the language need a sentence."""
    pairs = common = 0
    for row in rows:
        for run in _HIGH.findall(row):
            pairs += (len(run) + 1) // 2
            if len(run) % 2 == 0:
                common += sum((first in (0xA1, 0xA3) or 0xB0 <= first <= 0xD7) and second >= 0xA1
                              for first, second in zip(run[::2], run[1::2], strict=True))
    return common > 0.85 * pairs


def _fits(data: bytes, encoding: str, whole: bool = True) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(data, whole)
    except UnicodeDecodeError:
        return False
    return True


def lines(stream: Stream, encoding: str, limits: Limits) -> Iterator[Line]:
    """The lines of a text file, broken ones with what is wrong; a carriage return before the line feed is still there.

    A line that is too long is passed over without being held; its text is then only a quotation mark where it holds an odd number of
    them (so that a table's quotation stays what it was), else nothing. Files of old with carriage returns only are read as well.
    """
    decode, limit = decoder(encoding).decode, limits.value
    sample = decoder(encoding).decode(stream.head)
    end = "\r" if "\n" not in sample and "\r" in sample else "\n"
    held: list[str] = []  # the pieces of the line that is not yet whole
    size = quotes = number = 0

    def line(text: str) -> Line:
        nonlocal size, quotes, number
        number += 1
        if size + len(text) > limit:
            odd = (quotes + text.count('"') + sum(piece.count('"') for piece in held)) % 2
            whole, problem = '"' if odd else "", f"longer than {megabytes(limit)}"
        else:
            whole = "".join(held) + text if held else text
            problem = ""
            if MARK in whole:
                problem = f"not {shown(encoding).upper()} text"
            elif "\0" in whole:
                problem = "holds a NUL character"
        held.clear()
        size = quotes = 0
        return number, whole, problem

    def hold(text: str) -> None:
        nonlocal size, quotes
        size += len(text)
        held.append(text)
        if size > limit:
            quotes += sum(piece.count('"') for piece in held)
            held.clear()

    for block in stream.blocks():
        parts = decode(block).split(end)
        for part in parts[:-1]:
            yield line(part)
        hold(parts[-1])
    parts = decode(b"", True).split(end)
    for part in parts[:-1]:
        yield line(part)
    hold(parts[-1])
    if size:
        yield line("")

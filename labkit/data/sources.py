"""Sources of data: files of all kinds, folders of them, the hub, databases; each as rows with their place.

`expand` says what a name stands for, `read` gives its rows. Every row and every file is accounted for: what cannot be read is a `Row`
with its problem (number 0 for a file as a whole), or a `LabError` where it was named itself and gives no row at all.
Which kind a file is says its content, where that can be told, and else its ending.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.data.readers import (
    DEFAULT,
    Limits,
    Notes,
    chats,
    columns,
    databases,
    delimited,
    hub,
    json_files,
    kinds,
    plain_text,
    spreadsheets,
)
from labkit.data.readers.kinds import ENDINGS
from labkit.data.readers.streams import Stream
from labkit.data.rows import Row
from labkit.errors import LabError

__all__ = ["ENDINGS", "Limits", "Notes", "Source", "expand", "read", "rows"]

_FORMULA = re.compile(r"=|[+\-@]\s*[A-Za-z_][\w.]*\s*[(|!]")  # what a spreadsheet would compute or run
_FIRST = frozenset("=+-@")
_KNOWN = 10_000  # names: objects of JSON may bring ever new ones
_NO_FILES = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
             stat.S_ISBLK: "a device"}


@dataclass(frozen=True)
class Source:
    """One file, table or data set. `name` is how it is shown, `title` a short form of that (a file's path within the folder that was
    named), `named` whether it was named itself and not found in a folder; `problem` says why it cannot be read."""

    name: str
    title: str
    path: Path | None = None
    address: str = ""
    options: dict[str, str] = field(default_factory=dict)
    named: bool = True
    problem: str = ""


def expand(names: list[str]) -> list[Source]:
    """The sources that these names stand for, each once: a file, a folder (all files in it, also those that cannot be read), a
    pattern such as `mails/**/*.csv`, `hub:OWNER/NAME:SPLIT`, or a database's `URL#table=NAME` or `URL#query=SELECT …`. A file may
    have options behind it: `book.xlsx#sheet=NAME`, `letters.txt#unit=paragraph`.

    Raises:
        LabError: a name that stands for nothing.
    """
    found: dict[Any, Source] = {}
    for name in map(str, names):
        for source in _expand(name):
            found.setdefault(source.path.absolute() if source.path and not source.options else source.name, source)
    return list(found.values())


def read(name: str, *, limits: Limits = DEFAULT, notes: dict[str, Notes] | None = None) -> Iterator[Row]:
    """The rows of all sources that a name stands for; `notes` takes what was found out about each.

    Raises:
        LabError: see `expand`; or the source gives no row at all.
    """
    for source in expand([name]):
        yield from rows(source, limits=limits, notes=notes)


def rows(source: Source, *, limits: Limits = DEFAULT, notes: dict[str, Notes] | None = None) -> Iterator[Row]:
    """The rows of one source. Where it breaks off, the last one says so.

    Raises:
        LabError: it was named itself, and gives no row.
    """
    noted = Notes()
    if notes is not None:
        notes[source.name] = noted
    count = number = 0
    known: set[str] = set()
    try:
        if source.problem:
            raise LabError(f"{source.name}: {source.problem}")
        for row in _opened(source, limits, noted):
            count, number = count + 1, row.number
            yield _checked(row, noted, known)
        if not count:
            raise LabError(f"{source.name}: has no rows")
    except LabError as error:
        if source.named and not count:
            raise
        yield Row(source.name, number, {}, str(error).removeprefix(f"{source.name}: "))


def _opened(source: Source, limits: Limits, notes: Notes) -> Iterator[Row]:
    if source.path is None:
        notes.kind = "hub" if source.address.startswith(hub.PREFIX) else "database"
        if notes.kind == "hub":
            yield from hub.rows(source.name, limits, notes)
        else:
            yield from databases.rows(source.name, source.address, limits, notes, **source.options)
        return
    try:
        if other := _other(source.path):
            raise LabError(f"{source.name}: {other}")
        if not source.path.stat().st_size:
            raise LabError(f"{source.name}: is empty")
        with Stream(source.name, source.path, limits, notes) as stream:
            notes.kind = kinds.kind_of(stream)
            _check_options(source, notes.kind)
            yield from _READERS[notes.kind](source, stream, limits, notes)
    except OSError as error:
        raise LabError(f"{source.name}: cannot be read: {error.strerror or error}") from None


def _delimited(source: Source, stream: Stream, limits: Limits, notes: Notes) -> Iterator[Row]:
    return delimited.rows(stream, limits, notes, "\t" if notes.kind == "tsv" else "")


def _json(source: Source, stream: Stream, limits: Limits, notes: Notes) -> Iterator[Row]:
    return json_files.rows(stream, lambda: Stream(source.name, source.path, limits, Notes()), limits, notes)


_READERS: dict[str, Callable[[Source, Stream, Limits, Notes], Iterator[Row]]] = {
    "csv": _delimited, "tsv": _delimited, "json": _json,
    "jsonl": lambda source, stream, limits, notes: json_files.lines(stream, limits, notes),
    "text": lambda source, stream, limits, notes: plain_text.rows(stream, limits, notes, **source.options),
    "parquet": lambda source, stream, limits, notes: columns.parquet(source.name, stream.seekable(), limits, notes),
    "arrow": lambda source, stream, limits, notes: columns.arrow(source.name, stream.seekable(), limits, notes),
    "spreadsheet": lambda source, stream, limits, notes: spreadsheets.rows(
        source.name.partition("#sheet=")[0], stream.seekable(), limits, notes, **source.options)}
_OPTIONS = {"text": {"unit": plain_text.UNITS}, "spreadsheet": {"sheet": ()}}


def _checked(row: Row, notes: Notes, known: set[str]) -> Row:
    """The row, with a problem if it holds text that is none; formulas are counted, and a chat gets its columns. `known` are the names
    of columns that need no second look."""
    if row.problem:
        return row
    for column, value in row.values.items():
        problem = ""
        if column not in known:
            problem = _text_problem(column)
            if len(known) < _KNOWN:
                known.add(column)
        if type(value) is str:
            if value[:1] in _FIRST and _FORMULA.match(value):
                notes.formulas += 1
            problem = problem or _text_problem(value)
        elif isinstance(value, list | dict):
            problem = problem or _inner_problem(value)
        if problem:
            known.discard(column)
            return Row(row.file, row.number, {}, f"{column[:60]!a}: {problem}")
    try:
        values = chats.unfolded(row.values)
    except LabError as error:
        return Row(row.file, row.number, row.values, str(error))
    return row if values is row.values else Row(row.file, row.number, values)


def _text_problem(text: str) -> str:
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, or bytes that are not text"
    return ""


def _inner_problem(value: Any) -> str:
    """What is wrong with a text inside of a list or an object. (Readers bound how deep these are.)"""
    if isinstance(value, str):
        return _text_problem(value)
    if isinstance(value, dict):
        return next((problem for key, each in value.items() if (problem := _text_problem(key) or _inner_problem(each))), "")
    return next((problem for each in value if (problem := _inner_problem(each))), "") if isinstance(value, list) else ""


def _check_options(source: Source, kind: str) -> None:
    for option, value in source.options.items():
        known = _OPTIONS.get(kind, {})
        if option not in known or known[option] and value not in known[option]:
            raise LabError(f"{source.name}: no option {option}={value} for a {kind} file")


def _expand(name: str) -> Iterator[Source]:
    if name.startswith(hub.PREFIX):
        yield Source(name, name, address=name)
    elif databases.is_url(name):
        yield _database(name)
    else:
        yield from _files(name)


def _database(name: str) -> Source:
    address, _, option = name.partition("#")
    shown = databases.shown(name)
    if address.startswith(("http:", "https:", "ftp:", "s3:", "file:")):
        raise LabError(f"{shown}: is not fetched from there; download it and name the file")
    key, equals, value = option.partition("=")
    if not equals or key not in ("table", "query") or not value.strip():
        raise LabError(f"{shown}: name a table or a query behind it: URL#table=NAME or URL#query=SELECT …")
    return Source(shown, shown, address=address, options={key: value.strip()})


def _files(name: str) -> Iterator[Source]:
    if not name.strip():
        raise LabError("the name of a source is empty; name a file, a folder or a database")
    path = Path(name)
    options: dict[str, str] = {}
    try:
        if not os.path.lexists(path) and "#" in name:
            path = Path(name.partition("#")[0])
            options = dict(part.partition("=")[::2] for part in name.partition("#")[2].split("&"))
        if path.is_dir():
            yield from _folder(path, str(path), options)
        elif os.path.lexists(path):
            yield Source(name, path.name, path, options=options)
        elif re.search(r"[*?\[]", str(path)):
            yield from _pattern(str(path), options)
        else:
            raise LabError(f"{name}: does not exist")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise LabError(f"{name!r}: cannot be read: {said}") from None


def _pattern(pattern: str, options: dict[str, str]) -> Iterator[Source]:
    import glob

    found = sorted(glob.glob(pattern, recursive=True, include_hidden=True))
    if not found:
        raise LabError(f"{pattern}: no file fits this pattern")
    for each in found:
        path = Path(each)
        if path.is_dir() and not path.is_symlink():
            if "**" not in pattern:  # else its files are found themselves
                yield from _folder(path, each, options)
        else:
            yield Source(each, path.name, path, options=options, named=False, problem=_other(path))


def _folder(folder: Path, name: str, options: dict[str, str]) -> Iterator[Source]:
    """All that lies in a folder, sorted. A link is followed to a file in the same folder, never out of it and never to a folder."""
    root = folder.resolve()
    found = list(_walk(folder))
    if not found:
        raise LabError(f"{name}: is an empty folder")
    for path, problem in sorted(found):
        problem = problem or (_link_problem(path, root) if path.is_symlink() else "") or _other(path)
        yield Source(str(path), str(path.relative_to(folder)), path, options=options, named=False, problem=problem)


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"cannot be read: {error.strerror}"
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path), ""


def _link_problem(path: Path, root: Path) -> str:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "is a link that leads nowhere"
    if not target.is_relative_to(root):
        return "is a link that leaves the folder; it is not followed"
    return "is a link to a folder; it is not followed" if target.is_dir() else ""


def _other(path: Path) -> str:
    """What is wrong with a path that is no file; empty for a file. It is not opened: with a pipe that alone may wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return next((f"is {what}, not a file" for test, what in _NO_FILES.items() if test(mode)), "")

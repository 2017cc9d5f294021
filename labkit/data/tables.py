"""Rows of somebody's own file: CSV, JSON, JSONL or Parquet, each with its place in the file.

Rows that cannot be read are reported with their line, never dropped in silence. This module knows nothing about scenarios.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LabError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row: `line` counts from 1 as an editor shows it (for Parquet and a JSON list the row's number), `values` are its
    columns; `problem` says why it could not be read, else it is empty."""

    line: int
    values: dict[str, Any]
    problem: str = ""


def read(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one at a time.

    Raises:
        LabError: the file is missing, empty, of an unknown kind, or broken as a whole.
    """
    path = Path(path)
    if not path.exists():
        raise LabError(f"{path} does not exist")
    if path.is_dir():
        raise LabError(f"{path} is a folder; name a file")
    readers = {".csv": _delimited, ".tsv": _delimited, ".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise LabError(f"{path}: cannot read {path.suffix or 'a file without ending'}; use {', '.join(SUFFIXES)}")
    if not path.stat().st_size:
        raise LabError(f"{path} is empty")
    try:
        yield from readers[path.suffix.lower()](path)
    except PermissionError:
        raise LabError(f"{path} may not be read: permission denied") from None


def _text_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Lines as UTF-8 (a byte order mark is taken off); None for a line that is not UTF-8 or has NUL bytes."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                text = None
            yield number, None if text is None or "\0" in text else text


def _delimited(path: Path) -> Iterator[Row]:
    broken: list[int] = []

    def good_lines() -> Iterator[str]:
        for number, text in _text_lines(path):
            if text is None:
                broken.append(number)
                text = "\n"  # keeps the reader's line count right; an empty line is no row
            yield text

    csv.field_size_limit(1 << 24)
    reader = csv.reader(good_lines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=False)
    header: list[str] | None = None
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            while broken:
                yield Row(broken.pop(0), {}, "not UTF-8 text")
            if not cells:
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if len(set(header)) < len(header) or not all(header):
                    raise LabError(f"{path}, line {line}: the header has an empty or repeated column name")
                continue
            if len(cells) != len(header):
                yield Row(line, dict(zip(header, cells, strict=False)), f"{len(cells)} cells where the header has {len(header)}")
            else:
                yield Row(line, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise LabError(f"{path}, line {reader.line_num}: {error}") from error
    for number in broken:
        yield Row(number, {}, "not UTF-8 text")
    if header is None:
        raise LabError(f"{path} has no header line")


def _jsonl(path: Path) -> Iterator[Row]:
    for number, text in _text_lines(path):
        if text is None:
            yield Row(number, {}, "not UTF-8 text")
        elif text.strip():
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield Row(number, {}, f"not JSON: {error}")
                continue
            yield _object(number, value)


def _json(path: Path) -> Iterator[Row]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise LabError(f"{path} is not valid JSON: {error}") from error
    if isinstance(value, dict):
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise LabError(f"{path}: a list of objects is needed")
    for number, entry in enumerate(value, 1):
        yield _object(number, entry)


def _object(number: int, value: Any) -> Row:
    return Row(number, value) if isinstance(value, dict) else Row(number, {}, "not a JSON object")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values)
    except (pyarrow.ArrowException, OSError) as error:
        raise LabError(f"{path} is not valid Parquet: {error}") from error

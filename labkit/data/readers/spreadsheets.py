"""Spreadsheets: .xlsx, .xlsb, .xls and .ods, every sheet, with the values that were last computed; no formula is ever evaluated.

python-calamine reads them, in a process of its own with bounded memory: a sheet with one cell in its last corner makes the library
ask for 400 GB, which ends the process that it runs in. The rows come over as JSON, one a line.
"""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from labkit.data.readers import Limits, Notes, megabytes
from labkit.data.rows import Row
from labkit.errors import LabError

_MEMORY = 1 << 30  # bytes that the process may take; 200,000 rows of four columns, 40 MB of text, took 0.14 GB


def rows(name: str, file: IO[bytes], limits: Limits, notes: Notes, sheet: str = "") -> Iterator[Row]:
    """The rows of every sheet, or of the one that is named; the first row that is not empty names the columns. Empty rows are none.
    A row's file is `NAME#sheet=SHEET`, its number that of the spreadsheet.

    Raises:
        LabError: the workbook is broken, protected by a password, or too large; a sheet names a column twice.
    """
    _check_size(name, file, limits, notes)
    header: list[str] = []
    current = ""
    for entry in _entries(name, file, limits, sheet):
        number, cells, problem = entry["row"], entry["cells"], entry["problem"]
        if entry["sheet"] != current:
            current, header = entry["sheet"], []
        where = f"{name}#sheet={current}"
        while cells and cells[-1] == "" and len(cells) > len(header):
            cells.pop()
        if not header and not problem:
            header = _header(where, number, cells, limits)
        elif problem:
            yield Row(where, number, {}, problem)
        elif len(cells) > len(header):
            yield Row(where, number, dict(zip(header, cells, strict=False)), f"{len(cells)} cells where the header has {len(header)}")
        else:
            yield Row(where, number, dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True)))


def _check_size(name: str, file: IO[bytes], limits: Limits, notes: Notes) -> None:
    if not zipfile.is_zipfile(file):
        return  # an .xls, or broken
    try:
        with zipfile.ZipFile(file) as parts:
            size = sum(part.file_size for part in parts.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise LabError(f"{name}: is not a valid spreadsheet, or cut off") from None
    if size > limits.workbook or size > limits.free + limits.ratio * max(notes.size, 1):
        raise LabError(f"{name}: its parts unpack to {megabytes(size)}, too much for a spreadsheet; save it as CSV")


def _header(where: str, number: int, cells: list[Any], limits: Limits) -> list[str]:
    if len(cells) > limits.columns:
        raise LabError(f"{where}: row {number}: {len(cells):,} columns; at most {limits.columns:,} can be read")
    header = [str(cell).strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    twice = next((cell for place, cell in enumerate(header) if cell in header[:place]), None) if len(set(header)) < len(header) else None
    if twice is not None:
        raise LabError(f"{where}: row {number} names the column {twice[:60]!r} twice; give each column a name of its own")
    return header


def _entries(name: str, file: IO[bytes], limits: Limits, sheet: str) -> Iterator[dict[str, Any]]:
    asked = json.dumps({"value": limits.value, "sheet": sheet, "memory": _MEMORY})
    command = [sys.executable, "-P", "-m", __name__, asked]  # -P: what lies in the working folder is data, not modules
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=paths) as process:
        try:
            for line in process.stdout:
                entry = json.loads(line) if line.endswith(b"\n") else {"error": "the reader ended within a row"}
                if "error" in entry:
                    raise LabError(f"{name}: {entry['error']}")
                yield entry
            if process.wait():
                raise LabError(f"{name}: is not a valid spreadsheet, or needs more than {megabytes(_MEMORY)} of memory; save it as CSV")
        finally:
            process.kill()


def _serve(asked: str) -> None:
    """What the process does: read the workbook that is its standard input and print its rows."""
    try:
        import python_calamine
    except ModuleNotFoundError:
        _say({"error": "cannot be read without python-calamine; install it, or save the file as CSV"})
        return
    asked = json.loads(asked)
    _bound_memory(asked["memory"])
    try:
        os.lseek(0, 0, os.SEEK_SET)
        with open(0, "rb") as file, python_calamine.load_workbook(file) as book:
            names = book.sheet_names
            if asked["sheet"] and asked["sheet"] not in names:
                _say({"error": f"has no sheet {asked['sheet']!r}; there are: {', '.join(names)}"})
                return
            for name in [asked["sheet"]] if asked["sheet"] else names:
                for number, cells in enumerate(book.get_sheet_by_name(name).iter_rows(), 1):
                    if any(cell != "" for cell in cells):
                        _say(_entry(name, number, cells, asked["value"]))
    except python_calamine.PasswordError:
        _say({"error": "is protected by a password; save it without one"})
    except (python_calamine.CalamineError, MemoryError, OSError, ValueError) as error:
        _say({"error": f"is not a valid spreadsheet, or cut off: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"})


def _entry(name: str, number: int, cells: list[Any], limit: int) -> dict[str, Any]:
    plain = [_plain(cell) for cell in cells]
    long = sum(len(cell) for cell in plain if isinstance(cell, str)) > limit
    return {"sheet": name, "row": number, "cells": [] if long else plain, "problem": f"longer than {megabytes(limit)}" if long else ""}


def _plain(cell: Any) -> Any:
    """A cell as JSON: whole numbers as such (a spreadsheet keeps all as floating point), dates and times as ISO 8601."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 1 << 53 else cell if cell == cell and abs(cell) != float("inf") else str(cell)
    return cell if isinstance(cell, str | int) else cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _bound_memory(size: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such bound
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _say(entry: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    _serve(sys.argv[1])

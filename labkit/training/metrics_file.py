"""metrics.jsonl while a training writes it: a row a step, at once on the disk, and taken back to the last checkpoint's step."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labkit import files
from labkit.errors import LabError

Write = Callable[[dict[str, Any]], None]


def rewind(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the rows after `step` (a killed training wrote them after its last checkpoint); gives those that are left."""
    rows = []
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError):  # the last line may be half written, and end within a character
                row = json.loads(line)
                if row["step"] <= step:
                    rows.append(row)
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


@contextlib.contextmanager
def appending(path: Path) -> Iterator[Write]:
    """A function that appends a row.

    Raises:
        LabError: the disk is full, or the file cannot be written.
    """
    with _named(path):
        file = path.open("ab", buffering=0)  # a buffer would be written again, and fail again, when the file is closed

    def write(row: dict[str, Any]) -> None:
        left = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        with _named(path):
            while left:
                left = left[file.write(left):]

    with file:
        yield write


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; free some space, then go on with the same command "
                       "(the last checkpoint is whole)") from error

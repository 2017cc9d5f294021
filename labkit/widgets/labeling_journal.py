"""The file in which a person's labels are kept: one JSON object a line, a line for each time a record was saved.

A line is written at once and stands on disk when `Journal.save` returns; the last line of a record is what counts. Nothing is
overwritten, so the file also tells what was changed.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.labeling.annotations import STATUSES, Annotation

_START = b'{"record": "'  # how each line begins


@dataclass(frozen=True)
class Entry:
    """What one annotator last said about one record: `values` by field (empty where it was discarded), `seconds` all the time that was
    spent on it, None where that is not known."""

    record: str
    annotator: str
    status: str
    values: dict[str, Any]
    time: datetime
    seconds: float | None = None

    def annotations(self, fields: Iterable[str]) -> list[Annotation]:
        """An annotation for each field that has a value; where the record was discarded one for each of `fields`, without a value.

        Each has the seconds of the whole record, as the fields are answered together (`quality.annotators.speed` counts them once).
        """
        values = dict.fromkeys(fields) if self.status == "discarded" else self.values
        return [Annotation(self.record, name, self.annotator, value, self.status, self.time, self.seconds)
                for name, value in values.items()]


class Journal:
    """The entries of one file; read when it is opened.

    A last line without its end, as a power cut leaves it, is no entry; the next `save` takes it off. Reading changes nothing, for another
    process may be writing.

    Raises:
        LabError: a line is no entry; names file and line.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._latest: dict[tuple[str, str], Entry] = {}
        self._torn: tuple[int, int] | None = None  # bytes up to the torn line, and with it
        self._read()

    def entries(self, annotator: str | None = None) -> list[Entry]:
        """The latest entry of each record (and annotator), in the order in which the records were first saved."""
        return [entry for entry in self._latest.values() if annotator in (None, entry.annotator)]

    def entry(self, record: str, annotator: str) -> Entry | None:
        """The latest entry of this record by this annotator, if there is one."""
        return self._latest.get((record, annotator))

    def save(self, entry: Entry) -> None:
        """Write an entry behind the others.

        Raises:
            LabError: the file cannot be written.
        """
        plain = {**dataclasses.asdict(entry), "time": entry.time.astimezone(UTC).isoformat()}
        line = json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._torn and self.path.exists() and self.path.stat().st_size == self._torn[1]:
                os.truncate(self.path, self._torn[0])
            self._torn = None
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise LabError(f"cannot write {self.path}: {error.strerror or error}; free some space or choose another file",
                           f"无法写入 {self.path}（{error.strerror or error}），请释放磁盘空间或换一个文件") from error
        self._latest[entry.record, entry.annotator] = entry

    def _read(self) -> None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise LabError(f"cannot read {self.path}: {error.strerror or error}; name a file") from error
        *lines, last = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            if line.strip():
                entry = self._entry(line, number)
                self._latest[entry.record, entry.annotator] = entry
        if last:
            if not last.startswith(_START[: len(last)]):  # not written here: nothing of it may be taken off
                raise LabError(f"{self.path}, line {len(lines) + 1}: no entry of a labelling; name another file")
            self._torn = len(content) - len(last), len(content)

    def _entry(self, line: bytes, number: int) -> Entry:
        try:
            plain = json.loads(line)
            entry = Entry(**{**plain, "time": datetime.fromisoformat(plain["time"])})
        except (ValueError, TypeError, KeyError) as error:
            raise LabError(f"{self.path}, line {number}: no entry of a labelling ({error}); mend the line or take it out") from None
        if entry.status not in STATUSES or not isinstance(entry.values, dict):
            raise LabError(f"{self.path}, line {number}: status must be one of {', '.join(STATUSES)}, values an object")
        return entry


def read(path: str | os.PathLike, fields: Iterable[str]) -> list[Annotation]:
    """The annotations in a labelling file, of all its annotators.

    Args:
        fields: the scenario's fields, which a discarded record is told for.

    Raises:
        LabError: the file is missing, or a line is no entry.
    """
    if not Path(path).is_file():
        raise LabError(f"{path} does not exist")
    names = list(fields)
    return [annotation for entry in Journal(path).entries() for annotation in entry.annotations(names)]

"""A row of somebody's source with its place: what every reader yields and what becomes a record."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source.

    `file` is the source as it was named (for a folder or an archive the file inside it), `number` counts from 1 as an editor or a
    spreadsheet shows it (text files: the line where the row begins; tables without lines: the row), `values` are its columns.
    `problem` says why the row could not be read; it is empty for a good row. A reader yields every row, the broken ones too.
    """

    file: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

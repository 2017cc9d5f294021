"""Readers: one module a kind of source, each a function that yields every row of it, the broken ones too.

A reader takes the source's name as it is shown, what it reads from, the `Limits` and the `Notes` that it fills in. It yields `Row`s
with a `problem` where one row is broken, and raises a `LabError` that begins with the name where nothing more can be read.
Readers know nothing about scenarios or records, nor which kind a file is: that is `labkit.data.sources`.
"""

from dataclasses import dataclass

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one source may take.

    `value`: characters of one line, cell or JSON value (more: the row is rejected, unread). `decompressed`: bytes that come out of one
    compressed file; `ratio`: how many times its compressed size that may be, beyond the first `free` bytes. `workbook`: bytes of
    a spreadsheet once unpacked. `columns`: of a table. `depth`: of JSON values in one another.
    """

    value: int = 16 * MEGABYTE
    decompressed: int = 4096 * MEGABYTE
    ratio: int = 200
    free: int = 64 * MEGABYTE
    workbook: int = 256 * MEGABYTE
    columns: int = 10_000
    depth: int = 64


DEFAULT = Limits()


@dataclass
class Notes:
    """What was found out about one source while it was read. `formulas` counts cells that a spreadsheet would take for a formula
    (they stay text). `bytes_read` of `size` bytes (0: unknown) have been read from the disk."""

    kind: str = ""
    compression: str = ""
    encoding: str = ""
    delimiter: str = ""
    license: str = ""
    formulas: int = 0
    bytes_read: int = 0
    size: int = 0


def megabytes(size: int) -> str:
    """`16 MB`: a size as it is told to people; sizes below one as bytes."""
    return f"{size / MEGABYTE:g} MB" if size >= MEGABYTE else f"{size:,} bytes"

"""Tables by columns: Parquet (by row groups) and Arrow's IPC files and streams (by batches)."""

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from labkit.data.readers import Limits, Notes, megabytes
from labkit.data.rows import Row
from labkit.errors import LabError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 1000  # are turned into Python values at a time
_BATCH = 32 << 20  # bytes: fewer rows where they are long


def parquet(name: str, file: IO[bytes], limits: Limits, notes: Notes) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        LabError: it is broken, or unpacks to far more than its size.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file, memory_map=False, pre_buffer=False) as table:
            _check_columns(name, table.schema_arrow.names, limits)
            metadata = table.metadata
            groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
            if unpacked > limits.free + limits.ratio * notes.size:
                raise LabError(f"{name}: unpacks to {megabytes(unpacked)}, more than {limits.ratio} times its size")
            widest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
            dictionaries = [each.name for each in table.schema_arrow if pyarrow.types.is_string(each.type)
                            or pyarrow.types.is_large_string(each.type)]
        with pyarrow.parquet.ParquetFile(file, read_dictionary=dictionaries, pre_buffer=False) as table:
            yield from _rows(name, table.iter_batches(batch_size=max(1, min(_ROWS, _BATCH // (widest + 1)))), limits)
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        raise LabError(f"{name}: is not valid Parquet, or cut off: {_line(error)}") from None


def arrow(name: str, file: IO[bytes], limits: Limits, notes: Notes) -> Iterator[Row]:
    """The rows of an Arrow IPC file or stream.

    Raises:
        LabError: it is broken or cut off.
    """
    import pyarrow
    import pyarrow.ipc

    try:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        with pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file) as table:
            _check_columns(name, table.schema.names, limits)
            batches = (table.get_batch(place) for place in range(table.num_record_batches)) if is_file else iter(table)
            yield from _rows(name, map(_validated, batches), limits)
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        raise LabError(f"{name}: is not a valid Arrow file, or cut off: {_line(error)}") from None


def _validated(batch: "pyarrow.RecordBatch") -> "pyarrow.RecordBatch":
    """The batch whose offsets and lengths are known to lie within it: an IPC file is taken into memory as it stands, and a wrong
    offset would read beyond. What the texts hold is checked value by value."""
    import pyarrow

    plain = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}
    for column in batch.columns:
        (column.view(plain[column.type]) if column.type in plain else column).validate(full=True)
    return batch


def _rows(name: str, batches: "Iterator[pyarrow.RecordBatch]", limits: Limits) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            part = batch.slice(start, _ROWS)
            columns = [_values(column, limits) for column in part.columns]
            for values in zip(*columns, strict=True):
                number += 1
                problem = next((value.problem for value in values if type(value) is _Problem), "")
                named = zip(part.schema.names, values, strict=True)
                if problem:
                    yield Row(name, number, {key: value for key, value in named if type(value) is not _Problem}, problem)
                else:
                    yield Row(name, number, dict(named))


class _Problem:
    """Stands in a column where its value cannot be had."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def _values(column: "pyarrow.Array", limits: Limits) -> list[Any]:
    """The column as Python values. A dictionary's texts are made once and shared, so that a small file with one long text that all
    rows point at stays small."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        places = column.indices.to_pylist()
        used = list({place for place in places if place is not None})  # the dictionary may be that of all rows
        texts = dict(zip(used, _values(column.dictionary.take(pyarrow.array(used, pyarrow.int64())), limits), strict=True))
        return [None if place is None else texts[place] for place in places]
    if column.nbytes <= limits.value:
        try:
            return column.to_pylist()
        except (ValueError, OverflowError):  # one of them: text that is not UTF-8, a time that Python cannot hold
            pass
    found: list[Any] = []
    for scalar in column:
        try:
            value = scalar.as_py()
            long = isinstance(value, str | bytes) and len(value) > limits.value
            found.append(_Problem(f"a value longer than {megabytes(limits.value)}") if long else value)
        except (ValueError, OverflowError) as error:
            text = isinstance(error, UnicodeDecodeError)
            found.append(_Problem("not UTF-8 text" if text else f"a value that cannot be read: {_line(error)}"))
    return found


def _check_columns(name: str, names: list[str], limits: Limits) -> None:
    if len(names) > limits.columns:
        raise LabError(f"{name}: {len(names):,} columns; at most {limits.columns:,} can be read")
    twice = next((each for each in names if names.count(each) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise LabError(f"{name}: names the column {twice[:60]!r} twice; give each column a name of its own")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

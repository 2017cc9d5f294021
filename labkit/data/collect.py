"""Rows of any number of sources as records on disk: every row becomes a record or a reject with its place and its reason.

Nothing is mended here. Texts and labels stay as they stand in the file, without their outer white space, so that later steps can
show what they change; only what can be no record at all is rejected. Records go to an Arrow file as they come, rejects to a JSONL
file, so that memory does not grow with the data.
"""

import atexit
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit import records as recs
from labkit.data import mapping as maps
from labkit.data import sources
from labkit.data.making import Maker
from labkit.data.readers import DEFAULT, Limits, Notes
from labkit.data.rows import Row
from labkit.errors import LabError
from labkit.scenarios import LANGUAGES, Scenario

if TYPE_CHECKING:
    from datasets import Dataset

Progress = Callable[[int, float], None]  # rows read so far, share of the bytes read (0 to 1; 0 where nobody can tell)

_GUESS_FROM = 200  # rows
_BATCH = 1000  # records that are written at a time
_SHOWN = 500  # characters of a rejected value that are kept
_SHOWN_COLUMNS = 50
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Rejects:
    """The rows that became no record, in their order: `{file, row, problem, values}`, from the JSONL file `path`."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


@dataclass(frozen=True)
class Collected:
    """What came out of the sources: the records; the scenario they belong to (narrowed where the labels are the file's); the rejects;
    how many rows were read and how many of them rejected, by file (a file that cannot be read counts as one row); what records say
    they come from, by file; the mapping; and what was found out about each source."""

    records: "Dataset"
    scenario: Scenario
    rejects: Rejects
    rows_read: dict[str, int]
    rejected: dict[str, int]
    titles: dict[str, str]
    mapping: dict[str, str]
    notes: dict[str, Notes]


def preview(names: list[str], limits: Limits = DEFAULT, count: int = _GUESS_FROM) -> list[Row]:
    """The first good rows of the sources, as many as a mapping is guessed from.

    Raises:
        LabError: see `sources.expand`; or a source that was named gives no row.
    """
    rows = (row for source in sources.expand(names) for row in sources.rows(source, limits=limits) if not row.problem)
    return list(islice(rows, count))


def collect(names: list[str], scenario: Scenario, mapping: dict[str, str] | None = None, *, labels: str = "scenario",
            license: str = "unknown", language: str | None = None, folder: Path | None = None, limits: Limits = DEFAULT,
            on_progress: Progress | None = None) -> Collected:
    """Records from all rows of these sources (see `sources.expand`); without a mapping the one that `mapping.guess` finds.

    Args:
        labels: `scenario` keeps the scenario as it is; `file` gives it the labels that stand in the mapped columns, and only the
            mapped fields.
        license: for rows that have none of their own.
        language: `en` or `zh` for rows that have none of their own; without it, it is told by their script.
        folder: where the records (`records.arrow`) and the rejects (`rejects.jsonl`) are kept; without one they are gone when the
            process ends.

    Raises:
        LabError: a source that was named gives no row; no text column can be told; a mapped column is in no row; no row works.
    """
    if labels not in ("scenario", "file"):
        raise LabError(f"labels must be scenario or file, not {labels!r}")
    if language not in (None, *LANGUAGES):
        raise LabError(f"language must be one of {', '.join(LANGUAGES)}, not {language!r}")
    found = sources.expand(names)
    if mapping is not None:
        maps.check(mapping, scenario)
    folder = _temporary() if folder is None else Path(folder)
    notes: dict[str, Notes] = {}
    maker = Maker(scenario, mapping or {}, _titles(found), license, language, notes)
    counts = _Counts()
    rows = (row for source in found for row in sources.rows(source, limits=limits, notes=notes))
    total = sum(map(_size, found))
    if mapping is None:
        begin = list(_until(rows, _GUESS_FROM))
        maker.mapping = mapping = _guessed(begin, scenario)
        rows = chain(begin, rows)
    with files.whole(folder / "records.arrow") as arrow, files.whole(folder / "rejects.jsonl") as rejected:
        with _writer(arrow) as write, rejected.open("w", encoding="utf-8") as out:
            for row in rows:
                counts.rows += 1
                counts.read[row.file] += 1
                record, problem = (None, row.problem) if row.problem else maker.make(row)
                if record is None:
                    counts.rejected[row.file] += 1
                    counts.first = counts.first or f"{row.file}, row {row.number}: {problem}"
                    out.write(json.dumps(_reject(row, problem), ensure_ascii=False) + "\n")
                else:
                    write(record)
                if on_progress and counts.rows % _BATCH == 0:
                    on_progress(counts.rows, _share(notes, total))
        _check(counts, maker, mapping)
        narrowed = _narrowed(scenario, maker, mapping) if labels == "file" else scenario
    if on_progress:
        on_progress(counts.rows, 1.0)
    from datasets import Dataset

    return Collected(Dataset.from_file(str(folder / "records.arrow")), narrowed,
                     Rejects(folder / "rejects.jsonl", counts.rejected.total()), dict(counts.read), dict(counts.rejected),
                     {file: maker.title(file) for file in counts.read}, mapping, notes)


class _Counts:
    """Rows by file, and what the first reject says."""

    def __init__(self) -> None:
        self.rows = 0
        self.read: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.first = ""


def _until(rows: Iterator[Row], count: int) -> Iterator[Row]:
    """Rows up to so many good ones. (Broken ones before them are bounded too: they are held.)"""
    good = 0
    for row in islice(rows, 20 * count):
        yield row
        good += not row.problem
        if good == count:
            return


def _guessed(rows: list[Row], scenario: Scenario) -> dict[str, str]:
    good = [row for row in rows if not row.problem]
    if not good:
        first = f"; the first: {rows[0].file}, row {rows[0].number}: {rows[0].problem}" if rows else ""
        raise LabError(f"none of the first {len(rows)} rows can be read{first}")
    found = maps.guess(good, scenario)
    if not any(target in found.mapping for target in maps.CONTENT):
        columns = list(dict.fromkeys(str(column) for row in good for column in row.values))
        raise LabError(f"no column looks like the user's message; there are {', '.join(columns[:30])}; say which: --map text=COLUMN,…",
                       f"没有列像是用户消息；现有 {'、'.join(columns[:30])}；请指明：--map text=列,…")
    return found.mapping


def _titles(found: list[sources.Source]) -> dict[str, str]:
    """What records say they come from: a file's name without its folder, where that is enough to tell it from the others."""
    often = Counter(source.title for source in found)
    return {source.name: source.title if often[source.title] == 1 else source.name for source in found}


def _size(source: sources.Source) -> int:
    """Bytes on the disk; 0 where nobody can tell, which is told where the source is read."""
    if source.path is None or source.problem:
        return 0
    try:
        return source.path.stat().st_size
    except OSError:
        return 0


def _share(notes: dict[str, Notes], total: int) -> float:
    return min(sum(each.bytes_read for each in notes.values()) / total, 1.0) if total else 0.0


def _reject(row: Row, problem: str) -> dict[str, Any]:
    values = {}
    for key, value in islice(row.values.items(), _SHOWN_COLUMNS):
        text = str(value)[:_SHOWN].encode("utf-8", "replace").decode()  # what is no text cannot be written as text
        values[str(key)[:_SHOWN].encode("utf-8", "replace").decode()] = text
    return {"file": row.file, "row": row.number, "problem": problem, "values": values}


def _check(counts: _Counts, maker: Maker, mapping: dict[str, str]) -> None:
    if counts.rows > counts.rejected.total():
        missing = next((column for column in mapping.values() if column in maker.unseen), None)
        if missing is not None:
            raise LabError(f"column {missing!r} is in none of the rows; there are {', '.join(list(maker.columns)[:30])}")
        return
    raise LabError(f"none of the {counts.rows} rows works" + (f"; the first: {counts.first}" if counts.first else ""))


def _narrowed(scenario: Scenario, maker: Maker, mapping: dict[str, str]) -> Scenario:
    """The scenario with the mapped fields only, and their labels as the file spells them most often."""
    labels: dict[str, list[str]] = {}
    for name, counted in maker.labels.items():
        if name not in mapping:
            continue
        spellings: dict[str, str] = {}
        for value, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
            plain = value.strip(".。").strip()
            if plain:
                spellings.setdefault(plain.casefold(), plain)
        labels[name] = sorted(spellings.values())
        if len(labels[name]) < 2:
            only = f"only the value {labels[name][0]!r}" if labels[name] else "no value"
            raise LabError(f"column {mapping[name]!r} has {only}; a label needs at least two")
    keep = [field.name for field in scenario.fields if field.name in mapping]
    if not keep:
        raise LabError("no column is mapped to a field of the answer, so there are no labels to take from the file")
    return scenario.narrowed(scenario.name, labels, keep)


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="labkit-collected-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _writer(path: Path) -> Iterator[Callable[[recs.Record], None]]:
    """A function that writes one record; the columns are built by hand, ten times as fast as by examples."""
    import pyarrow as pa

    schema = recs.features().arrow_schema
    held: list[recs.Record] = []

    def flush() -> None:
        columns = []
        for field in schema:
            values = [record[field.name] for record in held]
            if isinstance(field.type, pa.BaseExtensionType):
                texts = list(map(_JSON.encode, values))
                columns.append(pa.ExtensionArray.from_storage(field.type, pa.array(texts, field.type.storage_type)))
            else:
                columns.append(pa.array(values, field.type))
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        held.clear()

    size = 0

    def write(record: recs.Record) -> None:
        nonlocal size
        held.append(record)
        size += sum(len(message["content"]) for message in record["messages"])
        if len(held) == _BATCH or size > 1 << 24:  # long texts must not add up in memory
            flush()
            size = 0

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        yield write
        if held:
            flush()

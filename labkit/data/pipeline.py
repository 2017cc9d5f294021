"""Runs a plan over records: its steps in order, each counted, every record accounted for.

Consecutive steps that see one record at a time are one pass over chunks, which an engine spreads over processes; steps that see all
records run between the passes. Between two of them the records lie in an Arrow file, so that memory stays bounded. The result is the
same, byte for byte, for every engine and any number of processes.
"""

import atexit
import contextlib
import importlib
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import records as recs
from labkit.data import engines, steps
from labkit.data.ledger import CHECK, TITLES, Count, Ledger, Sample, candidates, origin, shown
from labkit.data.plan import Plan
from labkit.data.steps import Mark, Outcome, Step
from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

__all__ = ["CHECK", "TITLES", "Count", "Pass", "Prepared", "Sample", "reason_title", "run", "trace"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What came out: the records that stay, in their order; the dropped ones as a data set of position (in the input, from 0), step,
    reason, file, row and twin (the position of the record that a duplicate repeats, else -1), without text; and what each step did.
    len(records) + len(dropped) = `records_in`."""

    records: "Dataset"
    dropped: "Dataset"
    counts: list[Count]
    samples: dict[str, list[Sample]]
    plan: Plan
    records_in: int
    positions: list[int]
    seconds: float

    @property
    def rejected(self) -> int:
        """How many of the dropped records failed the last check."""
        return self.counts[-1].dropped.total()


def run(records: "Dataset", scenario: Scenario, plan: Plan, *, processes: int = 1, engine: str = "local", seed: int = 0,
        on_progress: Progress | None = None, folder: str | Path | None = None) -> Prepared:
    """Run the plan over the records.

    Args:
        processes: how many may work at once.
        engine: `local`, `datasets` or `ray`; all give the same.
        seed: for steps that have a parameter `seed`, where the plan gives none.
        on_progress: called with (step, records done, records there); what it raises ends the run.
        folder: where the records that stay are kept; by default a temporary folder that is deleted when the process ends.

    Raises:
        LabError: the data set does not hold records, a step refuses, or an engine is missing.
    """
    began = time.perf_counter()
    stage, ledger = _Stage(_with_positions(records), _workspace(folder)), Ledger(plan)
    try:
        _run_all(stage, ledger, scenario, plan, processes, engine, seed, on_progress or (lambda step, done, total: None))
        samples = shown(ledger, scenario, plan)
    except BaseException:  # Ctrl-C too leaves no files behind
        shutil.rmtree(stage.folder, ignore_errors=True)
        raise
    return Prepared(stage.records.remove_columns("position"), ledger.dropped(), ledger.counts, samples, plan, len(records),
                    list(stage.records["position"]), time.perf_counter() - began)


def _run_all(stage: "_Stage", ledger: Ledger, scenario: Scenario, plan: Plan, processes: int, engine: str, seed: int,
             tell: Progress) -> None:
    with engines.start(engine, processes, records=len(stage.records)) as run_over:
        for first, last in _passes(plan):
            uses = list(enumerate(plan.uses))[first:last]
            name, step = plan.uses[first].step, steps.get(plan.uses[first].step)
            if step.sees_all:
                given = _parameters(step, plan.uses[first].parameters, seed)
                tell(name, 0, len(stage.records))
                _see_all(stage, first, step, given, scenario, processes, ledger)
                continue
            work = Pass(scenario, tuple((place, use.step, _parameters(steps.get(use.step), use.parameters, seed)) for place, use in uses))
            _over_chunks(stage, work, run_over, ledger, tell, name)
        _over_chunks(stage, Pass(scenario, ((len(plan.uses), CHECK, {}),)), run_over, ledger, tell, CHECK)


def trace(record: Record, scenario: Scenario, plan: Plan, *, seed: int = 0) -> list[tuple[str, Outcome]]:
    """What each step that sees one record at a time does to this one, in order, up to the step that drops it."""
    found = []
    for use in plan.uses:
        step = steps.get(use.step)
        if not step.sees_all:
            outcome = step.run(record, scenario, **_parameters(step, use.parameters, seed))
            found.append((use.step, outcome))
            record = outcome.record
            if outcome.drop:
                break
    return found


def reason_title(reason: str, language: str = "en") -> str:
    """A reason for a drop as a person reads it; the reason itself where no step has a title for it."""
    for room in steps._ROOMS:
        known = getattr(importlib.import_module(f"labkit.data.steps.{room}"), "REASONS", {})
        if reason in known:
            return known[reason][language]
    return reason


# ---- one pass over chunks

@dataclass(frozen=True)
class Pass:
    """Consecutive steps over a chunk: a table of records with their positions to one of those that stay, with a column `report`
    that holds, in its first row, what happened as JSON. A picklable function, so that any engine can run it anywhere."""

    scenario: Scenario
    uses: tuple[tuple[int, str, dict[str, Any]], ...]  # place in the plan, step, all its parameters

    def __call__(self, table: "pa.Table") -> "pa.Table":
        rows = recs.from_table(table)
        positions = table.column("position").to_pylist()
        alive = list(range(len(rows)))
        now = list(rows)
        report: dict[str, Any] = {"counts": {}, "dropped": [], "samples": {}}
        for place, name, parameters in self.uses:
            run = _check if name == CHECK else steps.get(name).run
            counted: Counter[str] = Counter()
            touched, staying = 0, []
            samples: list[tuple[Record, Record | None, str]] = []
            sampled: list[int] = []
            began = time.perf_counter()
            for index in alive:
                before = now[index]
                try:
                    outcome = run(before, self.scenario, **parameters)
                except Exception as error:
                    error.add_note(f"step {name}, record {positions[index]} of the input, {' row '.join(map(str, origin(before)))}")
                    raise
                if outcome.drop:
                    report["dropped"].append([positions[index], place, outcome.drop, *origin(before)])
                    sampled.append(positions[index])
                    samples.append((before, None, outcome.drop))
                else:
                    staying.append(index)
                    if outcome.record is not before:
                        now[index] = outcome.record
                        if name != CHECK:
                            sampled.append(positions[index])
                            samples.append((before, outcome.record, ""))
                if outcome.counts or (not outcome.drop and outcome.record is not before):
                    touched += 1
                    counted.update(outcome.counts)
            report["counts"][place] = [len(alive), touched, counted, time.perf_counter() - began]
            report["samples"][place] = candidates(sampled, samples.__getitem__, place, self.scenario)
            alive = staying
        return _packed(table, rows, now, alive, json.dumps(report, ensure_ascii=False))


def _check(record: Record, scenario: Scenario) -> Outcome:
    try:
        checked = recs.check(record, scenario)
    except LabError as error:
        # What the record holds stands in quotes, and goes into no report.
        return Outcome(record, {}, re.sub(r"'.*'|\".*\"", "…", str(error)).partition(" (")[0])
    if _json(checked["answer"]) == _json(record["answer"]):
        checked = record
    identity = recs.content_id(checked)
    return Outcome(checked if identity == checked["id"] else {**checked, "id": identity})


def _packed(table: "pa.Table", before: list[Record], now: list[Record], alive: list[int], report: str) -> "pa.Table":
    """The rows that stay as a table, with the report in its first row. Where none stays the first row of the input stands for them,
    at position -1."""
    import pyarrow as pa

    chosen = alive or [0]
    taken = table if len(chosen) == len(before) else table.take(pa.array(chosen))
    columns = []
    for key in recs.KEYS:
        kind = table.schema.field(key).type
        if all(now[index][key] is before[index][key] for index in chosen):
            columns.append(taken.column(key))
        elif key in ("answer", "meta"):
            columns.append(_column([text if now[index][key] is before[index][key] else _json(now[index][key])
                                    for text, index in zip(_stored(taken, key), chosen, strict=True)], kind))
        else:
            columns.append(pa.array([now[index][key] for index in chosen], kind))
    columns.append(taken.column("position") if alive else pa.array([-1], pa.int64()))
    columns.append(pa.array([report, *[None] * (len(chosen) - 1)], pa.large_string()))
    return pa.table(columns, names=[*recs.KEYS, "position", "report"])


def _stored(table: "pa.Table", key: str) -> list[Any]:
    """A column's values; of a JSON column its texts."""
    import pyarrow as pa

    column = table.column(key).combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return (column.storage if isinstance(column, pa.ExtensionArray) else column).to_pylist()


def _column(values: list[Any], kind: "pa.DataType") -> "pa.Array":
    """The other way round."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    return pa.array(values, kind)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _over_chunks(stage: "_Stage", work: Pass, run_over: engines.Engine, ledger: Ledger, tell: Progress, name: str) -> None:
    total, done = len(stage.records), 0
    tell(name, 0, total)
    with stage.next() as write:
        for table in run_over(stage.records, work) if total else ():
            for text in filter(None, table.column("report").to_pylist()):
                done += ledger.take(json.loads(text))
            write(_kept(table.drop_columns("report")))
            tell(name, done, total)


def _kept(table: "pa.Table") -> "pa.Table":
    import pyarrow.compute as pc

    return table.filter(pc.greater_equal(table.column("position"), 0))


# ---- a step that sees all

def _see_all(stage: "_Stage", place: int, step: Step, parameters: dict[str, Any], scenario: Scenario, processes: int,
             ledger: Ledger) -> None:
    began = time.perf_counter()
    records = stage.records.remove_columns("position")
    marks = step.run(records, scenario, processes=processes, **parameters) if len(records) else []
    if len(marks) != len(records):
        raise RuntimeError(f"step {step.name} gave {len(marks)} marks for {len(records)} records")
    count = ledger.counts[place]
    count.seen = len(records)
    everywhere = stage.records["position"][:] if any(mark.twin >= 0 for mark in marks) else []
    with stage.next() as write:
        first = 0
        for table in engines.chunks(stage.records):
            some = marks[first:first + len(table)]
            first += len(table)
            for mark in some:
                count.counted.update(mark.counts)
                count.touched += bool(mark.counts or (mark.changes and not mark.drop))
            changed = [index for index, mark in enumerate(some) if mark.changes and not mark.drop]
            dropped = [index for index, mark in enumerate(some) if mark.drop]
            look = _Marked(table, some)
            positions = table.column("position").to_pylist()
            for index in dropped:
                mark = some[index]
                ledger.drop(positions[index], place, mark.drop, *origin(look.before(index)),
                            twin=everywhere[mark.twin] if mark.twin >= 0 else -1)
            touched = dropped + changed
            ledger.sample(place, candidates([positions[index] for index in touched], lambda number, look=look, touched=touched: look(
                touched[number]), place, scenario))
            left = look.left(changed, dropped)
            if len(left):
                write(left)
    count.seconds = time.perf_counter() - began


class _Marked:
    """A table of records with the marks of its rows. A row is read only where something is asked of it: most steps change one key, or
    few rows."""

    def __init__(self, table: "pa.Table", marks: list[Mark]) -> None:
        self.table, self.marks = table, marks
        self._read: dict[int, Record] = {}

    def before(self, index: int) -> Record:
        """A record as it was. With the first dropped one all of these are read."""
        if index not in self._read:
            wanted = [index]
            if self.marks[index].drop:
                wanted = [each for each, mark in enumerate(self.marks) if mark.drop]
            self._read.update(zip(wanted, recs.from_table(self.table.take(wanted)), strict=True))
        return self._read[index]

    def __call__(self, index: int) -> tuple[Record, Record | None, str]:
        before, mark = self.before(index), self.marks[index]
        return before, None if mark.drop else {**before, **mark.changes}, mark.drop

    def left(self, changed: list[int], dropped: list[int]) -> "pa.Table":
        """The table with the changes, without what was dropped."""
        import numpy
        import pyarrow as pa

        table = self.table
        for key in sorted({key for index in changed for key in self.marks[index].changes}):
            place = table.schema.get_field_index(key)
            field = table.schema.field(place)
            values = _stored(table, key)
            for index in changed:
                if key in self.marks[index].changes:
                    new = self.marks[index].changes[key]
                    values[index] = _json(new) if key in ("answer", "meta") else new
            table = table.set_column(place, field, _column(values, field.type))
        if dropped:
            stays = numpy.ones(len(table), bool)
            stays[dropped] = False
            table = table.filter(pa.array(stays))
        return table


# ---- where the records lie between two passes

class _Stage:
    """The records with their positions, in an Arrow file after the first pass; `next` writes the file that takes its place."""

    def __init__(self, records: "Dataset", folder: Path) -> None:
        self.records, self.folder, self.number, self.path = records, folder, 0, None

    def next(self) -> "_Writer":
        return _Writer(self)


class _Writer:
    def __init__(self, stage: _Stage) -> None:
        self.stage = stage

    def __enter__(self) -> Callable[["pa.Table"], None]:
        import pyarrow as pa

        self.stage.number += 1
        self.path = self.stage.folder / f"records-{self.stage.number}.arrow"
        self.schema = _features().arrow_schema
        try:
            self.file = pa.OSFile(str(self.path), "wb")
        except OSError as error:
            raise LabError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.stream = pa.ipc.new_stream(self.file, self.schema)

        def write(table: "pa.Table") -> None:
            try:
                self.stream.write_table(table.select(self.schema.names).cast(self.schema))
            except OSError as error:
                raise LabError(f"cannot write {self.path}: {error.strerror or error}; free some space or set TMPDIR") from error

        return write

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from datasets import Dataset

        self.stream.close()
        self.file.close()
        if kind is not None:
            self.path.unlink(missing_ok=True)
            return
        before, self.stage.path = self.stage.path, self.path
        self.stage.records = Dataset.from_file(str(self.path))
        if before is not None:
            with contextlib.suppress(PermissionError):  # Windows deletes no file that is still mapped; it goes with its folder
                before.unlink()


def _features() -> Any:
    from datasets import Features, Value

    return Features({**recs.features(), "position": Value("int64")})


def _with_positions(records: "Dataset") -> "Dataset":
    import numpy

    if set(records.column_names) != set(recs.KEYS):
        raise LabError(f"not a data set of records: its columns are {', '.join(records.column_names)}, wanted {', '.join(recs.KEYS)}")
    if records.features != recs.features():
        records = records.select_columns(list(recs.KEYS)).cast(recs.features())
    return records.add_column("position", numpy.arange(len(records), dtype="int64"))


def _workspace(folder: str | Path | None) -> Path:
    if folder is not None:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"cannot make {folder}: {error.strerror or error}") from error
        return Path(tempfile.mkdtemp(prefix="prepared-", dir=folder))
    path = Path(tempfile.mkdtemp(prefix="labkit-prepared-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


# ---- small things

def _passes(plan: Plan) -> Iterator[tuple[int, int]]:
    """The plan's steps as (first, behind the last): each step that sees all by itself, the others in their longest runs."""
    first = 0
    while first < len(plan.uses):
        last = first + 1
        if not steps.get(plan.uses[first].step).sees_all:
            while last < len(plan.uses) and not steps.get(plan.uses[last].step).sees_all:
                last += 1
        yield first, last
        first = last


def _parameters(step: Step, given: dict[str, Any], seed: int) -> dict[str, Any]:
    if "seed" in step.defaults and "seed" not in given:
        given = {**given, "seed": seed}
    return step.parameters(given)

"""From somebody's files to records that can be trusted: collect, run the plan, write the records and the account of every row.

What `labkit prepare` and `labkit build --source` do. All files that it writes lie beside the records and are named after them.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit import records as recs
from labkit import scenarios as scenario_files
from labkit.data import collect, pipeline, report
from labkit.data import mapping as maps
from labkit.data import plan as plans
from labkit.data.collect import Collected
from labkit.data.pipeline import Prepared
from labkit.data.plan import Plan
from labkit.data.privacy import vault as vaults
from labkit.data.rows import Row
from labkit.data.steps import labels as labels_of
from labkit.data.steps.duplicates import place
from labkit.errors import LabError
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

LABELS = ("auto", "scenario", "file")
_MOSTLY = 0.5  # of a column's values must be labels of the scenario for these to be meant

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Paths:
    """The files of a preparation: the records, and beside them what became of every row."""

    records: Path

    def _beside(self, ending: str) -> Path:
        return self.records.with_name(self.records.name.removesuffix(".jsonl") + ending)

    @property
    def scenario(self) -> Path:
        """The scenario that the records belong to, with the file's labels where those were taken."""
        return self._beside(".scenario.toml")

    @property
    def rejects(self) -> Path:
        """Rows that became no record: file, row, problem, values."""
        return self._beside(".rejects.jsonl")

    @property
    def dropped(self) -> Path:
        """Records that a step dropped: file, row, step, reason, and for a duplicate which record it repeats; no text."""
        return self._beside(".dropped.jsonl")

    @property
    def page(self) -> Path:
        """The report for people."""
        return self._beside(".report.html")

    @property
    def report(self) -> Path:
        """The report for programs."""
        return self._beside(".report.json")

    @property
    def plan(self) -> Path:
        """The plan that was run."""
        return self._beside(".plan.toml")


@dataclass(frozen=True)
class Preparation:
    """What came out, and where it was written."""

    collected: Collected
    prepared: Prepared
    scenario: Scenario
    report: report.Report
    paths: Paths

    @property
    def records(self) -> "Dataset":
        return self.prepared.records

    def headline(self) -> str:
        """One line: what became of all rows."""
        rows = self.report["rows"]
        counts = {split: self.records["split"].count(split) for split in ("train", "validation", "test")}
        splits = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        return (f"of {rows['read']:,} rows {rows['kept']:,} became records ({splits}), {rows['dropped']:,} were dropped, "
                f"{rows['rejected']:,} rejected")


def prepare(names: list[str], scenario: Scenario, out: str | Path, *, mapping: dict[str, str] | None = None, labels: str = "auto",
            plan: Plan | None = None, processes: int | None = None, engine: str = "local", seed: int = 0, license: str = "unknown",
            language: str | None = None, page_language: str = "en", vault: Path | None = None, passphrase: str = "",
            on_progress: Progress | None = None) -> Preparation:
    """Records from these sources, written to `out` (JSONL) with its companions (see `Paths`).

    Args:
        mapping: {target: column}; without one it is guessed (see `mapping.guess`).
        labels: `scenario` or `file` (see `collect.collect`); `auto` takes the file's where most of them are none of the scenario's.
        plan: the lab's own without one.
        processes: as many as there are cores without one.
        engine: `local`, `datasets` or `ray`.
        license, language: for rows that say neither.
        page_language: in which the report opens.
        vault: a file to which what was masked is written, encrypted with `passphrase`.
        on_progress: called with (step, done, total).

    Raises:
        LabError: see `collect.collect` and `pipeline.run`; or a file cannot be written.
    """
    plan = plan or plans.default()
    paths = Paths(Path(out))
    if vault is not None:
        if "protect" not in plan.names:
            raise LabError("a vault keeps what the step protect masks, and the plan has no such step")
        vaults.check_passphrase(vault, passphrase)  # now, not when all else is done
    tell = on_progress or (lambda step, done, total: None)
    rows = collect.preview(names)
    mapping = mapping or maps.guess(rows, scenario).mapping
    collected = collect.collect(names, scenario, mapping, labels=chosen_labels(rows, scenario, mapping, labels), license=license,
                                language=language, on_progress=lambda count, share: tell("collect", round(share * 1000), 1000))
    prepared = pipeline.run(collected.records, collected.scenario, plan, processes=processes or os.cpu_count() or 1, engine=engine,
                            seed=seed, on_progress=on_progress)
    if not len(prepared.records):
        raise LabError(f"no record is left of {len(collected.records)}; most were dropped by {_foremost(prepared)}")
    final = labels_of.still_used(collected.scenario, prepared.records)
    done = Preparation(collected, prepared, final, report.build(collected, prepared, final, page_language), paths)
    _write(done)
    if vault is not None:
        _lock_away(done, vault, passphrase)
    return done


def chosen_labels(rows: list[Row], scenario: Scenario, mapping: dict[str, str], labels: str = "auto") -> str:
    """`scenario` or `file`: whose labels the records get. `auto` is `file` where a label column is mapped and at most half of its
    values are labels of the scenario, in any of its spellings."""
    if labels not in LABELS:
        raise LabError(f"labels must be one of {', '.join(LABELS)}, not {labels!r}")
    if labels != "auto":
        return labels
    for field in scenario.label_fields:
        if field.name in mapping:
            known, values = field.spellings, [str(value).strip().casefold() for value in _column(rows, mapping[field.name])]
            if values and sum(value in known for value in values) <= _MOSTLY * len(values):
                return "file"
    return "scenario"


def from_records(path: str | Path, scenario: Scenario) -> tuple["Dataset", Scenario] | None:
    """The records in a file that `prepare` wrote, with their scenario (the one beside the file, else the one given); None where the
    file holds something else.

    Raises:
        LabError: it begins with a record, and a row of it is none.
    """
    path = Path(path)
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    first = collect.preview([str(path)], count=1)
    if not first or not set(recs.KEYS) <= set(first[0].values):
        return None
    beside = Paths(path).scenario
    scenario = scenario_files.read(beside) if beside.exists() else scenario
    return recs.read(path, scenario), scenario


def _column(rows: list[Row], column: str) -> list[Any]:
    found = []
    for row in rows:
        try:
            value = maps.value_of(row.values, column)
        except KeyError:
            continue
        if value is not None and str(value).strip():
            found.append(value)
    return found


def _foremost(prepared: Prepared) -> str:
    most = max(prepared.counts, key=lambda count: count.dropped.total())
    return f"{most.step} ({', '.join(reason for reason, _ in most.dropped.most_common(3))})"


def _write(done: Preparation) -> None:
    paths = done.paths
    with files.whole(paths.rejects) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(files.canonical_json(reject) + "\n" for reject in done.collected.rejects)
    with files.whole(paths.dropped) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        dropped = done.prepared.dropped
        originals = _places(done.collected.records, dropped["twin"][:])
        for values in zip(*(dropped[name][:] for name in ("file", "row", "step", "reason", "twin")), strict=True):
            row = dict(zip(("file", "row", "step", "reason"), values, strict=False))
            file.write(files.canonical_json(row | ({"duplicate_of": originals[values[-1]]} if values[-1] >= 0 else {})) + "\n")
    plans.write(done.prepared.plan, paths.plan)
    report.write(done.report, paths.page, paths.report)
    scenario_files.write(done.scenario, paths.scenario)
    recs.write(done.records, paths.records)  # last: where the records are, their account is


def _places(collected: "Dataset", positions: list[int]) -> dict[int, str]:
    """Where the collected records at these positions come from, as people read it; -1 stands for none."""
    wanted = sorted({position for position in positions if position >= 0})
    if not wanted:
        return {}
    return dict(zip(wanted, map(place, recs.rows(collected.select(wanted), "id", "source", "meta")), strict=True))


def _lock_away(done: Preparation, vault: Path, passphrase: str) -> None:
    """Write what was masked in the kept records. The pipeline keeps none of it, so the steps up to `protect` are run once more."""
    from labkit.data import steps
    from labkit.data.privacy import protection

    plan, scenario = done.prepared.plan, done.collected.scenario
    place = plan.names.index("protect")
    before = dataclasses.replace(plan, uses=plan.uses[:place])
    given = steps.get("protect").parameters(plan.uses[place].parameters)
    settings = protection.settings(**given)
    with vaults.writing(vault, passphrase) as writer:
        for position, identity in zip(done.prepared.positions, done.records["id"], strict=True):
            record = done.collected.records[position]
            traced = pipeline.trace(record, scenario, before)
            record = traced[-1][1].record if traced else record
            writer.add(identity, protection.protect(record, scenario, given["mode"], *settings).replacements)

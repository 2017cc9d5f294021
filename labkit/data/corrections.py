"""What a person corrected after a preparation: drops undone, records edited, records dropped; kept as JSON and applied again.

A correction names its record by its position in what was collected and by its id there, so that corrections made on other files are
refused rather than applied to the wrong records. There is one correction a record: the last one counts.
"""

import os
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit import records as recs
from labkit.data import steps
from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.data.pipeline import Prepared
    from labkit.data.plan import Plan

_ACTIONS = ("keep", "edit", "drop")


class Corrections:
    """The corrections of one preparation.

    Attributes:
        given: the records as they were collected; positions count in them, from 0.
        kept: positions of the kept records in the order of `prepared.records`, int64.
        drops: {position: (step, reason)} of the others.
        twins: {position: position of the record that it repeats} of those dropped as duplicates.
    """

    def __init__(self, given: "Dataset", prepared: "Prepared", scenario: Scenario, plan: "Plan") -> None:
        import numpy

        self.given, self.prepared, self.scenario, self.plan = given, prepared, scenario, plan
        self.kept = numpy.array(prepared.positions, dtype=numpy.int64)
        self.drops = {position: (step, reason) for position, step, reason in zip(
            *(prepared.dropped[name][:] for name in ("position", "step", "reason")), strict=True)}
        self.twins = {position: twin for position, twin in zip(*(prepared.dropped[name][:] for name in ("position", "twin")), strict=True)
                      if twin >= 0}
        if len(self.kept) + len(self.drops) != len(given):
            raise LabError(f"{len(given)} records were collected, {len(self.drops)} dropped and {len(self.kept)} kept: these do not belong "
                           "together; give what the pipeline was given")
        self._changes: dict[int, dict[str, Any]] = {}

    def row(self, position: int) -> int | None:
        """Where a kept record stands in `prepared.records`."""
        return None if position in self.drops else int(self.kept.searchsorted(position))

    def change(self, position: int) -> dict[str, Any] | None:
        """The correction of this record, if there is one."""
        return self._changes.get(position)

    def current(self, position: int) -> Record | None:
        """The record as it stands now, or None where it is dropped."""
        change = self._changes.get(position)
        if change is None:
            row = self.row(position)
            return None if row is None else self.prepared.records[row]
        return None if change["action"] == "drop" else self._made(position, change)

    def proposal(self, position: int) -> Record:
        """What the record would be if it were kept: as it stands now, else cleaned by all steps that see one record, drops ignored."""
        return self.current(position) or self._untouched(position)

    def keep(self, position: int, split: str | None = None) -> Record:
        """Undo a drop. The steps that see all records have not seen it, so its split is given here; `train` by default where the
        others have one.

        Raises:
            LabError: the record as it is cannot be kept (an unknown label, say): `edit` it.
        """
        if split is None:
            split = "train" if any(self.prepared.records["split"][:]) else ""
        if self.row(position) is not None:
            self._changes.pop(position, None)
            return self.current(position)
        return self._record(position, {"action": "keep", "split": split})

    def edit(self, position: int, messages: list[dict[str, str]], answer: dict[str, Any], split: str, language: str) -> Record:
        """Give the record another conversation, answer, split or language; a dropped one is kept with them.

        Raises:
            LabError: this would be no record of the scenario.
        """
        return self._record(position, {"action": "edit", "messages": messages, "answer": answer, "split": split, "language": language})

    def drop(self, position: int) -> None:
        """Drop this record."""
        if self.row(position) is None:
            self._changes.pop(position, None)
        else:
            self._note(position, {"action": "drop"})

    def take_back(self, position: int) -> None:
        """Forget the correction of this record."""
        self._changes.pop(position, None)

    def changes(self) -> list[dict[str, Any]]:
        """The corrections in the order in which they were made: `position`, `id`, `action` (keep, edit, drop), and what belongs to it."""
        return [dict(change) for change in self._changes.values()]

    def records(self) -> "Dataset":
        """The prepared records with the corrections, in the order of what was collected."""
        from datasets import concatenate_datasets

        if not self._changes:
            return self.prepared.records
        new = {position: record for position in self._changes if (record := self.current(position)) is not None}
        order = {int(position): row for row, position in enumerate(self.kept) if int(position) not in self._changes}
        order |= {position: len(self.prepared.records) + row for row, position in enumerate(new)}
        together = [self.prepared.records, recs.from_list(new.values())] if new else [self.prepared.records]
        return concatenate_datasets(together).select([order[position] for position in sorted(order)])

    def save(self, path: str | os.PathLike) -> None:
        """Write the corrections as JSON. They hold the edited texts."""
        files.write_json(path, {"format": 1, "scenario": self.scenario.name, "changes": self.changes()})

    def apply(self, path: str | os.PathLike) -> int:
        """Make the corrections of a file again, over those made so far; returns how many. All are checked before the first is made.

        Raises:
            LabError: it is no such file, or was made on other records; names the first that does not fit.
        """
        raw = files.read_json(path)
        if not isinstance(raw, dict) or raw.get("format") != 1 or not isinstance(raw.get("changes"), list):
            raise LabError(f"{path} holds no corrections; save them with the explorer")
        if raw.get("scenario") != self.scenario.name:
            raise LabError(f"{path} belongs to scenario {raw.get('scenario')!r}, these records to {self.scenario.name!r}")
        before = dict(self._changes)
        try:
            for number, change in enumerate(raw["changes"], 1):
                self._repeat(change, f"{path}, change {number}")
        except LabError:
            self._changes = before
            raise
        return len(raw["changes"])

    def _untouched(self, position: int) -> Record:
        """The record without its correction: as it was kept, or cleaned."""
        row = self.row(position)
        return self.prepared.records[row] if row is not None else cleaned(self.given[position], self.scenario, self.plan)

    def _repeat(self, change: Any, where: str) -> None:
        position = change.get("position") if isinstance(change, dict) else None
        if not isinstance(position, int) or isinstance(position, bool) or change.get("action") not in _ACTIONS:
            raise LabError(f"{where}: position and action ({', '.join(_ACTIONS)}) are needed")
        if not 0 <= position < len(self.given) or self.given[position]["id"] != change.get("id"):
            raise LabError(f"{where}: record {position} is another one here; collect the same files in the same order first")
        wanted = {"keep": {"split"}, "edit": {"messages", "answer", "split", "language"}, "drop": set()}[change["action"]]
        given = {name: value for name, value in change.items() if name not in ("position", "id", "action")}
        if set(given) != wanted:
            needs = ", ".join(sorted(wanted)) or "nothing more"
            raise LabError(f"{where}: {change['action']} needs {needs}, not {', '.join(sorted(given)) or 'nothing'}")
        try:
            {"keep": self.keep, "edit": self.edit, "drop": self.drop}[change["action"]](position, **given)
        except LabError as error:
            raise LabError(f"{where}: {error}") from error

    def _record(self, position: int, change: dict[str, Any]) -> Record:
        made = self._made(position, change)
        self._note(position, change)
        return made

    def _note(self, position: int, change: dict[str, Any]) -> None:
        self._changes.pop(position, None)  # the last correction stands last
        self._changes[position] = {"position": position, "id": self.given[position]["id"], **change}

    def _made(self, position: int, change: dict[str, Any]) -> Record:
        record = self._untouched(position)
        record |= {name: change[name] for name in ("messages", "answer", "split", "language") if name in change}
        record = recs.check(record, self.scenario)
        return {**record, "id": recs.content_id(record)}


def cleaned(record: Record, scenario: Scenario, plan: "Plan") -> Record:
    """The record after all steps that see one record, as if none of them dropped anything; what a step that sees all would change
    in it (a label's spelling, the split) is not changed."""
    for use in plan.uses:
        step = steps.get(use.step)
        if not step.sees_all:
            record = step.run(record, scenario, **step.parameters(use.parameters)).record
    return record

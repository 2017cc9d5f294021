"""What annotators said comes down from Argilla: into the lab database, and into records.

Idempotent: a second pull finds the same. An unchanged dataset is not read again, and rows that are as they were are not written.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from labkit import records as recs
from labkit.errors import LabError
from labkit.labeling import bars, remote, store
from labkit.labeling.annotations import Annotation
from labkit.labeling.connection import Connection, connect
from labkit.labeling.push import Conflict
from labkit.labeling.settings import asked
from labkit.labeling.store import Reject
from labkit.records import Record
from labkit.scenarios import Scenario, answers

if TYPE_CHECKING:
    from datasets import Dataset

Aggregated = dict[str, dict[str, Any]]  # record id -> field -> the one value
Aggregate = Callable[[Scenario, list[Annotation]], Aggregated]


@dataclass(frozen=True)
class Change:
    """A field of a record that the annotators' answer changed."""

    record: str
    field: str
    before: Any
    now: Any


@dataclass
class Pulled:
    """What a pull found. `records` have the aggregated answers and, in `meta["annotations"]`, what each annotator said. `conflicts`: fields
    that were changed here since they were pushed or pulled, to something else than the annotators say; they stay as they are here.
    `undecided`: (record, field) on which annotators do not agree. `gone`: records deleted on the server; `unknown`: records that are
    on the server and not among those given. `new` and `vanished` count values since the last pull; `read`: whether anything had changed."""

    dataset: str
    server: str
    records: "Dataset"
    annotations: list[Annotation]
    rejected: list[Reject]
    changed: list[Change] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    undecided: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    new: int = 0
    vanished: int = 0
    read: bool = True

    def said(self, language: str = "en") -> str:
        """One line for people."""
        people = len({each.annotator for each in self.annotations})
        counts = (len(self.annotations), people, self.new, len(self.changed), len(self.conflicts), len(self.undecided), len(self.rejected),
                  len(self.gone))
        form = _SAID_ZH if language == "zh" else _SAID
        return form.format(self.dataset, *counts)


_SAID = ("{}: {:,} annotations by {} annotators, {:,} new or changed; {:,} fields changed here, {:,} in conflict, {:,} undecided, "
         "{:,} values rejected, {:,} records deleted there")
_SAID_ZH = ("{}：{:,} 个标注（{} 位标注者），新增或修改 {:,} 个；记录中改动 {:,} 处，冲突 {:,} 处，未定 {:,} 处，无效值 {:,} 个，"
            "服务器上已删除 {:,} 条")


def majority(scenario: Scenario, annotations: Iterable[Annotation]) -> Aggregated:
    """One value for each record and field from what was submitted: the most frequent label or text (none where two are equally frequent),
    the median of numbers."""
    given: dict[tuple[str, str], list[Any]] = {}
    for each in annotations:
        if each.status == "submitted" and each.value is not None:
            given.setdefault((each.record, each.field), []).append(each.value)
    found: Aggregated = {}
    for (record, name), values in given.items():
        asked = scenario.field(name)
        if asked.kind == "number":
            found.setdefault(record, {})[name] = answers.tidy_value(asked, median(values))
            continue
        (value, count), *others = Counter(values).most_common(2)
        if not others or others[0][1] < count:
            found.setdefault(record, {})[name] = value
    return found


def pull(scenario: Scenario, server: Connection | None = None, *, records: "Dataset | Sequence[Record] | None" = None,
         dataset: str | None = None, workspace: str | None = None, aggregate: Aggregate = majority, take: str = "local",
         full: bool = False, progress: bars.Progress | None = None) -> Pulled:
    """Fetch what annotators said about a dataset's records.

    Args:
        server: from `connect`; by default this machine's own.
        records: those that the answers go into; by default those that were pushed, as the lab database keeps them. They keep their ids,
            so that they are known again at the next push and pull.
        dataset: its name; by default the scenario's.
        aggregate: makes one value of many, for all records at once.
        take: where a record was changed here and says something else than the annotators, keep `local` or take the `server`'s.
        full: read everything, even where nobody seems to have answered since the last pull. (Responses that a program writes along with
            records, without changing how many there are of each status, leave no other trace.)
        progress: called with (records read, records in all); by default a tqdm bar.

    Raises:
        LabError: the server does not answer, has no such dataset, or the key may not read what others said.
    """
    if take not in ("local", "server"):
        raise LabError(f"take must be local or server, not {take!r}")
    if server is None:
        with connect() as server:
            return pull(scenario, server, records=records, dataset=dataset, workspace=workspace, aggregate=aggregate, take=take, full=full,
                        progress=progress)
    there = remote.find(server, dataset or scenario.name, workspace)
    store.know(there.id, server.url, there.name, scenario.name)
    pushed = store.pushed(there.id)
    if records is None:
        rows = list(pushed.values())
        if not rows:
            raise LabError(f"the lab database knows no records of dataset {there.name}; give those that were pushed")
    else:
        rows = list(recs.rows(records)) if hasattr(records, "select_columns") else list(records)
    stands = {**remote.stands(server, there), "fields": [vars(each) | {"labels": each.values} for each in scenario.fields]}
    known = store.pulled(there.id)
    read = full or known.get("stands") != stands
    new = vanished = 0
    ids = known.get("ids", [])
    if read:
        new, vanished, ids = _fetch(scenario, server, there, progress)
        store.set_pulled(there.id, {"stands": stands, "ids": ids})
    annotations, rejected = store.annotations(there.id)
    own, present = [asked(row) for row in rows], set(ids)
    merge = _Merge(there.name, scenario, annotations, aggregate(scenario, annotations), pushed, take)
    merged = recs.from_list(merge.row(row) for row in rows)
    return Pulled(there.name, server.url, merged, annotations, rejected, merge.changed, merge.conflicts, merge.undecided,
                  gone=[each for each in own if each in pushed and each not in present], unknown=sorted(present - set(own)),
                  new=new, vanished=vanished, read=read)


def _fetch(scenario: Scenario, server: Connection, there: remote.RemoteDataset,
           progress: bars.Progress | None) -> tuple[int, int, list[str]]:
    """Read all responses and keep them, page by page: (values that are new or changed, values that vanished, the records' ids)."""
    names, ids, new, vanished = remote.annotators(server, there), [], 0, 0
    with bars.shown(progress, f"pull {there.name}") as tell:
        for page, total in remote.records(server, there, "responses"):
            own = [record.get("external_id") or record["id"] for record in page]
            counts = store.keep(there.id, own, [each for record in page for each in remote.said(record, scenario, names)])
            ids += own
            new, vanished = new + counts[0], vanished + counts[1]
            tell(len(ids), total)
    lost = sorted(store.annotated(there.id) - set(ids))
    return new, vanished + store.keep(there.id, lost, [])[1], ids


class _Merge:
    """Puts what annotators said into records, and notes what that changed, what is in conflict and what is undecided."""

    def __init__(self, dataset: str, scenario: Scenario, annotations: Iterable[Annotation], aggregated: Aggregated,
                 pushed: dict[str, Record], take: str) -> None:
        self.dataset, self.scenario, self.aggregated, self.pushed, self.take = dataset, scenario, aggregated, pushed, take
        self.said: dict[str, list[Annotation]] = {}
        for each in annotations:
            self.said.setdefault(each.record, []).append(each)
        self.changed: list[Change] = []
        self.conflicts: list[Conflict] = []
        self.undecided: list[tuple[str, str]] = []

    def row(self, row: Record) -> Record:
        """The record with the aggregated answer and the note of who said what; as it is where nobody said anything."""
        identity = asked(row)
        own = self.said.get(identity)
        if not own:
            return row
        answer, base, by = dict(row["answer"]), _base(row, self.pushed.get(identity)), _by_field(own)
        decided = {name: value for name, value in self.aggregated.get(identity, {}).items() if value is not None}
        for name, value in decided.items():
            local = answer.get(name)
            if local == value:
                continue
            if local is not None and local != base.get(name) and self.take == "local":
                self.conflicts.append(Conflict(identity, name, local, value, by.get(name, {})))
                continue
            self.changed.append(Change(identity, name, local, value))
            answer[name] = value
        self.undecided += [(identity, name) for name in by if name not in decided]
        ordered = {each.name: answer[each.name] for each in self.scenario.fields if each.name in answer}
        return {**row, "answer": ordered, "meta": {**row["meta"], "annotations": _note(self.dataset, decided, own)}}


def _base(row: Record, pushed: Record | None) -> dict[str, Any]:
    """The answer that the record had when it was last in step with the server: what the last pull gave it, else what was pushed."""
    base, note = (pushed or {}).get("answer", {}), row["meta"].get("annotations")
    if isinstance(note, dict) and isinstance(note.get("answer"), dict):
        return {**base, **note["answer"]}
    return base


def _by_field(annotations: Iterable[Annotation]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for each in annotations:
        if each.status == "submitted" and each.value is not None:
            found.setdefault(each.field, {})[each.annotator] = each.value
    return found


def _note(dataset: str, decided: dict[str, Any], annotations: Iterable[Annotation]) -> dict[str, Any]:
    """What stands in a record's `meta["annotations"]`: the aggregated answer, and by annotator the values, the status and the time."""
    by: dict[str, dict[str, Any]] = {}
    for each in annotations:
        said = by.setdefault(each.annotator, {"status": each.status, "time": each.time.isoformat(), "values": {}})
        if each.value is not None:
            said["values"][each.field] = each.value
    return {"dataset": dataset, "answer": decided, "by": by}

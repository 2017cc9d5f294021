"""Records go up to Argilla, with a model's suggestions.

The server is what tells what it has: every push reads it first and sends only records that are new there or differ, so that a push that
was cut off goes on where it was, and a second push sends nothing. What people answered is never touched.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit import records as recs
from labkit.errors import LabError
from labkit.labeling import bars, remote, settings, store
from labkit.labeling.annotations import Annotation
from labkit.labeling.connection import Connection, connect
from labkit.labeling.settings import Suggestions
from labkit.records import Record
from labkit.scenarios import LANGUAGES, Scenario

if TYPE_CHECKING:
    from datasets import Dataset

ENCODER = "minilm-l6"
_PART = 1000  # records embedded at once: the encoder is loaded once for each such part
_DECIMALS = 5  # of a vector's numbers: cosines stay the same to 4 decimals, and a vector of 384 takes 3 kB instead of 8


@dataclass(frozen=True)
class Conflict:
    """Two answers to one field: what the record here says, and what annotators said on the server (`server` is None where they differ
    among themselves; `by` has each one's)."""

    record: str
    field: str
    local: Any
    server: Any
    by: dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A record that was not sent, and why."""

    record: str
    problem: str


@dataclass
class Pushed:
    """What a push did. `conflicts`: fields whose answer here differs from one given on the server that was not pulled yet; their records
    are not sent. `gone`: records that were pushed before and were deleted on the server since; they are not sent again unless asked for."""

    dataset: str
    server: str
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def said(self, language: str = "en") -> str:
        """One line for people."""
        counts = [len(part) for part in (self.created, self.updated, self.unchanged)]
        counts += [len({each.record for each in self.conflicts}), len(self.gone), len(self.refused)]
        if language == "zh":
            new, changed, same, conflicts, gone, refused = counts
            return (f"{self.dataset}：新增 {new} 条，更新 {changed} 条，未变 {same} 条，冲突 {conflicts} 条，"
                    f"服务器上已删除 {gone} 条，被拒 {refused} 条")
        return f"{self.dataset}: " + ", ".join(f"{count:,} {what}" for count, what in zip(
            counts, ("new", "changed", "as they were", "in conflict", "deleted there", "refused"), strict=True))


@dataclass
class _Item:
    """A record on its way: the id under which it is asked, its row, and what Argilla is sent of it (suggestions by field)."""

    id: str
    record: Record
    row: int
    shown: dict[str, Any]
    metadata: dict[str, Any]
    suggestions: dict[str, dict[str, Any]] | None
    stale: list[str] = field(default_factory=list)  # ids on the server of suggestions that are no longer made
    place: str | None = None  # the record's id on the server, where it is there already


def push(records: "Dataset | Sequence[Record]", scenario: Scenario, server: Connection | None = None, *, dataset: str | None = None,
         workspace: str | None = None, language: str | None = None, suggestions: Suggestions | None = None,
         hidden: Mapping[str, Mapping[str, str]] | None = None, vectors: bool = True, encoder: str = ENCODER, answers_each: int = 1,
         again: bool = False, batch: int = 100, progress: bars.Progress | None = None) -> Pushed:
    """Send records to a dataset on the server; it is made where it is not.

    Args:
        server: from `connect`; by default this machine's own.
        dataset: its name; by default the scenario's.
        workspace: by default the lab's, or the only one.
        language: of titles and labels; by default that of most records.
        suggestions: record id -> field -> (value, score, who suggests); see `settings.predictions` and `settings.present_answers`. Records
            that it does not name keep the suggestions they have; of one it names, suggestions it no longer makes are taken back.
        hidden: record id -> name -> value: metadata that annotators do not see. That of gold questions goes up by itself.
        vectors: send each new record's embedding by `encoder`, for "find similar" (see `labkit.data.duplicates.embed`).
        answers_each: how many people must answer a record before it counts as done; set when the dataset is made.
        again: send records that were deleted on the server, too.
        batch: records in a request, at most 500.
        progress: called with (done, total) before the first batch and after each; by default a tqdm bar.

    Raises:
        LabError: the server does not answer or refuses; a dataset of this name asks something else; there is nothing to send.
    """
    rows = list(recs.rows(records)) if hasattr(records, "select_columns") else list(records)
    if not rows:
        raise LabError("there are no records to push")
    if server is None:
        with connect() as server:
            return push(rows, scenario, server, dataset=dataset, workspace=workspace, language=language, suggestions=suggestions,
                        hidden=hidden, vectors=vectors, encoder=encoder, answers_each=answers_each, again=again, batch=batch,
                        progress=progress)
    language, marks = language or most_common_language(rows), settings.hidden_marks(rows)
    for identity, more in (hidden or {}).items():
        marks[identity] = {**marks.get(identity, {}), **more}
    wanted = settings.of(scenario, language, conversation=any(len(row["messages"]) > 1 for row in rows),
                         hidden=sorted({name for each in marks.values() for name in each}),
                         vectors={encoder: _dimensions(encoder)} if vectors else None)
    there = remote.make(server, dataset or scenario.name, wanted, place=workspace, answers_each=answers_each)
    store.know(there.id, server.url, there.name, scenario.name)
    done = Pushed(there.name, server.url)
    items = _different(_items(rows, scenario, language, there, suggestions, marks, done), scenario, server, there, again, done)
    if items:
        store.set_pulled(there.id, {})  # the next pull reads everything: where one record went and one came, their number is the same
    with bars.shown(progress, f"push {there.name}") as tell:
        tell(0, len(items))
        for start in range(0, len(items), _PART):
            part = items[start:start + _PART]
            embedded = _embedded(part, encoder) if vectors else {}
            for first in range(0, len(part), min(batch, remote.BULK)):
                few = part[first:first + min(batch, remote.BULK)]
                _send(server, there, few, embedded, encoder, done)
                tell(start + first + len(few), len(items))
    return done


def most_common_language(rows: Iterable[Record]) -> str:
    """The language of most records; of two equals the first in the lab's order."""
    counts = Counter(row["language"] for row in rows)
    return max(LANGUAGES, key=lambda language: counts[language])


def _items(rows: Sequence[Record], scenario: Scenario, language: str, there: remote.RemoteDataset, suggestions: Suggestions | None,
           marks: Mapping[str, Mapping[str, str]], done: Pushed) -> Iterator[_Item]:
    """What is to be on the server; what cannot be is noted as refused."""
    known: set[str] = set()
    for number, record in enumerate(rows):
        identity = settings.asked(record)
        if identity in known:
            done.refused.append(Refusal(identity, "another record before it has the same id"))
            continue
        known.add(identity)
        given = (suggestions or {}).get(identity)
        try:
            metadata = {**settings.metadata(record, number, given or {}), **marks.get(identity, {})}
            yield _Item(identity, record, number, settings.shown(record, scenario, language, there.shown), metadata,
                        None if given is None else settings.suggestions(given, scenario, language))
        except LabError as error:
            done.refused.append(Refusal(identity, str(error)))


def _different(items: Iterable[_Item], scenario: Scenario, server: Connection, there: remote.RemoteDataset, again: bool,
               done: Pushed) -> list[_Item]:
    """The items that the server lacks or has otherwise; the rest is noted as unchanged, gone or in conflict."""
    before, names = store.pushed(there.id), remote.annotators(server, there)
    pulled = {(each.record, each.annotator): each.time for each in store.annotations(there.id)[0]}
    present = {each["external_id"]: each for page, _ in remote.records(server, there, "suggestions", "responses") for each in page}
    questions = {question["id"]: name for name, question in there.questions.items()}
    found, same = [], []
    for item in items:
        has = present.get(item.id)
        if has is None:
            if item.id in before and not again:
                done.gone.append(item.id)
            else:
                found.append(item)
            continue
        item.place = has["id"]
        item.metadata = {**(has["metadata"] or {}), **item.metadata}
        if "row" in (has["metadata"] or {}):
            item.metadata["row"] = has["metadata"]["row"]  # where it stood when it went up first: a push of a part changes nothing
        conflicts = _conflicts(item, has, scenario, names, pulled)
        if conflicts:
            done.conflicts += conflicts
        elif _is_same(item, has, questions):
            done.unchanged.append(item.id)
            if before.get(item.id) != item.record:
                same.append((item.id, item.record, has["id"], item.row))
        else:
            found.append(item)
    store.keep_pushed(there.id, same)
    return found


def _conflicts(item: _Item, has: Mapping[str, Any], scenario: Scenario, names: Mapping[str, str], pulled: Mapping) -> list[Conflict]:
    """The fields whose answer here is another than what people submitted there since the last pull."""
    by: dict[str, dict[str, Any]] = {}
    for each in remote.said(has, scenario, names):
        if isinstance(each, Annotation) and each.status == "submitted" and pulled.get((each.record, each.annotator)) != each.time:
            by.setdefault(each.field, {})[each.annotator] = each.value
    found = []
    for name, values in by.items():
        local, others = item.record["answer"].get(name), list(values.values())
        if local is not None and any(value != local for value in others):
            found.append(Conflict(item.id, name, local, others[0] if all(value == others[0] for value in others) else None, values))
    return found


def _is_same(item: _Item, has: Mapping[str, Any], questions: Mapping[str, str]) -> bool:
    """Whether the server has the item as it is; suggestions there that are no longer made are noted in it."""
    same = item.shown == has["fields"] and item.metadata == has["metadata"]
    if item.suggestions is None:
        return same
    made = {questions[each["question_id"]]: each for each in has.get("suggestions") or ()}
    item.stale = [each["id"] for name, each in made.items() if name not in item.suggestions]
    plain = {name: {key: each[key] for key in ("value", "score", "agent", "type")} for name, each in made.items()}
    return same and plain == item.suggestions


def _send(server: Connection, there: remote.RemoteDataset, items: Sequence[_Item], vectors: Mapping[str, list[float]], encoder: str,
          done: Pushed) -> None:
    """Send a batch, and keep what went up."""
    bodies = [{"external_id": item.id, "fields": item.shown, "metadata": item.metadata,
               "suggestions": [{"question_id": there.questions[name]["id"], **each} for name, each in (item.suggestions or {}).items()],
               **({"vectors": {encoder: vectors[item.id]}} if item.id in vectors else {})} for item in items]
    places, refused = remote.upsert(server, there, bodies)
    done.refused += [Refusal(*each) for each in refused.items()]
    items = [item for item in items if item.id in places]
    for item in items:
        if item.stale:
            server.delete(f"records/{places[item.id]}/suggestions", ids=",".join(item.stale))
        (done.created if item.place is None else done.updated).append(item.id)
    store.keep_pushed(there.id, [(item.id, item.record, places[item.id], item.row) for item in items])


def _embedded(items: Sequence[_Item], encoder: str) -> dict[str, list[float]]:
    """Vectors for those records that are not on the server yet: a record's text never changes, its id being a hash of it."""
    from labkit.data import duplicates

    new = [item for item in items if item.place is None]
    texts = ["\x1f".join(message["content"] for message in item.record["messages"]) for item in new]
    if not texts:
        return {}
    return dict(zip((item.id for item in new), duplicates.embed(texts, encoder=encoder).round(_DECIMALS).tolist(), strict=True))


def _dimensions(encoder: str) -> int:
    from transformers import AutoConfig

    from labkit import models

    return AutoConfig.from_pretrained(models.resolve(encoder).folder).hidden_size

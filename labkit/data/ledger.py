"""What happened to records on their way through a plan: counts of every step, drops, and a few samples of before and after.

Counts and drops hold no text. Samples do: where the plan protects personal data they are masked as it masks them.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.data import steps
from labkit.data.plan import Plan
from labkit.records import Record
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

CHECK = "check"  # the last step of every run: `records.check`
TITLES = {CHECK: {"en": "Check records", "zh": "检查记录"}}
SAMPLES = 5  # pairs a step
_CANDIDATES = 24  # of which those are chosen that can be shown
_LONGEST_SAMPLE = 2000  # characters

@dataclass
class Count:
    """What one step did: the records it saw and changed, what it counted, what it dropped by reason, and its seconds (of all
    processes together for a step that sees one record at a time, else of the clock)."""

    step: str
    seen: int = 0
    touched: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def records_per_second(self) -> float:
        return self.seen / self.seconds if self.seconds else 0.0

    @property
    def title(self) -> dict[str, str]:
        return TITLES[self.step] if self.step in TITLES else steps.get(self.step).title


@dataclass(frozen=True)
class Sample:
    """A record before and after one step. For a dropped one `after` is empty and `reason` says why."""

    step: str
    position: int
    before: str
    after: str
    reason: str = ""


class Ledger:
    """Counts, drops and candidates for samples, gathered from the passes."""

    def __init__(self, plan: Plan) -> None:
        self.names = [*plan.names, CHECK]
        self.counts = [Count(name) for name in self.names]
        self.drops: list[tuple[int, int, str, str, int, int]] = []
        self.candidates: dict[int, list[list[Any]]] = {}

    def take(self, report: dict[str, Any]) -> int:
        """Add one chunk's report; gives the records that it saw."""
        for place, (seen, touched, counted, seconds) in report["counts"].items():
            count = self.counts[int(place)]
            count.seen += seen
            count.touched += touched
            count.counted.update(counted)
            count.seconds += seconds
        for drop in report["dropped"]:
            self.drop(*drop)
        for place, found in report["samples"].items():
            self.sample(int(place), found)
        return max(seen for seen, *_ in report["counts"].values())

    def drop(self, position: int, place: int, reason: str, file: str, row: int, twin: int = -1) -> None:
        self.counts[place].dropped[reason] += 1
        self.drops.append((position, place, reason, file, row, twin))

    def sample(self, place: int, found: list[list[Any]]) -> None:
        self.candidates[place] = sorted([*self.candidates.get(place, []), *found])[:_CANDIDATES]

    def dropped(self) -> "Dataset":
        from datasets import Dataset, Features, Value

        self.drops.sort()
        columns = list(zip(*self.drops, strict=True)) or [()] * 6
        found = {"position": columns[0], "step": [self.names[place] for place in columns[1]], "reason": columns[2], "file": columns[3],
                 "row": columns[4], "twin": columns[5]}
        kinds = {"position": "int64", "step": "string", "reason": "string", "file": "string", "row": "int64", "twin": "int64"}
        return Dataset.from_dict({name: list(values) for name, values in found.items()},
                                 features=Features({name: Value(kind) for name, kind in kinds.items()}))


def origin(record: Record) -> tuple[str, int]:
    """The file and row a record came from; row 0 where it does not say."""
    row = record["meta"].get("row", record["meta"].get("line", 0))
    return record["source"] or "", row if isinstance(row, int) else 0


def candidates(positions: list[int], look: Callable[[int], tuple[Record, Record | None, str]], place: int,
               scenario: Scenario) -> list[list[Any]]:
    """Of the records at these positions that were changed or dropped the few with the smallest hash of their position (multiplicative,
    Knuth, TAOCP 3, 6.4), so that any chunks give the same; as [hash, position, before, after, reason, language]. `look` gives one of them,
    by its place in `positions`, before and after (None for a dropped one), with the reason."""
    drawn = sorted(((position * 2_654_435_761 + place * 40_503) % 2**32, number) for number, position in enumerate(positions))
    found = []
    for draw, number in drawn:
        position, (before, after, reason) = positions[number], look(number)
        texts = _difference(before, after, scenario)
        if texts is not None and len(texts[0]) <= _LONGEST_SAMPLE and len(texts[1]) <= _LONGEST_SAMPLE:
            found.append([draw, position, *texts, reason, before["language"]])
            if len(found) == _CANDIDATES:
                break
    return found


def _difference(before: Record, after: Record | None, scenario: Scenario) -> tuple[str, str] | None:
    """The first text that differs, else the first other value that does, as text."""
    if after is None:
        return (before["messages"][-1]["content"] if before["messages"] else ""), ""
    for one, other in zip(steps.texts(before, scenario), steps.texts(after, scenario), strict=False):
        if one != other:
            return one, other
    for key in ("answer", "language", "split", "meta"):
        one, other = before[key], after[key]
        if one != other:
            if isinstance(one, dict):
                names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
                one, other = ({name: value[name] for name in names if name in value} for value in (one, other))
            return f"{key}: {_plain(one)}", f"{key}: {_plain(other)}"
    return None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shown(ledger: Ledger, scenario: Scenario, plan: Plan) -> dict[str, list[Sample]]:
    """The samples of each step, masked where the plan protects. A pair is left out where cleaning makes more personal data to be found,
    for then some stands unmasked in the text before (an address with an invisible character in it)."""
    protect = next((use for use in plan.uses if use.step == "protect"), None)
    found: dict[str, list[Sample]] = {name: [] for name in ledger.names}
    for place, drawn in sorted(ledger.candidates.items()):
        name = ledger.names[place]
        for _, position, before, after, reason, language in drawn:
            if len(found[name]) == SAMPLES:
                break
            pair = (before, after)
            if protect is not None:
                pair = _masked(_record(before, language, scenario), _record(after, language, scenario), scenario, plan, protect.parameters)
            if pair is not None:
                found[name].append(Sample(name, position, *pair, reason))
    return found


def _masked(before: Record, after: Record, scenario: Scenario, plan: Plan, given: dict[str, Any]) -> tuple[str, str] | None:
    step = steps.get("protect")
    parameters = step.parameters(given)
    if "mode" in parameters:
        parameters["mode"] = "mask"
    cleaned = before
    for use in plan.uses[:plan.names.index("protect")]:
        each = steps.get(use.step)
        if not each.sees_all:
            cleaned = each.run(cleaned, scenario, **each.parameters(use.parameters)).record
    masked, masked_after, there = (step.run(record, scenario, **parameters) for record in (before, after, cleaned))
    seen, seen_after = Counter(masked.counts), Counter(masked_after.counts)
    if Counter(there.counts) - seen or seen_after - seen:
        return None
    return masked.record["messages"][0]["content"], masked_after.record["messages"][0]["content"]


def _record(text: str, language: str, scenario: Scenario) -> Record:
    return {"id": "", "scenario": scenario.name, "language": language, "messages": [{"role": "user", "content": text}], "answer": {},
            "source": "", "license": "", "split": "", "meta": {}}

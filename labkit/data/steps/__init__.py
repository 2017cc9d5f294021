"""What a preparation is made of: named steps with parameters, each of which counts what it does.

A step is a plain function with a decorator. Four kinds:

- `text_step`: text to text, applied to every message and every text field of the answer;
- `filter_step`: record to a reason for dropping it, or to nothing;
- `record_step`: record to `Outcome`, for all that does more than that;
- `whole_step`: sees all records at once and gives a `Mark` for each (duplicates, splits).

The first three see one record at a time, so they run in any number of processes with the same result. A step's parameters are its
keyword-only arguments; their defaults are the step's, their types those of the defaults. Steps know nothing of files or reports.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

_ROOMS = ("cleaning", "filters", "language", "labels", "duplicates", "privacy", "splits")  # modules of `labkit.data.steps`


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did to one record: the record afterwards, what was counted (`{"changed": 1}`, `{"email": 2}`; empty where it
    was left as it is), and why it is dropped (a code such as `too_short`), if it is."""

    record: Record
    counts: dict[str, int] = field(default_factory=dict)
    drop: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a step that sees all records says of one: why it is dropped, if it is, what was counted, what changes in it (keys of the
    record, such as `split` or `meta`, with their new values), and for a duplicate the index of the record that it repeats (else -1)."""

    drop: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    twin: int = -1


@dataclass(frozen=True)
class Step:
    """A step by its name. `run` is `(record, scenario, **parameters) -> Outcome`, or for a step that sees all records
    `(records, scenario, *, processes, **parameters) -> list[Mark]`, one for each record in their order."""

    name: str
    title: dict[str, str]
    sees_all: bool
    run: Callable[..., Any]
    defaults: dict[str, Any]
    about: str

    def parameters(self, given: dict[str, Any]) -> dict[str, Any]:
        """The defaults with what was given.

        Raises:
            LabError: an unknown parameter, or a value of another type than the default's.
        """
        for name, value in given.items():
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise LabError(f"step {self.name}: no parameter {name!r}; there are: {known}")
            default = self.defaults[name]
            wanted = (int, float) if isinstance(default, float) else type(default)
            if not isinstance(value, wanted) or isinstance(value, bool) is not isinstance(default, bool):
                raise LabError(f"step {self.name}: {name} must be like {default!r}, not {value!r}")
        return {**self.defaults, **given}


_STEPS: dict[str, Step] = {}


def text_step(en: str, zh: str) -> Callable:
    """Register `f(text, *, …) -> text`; see `on_texts` for where it is applied. Counts `changed` texts."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        def run(record: Record, scenario: Scenario, **parameters: Any) -> Outcome:
            changed, count = on_texts(record, scenario, lambda text: function(text, **parameters))
            return Outcome(changed, {"changed": count} if count else {})

        _add(function, en, zh, False, run)
        return function

    return register


def filter_step(en: str, zh: str) -> Callable:
    """Register `f(record, scenario, *, …) -> reason`, the empty text for a record that stays."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        def run(record: Record, scenario: Scenario, **parameters: Any) -> Outcome:
            return Outcome(record, {}, function(record, scenario, **parameters))

        _add(function, en, zh, False, run)
        return function

    return register


def record_step(en: str, zh: str) -> Callable:
    """Register `f(record, scenario, *, …) -> Outcome`. It must not change the record it is given."""

    def register(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
        _add(function, en, zh, False, function)
        return function

    return register


def whole_step(en: str, zh: str) -> Callable:
    """Register `f(records, scenario, *, processes, …) -> list[Mark]`; `processes` is how many may be used, no parameter."""

    def register(function: "Callable[[Dataset, Scenario], list[Mark]]") -> Callable:
        _add(function, en, zh, True, function)
        return function

    return register


def get(name: str) -> Step:
    """The step of this name.

    Raises:
        LabError: there is none; names those that are there.
    """
    known = every()
    if name not in known:
        raise LabError(f"no step {name!r}; there are: {', '.join(known)}")
    return known[name]


def every() -> dict[str, Step]:
    """All steps by name, in the order of their modules."""
    for room in _ROOMS:
        importlib.import_module(f"{__name__}.{room}")
    return dict(_STEPS)


def texts(record: Record, scenario: Scenario) -> list[str]:
    """The record's texts: its messages, then the text fields of its answer."""
    names = [each.name for each in scenario.fields if each.kind == "text"]
    return [message["content"] for message in record["messages"]] + [
        record["answer"][name] for name in names if isinstance(record["answer"].get(name), str)]


def on_texts(record: Record, scenario: Scenario, change: Callable[[str], str]) -> tuple[Record, int]:
    """The record with `change` applied to every one of its `texts`, and how many of them it changed; the same record where none."""
    before = texts(record, scenario)
    after = [change(text) for text in before]
    count = sum(new is not old and new != old for old, new in zip(before, after, strict=True))
    if not count:
        return record, 0
    rest = iter(after)
    messages = [{"role": message["role"], "content": next(rest)} for message in record["messages"]]
    answer = dict(record["answer"])
    for each in scenario.fields:
        if each.kind == "text" and isinstance(answer.get(each.name), str):
            answer[each.name] = next(rest)
    return {**record, "messages": messages, "answer": answer}, count


def _add(function: Callable, en: str, zh: str, sees_all: bool, run: Callable) -> None:
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()
                if each.kind is inspect.Parameter.KEYWORD_ONLY and name != "processes"}
    about = (inspect.getdoc(function) or "").split("\n\n")[0]
    _STEPS[function.__name__] = Step(function.__name__, {"en": en, "zh": zh}, sees_all, run, defaults, about)

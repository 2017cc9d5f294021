"""The step that brings the labels of a file to the scenario's spelling.

It sees all records, for how often a spelling occurs decides between spellings where the labels were taken from the file itself.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit import records as recs
from labkit.data import slips as slips_of
from labkit.data.steps import Mark, whole_step
from labkit.errors import LabError
from labkit.scenarios import Field, Scenario

if TYPE_CHECKING:
    from datasets import Dataset

REASONS = {"unknown_label": {"en": "label is none of the scenario's", "zh": "标签不在场景中"}}

_RARE = 20  # a spelling this many times rarer than one that differs by a slip is taken for the slip
_SEPARATORS = str.maketrans(dict.fromkeys(" \t\n_-\u2010\u2011\u2012\u2013\u2014/.\u3002·'\u2019\"\u201c\u201d,;:", ""))


@whole_step("Unify label spelling", "统一标签写法")
def label_spelling(records: "Dataset", scenario: Scenario, *, processes: int = 1, slips: bool = True, unknown: str = "drop") -> list[Mark]:
    """Bring labels to the scenario's spelling: case, spaces, underscores, width, English or Chinese titles for values, and with `slips`
    one wrong letter where only one label comes near. What fits none is dropped with unknown "drop", or left unlabelled with "clear"."""
    if unknown not in ("drop", "clear"):
        raise LabError(f"step label_spelling: unknown must be drop or clear, not {unknown!r}")
    names = [field.name for field in scenario.label_fields]
    given = [tuple(None if answer.get(name) is None else str(answer[name]) for name in names) for answer in _answers(records)]
    spellings = {name: Counter(values[place] for values in given if values[place] is not None) for place, name in enumerate(names)}
    mended = [mapping(scenario.field(name), spellings[name], slips=slips) for name in names]
    unchanged, dropped = Mark(), Mark(drop="unknown_label")
    marks, changing = [], {}
    for values in given:
        labels = tuple(value and known[value] for value, known in zip(values, mended, strict=True))
        if unknown == "drop" and any(value is not None and not label for value, label in zip(values, labels, strict=True)):
            marks.append(dropped)
            continue
        if labels != values:
            changing[len(marks)] = dict(zip(names, labels, strict=True))
        marks.append(unchanged)
    if changing:
        for place, answer in enumerate(_answers(records)):
            if place in changing:
                new = {**answer, **{name: label for name, label in changing[place].items() if name in answer}}
                count = sum(new[name] != answer[name] for name in names if name in answer)
                marks[place] = Mark(counts={"labels": count}, changes={
                    "answer": {name: value for name, value in new.items() if value or name not in names}})
    return marks


def _answers(records: "Dataset") -> Iterator[dict[str, Any]]:
    return (row["answer"] for row in recs.rows(records, "answer"))


def mapping(field: Field, spellings: "Counter[str]", *, slips: bool = True) -> dict[str, str]:
    """The label for each spelling, the empty text where none fits. `spellings` holds how often each occurs.

    A scenario's own labels stay apart whatever their spelling. Labels that were taken from a file (their titles are their values)
    are merged: equal ones but for case, spaces and width become the most frequent, and so does a slip of one that is 20 times as frequent.
    """
    from_file = taken_from_file(field)
    values = sorted(field.values, key=lambda value: (-spellings[value], value)) if from_file else field.values
    known: dict[str, str] = {}
    for value in values:
        label = field.label(value)
        for text in (label.value, label.en, label.zh):
            known.setdefault(_folded(text), value)
    found = {}
    for spelling, count in spellings.items():
        folded = _folded(spelling)
        label = known.get(folded, "")
        if spelling in field.values and not from_file:
            label = spelling
        elif slips and (not label or from_file):
            label = _mended(folded, known, spellings, count if label else 0, from_file) or label
        found[spelling] = label
    for spelling, label in found.items():
        while found.get(label, label) != label:  # a slip of a slip; each is 20 times rarer than the next, so this ends
            label = found[label]
        found[spelling] = label
    return found


def taken_from_file(field: Field) -> bool:
    """Whether the field's labels were taken from a file (`Scenario.narrowed`): their titles are their values."""
    return all(label.en == label.zh == label.value.replace("_", " ") for label in field.labels)


def still_used(scenario: Scenario, records: "Dataset") -> Scenario:
    """The scenario without the labels that were taken from a file and that no record has any more; a field keeps its labels where
    fewer than two would be left."""
    used: dict[str, set[str]] = {field.name: set() for field in scenario.label_fields if taken_from_file(field)}
    for answer in _answers(records):
        for name, values in used.items():
            values.add(answer.get(name))
    left = {name: [value for value in scenario.field(name).values if value in values] for name, values in used.items()}
    left = {name: values for name, values in left.items() if len(values) >= 2}
    return scenario.narrowed(scenario.name, left, [field.name for field in scenario.fields]) if left else scenario


def _mended(folded: str, known: dict[str, str], spellings: "Counter[str]", count: int, from_file: bool) -> str:
    """The one label that differs from `folded` by a slip; of labels from a file only one that is far more frequent."""
    if len(folded) < slips_of.SHORTEST:
        return ""
    near = {label for text, label in known.items() if len(text) >= slips_of.SHORTEST and slips_of.one_slip(folded, text)}
    if from_file:
        near = {label for label in near if spellings[label] >= _RARE * max(count, 1)}
    return near.pop() if len(near) == 1 else ""


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return text.translate(_SEPARATORS) or text.strip()

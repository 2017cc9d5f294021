"""The step that draws the records into train, validation and test."""

from typing import TYPE_CHECKING

from labkit import records as recs
from labkit.data import duplicates, splits
from labkit.data.steps import Mark, whole_step
from labkit.data.steps.duplicates import place
from labkit.errors import LabError
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset


@whole_step("Split", "划分")
def split(records: "Dataset", scenario: Scenario, *, validation: float = splits.SHARES[1], test: float = splits.SHARES[2], seed: int = 0,
          keep: bool = True, by_time: bool = False, group: str = "group,conversation", template: bool = True, near: float = 0.7,
          processes: int = 1) -> list[Mark]:
    """Draw the records into train, validation and test so that nothing alike stands on both sides, each label by its share.

    `validation` and `test` are shares of the records, train is the rest. `keep`: a split that a record has already stays, and the rest
    of its group follows. `by_time`: the latest by `meta.time` are test. Of one group are records that share a value of `meta` under a
    name in `group` (comma separated), the `template` of their text, or whose texts are `near` (Jaccard similarity; 0: not looked at).

    Counts how many went into each split, `kept` where it stood already, and `grouped` records that share a group with another one.

    Raises:
        LabError: a time that is missing or cannot be read (names file and row), or a single group.
    """
    names = [name.strip() for name in group.split(",") if name.strip()]
    label = scenario.label_fields[0].name if scenario.label_fields else ""
    columns: list[list[str]] = [[] for _ in names]
    ids, standing, labels, times = [], [], [], []
    for row in recs.rows(records, "id", "split", "answer", "source", "meta"):
        ids.append(row["id"])
        standing.append(row["split"] if keep else "")
        labels.append(str(row["answer"].get(label) or ""))
        for name, column in zip(names, columns, strict=True):
            value = row["meta"].get(name)
            column.append("" if value is None else str(value))
        if by_time:
            times.append(_time(row))
    if all(standing):
        return [Mark(counts={name: 1, "kept": 1}) for name in standing]
    keys = splits.groups(ids, duplicates.conversations(records), keys=columns, by_template=template, near=near, processes=processes)
    drawn = splits.assign(keys, labels, shares=(1 - validation - test, validation, test), seed=seed, fixed=standing,
                          times=times if by_time else None)
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    marks: dict[tuple[str, bool, bool], Mark] = {}
    result = []
    for key, name, stood in zip(keys, drawn, standing, strict=True):
        kind = (name, bool(stood), sizes[key] > 1)
        if kind not in marks:
            counts = {name: 1} | ({"kept": 1} if stood else {}) | ({"grouped": 1} if sizes[key] > 1 else {})
            marks[kind] = Mark(counts=counts, changes={} if stood else {"split": name})
        result.append(marks[kind])
    return result


def _time(row: dict) -> float:
    value = row["meta"].get("time")
    if value is None or value == "":
        raise LabError(f"{place(row)}: no time to split by; map a column to time, or set by_time = false in the step split",
                       f"{place(row)}：没有可用于划分的时间；请指定时间列，或在步骤 split 中设置 by_time = false")
    try:
        return splits.read_time(value)
    except LabError as error:
        raise LabError(f"{place(row)}: {error}", f"{place(row)}：{error.zh}") from None

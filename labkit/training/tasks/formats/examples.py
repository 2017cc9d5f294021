"""JSON lines of this lab's own for tasks whose data sets share no published format.

`multi_label`: `{"text", "labels": [names]}`, maybe with `"language"`. `embed`: `{"anchor", "positive"}`, maybe with `"negative"`, or
`{"text", "label"}`; all lines of a folder alike. Files are `train.jsonl`, `validation.jsonl` (or `dev`) and `test.jsonl`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.formats.reading import Broken, Strictness, json_lines, split_files, text_of

if TYPE_CHECKING:
    from datasets import Dataset

KINDS = ("multi_label", "embed")
_METRICS = {"multi_label": ("micro_f1", "macro_f1", "exact_match"), "embed": ("recall_at_1", "recall_at_10", "mean_reciprocal_rank")}


def load(kind: str, folder: Path, leave_out_broken: bool = False) -> TaskData:
    """The splits of a folder; labels are those that occur, in the alphabet's order.

    Raises:
        LabError: no file is there, or a line is malformed (names file and line).
    """
    strict = Strictness(leave_out_broken)
    read = _multi_label if kind == "multi_label" else _embed
    rows = {split: _read(path, read, strict) for split, path in split_files(folder, (".jsonl",)).items()}
    columns = {tuple(row) for split in rows.values() for row in split}
    if len(columns) > 1:
        kinds = " and ".join(sorted(", ".join(each) for each in columns))
        raise LabError(f"{folder}: some lines have {kinds}; all must have the same keys")
    names = {name for split in rows.values() for row in split for name in _names(row)}
    labels = tuple(sorted(names))
    splits = {split: _dataset(own, {name: number for number, name in enumerate(labels)}) for split, own in rows.items()}
    return TaskData(kind, kind, splits, labels, _METRICS[kind], str(folder), "see the publisher", tuple(strict.left_out))


def _read(path: Path, read: Any, strict: Strictness) -> list[dict[str, Any]]:
    rows = []
    for number, row in json_lines(path, strict):
        try:
            rows.append(read(row))
        except Broken as error:
            strict.broken(path, number, str(error))
    if not rows:
        raise LabError(f"{path} has no examples")
    return rows


def _multi_label(row: dict[str, Any]) -> dict[str, Any]:
    labels = row.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise Broken("'labels' must be a list of names")
    if len(set(labels)) < len(labels):
        raise Broken(f"a label comes twice in {labels}")
    return {"text": text_of(row, "text"), "label": labels, **_language(row)}


def _embed(row: dict[str, Any]) -> dict[str, Any]:
    if "text" in row:
        return {"text": text_of(row, "text"), "label": text_of(row, "label"), **_language(row)}
    keys = ("anchor", "positive", "negative") if "negative" in row else ("anchor", "positive")
    return {**{key: text_of(row, key) for key in keys}, **_language(row)}


def _language(row: dict[str, Any]) -> dict[str, str]:
    return {"language": text_of(row, "language")} if "language" in row else {}


def _names(row: dict[str, Any]) -> list[str]:
    label = row.get("label", [])
    return [label] if isinstance(label, str) else label


def _dataset(rows: list[dict[str, Any]], number: dict[str, int]) -> "Dataset":
    from datasets import Dataset, Features, List, Value

    whole = Value("int64")
    several = any(isinstance(row.get("label"), list) for row in rows)
    kinds = {key: (List(whole) if several else whole) if key == "label" else Value("string") for key in rows[0]}
    if "label" in kinds:
        rows = [{**row, "label": sorted(number[name] for name in row["label"]) if several else number[row["label"]]} for row in rows]
    return Dataset.from_list(rows, features=Features(kinds))

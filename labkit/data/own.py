"""Somebody's own file as records of a scenario: columns mapped to the text and to fields, labels taken from the file."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit import records as recs
from labkit.data import tables
from labkit.errors import LabError
from labkit.scenarios import Scenario, answers

if TYPE_CHECKING:
    from datasets import Dataset

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_TEST, _VALIDATION = 0.15, 0.05  # shares of the rows


@dataclass(frozen=True)
class Imported:
    """What came out of a file: records with splits, the scenario narrowed to the mapped fields with the file's labels, and
    the rows that did not work as {line, problem, values}."""

    records: "Dataset"
    scenario: Scenario
    rejects: list[dict[str, Any]]


def parse_mapping(text: str, scenario: Scenario) -> dict[str, str]:
    """`text=COLUMN,FIELD=COLUMN` as {field: column}.

    Raises:
        LabError: it is not of this form, names no `text`, or a field that the scenario does not have.
    """
    mapping: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not column:
            raise LabError(f"--map: {part!r} is not of the form FIELD=COLUMN; example: --map text=message,intent=category")
        if name in mapping:
            raise LabError(f"--map names {name!r} twice")
        if name != "text":
            scenario.field(name)
        mapping[name] = column
    if "text" not in mapping:
        raise LabError("--map needs text=COLUMN, the column that holds the user's message")
    if len(mapping) < 2:
        raise LabError(f"--map needs at least one answer field: {', '.join(field.name for field in scenario.fields)}")
    return mapping


def read(path: str | Path, scenario: Scenario, mapping: dict[str, str], seed: int = 0, license: str = "unknown") -> Imported:
    """Records from a file of rows.

    The split is drawn by a hash of the text, so that equal texts are never on both sides.

    Raises:
        LabError: no row works, a mapped column is missing, or a label column has only one value.
    """
    path = Path(path)
    good: list[tuple[tables.Row, str, dict[str, Any]]] = []
    rejects: list[dict[str, Any]] = []
    plain = {name: column for name, column in mapping.items() if name != "text"}
    for row in tables.read(path):
        problem = row.problem or _missing(row.values, mapping)
        answer = {name: row.values[column] for name, column in plain.items()} if not problem else {}
        for name, value in answer.items():
            field = scenario.field(name)
            try:
                answer[name] = answers.tidy_text(str(value)) if field.kind == "label" else answers.tidy_value(field, value)
                if not answer[name] and field.kind == "label":
                    raise LabError(f"{name}: the label is empty")
            except LabError as error:
                problem = str(error)
        if problem:
            rejects.append({"line": row.line, "problem": problem, "values": {key: str(value)[:500] for key, value in row.values.items()}})
        else:
            good.append((row, answers.tidy_text(str(row.values[mapping["text"]])), answer))
    if not good:
        first = f"; the first: line {rejects[0]['line']}: {rejects[0]['problem']}" if rejects else ""
        raise LabError(f"{path}: none of its {len(rejects)} rows works{first}")
    labels = {}
    for name in plain:
        if scenario.field(name).kind == "label":
            labels[name] = sorted(Counter(answer[name] for _, _, answer in good))
            if len(labels[name]) < 2:
                raise LabError(f"{path}: column {mapping[name]!r} has only the value {labels[name][0]!r}; a label needs at least two")
    narrowed = scenario.narrowed(scenario.name, labels, [field.name for field in scenario.fields if field.name in plain])
    splits = _splits([text for _, text, _ in good], seed)
    rows = [recs.make(scenario.name, "zh" if _CHINESE.search(text) else "en", [{"role": "user", "content": text}],
                      answers.tidy(narrowed, answer), source=path.name, license=license, split=split,
                      meta={"line": row.line}) for (row, text, answer), split in zip(good, splits, strict=True)]
    return Imported(recs.from_list(rows), narrowed, rejects)


def write_rejects(rejects: list[dict[str, Any]], path: Path) -> None:
    """One JSON object a line: line, problem, values."""
    files.write_text(path, "".join(files.canonical_json(reject) + "\n" for reject in rejects))


def _missing(values: dict[str, Any], mapping: dict[str, str]) -> str:
    for column in mapping.values():
        if column not in values:
            return f"column {column!r} is missing; there are {', '.join(map(str, values)) or 'none'}"
        if values[column] is None or not str(values[column]).strip():
            return f"column {column!r} is empty"
    return ""


def _splits(texts: list[str], seed: int) -> list[str]:
    """`train`, `validation` or `test` for each text by its hash, so that equal texts stay together; two different texts or more
    have both training and test rows, however few they are."""
    draws = [int(hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()[:12], 16) / 16**12 for text in texts]
    found = ["test" if draw < _TEST else "validation" if draw < _TEST + _VALIDATION else "train" for draw in draws]
    lowest, highest = min(draws), max(draws)
    if "train" not in found:
        found = ["train" if draw == highest else split for draw, split in zip(draws, found, strict=True)]
    if "test" not in found and lowest != highest:
        found = ["test" if draw == lowest else split for draw, split in zip(draws, found, strict=True)]
    return found

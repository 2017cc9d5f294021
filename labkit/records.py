"""The record: one row of a `datasets.Dataset`, what every room of the lab takes and returns.

A record has `id` (a hash of its content), `scenario`, `language`, `messages` (the chat so far, without the system prompt),
`answer` (the scenario's fields; empty when unlabelled), `source`, `license`, `split` and `meta`.
This module reads, writes and checks records; it knows nothing about where they come from or what learns from them.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from labkit import files, places
from labkit.errors import LabError
from labkit.scenarios import LANGUAGES, Scenario, answers

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features

Record = dict[str, Any]

SPLITS = ("train", "validation", "test", "")
KEYS = ("id", "scenario", "language", "messages", "answer", "source", "license", "split", "meta")


def features() -> "Features":
    """The columns of a data set of records."""
    from datasets import Features, Json, List, Value

    text = Value("string")
    return Features({"id": text, "scenario": text, "language": text, "messages": List({"role": text, "content": text}),
                     "answer": Json(), "source": text, "license": text, "split": text, "meta": Json()})


def make(scenario: str, language: str, messages: list[dict[str, str]], answer: dict[str, Any], *, source: str,
         license: str, split: str = "", meta: dict[str, Any] | None = None) -> Record:
    """A record with its id."""
    record = {"scenario": scenario, "language": language, "messages": messages, "answer": answer, "source": source,
              "license": license, "split": split, "meta": meta or {}}
    return {"id": content_id(record), **record}


def content_id(record: Record) -> str:
    """16 hexadecimal digits of the sha256 over scenario, language, messages and answer."""
    content = {key: record[key] for key in ("scenario", "language", "messages", "answer")}
    return hashlib.sha256(files.canonical_json(content).encode()).hexdigest()[:16]


def check(record: Any, scenario: Scenario) -> Record:
    """The record with its answer tidied; LabError says what is wrong with it."""
    if not isinstance(record, dict):
        raise LabError("a record must be a JSON object")
    missing, unknown = set(KEYS) - set(record), set(record) - set(KEYS)
    if missing or unknown:
        raise LabError(f"missing keys: {sorted(missing)}, unknown keys: {sorted(unknown)}")
    if record["language"] not in LANGUAGES:
        raise LabError(f"language must be one of {', '.join(LANGUAGES)}, not {record['language']!r}")
    if record["split"] not in SPLITS:
        raise LabError(f"split must be train, validation, test or empty, not {record['split']!r}")
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise LabError("messages must be a list with at least one message")
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise LabError("every message needs exactly role and content")
        if message["role"] not in ("user", "assistant") or not isinstance(message["content"], str):
            raise LabError("a message's role must be user or assistant, its content a text")
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise LabError("the last message must be the user's and must not be empty")
    if not isinstance(record["answer"], dict) or not isinstance(record["meta"], dict):
        raise LabError("answer and meta must be objects")
    return {**record, "answer": answers.tidy(scenario, record["answer"])}


def from_list(rows: Iterable[Record]) -> "Dataset":
    """A data set of records; they are taken as they are (see `check`)."""
    from datasets import Dataset

    return Dataset.from_list(list(rows), features=features())


def read(path: str | os.PathLike, scenario: Scenario) -> "Dataset":
    """Read a JSONL file of records.

    Raises:
        LabError: the file is missing or a row is not a record of this scenario; names file and line.
    """
    rows = files.read_lines(path, lambda row: check(row, scenario))
    if not rows:
        raise LabError(f"{path} has no records")
    return from_list(rows)


def write(records: "Dataset", path: str | os.PathLike) -> None:
    """Write records as JSONL, one a line with sorted keys as they stand in `KEYS`; `read` gives the same back."""
    with files.whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in rows(records))


def rows(records: "Dataset", *keys: str) -> Iterator[Record]:
    """The records one after the other, or only these columns of theirs; several times as fast as iterating over the data set."""
    keys = keys or KEYS
    for table in records.select_columns(list(keys)).with_format("arrow").iter(1000):
        yield from from_table(table, keys)


def from_table(table: "pyarrow.Table", keys: tuple[str, ...] = KEYS) -> list[Record]:
    """The rows of an Arrow table of records (`with_format("arrow")`) with these columns."""
    columns = {key: table.column(key).to_pylist() for key in keys}
    for key in {"answer", "meta"} & columns.keys():
        columns[key] = _objects(columns[key])
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _objects(values: list[Any]) -> list[dict[str, Any]]:
    """JSON texts as objects, None as an empty one. All are read at once, as one list: half the time."""
    if all(value is None or isinstance(value, str) for value in values):
        return json.loads(f"[{','.join(value or '{}' for value in values)}]")
    return [value or {} for value in values]


def samples(scenario: Scenario) -> "Dataset":
    """The sample records that come with the lab for this scenario."""
    return read(places.samples_folder() / f"{scenario.name}.jsonl", scenario)


def in_split(records: "Dataset", split: str) -> "Dataset":
    """The records of one split, in their order."""
    return records.select([row for row, value in enumerate(records["split"][:]) if value == split])


def fingerprint(records: "Dataset") -> str:
    """The sha256 over the ids and splits in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for identity, split in zip(records["id"][:], records["split"][:], strict=True):
        digest.update(f"{identity}\t{split}\n".encode())
    return digest.hexdigest()


def prompt(record: Record, scenario: Scenario) -> list[dict[str, str]]:
    """What the model is given: the scenario's system prompt in the record's language, then the record's messages."""
    system = {"role": "system", "content": scenario.system_prompt(record["language"])}
    return [system, *({"role": message["role"], "content": message["content"]} for message in record["messages"])]


def target(record: Record, scenario: Scenario) -> str:
    """What the model should answer."""
    return answers.render(scenario, record["answer"], record["language"])

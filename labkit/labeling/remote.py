"""A dataset on an Argilla server: made, found, its records and responses read.

What annotators said becomes `Annotation`s here; a value that fits no label or range becomes a `Reject`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labkit.errors import LabError
from labkit.labeling.accounts import WORKSPACE
from labkit.labeling.annotations import Annotation
from labkit.labeling.connection import Connection, Refused
from labkit.labeling.settings import Settings, from_argilla
from labkit.labeling.store import Reject
from labkit.scenarios import Field, Scenario

BULK = 500  # records that Argilla takes in one request
_PAGE = 500  # records in one answer; Argilla gives up to 1,000
_TRIES = 3


@dataclass(frozen=True)
class RemoteDataset:
    """A published dataset: the field that shows a record, its questions by name, and what metadata and vectors it knows."""

    id: str
    name: str
    workspace: str
    shown: dict[str, Any]
    questions: dict[str, dict[str, Any]]
    metadata: frozenset[str]
    vectors: frozenset[str]


def workspace(server: Connection, name: str | None = None) -> str:
    """The id of a workspace: the one of this name, else the lab's, else the only one there is. An owner's push makes it.

    Raises:
        LabError: it is not there, or there are several to choose from.
    """
    known = {each["name"]: each["id"] for each in server.get("me/workspaces")["items"]}
    for wanted in (name,) if name else (WORKSPACE, *(known if len(known) == 1 else ())):
        if wanted in known:
            return known[wanted]
    if name is None and len(known) > 1:
        raise LabError(f"{server.url} has the workspaces {', '.join(sorted(known))}; say which one")
    if server.role != "owner":
        raise LabError(f"{server.user} is in no workspace {name or WORKSPACE!r} at {server.url}; an owner can add the account to one")
    return server.post("workspaces", {"name": name or WORKSPACE})["id"]


def find(server: Connection, name: str, place: str | None = None) -> RemoteDataset:
    """The published dataset of this name; `place` names its workspace.

    Raises:
        LabError: there is none, or one in each of several workspaces; names those there are.
    """
    found = [each for each in server.get("me/datasets")["items"] if each["status"] == "ready"]
    if place:
        inside = workspace(server, place)
        found = [each for each in found if each["workspace_id"] == inside]
    named = [each for each in found if each["name"] == name]
    if not named:
        known = ", ".join(sorted({each["name"] for each in found})) or "none"
        raise LabError(f"{server.url} has no dataset {name!r} (it has: {known}); push records first",
                       f"{server.url} 上没有数据集 {name!r}（现有：{known}）；请先推送记录")
    if len(named) > 1:
        raise LabError(f"{server.url} has a dataset {name!r} in {len(named)} workspaces; say which workspace")
    return _read(server, named[0])


def make(server: Connection, name: str, wanted: Settings, *, place: str | None = None, answers_each: int = 1) -> RemoteDataset:
    """The dataset of this name, made and published where it is not; one that was half made is finished.

    Metadata and vectors that a published one lacks are added to it.

    Raises:
        LabError: a dataset of this name asks something else.
    """
    inside = workspace(server, place)
    found = server.get("me/datasets", workspace_id=inside, name=name)["items"]
    dataset = next((each for each in found if each["name"] == name), None)
    if dataset is None:
        distribution = {"strategy": "overlap", "min_submitted": answers_each}
        dataset = server.post("datasets", {"name": name, "workspace_id": inside, "guidelines": wanted.guidelines,
                                           "allow_extra_metadata": False, "distribution": distribution})
    identity, published = dataset["id"], dataset["status"] == "ready"
    for path, listed, items in (("fields", "datasets/{}/fields", wanted.fields), ("questions", "datasets/{}/questions", wanted.questions),
                                ("metadata-properties", "me/datasets/{}/metadata-properties", wanted.metadata),
                                ("vectors-settings", "datasets/{}/vectors-settings", wanted.vectors)):
        known = {each["name"]: each for each in server.get(listed.format(identity))["items"]}
        if published and path == "fields":
            _same_fields(name, known, wanted)
        if published and path == "questions":
            _same_questions(name, known, wanted)
        for item in items:
            if item["name"] not in known and not (published and path == "fields"):
                server.post(f"datasets/{identity}/{path}", item)
    if not published:
        server.put(f"datasets/{identity}/publish")
    return _read(server, dataset)


def upsert(server: Connection, dataset: RemoteDataset, bodies: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Send at most `BULK` records, each with its `external_id`: (ids on the server, what was wrong with those that it refused), by
    external id. Where the server refuses a batch, its halves are sent, until the records that it refuses are found."""
    if not bodies:
        return {}, {}
    try:
        answer = server.put(f"datasets/{dataset.id}/records/bulk", {"items": list(bodies)})
    except Refused as error:
        if error.status != 422:
            raise
        if len(bodies) == 1:
            return {}, {bodies[0]["external_id"]: error.detail}
        half = len(bodies) // 2
        one, other = upsert(server, dataset, bodies[:half]), upsert(server, dataset, bodies[half:])
        return one[0] | other[0], one[1] | other[1]
    return {each["external_id"]: each["id"] for each in answer["items"]}, {}


def records(server: Connection, dataset: RemoteDataset, *include: str) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """All records, page by page with how many there are in all; each with what is included (`suggestions`, `responses`).

    The server orders by the time of insertion alone, and records of one moment may change places between two pages: the pages are read
    again, up to three times, until as many records were seen as there are.
    """
    seen: set[str] = set()
    for _ in range(_TRIES):
        offset, total = 0, 1
        while offset < total:
            answer = server.get(f"datasets/{dataset.id}/records", offset=offset, limit=_PAGE, include=list(include))
            total, page = answer["total"], answer["items"]
            offset += _PAGE
            fresh = [each for each in page if each["id"] not in seen]
            seen |= {each["id"] for each in fresh}
            if fresh:
                yield fresh, total
        if len(seen) >= total:
            return
    raise LabError(f"dataset {dataset.name} at {server.url} changes while it is read; try again when less is going on there")


def stands(server: Connection, dataset: RemoteDataset) -> dict[str, Any]:
    """How the dataset stands: when somebody answered last, how many records there are, and how many responses by user and status. Where
    two of these are equal, nobody answered in between."""
    about = server.get(f"datasets/{dataset.id}")
    total = server.get(f"datasets/{dataset.id}/records", limit=1)["total"]
    return {"activity": about["last_activity_at"], "records": total, "users": progress(server, dataset)}


def progress(server: Connection, dataset: RemoteDataset) -> list[dict[str, Any]]:
    """How many responses each annotator gave: `username`, `submitted`, `draft`, `discarded`."""
    found = server.get(f"datasets/{dataset.id}/users/progress")["users"]
    return [{"username": each["username"], **{status: sum((each.get(part) or {}).get(status, 0) for part in ("completed", "pending"))
                                              for status in ("submitted", "draft", "discarded")}} for each in found]


def annotators(server: Connection, dataset: RemoteDataset) -> dict[str, str]:
    """The names of those who may have answered, by their ids."""
    path = "users" if server.role == "owner" else f"workspaces/{dataset.workspace}/users"
    me = server.get("me")
    return {**{each["id"]: each["username"] for each in server.get(path)["items"]}, me["id"]: me["username"]}


def said(record: Mapping[str, Any], scenario: Scenario, names: Mapping[str, str]) -> list[Annotation | Reject]:
    """What the responses to one record of the server say, by field."""
    found: list[Annotation | Reject] = []
    identity = record.get("external_id") or record["id"]
    fields = {field.name: field for field in scenario.fields}
    for response in record.get("responses") or ():
        who, status, time = names.get(response["user_id"], response["user_id"]), response["status"], utc(response["updated_at"])
        if status == "discarded":
            found += [Annotation(identity, name, who, None, status, time) for name in fields]
            continue
        for name, given in (response["values"] or {}).items():
            found += _value(fields.get(name), Annotation(identity, name, who, given["value"], status, time), scenario)
    return found


def _value(field: Field | None, raw: Annotation, scenario: Scenario) -> list[Annotation | Reject]:
    if field is None:
        return [Reject(raw, f"scenario {scenario.name} has no field {raw.field!r}")]
    try:
        value = from_argilla(field, raw.value)
    except LabError as error:
        return [Reject(raw, str(error))]
    return [] if value is None else [Annotation(raw.record, raw.field, raw.annotator, value, raw.status, raw.time)]


def utc(text: str) -> datetime:
    """A time as the server writes it, which is UTC without saying so."""
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _read(server: Connection, dataset: Mapping[str, Any]) -> RemoteDataset:
    identity = dataset["id"]
    items = {part: server.get(path.format(identity))["items"] for part, path in (
        ("fields", "datasets/{}/fields"), ("questions", "datasets/{}/questions"), ("vectors", "datasets/{}/vectors-settings"),
        ("metadata", "me/datasets/{}/metadata-properties"))}
    return RemoteDataset(identity, dataset["name"], dataset["workspace_id"], items["fields"][0],
                         {each["name"]: each for each in items["questions"]},
                         *(frozenset(each["name"] for each in items[part]) for part in ("metadata", "vectors")))


def _same_fields(name: str, known: Mapping[str, Mapping[str, Any]], wanted: Settings) -> None:
    """Of one field each, one may be a text and the other a conversation; several must be the same ones."""
    here = {each["name"] for each in wanted.fields}
    kinds = {each["settings"]["type"] for each in known.values()}
    if len(known) != len(here) or not kinds <= {"text", "chat"} or (len(here) > 1 and set(known) != here):
        raise LabError(f"dataset {name} shows {', '.join(sorted(known))} there, not {', '.join(sorted(here))}; push under another name")


def _same_questions(name: str, known: Mapping[str, Mapping[str, Any]], wanted: Settings) -> None:
    for question in wanted.questions:
        there = known.get(question["name"])
        differs = None
        if there is None:
            differs = "is not there"
        elif there["settings"]["type"] != question["settings"]["type"]:
            differs = f"is a {there['settings']['type']} there, not a {question['settings']['type']}"
        else:
            here, others = (_choices(each["settings"]) for each in (question, there))
            if here != others:
                more = sorted(map(str, here ^ others))
                differs = f"has other labels there ({', '.join(more[:5])}{', …' if len(more) > 5 else ''})"
        if differs:
            raise LabError(f"dataset {name}: question {question['name']} {differs}; push under another name")


def _choices(settings: Mapping[str, Any]) -> set[Any]:
    return {option["value"] for option in settings.get("options") or ()}

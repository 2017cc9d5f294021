"""What the lab keeps of labelling, in the lab database: which records went where (`pushes`) and what annotators said (`annotations`).

Rows have a dataset's id as the server knows it, so that two datasets of one name are never mixed up. Every row has a key of its own
(dataset and record; dataset, record, field and annotator): to keep a thing twice is to keep it once. What a person said is never deleted:
where a response or a record vanished from the server, its rows get the time when that was seen (`gone`) and are left out of what is read.
This module knows nothing about servers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from labkit import database
from labkit.labeling.annotations import Annotation
from labkit.records import Record

_MANY = 500  # ids in one statement: SQLite takes 32,766 variables, other databases fewer


@dataclass(frozen=True)
class Reject:
    """A value that fits nothing in the scenario: what was said, and what is wrong with it."""

    annotation: Annotation
    problem: str


_TABLES = sa.MetaData()
_DATASETS = sa.Table(
    "labeling_datasets", _TABLES,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("server", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scenario", sa.Text, nullable=False),
    sa.Column("pulled", sa.JSON, nullable=False),  # how the server's dataset stood at the last whole pull; see `pull`
)
_PUSHES = sa.Table(
    "pushes", _TABLES,
    sa.Column("dataset", sa.String(64), sa.ForeignKey("labeling_datasets.id"), primary_key=True),
    sa.Column("record", sa.String(128), primary_key=True),
    sa.Column("place", sa.String(64), nullable=False),  # the record's id on the server
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),  # the record as it was when it went up
    sa.Column("time", database.Time, nullable=False),
)
_ANNOTATIONS = sa.Table(
    "annotations", _TABLES,
    sa.Column("dataset", sa.String(64), sa.ForeignKey("labeling_datasets.id"), primary_key=True),
    sa.Column("record", sa.String(128), primary_key=True),
    sa.Column("field", sa.String(200), primary_key=True),
    sa.Column("annotator", sa.String(200), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("time", database.Time, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("problem", sa.Text),  # why the value fits nothing, else null
    sa.Column("gone", database.Time),
)


def know(identity: str, server: str, name: str, scenario: str) -> None:
    """Keep what a dataset is: its id, on which server, under which name, of which scenario."""
    row = {"id": identity, "server": server, "name": name, "scenario": scenario, "pulled": {}}
    with database.connection(_TABLES) as connection:
        database.upsert(connection, _DATASETS, [row], keep=("pulled",))


def pulled(identity: str) -> dict[str, Any]:
    """How a dataset stood at its last whole pull; empty where there was none."""
    with database.connection(_TABLES) as connection:
        return connection.execute(sa.select(_DATASETS.c.pulled).where(_DATASETS.c.id == identity)).scalar() or {}


def set_pulled(identity: str, state: dict[str, Any]) -> None:
    """Keep how a dataset stood at a whole pull."""
    with database.connection(_TABLES) as connection:
        connection.execute(sa.update(_DATASETS).where(_DATASETS.c.id == identity).values(pulled=state))


def keep_pushed(identity: str, records: Iterable[tuple[str, Record, str, int]]) -> None:
    """Keep records as they went up, each with the id under which it is asked, its id on the server and its row; what is known of them is
    replaced."""
    now = datetime.now(UTC)
    rows = [{"dataset": identity, "record": name, "place": place, "row": row, "content": dict(record), "time": now}
            for name, record, place, row in records]
    with database.connection(_TABLES) as connection:
        database.upsert(connection, _PUSHES, rows)


def pushed(identity: str) -> dict[str, Record]:
    """The records of a dataset as they went up last, by the ids under which they are asked, in the order of their rows."""
    query = sa.select(_PUSHES.c.record, _PUSHES.c.content).where(_PUSHES.c.dataset == identity).order_by(_PUSHES.c.row, _PUSHES.c.record)
    with database.connection(_TABLES) as connection:
        return {row.record: row.content for row in connection.execute(query)}


def keep(identity: str, records: Sequence[str], found: Iterable[Annotation | Reject]) -> tuple[int, int]:
    """Keep all that annotators say at present about these records: (how many rows are new or changed, how many vanished).

    What was kept about the records and is not in `found` counts as gone. Rows that are as they were are not written.
    """
    new = {_key(row): row for row in (_row(identity, each) for each in found)}
    changed = vanished = 0
    with database.connection(_TABLES) as connection:
        for ids in _parts(records):
            known = {_key(row): dict(row) for row in connection.execute(
                sa.select(_ANNOTATIONS).where(_ANNOTATIONS.c.dataset == identity, _ANNOTATIONS.c.record.in_(ids))).mappings()}
            rows = [row for key, row in new.items() if key[0] in ids and known.get(key) != row]
            database.upsert(connection, _ANNOTATIONS, rows)
            lost = [row for key, row in known.items() if key not in new and row["gone"] is None]
            for row in lost:
                connection.execute(sa.update(_ANNOTATIONS).where(_is(row)).values(gone=datetime.now(UTC)))
            changed, vanished = changed + len(rows), vanished + len(lost)
    return changed, vanished


def annotated(identity: str) -> set[str]:
    """The records of a dataset about which something is kept and not gone."""
    query = sa.select(_ANNOTATIONS.c.record).where(_ANNOTATIONS.c.dataset == identity, _ANNOTATIONS.c.gone.is_(None)).distinct()
    with database.connection(_TABLES) as connection:
        return set(connection.execute(query).scalars())


def annotations(identity: str | None = None, *, scenario: str | None = None) -> tuple[list[Annotation], list[Reject]]:
    """What is kept of one dataset, of one scenario's datasets, or of all: the values that fit, and those that do not; by record, field
    and annotator."""
    columns = [_ANNOTATIONS.c[name] for name in ("record", "field", "annotator", "value", "status", "time", "seconds", "problem")]
    query = sa.select(*columns).where(_ANNOTATIONS.c.gone.is_(None)).order_by(*columns[:3], _ANNOTATIONS.c.time)
    if identity is not None:
        query = query.where(_ANNOTATIONS.c.dataset == identity)
    if scenario is not None:
        query = query.join(_DATASETS, _DATASETS.c.id == _ANNOTATIONS.c.dataset).where(_DATASETS.c.scenario == scenario)
    with database.connection(_TABLES) as connection:
        rows = connection.execute(query).all()
    good, bad = [], []
    for *values, problem in rows:
        if problem is None:
            good.append(Annotation(*values))
        else:
            bad.append(Reject(Annotation(*values), problem))
    return good, bad


def datasets(server: str | None = None) -> list[dict[str, str]]:
    """The datasets that the lab knows: `id`, `server`, `name`, `scenario`."""
    query = sa.select(_DATASETS.c.id, _DATASETS.c.server, _DATASETS.c.name, _DATASETS.c.scenario).order_by(_DATASETS.c.name, _DATASETS.c.id)
    if server is not None:
        query = query.where(_DATASETS.c.server == server)
    with database.connection(_TABLES) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _row(identity: str, found: Annotation | Reject) -> dict[str, Any]:
    annotation, problem = (found.annotation, found.problem) if isinstance(found, Reject) else (found, None)
    return {"dataset": identity, **vars(annotation), "problem": problem, "gone": None}


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["record"], row["field"], row["annotator"]


def _is(row: dict[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(_ANNOTATIONS.c[name] == row[name] for name in ("dataset", "record", "field", "annotator")))


def _parts(records: Sequence[str]) -> list[set[str]]:
    return [set(records[start:start + _MANY]) for start in range(0, len(records), _MANY)]

"""Filters and sorts, in plain words and with Elasticsearch's meaning, answered from a dataset's columns.

Everything that a condition says of a record with several values holds where one of them fits. A condition on something that is not there
(a question that was deleted, one whose answers are texts, spans or rankings) fits no record.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from argilla_side.search import columns
from argilla_side.search.mirror import STATUSES, Mirror

PENDING = "pending"


class Senseless(ValueError):
    """A condition or an order that nothing could meet, because of how it is put."""


@dataclass(frozen=True)
class Scope:
    """What a condition or an order is about: `kind` is record, metadata, suggestion or response; `name` the metadata property or question;
    `property` what of it (a record's status, a suggestion's score, a response's status); `user` the id (32 hex digits) whose responses
    count, None for everybody's."""

    kind: str
    name: str | None = None
    property: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Condition:
    """One of `values`, or from `low` to `high`, both included."""

    scope: Scope
    values: tuple[str, ...] | None = None
    low: float | str | None = None
    high: float | str | None = None


@dataclass(frozen=True)
class Order:
    scope: Scope
    descending: bool = False


def fits(mirror: Mirror, condition: Condition) -> np.ndarray:
    """bool (rows,): which rows meet the condition (rows of deleted records may be among them).

    Raises:
        Senseless: there is no such condition.
    """
    scope, size = condition.scope, mirror.size
    if scope.kind == "record":
        return _record(mirror, condition)
    if scope.kind == "metadata":
        return _compared(mirror.metadata.get(scope.name), condition, size)
    if scope.kind == "suggestion":
        return _compared(mirror.suggestion(scope.name, scope.property), condition, size)
    if scope.kind == "response" and scope.name:
        return _of_responses(mirror, scope, _compared(mirror.responses.values.get(scope.name), condition, mirror.responses.size))
    if scope.kind == "response" and scope.property == "status" and condition.values is not None:
        return _response_status(mirror, scope, condition.values)
    raise Senseless(f"no filter for {scope}")


def _compared(column: columns.Codes | columns.Numbers | None, condition: Condition, size: int) -> np.ndarray:
    if column is None:
        return np.zeros(size, dtype=bool)
    if condition.values is not None:
        return column.terms(condition.values, size)
    low, high = (bound if bound is None else columns.number_of(bound) for bound in (condition.low, condition.high))
    if (low is None) != (condition.low is None) or (high is None) != (condition.high is None):
        raise Senseless(f"a range of numbers is needed, not {condition.low!r} to {condition.high!r}")
    return column.between(low, high, size)


def _record(mirror: Mirror, condition: Condition) -> np.ndarray:
    what = condition.scope.property
    if what in ("inserted_at", "updated_at"):
        times = mirror.times(what)
        if condition.values is not None:
            return np.isin(times, [moment(value) for value in condition.values])
        low, high = condition.low, condition.high
        return ((times >= moment(low)) if low is not None else True) & ((times <= moment(high, upper=True)) if high is not None else True)
    if what == "status":
        wanted = [code for code, name in enumerate(STATUSES) if _within(name, condition)]
        return np.isin(mirror.statuses[:mirror.size], wanted)
    if what in ("id", "external_id"):
        names = mirror.names(what)
        return np.array([name is not None and _within(name, condition, what == "id") for name in names], dtype=bool)
    raise Senseless(f"no filter for {condition.scope}")


def _within(name: str, condition: Condition, plain: bool = False) -> bool:
    """Whether a word is among the values, or between the bounds in the order of its letters."""
    said = (lambda value: str(value).replace("-", "").lower()) if plain else str
    if condition.values is not None:
        return name in {said(value) for value in condition.values} if plain else name in condition.values
    return (condition.low is None or name >= said(condition.low)) and (condition.high is None or name <= said(condition.high))


def _of_responses(mirror: Mirror, scope: Scope, chosen: np.ndarray) -> np.ndarray:
    """The rows that one of the chosen responses belongs to."""
    responses = mirror.responses
    chosen = chosen & responses.by(scope.user)
    found = np.zeros(mirror.size, dtype=bool)
    rows = responses.rows[:responses.size][chosen]
    found[rows[rows < mirror.size]] = True
    return found


def _response_status(mirror: Mirror, scope: Scope, values: tuple[str, ...]) -> np.ndarray:
    """`pending` is a record without a response (of that user); no status at all is no condition, but for a user one: that there is a
    response of theirs."""
    responses = mirror.responses
    names = [value for value in values if value != PENDING]
    found = np.zeros(mirror.size, dtype=bool)
    if PENDING in values:
        found |= ~_of_responses(mirror, scope, np.ones(responses.size, dtype=bool))
    elif not names and scope.user is None:
        return ~found
    if names or PENDING not in values:
        chosen = responses.status.terms(names, responses.size) if names else np.ones(responses.size, dtype=bool)
        found |= _of_responses(mirror, scope, chosen)
    return found


def keys(mirror: Mirror, order: Order) -> np.ndarray:
    """float64 (rows,): what to sort by, ascending; `columns.MISSING` where there is no value.

    Raises:
        Senseless: there is no such order.
    """
    scope, size, down = order.scope, mirror.size, order.descending
    if scope.kind == "record":
        if scope.property in ("inserted_at", "updated_at"):
            return columns.placed(mirror.times(scope.property).astype(np.float64), size, down)
        if scope.property == "status":
            ranks = np.argsort(np.argsort(STATUSES)).astype(np.float64)
            return columns.placed(ranks[mirror.statuses[:size]], size, down)
        if scope.property in ("id", "external_id"):
            return columns.placed(mirror.ranks(scope.property), size, down)
    column = None
    if scope.kind == "metadata":
        column = mirror.metadata.get(scope.name)
    elif scope.kind == "suggestion":
        column = mirror.suggestion(scope.name, scope.property)
    elif scope.kind == "response":
        return _response_keys(mirror, scope, down)
    else:
        raise Senseless(f"no order for {scope}")
    return np.full(size, columns.MISSING) if column is None else column.keys(size, down)


def _response_keys(mirror: Mirror, scope: Scope, down: bool) -> np.ndarray:
    """Of several responses the mean counts for ratings, else the smallest (descending: the largest)."""
    responses, size = mirror.responses, mirror.size
    if scope.name is None and scope.property != "status":
        raise Senseless(f"no order for {scope}")
    column = responses.values.get(scope.name) if scope.name else responses.status
    if column is None:
        return np.full(size, columns.MISSING)
    rows = responses.rows[:responses.size]
    if scope.name in mirror.ratings:
        values = responses.ratings(scope.name)
        chosen = responses.by(scope.user) & ~np.isnan(values) & (rows < size)
        sums = np.bincount(rows[chosen], weights=values[chosen], minlength=size)
        counts = np.bincount(rows[chosen], minlength=size)
        return columns.placed(np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0), size, down)
    ranks = column.keys(responses.size, down)
    chosen = responses.by(scope.user) & (rows < size)
    best = np.full(size, columns.MISSING)
    np.minimum.at(best, rows[chosen], ranks[chosen])
    return best


def moment(value: float | str, upper: bool = False) -> int:
    """Microseconds since 1970 (UTC) of a time in ISO 8601, or of a number of milliseconds. A day without an hour is its beginning, as the
    upper end of a range its last microsecond.

    Raises:
        Senseless: it is neither.
    """
    if not isinstance(value, str):
        return round(value * 1000)
    text = value.strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Senseless(f"{value!r} is no time in ISO 8601, such as 2024-05-31 or 2024-05-31T12:00:00Z") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if upper and re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
        time += timedelta(days=1, microseconds=-1)
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

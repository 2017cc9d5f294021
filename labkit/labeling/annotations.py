"""What one person said about one field of one record, and the tables that quality and cost are reckoned from.

This module knows nothing about servers: annotations may come from Argilla, from the notebook's widget or from a file.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

STATUSES = ("submitted", "draft", "discarded")


@dataclass(frozen=True)
class Annotation:
    """One answer of one annotator: `record` is the record's id, `field` a field of the scenario, `value` as it stands in a record's
    answer (a label's value, a number, a text; None where the record was discarded), `time` (UTC) when it was last saved, `seconds` how
    long it took, where that is known."""

    record: str
    field: str
    annotator: str
    value: Any
    status: str
    time: datetime
    seconds: float | None = None


@dataclass(frozen=True)
class Ratings:
    """Who gave which record which value: `values[item][rater]`, None where that annotator did not rate that record."""

    records: list[str]
    annotators: list[str]
    values: list[list[Any]]


def ratings(annotations: Iterable[Annotation], field: str) -> Ratings:
    """The submitted annotations of one field as a table, records and annotators in the order of their names. Of several by one annotator
    on one record the latest counts."""
    latest: dict[tuple[str, str], Annotation] = {}
    for each in annotations:
        if each.field == field and each.status == "submitted" and each.value is not None:
            known = latest.get((each.record, each.annotator))
            if known is None or each.time >= known.time:
                latest[each.record, each.annotator] = each
    records, annotators = (sorted({key[place] for key in latest}) for place in (0, 1))
    return Ratings(records, annotators, [[latest[record, name].value if (record, name) in latest else None for name in annotators]
                                         for record in records])

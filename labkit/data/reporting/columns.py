"""The columns by which prepared records are filtered: state, split, language, source, labels, and a search in the texts.

An item is a record by its position among the collected ones, or behind them a rejected row. Small columns are held in memory; texts
are read in batches at each search (200,000 records take about half a second).
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.data.reporting import measures
from labkit.records import Record

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from datasets import Dataset

    from labkit.data.corrections import Corrections
    from labkit.data.pipeline import Prepared

DROPPED, KEPT, REJECTED = 0, 1, 2  # states


class Columns:
    """The columns of all items.

    Attributes:
        records: how many records were collected; `items` with the rejected rows.
        state: int8 (items,), one of DROPPED, KEPT, REJECTED.
        splits, languages, sources: object (items,); empty where an item has none.
        drops: {position: (step, reason)}.
    """

    def __init__(self, given: "Dataset", corrections: "Corrections", prepared: "Prepared", rejects: list[dict[str, Any]]) -> None:
        import numpy

        self.given, self.prepared, self.rejects = given, prepared, rejects
        self.records, self.items = len(given), len(given) + len(rejects)
        self.kept, self.drops = corrections.kept, corrections.drops
        self.state = numpy.full(self.items, REJECTED, dtype=numpy.int8)
        self.state[: self.records] = DROPPED
        self.state[self.kept] = KEPT
        none = [""] * len(rejects)
        self.languages = numpy.array(given["language"][:] + none, dtype=object)
        self.sources = numpy.array(given["source"][:] + [str(reject["file"]) for reject in rejects], dtype=object)
        self.splits = numpy.full(self.items, "", dtype=object)
        for column, name in ((self.languages, "language"), (self.sources, "source"), (self.splits, "split")):
            column[self.kept] = numpy.array(prepared.records[name][:], dtype=object)
        self.has_splits = bool((self.splits != "").any())
        self._labels: dict[str, numpy.ndarray] = {}
        self._corrected: dict[int, Record] = {}

    def everything(self) -> "numpy.ndarray":
        """A mask (items,) that lets every item through."""
        import numpy

        return numpy.ones(self.items, dtype=bool)

    def in_state(self, state: tuple[str, ...], corrections: "Corrections") -> "numpy.ndarray":
        """A mask of the items that are kept, dropped (also by one step and reason), rejected, or changed by the person."""
        import numpy

        if state[0] == "changed":
            mask = numpy.zeros(self.items, dtype=bool)
            mask[[change["position"] for change in corrections.changes()]] = True
            return mask
        mask = self.state == {"kept": KEPT, "dropped": DROPPED, "rejected": REJECTED}[state[0]]
        if len(state) > 1:
            only = numpy.zeros(self.items, dtype=bool)
            only[[position for position, drop in self.drops.items() if drop == state[1:]]] = True
            mask &= only
        return mask

    def with_label(self, field: str, value: str | None) -> "numpy.ndarray":
        """A mask of the records that have this label, or none where `value` is None."""
        import numpy

        if field not in self._labels:
            labels = numpy.full(self.items, None, dtype=object)
            labels[: self.records] = _answers(self.given, field)
            labels[self.kept] = _answers(self.prepared.records, field)
            for position, record in self._corrected.items():
                labels[position] = record["answer"].get(field)
            self._labels[field] = labels
        mask = numpy.array([label == value for label in self._labels[field]], dtype=bool)
        mask[self.records :] = False
        return mask

    def matching_text(self, part: str) -> "numpy.ndarray":
        """A mask of the items that hold this text, in any case, as they were read or as they are now."""
        import numpy

        wanted = part.strip().lower()
        mask = numpy.zeros(self.items, dtype=bool)
        mask[: self.records] = _holding(self.given, wanted)
        mask[self.kept] |= _holding(self.prepared.records, wanted)
        for position, record in self._corrected.items():
            mask[position] |= _holds([*(message["content"] for message in record["messages"]), *record["answer"].values()], wanted)
        for place, reject in enumerate(self.rejects):
            mask[self.records + place] = _holds([reject["problem"], *(reject.get("values") or {}).values()], wanted)
        return mask

    def update(self, position: int, corrections: "Corrections") -> None:
        """Take over a correction of this record."""
        record = corrections.current(position)
        self.state[position] = DROPPED if record is None else KEPT
        self._corrected.pop(position, None)
        if record is not None:
            self.languages[position], self.splits[position] = record["language"], record["split"]
            if corrections.change(position):
                self._corrected[position] = record
        answer = (record or self.given[position])["answer"]
        for field, labels in self._labels.items():
            labels[position] = answer.get(field)


def _answers(records: "Dataset", field: str) -> "numpy.ndarray":
    """A field's value in each record, object (records,)."""
    import numpy

    values = [json.loads(text).get(field) if text else None
              for batch in measures.batches(records, ["answer"]) for text in batch["answer"].to_pylist()]
    found = numpy.full(len(values), None, dtype=object)
    found[:] = values
    return found


def _holding(records: "Dataset", part: str) -> "numpy.ndarray":
    """Which records have this text in a message or in a value of the answer, in any case: bool (records,)."""
    import numpy
    import pyarrow.compute as compute

    found = [numpy.zeros(0, dtype=bool)]
    for batch in measures.batches(records, ["messages", "answer"]):
        counts = compute.list_value_length(batch["messages"]).to_numpy(zero_copy_only=False).astype(numpy.int64)
        hits = _matches(batch["messages"].flatten().field("content"), part)
        owners = numpy.repeat(numpy.arange(len(counts)), counts)
        mask = numpy.bincount(owners, weights=hits, minlength=len(counts)) > 0
        answers = _matches(batch["answer"], json.dumps(part, ensure_ascii=False)[1:-1])
        for row in (answers & ~mask).nonzero()[0]:  # a field's name may be what matched
            mask[row] = _holds(json.loads(batch["answer"][int(row)].as_py()).values(), part)
        found.append(mask)
    return numpy.concatenate(found)


def _holds(values: Iterable[Any], part: str) -> bool:
    """Whether one of the values holds this text (lower case), in any case."""
    return any(part in str(value).lower() for value in values)


def _matches(texts: "pyarrow.Array", part: str) -> "numpy.ndarray":
    import pyarrow.compute as compute

    return compute.fill_null(compute.match_substring(texts, part, ignore_case=True), False).to_numpy(zero_copy_only=False)

"""Examples of duplicates for the report: a dropped record beside the kept one that it repeats.

The preparation keeps no texts of what it dropped, so a few dropped records are cleaned and masked anew from what was collected, and the
kept record most like each is looked for among those that share a piece of text with it.
"""

import difflib
from typing import TYPE_CHECKING, Any

from labkit.data import corrections
from labkit.data.reporting import measures

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.data.plan import Plan
    from labkit.scenarios import Scenario

_PROBE = 14  # characters of a piece that candidates must share
_PROBES = 6  # pieces a text
_CANDIDATES = 50  # kept records that are compared with a dropped one
_ALIKE = 0.5  # ratio of `difflib` below which nothing is shown


def duplicates(given: "Dataset", kept: "Dataset", dropped: list[tuple[int, str]], scenario: "Scenario", plan: "Plan",
               most: int = 1_000) -> list[dict[str, Any]]:
    """Pairs of texts for some dropped records.

    Args:
        given: the records as they were collected.
        dropped: (position in `given`, step) of the records to find a partner for.
        most: characters of a text.

    Returns:
        for each that was found `position`, `step`, `dropped`, `kept` (the conversations), `alike` (0 to 1).
    """
    texts = {position: _conversation(corrections.cleaned(given[position], scenario, plan)) for position, _ in dropped}
    candidates = _sharing(kept, {position: _pieces(text) for position, text in texts.items()})
    found = []
    for position, step in dropped:
        text = texts[position][:most]
        scored = [(difflib.SequenceMatcher(None, text, other[:most], autojunk=False).ratio(), other) for other in candidates[position]]
        alike, other = max(scored, key=lambda pair: pair[0], default=(0.0, ""))
        if alike >= _ALIKE:
            found.append({"position": position, "step": step, "dropped": text, "kept": other[:most], "alike": round(alike, 3)})
    return found


def _conversation(record: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in record["messages"])


def _pieces(text: str) -> list[str]:
    """Pieces spread over the text; the whole text where it is short."""
    if len(text) <= _PROBE:
        return [text]
    last = len(text) - _PROBE
    return sorted({text[last * place // (_PROBES - 1) :][:_PROBE] for place in range(_PROBES)})


def _sharing(kept: "Dataset", pieces: dict[int, list[str]]) -> dict[int, list[str]]:
    """For each key the conversations of those kept records that hold most of its pieces."""
    import numpy
    import pyarrow
    import pyarrow.compute as compute

    found: dict[int, list[tuple[int, str]]] = {key: [] for key in pieces}
    for batch in measures.batches(kept, ["messages"]):
        contents = batch["messages"].flatten().field("content")
        joined = compute.binary_join(pyarrow.ListArray.from_arrays(_offsets(batch["messages"]), contents), "\n")
        for key, wanted in pieces.items():
            held = numpy.zeros(len(joined), dtype=numpy.int64)
            for piece in wanted:
                held += compute.match_substring(joined, piece).to_numpy(zero_copy_only=False)
            best = numpy.argsort(-held, kind="stable")[:_CANDIDATES]
            found[key] += [(int(held[row]), joined[int(row)].as_py()) for row in best if held[row]]
            found[key] = sorted(found[key], key=lambda pair: -pair[0])[:_CANDIDATES]
    return {key: [text for _, text in pairs] for key, pairs in found.items()}


def _offsets(lists: Any) -> Any:
    """The lists' offsets, beginning with 0 (a slice's begin elsewhere)."""
    import numpy
    import pyarrow
    import pyarrow.compute as compute

    counts = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    return pyarrow.array(numpy.concatenate([[0], numpy.cumsum(counts)]), pyarrow.int32())

"""Examples of duplicates for the report: a dropped record beside the one that it repeats.

The preparation keeps no texts of what it dropped, so these few are cleaned and masked anew from what was collected.
"""

import difflib
from typing import TYPE_CHECKING, Any

from labkit.data import corrections

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.data.plan import Plan
    from labkit.scenarios import Scenario


def duplicates(given: "Dataset", dropped: list[tuple[int, str, int]], scenario: "Scenario", plan: "Plan",
               most: int = 1_000) -> list[dict[str, Any]]:
    """Pairs of texts for some dropped records.

    Args:
        given: the records as they were collected.
        dropped: (position in `given`, step, position of the record that it repeats).
        most: characters of a text.

    Returns:
        for each `position`, `step`, `dropped`, `kept` (the conversations), `alike` (0 to 1: `difflib`'s ratio).
    """
    found = []
    for position, step, twin in dropped:
        text, other = (_conversation(corrections.cleaned(given[place], scenario, plan))[:most] for place in (position, twin))
        alike = difflib.SequenceMatcher(None, text, other, autojunk=False).ratio()
        found.append({"position": position, "step": step, "dropped": text, "kept": other, "alike": round(alike, 3)})
    return found


def _conversation(record: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in record["messages"])

"""A record without personal data, what was counted in it, and what was replaced by what.

`protect` is what the step of that name does; it gives the replacements as well, for `labkit.data.privacy.vault`, and nothing else
keeps them.
"""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

from labkit.data import privacy
from labkit.data.privacy import masking
from labkit.data.steps import on_texts, texts
from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Protected:
    """The record afterwards, how many findings of each kind there were, and each replacement as (kind, text, what stands there now)."""

    record: Record
    counts: dict[str, int] = field(default_factory=dict)
    replacements: list[tuple[str, str, str]] = field(default_factory=list)


def settings(mode: str, kinds: str, names: bool) -> tuple[frozenset[str], str]:
    """What the parameters of the step `protect` mean: the kinds that are looked for, and the key for pseudonyms (empty in other modes).

    Raises:
        LabError: an unknown kind, or no sufficient key for `pseudonymise`.
    """
    chosen = privacy.parse_kinds(kinds) - (frozenset() if names else {"name"})
    return chosen, masking.key_from_environment() if mode == "pseudonymise" else ""


def protect(record: Record, scenario: Scenario, mode: str, kinds: Set[str] = privacy.ALL, key: str = "") -> Protected:
    """Find personal data in a record's messages and text fields and replace it as `mode` says (see `masking.MODES`); `flag` leaves
    the texts and only counts. `meta.privacy` holds the counts, never a text.

    Raises:
        LabError: an unknown mode, or no sufficient key for `pseudonymise`.
    """
    if mode not in masking.MODES:
        raise LabError(f"no mode {mode!r}; there are: {', '.join(masking.MODES)}")
    language = record["language"]
    found_in = texts(record, scenario)
    found = privacy.find_all(found_in, [language] * len(found_in), kinds)
    counts = dict(sorted(Counter(each.kind for row in found for each in row).items()))
    if not counts:
        return Protected(record)
    before = record["meta"].get("privacy") or {}
    record = {**record, "meta": {**record["meta"], "privacy": dict(sorted((Counter(before) + Counter(counts)).items()))}}
    if mode == "flag":
        return Protected(record, counts)
    replacer = {"mask": masking.Placeholders, "number": masking.Numbered}[mode](language) if mode != "pseudonymise" else \
        masking.Pseudonyms(key, language, record["id"])
    noting = _Noting(replacer)
    rows = iter(found)
    changed, _ = on_texts(record, scenario, lambda text: masking.replace(text, next(rows), noting))
    return Protected(changed, counts, list(dict.fromkeys(noting.made)))


class _Noting:
    """Passes on what another replacer gives, and notes it."""

    def __init__(self, replacer: masking.Replacer) -> None:
        self._replacer = replacer
        self.made: list[tuple[str, str, str]] = []

    def replacement(self, kind: str, written: str) -> str:
        new = self._replacer.replacement(kind, written)
        self.made.append((kind, written, new))
        return new

"""Steps that drop what is there twice, and the check that nothing of the test is learned from.

What is compared is a record's conversation. Of a cluster one record stays: a labelled one before an unlabelled one, then one of the test
split, then the first. The mark of a dropped one says which; where its label differs from what the cluster says already, that is counted
as `conflicting_labels`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import records as recs
from labkit.data import duplicates
from labkit.data.steps import Mark, whole_step
from labkit.errors import LabError
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

REASONS = {
    "exact_duplicate": {"en": "the same as another record", "zh": "与其他记录完全相同"},
    "near_duplicate": {"en": "nearly the same as another record", "zh": "与其他记录几乎相同"},
    "semantic_duplicate": {"en": "says the same as another record", "zh": "与其他记录意思相同"},
    "leak": {"en": "equal or near to a record of test", "zh": "与测试记录相同或相近"},
}
_SHOWN = 3  # pairs that an error names


@whole_step("Exact duplicates", "完全重复")
def exact_duplicates(records: "Dataset", scenario: Scenario, *, processes: int = 1) -> list[Mark]:
    """Drop records whose conversation is that of another one, character by character."""
    return _marks(records, scenario, duplicates.exact(duplicates.conversations(records)), "exact_duplicate")


@whole_step("Near duplicates", "近似重复")
def near_duplicates(records: "Dataset", scenario: Scenario, *, threshold: float = 0.8, digits: bool = True, slips: bool = True,
                    processes: int = 1) -> list[Mark]:
    """Drop records whose conversation shares nearly all neighbouring words (in Chinese: characters) with another one's.

    `threshold` is the Jaccard similarity from which two are near; `digits = false` takes all numbers for the same; with `slips` a short
    text is near also where it differs by one mistyped word.
    """
    texts = duplicates.conversations(records)
    return _marks(records, scenario, duplicates.near(texts, threshold=threshold, digits=digits, slips=slips, processes=processes),
                  "near_duplicate")


@whole_step("Duplicates in other words", "语义重复")
def semantic_duplicates(records: "Dataset", scenario: Scenario, *, threshold: float = 0.95, encoder: str = "minilm-l6",
                        languages: str = "en", processes: int = 1) -> list[Mark]:
    """Drop records that say the same as another one in other words, by the cosine of their embeddings.

    The embedded encoder reads English only: records of a language that is not in `languages` (comma separated) stay and are counted
    as `not_compared`. For Chinese name an `encoder` that reads it, and `languages = "en,zh"`.
    """
    understood = {part.strip() for part in languages.split(",")}
    compared = np.flatnonzero([language in understood for language in records["language"]])
    clusters = np.arange(len(records))
    if len(compared):
        chosen = records.select(compared)
        order = np.array(sorted(range(len(chosen)), key=_preference(list(recs.rows(chosen, "answer", "split")))))
        texts = duplicates.conversations(chosen)
        found = duplicates.semantic([texts[index] for index in order], threshold=threshold, encoder=encoder)
        clusters[compared[order]] = compared[order[found]]
    marks = _marks(records, scenario, clusters, "semantic_duplicate")
    missed = Mark(counts={"not_compared": 1})
    apart = set(range(len(records))) - set(compared.tolist())
    return [missed if index in apart else mark for index, mark in enumerate(marks)]


@whole_step("Leaks into the test", "测试集泄漏")
def leaks(records: "Dataset", scenario: Scenario, *, threshold: float = 0.8, digits: bool = True, action: str = "fail",
          processes: int = 1) -> list[Mark]:
    """Check that no conversation of train or validation is equal or near to one of test.

    `action = "fail"` stops with an error that names the first pairs, `"drop"` drops the record that is not in test.
    """
    if action not in ("fail", "drop"):
        raise LabError(f"step leaks: action must be fail or drop, not {action!r}")
    splits = np.array(records["split"])
    if not (splits != "").any():
        raise LabError("step leaks: no record has a split yet; put the step split before it",
                       "步骤 leaks：记录尚未划分；请把步骤 split 放在它之前")
    test, rest = np.flatnonzero(splits == "test"), np.flatnonzero(splits != "test")
    texts = duplicates.conversations(records)
    found = duplicates.against([texts[index] for index in rest], [texts[index] for index in test], threshold=threshold, digits=digits,
                               processes=processes)
    leaking = np.flatnonzero(found >= 0)
    marks = [Mark()] * len(records)
    if not len(leaking):
        return marks
    pairs = [(int(rest[index]), int(test[found[index]])) for index in leaking]
    if action == "fail":
        named = sorted({index for pair in pairs[:_SHOWN] for index in pair})
        rows = dict(zip(named, recs.rows(records.select(named), "id", "source", "meta"), strict=True))
        names = "; ".join(f"{place(rows[left])} ~ {place(rows[right])}" for left, right in pairs[:_SHOWN])
        more = "" if len(pairs) <= _SHOWN else "; …"
        raise LabError(
            f"leak: {len(pairs)} of the records to learn from are equal or near (from {threshold:g}) to one of test: {names}{more}; let "
            'the step split draw them anew (keep = false), or set action = "drop" in the step leaks',
            f'泄漏：有 {len(pairs)} 条训练记录与测试记录相同或相近(相似度 {threshold:g} 以上)：{names}{more}；请让步骤 split 重新划分'
            '(keep = false)，或在步骤 leaks 中设置 action = "drop"')
    for left, right in pairs:
        marks[left] = Mark("leak", twin=right)
    return marks


def place(row: dict[str, Any]) -> str:
    """Where a record (its `id`, `source` and `meta` are enough) comes from, for people: `mine.csv, row 3`."""
    number = row["meta"].get("row", row["meta"].get("line"))
    return f"{row['source']}, row {number}" if number is not None else f"{row['source']}, record {row['id']}"


def _marks(records: "Dataset", scenario: Scenario, clusters: np.ndarray, reason: str) -> list[Mark]:
    """A mark for each record, where `clusters` int64 (records,) says which belong together."""
    marks = [Mark()] * len(records)
    members = np.flatnonzero(np.bincount(clusters, minlength=len(records))[clusters] > 1) if len(records) else []
    if not len(members):
        return marks
    rows = list(recs.rows(records.select(members), "answer", "split"))
    together: dict[int, list[int]] = {}
    for index in sorted(range(len(rows)), key=_preference(rows)):
        together.setdefault(int(clusters[members[index]]), []).append(index)
    labels = [field.name for field in scenario.label_fields]
    for cluster in together.values():
        kept, *dropped = cluster
        said = {name: rows[kept]["answer"][name] for name in labels if rows[kept]["answer"].get(name) is not None}
        for index in dropped:
            answer = rows[index]["answer"]
            differ = [said.setdefault(name, answer[name]) != answer[name] for name in labels if answer.get(name) is not None]
            marks[members[index]] = Mark(reason, {"conflicting_labels": 1} if any(differ) else {}, twin=int(members[kept]))
    return marks


def _preference(rows: list[dict[str, Any]]) -> Callable[[int], tuple]:
    """The sorting key of indices by which the record that stays comes first."""
    ranks = [(not row["answer"], row["split"] != "test") for row in rows]
    return lambda index: (*ranks[index], index)

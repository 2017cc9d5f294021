"""The queue of records that one person should decide: why each is in it, in both languages, and how decisions come back.

A record goes back for disagreement or a tie, a label of low confidence, a likely label error, a gold question that annotators answer
against its key, or because somebody discarded it. A decision is an annotation by the adjudicator; `settled` makes it the truth that
aggregation takes (`gold=`), and `without` keeps it out of the measures of agreement.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labkit.errors import LabError
from labkit.labeling.annotations import Annotation, ratings
from labkit.labeling.quality import aggregation, agreement
from labkit.labeling.quality.errors import Suspect
from labkit.scenarios import Field, Scenario, Text

LEAST = 0.8  # a label that is less sure goes back
DISPUTE = 0.5  # and what at least this share of the votes contradicts

KINDS = ("tie", "disagreement", "unsure", "error", "gold", "discarded")


@dataclass(frozen=True)
class Reason:
    """Why a record is in the queue: `kind` (one of `KINDS`), the field ("" for the whole record), `urgency` (0 to 1), the sentence."""

    kind: str
    field: str
    urgency: float
    text: Text


@dataclass(frozen=True)
class Item:
    """A record to decide: its `priority` (0 to 1), the `reasons`, the most urgent first, and for each field in question who gave which
    value (`given`: field -> annotator -> value)."""

    record: str
    priority: float
    reasons: tuple[Reason, ...]
    given: dict[str, dict[str, Any]]


def queue(annotations: Iterable[Annotation], scenario: Scenario, *, method: str = "dawid_skene",
          suspects: Mapping[str, Sequence[Suspect]] | None = None, gold: Mapping[str, Mapping[str, Any]] | None = None,
          decided: Iterable[str] = (), least: float = LEAST, dispute: float = DISPUTE) -> list[Item]:
    """The records to adjudicate, the most urgent first.

    A record's priority is 1 minus the product of (1 - urgency) over its reasons: each reason brings it nearer to 1. The urgency of a
    disagreement is the share of votes that differ; of an unsure label 1 - confidence; of a likely error half its score (a model's
    word against people's); of a gold question the share that contradicts its key; of a discarded record the share that discarded it.

    Args:
        method: how labels are aggregated; see `aggregation.of_field`.
        suspects: by field what `errors.ranked` found; only `likely` ones count.
        gold: the gold questions' answers. At least half of two or more annotators against the key: the key may be wrong. A gold
            question goes back for no other reason, since its answer is known.
        decided: ids of records that are not to come again.
        least: the confidence below which a label goes back.
        dispute: the share of differing votes from which a record goes back. Fewer are outvoted, unless the label is unsure.
    """
    annotations = list(annotations)
    gold = gold or {}
    found: dict[str, list[Reason]] = {}
    given: dict[str, dict[str, dict[str, Any]]] = {}
    for field in scenario.fields:
        table = ratings(annotations, field.name)
        for record, row in zip(table.records, table.values, strict=True):
            own = {name: value for name, value in zip(table.annotators, row, strict=True) if value is not None}
            given.setdefault(record, {})[field.name] = own
            key = gold.get(record, {}).get(field.name)
            if key is not None and field.kind != "text":
                found.setdefault(record, []).extend(_on_gold(field, list(own.values()), key))
        truth = {record: answer[field.name] for record, answer in gold.items() if answer.get(field.name) is not None}
        for each in aggregation.of_field(annotations, field, method=method, gold=truth if field.kind == "label" else None):
            if each.record not in gold:
                found.setdefault(each.record, []).extend(_on_votes(field, each, least, dispute))
        for suspect in (suspects or {}).get(field.name, ()):
            if suspect.likely and suspect.record not in gold:
                found.setdefault(suspect.record, []).append(_on_error(field, suspect))
    for record, reason in _on_discards(annotations).items():
        found.setdefault(record, []).append(reason)
    skipped = set(decided)
    items = []
    for record, reasons in found.items():
        if reasons and record not in skipped:
            rest = 1.0
            for reason in reasons:
                rest *= 1 - reason.urgency
            order = sorted(reasons, key=lambda reason: (-reason.urgency, reason.field, reason.kind))
            asked = {name: own for name, own in given.get(record, {}).items() if name in {each.field for each in reasons} or
                     any(not each.field for each in reasons)}
            items.append(Item(record, 1 - rest, tuple(order), asked))
    return sorted(items, key=lambda item: (-item.priority, item.record))


def decide(record: str, answer: Mapping[str, Any], adjudicator: str, scenario: Scenario, *,
           time: datetime | None = None) -> list[Annotation]:
    """The decision as the adjudicator's annotations, one a field; `time` is now where None.

    Raises:
        LabError: a value that does not fit the scenario, or no value at all.
    """
    from labkit.scenarios.answers import tidy

    kept = tidy(scenario, dict(answer))
    if not kept:
        raise LabError(f"record {record}: the decision has no value; decide at least one field")
    moment = datetime.now(UTC) if time is None else time
    return [Annotation(record, field, adjudicator, value, "submitted", moment) for field, value in kept.items()]


def settled(annotations: Iterable[Annotation], adjudicators: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the adjudicators decided, record -> field -> value, the latest where there are several; `gold=` of the aggregation."""
    judges = set(adjudicators)
    made: dict[str, dict[str, Any]] = {}
    for each in sorted((each for each in annotations if each.annotator in judges), key=lambda each: each.time):
        if each.status == "submitted" and each.value is not None:
            made.setdefault(each.record, {})[each.field] = each.value
    return made


def without(annotations: Iterable[Annotation], adjudicators: Iterable[str]) -> list[Annotation]:
    """The annotations of the others: an adjudicator saw the others' answers, so agreeing with them says nothing."""
    judges = set(adjudicators)
    return [each for each in annotations if each.annotator not in judges]


def _on_votes(field: Field, each: aggregation.Consensus, least: float, dispute: float) -> list[Reason]:
    made = []
    en, zh = field.title["en"], field.title["zh"]
    if each.tied:
        made.append(Reason("tie", field.name, 0.75, {"en": f"{en}: the votes are tied", "zh": f"{zh}：票数相同"}))
    unsure = field.kind == "label" and each.confidence < least
    if each.differ and (unsure or len(each.differ) >= dispute * each.votes):
        names, count = ", ".join(each.differ), f"{len(each.differ)}/{each.votes}"
        made.append(Reason("disagreement", field.name, len(each.differ) / each.votes, {
            "en": f"{en}: {count} differ from “{_value(field, each.value, 'en')}” ({names})",
            "zh": f"{zh}：{count} 人与“{_value(field, each.value, 'zh')}”不同（{names}）"}))
    if unsure:
        made.append(Reason("unsure", field.name, 1 - each.confidence, {
            "en": f"{en}: “{_value(field, each.value, 'en')}” has a probability of only {each.confidence:.0%}",
            "zh": f"{zh}：“{_value(field, each.value, 'zh')}”的概率只有 {each.confidence:.0%}"}))
    return made


def _on_gold(field: Field, values: list[Any], key: Any) -> list[Reason]:
    against = sum(not agreement.same(field, value, key) for value in values)
    if len(values) < 2 or 2 * against < len(values):
        return []
    return [Reason("gold", field.name, against / len(values), {
        "en": f"{field.title['en']}: {against} of {len(values)} answer this gold question against its key “{_value(field, key, 'en')}”; "
              "the key may be wrong",
        "zh": f"{field.title['zh']}：{len(values)} 人中有 {against} 人对这道金标题的回答与答案“{_value(field, key, 'zh')}”不符；"
              "答案可能有误"})]


def _on_error(field: Field, suspect: Suspect) -> Reason:
    return Reason("error", field.name, suspect.score / 2, {
        "en": f"{field.title['en']}: a model trained on the others expects “{_value(field, suspect.suggested, 'en')}”, "
              f"not “{_value(field, suspect.given, 'en')}”",
        "zh": f"{field.title['zh']}：用其他记录训练的模型认为应是“{_value(field, suspect.suggested, 'zh')}”，"
              f"而不是“{_value(field, suspect.given, 'zh')}”"})


def _on_discards(annotations: list[Annotation]) -> dict[str, Reason]:
    latest: dict[tuple[str, str], Annotation] = {}
    for each in annotations:
        known = latest.get((each.record, each.annotator))
        if each.status != "draft" and (known is None or each.time >= known.time):
            latest[each.record, each.annotator] = each
    people: dict[str, list[bool]] = {}
    for (record, _), each in latest.items():
        people.setdefault(record, []).append(each.status == "discarded")
    return {record: Reason("discarded", "", sum(gone) / len(gone), {
        "en": f"{sum(gone)} of {len(gone)} annotators discarded it", "zh": f"{len(gone)} 人中有 {sum(gone)} 人弃标"})
        for record, gone in people.items() if any(gone)}


def _value(field: Field, value: Any, language: str) -> str:
    shown = field.show(value, language)
    return shown if len(shown) <= 40 else shown[:39] + "…"

"""What the guideline should say more clearly: labels that annotators mix up, fields they disagree on, in sentences for its author.

A pair of labels is looked at among the disagreements only: how often it occurs against how often it would if disagreements fell on the
labels by their frequency alone. (Against plain chance even the worst pair looks good, since annotators agree most of the time.)
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from labkit.labeling.annotations import Annotation, Ratings, ratings
from labkit.labeling.quality import agreement, annotators
from labkit.labeling.quality.intervals import RESAMPLES, Estimate, chance
from labkit.scenarios import Field, Scenario, Text

EXAMPLES = 5

# Krippendorff 2004 (Content Analysis, chapter 11): rely on alpha from 0.8, draw tentative conclusions from 0.667.
RELIABLE, TENTATIVE = 0.8, 0.667
LEVEL = 0.05


@dataclass(frozen=True)
class Confusion:
    """Two labels given to the same records: `observed` in records' worth of disagreement (a record's share of annotator pairs that gave
    these two), `expected` if disagreements followed frequency alone, `p` the chance of so many then, and `examples`, record ids, the
    most evenly split first."""

    first: Any
    second: Any
    observed: float
    expected: float
    p: float
    records: int
    examples: tuple[str, ...]

    @property
    def excess(self) -> float:
        """Records of disagreement beyond what frequency explains."""
        return self.observed - self.expected


@dataclass(frozen=True)
class Advice:
    """What to do about a field's guideline, and the records that show why. `kind` is `confusion`, `agreement`, `bias` or `offset`."""

    kind: str
    field: str
    text: Text
    records: tuple[str, ...] = ()


def confusions(table: Ratings, *, examples: int = EXAMPLES) -> list[Confusion]:
    """Every pair of labels that some record got from different annotators, the greatest excess first."""
    from scipy.special import bdtrc

    observed: Counter[tuple[Any, Any]] = Counter()
    frequency: Counter[Any] = Counter()
    shown: dict[tuple[Any, Any], list[tuple[float, str]]] = {}
    for record, row in zip(table.records, table.values, strict=True):
        given = [value for value in row if value is not None]
        if len(given) < 2:
            continue
        counts = Counter(given)
        frequency.update({value: count / len(given) for value, count in counts.items()})
        for pair in combinations(sorted(counts), 2):
            share = 2 * counts[pair[0]] * counts[pair[1]] / (len(given) * (len(given) - 1))
            observed[pair] += share
            shown.setdefault(pair, []).append((-share, record))
    total = sum(observed.values())
    mass = sum(frequency[a] * frequency[b] for a, b in combinations(sorted(frequency), 2))
    made = []
    for pair, count in observed.items():
        share = min(1.0, frequency[pair[0]] * frequency[pair[1]] / mass)
        # Rounded to whole records, down where they are seen and up where they are drawn from: the chance errs on the careful side.
        p = float(bdtrc(int(count) - 1, int(total + 1), share)) if int(count) else 1.0
        found = sorted(shown[pair])
        made.append(Confusion(*pair, float(count), total * share, p, len(found), tuple(record for _, record in found[:examples])))
    return sorted(made, key=lambda each: (-each.excess, -each.observed, str(each.first), str(each.second)))


def disputed(table: Ratings, *, tolerance: float | None = None, texts: bool = False, limit: int = EXAMPLES) -> list[str]:
    """The records with the least agreement, those with any disagreement only. Agreement is the share of equal pairs of values, of numbers
    within `tolerance`, of texts their mean similarity."""
    found = []
    for record, row in zip(table.records, table.values, strict=True):
        pairs = list(combinations([value for value in row if value is not None], 2))
        if pairs:
            if texts:
                alike = sum(agreement.similarity(left, right) for left, right in pairs)
            else:
                alike = sum(left == right if tolerance is None else abs(left - right) <= tolerance + 1e-9 for left, right in pairs)
            if alike < len(pairs):
                found.append((alike / len(pairs), record))
    return [record for _, record in sorted(found)[:limit]]


def advice(annotations: Iterable[Annotation], scenario: Scenario, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Advice]:
    """Sentences for the guideline's author, in English and Chinese, the field with the least agreement first.

    A field is named where its agreement is too low, a pair of labels where it is mixed up more than frequency explains (at least two
    records' worth), an annotator who gives a label (by at least 5 points), or numbers, otherwise than the others. All three only
    where p is below 0.05 divided by the number of pairs, or of annotators and labels, that were looked at (Bonferroni).
    """
    annotations = list(annotations)
    found: list[tuple[float, list[Advice]]] = []
    for field in scenario.fields:
        table = ratings(annotations, field.name)
        made, value = _on_agreement(table, field, resamples, seed)
        if field.kind == "label":
            made += _on_confusions(table, field) + _on_bias(table, field, resamples, seed)
        if field.kind == "number":
            made += _on_offsets(table, field, resamples, seed)
        found.append((value, made))
    return [each for _, made in sorted(found, key=lambda entry: entry[0]) for each in made]


def _on_agreement(table: Ratings, field: Field, resamples: int, seed: int) -> tuple[list[Advice], float]:
    measures = agreement.of_field(table, field, resamples=resamples, seed=seed)
    estimate: Estimate = measures["similarity" if field.kind == "text" else "alpha"]
    if estimate.value is None:
        return [], 1.0
    shown = _shown(estimate)
    tolerance = agreement.near(field) if field.kind == "number" else None
    records = tuple(disputed(table, tolerance=tolerance, texts=field.kind == "text"))
    en, zh = field.title["en"], field.title["zh"]
    if field.kind == "text":
        if estimate.value >= agreement.ALIKE:
            return [], estimate.value
        text = {"en": f"{en}: the texts have little in common (similarity {shown}). Say in the guideline what the text must contain, "
                      "how long it is, and give two examples.",
                "zh": f"{zh}：各人写的文字相差很大（相似度 {shown}）。请在指南中写明必须包含的内容和长度，并给出两个例子。"}
    elif estimate.value < TENTATIVE:
        text = {"en": f"{en}: agreement is too low to rely on (alpha {shown}). Discuss the disputed records together, write the "
                      "rule that settles each into the guideline, then label a new batch.",
                "zh": f"{zh}：一致性太低，不可依赖（alpha {shown}）。请一起讨论有争议的记录，把每条的判定规则写进指南，再标注新的一批。"}
    elif estimate.value < RELIABLE:
        text = {"en": f"{en}: agreement allows tentative conclusions only (alpha {shown}). Add a rule or an example for the disputed "
                      "records to the guideline.",
                "zh": f"{zh}：一致性只够得出初步结论（alpha {shown}）。请在指南中为有争议的记录补充规则或例子。"}
    else:
        return [], estimate.value
    return [Advice("agreement", field.name, text, records)], estimate.value


def _on_confusions(table: Ratings, field: Field) -> list[Advice]:
    made = []
    found = confusions(table)
    for each in found:
        if each.p < LEVEL / len(found) and each.observed >= 2 and each.excess > 0:
            first, second = (field.label(value) for value in (each.first, each.second))
            made.append(Advice("confusion", field.name, {
                "en": f"{field.title['en']}: “{first.en}” and “{second.en}” are mixed up in {each.records} records "
                      f"({each.observed:.1f} by weight, {each.expected:.1f} expected from their frequency). Write into the guideline "
                      "what tells them apart, with one clear case of each and one borderline case decided.",
                "zh": f"{field.title['zh']}：“{first.zh}”与“{second.zh}”在 {each.records} 条记录中被混淆"
                      f"（加权 {each.observed:.1f} 条，按频率应为 {each.expected:.1f} 条）。请在指南中写明二者的区别，"
                      "各给一个典型例子，并判定一个边界例子。"}, each.examples))
    return made


def _on_bias(table: Ratings, field: Field, resamples: int, seed: int) -> list[Advice]:
    made = []
    while len(table.annotators) > 1:
        found = annotators.bias(table, resamples=resamples, seed=seed)
        clear = [each for each in found if abs(each.difference.value) >= 0.05 and chance(each.difference) < LEVEL / len(found)]
        if not clear:
            break
        # Seen from the others' side one's bias is theirs, the other way round: they are compared without the one that is named.
        for each in (each for each in clear if each.annotator == clear[0].annotator):
            label = field.label(each.label)
            more = each.difference.value > 0
            made.append(Advice("bias", field.name, {
                "en": f"{field.title['en']}: {each.annotator} gives “{label.en}” {'more' if more else 'less'} often than the others on the "
                      f"same records ({each.share:.0%} against {each.others:.0%}). Talk it over with examples.",
                "zh": f"{field.title['zh']}：在相同记录上，{each.annotator} 比其他人{'更多' if more else '更少'}使用“{label.zh}”"
                      f"（{each.share:.0%} 对 {each.others:.0%}）。请结合例子沟通。"}))
        table = _without(table, clear[0].annotator)
    return made


def _on_offsets(table: Ratings, field: Field, resamples: int, seed: int) -> list[Advice]:
    made = []
    while len(table.annotators) > 1:
        found = annotators.offsets(table, resamples=resamples, seed=seed)
        clear = {name: estimate for name, estimate in found.items()
                 if chance(estimate) < LEVEL / len(found) and abs(estimate.value) >= agreement.near(field) / 2}
        if not clear:
            break
        name, estimate = max(clear.items(), key=lambda entry: abs(entry[1].value))
        table = _without(table, name)
        higher = estimate.value > 0
        made.append(Advice("offset", field.name, {
            "en": f"{field.title['en']}: {name} gives {'higher' if higher else 'lower'} numbers than the others, by "
                  f"{abs(estimate.value):.3g} on average. Put two or three anchored examples with their numbers into the guideline.",
            "zh": f"{field.title['zh']}：{name} 给出的数值平均比其他人{'高' if higher else '低'} {abs(estimate.value):.3g}。"
                  "请在指南中给出两三个带数值的参照例子。"}))
    return made


def _without(table: Ratings, name: str) -> Ratings:
    kept = [place for place, other in enumerate(table.annotators) if other != name]
    return Ratings(table.records, [table.annotators[place] for place in kept], [[row[place] for place in kept] for row in table.values])


def _shown(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"

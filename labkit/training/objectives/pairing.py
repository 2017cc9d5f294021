"""Which rows a contrastive objective sees together: pairs of one label and of two, and batches in which no text is alone."""

import bisect
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import NamedTuple

from labkit.errors import LabError


class Pairs(NamedTuple):
    """Rows of a data set two by two; `same` is 1 where they have one label, else 0."""

    first: list[int]
    second: list[int]
    same: list[int]


def label_pairs(labels: Sequence[Hashable], count: int, seed: int) -> Pairs:
    """Pairs of rows as SetFit draws them: half of one label, half of two (Tunstall et al. 2022, section 3,
    https://arxiv.org/abs/2209.11055).

    No row is paired with itself, and no pair comes a second time before all of its kind have come once. Where one kind cannot be made
    (each label has one row), all pairs are of the other.

    Args:
        labels: the label of each row.
        count: pairs in all; of an odd number, one more is of one label.

    Raises:
        LabError: there is only one label, so that nothing is to be told apart.
    """
    if len(set(labels)) < 2:
        raise LabError(f"pairs need rows of at least two labels, not of {len(set(labels))}; add rows of another label")
    generator = random.Random(seed)
    rows = list(range(len(labels)))
    generator.shuffle(rows)
    places: dict[Hashable, int] = {}
    rows.sort(key=lambda row: places.setdefault(labels[row], len(places)))  # the rows of a label stand together
    ends = [0] * len(rows)
    for at in reversed(range(len(rows))):
        last = at + 1 == len(rows) or labels[rows[at + 1]] != labels[rows[at]]
        ends[at] = at + 1 if last else ends[at + 1]
    # Behind each row stand first the others of its label, then those of the labels to come: every pair once.
    alike = _Spans([(at + 1, end) for at, end in enumerate(ends)])
    different = _Spans([(end, len(rows)) for end in ends])
    wanted = (count + 1) // 2 if alike.total else 0
    found = [(*alike.pair(number), 1) for number in _drawn(alike.total, wanted, generator)]
    found += [(*different.pair(number), 0) for number in _drawn(different.total, count - wanted, generator)]
    generator.shuffle(found)
    turned = [(one, other, same) if generator.random() < 0.5 else (other, one, same) for one, other, same in found]
    return Pairs([rows[one] for one, _, _ in turned], [rows[other] for _, other, _ in turned], [same for _, _, same in turned])


def label_batches(labels: Sequence[Hashable], size: int, seed: int, rows_each: int = 2) -> list[list[int]]:
    """All rows once, in batches of about `size` in which a label comes `rows_each` times or not at all, so that anchors have positives
    (Hermans et al. 2017, section 2, https://arxiv.org/abs/1703.07737: P labels x K rows).

    What is left of a label when its rows run out is a smaller group; one row that would be alone joins its label's last group.
    """
    generator = random.Random(seed)
    by_label: dict[Hashable, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        by_label[label].append(row)
    groups = []
    for rows in by_label.values():
        generator.shuffle(rows)
        parts = [rows[start:start + rows_each] for start in range(0, len(rows), rows_each)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            alone = parts.pop()
            parts[-1] += alone
        groups += parts
    generator.shuffle(groups)
    batches: list[list[int]] = []
    for group in groups:
        if not batches or len(batches[-1]) + len(group) > size:
            batches.append([])
        batches[-1] += group
    return batches


class _Spans:
    """Pairs (place, one of the places in its span), numbered from 0 without listing them."""

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in spans]
        self._before = list(accumulate((end - start for start, end in spans), initial=0))
        self.total = self._before[-1]

    def pair(self, number: int) -> tuple[int, int]:
        place = bisect.bisect_right(self._before, number) - 1
        return place, self._starts[place] + number - self._before[place]


def _drawn(total: int, count: int, generator: random.Random) -> list[int]:
    """So many numbers below `total`, each as often as the others to within one."""
    found: list[int] = []
    while len(found) < count:
        found += generator.sample(range(total), min(total, count - len(found)))
    return found

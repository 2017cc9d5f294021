"""Who is learned from and who is measured on: rows drawn into train, validation and test by groups.

A group is what must not stand on both sides: one conversation, one customer, one template, near duplicates (`groups`). `assign` draws
whole groups by a hash of the group's key and the seed, so that the draw depends neither on the order of the rows nor on the number of
processes, and an added row moves few others. This module knows nothing about records: it takes columns.
"""

import datetime
import email.utils
import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labkit.data import duplicates
from labkit.errors import LabError

SHARES = (0.8, 0.05, 0.15)  # of train, validation and test
_HELD_OUT = ("test", "validation")  # in the order in which they are drawn; train is what is left

_SLOT = re.compile(  # one class of characters first, and what it opens behind it: so the engine can leap to the next such character
    r"[\d{$\[<【%\"“‘「『'](?:"
    r"(?<=\d)(?:[.,:/-]?\d)*"
    r"|(?<=\{)\{?[^{}\n]*\}\}?|(?<=\$)\{[^{}\n]*\}|(?<=\[)[^\[\]\n]{1,40}\]|(?<=<)[^<>\n]{1,40}>|(?<=【)[^【】\n]{1,40}】|(?<=%)[sd]\b"
    r"|(?<=\")[^\"\n]*\"|(?<=“)[^”\n]*”|(?<=‘)[^’\n]*’(?!\w)|(?<=「)[^」\n]*」|(?<=『)[^』\n]*』|(?<=(?<!\w)')[^'\n]+'(?!\w))")
_DATE = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(?:[ T]*(\d{1,2})[:时点](\d{1,2})(?:[:分](\d{1,2}))?[分秒]?)?")


@dataclass(slots=True)
class _Group:
    """A group as `assign` sees it. `labels` and `fixed` count rows: of each label, and in a split already with those that follow."""

    key: str
    draw: int
    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    time: float = -math.inf
    fixed: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        if len(self.labels) == 1:
            return next(iter(self.labels))
        return min(self.labels, key=lambda label: (-self.labels[label], label))


def template(text: str) -> str:
    """The text with every placeholder, number and quoted string as `#`, in lower case, white space as one space: what texts made from
    one template have in common. `Order 12-34, "lamp", {{name}}?` gives `order #, #, #?`."""
    return " ".join(_SLOT.sub("#", text).casefold().split())


def groups(ids: Sequence[str], texts: Sequence[str], *, keys: Sequence[Sequence[str]] = (), by_template: bool = True, near: float = 0.7,
           processes: int = 1) -> list[str]:
    """The key of each row's group: the smallest id in it.

    Rows are linked when their ids or texts are equal, when their `template` is (`by_template`), when they are `duplicates.near` at the
    threshold `near` (0: not looked at), and when they share a value of one of the columns in `keys` (empty values link nothing).
    Groups are what is linked directly or through others.

    Raises:
        LabError: `near` is below 0 or above 1.
    """
    if not len(ids):
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    firsts = [duplicates.exact(ids), duplicates.exact([template(text) for text in texts] if by_template else texts)]
    for column in keys:
        first: dict[str, int] = {}
        firsts.append(np.array([first.setdefault(value, row) if value else row for row, value in enumerate(column)]))
    if near:
        firsts.append(duplicates.near(texts, threshold=near, processes=processes))
    rows = np.tile(np.arange(len(ids)), len(firsts))
    links = coo_array((np.ones(len(rows), np.int8), (rows, np.concatenate(firsts))), shape=(len(ids), len(ids)))
    numbers = connected_components(links, directed=False)[1].tolist()
    smallest: dict[int, str] = {}
    for number, identity in zip(numbers, ids, strict=True):
        smallest[number] = min(identity, smallest.get(number, identity))
    return [smallest[number] for number in numbers]


def assign(keys: Sequence[str], labels: Sequence[str], *, shares: Sequence[float] = SHARES, seed: int = 0,
           fixed: Sequence[str] | None = None, times: Sequence[float] | None = None) -> list[str]:
    """`train`, `validation` or `test` for each row; the rows of a group (equal `keys`) go together.

    Rows are drawn label by label (a group counts with its most frequent one): each label's share is met to the nearest whole group,
    what rounding leaves is carried to the next label, and a label with as many groups as there are splits is in all of them. Labels
    with fewer groups are drawn together. A group too large for what a split still needs is passed over. Every split with a share above
    0 has a row where there are groups enough; of two groups one is train, one test.

    Args:
        shares: of train, validation and test; they sum to 1.
        fixed: splits that stand already (empty where none does). These rows keep theirs, and the rest of their group follows: into
            train where the group stands in several. They count towards the shares.
        times: seconds. With them the latest groups (each by its latest row) are test, those before them validation, and labels do
            not count.

    Raises:
        LabError: shares that are none, or a single group where something is to be held out.
    """
    wanted = _wanted(shares)
    found = _grouped(keys, labels, seed, fixed, times)
    free = [group for group in found if not group.fixed]
    if len(found) == 1 and free and len(wanted) > 1:
        rows = f"all {len(keys)} records are" if len(keys) > 1 else "the only record is"
        raise LabError(f"{rows} one group (equal or near texts, one template, one customer), so nothing can be held out to measure on; "
                       "add other records or group by less",
                       f"全部 {len(keys)} 条记录同属一组(文本相同或相近、同一模板、同一客户)，无法留出测试数据；请增加记录或减少分组条件")
    empty = wanted.keys() - _standing(found).keys()
    if len(free) < len(empty) and "validation" in empty:
        del wanted["validation"]  # too few groups for all: train and test come first
    strata = [(found, True)] if times is not None else _strata(found, len(wanted))
    placed: dict[str, str] = {}
    carried = dict.fromkeys(_HELD_OUT, 0.0)
    for members, everywhere in strata:
        placed |= _drawn(members, wanted, carried, everywhere, times is not None)
    _fill(placed, found, wanted)
    follows = {group.key: _follows(group) for group in found if group.fixed} | placed
    return [standing or follows[key] for key, standing in zip(keys, fixed or [""] * len(keys), strict=True)]


def read_time(value: Any) -> float:
    """Seconds since 1970 from a number (seconds, or milliseconds from 1e11 on), ISO 8601, `2024/1/31 9:05`, `2024年1月31日` or an
    email's date. A time without a zone is taken as UTC.

    Raises:
        LabError: it is none of these; a date such as 03/04/2024 is two days at once and is refused.
    """
    text = str(value).strip()
    try:
        number = float(text) if isinstance(value, int | float) or len(text) in (10, 13) and text.isdecimal() else math.nan
        if math.isfinite(number) and not isinstance(value, bool):
            return number / 1000 if abs(number) >= 1e11 else number
        found = _DATE.fullmatch(text)
        if found:
            time = datetime.datetime(*(int(part or 0) for part in found.groups()))
        elif text[:1].isalpha() or "," in text:
            time = email.utils.parsedate_to_datetime(text)
        else:
            time = datetime.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise LabError(f"the time {text[:40]!r} cannot be read; write it as 2024-01-31 or 2024-01-31T09:05:00+08:00",
                       f"无法识别时间 {text[:40]!r}；请写成 2024-01-31 或 2024-01-31T09:05:00+08:00") from None
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()


def _wanted(shares: Sequence[float]) -> dict[str, float]:
    train, validation, test = shares
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not train:
        raise LabError(f"train, validation and test must be shares that sum to 1, with something to train on; they are {train:g}, "
                       f"{validation:g} and {test:g}")
    return {name: share for name, share in zip(("train", "validation", "test"), shares, strict=True) if share}


def _grouped(keys: Sequence[str], labels: Sequence[str], seed: int, fixed: Sequence[str] | None,
             times: Sequence[float] | None) -> list[_Group]:
    found: dict[str, _Group] = {}
    for row, (key, label) in enumerate(zip(keys, labels, strict=True)):
        group = found.get(key)
        if group is None:
            draw = hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogatepass")).digest()[:8]
            group = found[key] = _Group(key, int.from_bytes(draw, "big"))
        group.rows += 1
        group.labels[label] = group.labels.get(label, 0) + 1
        if times is not None:
            group.time = max(group.time, times[row])
        if fixed is not None and fixed[row]:
            group.fixed[fixed[row]] = group.fixed.get(fixed[row], 0) + 1
    for group in found.values():
        if group.fixed:
            follows = _follows(group)
            group.fixed[follows] = group.fixed.get(follows, 0) + group.rows - sum(group.fixed.values())
    return sorted(found.values(), key=lambda group: (group.draw, group.key))


def _follows(group: _Group) -> str:
    """Where the rest of a group goes of which some rows stand."""
    return next(iter(group.fixed)) if len(group.fixed) == 1 else "train"


def _strata(found: list[_Group], enough: int) -> list[tuple[list[_Group], bool]]:
    """The groups of each label with whether it has enough of them for every split; those that have not come last, together."""
    by_label: dict[str, list[_Group]] = {}
    for group in found:
        by_label.setdefault(group.label, []).append(group)
    strata = [(by_label[label], True) for label in sorted(by_label) if len(by_label[label]) >= enough]
    rare = [group for label in sorted(by_label) if len(by_label[label]) < enough for group in by_label[label]]
    return [*strata, (sorted(rare, key=lambda group: (group.draw, group.key)), False)]


def _drawn(members: list[_Group], wanted: dict[str, float], carried: dict[str, float], everywhere: bool, by_time: bool) -> dict[str, str]:
    """The split of each free group among the members, in the order of their draw or from the latest on; updates what is carried."""
    left = [group for group in members if not group.fixed]
    if by_time:
        left.sort(key=lambda group: -group.time)
    standing = _standing(members)
    total = sum(group.rows for group in members)
    placed: dict[str, str] = {}
    for place, split in enumerate(_HELD_OUT):
        if split not in wanted:
            continue
        ideal = wanted[split] * total + carried[split]
        goal = min(max(ideal, math.floor(wanted[split] * total)), math.ceil(wanted[split] * total)) if everywhere else ideal
        later = [other for other in (*_HELD_OUT[place + 1:], "train") if other in wanted and not standing[other]]
        most = len(left) - len(later) if everywhere else len(left)
        chosen = _nearest(left, goal - standing[split], most, by_time)
        if everywhere and most > 0 and not chosen and not standing[split]:
            chosen = left[:1] if by_time else [min(left, key=lambda group: group.rows)]
        placed |= {group.key: split for group in chosen}
        left = [group for group in left if group.key not in placed]
        carried[split] = ideal - standing[split] - sum(group.rows for group in chosen)
    return placed | {group.key: "train" for group in left}


def _nearest(left: list[_Group], need: float, most: int, in_a_row: bool) -> list[_Group]:
    """At most `most` of the groups, taken as they come while each brings the number of rows nearer to what is needed."""
    chosen: list[_Group] = []
    for group in left:
        if len(chosen) >= most or need <= 0:
            break
        if group.rows < 2 * need:
            chosen.append(group)
            need -= group.rows
        elif in_a_row:
            break
    return chosen


def _fill(placed: dict[str, str], found: list[_Group], wanted: dict[str, float]) -> None:
    """Give every wanted split that is empty the smallest group that leaves no other one empty."""
    free = [group for group in found if not group.fixed]
    rows = _standing(found)
    for group in free:
        rows[placed[group.key]] += group.rows
    for split in ("train", "test", "validation"):
        if split in wanted and not rows[split]:
            spare = [group for group in free if rows[placed[group.key]] > group.rows]
            if spare:
                group = min(spare, key=lambda group: group.rows)
                rows[placed[group.key]] -= group.rows
                rows[split] += group.rows
                placed[group.key] = split


def _standing(found: list[_Group]) -> Counter:
    """How many rows stand in each split already."""
    rows: Counter = Counter()
    for group in found:
        if group.fixed:
            rows.update(group.fixed)
    return rows

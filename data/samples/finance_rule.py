"""Finance's sample records: a profile is drawn, scored by an additive rule, and told through a hand-written frame.

The rule (points add up; higher is riskier), also in README.md:

    person    missed payments 0/9/22/36, share of income for debt 0/8/17/27, job 0/4/9/14, savings 0/4/8/11, no security 6; base 3
    company   revenue trend 0/5/13/22, interest cover 0/9/19/30, gearing 0/6/13/20, cash 0/4/9/14, filings 0/5/12; base 3

The score is the sum plus a whole number from -3 to 3, kept within 0 and 100. Grades: A below 20, B below 36, C below 52, D below 68,
E from there. Decision: approve below 38, decline from 60, review between; with the worst payment history (person) or late filings
year after year (company) the score must be below 30 for approval and from 50 it is declined.
"""

import random
import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EACH = {"en": 7, "zh": 2}  # phrasings a frame
BASE = 3
NOISE = 3
POINTS = {
    "person": {"missed": (0, 9, 22, 36), "load": (0, 8, 17, 27), "job": (0, 4, 9, 14), "savings": (0, 4, 8, 11), "cover": (0, 6)},
    "company": {"trend": (0, 5, 13, 22), "interest": (0, 9, 19, 30), "gearing": (0, 6, 13, 20), "cash": (0, 4, 9, 14),
                "filings": (0, 5, 12)},
}
GRADES = (("A", 20), ("B", 36), ("C", 52), ("D", 68), ("E", 101))
HARD = {"person": ("missed", 3), "company": ("filings", 2)}

# The number told with a fact, by bucket: (low, high, digits after the point)
_NUMBERS = {
    "missed": {2: (2, 3, 0), 3: (4, 9, 0)},
    "load": {0: (5, 19, 0), 1: (20, 34, 0), 2: (35, 49, 0), 3: (50, 78, 0)},
    "job": {0: (5, 24, 0), 1: (2, 4, 0), 2: (3, 20, 0), 3: (3, 10, 0)},
    "savings": {0: (7, 24, 0), 1: (2, 6, 0), 2: (2, 7, 0)},
    "trend": {0: (3, 24, 0), 2: (3, 14, 0), 3: (16, 45, 0)},
    "interest": {0: (5.2, 12, 1), 1: (2.1, 4.9, 1), 2: (1.0, 1.9, 1)},
    "gearing": {0: (0.1, 0.5, 1), 1: (0.6, 1.4, 1), 2: (1.6, 2.9, 1), 3: (3.2, 6, 1)},
    "cash": {0: (7, 18, 0), 1: (3, 6, 0), 2: (2, 10, 0)},
    "filings": {2: (2, 4, 0)},
}
_REASONS = {
    "en": {"missed": ("clean payment history", "a late payment", "several missed payments", "serious defaults"),
           "load": ("low debt burden", "moderate debt burden", "high debt burden", "very high debt burden"),
           "job": ("long tenure", "stable job", "new job", "insecure income"),
           "savings": ("solid savings", "some savings", "thin savings", "no savings"),
           "cover": ("secured", "no security"),
           "trend": ("growing sales", "flat sales", "falling sales", "collapsing sales"),
           "interest": ("strong interest cover", "fair interest cover", "thin interest cover", "interest not covered"),
           "gearing": ("low debt", "moderate debt", "high debt", "very high debt"),
           "cash": ("ample cash", "adequate cash", "tight cash", "no cash left"),
           "filings": ("timely filings", "one late filing", "repeated late filings or claims")},
    "zh": {"missed": ("还款记录好", "有一次逾期", "多次逾期", "严重逾期"), "load": ("负债低", "负债适中", "负债高", "负债很高"),
           "job": ("工作稳定", "工作较稳定", "工作时间短", "收入不稳"), "savings": ("储蓄充足", "有一定储蓄", "储蓄少", "无储蓄"),
           "cover": ("有担保", "无担保"), "trend": ("营收增长", "营收持平", "营收下滑", "营收大跌"),
           "interest": ("利息保障强", "利息保障尚可", "利息保障弱", "无法付息"), "gearing": ("杠杆低", "杠杆适中", "杠杆高", "杠杆很高"),
           "cash": ("现金充足", "现金够用", "现金紧", "现金枯竭"), "filings": ("报表及时", "曾迟交报表", "屡次迟交或涉诉")},
}
_WHO = {"en": ["nurse", "bus driver", "plumber", "teacher", "waiter", "accountant", "baker", "welder", "shop clerk", "designer", "cook",
               "engineer"],
        "zh": ["护士", "公交司机", "水管工", "教师", "服务员", "会计", "面包师", "焊工", "店员", "设计师", "厨师", "工程师"]}


def score(kind: str, buckets: dict[str, int]) -> int:
    """The rule's points for a profile, without noise."""
    return BASE + sum(POINTS[kind][fact][bucket] for fact, bucket in buckets.items())


def grade(points: int) -> str:
    """The grade of a score."""
    return next(name for name, below in GRADES if points < below)


def decision(kind: str, buckets: dict[str, int], points: int) -> str:
    """The decision for a score, with the rule for the worst conduct."""
    fact, worst = HARD[kind]
    low, high = (30, 50) if buckets[fact] == worst else (38, 60)
    return "approve" if points < low else "decline" if points >= high else "review"


def profile(kind: str, draw: random.Random) -> dict[str, int]:
    """A bucket for every fact; profiles lean to one side, so that low and high scores are as common as middling ones."""
    lean = draw.random()
    return {fact: min(len(points) - 1, int((0.62 * lean + 0.38 * draw.random()) * len(points))) for fact, points in POINTS[kind].items()}


def tell(kind: str, language: str, frame: str, buckets: dict[str, int], draw: random.Random) -> str:
    """The frame with its facts told; other slots are left for make.py."""
    with (HERE / "cores" / "finance_facts.toml").open("rb") as file:
        wordings = tomllib.load(file)[kind][language]
    amount = draw.choice((1900, 2500, 3900, 4800, 6500, 7900, 9900, 12000, 14900, 21000, 26000, 34000, 48000, 75000, 120000))
    told = {"who": draw.choice(_WHO[language]), "amount": f"${amount:,}" if language == "en" else f"{amount}元"}
    for fact, bucket in buckets.items():
        low, high, digits = _NUMBERS.get(fact, {}).get(bucket, (0, 0, 0))
        number = f"{draw.uniform(low, high):.{digits}f}" if digits else str(draw.randint(int(low), int(high)))
        told[fact] = draw.choice(wordings[fact][bucket]).replace("{n}", number).replace("{p}", number)
    text = re.sub(r"\{(\w+)\}", lambda match: told.get(match.group(1), match.group(0)), frame)
    if language == "zh":
        return text
    sentences = [sentence[:1].upper() + sentence[1:] for sentence in text.split(". ")]
    return ". ".join(sentences)


def reasons(kind: str, language: str, buckets: dict[str, int]) -> str:
    """The three facts that count most, for or against."""
    points = POINTS[kind]
    middle = {fact: max(values) / 2 for fact, values in points.items()}
    weight = {fact: abs(points[fact][bucket] - middle[fact]) for fact, bucket in buckets.items()}
    chosen = sorted(weight, key=lambda fact: -weight[fact])[:3]
    told = [_REASONS[language][fact][buckets[fact]] for fact in chosen]
    return "、".join(told) if language == "zh" else ", ".join(told).capitalize()


def expand(lines: list[dict[str, Any]], language: str, splits: dict[str, str], seed: int) -> list[dict[str, Any]]:
    """The frames as cores: each with its phrasings {text, answer, meta}, as many as make about 460 (en) or 128 (zh) in all."""
    found = []
    for line in lines:
        draw = random.Random(f"{seed}:{line['core']}")
        found.append({"core": line["core"], "answer": {}, "phrasings": [
            _phrasing(line["kind"], language, line["frame"], draw) for _ in range(EACH[language])]})
    return found


def _phrasing(kind: str, language: str, frame: str, draw: random.Random) -> dict[str, Any]:
    buckets = profile(kind, draw)
    points = max(0, min(100, score(kind, buckets) + draw.randint(-NOISE, NOISE)))
    answer = {"risk_score": points, "grade": grade(points), "decision": decision(kind, buckets, points),
              "reasons": reasons(kind, language, buckets)}
    return {"text": tell(kind, language, frame, buckets, draw), "answer": answer, "meta": {"kind": kind, "profile": buckets}}

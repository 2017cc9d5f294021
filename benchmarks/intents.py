"""Customers' messages with their intents, for the benchmarks: Banking77 (Casanueva et al. 2020, https://arxiv.org/abs/2003.04807) from
`../shared/data`, or the lab's own English samples where it is absent."""

import csv
import random
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Pairs = list[tuple[str, str]]  # text, intent


def read() -> tuple[Pairs, Pairs, str]:
    """Training pairs, test pairs (a quarter of the samples), and what they are."""
    if (DATA / "banking77_train.csv").exists():
        return _pairs("banking77_train.csv"), _pairs("banking77_test.csv"), "banking77"
    from labkit import records, scenarios

    known = scenarios.load(scenarios.names()[0])
    field = max(known.label_fields, key=lambda field: len(field.labels)).name
    found = [(row["messages"][-1]["content"], row["answer"][field]) for row in records.samples(known)
             if row["language"] == "en" and field in row["answer"]]
    random.Random(0).shuffle(found)
    return found[len(found) // 4:], found[:len(found) // 4], f"samples of {known.name} ({DATA} is not there)"


def few(train: Pairs, test: Pairs, intents: int, texts: tuple[int, int]) -> tuple[Pairs, Pairs]:
    """So many intents, and at most so many texts of each part: for a smoke run."""
    kept = sorted({intent for _, intent in train})[:intents]
    train, test = ([pair for pair in pairs if pair[1] in kept] for pairs in (train, test))
    return tuple(random.Random(0).sample(pairs, min(most, len(pairs))) for pairs, most in zip((train, test), texts, strict=True))


def _pairs(name: str) -> Pairs:
    with (DATA / name).open(encoding="utf-8") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]

"""Votes of the Compare page: what was asked, what each checkpoint answered, and which answer a person chose.

A vote is a row of `votes`, each answer shown a row of `vote_candidates`, in the lab database (`places.database_url()`): a SQLite
file, or any other database by its SQLAlchemy URL. `cast` returns when the vote is on disk; any number of threads and processes
may cast at once. What a later kind of evaluation adds about a vote (who judged, ratings by a rubric) belongs into further tables
that refer to `votes.id`, so that databases of today need no change.
This module knows nothing about engines, pages or runs: checkpoints are names and hashes here.
"""

import dataclasses
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import combinations, groupby
from statistics import NormalDist
from typing import Any

import sqlalchemy as sa

from labkit import database, files
from labkit.errors import LabError
from labkit.scenarios import LANGUAGES

SIDES = "ABCD"
UNDECIDED = {"tie": "ties", "both_bad": "both_bad"}  # choice: where it is counted

_Z = NormalDist().inv_cdf(0.975)  # 1.96: a 95% interval, two-sided
_RUN = re.compile(r"base|[^/\s]+/[^/\s]+")


@dataclass(frozen=True)
class Candidate:
    """One answer that was shown: where (`side`), from which weights (`base` and `adapter` are sha256), and whether it was stopped."""

    side: str
    run: str  # "base" or "SCENARIO/NAME"
    answer: str
    base: str
    adapter: str | None
    engine: str
    stopped: bool = False


@dataclass(frozen=True)
class Vote:
    """One choice among two to four answers. `messages` is all that was asked, the system prompt first; `choice` is a side,
    `tie` or `both_bad`; `blind` says that the names were hidden."""

    scenario: str
    language: str
    messages: list[dict[str, str]]
    candidates: tuple[Candidate, ...]
    choice: str
    reason: str = ""
    blind: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    session: str = ""


_TABLES = sa.MetaData()
_VOTES = sa.Table(
    "votes", _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("made", database.Time, nullable=False),
    sa.Column("scenario", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("messages", sa.JSON, nullable=False),
    sa.Column("choice", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("blind", sa.Boolean, nullable=False),
    sa.Column("sampling", sa.JSON, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
)
_CANDIDATES = sa.Table(
    "vote_candidates", _TABLES,
    sa.Column("vote", sa.Integer, sa.ForeignKey("votes.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("side", sa.String(1), primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("adapter", sa.Text),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("stopped", sa.Boolean, nullable=False),
)


_connection = partial(database.connection, _TABLES)


def cast(vote: Vote) -> int:
    """Keep a vote; returns its row's id. When this returns, the vote is on disk.

    Raises:
        LabError: something in the vote cannot be, or the database cannot be written.
    """
    _check(vote)
    row = {name.name: getattr(vote, name.name) for name in dataclasses.fields(vote) if name.name != "candidates"}
    with _connection() as connection:
        identity = connection.execute(sa.insert(_VOTES).values(made=datetime.now(UTC), **row)).inserted_primary_key[0]
        connection.execute(sa.insert(_CANDIDATES), [{"vote": identity, **vars(each)} for each in vote.candidates])
    return identity


def all_votes(scenario: str | None = None) -> list[dict[str, Any]]:
    """Votes in the order in which they were cast: the fields of `Vote` as plain JSON values, with `id` and `made` (ISO 8601, UTC)."""
    found = []
    for vote, candidates in _read(scenario, list(_VOTES.c)):
        vote["made"] = vote["made"].isoformat(timespec="milliseconds")
        found.append({"id": vote.pop("id"), "made": vote.pop("made"), **vote, "candidates": candidates})
    return found


def export(path: str | os.PathLike) -> int:
    """Write all votes as JSONL, one a line as `all_votes` gives them, whole or not at all; returns how many."""
    found = all_votes()
    files.write_text(path, "".join(json.dumps(vote, ensure_ascii=False) + "\n" for vote in found))
    return len(found)


def tally(scenario: str | None = None) -> list[dict[str, Any]]:
    """How each pair of checkpoints compares, a row a pair: `scenario`, `first`, `second`, `first_wins`, `second_wins`, `ties`,
    `both_bad`, `votes` (their sum), and `share` of the decided votes that `first` won with its 95% Wilson interval `low`, `high`.

    A vote for one of three or four answers counts for it against each other one, and says nothing about those others; a tie or
    "both bad" counts for every pair shown. Decided are wins alone: ties and "both bad" are counted beside them, not as halves;
    without a decided vote `share`, `low` and `high` are None.

    A checkpoint is a name with its weights: where a name stood for several weights in one scenario, each is listed by itself as
    `NAME@HASH` (8 digits of the adapter's sha256, or of the base's). Comparisons of a checkpoint with itself are left out, and
    where it was shown twice, a vote counts once for a pair. `second` is the base model where it is one of the two; else the two
    stand in alphabetical order.
    """
    columns = [_VOTES.c.id, _VOTES.c.scenario, _VOTES.c.choice]
    counts: dict[tuple, dict[str, int]] = defaultdict(lambda: {"first_wins": 0, "second_wins": 0, "ties": 0, "both_bad": 0})
    weights: dict[tuple[str, str], set[_Weights]] = defaultdict(set)
    for vote, candidates in _read(scenario, columns, answers=False):
        shown = [(each["side"], (each["run"], each["base"], each["adapter"] or "")) for each in candidates]
        for _, checkpoint in shown:
            weights[vote["scenario"], checkpoint[0]].add(checkpoint)
        for key, outcome in _outcomes(shown, vote["choice"]):
            counts[vote["scenario"], *key][outcome] += 1
    rows = []
    for (name, *pair), found in counts.items():
        first, second = (_title(checkpoint, weights[name, checkpoint[0]]) for checkpoint in pair)
        wins, decided = found["first_wins"], found["first_wins"] + found["second_wins"]
        low, high = wilson(wins, decided) if decided else (None, None)
        rows.append({"scenario": name, "first": first, "second": second, **found, "votes": sum(found.values()),
                     "share": wins / decided if decided else None, "low": low, "high": high})
    return sorted(rows, key=lambda row: (row["scenario"], row["first"], row["second"]))


def wilson(wins: int, votes: int) -> tuple[float, float]:
    """The 95% score interval of a share of `votes` (1 or more) independent votes (Wilson 1927, Probable inference, JASA 22)."""
    share, spread = wins / votes, _Z**2 / votes
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


_Weights = tuple[str, str, str]  # run, base, adapter


def _outcomes(shown: list[tuple[str, _Weights]], choice: str) -> set[tuple[tuple[_Weights, _Weights], str]]:
    """What one vote says: ((first, second), outcome) for each pair of different checkpoints that it says something about."""
    found = set()
    for (one_side, one), (other_side, other) in combinations(shown, 2):
        if one == other or choice not in (*UNDECIDED, one_side, other_side):
            continue
        first, second = sorted((one, other), key=lambda checkpoint: (checkpoint[0] == "base", checkpoint))
        wins = {first: "first_wins", second: "second_wins"}
        found.add(((first, second), {one_side: wins[one], other_side: wins[other], **UNDECIDED}[choice]))
    return found


def _title(checkpoint: _Weights, same_name: set[_Weights]) -> str:
    """The run's name, with as much of the hashes as tells it from others of that name."""
    run, base, adapter = checkpoint
    if len(same_name) == 1:
        return run
    if not adapter or len({other[2] for other in same_name}) == len(same_name):
        return f"{run}@{files.short(adapter or base)}"
    return f"{run}@{files.short(adapter)}+{files.short(base)}"


def _check(vote: Vote) -> None:
    sides = [each.side for each in vote.candidates]
    if not 2 <= len(sides) <= len(SIDES):
        raise LabError(f"a vote needs two to four answers, not {len(sides)}")
    if sides != list(SIDES[: len(sides)]):
        raise LabError(f"a vote's answers must be on the sides {', '.join(SIDES[: len(sides)])} in this order, not {', '.join(sides)}")
    if vote.choice not in (*sides, *UNDECIDED):
        raise LabError(f"a vote's choice must be one of {', '.join((*sides, *UNDECIDED))}, not {vote.choice!r}")
    if not vote.scenario or vote.language not in LANGUAGES:
        raise LabError(f"a vote needs a scenario and a language ({' or '.join(LANGUAGES)}), not {vote.scenario!r} and {vote.language!r}")
    if not vote.messages or not all(isinstance(message, dict) and message.get("role") and isinstance(message.get("content"), str)
                                    for message in vote.messages):
        raise LabError("a vote needs what was asked: messages with role and content")
    for each in vote.candidates:
        if not _RUN.fullmatch(each.run):
            raise LabError(f"side {each.side}: {each.run!r} is neither a run (SCENARIO/NAME) nor base")
        if not each.base or (each.run == "base") != (each.adapter is None):
            has = "no hash of its base" if not each.base else "an adapter" if each.adapter else "no adapter"
            raise LabError(f"side {each.side}: {each.run} has {has}; what answered must be known")
    _check_plain(dataclasses.asdict(vote) | {"candidates": [vars(each) for each in vote.candidates]})


def _check_plain(vote: dict[str, Any]) -> None:
    """LabError where something would not come back from the database as it was: PostgreSQL's texts hold no NUL character."""
    try:
        text = json.dumps(vote, ensure_ascii=False, allow_nan=False)
        text.encode()
        plain = json.loads(text) == vote
    except (TypeError, ValueError) as error:
        raise LabError(f"a vote must be plain text, numbers, lists and objects: {error}") from None
    if not plain or r"\u0000" in text.replace(r"\\", ""):
        raise LabError("a vote must be plain text (without NUL characters), numbers, lists and objects with texts as keys")


def _read(scenario: str | None, columns: list[sa.Column], answers: bool = True) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(vote, candidates) in the order of ids; one statement, so that no half-written vote is seen."""
    shown = [each for each in _CANDIDATES.c if each.name != "vote" and (answers or each.name != "answer")]
    query = sa.select(*columns, *shown).join(_CANDIDATES, _CANDIDATES.c.vote == _VOTES.c.id).order_by(_VOTES.c.id, _CANDIDATES.c.side)
    if scenario is not None:
        query = query.where(_VOTES.c.scenario == scenario)
    with _connection() as connection:
        rows = connection.execute(query).all()
    names = [each.name for each in (*columns, *shown)]
    for _, lines in groupby(rows, key=lambda row: row[0]):
        candidates = [dict(zip(names, line, strict=True)) for line in lines]
        vote = {each.name: candidates[0][each.name] for each in columns}
        yield vote, [{each.name: line[each.name] for each in shown} for line in candidates]

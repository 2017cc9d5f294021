"""Which answer people prefer: votes of the app's Compare page become preference pairs, and go out to Argilla as ranking questions.

A pair is a prompt, a chosen and a rejected answer, with the votes behind it; what votes leave open (ties, "both bad", as many votes for
one as for the other) is left out and counted. In Argilla a comparison is one record: the conversation and its answers under letters,
which a seed shuffles; which checkpoint wrote what stays in the lab database.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.evaluation import votes as cast
from labkit.labeling import bars, remote, settings, store
from labkit.labeling.annotations import Annotation
from labkit.labeling.connection import Connection, connect
from labkit.labeling.push import Refusal, most_common_language
from labkit.labeling.store import Reject

if TYPE_CHECKING:
    from datasets import Dataset

LETTERS = "ABCD"
_RANKING, _GOOD, _REASON = "preference", "good", "reason"  # the questions
_TITLES = {
    "conversation": {"en": "Conversation", "zh": "对话"}, "answer": {"en": "Answer {}", "zh": "回答 {}"},
    _RANKING: {"en": "Which answer is better?", "zh": "哪个回答更好？"}, _GOOD: {"en": "Is any of them good?", "zh": "有好的回答吗？"},
    _REASON: {"en": "Why?", "zh": "为什么？"}, "yes": {"en": "yes", "zh": "有"}, "no": {"en": "no, none", "zh": "没有"}}
_GUIDELINES = {
    "en": "Read the conversation and all answers, then put the better answer on top; answers that are equally good get the same place. "
          "Say so where none of them is good.",
    "zh": "请阅读对话和所有回答，把更好的回答排在前面；同样好的回答排在同一位。如果都不好，请注明。"}


@dataclass(frozen=True)
class Preferences:
    """`pairs`: a data set with `prompt` (messages), `chosen` and `rejected` (one assistant message each, as preference training takes
    them), `scenario`, `language`, `votes` and `against` (the ids of the votes for this order and for the other), `chosen_by` and
    `rejected_by` (checkpoints). What is left out, in votes: `ties`, `both_bad`; in pairs: `split` (as many for as against), `same` (two
    checkpoints gave the same answer)."""

    pairs: "Dataset"
    ties: int
    both_bad: int
    split: int
    same: int


@dataclass(frozen=True)
class Comparison:
    """A question with two to four different answers, and which checkpoints gave each."""

    id: str
    scenario: str
    language: str
    messages: list[dict[str, str]]
    answers: list[str]
    by: list[list[str]]


@dataclass
class Sent:
    """What sending comparisons did, by their ids."""

    datasets: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


@dataclass
class Ranked:
    """What came back: `votes` in the form of `votes.all_votes` with an id of their own, `ranks` by side and the checkpoints of an answer
    as `runs`; `annotations` (the value of `preference` is the place of each of the comparison's answers, 1 the best); `rejected`, what fits
    nothing; `unknown`, records on the server whose answers the lab database does not know."""

    votes: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def pairs(votes: Iterable[Mapping[str, Any]] | None = None, *, scenario: str | None = None) -> Preferences:
    """Preference pairs from votes (by default those in the lab database), one for each two answers to one prompt.

    Of three or four answers the chosen one is preferred to each other; a ranking says something about each two of them.
    """
    rows = list(cast.all_votes(scenario) if votes is None else votes)
    rows = [row for row in rows if scenario is None or row["scenario"] == scenario]
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    ties = both_bad = same = 0
    for row in rows:
        shown, decided = {each["side"]: each for each in row["candidates"]}, _decided(row)
        both_bad += row["choice"] == "both_bad"
        ties += row["choice"] == "tie" and not decided
        prompt = files.canonical_json([row["scenario"], row["messages"]])
        for winner, loser in decided:
            better, worse = shown[winner], shown[loser]
            if better["answer"] == worse["answer"]:
                same += 1
                continue
            first, second = sorted((better["answer"], worse["answer"]))
            pair = found.setdefault((prompt, first, second), {"row": row, "for": {first: [], second: []},
                                                              "by": {first: set(), second: set()}})
            pair["for"][better["answer"]].append(str(row["id"]))
            for each in (better, worse):
                pair["by"][each["answer"]].update(each.get("runs") or [each["run"]])
    kept, split = [], 0
    for (_, *both), pair in found.items():
        chosen, rejected = sorted(both, key=lambda answer: -len(pair["for"][answer]))
        if len(pair["for"][chosen]) == len(pair["for"][rejected]):
            split += 1
            continue
        kept.append({"scenario": pair["row"]["scenario"], "language": pair["row"]["language"], "prompt": pair["row"]["messages"],
                     "chosen": [{"role": "assistant", "content": chosen}], "rejected": [{"role": "assistant", "content": rejected}],
                     "votes": pair["for"][chosen], "against": pair["for"][rejected],
                     "chosen_by": sorted(pair["by"][chosen]), "rejected_by": sorted(pair["by"][rejected])})
    return Preferences(_dataset(kept), ties, both_bad, split, same)


def write(found: Preferences, path: str | os.PathLike) -> None:
    """Write the pairs as JSONL, one a line, whole or not at all."""
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.pairs))


def comparisons(votes: Iterable[Mapping[str, Any]] | None = None, *, scenario: str | None = None) -> list[Comparison]:
    """The questions that were compared in votes (by default those in the lab database), each once, for people to rank in Argilla. Answers
    that are the same are one; where only one is left, there is nothing to compare."""
    rows = cast.all_votes(scenario) if votes is None else [row for row in votes if scenario in (None, row["scenario"])]
    found: dict[str, Comparison] = {}
    for row in rows:
        by: dict[str, set[str]] = {}
        for each in row["candidates"]:
            by.setdefault(each["answer"], set()).update(each.get("runs") or [each["run"]])
        answers = sorted(by)
        if len(answers) < 2:
            continue
        content = files.canonical_json([row["scenario"], row["messages"], answers])
        identity = hashlib.sha256(content.encode()).hexdigest()[:16]
        known = found.get(identity)
        runs = [sorted(by[answer] | set(known.by[place] if known else ())) for place, answer in enumerate(answers)]
        found[identity] = Comparison(identity, row["scenario"], row["language"], row["messages"], answers, runs)
    return list(found.values())


def push(asked: Sequence[Comparison], server: Connection | None = None, *, dataset: str, workspace: str | None = None,
         language: str | None = None, seed: int = 0, answers_each: int = 1, batch: int = 100,
         progress: bars.Progress | None = None) -> Sent:
    """Send comparisons as ranking questions; those that are there already stay as they are.

    Comparisons of two answers go to `dataset`, of three and four to `dataset-3` and `dataset-4`: a ranking has the same places in every
    record. Answers stand under letters in an order that depends on the seed and the comparison alone.

    Raises:
        LabError: the server does not answer or refuses; there is nothing to send.
    """
    if not asked:
        raise LabError("there are no comparisons to push; vote on the app's Compare page first")
    if server is None:
        with connect() as server:
            return push(asked, server, dataset=dataset, workspace=workspace, language=language, seed=seed, answers_each=answers_each,
                        batch=batch, progress=progress)
    language, done = language or most_common_language([asdict(each) for each in asked]), Sent()
    with bars.shown(progress, f"push {dataset}") as tell:
        count = 0
        for answers in sorted({len(each.answers) for each in asked}):
            there = remote.make(server, _name(dataset, answers), _settings(answers, language), place=workspace, answers_each=answers_each)
            store.know(there.id, server.url, there.name, f"{asked[0].scenario}/preferences")  # its fields are not the scenario's
            done.datasets.append(there.name)
            present = {record["external_id"] for page, _ in remote.records(server, there) for record in page}
            part = [each for each in asked if len(each.answers) == answers]
            done.unchanged += [each.id for each in part if each.id in present]
            new = [each for each in part if each.id not in present]
            count += len(part) - len(new)
            tell(count, len(asked))
            for start in range(0, len(new), min(batch, remote.BULK)):
                few = new[start:start + min(batch, remote.BULK)]
                orders = {each.id: _order(each, seed) for each in few}
                # Kept before it is sent: a record that is on the server must be readable when it comes back.
                store.keep_pushed(there.id, [(each.id, {**asdict(each), "order": orders[each.id]}, "", row)
                                             for row, each in enumerate(few, start)])
                places, refused = remote.upsert(server, there, [_body(each, orders[each.id], language) for each in few])
                done.created += list(places)
                done.refused += [Refusal(*each) for each in refused.items()]
                count += len(few)
                tell(count, len(asked))
    return done


def pull(server: Connection | None = None, *, dataset: str, workspace: str | None = None, progress: bars.Progress | None = None) -> Ranked:
    """Fetch the rankings of all comparisons that were pushed under this name; give `votes` to `pairs`, along with the lab's own.

    Raises:
        LabError: the server does not answer, or nothing was pushed under this name.
    """
    if server is None:
        with connect() as server:
            return pull(server, dataset=dataset, workspace=workspace, progress=progress)
    names = {each["name"] for each in server.get("me/datasets")["items"] if each["status"] == "ready"}
    wanted = [_name(dataset, answers) for answers in range(2, len(LETTERS) + 1) if _name(dataset, answers) in names]
    ranked = Ranked()
    for name in wanted or [dataset]:
        there = remote.find(server, name, workspace)
        asked, people = store.pushed(there.id), remote.annotators(server, there)
        with bars.shown(progress, f"pull {name}") as tell:
            seen: list[str] = []
            for page, total in remote.records(server, there, "responses"):
                own = [record for record in page if record["external_id"] in asked]
                store.keep(there.id, [record["external_id"] for record in own],
                           [each for record in own for each in _said(record, asked[record["external_id"]], people)])
                seen += [record["external_id"] for record in own]
                ranked.unknown += [record["external_id"] or record["id"] for record in page if record not in own]
                tell(len(seen), total)
        store.keep(there.id, sorted(store.annotated(there.id) - set(seen)), [])
        annotations, rejected = store.annotations(there.id)
        ranked.annotations += annotations
        ranked.rejected += rejected
        ranked.votes += _votes(there.id, annotations, asked)
    return ranked


def _decided(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(better, worse) sides that a vote tells apart."""
    if row["choice"] == "both_bad":
        return []
    ranks = row.get("ranks")
    if ranks:
        return [(one, other) if ranks[one] < ranks[other] else (other, one) for one, other in combinations(sorted(ranks), 2)
                if ranks[one] != ranks[other]]
    sides = [each["side"] for each in row["candidates"]]
    return [(row["choice"], side) for side in sides if side != row["choice"]] if row["choice"] in sides else []


def _dataset(rows: list[dict[str, Any]]) -> "Dataset":
    from datasets import Dataset, Features, List, Value

    text, messages = Value("string"), List({"role": Value("string"), "content": Value("string")})
    features = Features({"scenario": text, "language": text, "prompt": messages, "chosen": messages, "rejected": messages,
                         "votes": List(text), "against": List(text), "chosen_by": List(text), "rejected_by": List(text)})
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def _name(dataset: str, answers: int) -> str:
    return dataset if answers == 2 else f"{dataset}-{answers}"


def _settings(answers: int, language: str) -> settings.Settings:
    title = lambda name: _TITLES[name][language]  # noqa: E731
    letters = LETTERS[:answers]
    text = {"type": "text", "use_markdown": False}
    chat = {"type": "chat", "use_markdown": False}
    shown = [{"name": "conversation", "title": title("conversation"), "required": True, "settings": chat}]
    shown += [{"name": f"answer_{letter.lower()}", "title": title("answer").format(letter), "required": True, "settings": text}
              for letter in letters]
    ranking = {"type": "ranking", "options": [{"value": letter, "text": title("answer").format(letter)} for letter in letters]}
    good = {"type": "label_selection", "options": [{"value": value, "text": title(value)} for value in ("yes", "no")]}
    questions = [{"name": name, "title": title(name), "required": name == _RANKING, "settings": kind}
                 for name, kind in ((_RANKING, ranking), (_GOOD, good), (_REASON, text))]
    language_property = {"name": "language", "title": "language", "settings": {"type": "terms"}, "visible_for_annotators": True}
    guidelines = "\n\n".join(_GUIDELINES[each] for each in sorted(_GUIDELINES, key=lambda each: each != language))
    return settings.Settings(language, guidelines, tuple(shown), tuple(questions), (language_property,), ())


def _order(asked: Comparison, seed: int) -> list[int]:
    """Which answer stands under A, B, …"""
    order = list(range(len(asked.answers)))
    random.Random(f"{seed} {asked.id}").shuffle(order)
    return order


def _body(asked: Comparison, order: Sequence[int], language: str) -> dict[str, Any]:
    """The record as Argilla takes it: without the system prompt, which annotators need not read, and without a trace of checkpoints."""
    messages = [{"role": each["role"], "content": each["content"] or "…"} for each in asked.messages if each["role"] != "system"]
    shown = {f"answer_{letter.lower()}": asked.answers[place] or "…" for letter, place in zip(LETTERS, order, strict=False)}
    return {"external_id": asked.id, "fields": {"conversation": messages, **shown}, "metadata": {"language": asked.language}}


def _said(record: Mapping[str, Any], asked: Mapping[str, Any], people: Mapping[str, str]) -> list[Annotation | Reject]:
    """What the responses to one comparison say, with places by answer in the comparison's own order."""
    found: list[Annotation | Reject] = []
    order = asked["order"]
    for response in record.get("responses") or ():
        about = (people.get(response["user_id"], response["user_id"]),)
        status, time = response["status"], remote.utc(response["updated_at"])
        if status == "discarded":
            found.append(Annotation(asked["id"], _RANKING, *about, None, status, time))
            continue
        for name, given in (response["values"] or {}).items():
            value = given["value"]
            if name == _RANKING:
                ranks = {each["value"]: each.get("rank") for each in value}
                if sorted(ranks) != list(LETTERS[: len(order)]) or not all(isinstance(rank, int) for rank in ranks.values()):
                    if status == "submitted":
                        found.append(Reject(Annotation(asked["id"], name, *about, value, status, time), "not every answer has a place"))
                    continue
                places = [0] * len(order)
                for letter, answer in zip(LETTERS, order, strict=False):
                    places[answer] = ranks[letter]
                value = places
            if value not in ("", None):
                found.append(Annotation(asked["id"], name, *about, value, status, time))
    return found


def _votes(dataset: str, annotations: Iterable[Annotation], asked: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The submitted rankings as votes; the sides are those that the annotator saw."""
    said: dict[tuple[str, str], dict[str, Annotation]] = {}
    for each in annotations:
        if each.status == "submitted":
            said.setdefault((each.record, each.annotator), {})[each.field] = each
    found = []
    for (identity, annotator), by_field in said.items():
        ranking, about = by_field.get(_RANKING), asked.get(identity)
        if ranking is None or about is None:
            continue
        ranks = {letter: ranking.value[place] for letter, place in zip(LETTERS, about["order"], strict=False)}
        best = [letter for letter, rank in ranks.items() if rank == min(ranks.values())]
        good, reason = (by_field[name].value if name in by_field else "" for name in (_GOOD, _REASON))
        found.append({"id": f"argilla:{dataset}:{identity}:{annotator}", "made": ranking.time.isoformat(timespec="milliseconds"),
                      "scenario": about["scenario"], "language": about["language"], "messages": about["messages"],
                      "candidates": [{"side": letter, "runs": about["by"][place], "answer": about["answers"][place]}
                                     for letter, place in zip(LETTERS, about["order"], strict=False)],
                      "choice": "both_bad" if good == "no" else best[0] if len(best) == 1 else "tie",
                      "reason": reason, "blind": True, "session": annotator, "ranks": ranks})
    return found

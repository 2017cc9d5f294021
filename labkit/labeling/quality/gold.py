"""Gold questions: records whose answer is known, put among the others unseen, and how well each annotator answers them.

Draw them from adjudicated records (`draw`), mix them into what is pushed (`mix`), score what comes back (`scores`). That a record is a gold
question stands in its `meta` under `KEY`; whoever pushes makes a metadata property of it that annotators cannot see
(`visible_for_annotators=False`), and never the answer: `mix` takes it away.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.labeling.annotations import Annotation, ratings
from labkit.labeling.quality import agreement
from labkit.labeling.quality.intervals import Estimate, wilson
from labkit.records import Record
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

KEY = "gold"
THRESHOLD = 0.8

Gold = dict[str, dict[str, Any]]  # a record's id -> its true answer


@dataclass(frozen=True)
class Score:
    """How an annotator answered one field's gold questions: `share` right with Wilson's interval, and a `warning`: "below" where the whole
    interval is below the threshold, "maybe" where only the share is, "" else. `wrong` are the records answered wrong."""

    annotator: str
    field: str
    share: Estimate
    warning: str
    wrong: tuple[str, ...]


def draw(records: "Dataset", scenario: Scenario, count: int, *, field: str | None = None, among: Iterable[str] | None = None,
         seed: int = 0) -> "Dataset":
    """`count` records to ask, spread over the labels of one field: every label once, the commonest first, then in proportion.

    Args:
        field: the label field; the scenario's first one where None. A scenario without label fields is drawn from at random.
        among: the ids of the records that may be taken (those adjudicated); all that have an answer with every label field where None.

    Raises:
        LabError: fewer records than asked for, or an unknown field.
    """
    from labkit import records as tables

    labels = scenario.label_fields
    by = scenario.field(field) if field else labels[0] if labels else None
    allowed = None if among is None else set(among)
    groups: dict[Any, list[int]] = {}
    for place, record in enumerate(tables.rows(records, "id", "answer")):
        answered = record["answer"] and all(each.name in record["answer"] for each in labels)
        if answered and (allowed is None or record["id"] in allowed):
            groups.setdefault(record["answer"].get(by.name) if by else "", []).append(place)
    there = sum(map(len, groups.values()))
    if not 0 < count <= there:
        raise LabError(f"{count} gold questions cannot be drawn from {there} records with answers; adjudicate more or ask for fewer")
    generator = random.Random(seed)
    for places in groups.values():
        generator.shuffle(places)
    chosen = [place for value, size in _shares({value: len(places) for value, places in groups.items()}, count).items()
              for place in groups[value][:size]]
    return records.select(sorted(chosen))


def answers(gold: "Dataset") -> Gold:
    """What `scores` needs to know, by the ids that `mix` gives the questions."""
    from labkit import records as tables

    return {_question(record)["id"]: record["answer"] for record in tables.rows(gold)}


def mix(records: "Dataset", gold: "Dataset", *, seed: int = 0) -> "Dataset":
    """The records with the gold questions among them, one at a random place of each of as many equal stretches; the records' own order
    stays. Every record gets `meta["gold"]`, true or false, so that the key itself gives nothing away.

    The questions go without answer, source, license and split of their own (they take those of the record behind them), so that no filter
    shows which they are. Suggest the records' present answers to nobody then: the questions would be those without a suggestion. A
    record that is a gold question itself goes only once.

    Raises:
        LabError: no records, or more gold questions than records.
    """
    from labkit import records as tables

    questions = [_question(record) for record in tables.rows(gold)]
    hidden = {question["id"] for question in questions} | set(gold["id"][:])
    plain = [record for record in tables.rows(records) if record["id"] not in hidden]
    if not plain or len(questions) > len(plain):
        raise LabError(f"{len(questions)} gold questions among {len(plain)} other records: give at least as many records")
    generator = random.Random(seed)
    generator.shuffle(questions)
    made: list[Record] = []
    for number, question in enumerate(questions):
        start, stop = (len(plain) * edge // len(questions) for edge in (number, number + 1))
        place = generator.randrange(start, stop)
        neighbour = plain[place]
        looks = {key: neighbour[key] for key in ("source", "license", "split")}
        made += [_marked(record, False) for record in plain[start:place]]
        made += [_marked({**question, **looks}, True)] + [_marked(record, False) for record in plain[place:stop]]
    return tables.from_list(made if questions else [_marked(record, False) for record in plain])


def scores(annotations: Iterable[Annotation], gold: Mapping[str, Mapping[str, Any]], scenario: Scenario, *,
           threshold: float = THRESHOLD) -> list[Score]:
    """Each annotator's share of right answers in every label and number field that has gold answers, the worst first. Texts have no one
    right answer and are not scored. A number is right within `agreement.near`. Who answered no gold question is not in the list."""
    annotations = list(annotations)
    made = []
    for field in scenario.fields:
        if field.kind == "text":
            continue
        table = ratings((each for each in annotations if gold.get(each.record, {}).get(field.name) is not None), field.name)
        for person, name in enumerate(table.annotators):
            given = [(record, row[person]) for record, row in zip(table.records, table.values, strict=True) if row[person] is not None]
            wrong = tuple(record for record, value in given if not agreement.same(field, value, gold[record][field.name]))
            share = wilson(len(given) - len(wrong), len(given))
            made.append(Score(name, field.name, share, _warning(share, threshold), wrong))
    return sorted(made, key=lambda each: (each.share.value, each.annotator, each.field))


def skills(found: Iterable[Score], field: str) -> dict[str, float]:
    """Each annotator's skill in one field, for `aggregation.skill_weights`: the share of right gold answers with one right and one wrong
    added (Laplace), since a few questions prove nobody infallible."""
    return {each.annotator: (each.share.value * each.share.records + 1) / (each.share.records + 2) for each in found if each.field == field}


def _warning(share: Estimate, threshold: float) -> str:
    if share.high < threshold:
        return "below"
    return "maybe" if share.value < threshold else ""


def _question(record: Record) -> Record:
    from labkit import records as tables

    empty = {**record, "answer": {}, "meta": {}}
    return {**empty, "id": tables.content_id(empty)}


def _marked(record: Record, gold: bool) -> Record:
    return {**record, "meta": {**record["meta"], KEY: gold}}


def _shares(sizes: Mapping[Any, int], count: int) -> dict[Any, int]:
    """How many to take of each group: one each, the largest first, then always of the one that has most to get for its share."""
    order = sorted(sizes, key=lambda value: (-sizes[value], str(value)))
    taken = {value: int(place < count) for place, value in enumerate(order)}
    share = count / sum(sizes.values())
    for _ in range(count - sum(taken.values())):
        taken[min((value for value in order if taken[value] < sizes[value]), key=lambda value: taken[value] - share * sizes[value])] += 1
    return taken

"""What a person asks of the labelling rooms in one sentence, put together from their functions: what `labkit label …` does.

Everything here takes records and annotations from where the lab keeps them (a file of records, the samples, the lab database) and gives
plain values or lines of text back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import records as recs
from labkit import scenarios
from labkit.errors import LabError
from labkit.labeling.annotations import Annotation
from labkit.scenarios import Field, Scenario

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.labeling.selection import Choice
    from labkit.labeling.settings import Suggestions

_HELD_OUT = 0.25  # of the labelled records a learning curve is measured on
_POINTS, _SEEDS = 6, 3  # of a measured curve
_REGULARISATION = 10.0  # scikit-learn's C, as in `labkit.evaluation.baseline`

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ToPush:
    """Records to send, and metadata that annotators do not see, by record."""

    records: "Dataset"
    hidden: dict[str, dict[str, str]] = field(default_factory=dict)


def scenario_of(name: str) -> Scenario:
    """The scenario of this name."""
    return scenarios.load(name)


def records_of(name: str, source: Path | None) -> tuple[Scenario, "Dataset"]:
    """The records in a file that `labkit prepare` wrote, with their scenario; without one the scenario's samples.

    Raises:
        LabError: the file holds no records.
    """
    from labkit.data import preparation

    known = scenarios.load(name)
    if source is None:
        return known, recs.samples(known)
    if not Path(source).exists():
        raise LabError(f"{source} does not exist")
    found = preparation.from_records(source, known)
    if found is None:
        raise LabError(f"{source} holds no records; make some of it: labkit prepare -s {name} --source {source} --out records.jsonl")
    records, scenario = found
    return scenario, records


def to_push(records: "Dataset", scenario: Scenario, *, unlabelled: bool = False, count: int | None = None, strategy: str = "staged",
            gold: int = 0, seed: int = 0, tell: Tell | None = None) -> ToPush:
    """Which of the records go to the annotators.

    Args:
        unlabelled: only records without an answer.
        count: only so many, chosen by `strategy` (see `choose`).
        gold: so many labelled records are mixed in as questions whose answer is known.

    Raises:
        LabError: nothing is left to send.
    """
    from labkit.labeling.quality import gold as questions

    wanted = records
    if unlabelled:
        wanted = records.select([row for row, each in enumerate(recs.rows(records, "answer")) if not each["answer"]])
        if not len(wanted):
            raise LabError("every record has an answer already; leave --unlabelled out")
    if count is not None and count < len(wanted):
        wanted = wanted.select([choice.row for choice in choose(wanted, scenario, count, strategy, known=records, seed=seed)])
    if not gold:
        return ToPush(wanted)
    drawn = questions.draw(records, scenario, gold, seed=seed)
    mixed = questions.mix(wanted, drawn, seed=seed)
    marks = {each["id"]: {questions.KEY: "yes" if each["meta"].get(questions.KEY) else "no"} for each in recs.rows(mixed, "id", "meta")}
    if tell:
        tell(f"{sum(each[questions.KEY] == 'yes' for each in marks.values())} gold questions among {len(mixed):,} records")
    return ToPush(mixed, marks)


def suggestions(records: "Dataset", scenario: Scenario, which: str, *, tell: Tell | None = None) -> "Suggestions | None":
    """What annotators see as a suggestion: `answers` that the records have, `none`, or a run (SCENARIO/NAME) whose checkpoint answers now.

    Raises:
        LabError: there is no such run, or it is one of another scenario.
    """
    from labkit.labeling import settings

    if which == "none":
        return None
    if which == "answers":
        return settings.present_answers([each for each in recs.rows(records) if each["answer"]])
    from labkit import models, runs
    from labkit.evaluation import confidence, predict

    run = runs.find(which)
    if run.scenario.name != scenario.name:
        raise LabError(f"{which} is a run of {run.scenario.name}, the records are of {scenario.name}")
    if run.state() != "done":
        raise LabError(f"{which} is {run.state()}, so it cannot suggest; see: labkit runs")
    if tell:
        tell(f"{which} answers {len(records):,} records for the annotators to correct")
    base = models.resolve(run.manifest()["base"]["name"])
    rows = confidence.add(predict.predict(records, scenario, base, run), records, scenario, base, run)
    return settings.predictions(rows, scenario, which)


def aggregate(method: str) -> Callable[[Scenario, list[Annotation]], dict[str, dict[str, Any]]]:
    """How several answers become one, for `sync.pull`: `majority` leaves out ties; the others are those of `quality.aggregation`."""
    from labkit.labeling import sync
    from labkit.labeling.quality import aggregation

    if method == "majority":
        return sync.majority
    if method not in aggregation.METHODS:
        raise LabError(f"method must be one of {', '.join(aggregation.METHODS)}, not {method!r}")

    def aggregated(scenario: Scenario, annotations: list[Annotation]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for each in scenario.fields:
            for consensus in aggregation.of_field(annotations, each, method=method):
                found.setdefault(consensus.record, {})[each.name] = consensus.value
        return found

    return aggregated


def quality(name: str, gold: Path | None = None) -> tuple[dict[str, Any], Scenario]:
    """The report of all annotations of a scenario that were pulled; with `gold` its labelled records are the right answers."""
    from labkit.labeling.quality import gold as questions
    from labkit.labeling.quality import report

    scenario = scenarios.load(name)
    key = None
    if gold is not None:
        scenario, records = records_of(name, gold)
        labelled = records.select([row for row, each in enumerate(recs.rows(records, "answer")) if each["answer"]])
        key = questions.answers(labelled) | {each["id"]: each["answer"] for each in recs.rows(labelled, "id", "answer")}
    given = annotations(name)
    if not given:
        raise LabError(f"no annotations of {name} were pulled yet; fetch them with: labkit label pull -s {name}")
    return report.of(given, scenario, key=key), scenario


def annotations(name: str) -> list[Annotation]:
    """All annotations of a scenario that were pulled."""
    from labkit.labeling import store

    return store.annotations(scenario=name)[0]


def labels_of(records: "Dataset", scenario: Scenario, of: Field) -> list[Any]:
    """Each record's label in this field: what annotators agreed on, else the record's own answer; None where there is neither."""
    from labkit.labeling import sync

    said = sync.majority(scenario, annotations(scenario.name))
    return [said.get(each["id"], {}).get(of.name, each["answer"].get(of.name)) for each in recs.rows(records, "id", "answer")]


def choose(records: "Dataset", scenario: Scenario, count: int, strategy: str = "staged", *, known: "Dataset | None" = None,
           seed: int = 0) -> "list[Choice]":
    """Which of the records to label next, by a strategy of `selection`, with the first label field as what is to be learned. Labelled are
    the records with an answer or with annotations; `known` may have more of them. Probabilities come from a logistic regression on the
    records' embeddings.

    Raises:
        LabError: the scenario has no label field, everything is labelled, or the strategy is unknown.
    """
    from labkit.labeling import selection
    from labkit.labeling.selection import vectors

    of = first_label(scenario)
    known = records if known is None else known
    both = recs.from_list([*recs.rows(records), *(each for each in recs.rows(known) if each["id"] not in set(records["id"][:]))]) \
        if known is not records else records
    labels, made = labels_of(both, scenario, of), vectors.of_records(both)
    labelled = [row for row in range(len(records)) if labels[row] is not None]
    if len(labelled) == len(records):
        raise LabError("every record is labelled already: there is nothing to choose from")
    learned = [row for row, label in enumerate(labels) if label is not None]
    classes = sorted({labels[row] for row in learned})
    probabilities = None
    if len(classes) > 1:
        probabilities = _classifier(made[learned], [labels[row] for row in learned]).predict_proba(made[:len(records)])
    counts = [sum(labels[row] == label for row in learned) for label in classes] or None
    return selection.choose(strategy, count, vectors=made[:len(records)], probabilities=probabilities, labelled=labelled,
                            label_counts=counts, seed=seed)


def errors(name: str, source: Path | None, count: int) -> Iterator[str]:
    """The labels that are most likely wrong, a line each, for every label field."""
    from labkit.data import duplicates
    from labkit.labeling.quality import errors as suspects

    scenario, records = records_of(name, source)
    texts = duplicates.conversations(records)
    for each in scenario.label_fields:
        labels = labels_of(records, scenario, each)
        rows = [row for row, label in enumerate(labels) if label is not None]
        if len({labels[row] for row in rows}) < 2:
            yield f"{each.name}: fewer than two labels, nothing to compare"
            continue
        known = [labels[row] for row in rows]
        found = suspects.ranked(known, suspects.out_of_sample([texts[row] for row in rows], known))
        yield f"{each.name}: {sum(suspect.likely for suspect in found):,} of {len(known):,} labels are likely wrong"
        for suspect in found[:count]:
            row = rows[suspect.row]
            text = " ".join(texts[row].split())[:70]
            yield f"  {suspect.score:.2f}  {records[row]['id']}  {suspect.given} → {suspect.suggested}?  {text}"


def cost(name: str, source: Path | None, more: int, wage: float | None, seconds: float | None, language: str) -> Iterator[str]:
    """What `more` labels cost and what they buy, in sentences.

    Raises:
        LabError: nothing is labelled, or no label field.
    """
    from labkit.labeling import cost as costs
    from labkit.labeling import learning_curve

    scenario, records = records_of(name, source)
    of = first_label(scenario)
    timed = costs.seconds_a_record(annotations(name))
    each = seconds if seconds is not None else timed.value
    labels, scores = measured(records, scenario, of)
    for count in sorted(set(labels)):
        found = [score for known, score in zip(labels, scores, strict=True) if known == count]
        yield _POINT[language].format(count=count, score=sum(found) / len(found), field=of.title[language])
    yield learning_curve.forecast(labels, scores, more, seconds_a_label=each).sentence(language)
    if each is None:
        yield _UNTIMED[language]
        return
    price = costs.price(more, each if seconds is not None else timed, wage=wage)
    yield _PRICE[language].format(more=more, time=costs.duration(price.seconds.value, language),
                                  money="" if price.money.value is None else _MONEY[language].format(money=price.money.value))


_POINT = {"en": "{count:,} labels: macro-F1 of {field} {score:.3f}", "zh": "{count:,} 个标签：{field}的宏平均 F1 为 {score:.3f}"}
_UNTIMED = {"en": "Nobody has been timed yet: pull annotations, or say --seconds.", "zh": "尚无计时：请先拉取标注，或用 --seconds 指定。"}
_PRICE = {"en": "{more:,} labels take {time} of one person{money}.", "zh": "{more:,} 个标签需一人 {time}{money}。"}
_MONEY = {"en": ", {money:,.2f} in pay", "zh": "，工资 {money:,.2f}"}


def measured(records: "Dataset", scenario: Scenario, of: Field, *, seeds: int = _SEEDS,
             points: int = _POINTS) -> tuple[list[int], list[float]]:
    """A learning curve of this label field: numbers of labels, and macro-F1 on a quarter of the labelled records that is held out, several
    draws a number (a logistic regression on embeddings).

    Raises:
        LabError: fewer than 40 labelled records, or one label alone.
    """
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split

    from labkit.labeling.selection import vectors

    labels = labels_of(records, scenario, of)
    rows = [row for row, label in enumerate(labels) if label is not None]
    known = np.array([labels[row] for row in rows], dtype=object)
    if len(rows) < 40 or len(set(known)) < 2:
        raise LabError(f"{len(rows)} labelled records with {len(set(known))} labels: a learning curve needs at least 40 and two")
    made = vectors.of_records(records.select(rows))
    counts, scores = [], []
    for seed in range(seeds):
        pool, held = train_test_split(np.arange(len(rows)), test_size=_HELD_OUT, random_state=seed)
        for count in sorted({int(each) for each in np.geomspace(max(10, len(pool) // 16), len(pool), points)}):
            few = pool[:count]
            if len(set(known[few])) < 2:
                continue
            said = _classifier(made[few], list(known[few])).predict(made[held])
            counts.append(count)
            scores.append(float(f1_score(list(known[held]), list(said), average="macro", zero_division=0)))
    return counts, scores


def first_label(scenario: Scenario) -> Field:
    """The field that is learned from: the scenario's first label field."""
    if not scenario.label_fields:
        raise LabError(f"{scenario.name} has no label field; choosing and learning curves need one")
    return scenario.label_fields[0]


def _classifier(vectors: np.ndarray, labels: list[Any]) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=_REGULARISATION, max_iter=1000).fit(vectors, labels)

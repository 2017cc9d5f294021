"""The report is plain JSON, holds what the parts say, and reads well in both languages."""

import json
import random
from datetime import timedelta

import pytest

from labkit import records, scenarios
from labkit.labeling.annotations import Annotation, ratings
from labkit.labeling.quality import adjudication, agreement, report
from labkit.labeling.quality.errors import Suspect
from tests.labeling.quality import tables


def labelled(scenario, count, seed=0):
    """Three annotators of different skill on sample records, with a few discarded ones."""
    draw = random.Random(seed)
    rows = list(records.rows(records.samples(scenario)))[:count]
    given = []
    for name, skill in (("ana", 0.95), ("ben", 0.85), ("陈", 0.6)):
        for place, row in enumerate(rows):
            time = tables.START + timedelta(seconds=20 * place + draw.randrange(9))
            if draw.random() < 0.05:
                given.append(Annotation(row["id"], scenario.fields[0].name, name, None, "discarded", time))
                continue
            for field in scenario.fields:
                value = row["answer"].get(field.name)
                if value is not None and draw.random() > skill:
                    value = {"label": lambda field=field: draw.choice(field.values), "number": lambda field=field: field.maximum,
                             "text": lambda: "something else"}[field.kind]()
                if value is not None:
                    given.append(Annotation(row["id"], field.name, name, value, "submitted", time))
    return rows, given


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_is_reported_as_json_and_in_both_languages(name):
    scenario = scenarios.load(name)
    rows, given = labelled(scenario, 40)
    key = {row["id"]: row["answer"] for row in rows[:10]}
    made = report.of(given, scenario, key=key, resamples=50)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    for language in ("en", "zh"):
        text = report.table(made, scenario, language)
        assert all(field.title[language] in text for field in scenario.fields) and "陈" in text
    assert {each["annotator"] for each in made["gold"]} == {"ana", "ben", "陈"}
    assert set(made["annotators"]) == {"ana", "ben", "陈"}


def test_the_report_says_what_its_parts_say(small_scenario):
    given = tables.annotations("kind", {"ana": ["apple", "apple", "pear", "pear"], "ben": ["apple", "pear", "pear", "pear"]})
    suspects = {"kind": [Suspect(0, "r000", "apple", "pear", 0.9, True), Suspect(1, "r001", "apple", "pear", 0.2, False)]}
    made = report.of(given, small_scenario, suspects=suspects, resamples=60, seed=2)
    found = agreement.krippendorff_alpha(ratings(given, "kind"), resamples=60, seed=2)
    assert made["fields"]["kind"]["agreement"]["alpha"] == report.plain(found)
    assert made["fields"]["kind"]["cohen_kappa"][0]["value"] == pytest.approx(0.5)  # observed 3/4, chance 1/2 * 1/4 + 1/2 * 3/4
    assert made["errors"]["kind"]["records"] == 2 and made["errors"]["kind"]["likely"] == 1
    queued = adjudication.queue(given, small_scenario, suspects=suspects)
    assert made["adjudication"]["records"] == len(queued) and made["adjudication"]["first"][0]["record"] == queued[0].record
    assert made["annotators"]["ana"]["submitted"] == 4 and made["annotators"]["ana"]["speed"]["seconds"]["value"] == 10
    assert made["fields"]["weight"]["consensus"] == {"records": 0, "confidence": None, "tied": 0, "unsure": 0}


def test_adjudicators_are_no_part_of_the_agreement_and_their_records_not_queued_again(small_scenario):
    given = tables.annotations("kind", {"ana": ["apple", "apple"], "ben": ["pear", "pear"]})
    decided = adjudication.decide("r000", {"kind": "pear"}, "judge", small_scenario)
    made = report.of(given + decided, small_scenario, adjudicators=["judge"], resamples=20)
    assert made["decided"] == 1 and list(made["annotators"]) == ["ana", "ben"]
    assert [item["record"] for item in made["adjudication"]["first"]] == ["r001"]
    assert made["fields"]["kind"]["skills"]["ben"] > made["fields"]["kind"]["skills"]["ana"]


def test_nothing_labelled_is_a_report_too(small_scenario):
    made = report.of([], small_scenario)
    assert made["records"] == 0 and made["advice"] == [] and made["adjudication"]["records"] == 0
    assert made["fields"]["kind"]["agreement"]["alpha"]["value"] is None
    assert "no record has two annotators" in report.table(made, small_scenario, "en")
    assert "没有记录由两人标注" in report.table(made, small_scenario, "zh")


def test_columns_stand_below_each_other_in_chinese_too(small_scenario):
    given = tables.annotations("kind", {"陈": ["apple", "apple"], "ben": ["apple", "pear"]})
    lines = report.table(report.of(given, small_scenario, resamples=20), small_scenario, "zh").split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("标注员"))
    widths = [report._width(line[:line.index(mark)]) for line, mark in zip(lines[start + 1:start + 3], ("2", "2"), strict=True)]
    assert widths == [report._width(lines[start][:lines[start].index("已提交")])] * 2

"""All of the quality of a set of annotations as plain JSON values, and as tables in English or Chinese.

`of` reckons it, `table` writes it out; the notebook's plots, the board and the command line show the same values.
"""

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labkit.labeling.annotations import Annotation, ratings
from labkit.labeling.quality import adjudication, aggregation, agreement, annotators, gold, guidelines
from labkit.labeling.quality.errors import Suspect
from labkit.scenarios import Field, Scenario

FIRST = 20  # records of the queue, and suspects, that the report names; it counts all
PAIRS = 12  # annotators up to which Cohen's kappa is given for every pair of them


def of(annotations: Iterable[Annotation], scenario: Scenario, *, method: str = "dawid_skene",
       key: Mapping[str, Mapping[str, Any]] | None = None, suspects: Mapping[str, Sequence[Suspect]] | None = None,
       adjudicators: Iterable[str] = (), ordered: Iterable[str] = (), least: float = adjudication.LEAST, resamples: int = 500,
       seed: int = 0) -> dict[str, Any]:
    """The quality of these annotations, as JSON values.

    Its parts: `annotators` (name -> submitted, discarded, speed), `fields` (name -> agreement, kappas of pairs, consensus, skills,
    confusions, drift, bias or offsets, runs), `gold` (scores), `errors` (field -> count and the first), `advice`, `adjudication` (count, by
    kind, the first). Every estimate is `{"value", "low", "high", "records", "reason"}`.

    Args:
        method: how labels are aggregated; see `aggregation.of_field`.
        key: the gold questions' answers, see `labkit.labeling.quality.gold.answers`.
        suspects: by field what `errors.ranked` found.
        adjudicators: whose annotations are decisions: they are no part of the agreement, and their records are not queued again.
        ordered: label fields whose labels form a scale.

    Raises:
        LabError: a label that the scenario does not have, or an unknown method.
    """
    everything = list(annotations)
    known, judges, scales = dict(key or {}), tuple(adjudicators), set(ordered)
    decided = adjudication.settled(everything, judges)
    given = adjudication.without(everything, judges)
    settings = {"resamples": resamples, "seed": seed}
    fields = {field.name: _field(given, field, method, {**known, **decided}, field.name in scales, least, settings)
              for field in scenario.fields}
    queued = adjudication.queue(given, scenario, method=method, suspects=suspects, gold=known, decided=decided, least=least)
    return plain({
        "scenario": scenario.name, "records": len({each.record for each in given if each.status == "submitted"}),
        "decided": len(decided), "method": method, "annotators": _people(given, settings), "fields": fields,
        "gold": gold.scores(given, known, scenario),
        "errors": {name: {"records": len(found), "likely": sum(each.likely for each in found), "first": found[:FIRST]}
                   for name, found in (suspects or {}).items()},
        "advice": guidelines.advice(given, scenario, **settings),
        "adjudication": {"records": len(queued), "kinds": Counter(kind for item in queued for kind in {each.kind for each in item.reasons}),
                         "first": queued[:FIRST]}})


def plain(value: Any) -> Any:
    """The value as JSON knows it: dataclasses as objects, tuples as lists, numpy's numbers as Python's."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value


def table(report: Mapping[str, Any], scenario: Scenario, language: str = "en") -> str:
    """The report as text: annotators, agreement, gold questions, confused labels, advice, the queue."""
    say = _WORDS[language]
    parts = [say["head"].format(records=report["records"], people=len(report["annotators"]), decided=report["decided"])]
    rows = [[name, str(each["submitted"]), str(each["discarded"]), _shown(each["speed"]["seconds"], 1), f"{each['speed']['hours']:.1f}"]
            for name, each in report["annotators"].items()]
    parts.append(_grid([say["annotator"], say["submitted"], say["discarded"], say["seconds"], say["hours"]], rows))
    rows = []
    for name, each in report["fields"].items():
        rows += [[scenario.field(name).title[language], say[measure], _shown(estimate, 3, language), str(estimate["records"])]
                 for measure, estimate in each["agreement"].items()]
    parts.append(_grid([say["field"], say["measure"], say["value"], say["records"]], rows))
    if report["gold"]:
        rows = [[each["annotator"], scenario.field(each["field"]).title[language], _shown(each["share"], 2), str(each["share"]["records"]),
                 say["warnings"][each["warning"]]] for each in report["gold"]]
        parts.append(_grid([say["annotator"], say["field"], say["gold"], say["records"], say["warning"]], rows))
    rows = []
    for name, each in report["fields"].items():
        field = scenario.field(name)
        rows += [[field.title[language], field.show(pair["first"], language), field.show(pair["second"], language), str(pair["records"]),
                  f"{pair['observed']:.1f}", f"{pair['expected']:.1f}"] for pair in each.get("confusions", ())[:5]]
    if rows:
        parts.append(_grid([say["field"], say["label"], say["other"], say["records"], say["observed"], say["expected"]], rows))
    for name, each in report["errors"].items():
        parts.append(say["errors"].format(field=scenario.field(name).title[language], likely=each["likely"], records=each["records"]))
    parts += ["\n".join(f"- {each['text'][language]}" for each in report["advice"])] if report["advice"] else []
    parts.append(say["queue"].format(records=report["adjudication"]["records"]))
    join = "; " if language == "en" else "；"
    rows = [[item["record"], f"{item['priority']:.2f}", join.join(reason["text"][language] for reason in item["reasons"][:2])]
            for item in report["adjudication"]["first"][:10]]
    if rows:
        parts.append(_grid([say["record"], say["priority"], say["reasons"]], rows))
    return "\n\n".join(parts)


def _people(given: list[Annotation], settings: dict[str, int]) -> dict[str, Any]:
    speeds = {each.annotator: each for each in annotators.speed(given, **settings)}
    made = {}
    for name, share in annotators.discarded(given).items():
        submitted = {each.record for each in given if each.annotator == name and each.status == "submitted"}
        gone = {each.record for each in given if each.annotator == name and each.status == "discarded"} - submitted
        made[name] = {"submitted": len(submitted), "discarded": len(gone), "discarded_share": share, "speed": speeds[name]}
    return made


def _field(given: list[Annotation], field: Field, method: str, known: Mapping[str, Mapping[str, Any]], ordered: bool, least: float,
           settings: dict[str, int]) -> dict[str, Any]:
    rated = ratings(given, field.name)
    truth = {record: answer[field.name] for record, answer in known.items() if answer.get(field.name) is not None}
    found = aggregation.of_field(given, field, method=method, gold=truth if field.kind == "label" else None)
    made: dict[str, Any] = {
        "kind": field.kind, "agreement": agreement.of_field(rated, field, ordered=ordered, **settings),
        "consensus": {"records": len(found), "confidence": sum(each.confidence for each in found) / len(found) if found else None,
                      "tied": sum(each.tied for each in found), "unsure": sum(each.confidence < least for each in found)}}
    if field.kind == "label":
        if len(rated.annotators) <= PAIRS:
            pairs = agreement.cohen_kappas(rated, **settings)
            made["cohen_kappa"] = [{"first": first, "second": second, **plain(each)} for (first, second), each in pairs.items()]
        fitted = aggregation.dawid_skene(rated, classes=field.values, one_coin=method == "skill", gold=truth)[1]
        made["skills"] = fitted.skills if len(fitted.posterior) else {}
        made["confusions"] = guidelines.confusions(rated)
        made["bias"] = annotators.bias(rated, **settings)[:FIRST]
        made["runs"] = annotators.straight_lining(given, field.name, orders=settings["resamples"], seed=settings["seed"])
    if field.kind == "number":
        made["offsets"] = annotators.offsets(rated, **settings)
    if field.kind != "text":
        tolerance = agreement.near(field) if field.kind == "number" else None
        made["drift"] = annotators.drift(given, field.name, tolerance=tolerance, **settings)
    return made


_WORDS: dict[str, dict[str, Any]] = {
    "en": {"head": "{records} records, {people} annotators, {decided} adjudicated", "annotator": "annotator", "submitted": "submitted",
           "discarded": "discarded", "seconds": "seconds a record", "hours": "hours", "field": "field", "measure": "measure",
           "value": "value [95%]", "records": "records", "percent": "percent agreement", "fleiss_kappa": "Fleiss' kappa",
           "alpha": "Krippendorff's alpha", "alpha_ordinal": "alpha, ordinal", "similarity": "similarity", "gold": "gold right [95%]",
           "warning": "warning", "warnings": {"": "", "maybe": "maybe too low", "below": "too low"}, "label": "label",
           "other": "mixed up with", "observed": "by weight", "expected": "expected", "record": "record", "priority": "priority",
           "reasons": "reasons",
           "errors": "{field}: {likely} of {records} labels are likely to be wrong", "queue": "{records} records to adjudicate"},
    "zh": {"head": "{records} 条记录，{people} 位标注员，{decided} 条已裁决", "annotator": "标注员", "submitted": "已提交",
           "discarded": "已弃标", "seconds": "每条秒数", "hours": "小时", "field": "字段", "measure": "指标", "value": "值 [95%]",
           "records": "记录数", "percent": "一致比例", "fleiss_kappa": "Fleiss kappa", "alpha": "Krippendorff alpha",
           "alpha_ordinal": "alpha（有序）", "similarity": "相似度", "gold": "金标正确率 [95%]", "warning": "警告",
           "warnings": {"": "", "maybe": "可能偏低", "below": "过低"}, "label": "标签", "other": "混淆为", "observed": "加权",
           "expected": "按频率", "record": "记录", "priority": "优先级", "reasons": "原因",
           "errors": "{field}：{records} 个标签中有 {likely} 个可能有误", "queue": "{records} 条记录待裁决"},
}


def _shown(estimate: Mapping[str, Any], decimals: int, language: str = "en") -> str:
    if estimate["value"] is None:
        return f"- ({estimate['reason'][language]})" if decimals == 3 else "-"
    if estimate["low"] is None:
        return f"{estimate['value']:.{decimals}f}"
    return f"{estimate['value']:.{decimals}f} [{estimate['low']:.{decimals}f}, {estimate['high']:.{decimals}f}]"


def _grid(head: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell; a Chinese character takes two places."""
    lines = [head, *rows]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)

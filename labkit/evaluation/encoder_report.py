"""How good an encoder's run is on its scenario's test records, field by field, beside TF-IDF."""

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit import records as recs
from labkit.errors import LabError
from labkit.evaluation import baseline, metrics
from labkit.runs import Run
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset


def evaluate(run: Run, records: "Dataset") -> dict[str, Any]:
    """Measure the run's heads on the test split, and write evaluation.json and predictions.jsonl into its folder.

    Raises:
        LabError: there is no test split, or the run is unfinished or damaged.
    """
    from labkit.training import predictor

    test, train = recs.in_split(records, "test"), recs.in_split(records, "train")
    if not len(test):
        raise LabError(f"the records for run {run.key} have no test split; give some of them split = test")
    ready = predictor.load(run)
    learned = {head.name for head in ready.heads}
    scenario = _only(run.scenario, learned)
    sides = {"fine_tuned": ready.answers(test)}
    if len(train) and scenario.label_fields:
        sides["tfidf"] = baseline.tfidf(train, test, scenario)
    found = {"format": 1, "kind": "encoder", "run": run.key, "made": datetime.now(UTC).isoformat(timespec="seconds"),
             "adapter": run.weights_sha256(), "records": {"split": "test", "count": len(test), "fingerprint": recs.fingerprint(test)},
             **{side: metrics.score(test, rows, scenario if side == "fine_tuned" else _labels(scenario)) for side, rows in sides.items()}}
    with files.whole(run.folder / "predictions.jsonl") as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in sides["fine_tuned"]), encoding="utf-8")
    files.write_json(run.folder / "evaluation.json", found)
    return found


def summary(found: dict[str, Any]) -> str:
    """One line a measure: the run, and TF-IDF where it has the field."""
    lines = []
    for name, field in found["fine_tuned"]["overall"]["fields"].items():
        other = found.get("tfidf", {}).get("overall", {}).get("fields", {}).get(name, {})
        for measure, value in field.items():
            if isinstance(value, dict):
                line = f"  {name:16s} {measure:20s} {value['value']:.2f} ({value['low']:.2f}–{value['high']:.2f})"
                lines.append(line + (f"  (TF-IDF {other[measure]['value']:.2f})" if measure in other else ""))
    return "\n".join(lines)


def _only(scenario: Scenario, names: set[str]) -> Scenario:
    return dataclasses.replace(scenario, fields=tuple(field for field in scenario.fields if field.name in names))


def _labels(scenario: Scenario) -> Scenario:
    return _only(scenario, {field.name for field in scenario.label_fields})

"""Whether each fine-tuned checkpoint beats its base on every field of its test split, and TF-IDF on its label fields.

Both models answer anew in this run (nothing is taken from the cache). A label field is better where accuracy and macro-F1 both
are strictly higher, a number where its mean absolute error is lower, a text where its ROUGE-L is higher; a label field beats
TF-IDF with logistic regression where its accuracy is strictly higher.

    .venv/bin/python benchmarks/scenarios.py [--quick] [--run default]
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def first_tests(records, count: int):
    """The train records and `count` of the test records, spread over them."""
    rows = [row for row, split in enumerate(records["split"]) if split == "test"]
    chosen = {rows[at * len(rows) // count] for at in range(min(count, len(rows)))}
    return records.select([row for row, split in enumerate(records["split"]) if split == "train" or row in chosen])


def judge(found: dict) -> list[dict]:
    """A row a field: its values on each side, whether it beats the base, and for labels whether it beats TF-IDF."""
    from labkit.evaluation import metrics

    base, tuned = found["base"]["overall"]["fields"], found["fine_tuned"]["overall"]["fields"]
    plain = found["tfidf"]["overall"]["fields"] if found["tfidf"] else {}
    rows = []
    for name, entry in tuned.items():
        keys = [key for key in entry if key in metrics.HIGHER_IS_BETTER]
        row = {"field": name, "kind": entry["kind"], "n": entry["n"],
               "base": {key: round(base[name][key]["value"], 4) for key in keys},
               "fine_tuned": {key: round(entry[key]["value"], 4) for key in keys},
               "beats_base": all(metrics.is_better(key, entry[key]["value"], base[name][key]["value"]) for key in keys)}
        if name in plain:
            row["tfidf"] = {key: round(plain[name][key]["value"], 4) for key in keys}
            row["beats_tfidf"] = entry["accuracy"]["value"] > plain[name]["accuracy"]["value"]
        rows.append(row)
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="12 test records of each scenario")
    arguments.add_argument("--run", default="default", help="the run's name in each scenario")
    chosen = arguments.parse_args()
    from labkit import process, runs, scenarios
    from labkit.errors import LabError

    process.prepare()
    from labkit.evaluation import report

    detail: dict = {"quick": chosen.quick, "scenarios": {}, "problems": {}}
    for name in scenarios.names():
        try:
            run, began = runs.find(f"{name}/{chosen.run}"), time.perf_counter()
            data = report.own_records(run)
            found, _ = report.measure(run, first_tests(data, 12) if chosen.quick else data, cached=False)
        except LabError as problem:
            detail["problems"][name] = str(problem)
            print(f"{name}: {problem}", flush=True)
            continue
        fields = judge(found)
        detail["scenarios"][name] = {
            "fields": fields, "test_records": found["records"]["count"], "seconds": round(time.perf_counter() - began, 1),
            "answer_seconds": found["seconds"], "weights": found["weights"],
            "parsed": {side: round(found[side]["overall"]["parsed"]["value"], 4) for side in ("base", "fine_tuned")}}
        for row in fields:
            print(f"{name:18s} {row['field']:14s} base {row['base']} fine-tuned {row['fine_tuned']} "
                  f"TF-IDF {row.get('tfidf', '-')} {'better' if row['beats_base'] else 'NOT BETTER'}", flush=True)
    fields = [row for entry in detail["scenarios"].values() for row in entry["fields"]]
    missing = [(name, field) for name in detail["problems"] for field in scenarios.load(name).fields]  # counted as not better
    labels = [row["beats_tfidf"] for row in fields if "beats_tfidf" in row] + [False for _, field in missing if field.kind == "label"]
    better = [row["beats_base"] for row in fields] + [False] * len(missing)
    claims = {"fields_beating_base": round(sum(better) / len(better), 4) if better else 0.0,
              "labels_beating_tfidf": round(sum(labels) / len(labels), 4) if labels else 0.0}
    print(json.dumps({"claims": claims, "detail": detail}))


if __name__ == "__main__":
    main()

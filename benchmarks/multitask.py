"""Whether an encoder learns a field better together with the scenario's other fields than alone.

    .venv/bin/python benchmarks/multitask.py [--quick] [--scenarios legal …] [--languages en all] [--seeds 0 1 2 3 4] [--epochs 8]

The embedded encoder is fine-tuned on the samples of each scenario: on one label field alone, and on all label fields together with a head
each, the losses added up as they are (`fixed`) or weighted by learned uncertainty (`uncertainty`, Kendall et al. 2018,
https://arxiv.org/abs/1705.07115). Once on the English records, once on all. All three ways get the same epochs and seeds, and choose by
the validation records alone: the learning rate by the first seed, and of each run the weights of the epoch with the best macro-F1 (mean
over the way's own fields). The test records are opened once, by the runs that were chosen.

Differences are in test accuracy, with a 95% interval over situations (records of one `meta["core"]` together) and seeds at once
(`labkit.evaluation.over_seeds`). Of twenty such intervals one excludes zero by chance: `fields_compared` says how many there are, and
`detail` gives each.

Claims, the last line's JSON:
    fields_better_multitask     fields (of the four scenarios, with either set of records) for which the weighting that is better on the
                                validation records is better than alone on the test records, with an interval that excludes zero
    fields_worse_multitask      the same, worse
    fields_compared             how many were compared
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# Settings of `labkit.training.recipe.Recipe` beside those of `labkit.training.presets` for classification; the same for all three ways.
SETTINGS: dict[str, Any] = {"method": "freeze", "layers": 3, "batch_size": 16, "head_rate": 10.0, "max_tokens": 192,
                            "schedule": "constant", "checkpoint_steps": 10**6}
RATES = (1e-4, 3e-4)
EPOCHS = 8
WEIGHTINGS = ("fixed", "uncertainty")

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from labkit.runs import Run
    from labkit.scenarios import Scenario


@dataclass(frozen=True)
class Way:
    """One way of training: these fields together, weighted so, with each seed.

    Attributes:
        validation: the best macro-F1 on the validation records, mean over its fields and seeds.
        by_field: of each field the macro-F1 at that epoch, mean over the seeds.
        runs: the trained runs, one a seed.
    """

    fields: tuple[str, ...]
    weighting: str
    rate: float
    validation: float
    by_field: dict[str, float]
    runs: "list[Run]"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute: one scenario, 48 records, one epoch")
    arguments.add_argument("--scenarios", nargs="*", default=[], help="these alone (default: all that have at least two label fields)")
    arguments.add_argument("--languages", nargs="+", choices=("en", "all"), default=["en", "all"], help="English records, or all")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    options = arguments.parse_args()
    from labkit import process, scenarios

    process.prepare()
    if options.quick:
        options.seeds, options.epochs, options.languages = options.seeds[:2], 1, ["en"]
    known = [scenarios.load(name) for name in options.scenarios or scenarios.names()]
    known = [scenario for scenario in known if len(scenario.label_fields) > 1][: 1 if options.quick else None]
    began, found = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as work:
        os.environ["LABKIT_RUNS"] = work
        for scenario in known:
            for languages in options.languages:
                compared = of_scenario(scenario, languages, options.seeds, options.epochs, options.quick)
                found |= {f"{scenario.name}.{name} ({languages})": row for name, row in compared.items()}
    chosen = [row["by_weighting"][row["weighting"]] for row in found.values()]
    claims = {"fields_better_multitask": sum(row["low"] > 0 for row in chosen),
              "fields_worse_multitask": sum(row["high"] < 0 for row in chosen), "fields_compared": len(chosen)}
    detail = {"fields": found, "seeds": options.seeds, "epochs": options.epochs, "rates": list(RATES), "settings": SETTINGS,
              "seconds": round(time.perf_counter() - began)}
    print(json.dumps({"claims": claims, "detail": detail}))


def of_scenario(scenario: "Scenario", languages: str, seeds: list[int], epochs: int, quick: bool) -> dict[str, dict[str, Any]]:
    """For each label field, alone beside together."""
    from datasets import concatenate_datasets

    from labkit import records
    from labkit.evaluation import over_seeds

    every = records.samples(scenario)
    kept = every.select([row for row, language in enumerate(every["language"][:]) if languages == "all" or language == languages])
    test, rest = records.in_split(kept, "test"), [records.in_split(kept, split) for split in ("train", "validation")]
    if quick:
        rest, test = [part.select(range(min(48, len(part)))) for part in rest], test.select(range(min(40, len(test))))
    learned = concatenate_datasets(rest)
    names = [field.name for field in scenario.label_fields]
    rates = RATES[:1] if quick else RATES
    make = lambda fields, weighting: chosen_way(fields, weighting, scenario, learned, languages, seeds, epochs, rates)  # noqa: E731
    alone = {name: make((name,), "fixed") for name in names}
    together = {weighting: make(tuple(names), weighting) for weighting in WEIGHTINGS}
    situations = [record["meta"].get("core") or record["id"] for record in records.rows(test)]
    found = {}
    for name in names:
        base = hits(alone[name], name, test)
        by_weighting = {}
        for weighting, way in together.items():
            gap = over_seeds.difference(base, hits(way, name, test), situations)
            by_weighting[weighting] = {"gain": round(gap.value, 4), "low": round(gap.low, 4), "high": round(gap.high, 4)}
        better = max(together, key=lambda weighting: together[weighting].by_field[name])
        found[name] = {"alone": round(float(base.mean()), 4), "weighting": better, "by_weighting": by_weighting,
                       "learning_rate": {"alone": alone[name].rate} | {weighting: way.rate for weighting, way in together.items()},
                       "test_records": len(test), "situations": len(set(situations))}
        print(f"{scenario.name}.{name} ({languages}): {found[name]}", flush=True)
    return found


def chosen_way(fields: tuple[str, ...], weighting: str, scenario: "Scenario", learned: "Dataset", languages: str, seeds: list[int],
               epochs: int, rates: tuple[float, ...]) -> Way:
    """The way with the learning rate that is best on the validation records with the first seed, trained with every seed."""
    tried = {rate: trained(fields, weighting, scenario, learned, languages, seeds[0], epochs, rate) for rate in rates}
    rate = max(tried, key=lambda rate: best_row(tried[rate])["mean"])
    runs = [tried[rate], *(trained(fields, weighting, scenario, learned, languages, seed, epochs, rate) for seed in seeds[1:])]
    rows = [best_row(run) for run in runs]
    mean = lambda name: sum(row[name] for row in rows) / len(rows)  # noqa: E731
    return Way(fields, weighting, rate, mean("mean"), {name: mean(name) for name in fields}, runs)


def trained(fields: tuple[str, ...], weighting: str, scenario: "Scenario", learned: "Dataset", languages: str, seed: int, epochs: int,
            rate: float) -> "Run":
    """One run, with the weights of its best epoch."""
    from labkit.training import presets, trainer

    name = f"{'-'.join(fields)}-{weighting}-{languages}-{seed}-{rate:g}"
    recipe = presets.recipe("classify", scenario.name, **{
        **SETTINGS, "name": name, "fields": fields, "task_weighting": weighting, "seed": seed, "epochs": epochs, "learning_rate": rate,
        "patience": epochs, "monitor": monitor(fields)})
    return trainer.train(recipe, learned, scenario)


def best_row(run: "Run") -> dict[str, float]:
    """Macro-F1 of each of the run's fields on the validation records, and their `mean`, at the epoch that was kept."""
    from labkit.training import recipe as recipes

    fields = recipes.read(run.folder / "recipe.toml").fields
    measured = [row["validation"] for row in run.metrics() if "validation" in row]
    kept = max(measured, key=lambda row: row[monitor(fields)])  # the first of equals, as early stopping has it
    own = {name: kept[f"{name}.macro_f1" if len(fields) > 1 else "macro_f1"] for name in fields}
    return {**own, "mean": sum(own.values()) / len(own)}


def monitor(fields: tuple[str, ...]) -> str:
    return "mean" if len(fields) > 1 else "macro_f1"


def hits(way: Way, field: str, test: "Dataset") -> "np.ndarray":
    """Which test records each seed's run gets right, (seeds, records)."""
    import numpy as np

    from labkit import records
    from labkit.training import predictor
    from labkit.training.tasks.of_scenario import text_of

    rows = list(records.rows(test))
    said = [predictor.load(run).predict([text_of(row) for row in rows]) for run in way.runs]
    return np.array([[each[field]["value"] == row["answer"][field] for each, row in zip(one, rows, strict=True)] for one in said], float)


if __name__ == "__main__":
    main()

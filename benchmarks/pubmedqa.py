"""How well the embedded encoder answers medical research questions with yes, no or maybe from an abstract.

    .venv/bin/python benchmarks/pubmedqa.py [--quick] [--held-out]

PubMedQA PQA-L (Jin et al. 2019, https://arxiv.org/abs/1909.06146; `../shared/data`; where it is absent the lab's samples of a pair task,
which is said in the output): a question with the abstract but for its conclusion, 500 rows to learn from and the published 500 to
measure on. Beside it in that paper: the majority answer 55.2, BioBERT 68.1 (which also learned from 211,000 artificial questions and read
the conclusions while learning), a person 78.0. A general encoder of 22M parameters on 500 rows is expected near the first of them.

The settings are the presets' with a first guess at rate, epochs and length; nothing was tuned. Five folds of the training rows
(`--held-out`, which does not measure on the test rows) are there to choose others by.

Claims, the last line's JSON:
    pubmedqa_accuracy    of the fine-tuned encoder on the 500 test rows, with its 95% interval in `detail`
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DATA = ROOT.parent / "shared" / "data"
PUBLISHED = {"majority": 0.552, "biobert": 0.681, "person": 0.780}
FOLDS = 5

# Settings of `labkit.training.recipe.Recipe` beside those of `labkit.training.presets` for classification.
SETTINGS: dict[str, Any] = {"learning_rate": 1e-4, "epochs": 4, "batch_size": 16, "head_rate": 10.0, "max_tokens": 384}

Rows = list[tuple[str, str, str]]  # question, abstract, answer


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute: a few rows, one epoch")
    arguments.add_argument("--held-out", action="store_true", help="measure on folds of the training rows, to choose settings by")
    arguments.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="try other settings of the recipe")
    options = arguments.parse_args()
    settings = SETTINGS | {name: json.loads(value) for name, _, value in (change.partition("=") for change in options.set)}
    from labkit import process

    process.prepare()
    with tempfile.TemporaryDirectory() as work:
        os.environ["LABKIT_RUNS"] = work
        began = time.perf_counter()
        train, test, source = read()
        if options.quick:
            train, test, settings = train[::16][:32], test[::16][:32], {**settings, "epochs": 1, "max_tokens": 64}
        print(f"{source}: {len(train)} rows to learn from", flush=True)
        parts = folds(train) if options.held_out else [(train, test)]
        said, truth, baseline = [], [], []
        for number, (learned, measured) in enumerate(parts):
            said += trained(f"part-{number}", learned, measured, settings)
            baseline += frozen(learned, measured)
            truth += [answer for _, _, answer in measured]
            print(f"part {number}: {share(said, truth):.4f} so far (frozen encoder {share(baseline, truth):.4f})", flush=True)
    from scipy.stats import binomtest
    from sklearn.metrics import f1_score

    right = sum(one == other for one, other in zip(said, truth, strict=True))
    interval = binomtest(right, len(truth)).proportion_ci(method="wilson")
    answers = sorted(set(truth))
    detail = {"source": source, "rows": len(truth), "measured_on": "folds of the training rows" if options.held_out else "test",
              "interval": [round(interval.low, 4), round(interval.high, 4)],
              "macro_f1": round(f1_score(truth, said, average="macro", zero_division=0), 4),
              "frozen_accuracy": round(share(baseline, truth), 4),
              "majority_here": round(max(truth.count(answer) for answer in answers) / len(truth), 4), "published": PUBLISHED,
              "said": {answer: said.count(answer) for answer in answers}, "settings": settings,
              "seconds": round(time.perf_counter() - began)}
    print(json.dumps({"claims": {"pubmedqa_accuracy": round(share(said, truth), 4)}, "detail": detail}))


def read() -> tuple[Rows, Rows, str]:
    """Rows to learn from, rows to measure on, and what they are."""
    if (DATA / "pubmedqa_labeled.json").exists():
        rows = json.loads((DATA / "pubmedqa_labeled.json").read_text(encoding="utf-8"))
        chosen = json.loads((DATA / "pubmedqa_test_ids.json").read_text(encoding="utf-8"))
        made = {identity: (row["QUESTION"], " ".join(row["CONTEXTS"]), row["final_decision"]) for identity, row in rows.items()}
        return [row for identity, row in made.items() if identity not in chosen], [made[identity] for identity in chosen], "pubmedqa"
    from labkit.training.tasks import formats

    data = formats.load("samples/entailment")
    train, test = ([(row["text"], row["text_pair"], data.labels[row["label"]]) for row in data.splits[name]] for name in ("train", "test"))
    return train, test, f"{data.name} ({DATA} is not there)"


def folds(rows: Rows) -> list[tuple[Rows, Rows]]:
    """(rows to learn from, rows to measure on) for each fold."""
    order = list(rows)
    random.Random(0).shuffle(order)
    return [([row for place, row in enumerate(order) if place % FOLDS != fold], order[fold::FOLDS]) for fold in range(FOLDS)]


def trained(name: str, learned: Rows, measured: Rows, settings: dict[str, Any]) -> list[str]:
    """What a run with these settings answers to the measured rows."""
    from datasets import Dataset

    from labkit.training import predictor, presets, trainer
    from labkit.training.tasks.formats import TaskData

    answers = tuple(sorted({answer for _, _, answer in learned}))
    rows = Dataset.from_dict({"text": [question for question, _, _ in learned], "text_pair": [abstract for _, abstract, _ in learned],
                              "label": [answers.index(answer) for _, _, answer in learned]})
    data = TaskData("pubmedqa", "classify", {"train": rows}, answers, ("accuracy",), "PubMedQA PQA-L", "MIT")
    run = trainer.train_task(presets.of_data(data, **{"name": name, "checkpoint_steps": 10**6, **settings}), data)
    found = predictor.load(run).predict([(question, abstract) for question, abstract, _ in measured])
    return [each["label"]["value"] for each in found]


def frozen(learned: Rows, measured: Rows) -> list[str]:
    """What logistic regression on the encoder as it comes answers: both texts' embeddings and their products."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from labkit.data import duplicates

    rows = learned + measured
    first, second = (duplicates.embed([row[place] for row in rows]) for place in (0, 1))
    features = np.concatenate([first, second, first * second * first.shape[1] ** 0.5], axis=1)
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(features[: len(learned)], [answer for _, _, answer in learned])
    return fitted.predict(features[len(learned) :]).tolist()


def share(said: list[str], truth: list[str]) -> float:
    return sum(one == other for one, other in zip(said, truth, strict=True)) / len(truth)


if __name__ == "__main__":
    main()

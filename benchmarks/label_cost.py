"""How many labels choosing saves, and how many wrong labels are found.

    .venv/bin/python benchmarks/label_cost.py [--quick] [--seeds 5] [--strategies margin …]

Banking77 (`../shared/data`; where it is absent the lab's English samples, which is said in the output): the labels of the training texts
are hidden, a strategy of `labkit.labeling.selection` asks for fifty at a time, is given them as an annotator would, and the model is
trained again: logistic regression on the embedded encoder, frozen, the same for every strategy, chance included. It is scored on the test
split, which no strategy sees. The lab's own strategy, `staged`, was settled on a part of the training texts before the test split was
looked at; it is the one that counts, the others are there for comparison.

Then 5% of all training labels are changed to another one by chance, and `labkit.labeling.quality.errors` ranks all labels; once more with
labels changed to one of the three most similar ones, as people err.

Claims, the last line's JSON:
    labels_saved    1 less the labels that `staged` needs, as a share of 1,000, to reach the mean accuracy of 1,000 drawn by chance and not
                    to fall below it again in the rest of the run (to 1,000); mean over the seeds
    flipped_found   the share of the changed labels among the first 8% of the ranking, mean over the seeds
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# Hundreds of small regressions are faster on one thread; it must be said before numpy is loaded. The encoder uses all.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import intents  # noqa: E402
import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BATCH, SMALL_BATCH = 50, 25  # labels between two trainings; the small one for pools below 1,000 texts
FLIPPED, LOOKED_AT = 0.05, 0.08
COUNTS = "staged"  # the strategy behind the claim


@dataclass(frozen=True)
class Data:
    """Texts of the training split with their vectors float32 (texts, 384) and labels int64 (texts,), and the test split's."""

    texts: list[str]
    vectors: np.ndarray
    labels: np.ndarray
    test_vectors: np.ndarray
    test_labels: np.ndarray
    source: str

    @property
    def batch(self) -> int:
        return BATCH if len(self.texts) >= 1000 else SMALL_BATCH

    @property
    def kinds(self) -> int:
        return int(max(self.labels.max(), self.test_labels.max())) + 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute: 1,000 texts of 20 labels, two seeds")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--strategies", nargs="*", choices=list(WAYS), help="compared with chance; all where none is named")
    options = arguments.parse_args()
    from labkit import process

    process.prepare()
    began = time.perf_counter()
    data = load(options.quick)
    seeds = range((4 if data.batch < BATCH else 2) if options.quick else options.seeds)
    most = min(1000, len(data.texts) // 2) // data.batch * data.batch
    print(f"{data.source}: {len(data.texts)} training texts, {len(data.test_labels)} test texts, {data.kinds} labels; vectors after "
          f"{time.perf_counter() - began:.0f} s", flush=True)
    names = list(dict.fromkeys([COUNTS, *(options.strategies or (["margin"] if options.quick else WAYS))]))
    curves = {name: [run(data, name, seed, most) for seed in seeds] for name in ["random", *names]}
    saved, compared = compare(curves, most)
    flips = {"by_chance": [flipped_found(data, seed, similar=False) for seed in seeds]}
    if not options.quick:
        flips["similar"] = [flipped_found(data, seed, similar=True) for seed in seeds[:2]]  # three minutes each
    from labkit.labeling import cost

    claims = {"labels_saved": round(saved, 3), "flipped_found": round(float(np.mean(flips["by_chance"])), 3)}
    detail = {"source": data.source, "texts": len(data.texts), "test_texts": len(data.test_labels), "labels": data.kinds,
              "seeds": len(seeds), "random_labels": most, **compared, "forecasts": forecasts(curves, data.batch),
              "flipped_found": {kind: rounded(asdict(cost.over_runs(found))) for kind, found in flips.items()},
              "curves": {name: {"labels": runs[0][0], "accuracy": rounded(np.mean([run[1] for run in runs], axis=0).tolist())}
                         for name, runs in curves.items()},
              "seconds": round(time.perf_counter() - began)}
    print(json.dumps({"claims": claims, "detail": detail}))


def load(quick: bool) -> Data:
    """The texts with their vectors. The vectors are kept in the lab's cache: 13,000 texts take two minutes."""
    train, test, source = intents.read()
    if quick:
        train, test = intents.few(train, test, 20, (1000, 400))
    names = sorted({label for _, label in train + test})
    vectors = embedded([text for text, _ in train + test])
    labels = np.array([names.index(label) for _, label in train + test])
    count = len(train)
    return Data([text for text, _ in train], vectors[:count], labels[:count], vectors[count:], labels[count:], source)


def embedded(texts: list[str]) -> np.ndarray:
    """`duplicates.embed`, from the cache where these very texts were embedded before."""
    import hashlib

    import torch
    from safetensors.numpy import load_file, save_file

    from labkit import files, places
    from labkit.data import duplicates

    digest = hashlib.sha256(files.canonical_json(texts).encode()).hexdigest()
    path = places.cache_folder() / "vectors" / f"{files.short(digest)}.safetensors"
    if not path.exists():
        torch.set_num_threads(os.cpu_count() or 1)
        with files.whole(path) as part:
            save_file({"vectors": duplicates.embed(texts)}, part)
    return load_file(path)["vectors"]


class Annotator:
    """Holds the hidden labels; counts what it was asked."""

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels
        self.said: dict[int, int] = {}

    def label(self, rows: list[int]) -> None:
        for row in rows:
            assert row not in self.said, "a record was asked for twice"
            self.said[row] = int(self._labels[row])

    @property
    def rows(self) -> list[int]:
        return list(self.said)

    @property
    def answers(self) -> np.ndarray:
        return np.array(list(self.said.values()), np.int64)


def by_name(name: str):
    """A strategy of the lab that uses the model of the round before."""
    def ask(data: Data, probabilities: np.ndarray, annotator: Annotator, count: int, seed: int) -> list[int]:
        from labkit.labeling import selection

        counts = np.bincount(annotator.answers, minlength=data.kinds) if annotator.said else None
        return [choice.row for choice in selection.choose(name, count, vectors=data.vectors, probabilities=probabilities,
                                                          labelled=annotator.rows, label_counts=counts, seed=seed)]
    return ask


def by_committee(data: Data, probabilities: np.ndarray, annotator: Annotator, count: int, seed: int) -> list[int]:
    """Three models, each of which sees half of the dimensions, in place of checkpoints. (Models on bootstrap draws of the labels do far
    worse than chance: each lacks some labels altogether, and the records near those are all that they disagree on.)"""
    from labkit.labeling import selection

    generator = np.random.default_rng([seed, len(annotator.said)])
    members = []
    for _ in range(3):
        seen = np.zeros(data.vectors.shape[1], np.float32)
        seen[generator.permutation(len(seen))[:len(seen) // 2]] = 2**0.5  # rows keep their length
        part = dataclasses.replace(data, vectors=data.vectors * seen)
        members.append(trained(part, np.array(annotator.rows), annotator.answers)(part.vectors))
    return [choice.row for choice in selection.choose("vote_entropy", count, committee=np.stack(members), labelled=annotator.rows)]


WAYS = {name: by_name(name) for name in ("staged", "clustered_margin", "margin", "entropy")}
WAYS |= {"vote_entropy": by_committee, "typical": None, "core_set": None}  # the last two need no model: one order for the whole run


def run(data: Data, name: str, seed: int, most: int) -> tuple[list[int], list[float]]:
    """(numbers of labels, accuracy on the test split after each) of one strategy with one seed."""
    from labkit.labeling import selection

    began = time.perf_counter()
    annotator, start = Annotator(data.labels), 2 * data.kinds
    order = [choice.row for choice in selection.drawn(len(data.texts), most, seed=seed)]
    if name in ("typical", "core_set"):
        order = [choice.row for choice in selection.choose(name, most, vectors=data.vectors, seed=seed,
                                                           labelled=order[:start] if name == "core_set" else ())]
        if name == "core_set":  # it covers what is not covered yet: begun by chance, as the others are
            order = [choice.row for choice in selection.drawn(len(data.texts), most, seed=seed)][:start] + order
    counts, scores = [], []
    probabilities = None
    while len(annotator.said) < most:
        count = start if not annotator.said else min(data.batch, most - len(annotator.said))
        fixed = name in ("random", "typical", "core_set") or (not annotator.said and name != "staged")
        done = len(annotator.said)
        annotator.label(order[done:done + count] if fixed else WAYS[name](data, probabilities, annotator, count, seed))
        model = trained(data, np.array(annotator.rows), annotator.answers)
        counts.append(len(annotator.said))
        scores.append(float((model(data.test_vectors).argmax(axis=1) == data.test_labels).mean()))
        probabilities = model(data.vectors)
    print(f"{name:17s} seed {seed}: {' '.join(f'{score:.3f}' for score in scores[::3])}, {time.perf_counter() - began:.0f} s", flush=True)
    return counts, scores


def trained(data: Data, rows: np.ndarray, labels: np.ndarray):
    """The model: a function from vectors to probabilities float64 (texts, kinds)."""
    from sklearn.linear_model import LogisticRegression

    seen = np.unique(labels)
    if len(seen) == 1:
        return lambda vectors: np.tile(np.eye(data.kinds)[seen[0]], (len(vectors), 1))
    # Weighted by class and C = 10: the best of four C, with and without, for 1,000 labels drawn by chance, on a part of the training texts.
    model = LogisticRegression(C=10, max_iter=300, class_weight="balanced").fit(data.vectors[rows], labels)

    def probabilities(vectors: np.ndarray) -> np.ndarray:
        made = np.zeros((len(vectors), data.kinds))
        made[:, model.classes_] = model.predict_proba(vectors)
        return made
    return probabilities


def compare(curves: dict, most: int) -> tuple[float, dict]:
    """The share saved by the strategy that counts, and for each what it needs, with intervals over the seeds."""
    from labkit.labeling import cost

    target = float(np.mean([scores[-1] for _, scores in curves["random"]]))
    reached = cost.to_reach(curves, target, 30.0)
    kept = {name: [labels_to_keep(*run, target) for run in runs] for name, runs in curves.items()}
    saved = {name: cost.over_runs(1 - np.minimum(found, most) / most) for name, found in kept.items()}
    rows = {row.strategy: {"labels_first": None if row.labels.value is None else round(row.labels.value), "runs_reaching": row.runs,
                           "labels_kept": [None if found == float("inf") else round(found) for found in kept[row.strategy]],
                           "saved": rounded(asdict(saved[row.strategy])),
                           "accuracy_at_the_end": rounded(asdict(cost.over_runs([run[1][-1] for run in curves[row.strategy]])))}
            for row in reached}
    for name, row in rows.items():
        print(f"{name:17s} first there after {row['labels_first']} labels, stays after {row['labels_kept']}")
    return saved[COUNTS].value, {"target_accuracy": round(target, 4), "strategies": rows}


def labels_to_keep(labels: list[int], scores: list[float], target: float) -> float:
    """As `cost.labels_to`, but from where on the curve never falls below the target again."""
    from labkit.labeling import cost

    below = [place for place, score in enumerate(scores) if score < target]
    first = below[-1] if below else 0
    return cost.labels_to(labels[first:], scores[first:], target)


def forecasts(curves: dict, batch: int) -> dict:
    """How often the band of the learning curve held what the next 200 labels really bought, asked at every strategy's half way."""
    from labkit.labeling import learning_curve

    held = []
    for runs in curves.values():
        for counts, scores in runs:
            half, step = len(counts) // 2, max(1, min(200 // batch, len(counts) // 4))
            if len(set(counts[:half])) >= learning_curve.FEWEST:
                gain = learning_curve.forecast(counts[:half], scores[:half], counts[half - 1 + step] - counts[half - 1]).gain
                held.append((gain.low <= scores[half - 1 + step] - scores[half - 1] <= gain.high,
                             abs(gain.value - scores[half - 1 + step] + scores[half - 1])))
    if not held:
        return {"asked": 0}
    return {"asked": len(held), "in_band": round(float(np.mean([hit for hit, _ in held])), 3),
            "points_off": round(100 * float(np.mean([off for _, off in held])), 2)}


def flipped_found(data: Data, seed: int, *, similar: bool) -> float:
    """The share of changed labels among the first 8% of the ranking; `similar` changes a label to one of the three most similar ones."""
    from labkit.labeling.quality import errors

    began = time.perf_counter()
    generator = np.random.default_rng([seed, 5])
    rows = generator.choice(len(data.texts), round(FLIPPED * len(data.texts)), replace=False)
    given = data.labels.copy()
    if similar:
        middles = np.stack([data.vectors[data.labels == kind].mean(axis=0) for kind in range(data.kinds)])
        middles /= np.linalg.norm(middles, axis=1, keepdims=True)
        near = np.argsort(-(middles @ middles.T), axis=1)[:, 1:4]  # the most similar one is the label itself
        given[rows] = near[given[rows], generator.integers(0, near.shape[1], len(rows))]
    else:
        given[rows] = (given[rows] + generator.integers(1, data.kinds, len(rows))) % data.kinds
    probabilities = errors.out_of_sample(data.texts, given.tolist(), vectors=data.vectors, seed=seed)
    ranking = [suspect.row for suspect in errors.ranked(given.tolist(), probabilities)]
    found = float(np.isin(rows, ranking[:round(LOOKED_AT * len(data.texts))]).mean())
    print(f"flipped {'to a similar label' if similar else 'by chance'}, seed {seed}: {found:.3f} found, "
          f"{time.perf_counter() - began:.0f} s", flush=True)
    return found


def rounded(value):
    """Numbers to four digits behind the point, in whatever holds them."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

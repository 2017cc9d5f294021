"""How well the embedded encoder tells 77 intents apart: fine-tuned on all data, and on ten examples an intent.

    .venv/bin/python benchmarks/banking77.py [--quick] [--held-out] [--parts full ten_shot] [--set full.learning_rate=1e-4 …]

Banking77 (`../shared/data`; where it is absent the lab's English samples, which is said in the output). Settings are chosen on
training texts alone: `--held-out` measures on training texts that were held out, with other draws of the ten examples (seeds from
100), and does not open the test file. Those of the ten-shot sides were chosen so, on one draw (seed 100 of a trial's own drawing, 3,000
held-out texts: frozen 0.840, cross-entropy 0.846, contrastive 0.852 alone and 0.858 beside the base); those for all data are a first guess.

Full: every training text. Ten-shot: ten examples an intent, drawn by seed, and the intents' names as 77 further texts; on the
same draws a model is fine-tuned by cross-entropy, and one by supervised contrastive learning (Khosla et al. 2020,
https://arxiv.org/abs/2004.11362). The head of the second is logistic regression (as in SetFit, Tunstall et al. 2022,
https://arxiv.org/abs/2209.11055) on the tuned embedding and the untuned one side by side, together with the nearest examples token by token
(`labkit.training.nearest`, rare tokens counting more): the sum of both sides' log probabilities, the second's times 0.7. What
cross-entropy's encoder comes to with these same heads stands in `detail`, and logistic regression on the encoder as it comes.

Claims, the last line's JSON:
    full_accuracy                      share of the test texts named right after training on all data; the seconds stand in `detail`
    ten_shot_contrastive               the same with ten examples an intent, contrastive, mean over the draws
    ten_shot_gain_over_cross_entropy   that less cross-entropy's on the same draws
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import intents
from intents import Pairs

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHOTS, DRAWS_TO_CHOOSE_BY = 10, 100
HELD_OUT_FULL, HELD_OUT_TEN = 1000, 3000  # training texts that are held out where settings are chosen
NEAREST_COUNTS = 0.7  # the nearest examples' log probabilities beside logistic regression's
OWN, BESIDE, NEAREST = "own head", "beside the base", "beside the base and nearest"

# Settings of `labkit.training.recipe.Recipe` beside those of `labkit.training.presets` for classification. The word embeddings stay as they
# are: they are half of the weights, and few of their rows are in the texts.
ALL_LAYERS = {"method": "freeze", "layers": 6, "dropout": 0.1, "max_tokens": 96, "checkpoint_steps": 10**6}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {**ALL_LAYERS, "objective": "supervised_contrastive", "contrastive_weight": 1.0, "temperature": 0.1, "learning_rate": 2e-4,
             "head_rate": 10.0, "epochs": 8, "batch_size": 128},
    "cross_entropy": {**ALL_LAYERS, "learning_rate": 5e-5, "head_rate": 100.0, "token_drop": 0.15, "epochs": 30, "batch_size": 212},
    "contrastive": {**ALL_LAYERS, "objective": "supervised_contrastive", "temperature": 0.1, "learning_rate": 5e-5, "token_drop": 0.25,
                    "epochs": 30, "batch_size": 212},
}


@dataclass(frozen=True)
class Source:
    """Texts with their intents; `test` is None where settings are chosen, so that it cannot be looked at."""

    train: Pairs
    test: Pairs | None
    name: str

    @property
    def intents(self) -> list[str]:
        return sorted({intent for _, intent in self.train})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute: few intents and texts, two epochs")
    arguments.add_argument("--held-out", action="store_true", help="measure on held-out training texts, to choose settings by")
    arguments.add_argument("--parts", nargs="+", choices=("full", "ten_shot"), default=["ten_shot", "full"])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="draws of the ten examples")
    arguments.add_argument("--set", nargs="*", default=[], metavar="WHICH.SETTING=VALUE", help=f"try other settings: {', '.join(SETTINGS)}")
    options = arguments.parse_args()
    settings = changed(SETTINGS, options.set)
    from labkit import process

    process.prepare()
    with tempfile.TemporaryDirectory() as work:
        os.environ["LABKIT_RUNS"] = work
        began = time.perf_counter()
        source = read(options.quick, options.held_out)
        print(f"{source.name}: {len(source.train)} training texts, {len(source.intents)} intents", flush=True)
        seeds = options.seeds[:1] if options.quick else options.seeds
        detail: dict[str, Any] = {"source": source.name, "intents": len(source.intents),
                                  "measured_on": "held-out training texts" if options.held_out else "test"}
        claims = {}
        if "ten_shot" in options.parts:
            found = ten_shot(source, seeds, settings, options.quick)
            claims |= found.pop("claims")
            detail["ten_shot"] = found
        if "full" in options.parts:
            detail["full"] = full(source, settings["full"], options.quick)
            claims["full_accuracy"] = detail["full"]["accuracy"]
        detail |= {"settings": settings, "seconds": round(time.perf_counter() - began)}
    print(json.dumps({"claims": claims, "detail": detail}))


def changed(settings: dict[str, dict[str, Any]], changes: list[str]) -> dict[str, dict[str, Any]]:
    """The settings with some of them replaced: `contrastive.temperature=0.2`."""
    settings = {which: dict(own) for which, own in settings.items()}
    for change in changes:
        place, _, value = change.partition("=")
        which, _, name = place.partition(".")
        try:
            settings[which][name] = json.loads(value)
        except KeyError:
            raise SystemExit(f"--set {change}: there is no {which!r}, only {', '.join(settings)}") from None
        except ValueError:
            settings[which][name] = value
    return settings


def read(quick: bool, held_out: bool) -> Source:
    """The texts; where settings are chosen the test ones are not kept."""
    train, test, name = intents.read()
    if quick:
        train, test = intents.few(train, test, 8, (240, 120))
    return Source(train, None if held_out else test, name)


def ten_shot(source: Source, seeds: list[int], settings: dict[str, dict[str, Any]], quick: bool) -> dict[str, Any]:
    """Accuracy by draw of the frozen encoder, of cross-entropy, and of contrastive training, each with both heads."""
    import numpy as np

    found: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {"cross_entropy": [], "contrastive": []}
    for seed in seeds:
        train, rest = drawn(source, seed if source.test is not None else seed + DRAWS_TO_CHOOSE_BY)
        train += [(intent.replace("_", " ").strip("? "), intent) for intent in source.intents]
        test = rest if source.test is None else source.test
        scores = {"frozen": accuracy(frozen(train, test), test)}
        for which, took in seconds.items():
            said, spent = trained(f"{which}-{seed}", train, test, source.intents, settings[which], seed, quick, with_nearest=True)
            scores |= {f"{which}, {head}": accuracy(answers, test) for head, answers in said.items()}
            took.append(spent)
        for name, value in scores.items():
            found.setdefault(name, []).append(value)
        print(f"ten-shot, draw {seed}: " + "; ".join(f"{name} {value:.4f}" for name, value in scores.items())
              + f"; seconds {' and '.join(f'{took[-1]:.0f}' for took in seconds.values())}", flush=True)
    mean = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    reached = mean[f"contrastive, {NEAREST}"]
    return {"claims": {"ten_shot_contrastive": reached,
                       "ten_shot_gain_over_cross_entropy": round(reached - mean[f"cross_entropy, {OWN}"], 4)},
            "mean": mean, "by_draw": {name: [round(value, 4) for value in values] for name, values in found.items()},
            "training_seconds": {name: [round(value) for value in values] for name, values in seconds.items()}}


def full(source: Source, settings: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Accuracy after training on every training text (but the held-out ones where settings are chosen)."""
    train, test = source.train, source.test
    if test is None:
        order = list(train)
        random.Random(0).shuffle(order)
        count = min(HELD_OUT_FULL, len(order) // 4)
        train, test = order[count:], order[:count]
    said, took = trained("full", train, test, source.intents, settings, 0, quick)
    found = {"accuracy": round(accuracy(said[BESIDE], test), 4), "own_head": round(accuracy(said[OWN], test), 4),
             "frozen": round(accuracy(frozen(train, test), test), 4), "training_seconds": round(took), "training_texts": len(train)}
    print(f"full: {found}", flush=True)
    return found


def drawn(source: Source, seed: int) -> tuple[Pairs, Pairs]:
    """Ten examples of each intent, and of the other training texts those that settings are chosen by."""
    draw = random.Random(seed)
    order = list(source.train)
    draw.shuffle(order)
    count: dict[str, int] = {}
    train, rest = [], []
    for text, intent in order:
        count[intent] = count.get(intent, 0) + 1
        (train if count[intent] <= SHOTS else rest).append((text, intent))
    return train, rest[:HELD_OUT_TEN]


def trained(name: str, train: Pairs, test: Pairs, labels: list[str], settings: dict[str, Any], seed: int, quick: bool,
            with_nearest: bool = False) -> tuple[dict[str, list[str]], float]:
    """What a run with these settings says of the test texts, by its own head, by logistic regression on its embedding beside the base's,
    and by that together with the nearest examples; and the seconds of training: loading, fitting heads and saving included."""
    import numpy as np
    from datasets import Dataset

    from labkit.training import nearest, predictor, presets, trainer
    from labkit.training.tasks.formats import TaskData

    rows = Dataset.from_dict({"text": [text for text, _ in train], "label": [labels.index(intent) for _, intent in train]})
    data = TaskData("banking77", "classify", {"train": rows}, tuple(labels), ("accuracy",), "PolyAI", "CC-BY-4.0")
    recipe = presets.of_data(data, **{"name": name, "seed": seed, **settings, **({"epochs": 2} if quick else {})})
    began = time.perf_counter()
    tuned = predictor.load(trainer.train_task(recipe, data))
    texts = [text for text, _ in train + test]
    vectors = np.concatenate([unit(each.embed(texts)) for each in (tuned, predictor.untrained(tuned))], axis=1)
    fitted = regression(vectors, train)
    said = {BESIDE: fitted.predict(vectors[len(train):]).tolist()}
    if with_nearest:
        states, numbers = tuned.tokens(texts)
        examples = nearest.of(states[:len(train)], [intent for _, intent in train], numbers[:len(train)])
        near = nearest.log_probabilities(examples, states[len(train):], numbers[len(train):])
        both = fitted.predict_log_proba(vectors[len(train):]) + NEAREST_COUNTS * near
        said[NEAREST] = [examples.names[place] for place in both.argmax(1)]
    took = time.perf_counter() - began
    return {OWN: [each["label"]["value"] for each in tuned.predict(texts[len(train):])], **said}, took


def frozen(train: Pairs, test: Pairs) -> list[str]:
    """What logistic regression on the encoder as it comes says of the test texts."""
    from labkit.data import duplicates

    vectors = duplicates.embed([text for text, _ in train + test])
    return regression(vectors, train).predict(vectors[len(train):]).tolist()


def regression(vectors: "np.ndarray", train: Pairs):
    """Logistic regression, fitted on the first rows; its classes are sorted."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10, max_iter=1000).fit(vectors[:len(train)], [intent for _, intent in train])


def unit(vectors: "np.ndarray") -> "np.ndarray":
    """Rows of length 1."""
    import numpy as np

    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def accuracy(said: list[str], test: Pairs) -> float:
    return sum(word == intent for word, (_, intent) in zip(said, test, strict=True)) / len(test)


if __name__ == "__main__":
    main()

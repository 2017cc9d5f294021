"""How good a run on a task's own data is, on a split that it has not learned from: with intervals, beside what needs no training.

`evaluate` writes `evaluation.json`, `predictions.jsonl` and the model card `README.md` into the run's folder. A scenario's runs are
evaluated by `report`.
"""

import dataclasses
import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit import files, models, runs
from labkit.errors import LabError
from labkit.evaluation import metrics, task_metrics
from labkit.runs import Run
from labkit.scenarios import LANGUAGES
from labkit.training import predictor
from labkit.training import recipe as recipes
from labkit.training.tasks import alignment, of_data
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.task import Judged

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]

_SLOW = 300  # draws for measures that must be computed anew for each: a correlation, BLEU, a macro mean
_BY_ROW = ("exact_match", "f1", "rouge_1", "rouge_2", "rouge_l", "meteor")  # of chats: means over rows
_BY_LABEL = ("f1", "precision", "recall")  # with macro_, micro_ and weighted_ before them, or of label 1
_COUNTED = ("entity_f1", "entity_precision", "entity_recall", "accuracy")  # of tags: ratios of sums over rows
_MORE = {"classify": ("accuracy", "macro_f1"), "regress": ("mean_absolute_error",), "embed": ("recall_at_5",)}


def evaluate(run: Run, data: TaskData, split: str = "test") -> Row:
    """Measure a finished run on a split and write what was found into its folder.

    Raises:
        LabError: the run is not finished, damaged or not on this data; its base is another one now; the split is not there or without
            answers.
    """
    found, predictions = measure(run, data, split)
    with files.whole(run.folder / "predictions.jsonl") as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions), encoding="utf-8")
    files.write_text(run.folder / "README.md", card(run, found))
    files.write_json(run.folder / "evaluation.json", found)  # last, so that it stands for all three
    return found


def measure(run: Run, data: TaskData, split: str = "test") -> tuple[Row, list[Row]]:
    """What `evaluate` writes, without writing: the evaluation, and a row for each row of the split. Raises as `evaluate`."""
    manifest, recipe = run.manifest(), recipes.read(run.folder / "recipe.toml")
    if manifest["data"].get("name") != data.name:
        raise LabError(f"run {run.key} was trained on {manifest['data'].get('name', 'a scenario')}, not on {data.name}")
    began = time.perf_counter()
    if recipe.task == "chat":
        judged, other = _written(run, data, split)
        warnings = []
    else:
        ready = predictor.load(run)
        part = of_data.part(recipe, data, split, ready.tokenizer, ready.heads)
        judged, warnings = part.judge(ready.outputs(part.examples)), part.warnings
        other = part.judge(predictor.untrained(ready).outputs(part.examples)) if recipe.task == "embed" else _guessed(judged, data)
    if not judged.ids:
        raise LabError(f"{data.name}: the split {split!r} has nothing to measure")
    names = _names(recipe.task, judged, data)
    fingerprint, what = of_data.fingerprint(data), "base" if recipe.task in ("chat", "embed") else "most_frequent"
    found = {
        "format": 1,
        "kind": "task",
        "run": run.key,
        "task": recipe.task,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {"name": data.name, "split": split, "rows": len(data.splits[split]), "measured": len(judged.ids),
                 "fingerprint": fingerprint, "same_as_trained_on": fingerprint == manifest["data"]["fingerprint"]},
        "weights": {key: manifest[key] for key in ("base", "adapter", "model") if key in manifest},
        "precision": manifest["training"]["precision"],
        "seconds": round(time.perf_counter() - began, 2),
        "metrics": intervals(judged, names),
        "beside": None if other is None else {"what": what, "metrics": _values(other, names)},
        "warnings": warnings,
    }
    if judged.languages and len(set(judged.languages)) > 1:
        found["by_language"] = {language: intervals(_only(judged, language), names) for language in sorted(set(judged.languages))}
    return found, [{"id": identity, "right": right, "predicted": said}
                   for identity, right, said in zip(judged.ids, judged.truth, judged.predicted, strict=True)]


def summary(found: Row) -> str:
    """One line a metric, with its 95% interval, and what stands beside it."""
    beside = found["beside"] or {"what": "", "metrics": {}}
    lines = []
    for name, value in found["metrics"].items():
        other = beside["metrics"].get(name)
        lines.append(f"  {name:20s} {value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
                     + ("" if other is None else f"  ({beside['what'].replace('_', ' ')} {other:.3f})"))
    return "\n".join([*lines, *(f"  {warning}" for warning in found["warnings"])])


def _names(task: str, judged: Judged, data: TaskData) -> tuple[str, ...]:
    """The measures of a run: the data's own, unless its embeddings are measured where it is for something else."""
    if task != "embed" or data.task == "embed":
        return tuple(dict.fromkeys((*data.metrics, *_MORE.get(task, ()))))
    return ("spearman", "pearson") if judged.measure == "regress" else ("recall_at_1", *_MORE["embed"], "mean_reciprocal_rank")


def _values(judged: Judged, names: tuple[str, ...]) -> dict[str, float]:
    return {name: each["value"] for name, each in intervals(judged, names, resamples=1).items()}


def intervals(judged: Judged, names: tuple[str, ...], seed: int = 0, resamples: int = metrics.RESAMPLES) -> dict[str, dict[str, float]]:
    """Each measure with its 95% bootstrap interval, `{"value", "low", "high"}`; rows of a cluster are drawn together (see
    `metrics`). Measures that are no mean over rows are computed anew for 300 draws at most."""
    drawn = metrics._draws(judged.clusters, seed, resamples)
    found = {}
    for name in names:
        measure = _measure(judged, name)
        if measure is not None:
            found[name] = metrics._interval(measure, drawn)
        elif judged.measure != "ranks":
            values = [_of_rows(judged, name, weights) for weights in drawn[: 1 + _SLOW]]
            if values[0] is not None:
                found[name] = metrics._interval(lambda weights, values=values: _column(values), drawn)
    return found


def _measure(judged: Judged, name: str) -> metrics.Measure | None:
    """The measure as a function of how often each row was drawn, where it is a mean or a ratio of sums over rows."""
    import numpy as np

    rows = list(zip(judged.truth, judged.predicted, judged.languages or ["en"] * len(judged.ids), strict=True))
    if judged.measure == "ranks":
        ranks = np.array(judged.predicted, dtype=np.float64)
        if name == "mean_reciprocal_rank":
            return metrics._mean(1 / ranks)
        return metrics._mean(ranks <= int(name.rsplit("_", 1)[1])) if name.startswith("recall_at_") else None
    if judged.measure == "tag" and name in _COUNTED:
        return _counted(judged, name)
    if judged.measure == "span":
        known = np.array([bool(task_metrics.normalise_answer("".join(right), language)) for right, _, language in rows])
        one = task_metrics.exact_match if name == "exact_match" else task_metrics.answer_f1
        values = np.array([one(*row) for row in rows])
        if name in ("exact_match", "f1"):
            return metrics._mean(values)
        chosen = known if name == "has_answer_f1" else ~known
        return (lambda weights: (weights * chosen) @ values / np.maximum((weights * chosen).sum(1), 1e-12)) if chosen.any() else None
    if judged.measure == "chat" and name in _BY_ROW:
        return metrics._mean([task_metrics.score("chat", [right], [said], (name,), [language])[name] for right, said, language in rows])
    if judged.measure == "regress" and name in ("mean_absolute_error", "mean_squared_error"):
        gap = np.abs(np.array(judged.truth, dtype=np.float64) - np.array(judged.predicted, dtype=np.float64))
        return metrics._mean(gap if name == "mean_absolute_error" else gap**2)
    if judged.measure in ("classify", "multi_label"):
        return _labelled(judged, name)
    return None


def _labelled(judged: Judged, name: str) -> metrics.Measure | None:
    """Measures of labels, all draws at once, from how often each label was right, said and wanted (scikit-learn's, with 0 for a division by
    zero; macro means are over the labels that occur in the draw)."""
    import numpy as np

    several = judged.measure == "multi_label"
    sets = lambda values: [set(value) if several else {value} for value in values]  # noqa: E731
    truth, predicted = sets(judged.truth), sets(judged.predicted)
    if name in ("accuracy", "exact_match"):
        return metrics._mean([float(a == b) for a, b in zip(truth, predicted, strict=True)])
    labels = sorted(set().union(*truth, *predicted), key=str)
    matrix = lambda values: np.array([[label in value for label in labels] for value in values], dtype=np.float64)  # noqa: E731
    true, guessed = matrix(truth), matrix(predicted)  # (rows, labels)
    average, _, kind = name.rpartition("_")
    binary = not several and set(labels) <= {0, 1}
    if name != "matthews" and not (kind in _BY_LABEL and (average in ("macro", "micro", "weighted") or (not average and binary))):
        return None
    over = lambda above, below: np.divide(above, below, out=np.zeros_like(above), where=below > 0)  # noqa: E731

    def measure(weights: "np.ndarray") -> "np.ndarray":
        wanted, said, right = weights @ true, weights @ guessed, weights @ (true * guessed)  # (draws, labels)
        if name == "matthews":  # Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006
            rows = weights.sum(1)
            spread = np.sqrt((rows**2 - (said**2).sum(1)).clip(0) * (rows**2 - (wanted**2).sum(1)).clip(0))
            return over(right.sum(1) * rows - (said * wanted).sum(1), spread)
        if average == "micro":
            wanted, said, right = (each.sum(1, keepdims=True) for each in (wanted, said, right))
        values = over(*{"f1": (2 * right, wanted + said), "precision": (right, said), "recall": (right, wanted)}[kind])
        if not average:
            return values[:, labels.index(1)] if 1 in labels else np.zeros(len(weights))
        shares = wanted if average == "weighted" else ((wanted + said) > 0).astype(float)
        return over((values * shares).sum(1), shares.sum(1))

    return measure


def _counted(judged: Judged, name: str) -> metrics.Measure:
    import numpy as np

    counts = []
    for true, said in zip(judged.truth, judged.predicted, strict=True):
        real, guessed = set(alignment.spans(true)), set(alignment.spans(said))
        counts.append((len(real & guessed), len(guessed), len(real), sum(a == b for a, b in zip(true, said, strict=True)), len(true)))
    right, guessed, real, same, words = np.array(counts, dtype=np.float64).T
    above, below = {"entity_precision": (right, guessed), "entity_recall": (right, real), "entity_f1": (2 * right, guessed + real),
                    "accuracy": (same, words)}[name]
    return lambda weights: weights @ above / np.maximum(weights @ below, 1e-12)


def _of_rows(judged: Judged, name: str, weights: "np.ndarray") -> float | None:
    """A measure over the rows as often as they were drawn; None where the task has no such measure."""
    import numpy as np

    chosen = np.repeat(np.arange(len(weights)), weights.astype(int)).tolist()
    pick = lambda values: [values[row] for row in chosen]  # noqa: E731
    return task_metrics.score(judged.measure, pick(judged.truth), pick(judged.predicted), (name,),
                              pick(judged.languages) if judged.languages else None).get(name)


def _column(values: list[float]) -> "np.ndarray":
    import numpy as np

    return np.array(values, dtype=np.float64)


def _only(judged: Judged, language: str) -> Judged:
    rows = [row for row, value in enumerate(judged.languages) if value == language]
    pick = lambda values: [values[row] for row in rows]  # noqa: E731
    return dataclasses.replace(judged, ids=pick(judged.ids), truth=pick(judged.truth), predicted=pick(judged.predicted),
                               clusters=pick(judged.clusters), languages=pick(judged.languages))


def _guessed(judged: Judged, data: TaskData) -> Judged | None:
    """What the training split's most frequent label, set of labels, or mean would reach; None for tags and spans, where it is nothing."""
    if judged.measure not in ("classify", "multi_label", "regress"):
        return None
    seen = data.train["label"][:]
    if judged.measure == "regress":
        guess: Any = sum(seen) / len(seen)
    else:
        most = Counter(tuple(each) if isinstance(each, list) else each for each in seen).most_common(1)[0][0]
        guess = tuple(data.labels[each] for each in most) if judged.measure == "multi_label" else most
    return dataclasses.replace(judged, predicted=[guess] * len(judged.ids))


def _written(run: Run, data: TaskData, split: str) -> tuple[Judged, Judged]:
    """What the run and its base write for a split's chats."""
    from labkit.evaluation import predict
    from labkit.training.examples import chat_tokens
    from labkit.training.tasks import dialogues

    if split not in data.splits or not of_data.has_answers("chat", data.splits[split]):
        raise LabError(f"{data.name} has no split {split!r} with answers, only {', '.join(data.splits)}")
    problems = runs.verify(run)
    if problems:
        raise LabError(f"run {run.key} is damaged ({'; '.join(problems)}); train it anew")
    manifest = run.manifest()
    base = models.resolve(manifest["base"]["name"])
    if base.sha256 != manifest["base"]["sha256"]:
        raise LabError(f"run {run.key} was trained on another {base.name} than is here now; train it anew")
    from transformers import AutoTokenizer

    tokenizer, rows = AutoTokenizer.from_pretrained(base.folder), data.splits[split].to_list()
    prompts = [chat_tokens(tokenizer, row["messages"]) for row in rows]
    most = dialogues.limits(rows, tokenizer)
    ends = predict.end_tokens(base, tokenizer)
    made = []
    for model in (dialogues.load(run, base), predict.load(base, precision=dialogues.precision_of(run))):
        written = dialogues.write(model, prompts, [most[row["language"]] for row in rows], ends)
        said = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in written]
        made.append(Judged("chat", [row["id"] for row in rows], [row["answer"] for row in rows], said, [row["id"] for row in rows],
                           [row["language"] for row in rows]))
    return made[0], made[1]


_CARD = {
    "en": """
# {key}

{what} on `{data}`, task `{task}`, from the base `{base}`, trained with labkit {version}.

## Results

{count} rows of the split `{split}`. In brackets: 95% bootstrap intervals.

{table}

## Recipe

{recipe}

## Limits

Measured on this data alone: on other people's texts it will be less good. It has not been tested for bias.

Source: {sources}. Licence: {licenses}. Data fingerprint `{fingerprint}`; base sha256 `{sha256}`.
""",
    "zh": """
# {key}

{what}，数据 `{data}`，任务 `{task}`，基座 `{base}`，用 labkit {version} 训练。

## 结果

在 `{split}` 的 {count} 条上测得。括号内为 95% 自助法区间。

{table}

## 训练配方

{recipe}

## 局限

只在这份数据上测过：换成别人的文本，效果会差一些。没有做过偏见测试。

来源：{sources}。许可：{licenses}。数据指纹 `{fingerprint}`；基座 sha256 `{sha256}`。
""",
}
_WORDS = {"en": {"head": "| Measure | This run | {beside} |", "base": "Base", "most_frequent": "Most frequent answer",
                 "setting": "| Setting | Value |", "adapter": "An adapter", "model": "A model"},
          "zh": {"head": "| 指标 | 本次训练 | {beside} |", "base": "基座", "most_frequent": "最常见答案", "setting": "| 设置 | 值 |",
                 "adapter": "适配器", "model": "模型"}}


def card(run: Run, found: Row) -> str:
    """The run's model card, Markdown: English, then Chinese."""
    manifest, recipe = run.manifest(), recipes.read(run.folder / "recipe.toml")
    return "\n".join(_card_part(run, found, manifest, recipe, language) for language in LANGUAGES).lstrip()


def _card_part(run: Run, found: Row, manifest: Row, recipe: recipes.Recipe, language: str) -> str:
    words, beside = _WORDS[language], found["beside"]
    titles = task_metrics.METRICS[found["task"]]
    table = [words["head"].format(beside=words[beside["what"]] if beside else "–"), "|---|--:|--:|"]
    for name, each in found["metrics"].items():
        other = f"{beside['metrics'][name]:.3f}" if beside and name in beside["metrics"] else "–"
        title = titles[name].titles[language] if name in titles else name.replace("_", " ")
        table.append(f"| {title} | {each['value']:.3f} ({each['low']:.3f}–{each['high']:.3f}) | {other} |")
    settings = [words["setting"], "|---|---|", *(f"| {key} | {value} |" for key, value in recipes.plain(recipe).items())]
    return _CARD[language].format(
        key=run.key, what=words["adapter" if "adapter" in manifest else "model"], data=found["data"]["name"], task=found["task"],
        base=manifest["base"]["name"], version=manifest["versions"]["labkit"], split=found["data"]["split"],
        count=found["data"]["measured"], table="\n".join(table), recipe="\n".join(settings), sources=", ".join(manifest["data"]["sources"]),
        licenses=", ".join(manifest["data"]["licenses"]), fingerprint=found["data"]["fingerprint"], sha256=manifest["base"]["sha256"])

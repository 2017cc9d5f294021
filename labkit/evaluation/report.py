"""A run's evaluation: base, fine-tuned and TF-IDF on the test split, as files in the run's folder and as a model card.

`measure` computes; `evaluate` also writes `evaluation.json`, `predictions.jsonl` and `README.md`; `table` shows many runs in one
Markdown table. The base's answers are kept in the cache folder, so that a further run of the same base on the same records
does not ask the base again.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit import files, models, places, runs
from labkit import records as recs
from labkit.errors import LabError
from labkit.evaluation import baseline, metrics, predict
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.scenarios import LANGUAGES, Scenario
from labkit.training import recipe as recipes
from labkit.training.precision import best_precision

if TYPE_CHECKING:
    from datasets import Dataset

Progress = Callable[[str, int, int], None]  # (what is being asked: "base" or "fine-tuned", answers done, answers in all)
Row = dict[str, Any]

SIDES = ("base", "fine_tuned", "tfidf")
_MAIN = {"label": "accuracy", "number": "mean_absolute_error", "text": "rouge_l"}
_SHOWN = {
    "en": {"accuracy": "accuracy ↑", "macro_f1": "macro-F1 ↑", "mean_absolute_error": "mean absolute error ↓",
           "rouge_l": "ROUGE-L ↑", "parsed": "answers that parse ↑"},
    "zh": {"accuracy": "准确率 ↑", "macro_f1": "宏平均 F1 ↑", "mean_absolute_error": "平均绝对误差 ↓",
           "rouge_l": "ROUGE-L ↑", "parsed": "可解析的回答 ↑"},
}


def evaluate(run: Run, records: "Dataset | None" = None, progress: Progress | None = None) -> dict[str, Any]:
    """Measure a finished run on its test split and write what was found into its folder.

    Args:
        records: with splits: `test` is measured on, `train` is what TF-IDF learns from. By default `own_records(run)`.
        progress: called as answers are made; by default a tqdm bar where a person looks.

    Raises:
        LabError: the run is not finished or damaged, its base is another one now, or the records do not fit.
    """
    found, predictions = measure(run, records, progress)
    with files.whole(run.folder / "predictions.jsonl") as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions), encoding="utf-8")
    files.write_text(run.folder / "README.md", card(run, found))
    files.write_json(run.folder / "evaluation.json", found)  # last, so that it stands for all three
    return found


def measure(run: Run, records: "Dataset | None" = None, progress: Progress | None = None,
            cached: bool = True) -> tuple[dict[str, Any], list[Row]]:
    """What `evaluate` writes, without writing: the evaluation, and a row for each test record.

    With `cached=False` the base is asked anew. Raises as `evaluate`.
    """
    manifest = run.manifest()
    problems = runs.verify(run)
    if problems:
        raise LabError(f"run {run.key} is damaged ({'; '.join(problems)}); train it anew")
    base = models.resolve(manifest["base"]["name"])
    if base.sha256 != manifest["base"]["sha256"]:
        raise LabError(f"run {run.key} was trained on {base.name} {files.short(manifest['base']['sha256'])}, but "
                       f"{files.short(base.sha256)} is here now; train it anew")
    scenario = run.scenario
    records = own_records(run) if records is None else records
    test, train = recs.in_split(records, "test"), recs.in_split(records, "train")
    if not len(test):
        raise LabError(f"the records for run {run.key} have no test split; give some of them split = test")
    limits = predict.token_limits(test, scenario, base)
    adapter = run.weights_sha256()  # of what lies there: `verify` has compared
    with _Bars(progress) as report:
        answers: dict[str, list[Row]] = {}
        seconds: dict[str, float] = {}
        answers["base"], seconds["base"] = _base_answers(test, scenario, base, limits, report("base"), cached)
        began = time.perf_counter()
        answers["fine_tuned"] = predict.predict(test, scenario, base, run, report("fine-tuned"), limits)
        seconds["fine_tuned"] = time.perf_counter() - began
        began = time.perf_counter()
        if len(train) and scenario.label_fields:
            answers["tfidf"] = baseline.tfidf(train, test, scenario)
            seconds["tfidf"] = time.perf_counter() - began
    found = {
        "format": 1,
        "run": run.key,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": {"split": "test", "count": len(test), "fingerprint": recs.fingerprint(test),
                    **{language: test["language"].count(language) for language in LANGUAGES}},
        "adapter": adapter,
        "weights": {"base": {"name": base.name, "sha256": base.sha256},
                    "adapter": {"sha256": adapter}},
        "max_tokens": limits,
        "precision": best_precision(),
        "seconds": {side: round(value, 2) for side, value in seconds.items()},
        **{side: metrics.score(test, answers[side], scenario) for side in answers if side != "tfidf"},
        "tfidf": _labels_only(metrics.score(test, answers["tfidf"], scenario)) if "tfidf" in answers else None,
        "difference": metrics.compare(test, answers["base"], answers["fine_tuned"], scenario),
    }
    return found, [_prediction(record, row, answers) for row, record in enumerate(test)]


def own_records(run: Run) -> "Dataset":
    """The records a run was trained on: those kept in its folder, else the lab's samples of its scenario.

    Raises:
        LabError: they are not those of the manifest, so that their test split may have been trained on.
    """
    kept = run.folder / "records.jsonl"
    records = recs.read(kept, run.scenario) if kept.exists() else recs.samples(run.scenario)
    if recs.fingerprint(records) != run.manifest()["data"]["fingerprint"]:
        where = kept if kept.exists() else "the samples as they are now"
        raise LabError(f"run {run.key} was not trained on {where}, so the test split may have been seen; train it anew, "
                       "or give the records it was trained on")
    return records


def main_measures(evaluation: dict[str, Any]) -> dict[str, list[Row]]:
    """One measure a field (accuracy, mean absolute error or ROUGE-L) over all test records, for each side that has it:
    points `field`, `kind`, `measure`, `n`, `value`, `low`, `high`."""
    found: dict[str, list[Row]] = {}
    for side in SIDES:
        fields = evaluation[side]["overall"].get("fields", {}) if evaluation[side] else {}
        for name, entry in fields.items():
            measure = _MAIN[entry["kind"]]
            point = {"field": name, "kind": entry["kind"], "measure": measure, "n": entry["n"], **entry[measure]}
            found.setdefault(side, []).append(point)
    return found


def summary(run: Run) -> str:
    """A line a field for the terminal: base → fine-tuned, with TF-IDF where it has the field; LabError where not evaluated."""
    found = run.evaluation()
    if found is None:
        raise LabError(f"run {run.key} is not evaluated yet; run: labkit evaluate {run.key}")
    sides = {side: {point["field"]: point for point in points} for side, points in main_measures(found).items()}
    lines = []
    for name, tuned in sides.get("fine_tuned", {}).items():
        digits = 1 if tuned["kind"] == "number" else 2
        line = f"  {name:16s} {tuned['measure'].replace('_', ' '):20s} base {sides['base'][name]['value']:.{digits}f} → " \
               f"fine-tuned {tuned['value']:.{digits}f}"
        other = sides.get("tfidf", {}).get(name)
        lines.append(line + (f"  (TF-IDF {other['value']:.{digits}f})" if other else ""))
    parsed = [f"{found[side]['overall']['parsed']['value']:.2f}" for side in ("base", "fine_tuned")]
    lines.append(f"  {'all fields':16s} {'answers that parse':20s} base {parsed[0]} → fine-tuned {parsed[1]}")
    return "\n".join(lines)


def table(catalogue: Iterable[Run], language: str = "en") -> str:
    """A Markdown table of many runs: base, fine-tuned and TF-IDF for each field on the test split, with 95% intervals."""
    words = _WORDS[language]
    lines = [f"| {words['scenario']} {words['head']}", "|---|---|---|--:|--:|--:|--:|"]
    for run in catalogue:
        found, title = run.evaluation(), run.scenario.title[language]
        if found is None:
            lines.append(f"| {title} (`{run.key}`) | {words['missing']}: `labkit evaluate {run.key}` | | | | | |")
            continue
        for cells in _cells(found, run.scenario, language):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def card(run: Run, found: dict[str, Any]) -> str:
    """The run's model card, Markdown: English, then Chinese."""
    manifest, recipe = run.manifest(), recipes.read(run.folder / "recipe.toml")
    library, tags = ("peft", [_TAGS[recipe.method]]) if recipe.method in _TAGS else ("transformers", [])
    listed = "".join(f"- {tag}\n" for tag in [*tags, "text-generation"])
    head = f"---\nlibrary_name: {library}\nlanguage:\n- en\n- zh\ntags:\n{listed}---\n"
    return head + "\n".join(_card_part(run, found, manifest, recipe, language) for language in LANGUAGES)


_TAGS = {"lora": "lora", "rslora": "lora", "dora": "dora", "pissa": "lora", "ia3": "ia3", "prefix": "prefix-tuning",
         "prompt": "prompt-tuning"}
_WHAT = {  # what a method leaves, by method
    "en": {"full": "`{base}` with all its weights fine-tuned", "freeze": "`{base}` with its top layers fine-tuned",
           "lora": "A LoRA adapter for `{base}`", "rslora": "A rank-stabilised LoRA adapter for `{base}`",
           "dora": "A weight-decomposed LoRA (DoRA) adapter for `{base}`",
           "pissa": "A LoRA adapter for `{base}`, begun from its principal parts (PiSSA)",
           "ia3": "An IA3 adapter (learned scales) for `{base}`", "prefix": "A learned prefix for `{base}`",
           "prompt": "A learned prompt for `{base}`"},
    "zh": {"full": "`{base}` 的全参数微调模型", "freeze": "`{base}` 的顶部若干层微调模型",
           "lora": "基于 `{base}` 的 LoRA 适配器", "rslora": "基于 `{base}` 的秩稳定 LoRA(rsLoRA)适配器",
           "dora": "基于 `{base}` 的权重分解 LoRA(DoRA)适配器", "pissa": "基于 `{base}` 的 LoRA 适配器，从主成分开始训练(PiSSA)",
           "ia3": "基于 `{base}` 的 IA3 适配器(学得的缩放系数)", "prefix": "基于 `{base}` 学得的前缀(prefix tuning)",
           "prompt": "基于 `{base}` 学得的软提示(prompt tuning)"},
}
_CARD = {
    "en": """
# {title}: {key}

{description}

{what}, trained with labkit {version}. It answers in fixed fields: {fields}.

## Results

On {count} test records ({en} English, {zh} Chinese) whose situations no training record tells; greedy answers, the same
prompts and limits for base and fine-tuned. In brackets: 95% bootstrap intervals over situations. An unreadable label counts
as wrong, an unreadable text scores 0; for an unreadable number the middle of its range is taken, which favours the model
that fails to give one. TF-IDF is a logistic regression on words (English) or characters (Chinese), label fields only.

{table}

## Data

{data}

## Recipe

{recipe}

## Limits

{notice}

The data is small and written for a demonstration: scores on other people's texts will be lower. The model can state wrong
things fluently; it has not been tested for bias. Read its answers before you act on them.

## Hashes

{hashes}
""",
    "zh": """
# {title}：{key}

{description}

{what}，用 labkit {version} 训练。回答由固定字段组成：{fields}。

## 结果

在 {count} 条测试记录上测得(英文 {en} 条，中文 {zh} 条)，训练记录中没有相同的情形；贪心解码，基座与微调模型使用同样的提示和长度上限。
括号内是按情形重抽样的 95% 自助法区间。读不出的标签算错，读不出的文字记 0 分；读不出的数取值域中点，这对没给出数的模型有利。
TF-IDF 是基于词(英文)或字(中文)的逻辑回归，只用于标签字段。

{table}

## 数据

{data}

## 训练配方

{recipe}

## 局限

{notice}

数据量小，为演示而写：换成别人的文本，分数会更低。模型可能流畅地说错话，也没有做过偏见测试。采取行动之前请先自己阅读和判断。

## 哈希

{hashes}
""",
}
_WORDS = {
    "en": {"head": "| Field | Measure | n | Base | Fine-tuned | TF-IDF |", "setting": "| Setting | Value |", "file": "| What | sha256 |",
           "data": "{train} train, {validation} validation and {test} test records; sources: {sources}; licences: {licenses}.",
           "all": "all fields", "base": "base", "adapter": "adapter", "model": "model", "print": "data fingerprint", "joint": ", ",
           "scenario": "Scenario", "missing": "not evaluated yet"},
    "zh": {"head": "| 字段 | 指标 | n | 基座 | 微调 | TF-IDF |", "setting": "| 设置 | 值 |", "file": "| 对象 | sha256 |",
           "data": "训练 {train} 条，验证 {validation} 条，测试 {test} 条；来源：{sources}；许可：{licenses}。",
           "all": "全部字段", "base": "基座", "adapter": "适配器", "model": "模型", "print": "数据指纹", "joint": "、",
           "scenario": "场景", "missing": "尚未评估"},
}


def _card_part(run: Run, found: Row, manifest: Row, recipe: recipes.Recipe, language: str) -> str:
    scenario, words, data = run.scenario, _WORDS[language], manifest["data"]
    results = [words["head"], "|---|---|--:|--:|--:|--:|"]
    results += [f"| {' | '.join(cells)} |" for cells in _cells(found, scenario, language)]
    settings = [words["setting"], "|---|---|", *(f"| {key} | {value} |" for key, value in dataclasses.asdict(recipe).items())]
    hashes = [words["file"], "|---|---|", f"| {words['base']} | `{found['weights']['base']['sha256']}` |",
              f"| {words['adapter' if 'adapter' in manifest else 'model']} | `{found['weights']['adapter']['sha256']}` |",
              f"| {words['print']} | `{data['fingerprint']}` |"]
    listed = {key: ", ".join(data[key]) or "–" for key in ("sources", "licenses")}
    return _CARD[language].format(
        title=scenario.title[language], key=run.key, description=scenario.description[language],
        what=_WHAT[language][recipe.method].format(base=manifest["base"]["name"]),
        version=manifest["versions"]["labkit"], fields=words["joint"].join(field.title[language] for field in scenario.fields),
        count=found["records"]["count"], en=found["records"]["en"], zh=found["records"]["zh"], table="\n".join(results),
        data=words["data"].format(**{**data, **listed}), recipe="\n".join(settings), notice=scenario.notice[language],
        hashes="\n".join(hashes))


def _cells(found: Row, scenario: Scenario, language: str) -> list[list[str]]:
    """A row of cells for each measure: field, measure, n, then the sides."""
    overall = {side: found[side]["overall"] if found[side] else {"fields": {}} for side in SIDES}
    rows = []
    for name, entry in overall["fine_tuned"].get("fields", {}).items():
        for key in (key for key in entry if key in _SHOWN[language]):
            sides = [overall[side]["fields"].get(name, {}).get(key) for side in SIDES]
            rows.append([scenario.field(name).title[language], _SHOWN[language][key], str(entry["n"]), *_sides(key, sides)])
    parsed = [overall[side].get("parsed") for side in SIDES]
    rows.append([_WORDS[language]["all"], _SHOWN[language]["parsed"], str(found["records"]["count"]), *_sides("parsed", parsed)])
    return rows


def _sides(key: str, values: list[Row | None]) -> list[str]:
    """Base, fine-tuned and TF-IDF as text, the fine-tuned in bold where it is strictly better than the base."""
    digits = 1 if key == "mean_absolute_error" else 2
    texts = ["–" if value is None else f"{value['value']:.{digits}f} ({value['low']:.{digits}f}–{value['high']:.{digits}f})"
             for value in values]
    if metrics.is_better(key, values[1]["value"], values[0]["value"]):
        texts[1] = f"**{texts[1]}**"
    return texts


def _base_answers(test: "Dataset", scenario: Scenario, base: BaseModel, limits: dict[str, int], progress, cached: bool):
    """The base's predictions and the seconds they took when they were made."""
    import torch

    key = {"format": 1, "base": base.sha256, "records": recs.fingerprint(test), "limits": limits, "precision": best_precision(),
           "cuda": torch.cuda.is_available(), "torch": torch.__version__,
           "prompts": [scenario.system_prompt(language) for language in LANGUAGES]}
    path = places.cache_folder() / "predictions" / f"{hashlib.sha256(files.canonical_json(key).encode()).hexdigest()[:32]}.json"
    if cached and path.exists():
        kept = files.read_json(path)
        return [predict.read_answer(scenario, identity, text) for identity, text in kept["answers"]], kept["seconds"]
    began = time.perf_counter()
    rows = predict.predict(test, scenario, base, None, progress, limits)
    seconds = time.perf_counter() - began
    files.write_json(path, {"key": key, "seconds": seconds, "answers": [[row["id"], row["text"]] for row in rows]})
    return rows, seconds


def _labels_only(scores: Row) -> Row:
    """TF-IDF's scores without the fields it does not predict, and without the share of whole answers."""
    found = {}
    for part, entry in scores.items():
        labels = {name: value for name, value in entry.get("fields", {}).items() if value["kind"] == "label"}
        found[part] = {"records": entry["records"], "situations": entry["situations"], "fields": labels}
    return found


def _prediction(record: Row, row: int, answers: dict[str, list[Row]]) -> Row:
    sides = {side: {key: rows[row][key] for key in ("text", "answer", "complete")} for side, rows in answers.items()}
    if "tfidf" in sides:
        sides["tfidf"] = {"answer": sides["tfidf"]["answer"]}
    return {"id": record["id"], "language": record["language"], "reference": record["answer"], **sides}


class _Bars:
    """Turns (done, total) of one side after the other into the caller's progress, or into tqdm bars."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.bar = progress, None

    def __enter__(self) -> Callable[[str], predict.Progress]:
        return self._side

    def __exit__(self, *exception) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def _side(self, side: str) -> predict.Progress:
        self._close()

        def show(done: int, total: int) -> None:
            if self.progress:
                self.progress(side, done, total)
                return
            if self.bar is None:
                from tqdm.auto import tqdm

                self.bar = tqdm(total=total, desc=f"asking {side}", unit=" answers", disable=None)
            self.bar.update(done - self.bar.n)

        return show

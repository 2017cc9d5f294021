"""Explaining runs afterwards: what was set differently, and what came of it.

Reads what the runs' folders say and nothing else, so that unfinished and foreign runs can be compared too.
"""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.runs import Run
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import plotly.graph_objects as go

PARTS = ("recipe", "base", "data", "versions", "device")
_IDENTITY = ("scenario", "name")  # of a recipe: they name the run
_WORDS = {
    "en": {"part": "part", "setting": "setting", "default": "default", "recipe": "recipe", "base": "base", "data": "data",
           "versions": "versions", "device": "device", "differs": "What differs", "outcome": "What came of it",
           "measure": "measure", "same": "Nothing differs.", "state": "state", "steps": "steps", "loss": "training loss, last 20 steps",
           "validation_loss": "validation loss, last",
           "best_validation_loss": "validation loss, best", "at_step": "at step", "seconds": "training time (s)",
           "tokens_per_second": "tokens/s", "memory_gb": "memory, most (GB)",
           "gpu_memory_gb": "GPU memory, most (GB)", "test": "test {field}: {measure}",
           "validation": "validation {name}",
           "other_data": "The runs learned from different data: their losses are measured on different records and cannot be compared.",
           "other_base": "The runs have different bases: losses a token are comparable only where the tokenizers are the same.",
           "only_seed": "The runs differ in nothing but the seed: the spread of what came of it is noise.",
           "unfinished": "Not finished: {runs}."},
    "zh": {"part": "部分", "setting": "设置", "default": "默认值", "recipe": "配方", "base": "基础模型", "data": "数据", "versions": "版本",
           "device": "设备", "differs": "不同之处", "outcome": "结果", "measure": "指标", "same": "没有不同之处。",
           "state": "状态", "steps": "步数", "loss": "训练损失（最后 20 步）", "validation_loss": "验证损失（最后）",
           "best_validation_loss": "验证损失（最好）", "at_step": "所在步", "seconds": "训练时间（秒）",
           "tokens_per_second": "词元/秒", "memory_gb": "内存（最多，GB）", "gpu_memory_gb": "显存（最多，GB）",
           "test": "测试 {field}：{measure}", "validation": "验证 {name}",
           "other_data": "这些训练使用了不同的数据：损失是在不同记录上测得的，不能比较。",
           "other_base": "这些训练的基础模型不同：只有分词器相同时，每个词元的损失才可比较。",
           "only_seed": "这些训练只有种子不同：结果的差异就是噪声。",
           "unfinished": "尚未完成：{runs}。"},
}
_LAST = 20  # steps that the training loss is averaged over: a single one is mostly its batch's
_STATES = {"zh": {"done": "完成", "damaged": "损坏", "training": "训练中", "stopped": "已停止"}}


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all runs.

    Attributes:
        part: one of `PARTS`.
        name: the setting's name.
        default: the recipe's default; None for what has none.
        values: one for each run, None where a run does not say.
    """

    part: str
    name: str
    default: Any
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """One figure of all runs: `key` is what it is (a key of the captions, or `validation NAME`, or `test FIELD MEASURE`)."""

    key: str
    values: tuple[Any, ...]


def difference(found: Sequence[Run]) -> list[Difference]:
    """What is not the same in all of these runs: settings of the recipe in its order, then base, data, versions and device.

    Raises:
        LabError: fewer than two runs, or one without a recipe.
    """
    if len(found) < 2:
        raise LabError("comparing needs at least two runs")
    read = [recipes.read(run.folder / "recipe.toml") for run in found]
    unset = {field.name: field.default for field in dataclasses.fields(Recipe) if field.name not in _IDENTITY}
    rows = [("recipe", name, default, tuple(getattr(each, name) for each in read)) for name, default in unset.items()]
    made = [_made_of(run) for run in found]
    for part in PARTS[1:]:
        names = dict.fromkeys(name for each in made for name in each[part])  # in their order
        rows += [(part, name, None, tuple(each[part].get(name) for each in made)) for name in names]
    return [Difference(*row) for row in rows if _differs(row[3])]


def outcome(found: Sequence[Run]) -> list[Outcome]:
    """What came of the runs: state, losses, last validation measures, seconds, tokens a second, memory, and the evaluation's measures."""
    columns = [_outcome_of(run) for run in found]
    keys = dict.fromkeys(key for column in columns for key in column)
    ordered = [key for key in keys if not key.startswith("test ")] + [key for key in keys if key.startswith("test ")]
    return [Outcome(key, tuple(column.get(key) for column in columns)) for key in ordered]


def notes(found: Sequence[Run], language: str = "en") -> list[str]:
    """What must be known to read the comparison, a sentence each."""
    words, rows = _words(language), difference(found)
    said = []
    if any(row.part == "data" and row.name == "fingerprint" for row in rows):
        said.append(words["other_data"])
    if any(row.part == "base" and row.name == "sha256" for row in rows):
        said.append(words["other_base"])
    if rows and {(row.part, row.name) for row in rows} == {("recipe", "seed")}:
        said.append(words["only_seed"])
    unfinished = [run.key for run in found if not (run.folder / "manifest.json").exists()]
    if unfinished:
        said.append(words["unfinished"].format(runs=", ".join(unfinished)))
    return said


def curves(found: Sequence[Run], measure: str = "loss", x: str = "step") -> dict[str, tuple[list[float], list[float]]]:
    """A figure of metrics.jsonl for each run that has it, by the run's key: (xs, ys).

    Args:
        measure: a figure of the rows, or `validation/NAME`.
        x: `step`, `seconds` or `tokens` (all that were seen so far): what is fair depends on the question.
    """
    if x not in ("step", "seconds", "tokens"):
        raise LabError(f"curves go over step, seconds or tokens, not {x!r}")
    drawn = {}
    for run in found:
        xs, ys, tokens = [], [], 0
        for row in run.metrics():
            tokens += row.get("tokens", 0)
            kind, _, name = measure.partition("/")
            value = (row.get(kind) or {}).get(name) if name else row.get(measure)
            if value is not None:
                xs.append(tokens if x == "tokens" else row[x])
                ys.append(value)
        if xs:
            drawn[run.key] = xs, ys
    return drawn


def figure(found: Sequence[Run], measure: str = "loss", language: str = "en", seconds: bool = False) -> "go.Figure":
    """The curves laid over each other, smoothed."""
    from labkit import plots_training

    return plots_training.curves({run.key: run.metrics() for run in found}, measure, language=language, seconds=seconds)


def as_text(found: Sequence[Run], language: str = "en") -> str:
    """The comparison for a terminal."""
    from tabulate import tabulate

    parts = [f"{title}\n\n{tabulate(rows, heads, disable_numparse=True) if rows else empty}"
             for title, heads, rows, empty in _tables(found, language)]
    return "\n\n".join([*parts, *notes(found, language)])


def as_markdown(found: Sequence[Run], language: str = "en") -> str:
    """The comparison as Markdown."""
    parts = []
    for title, heads, rows, empty in _tables(found, language):
        lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"### {title}\n\n{table if rows else empty}")
    return "\n\n".join([*parts, *notes(found, language)]) + "\n"


def as_html(found: Sequence[Run], language: str = "en") -> str:
    """The comparison as a piece of HTML; everything is escaped."""
    parts = []
    for title, heads, rows, empty in _tables(found, language):
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        table = f"<table><tr>{head}</tr>{body}</table>" if rows else f"<p>{html.escape(empty)}</p>"
        parts.append(f"<h4>{html.escape(title)}</h4>{table}")
    return "".join([*parts, *(f"<p>{html.escape(each)}</p>" for each in notes(found, language))])


def _tables(found: Sequence[Run], language: str) -> list[tuple[str, list[str], list[list[str]], str]]:
    """Of differences and outcomes: (title, heads, rows, what is said where there are none)."""
    words, keys = _words(language), [run.key for run in found]
    differing = [[words[row.part], row.name, "" if row.default is None else _shown(row.default), *(_shown(value) for value in row.values)]
                 for row in difference(found)]
    states = _STATES.get(language, {})
    outcomes = [[_title(row.key, words), *(states.get(shown, shown) for shown in map(_shown, row.values))] for row in outcome(found)]
    return [(words["differs"], [words["part"], words["setting"], words["default"], *keys], differing, words["same"]),
            (words["outcome"], [words["measure"], *keys], outcomes, words["same"])]


def _differs(values: Sequence[Any]) -> bool:
    """Whether those that say anything (an unfinished run says little) say different things."""
    said = [value for value in values if value is not None]
    return any(value != said[0] for value in said)


def _made_of(run: Run) -> dict[str, dict[str, Any]]:
    """Base, data, versions and device of a run; of an unfinished one, what it wrote when it began."""
    if (run.folder / "manifest.json").exists():
        manifest = run.manifest()
        training = manifest.get("training", {})
        return {"base": {"name": manifest["base"]["name"], "sha256": files.short(manifest["base"]["sha256"])},
                "data": {**_flat(manifest["data"]), "fingerprint": files.short(manifest["data"]["fingerprint"])},
                "versions": manifest.get("versions", {}),
                "device": {name: training[name] for name in ("precision", "device") if name in training}}
    begun = files.read_json(run.folder / "begun.json") if (run.folder / "begun.json").exists() else {}
    return {"base": {"sha256": files.short(begun["base"])} if "base" in begun else {},
            "data": {"fingerprint": files.short(begun["data"])} if "data" in begun else {}, "versions": {}, "device": {}}


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of the manifest's data; of long lists, how many."""
    return {name: len(value) if isinstance(value, list) and name.startswith("left_out") else value for name, value in data.items()}


def _outcome_of(run: Run) -> dict[str, Any]:
    rows, found = run.metrics(), {"state": run.state()}
    if rows:
        last = rows[-_LAST:]
        found |= {"steps": rows[-1]["step"], "loss": sum(row["loss"] for row in last) / len(last)}
        measured = [row for row in rows if row.get("validation_loss") is not None]
        if measured:
            best = min(measured, key=lambda row: row["validation_loss"])
            found |= {"validation_loss": measured[-1]["validation_loss"], "best_validation_loss": best["validation_loss"],
                      "at_step": best["step"]}
        validation = next((row["validation"] for row in reversed(rows) if row.get("validation")), {})
        found |= {f"validation {name}": value for name, value in validation.items() if isinstance(value, int | float)}
        seconds = rows[-1]["seconds"]
        found |= {"seconds": seconds, "tokens_per_second": sum(row.get("tokens", 0) for row in rows) / seconds if seconds else None}
        found |= {name: max(row[name] for row in rows if name in row) for name in ("memory_gb", "gpu_memory_gb")
                  if any(name in row for row in rows)}
    for field, entry in _tested(run).items():
        found |= {f"test {field} {name}": value for name, value in entry.items() if isinstance(value, dict) and "value" in value}
    return found


def _tested(run: Run) -> dict[str, dict[str, Any]]:
    """The evaluation of the fine-tuned model, by field."""
    side = (run.evaluation() or {}).get("fine_tuned") or {}
    return side.get("overall", {}).get("fields", {})


def _title(key: str, words: dict[str, str]) -> str:
    kind, _, name = key.partition(" ")
    if kind == "validation" and name:
        return words["validation"].format(name=name)
    if kind == "test" and name:
        field, _, measure = name.rpartition(" ")
        return words["test"].format(field=field, measure=measure.replace("_", " "))
    return words[key]


def _shown(value: Any) -> str:
    """A value for people: an interval where there is one, `–` where there is none."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        interval = f" ({value['low']:.4g} – {value['high']:.4g})" if value.get("low") is not None else ""
        return f"{value['value']:.4g}{interval}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "()"
    return str(value)


def _words(language: str) -> dict[str, str]:
    if language not in _WORDS:
        raise LabError(f"language must be one of {', '.join(_WORDS)}, not {language!r}")
    return _WORDS[language]

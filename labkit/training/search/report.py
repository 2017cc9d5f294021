"""The report of a search: JSON, one page that needs no network, a summary in Markdown, and the best settings as a recipe."""

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit import files
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.search import noise as noises
from labkit.training.search.importance import importance
from labkit.training.search.space import apply
from labkit.training.search.workers import Found

Report = dict[str, Any]

_PACKAGES = ("labkit", "optuna", "torch", "transformers", "peft", "scikit-learn")


def build(found: Found, recipe: Recipe, *, noise: noises.Noise | None = None, language: str = "en", seed: int = 0) -> Report:
    """The report as plain JSON values.

    Args:
        noise: as `noise.repeat` gives it; None where seeds were not repeated.
        language: `en` or `zh`, in which the page opens; it has both.
    """
    best = found.best
    states = ("complete", "pruned", "failed", "lost", "running", "waiting")
    trials = [row for row in found.rows if row["state"] != "twice"]
    return {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "language": language,
        "scenario": recipe.scenario,
        "monitor": recipe.monitor,
        "direction": found.direction,
        "recipe": recipes.plain(recipe),
        "space": found.space.plain(),
        "default": found.space.default(),
        "best": best,
        "tuned": recipes.plain(tuned(found, recipe)) if best else None,
        "counts": {state: found.count(state) for state in states},
        "seconds": sum(row["seconds"] or 0.0 for row in trials),
        "trials": trials,
        "importance": importance(found.rows, found.space, found.direction, seed),
        "noise": noise,
        "versions": _versions(),
    }


def tuned(found: Found, recipe: Recipe) -> Recipe:
    """The recipe with the best settings, named `NAME-tuned`. A search without a whole trial has none."""
    return apply(recipe, found.best["settings"], name=f"{recipe.name}-tuned")


def write(report: Report, folder: str | Path) -> dict[str, Path]:
    """`report.json`, `report.html`, `report.md` and, where a trial was whole, `best.toml`; gives their paths by those names."""
    from labkit.training.search import page

    folder = Path(folder)
    paths = {name: folder / name for name in ("report.json", "report.html", "report.md")}
    files.write_json(paths["report.json"], report)
    files.write_text(paths["report.html"], page.render(report))
    files.write_text(paths["report.md"], markdown(report))
    if report["tuned"]:
        paths["best.toml"] = folder / "best.toml"
        recipes.write(recipes.from_dict(report["tuned"]), paths["best.toml"])
    return paths


def sentence(report: Report, language: str = "en") -> str:
    """What the search came to, in a sentence or two."""
    counts, best, number = report["counts"], report["best"], lambda value: f"{value:.4g}"  # noqa: E731
    ran = counts["complete"] + counts["pruned"] + counts["failed"]
    default = next((row["value"] for row in report["trials"] if row["state"] == "complete" and row["settings"] == report["default"]), None)
    if language == "zh":
        said = f"共试 {ran} 组设置：{counts['complete']} 次完整，{counts['pruned']} 次被剪枝，{counts['failed']} 次失败。"
        if best is None:
            return said + "没有一次完整的试验。"
        said += f"最佳为第 {best['number']} 次：{report['monitor']} = {number(best['value'])}"
        return said + (f"，原配方为 {number(default)}。" if default is not None else "。")
    said = f"{ran} settings were tried: {counts['complete']} whole, {counts['pruned']} pruned, {counts['failed']} failed."
    if best is None:
        return f"{said} None was whole."
    said += f" The best is trial {best['number']} with {report['monitor']} = {number(best['value'])}"
    return said + (f"; the recipe's own settings gave {number(default)}." if default is not None else ".")


def how_sure(report: Report, language: str = "en") -> str:
    """How much of the gain is noise, or why nobody knows."""
    if report["noise"]:
        return noises.sentence(report["noise"], language)
    if report["best"] is not None and report["best"]["settings"] == report["default"]:
        return {"en": "Nothing that was tried is better than the recipe's own settings.", "zh": "所试设置均不优于原配方。"}[language]
    return {"en": "Seeds were not repeated, so nobody knows how much of the gain is luck: the best of many trials always looks better "
                  "than it is.",
            "zh": "未重复种子，增益中有多少是运气无从得知：多次试验中最好的一次总会显得比实际更好。"}[language]


def markdown(report: Report) -> str:
    """The summary, English and then Chinese."""
    lines = [f"# Search: {report['scenario']}/{report['recipe']['name']}", "", sentence(report), "", how_sure(report), "",
             sentence(report, "zh"), "", how_sure(report, "zh"), "", "| setting | recipe | best |", "|---|---|---|"]
    best = report["best"]["settings"] if report["best"] else {}
    lines += [f"| {name} | {show(report['default'][name])} | {show(best.get(name, '–'))} |" for name in report["space"]]
    if report["importance"]:
        lines += ["", "| setting | share of the variance | 90% range |", "|---|---|---|"]
        lines += [f"| {name} | {entry['share']:.2f} | {entry['low']:.2f} to {entry['high']:.2f} |"
                  for name, entry in report["importance"]["settings"].items()]
    lines += ["", f"| trial | state | {report['monitor']} | seconds | settings |", "|---|---|---|---|---|"]
    for row in report["trials"]:
        settings = ", ".join(f"{name} = {show(value)}" for name, value in row["parameters"].items())
        value, seconds = (f"{row[key]:.4g}" if row[key] is not None else "–" for key in ("value", "seconds"))
        said = row["error"].replace("|", "\\|")
        lines.append(f"| {row['number']} | {row['state']} | {value} | {seconds} | {settings}{'; ' + said if said else ''} |")
    return "\n".join(lines) + "\n"


def show(value: Any) -> str:
    """A setting's value as people read it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "–"
    return found

"""The report of a search as one HTML page, in the manner of `labkit.data.reporting.page`, whose style and script it shares: both languages,
light and dark, plotly.js inlined; it asks for nothing outside itself.

Every text is escaped here, at the place where it becomes HTML.
"""

import itertools
import json
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

from labkit import data, plots_search
from labkit.training.search import report as reports

Report = dict[str, Any]
Text = dict[str, str]

_SHARED = Path(data.__file__).parent / "reporting"
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
_PAIRS = 3  # maps of two settings
_ROWS = 500  # trials that are listed


def _text(en: str, zh: str) -> Text:
    return {"en": en, "zh": zh}


_HEADS = {
    "noise": _text("How much of the gain is noise", "增益中有多少是噪声"), "best": _text("Best settings", "最佳设置"),
    "history": _text("All trials in their order", "试验历程"),
    "intermediate": _text("On the way, and where they were pruned", "中间结果与剪枝"),
    "importance": _text("Which settings matter", "哪些设置重要"), "slices": _text("Setting by setting", "逐项设置"),
    "contour": _text("Two settings at a time", "两项设置的组合"), "parallel": _text("All settings at once", "所有设置一览"),
    "trials": _text("Trials", "试验表"), "recipe": _text("The best settings as a recipe", "最佳设置（配方）"),
}
_STATES = {"complete": _text("whole", "完整"), "pruned": _text("pruned", "剪枝"), "failed": _text("failed", "失败"),
           "lost": _text("its worker died; tried again", "进程中断，已重试"), "running": _text("running", "进行中"),
           "waiting": _text("not yet tried", "尚未试")}


def render(report: Report) -> str:
    """The page as one string, about 5 MB of which nearly all is plotly.js."""
    from plotly.offline import get_plotlyjs

    figures: dict[str, dict[str, Any]] = {}
    parts = {"noise": _noise, "best": _best, "history": _history, "intermediate": _intermediate, "importance": _importance,
             "slices": _slices, "contour": _contour, "parallel": _parallel, "trials": _trials, "recipe": _recipe}
    sections = [f'<section id="{name}"><h2>{_both(_HEADS[name])}</h2>{"".join(part(report, figures))}</section>'
                for name, part in parts.items()]
    name = f"{report['scenario']}/{report['recipe']['name']}"
    title = _text(f"{name}: search", f"{name}：超参数搜索")
    contents = "".join(f'<a href="#{key}">{_both(text)}</a>' for key, text in _HEADS.items())
    script, style = ((_SHARED / file).read_text(encoding="utf-8") for file in ("page.js", "page.css"))
    return "".join((
        f'<!DOCTYPE html>\n<html lang="{report["language"]}">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n',
        f'<title>{escape(title[report["language"]])}</title>\n<style>\n{style}</style>\n</head>\n<body>\n',
        f'<header><div><h1>{_both(title)}</h1><div><button id="language" type="button">{_both(_text("中文", "English"))}</button> ',
        f'<button id="theme" type="button">{_both(_text("Light / dark", "浅色 / 深色"))}</button></div></div></header>\n<main>\n',
        f'<p class="headline">{_both(_said(reports.sentence, report))}</p>\n{_tiles(report)}\n<nav>{contents}</nav>\n', *sections,
        f'<footer>{_both(_text("Made with labkit", "由 labkit 生成"))} {escape(report["versions"].get("labkit", ""))}, ',
        f'{escape(report["made"])}; optuna {escape(report["versions"].get("optuna", ""))}</footer>\n</main>\n',
        f'<script type="application/json" id="figures">{_json(figures)}</script>\n',
        f'<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n</body>\n</html>\n'))


def _tiles(report: Report) -> str:
    counts, minutes = report["counts"], report["seconds"] / 60
    shown = [(f"{counts['complete']:,}", _text("whole trials", "完整试验")), (f"{counts['pruned']:,}", _text("pruned", "剪枝")),
             (f"{counts['failed']:,}", _text("failed", "失败")), (f"{counts['lost']:,}", _text("tried again", "重试")),
             (f"{minutes:,.1f}", _text("minutes of trials", "试验总分钟数"))]
    return f'<div class="tiles">{"".join(f"<div class=tile><b>{value}</b>{_both(title)}</div>" for value, title in shown)}</div>'


def _noise(report: Report, figures: dict) -> Iterable[str]:
    yield _note(_said(reports.how_sure, report))
    if report["noise"]:
        yield _figure(figures, "seeds", lambda language: plots_search.seeds(report, language))


def _best(report: Report, figures: dict) -> Iterable[str]:
    if report["best"] is None:
        yield _nothing()
        return
    rows = [[_cell(name, "path"), _cell(reports.show(report["default"][name]), "path"),
             _cell(reports.show(report["best"]["settings"][name]), "path")] for name in report["space"]]
    yield _table([_text("Setting", "设置"), _text("Recipe", "原配方"), _text("Best", "最佳")], rows)


def _history(report: Report, figures: dict) -> Iterable[str]:
    yield _figure(figures, "history", lambda language: plots_search.history(report, language))


def _intermediate(report: Report, figures: dict) -> Iterable[str]:
    if any(row["reports"] for row in report["trials"]):
        yield _figure(figures, "intermediate", lambda language: plots_search.intermediate(report, language))
    else:
        yield _nothing()


def _importance(report: Report, figures: dict) -> Iterable[str]:
    found = report["importance"]
    if found is None:
        yield _note(_text("Too few trials to say.", "试验太少，无法判断。"))
        return
    place = found["step"]
    where = (_text("their final values", "最终结果") if place is None
             else _text(f"what they had reached at measurement {place}", f"第 {place} 次测量的结果"))
    yield _note(_text(f"From {found['trials']} trials, by {where['en']}.", f"依据 {found['trials']} 次试验的{where['zh']}。"))
    if found["unrated"]:
        names = ", ".join(found["unrated"])
        yield _note(_text(f"Not rated, because they vary only in some trials: {names}.", f"仅在部分试验中变化，未评估：{names}。"))
    yield _figure(figures, "importance", lambda language: plots_search.importances(report, language))


def _slices(report: Report, figures: dict) -> Iterable[str]:
    for name in report["space"]:
        yield f"<h3><code>{escape(name)}</code></h3>"
        yield _figure(figures, f"slice:{name}", lambda language, name=name: plots_search.slice_of(report, name, language))


def _contour(report: Report, figures: dict) -> Iterable[str]:
    names = list(report["importance"]["settings"]) if report["importance"] else list(report["space"])
    drawn = False
    for across, up in itertools.islice(itertools.combinations(names, 2), _PAIRS):
        rows = [row for row in report["trials"] if row["state"] == "complete" and {across, up} <= row["parameters"].keys()]
        if len({str(row["settings"][across]) for row in rows}) > 1 and len({str(row["settings"][up]) for row in rows}) > 1:
            drawn = True
            yield f"<h3><code>{escape(across)}</code>, <code>{escape(up)}</code></h3>"
            yield _figure(figures, f"contour:{across}:{up}",
                          lambda language, across=across, up=up: plots_search.contour(report, across, up, language))
    if not drawn:
        yield _nothing()


def _parallel(report: Report, figures: dict) -> Iterable[str]:
    if report["counts"]["complete"]:
        yield _figure(figures, "parallel", lambda language: plots_search.parallel(report, language), wide=True)
    else:
        yield _nothing()


def _trials(report: Report, figures: dict) -> Iterable[str]:
    heads = [_text("Trial", "试验"), _text("State", "状态"), _text(report["monitor"], report["monitor"]), _text("Seconds", "秒"),
             _text("Settings", "设置")]
    sign = 1 if report["direction"] == "minimise" else -1
    order = lambda row: (row["state"] != "complete", sign * (row["value"] or 0.0))  # noqa: E731
    listed = sorted(report["trials"], key=order)
    rows = []
    for row in listed[:_ROWS]:
        settings = ", ".join(f"{name} = {reports.show(value)}" for name, value in row["parameters"].items())
        value, seconds = (f"{row[key]:.4g}" if row[key] is not None else "–" for key in ("value", "seconds"))
        rows.append([_cell(str(row["number"]), "number"), f"<td>{_both(_STATES[row['state']])}</td>", _cell(value, "number"),
                     _cell(seconds, "number"), _cell(settings + (f"; {row['error']}" if row["error"] else ""), "wide")])
    yield _table(heads, rows)
    if len(listed) > _ROWS:
        yield _note(_text(f"{len(listed) - _ROWS} more are in report.json.", f"其余 {len(listed) - _ROWS} 次见 report.json。"))


def _recipe(report: Report, figures: dict) -> Iterable[str]:
    import tomli_w

    yield f"<pre>{escape(tomli_w.dumps(report['tuned']))}</pre>" if report["tuned"] else _nothing()


def _figure(figures: dict, name: str, draw: Callable[[str], Any], wide: bool = False) -> str:
    """A place for a figure; the page's script draws it in the page's language when it comes into sight."""
    figures[name] = {language: json.loads(draw(language).to_json()) for language in ("en", "zh")}
    for drawn in figures[name].values():
        drawn["layout"].pop("template", None)
    height = figures[name]["en"]["layout"].get("height", 360)
    kind = "figure wide-figure" if wide else "figure"
    place = f'<div class="{kind}" data-figure="{escape(name)}" style="height:{height}px"></div>'
    return f'<div class="scroll">{place}</div>' if wide else place


def _said(say: Callable[[Report, str], str], report: Report) -> Text:
    return {language: say(report, language) for language in ("en", "zh")}


def _both(text: Text) -> str:
    return f'<span lang="en">{escape(text["en"])}</span><span lang="zh">{escape(text["zh"])}</span>'


def _note(*texts: Text) -> str:
    return "".join(f"<p>{_both(text)}</p>" for text in texts)


def _nothing() -> str:
    return _note(_text("Nothing to show.", "暂无内容。"))


def _cell(text: str, kind: str) -> str:
    return f'<td class="{kind}">{escape(text)}</td>'


def _table(heads: list[Text], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{_both(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace(
        "\u2029", "\\u2029")

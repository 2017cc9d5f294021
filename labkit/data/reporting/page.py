"""The report as one HTML page: both languages, light and dark, plotly.js inlined; it asks for nothing outside itself.

Every text is escaped here, at the place where it becomes HTML. A content security policy in the page forbids all network, so that
neither a mistake here nor a text in the data can reach out.
"""

import json
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

from labkit import plots_data
from labkit.data.reporting import differences, words
from labkit.data.reporting.words import Text, both

Report = dict[str, Any]

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"


def render(report: Report) -> str:
    """The page as one string, about 5 MB of which all but some hundred kB is plotly.js."""
    from plotly.offline import get_plotlyjs

    figures: dict[str, dict[str, Any]] = {}
    sections = [
        _section("flow", words.HEADS["flow"], _figure(figures, "flow", lambda language: plots_data.flow(report, language), wide=True),
                 _files(report)),
        _section("steps", words.HEADS["steps"], _steps(report)),
        _section("samples", words.HEADS["samples"], _samples(report)),
        _section("lengths", words.HEADS["lengths"], *_lengths(report, figures)),
        _section("labels", words.HEADS["labels"], *_labels(report, figures)),
        _section("languages", words.HEADS["languages"], *_languages(report, figures)),
        _section("sources", words.HEADS["sources"], _sources(report)),
        _section("duplicates", words.HEADS["duplicates"], _duplicates(report)),
        _section("privacy", words.HEADS["privacy"], *_privacy(report, figures)),
        _section("cost", words.HEADS["cost"], *_cost(report, figures)),
        _section("rejects", words.HEADS["rejects"], _rejects(report)),
        _section("plan", words.HEADS["plan"], _plan(report)),
    ]
    title = both(f"{report['scenario']['title']['en']}: data report", f"{report['scenario']['title']['zh']}：数据报告")
    head = "".join(_said(words.sentence(report, language), language) for language in ("en", "zh"))
    contents = "".join(f'<a href="#{name}">{_both(words.HEADS[name])}</a>' for name in words.HEADS)
    return "".join((
        f'<!DOCTYPE html>\n<html lang="{report["language"]}">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n',
        f'<title>{escape(title[report["language"]])}</title>\n<style>\n{_own("page.css")}</style>\n</head>\n<body>\n',
        f'<header><div><h1>{_both(title)}</h1><div><button id="language" type="button">{_both(both("中文", "English"))}</button> ',
        f'<button id="theme" type="button">{_both(both("Light / dark", "浅色 / 深色"))}</button></div></div></header>\n<main>\n',
        f'<p class="headline">{head}</p>\n{_tiles(report)}\n<nav>{contents}</nav>\n', *sections,
        f'<footer>{_both(both("Made with labkit", "由 labkit 生成"))} {escape(report["versions"].get("labkit", ""))}, ',
        f'{escape(report["made"])}</footer>\n</main>\n',
        f'<script type="application/json" id="figures">{_json(figures)}</script>\n',
        f'<script>{get_plotlyjs()}</script>\n<script>\n{_own("page.js")}</script>\n</body>\n</html>\n'))


def _tiles(report: Report) -> str:
    rows, cost = report["rows"], report["cost"]
    shown = [(rows["read"], both("rows read", "读入行数")), (rows["kept"], both("records kept", "保留记录")),
             (rows["dropped"], both("dropped by a step", "被步骤丢弃")), (rows["rejected"], both("not readable", "无法读取")),
             (report["privacy"]["found"], both("personal data found", "发现的个人信息"))]
    tiles = [f'<div class="tile"><b>{count:,}</b>{_both(title)}</div>' for count, title in shown]
    if cost:
        time = _both(words.duration(cost["minutes"]))
        tiles.append(f'<div class="tile"><b>{time}</b>{_both(both("to train on it here", "本机训练用时"))}</div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _files(report: Report) -> str:
    heads = [both("File", "文件"), both("Read", "读入"), both("Kept", "保留"), both("Dropped", "丢弃"), both("Not readable", "无法读取")]
    names = ("read", "kept", "dropped", "rejected")
    rows = [[_cell(entry["file"], "path"), *(_number(entry[name]) for name in names)] for entry in report["rows"]["by_file"]]
    if report["rows"]["unlisted"]["read"]:
        more = report["rows"]["files"] - len(report["rows"]["by_file"])
        rows.append([_cell(f"… {more} more / 其余 {more} 个"), *(_number(report["rows"]["unlisted"][name]) for name in names)])
    note = both("Every row is in exactly one of the three columns on the right: checked when the report was made.",
                "每一行恰好计入右侧三列之一；生成报告时已核对。")
    return _table(heads, rows) + _note(note)


def _steps(report: Report) -> str:
    heads = [both("Step", "步骤"), both("Seen", "经过"), both("Touched", "改动"), both("Dropped", "丢弃"), both("What", "内容"),
             both("Seconds", "秒"), both("Records/s", "条/秒")]
    rows = []
    for step in report["steps"]:
        dropped = sum(step["dropped"].values())
        what = [f'{_both(report["reasons"][reason])}\u00a0{count:,}' for reason, count in step["dropped"].items()]
        what += [f"{_both(words.count(name))}\u00a0{count:,}" for name, count in step["counts"].items()]
        rate = f"{step['seen'] / step['seconds']:,.0f}" if step["seconds"] > 0 else "–"
        rows.append([f'<td class="wide">{_both(step["title"])}<br><code class="quiet">{escape(step["name"])}</code></td>',
                     _number(step["seen"]), _number(step["touched"]), _number(dropped), f'<td class="wide">{"; ".join(what) or "–"}</td>',
                     f'<td class="number">{step["seconds"]:,.{3 if step["seconds"] < 1 else 1}f}</td>', f'<td class="number">{rate}</td>'])
    note = both("The seconds of a step that sees one record at a time are those of all processes together.",
                "逐条处理的步骤，秒数为所有进程之和。")
    return _table(heads, rows) + _note(note)


def _samples(report: Report) -> str:
    parts = []
    for step in report["steps"]:
        if not step["samples"]:
            continue
        shown = "".join(_sample(sample, report) for sample in step["samples"])
        parts.append(f"<details><summary>{_both(step['title'])} ({len(step['samples'])})</summary>{shown}</details>")
    notes = [both("What a step took away is struck through on red, what it put there is on green.",
                  "步骤删去的内容以红底删除线标出，新增的内容为绿底。")]
    if report["plan"]["protects"]:
        notes.append(both("Personal data are masked in all of them.", "其中的个人信息均已遮盖。"))
    else:
        notes.append(both("The plan has no step that protects personal data, so these texts may hold some.",
                          "计划中没有保护个人信息的步骤，以下文本可能含有个人信息。"))
    return _note(*notes) + ("".join(parts) or _nothing())


def _sample(sample: Report, report: Report) -> str:
    """A text before and after a step; one that was dropped with the reason above it."""
    if sample["reason"]:
        reason = _both(report["reasons"].get(sample["reason"]) or words.reason(sample["reason"]))
        return f'<div class="text"><small>{reason}</small>{escape(sample["before"])}</div>'
    return f'<div class="text">{_difference(sample["before"], sample["after"])}</div>'


def _lengths(report: Report, figures: dict) -> Iterable[str]:
    found = report["characters"]
    if not found["n"]:
        yield _nothing()
        return
    yield _note(_spread(found, both("characters", "个字符")))
    yield _figure(figures, "characters", lambda language: plots_data.lengths(found, "characters", language))
    tokens = report["tokens"]
    if tokens and "problem" not in tokens:
        yield _note(_spread(tokens, both("tokens", "个词元")), words.sampled(tokens))
        yield _figure(figures, "tokens", lambda language: plots_data.lengths(tokens, "tokens", language))


def _labels(report: Report, figures: dict) -> Iterable[str]:
    for field, entry in report["labels"].items():
        yield f"<h3>{_both(entry['title'])}</h3>"
        yield _figure(figures, f"labels:{field}", lambda language, field=field: plots_data.label_counts(report, field, language))
    for field, entry in report["numbers"].items():
        yield f"<h3>{_both(entry['title'])}</h3>"
        if entry["n"]:
            yield _figure(figures, f"number:{field}", lambda language, entry=entry: plots_data.lengths(
                entry, entry["title"][language], language))
        yield _note(both(f"{entry['lacking']:,} records have no value here.", f"{entry['lacking']:,} 条记录没有此值。"))
    if not report["labels"] and not report["numbers"]:
        yield _nothing()


def _languages(report: Report, figures: dict) -> Iterable[str]:
    if not report["languages"]:
        yield _nothing()
        return
    yield _figure(figures, "languages", lambda language: plots_data.language_mix(report, language))
    spoken = sorted({name for counts in report["languages"].values() for name in counts})
    heads = [both("Split", "划分"), *(words.language(name) for name in spoken), both("Records", "记录数")]
    rows = [[f"<td>{_both(words.split(split))}</td>", *(_number(counts.get(name, 0)) for name in spoken), _number(sum(counts.values()))]
            for split, counts in report["languages"].items()]
    yield _table(heads, rows)
    yield f'<p class="quiet">{_both(both("Fingerprint of the records and their splits", "记录及其划分的指纹"))}: ' \
          f'<code>{escape(report["fingerprint"])}</code></p>'


def _sources(report: Report) -> str:
    heads = [both("Source", "来源"), both("Licence", "许可"), both("Records", "记录数")]
    rows = [[_cell(entry["source"], "path"), _cell(entry["license"]), _number(entry["records"])] for entry in report["sources"]]
    return _table(heads, rows) if rows else _nothing()


def _duplicates(report: Report) -> str:
    found = report["duplicates"]
    rows = [[f"<td>{_both(entry['title'])}</td>", _number(entry["dropped"]), _number(entry["conflicting"])] for entry in found["steps"]]
    if not rows:
        return _nothing()
    table = _table([both("Step", "步骤"), both("Dropped", "丢弃"), both("With conflicting labels", "标签冲突")], rows)
    shown = "".join(_pair(pair) for pair in found["examples"])
    return table + (f"<h3>{_both(both('Examples', '示例'))}</h3>{shown}" if shown else "")


def _pair(pair: Report) -> str:
    """A dropped record below the kept one that it repeats, with the difference marked."""
    kept, dropped, row = (_both(text) for text in (both("kept", "保留"), both("dropped", "丢弃"), both("row", "行")))
    return (f'<div class="pair"><div class="text"><small>{kept}</small>{escape(pair["kept"])}</div>'
            f'<div class="text"><small>{dropped}: {escape(pair["file"])}, {row} {pair["row"]}</small>'
            f'{_difference(pair["kept"], pair["dropped"])}</div></div>')


def _privacy(report: Report, figures: dict) -> Iterable[str]:
    kinds = report["privacy"]["kinds"]
    yield _note(both("Counted in the records that were kept. Only counts are stored, never what was found.",
                     "按保留的记录统计；只存数量，不存所发现的内容。"))
    if not kinds:
        yield _nothing()
        return
    yield _figure(figures, "privacy", lambda language: plots_data.findings(report, language))


def _cost(report: Report, figures: dict) -> Iterable[str]:
    tokens, cost = report["tokens"], report["cost"]
    if tokens and "problem" in tokens:
        yield _note(both(f"Not counted: {tokens['problem']}", f"未计算：{tokens['problem']}"))
    if not cost:
        yield _nothing()
        return
    yield "".join(f'<p lang="{language}">{escape(text)}</p>' for language, texts in words.cost(tokens, cost).items() for text in texts)


def _rejects(report: Report) -> str:
    found = report["rejects"]
    if not found["count"]:
        return _nothing()
    kinds = _table([both("Problem", "问题"), both("Rows", "行数")],
                   [[_cell(entry["problem"], "wide"), _number(entry["rows"])] for entry in found["by_problem"]])
    rows = [[_cell(entry["file"], "path"), _number(entry["row"]), _cell(entry["problem"], "wide")] for entry in found["first"]]
    table = _table([both("File", "文件"), both("Row", "行"), both("Problem", "问题")], rows)
    more = both(f"The first {len(rows):,} of {found['count']:,}", f"共 {found['count']:,} 行，列出前 {len(rows):,} 行")
    return f"{kinds}<details><summary>{_both(more)}</summary>{table}</details>"


def _plan(report: Report) -> str:
    versions = "".join(f"<li>{escape(name)} {escape(version)}</li>" for name, version in report["versions"].items())
    plan, title = report["plan"], both("The plan as TOML", "计划 (TOML)")
    return (f'<details><summary>{_both(title)} <code>{escape(plan["fingerprint"][:16])}</code></summary>'
            f'<pre>{escape(plan["toml"])}</pre></details>'
            f'<details><summary>{_both(both("Versions", "版本"))}</summary><ul>{versions}</ul></details>')


def _section(name: str, title: Text, *parts: str) -> str:
    return f'<section id="{name}"><h2>{_both(title)}</h2>{"".join(parts)}</section>\n'


def _figure(figures: dict, name: str, make: Callable[[str], Any], wide: bool = False) -> str:
    """A place for a figure, whose data go into `figures` in both languages."""
    figures[name] = {}
    for language in ("en", "zh"):
        plain = json.loads(make(language).to_json())
        plain["layout"].pop("template", None)  # the page has colours of its own, and the template is the larger part
        figures[name][language] = plain
    height = figures[name]["en"]["layout"].get("height", 340)
    inner = f'<div class="figure{" wide-figure" if wide else ""}" data-figure="{escape(name)}" style="height:{height}px"></div>'
    return f'<div class="scroll">{inner}</div>' if wide else inner


def _difference(before: str, after: str) -> str:
    return differences.as_html(differences.shortened(differences.pieces(before, after)))


def _spread(found: dict[str, Any], unit: Text) -> Text:
    median, high, most = f"{found['median']:,.0f}", f"{found['percentile_99']:,.0f}", f"{found['largest']:,.0f}"
    return both(f"Half of the records have at most {median} {unit['en']}, 99% at most {high}, the longest {most}. Dotted: the median.",
                f"一半的记录不超过 {median} {unit['zh']}，99% 不超过 {high}，最长 {most}。虚线为中位数。")


def _table(heads: list[Text], rows: list[list[str]]) -> str:
    """A table; `rows` are lists of whole cells. A column of numbers has its head on the right as well."""
    numeric = [bool(rows) and cell.startswith('<td class="number"') for cell in (rows[0] if rows else [""] * len(heads))]
    head = "".join(f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if right else ""}>{_both(title)}</th>'
                   for title, right in zip(heads, numeric, strict=True))
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{escape(str(text))}</td>' if kind else f"<td>{escape(str(text))}</td>"


def _number(count: int) -> str:
    return f'<td class="number">{count:,}</td>'


def _both(text: Text) -> str:
    return _said(text["en"], "en") + _said(text["zh"], "zh")


def _said(text: str, language: str) -> str:
    return f'<span lang="{language}">{escape(text)}</span>'


def _note(*texts: Text) -> str:
    return f'<p class="quiet">{" ".join(_both(text) for text in texts)}</p>'


def _nothing() -> str:
    return _note(both("Nothing.", "无。"))


def _json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<`, so that no text can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")

"""The plotly figures of data preparation, from a report (see `labkit.data.report`): used by the report's page and by notebooks.

Names from the data (labels, files, reasons) are escaped: plotly reads a little HTML and LaTeX in its texts.
"""

import html
from collections import Counter
from typing import TYPE_CHECKING, Any

from labkit.plots import COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

Report = dict[str, Any]

_KEPT, _DROPPED, _REJECTED, _READ = COLOURS[2], COLOURS[1], COLOURS[5], COLOURS[0]
_SPLITS = {"train": COLOURS[0], "validation": COLOURS[1], "test": COLOURS[2], "": "#777777"}
_LANGUAGES = {"en": COLOURS[0], "zh": COLOURS[3]}
_MOST_LABELS = 40  # bars of one figure
_LONGEST = 34  # characters of a name beside an axis

_WORDS = {
    "en": {"records": "records", "rows": "rows", "read": "rows read", "rejected": "not readable", "collected": "collected",
           "kept": "kept", "characters": "characters in the conversation", "tokens": "tokens in the whole record",
           "longer": "and more", "none": "(none)", "others": "all others", "found": "findings",
           "train": "train", "validation": "validation", "test": "test", "": "no split", "en": "English", "zh": "Chinese"},
    "zh": {"records": "记录数", "rows": "行", "read": "读入的行", "rejected": "无法读取", "collected": "已收集", "kept": "保留",
           "characters": "对话的字符数", "tokens": "整条记录的词元数", "longer": "及以上", "none": "(无)", "others": "其余",
           "found": "发现数", "train": "训练", "validation": "验证", "test": "测试", "": "未划分", "en": "英文", "zh": "中文"},
}


def flow(report: Report, language: str = "en") -> "go.Figure":
    """A Sankey of all rows: read, rejected, dropped by each step and reason, kept by split."""
    import plotly.graph_objects as go

    words, rows = _WORDS[language], report["rows"]
    nodes: list[tuple[str, str, str]] = []  # (label, title when pointed at, colour)
    links: list[tuple[int, int, int, str]] = []  # (from, to, rows, colour)

    def node(title: str, count: int, colour: str, label: str) -> int:
        nodes.append((label.format(title=shown(title), count=f"{count:,}"), shown(title), colour))
        return len(nodes) - 1

    def link(start: int, title: str, count: int, colour: str, label: str = "{title} {count}") -> int:
        end = node(title, count, colour, label)
        links.append((start, end, count, colour))
        return end

    left, at = rows["read"], node(words["read"], rows["read"], _READ, "{title}<br>{count}")
    if rows["rejected"]:
        link(at, words["rejected"], rows["rejected"], _REJECTED)
        left -= rows["rejected"]
        at = link(at, words["collected"], left, _READ, "{count}")
    for step in report["steps"]:
        gone = sum(step["dropped"].values())
        if not gone:
            continue
        for reason, count in step["dropped"].items():
            title = report["reasons"].get(reason, {}).get(language, reason)
            link(at, title, count, _REJECTED if step["name"] == "check" else _DROPPED)
        left -= gone
        if left:  # with the count alone: a step's title is too long to stand between two stages
            at = link(at, step["title"][language], left, _READ, "{count}")
    colon = "\uff1a" if language == "zh" else ": "
    for split, counts in report["languages"].items():
        link(at, f"{words['kept']}{colon}{words[split]}", sum(counts.values()), _KEPT)
    figure = go.Figure(go.Sankey(
        arrangement="snap", valueformat=",d", valuesuffix=f" {words['rows']}" if language == "en" else words["rows"],
        node={"label": [label for label, *_ in nodes], "customdata": [title for _, title, _ in nodes],
              "hovertemplate": "%{customdata}: %{value}<extra></extra>", "color": [colour for *_, colour in nodes],
              "pad": 22, "thickness": 14, "line": {"width": 0}},
        link={"source": [entry[0] for entry in links], "target": [entry[1] for entry in links], "value": [entry[2] for entry in links],
              "color": [_faint(entry[3]) for entry in links],
              "hovertemplate": "%{source.customdata} → %{target.customdata}: %{value}<extra></extra>"}))
    stages = sum(bool(step["dropped"]) for step in report["steps"])
    return figure.update_layout(template="plotly_white", height=max(380, 60 * stages + 200), margin={"l": 10, "r": 10, "t": 20, "b": 20})


def lengths(histogram: dict[str, Any], unit: str, language: str = "en") -> "go.Figure":
    """How long the records are.

    Args:
        histogram: `report["characters"]` or `report["tokens"]`, or a number field's from `report["numbers"]`.
        unit: `characters`, `tokens`, or a title of its own for the axis.
    """
    import plotly.graph_objects as go

    words, edges = _WORDS[language], histogram.get("edges", [])
    figure = go.Figure()
    bars = list(zip(edges, edges[1:], strict=False))
    width = bars[0][1] - bars[0][0] if bars else 1.0
    places = [low + width / 2 for low, _ in bars]  # the last, open bar is drawn as wide as the others
    said = [f"{low:g}–{high:g}" for low, high in bars]
    if histogram.get("open"):
        said[-1] = f"{bars[-1][0]:g} {words['longer']} (≤ {histogram['largest']:,g})"
    for group, counts in histogram.get("counts", {}).items():
        marker = {"color": _LANGUAGES.get(group, COLOURS[4]), "line": {"width": 0}}
        figure.add_bar(x=places, y=counts, name=words.get(group, shown(group)) if group else words["records"], customdata=said,
                       width=[width] * len(bars), marker=marker, hovertemplate="%{customdata}: %{y:,}<extra>%{fullData.name}</extra>")
    figure.update_layout(barmode="stack", bargap=0.0, showlegend=len(histogram.get("counts", {})) > 1)
    if histogram.get("n"):
        figure.add_vline(x=histogram["median"], line={"dash": "dot", "color": "#777777"})
    return _dressed(figure, words.get(unit, shown(unit)), words["records"])


def label_counts(report: Report, field: str, language: str = "en") -> "go.Figure":
    """How often each label of a field occurs: the colour is the split, hatched is Chinese."""
    import plotly.graph_objects as go

    words, entry = _WORDS[language], report["labels"][field]
    totals: Counter[str] = Counter()
    for row in entry["counts"]:
        totals[row["value"]] += row["records"]
    values = [value for value, _ in totals.most_common(_MOST_LABELS)]
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in entry["counts"]:
        value = row["value"] if row["value"] in values else None
        counts.setdefault((row["split"], row["language"]), Counter())[value] += row["records"]
    rest = sum(totals.values()) - sum(totals[value] for value in values) + entry["unlisted_records"]
    titles = [shown(entry["titles"].get(value, {}).get(language, value)) if value else words["none"] for value in values]
    titles = _told_apart(titles)
    hatched = {"shape": "/", "fillmode": "overlay", "fgcolor": "#ffffff", "size": 7, "solidity": 0.35}
    figure = go.Figure()
    for (split, spoken), counter in sorted(counts.items(), key=lambda pair: (list(_SPLITS).index(pair[0][0]), pair[0][1])):
        figure.add_bar(y=titles, x=[counter[value] for value in values], orientation="h",
                       name=f"{words[split]}, {words.get(spoken, spoken)}",
                       marker={"color": _SPLITS[split], "pattern": hatched if spoken == "zh" else {}})
    if rest:
        title = f"{words['others']} ({entry['values'] - len([value for value in values if value])})"
        figure.add_bar(y=[title], x=[rest], orientation="h", marker={"color": "#999999"}, showlegend=False)
        titles.append(title)
    figure.update_layout(barmode="stack", bargap=0.25)
    return _sideways(figure, titles, words["records"])


def language_mix(report: Report, language: str = "en") -> "go.Figure":
    """The records of each split by their language."""
    import plotly.graph_objects as go

    words, splits = _WORDS[language], report["languages"]
    spoken = sorted({name for counts in splits.values() for name in counts})
    titles = [words[split] for split in splits]
    figure = go.Figure()
    for name in spoken:
        figure.add_bar(y=titles, x=[counts.get(name, 0) for counts in splits.values()], orientation="h", name=words.get(name, shown(name)),
                       marker={"color": _LANGUAGES.get(name, COLOURS[4])})
    figure.update_layout(barmode="stack")
    return _sideways(figure, titles, words["records"])


def findings(report: Report, language: str = "en") -> "go.Figure":
    """Personal data that were found, by kind: how often, and in how many records."""
    import plotly.graph_objects as go

    words, kinds = _WORDS[language], report["privacy"]["kinds"]
    titles = [shown(entry["title"][language]) for entry in kinds]
    figure = go.Figure()
    for key, name, colour in (("records", words["records"], COLOURS[4]), ("found", words["found"], COLOURS[0])):
        figure.add_bar(y=titles, x=[entry[key] for entry in kinds], orientation="h", name=name, marker={"color": colour})
    figure.update_layout(barmode="group")
    return _sideways(figure, titles, words["found"], 34)


def shown(name: Any, most: int = _LONGEST) -> str:
    """A name from the data as plotly must be given it, so that it stays text: no tags, no LaTeX, not too long."""
    text = " ".join(str(name).split())
    text = text if len(text) <= most else text[: most - 1] + "…"
    return html.escape(text, quote=False).replace("$", "&#36;")


def _told_apart(titles: list[str]) -> list[str]:
    """The same with a number behind a title that occurs again: plotly would lay their bars over each other."""
    seen: Counter[str] = Counter()
    found = []
    for title in titles:
        seen[title] += 1
        found.append(title if seen[title] == 1 else f"{title} ({seen[title]})")
    return found


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def _sideways(figure: "go.Figure", titles: list[str], x: str, row: int = 24) -> "go.Figure":
    """A figure of horizontal bars, the first title on top, as high as its bars need."""
    figure.update_yaxes(categoryorder="array", categoryarray=titles, autorange="reversed", automargin=True, dtick=1)
    return _dressed(figure, x, "").update_layout(height=150 + row * len(titles))


def _dressed(figure: "go.Figure", x: str, y: str) -> "go.Figure":
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    return figure.update_layout(xaxis_title=x, yaxis_title=y, template="plotly_white", height=340,
                                margin={"l": 60, "r": 20, "t": 40, "b": 50}, legend=legend)

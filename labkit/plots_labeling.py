"""The plotly figures of labelling: progress, agreement, confusions, learning curves and what a label costs.

Names from the data (labels, annotators, records) are escaped: plotly reads a little HTML and LaTeX in its texts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from labkit.labeling.annotations import Annotation
from labkit.plots import COLOURS
from labkit.plots_data import shown

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.labeling.quality.intervals import Estimate
    from labkit.scenarios import Field

_STATES = {"submitted": COLOURS[2], "draft": COLOURS[1], "discarded": COLOURS[5], "left": "#cccccc"}
_GREY = "#777777"
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # beside the colour, so that lines are told apart in print too

MEASURES = {
    "percent": {"en": "same answer (share of pairs)", "zh": "答案相同（成对比例）"},
    "similarity": {"en": "likeness of texts (F1)", "zh": "文本相似度（F1）"},
    "alpha": {"en": "Krippendorff's alpha", "zh": "Krippendorff α"},
    "alpha_ordinal": {"en": "Krippendorff's alpha, ordinal", "zh": "Krippendorff α（有序）"},
    "fleiss_kappa": {"en": "Fleiss' kappa", "zh": "Fleiss κ"},
    "cohen_kappa": {"en": "Cohen's kappa", "zh": "Cohen κ"},
}
_WORDS = {
    "en": {"submitted": "submitted", "draft": "drafts", "discarded": "discarded", "left": "left", "records": "records",
           "agreement": "agreement (1 = perfect, 0 = chance for alpha and kappa)", "share": "share of the row", "labels": "labels",
           "score": "score", "measured": "measured", "fitted": "fitted", "band": "95% band", "forecast": "forecast", "now": "now",
           "to_reach": "{unit} to reach {target:.1%}", "hours": "hours", "money": "money", "never": "not reached", "time": "time (UTC)",
           "answered": "records answered", "window": "window of records, in the order of time",
           "agrees": "agreement (0 to 1)", "target": "target {target:.1%}"},
    "zh": {"submitted": "已提交", "draft": "草稿", "discarded": "已弃用", "left": "剩余", "records": "记录数",
           "agreement": "一致性（1 为完全一致；α 与 κ 以 0 为偶然水平）", "share": "占该行的比例", "labels": "标签数", "score": "得分",
           "measured": "实测", "fitted": "拟合", "band": "95% 区间", "forecast": "预测", "now": "当前",
           "to_reach": "达到 {target:.1%} 所需的{unit}", "hours": "小时", "money": "费用", "never": "未达到", "time": "时间（UTC）",
           "answered": "已答记录数",
           "window": "记录窗口（按时间顺序）", "agrees": "一致程度（0 到 1）", "target": "目标 {target:.1%}"},
}


class Interval(Protocol):
    """A value with its 95% interval; each is None where there is none."""

    value: float | None
    low: float | None
    high: float | None


def counts(annotations: Iterable[Annotation]) -> dict[str, Counter[str]]:
    """Records by annotator and status. A record whose fields differ counts once: as submitted before draft, as draft before discarded."""
    ranks = {"submitted": 0, "draft": 1, "discarded": 2}
    best: dict[tuple[str, str], str] = {}
    for each in annotations:
        known = best.get((each.annotator, each.record))
        if known is None or ranks[each.status] < ranks[known]:
            best[each.annotator, each.record] = each.status
    found: dict[str, Counter[str]] = {name: Counter() for name in sorted({name for name, _ in best})}
    for (name, _), status in best.items():
        found[name][status] += 1
    return found


def progress(by_annotator: Mapping[str, Mapping[str, int]], total: int, language: str = "en") -> "go.Figure":
    """How far each annotator is.

    Args:
        by_annotator: records by annotator and status (`submitted`, `draft`, `discarded`), as `counts` gives them.
        total: records that each is to label.
    """
    import plotly.graph_objects as go

    words, names = _WORDS[language], list(by_annotator)
    titles = [shown(name) for name in names]
    figure = go.Figure()
    for status, colour in _STATES.items():
        values = [max(0, total - sum(by_annotator[name].values())) if status == "left" else by_annotator[name].get(status, 0)
                  for name in names]
        figure.add_bar(y=titles, x=values, orientation="h", name=words[status], marker={"color": colour},
                       text=[value or "" for value in values], textposition="inside", insidetextanchor="middle")
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    return _styled(figure, words["records"], "", 130 + 34 * max(1, len(names)))


def pace(annotations: Iterable[Annotation], language: str = "en") -> "go.Figure":
    """How many records each annotator had submitted at which time."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    first: dict[str, dict[str, Any]] = {}
    for each in annotations:
        if each.status == "submitted":
            times = first.setdefault(each.annotator, {})
            times[each.record] = min(each.time, times.get(each.record, each.time))
    for place, name in enumerate(sorted(first)):
        times = sorted(first[name].values())
        figure.add_scatter(x=times, y=list(range(1, len(times) + 1)), name=shown(name), mode="lines+markers", marker={"size": 4},
                           line={"shape": "hv", **_line(place)})
    return _styled(figure, words["time"], words["answered"])


def agreement(estimates: Mapping[str, Mapping[str, "Estimate"]], fields: Sequence["Field"], language: str = "en") -> "go.Figure":
    """The measures of agreement of each field with their 95% intervals; where one is not defined, its reason stands in its place.

    Args:
        estimates: by field and measure, as `labkit.labeling.quality.agreement.of_field` gives them for a field.
        fields: of the scenario, for their titles; those without estimates are left out.
    """
    import plotly.graph_objects as go

    words, figure, rows = _WORDS[language], go.Figure(), []
    for place, field in enumerate(field for field in fields if field.name in estimates):
        points = estimates[field.name]
        titles = [f"{shown(field.title[language])} · {MEASURES.get(name, {}).get(language, shown(name))}" for name in points]
        rows += titles
        for title, point in zip(titles, points.values(), strict=True):
            if point.value is None:
                reason = (point.reason or {}).get(language, "")
                figure.add_annotation(x=0, y=title, xanchor="left", text=shown(reason, 90), showarrow=False, font={"color": _GREY})
        known = [(title, point) for title, point in zip(titles, points.values(), strict=True) if point.value is not None]
        figure.add_scatter(
            y=[title for title, _ in known], x=[point.value for _, point in known], mode="markers", showlegend=False,
            marker={"color": _colour(place), "size": 10}, error_x=_bars([point for _, point in known], _colour(place)),
            customdata=[[point.records, "" if point.low is None else f"{point.low:.3f} – {point.high:.3f}"] for _, point in known],
            hovertemplate="%{y}: %{x:.3f} (%{customdata[1]}), n = %{customdata[0]}<extra></extra>")
    figure.add_vline(x=0, line={"color": _GREY, "width": 1})
    figure.update_yaxes(categoryorder="array", categoryarray=rows, autorange="reversed", automargin=True, type="category")
    lows = [point.low for points in estimates.values() for point in points.values() if point.low is not None]
    figure.update_xaxes(range=[min([0.0, *lows]) - 0.05, 1.05])
    return _styled(figure, words["agreement"], "", 120 + 34 * max(1, len(rows)))


def people(estimates: Mapping[str, Interval], axis: str, line: float | None = None) -> "go.Figure":
    """One number of each annotator with its interval: speed, share of gold questions right, skill.

    Args:
        estimates: by annotator; those without a value are left out.
        axis: what the number is, with its unit.
        line: a value to draw a line at, such as a threshold.
    """
    import plotly.graph_objects as go

    known = {name: point for name, point in estimates.items() if point.value is not None}
    figure = go.Figure(go.Scatter(
        y=[shown(name) for name in known], x=[point.value for point in known.values()], mode="markers",
        marker={"color": COLOURS[0], "size": 10}, error_x=_bars(list(known.values()), COLOURS[0]),
        hovertemplate="%{y}: %{x:.3g}<extra></extra>"))
    if line is not None:
        figure.add_vline(x=line, line={"color": _GREY, "dash": "dot"})
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.update_xaxes(rangemode="tozero")
    return _styled(figure, axis, "", 120 + 34 * max(1, len(known)))


def drift(windows: Mapping[str, Sequence[Interval]], language: str = "en") -> "go.Figure":
    """How far each annotator agrees with the others or with known answers, from the first window of records to the last, with intervals.

    Args:
        windows: by annotator, as `labkit.labeling.quality.annotators.drift` gives them (`windows`).
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    for place, (name, points) in enumerate(windows.items()):
        known = [(number, point) for number, point in enumerate(points, 1) if point.value is not None]
        figure.add_scatter(x=[number + 0.06 * place for number, _ in known], y=[point.value for _, point in known], mode="lines+markers",
                           name=shown(name), line=_line(place), error_y=_bars([point for _, point in known], _colour(place)))
    figure.update_yaxes(range=[-0.02, 1.05])
    figure.update_xaxes(dtick=1)
    return _styled(figure, words["window"], words["agrees"])


def confusion(pairs: Mapping[tuple[Any, Any], int], field: "Field", row_title: str, column_title: str, language: str = "en") -> "go.Figure":
    """Which labels stand for which: of the records that got a row's label, the share that got the column's, with their number.

    Args:
        pairs: how many records got (row's label, column's label): from two annotators, or from one and the agreed label.
        row_title, column_title: who gave them.
    """
    import plotly.graph_objects as go

    words = _WORDS[language]
    given = {value for pair in pairs for value in pair}
    values = [value for value in field.values if value in given]
    titles = [shown(field.show(value, language)) for value in values]
    table = [[pairs.get((row, column), 0) for column in values] for row in values]
    shares = [[count / max(1, sum(row)) for count in row] for row in table]
    figure = go.Figure(go.Heatmap(
        z=shares, x=titles, y=titles, zmin=0, zmax=1, colorscale="Blues", customdata=table, xgap=1, ygap=1,
        text=[[count or "" for count in row] for row in table], texttemplate="%{text}",
        colorbar={"title": {"text": words["share"], "side": "right"}},
        hovertemplate="%{y} → %{x}: %{customdata} (%{z:.0%})<extra></extra>"))
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.update_xaxes(automargin=True, type="category", tickangle=-40)
    return _styled(figure, shown(column_title), shown(row_title), 200 + 30 * max(4, len(values)))


def confusions(annotations: Iterable[Annotation], field: str, first: str, second: str) -> Counter[tuple[Any, Any]]:
    """How many records got (the first annotator's value, the second's), for `confusion`."""
    from labkit.labeling.annotations import ratings

    table = ratings(annotations, field)
    found: Counter[tuple[Any, Any]] = Counter()
    if first in table.annotators and second in table.annotators:
        places = table.annotators.index(first), table.annotators.index(second)
        for row in table.values:
            if all(row[place] is not None for place in places):
                found[row[places[0]], row[places[1]]] += 1
    return found


def learning_curve(points: Sequence[tuple[float, float]], curve: Sequence[tuple[float, float, float, float]] = (), measure: str = "",
                   language: str = "en", now: float | None = None) -> "go.Figure":
    """Scores against the number of labels, with a fitted curve, its band and its forecast.

    Args:
        points: what was measured, (labels, score).
        curve: (labels, fitted score, low, high), in the order of labels; what lies beyond `now` is drawn as forecast.
        measure: what the score is, for the axis.
        now: how many labels there are; the most that were measured where None.
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    now = max((labels for labels, _ in points), default=0) if now is None else now
    if curve:
        figure.add_scatter(**_band(curve, COLOURS[0]), name=words["band"])
        known, beyond = [each for each in curve if each[0] <= now], [each for each in curve if each[0] >= now]
        if known and (not beyond or beyond[0][0] > now):
            beyond = known[-1:] + beyond
        for name, part, dash in ((words["fitted"], known, "solid"), (words["forecast"], beyond, "dash")):
            if len(part) > 1:
                figure.add_scatter(x=[each[0] for each in part], y=[each[1] for each in part], mode="lines", name=name,
                                   line={"color": COLOURS[0], "dash": dash})
        if len(beyond) > 1:
            figure.add_vline(x=now, line={"color": _GREY, "dash": "dot"}, annotation_text=words["now"])
    figure.add_scatter(x=[labels for labels, _ in points], y=[score for _, score in points], mode="markers", name=words["measured"],
                       marker={"color": COLOURS[5], "size": 8})
    return _styled(figure, words["labels"], measure or words["score"])


def strategies(curves: Mapping[str, Sequence[tuple[float, float, float, float]]], measure: str = "", language: str = "en",
               target: float | None = None) -> "go.Figure":
    """The score that each strategy of choosing reaches with how many labels, each with its interval over seeds.

    Args:
        curves: by strategy (labels, mean score, low, high) in the order of labels.
        target: a score to draw a line at.
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    for place, (name, points) in enumerate(curves.items()):
        figure.add_scatter(**_band(points, _colour(place)), showlegend=False, legendgroup=str(place))
        figure.add_scatter(x=[each[0] for each in points], y=[each[1] for each in points], mode="lines+markers", name=shown(name),
                           legendgroup=str(place), line=_line(place), marker={"size": 6})
    if target is not None:
        figure.add_hline(y=target, line={"color": _GREY, "dash": "dot"}, annotation_text=words["target"].format(target=target))
    return _styled(figure, words["labels"], measure or words["score"])


def cost(needed: Mapping[str, Interval], target: float, unit: str = "labels", language: str = "en") -> "go.Figure":
    """What each strategy needs to reach a target, the cheapest on top, with intervals.

    Args:
        needed: by strategy; a value of None says that the target was not reached.
        unit: `labels`, `hours`, `money`, or a word of its own for the axis.
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    order = sorted(needed, key=lambda name: (needed[name].value is None, needed[name].value or 0.0))
    known = [name for name in order if needed[name].value is not None]
    places = {name: place for place, name in enumerate(needed)}  # the colours of `strategies`
    figure.add_bar(y=[shown(name) for name in known], x=[needed[name].value for name in known], orientation="h", showlegend=False,
                   marker={"color": [_colour(places[name]) for name in known]}, error_x=_bars([needed[name] for name in known], "#333333"),
                   text=[_short(needed[name].value) for name in known], textposition="inside", insidetextanchor="start")
    for name in order[len(known):]:
        figure.add_annotation(x=0, y=shown(name), xanchor="left", text=words["never"], showarrow=False, font={"color": _GREY})
    figure.update_yaxes(categoryorder="array", categoryarray=[shown(name) for name in order], autorange="reversed", automargin=True,
                        type="category")
    axis = words["to_reach"].format(unit=words.get(unit, shown(unit)), target=target)
    return _styled(figure, axis, "", 120 + 36 * max(1, len(order)))


def _bars(points: Sequence[Interval], colour: str) -> dict[str, Any]:
    """Error bars from a value to its low and high; none where there is no interval."""
    ups = [0.0 if point.high is None else point.high - point.value for point in points]
    downs = [0.0 if point.low is None else point.value - point.low for point in points]
    return {"type": "data", "symmetric": False, "array": ups, "arrayminus": downs, "color": colour}


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _colour(place: int) -> str:
    return COLOURS[place % (len(COLOURS) - 1)]  # not the yellow, which is too faint for a line


def _line(place: int) -> dict[str, str]:
    return {"color": _colour(place), "dash": _DASHES[place % len(_DASHES)]}


def _band(points: Sequence[tuple[float, float, float, float]], colour: str) -> dict[str, Any]:
    """The area between low and high, as what `add_scatter` takes."""
    labels, lows, highs = ([each[place] for each in points] for place in (0, 2, 3))
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return {"x": [*labels, *reversed(labels)], "y": [*highs, *reversed(lows)], "mode": "lines", "line": {"width": 0}, "fill": "toself",
            "fillcolor": f"rgba({red},{green},{blue},0.15)", "hoverinfo": "skip"}


def _styled(figure: "go.Figure", x: str, y: str, height: int = 380) -> "go.Figure":
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    return figure.update_layout(xaxis_title=x, yaxis_title=y, template="plotly_white", height=height, legend=legend,
                                margin={"l": 60, "r": 20, "t": 40, "b": 50})

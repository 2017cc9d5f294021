"""The plotly figures of a hyper-parameter search, from its report (see `labkit.training.search.report`): used by the report's page and by
notebooks.

Whole trials are blue, pruned ones grey, the best one orange, the recipe's own settings green: in every figure.
"""

import math
from typing import TYPE_CHECKING, Any

from labkit.plots import BASE_COLOUR, COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

Report = dict[str, Any]
Row = dict[str, Any]

_WHOLE, _PRUNED, _BEST, _DEFAULT = COLOURS[0], BASE_COLOUR, COLOURS[1], COLOURS[2]

_WORDS = {
    "en": {"trial": "trial", "whole": "whole trials", "pruned": "pruned, at its last measurement", "so_far": "best so far",
           "step": "measurement", "best": "best", "default": "the recipe's own", "axis": "importance (share)",
           "share": "share of the variance (fANOVA, 90% range)", "top": "for the best tenth (PED-ANOVA)", "seed": "seed",
           "validation_loss": "validation loss (nats)"},
    "zh": {"trial": "试验", "whole": "完整试验", "pruned": "被剪枝（最后一次测量）", "so_far": "当前最佳", "step": "测量次序",
           "best": "最佳", "default": "原配方", "axis": "重要性（占比）", "share": "方差占比（fANOVA，90% 范围）",
           "top": "对最佳十分之一（PED-ANOVA）", "seed": "种子", "validation_loss": "验证损失（纳特）"},
}


def history(report: Report, language: str = "en") -> "go.Figure":
    """The value of each trial in the order of trying, and the best so far."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    figure.add_scatter(**_points(_of(report, "pruned"), lambda row: row["number"]), name=words["pruned"], **_cross())
    figure.add_scatter(**_points(_of(report, "complete"), lambda row: row["number"]), name=words["whole"], **_dot(_WHOLE))
    numbers, values = [], []
    for row in _of(report, "complete"):
        numbers.append(row["number"])
        values.append(row["value"] if not values else _better(report)(values[-1], row["value"]))
    figure.add_scatter(x=numbers, y=values, name=words["so_far"], mode="lines", line={"shape": "hv", "color": _BEST, "width": 2},
                       marker={"color": _BEST}, hoverinfo="skip")
    if (default := _default(report)) is not None:
        figure.add_hline(y=default["value"], line={"dash": "dot", "color": _DEFAULT, "width": 2}, annotation_text=words["default"])
    figure.update_xaxes(dtick=1 if len(report["trials"]) < 16 else None, rangemode="tozero")
    return _dressed(figure, words["trial"], _value(report, language))


def intermediate(report: Report, language: str = "en") -> "go.Figure":
    """What each trial reported on its way; a pruned one ends with a cross."""
    import plotly.graph_objects as go

    words, figure, best = _WORDS[language], go.Figure(), _best(report)
    named: set[str] = set()
    for row in sorted(report["trials"], key=lambda row: (row["state"] == "complete", row is best)):
        if row["state"] not in ("complete", "pruned") or not row["reports"]:
            continue
        kind = "best" if row is best else "whole" if row["state"] == "complete" else "pruned"
        colour = {"best": _BEST, "whole": _WHOLE, "pruned": _PRUNED}[kind]
        steps, values = zip(*row["reports"], strict=True)
        symbols = ["circle"] * (len(steps) - 1) + ["x" if kind == "pruned" else "circle"]
        figure.add_scatter(x=steps, y=values, mode="lines+markers", name=words[kind], legendgroup=kind, showlegend=kind not in named,
                           opacity=1.0 if kind == "best" else 0.6, line={"color": colour, "width": 3 if kind == "best" else 1.5},
                           marker={"color": colour, "symbol": symbols, "size": 6}, hovertext=_said(row, words), hoverinfo="text+y")
        named.add(kind)
    figure.update_xaxes(dtick=1)
    return _dressed(figure, words["step"], _value(report, language))


def slice_of(report: Report, name: str, language: str = "en") -> "go.Figure":
    """The values of all trials against one setting, where its condition held."""
    import plotly.graph_objects as go

    words, figure, best = _WORDS[language], go.Figure(), _best(report)
    at = lambda row: _shown(row["settings"][name])  # noqa: E731
    rows = lambda state: [row for row in _of(report, state) if name in row["parameters"] and row is not best]  # noqa: E731
    figure.add_scatter(**_points(rows("pruned"), at), name=words["pruned"], **_cross())
    figure.add_scatter(**_points(rows("complete"), at), name=words["whole"], **_dot(_WHOLE))
    if best is not None and name in best["parameters"]:
        figure.add_scatter(**_points([best], at), name=words["best"], **_dot(_BEST, 12))
    _set_axis(figure.layout.xaxis, report, name)
    return _dressed(figure, name, _value(report, language))


def contour(report: Report, across: str, up: str, language: str = "en") -> "go.Figure":
    """Two settings and the value, as a map between the trials that were tried (a triangle's corners are trials; nothing is fitted)."""
    import plotly.graph_objects as go

    words = _WORDS[language]
    rows = [row for row in _of(report, "complete") if {across, up} <= row["parameters"].keys()]
    axes = [sorted({_shown(row["settings"][name]) for row in rows}, key=_order) for name in (across, up)]
    values = {(_shown(row["settings"][across]), _shown(row["settings"][up])): row["value"] for row in rows}
    grid = [[values.get((x, y)) for x in axes[0]] for y in axes[1]]
    figure = go.Figure(go.Contour(x=axes[0], y=axes[1], z=grid, connectgaps=True, colorscale="Viridis", contours_coloring="heatmap",
                                  reversescale=report["direction"] == "minimise", line={"width": 0}, hoverinfo="none", showlegend=False,
                                  colorbar={"title": {"text": _value(report, language), "side": "right"}}))
    figure.add_scatter(x=[_shown(row["settings"][across]) for row in rows], y=[_shown(row["settings"][up]) for row in rows],
                       hovertext=[_said(row, words) for row in rows], hoverinfo="text", showlegend=False,
                       mode="markers", marker={"color": "#ffffff", "size": 7, "line": {"color": "#000000", "width": 1}})
    _set_axis(figure.layout.xaxis, report, across)
    _set_axis(figure.layout.yaxis, report, up)
    return _dressed(figure, across, up)


def parallel(report: Report, language: str = "en") -> "go.Figure":
    """Every whole trial as a line through all its settings and its value; the brighter, the better. (Plotly's own parallel coordinates
    need WebGL, which not every browser has.)"""
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    rows, words, figure = _of(report, "complete"), _WORDS[language], go.Figure()
    axes = {name: _coordinate(report, name, rows) for name in report["space"]}
    low, high = min(row["value"] for row in rows), max(row["value"] for row in rows)
    axes[_value(report, language)] = {"places": [_along(row["value"], low, high) for row in rows],
                                      "ticks": {0.0: _brief(low), 1.0: _brief(high)}}
    worst, top = (high, low) if report["direction"] == "minimise" else (low, high)
    goodness = [(row["value"] - worst) / (top - worst) if top != worst else 0.5 for row in rows]
    for place in sorted(range(len(rows)), key=lambda place: goodness[place]):
        colour = sample_colorscale("Viridis", 0.9 * goodness[place])[0]
        figure.add_scatter(x=list(axes), y=[axis["places"][place] for axis in axes.values()], mode="lines+markers", showlegend=False,
                           line={"color": colour, "width": 3 if rows[place] is _best(report) else 1.5}, opacity=0.8,
                           marker={"color": colour, "size": 6}, hovertext=_said(rows[place], words), hoverinfo="text")
    for number, axis in enumerate(axes.values()):
        figure.add_vline(x=number, line={"color": "#999999", "width": 1})
        for height, text in axis["ticks"].items():
            figure.add_annotation(x=number, y=height, text=text, showarrow=False, xanchor="left", xshift=5, yshift=8, font={"size": 11})
    figure.update_yaxes(visible=False, range=[-0.06, 1.14])
    figure.update_xaxes(showgrid=False, range=[-0.2, len(axes) - 0.4])
    return _dressed(figure, "", "")


def importances(report: Report, language: str = "en") -> "go.Figure":
    """How much each setting matters, by two measures, with the range of the first when the trials are drawn anew."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    settings = (report["importance"] or {"settings": {}})["settings"]
    names = list(settings)
    figure.add_bar(y=names, x=[settings[name]["share"] for name in names], orientation="h", name=words["share"], marker={"color": _WHOLE},
                   error_x={"type": "data", "symmetric": False, "color": "#444444",
                            "array": [max(0.0, settings[name]["high"] - settings[name]["share"]) for name in names],
                            "arrayminus": [max(0.0, settings[name]["share"] - settings[name]["low"]) for name in names]})
    figure.add_bar(y=names, x=[settings[name]["top"] for name in names], orientation="h", name=words["top"], marker={"color": COLOURS[4]})
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(barmode="group")
    return _dressed(figure, words["axis"], "").update_layout(height=150 + 48 * len(names))


def seeds(report: Report, language: str = "en") -> "go.Figure":
    """The repeated values: the recipe's own settings beside the best ones, a line for each seed. The means are bars; the best one's has
    the 95% interval of the difference: where it does not reach the dotted line, the gain is more than noise."""
    import plotly.graph_objects as go

    words, noise, figure = _WORDS[language], report["noise"], go.Figure()
    sides = [words["default"], words["best"]]
    for place, (seed, default, best) in enumerate(zip(noise["seeds"], noise["default"], noise["best"], strict=True)):
        figure.add_scatter(x=sides, y=[default, best], mode="lines+markers", line={"color": _PRUNED, "width": 1}, name=words["seed"],
                           marker={"color": [_DEFAULT, _BEST], "size": 9}, showlegend=False, hovertext=f"{words['seed']} {seed}",
                           hoverinfo="text+y", legendgroup=str(place))
    for side, mean, colour in zip(sides, (noise["mean_default"], noise["mean_best"]), (_DEFAULT, _BEST), strict=True):
        figure.add_scatter(x=[side], y=[mean], mode="markers", showlegend=False, name=side, hoverinfo="y",
                           marker={"symbol": "line-ew", "size": 60, "line": {"width": 4, "color": colour}})
    sign = 1.0 if report["direction"] == "minimise" else -1.0
    ends = sorted(noise["mean_default"] - sign * noise[end] for end in ("low", "high"))
    figure.add_scatter(x=[words["best"]], y=[noise["mean_best"]], mode="markers", showlegend=False, name=words["best"], hoverinfo="skip",
                       marker={"size": 1, "color": _BEST}, error_y={
                           "type": "data", "symmetric": False, "array": [ends[1] - noise["mean_best"]], "color": _BEST, "thickness": 2.5,
                           "arrayminus": [noise["mean_best"] - ends[0]], "width": 14})
    figure.add_hline(y=noise["mean_default"], line={"dash": "dot", "color": _DEFAULT, "width": 1.5})
    figure.update_xaxes(range=[-0.6, 1.6])
    return _dressed(figure, "", _value(report, language))


def _of(report: Report, state: str) -> list[Row]:
    return [row for row in report["trials"] if row["state"] == state and row["value"] is not None]


def _better(report: Report):
    return min if report["direction"] == "minimise" else max


def _best(report: Report) -> Row | None:
    whole = _of(report, "complete")
    return _better(report)(whole, key=lambda row: row["value"]) if whole else None


def _default(report: Report) -> Row | None:
    return next((row for row in _of(report, "complete") if row["settings"] == report["default"]), None)


def _value(report: Report, language: str) -> str:
    return _WORDS[language].get(report["monitor"], report["monitor"].replace("_", " "))


def _said(row: Row, words: dict[str, str]) -> str:
    settings = "<br>".join(f"{name} = {_brief(value)}" for name, value in row["parameters"].items())
    return f"{words['trial']} {row['number']}: {row['value']:.4g}<br>{settings}"


def _points(rows: list[Row], at) -> dict[str, Any]:
    return {"x": [at(row) for row in rows], "y": [row["value"] for row in rows], "mode": "markers", "hoverinfo": "text",
            "hovertext": [_said(row, _WORDS["en"]) for row in rows]}


def _dot(colour: str, size: int = 8) -> dict[str, Any]:
    return {"marker": {"color": colour, "size": size}}


def _cross() -> dict[str, Any]:
    return {"marker": {"color": _PRUNED, "size": 8, "symbol": "x-thin", "line": {"color": _PRUNED, "width": 1.5}}}


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> Any:
    """Names and truth values as texts, numbers as they are."""
    return str(value) if isinstance(value, bool | str) else value


def _order(value: Any) -> tuple:
    return (1, 0.0, value) if isinstance(value, str) else (0, value, "")


def _set_axis(axis, report: Report, name: str) -> None:
    entry = report["space"][name]
    if entry.get("log"):
        axis.type = "log"
    elif "choices" in entry:
        axis.type = "category"
        axis.categoryorder, axis.categoryarray = "array", [_shown(value) for value in entry["choices"]]


def _coordinate(report: Report, name: str, rows: list[Row]) -> dict[str, Any]:
    """One axis of the parallel coordinates: each trial's place from 0 to 1, and what stands beside which place. Logarithms where the
    setting is spread over them."""
    entry, values = report["space"][name], [row["settings"][name] for row in rows]
    if "choices" in entry:
        known = list(dict.fromkeys([*entry["choices"], *values]))
        places = {value: _along(place, 0, len(known) - 1) for place, value in enumerate(known)}
        return {"places": [places[value] for value in values], "ticks": {place: str(_shown(value)) for value, place in places.items()}}
    low, high = min([entry["low"], *values]), max([entry["high"], *values])
    bent = math.log10 if entry.get("log") else float
    return {"places": [_along(bent(value), bent(low), bent(high)) for value in values], "ticks": {0.0: f"{low:.4g}", 1.0: f"{high:.4g}"}}


def _along(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _dressed(figure: "go.Figure", x: str, y: str) -> "go.Figure":
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    return figure.update_layout(xaxis_title=x, yaxis_title=y, template="plotly_white", height=360,
                                margin={"l": 60, "r": 20, "t": 40, "b": 50}, legend=legend)

"""The plotly figures of training: the schedule before a run, the rate finder, curves of several runs, optimisers on a toy surface.

All take plain numbers or rows of metrics.jsonl and say what they show in English or Chinese (`language`). Names of runs are escaped: plotly
reads a little HTML and LaTeX in its texts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.plots import BASE_COLOUR, COLOURS, _styled, colour
from labkit.plots_data import shown

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.training.rate_finder import Sweep
    from labkit.training.recipe import Recipe

Rows = Sequence[Mapping[str, Any]]

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # beside the colour, so that lines are told apart in print too
PANELS = ("learning_rate", "gradient_norm", "tokens_per_second", "memory_gb")
_WORDS = {
    "en": {"step": "step", "share": "share of the peak rate", "learning_rate": "learning rate", "momentum": "momentum",
           "epoch": "epoch {number}", "seconds": "training time (s)",
           "loss": "loss (nats)", "validation_loss": "validation loss (nats)", "gradient_norm": "gradient norm before clipping",
           "tokens_per_second": "tokens/s", "memory_gb": "memory (GB)", "as_measured": "as measured", "smoothed": "smoothed",
           "suggestion": "suggestion: {rate:.2g}", "no_suggestion": "no suggestion", "steepest": "steepest fall", "lowest": "lowest",
           "first": "first coordinate", "second": "second coordinate", "start": "start", "height": "height",
           "none": "nothing to show yet"},
    "zh": {"step": "步", "share": "占峰值学习率的比例", "learning_rate": "学习率", "momentum": "动量", "epoch": "第 {number} 轮",
           "seconds": "训练时间（秒）",
           "loss": "损失（nat）", "validation_loss": "验证损失（nat）", "gradient_norm": "裁剪前的梯度范数",
           "tokens_per_second": "词元/秒", "memory_gb": "内存（GB）", "as_measured": "实测", "smoothed": "平滑",
           "suggestion": "建议：{rate:.2g}", "no_suggestion": "没有建议", "steepest": "下降最快处", "lowest": "最低处",
           "first": "第一坐标", "second": "第二坐标", "start": "起点", "height": "高度",
           "none": "还没有可显示的内容"},
}


def schedule(rates: Sequence[float], momenta: Sequence[float] = (), epochs: Sequence[int] = (), language: str = "en") -> "go.Figure":
    """What the learning rate will be at each step, and the momentum where it moves.

    Args:
        rates: the learning rate of each step.
        momenta: the momentum of each step; empty: it stays, and is not shown.
        epochs: the steps (from 1) at which epochs begin; they are marked.
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    steps = list(range(1, len(rates) + 1))
    figure.add_scatter(x=steps, y=list(rates), name=words["learning_rate"], mode="lines", line={"color": COLOURS[0]})
    _styled(figure, words["step"], words["learning_rate"]).update_yaxes(rangemode="tozero", exponentformat="power")
    if momenta:
        figure.add_scatter(x=steps, y=list(momenta), name=words["momentum"], mode="lines", yaxis="y2",
                           line={"color": COLOURS[1], "dash": "dash"})
        figure.update_layout(yaxis2={"title": words["momentum"], "overlaying": "y", "side": "right", "showgrid": False,
                                   "tickmode": "auto", "nticks": 5, "tickformat": ".2f"}, margin_r=60)
    for number, step in enumerate(epochs, 1):
        figure.add_vline(step, line={"color": BASE_COLOUR, "width": 1, "dash": "dot"}, annotation_text=words["epoch"].format(number=number),
                         annotation_position="top right", annotation_font_size=10)
    return figure


def schedule_of(recipe: "Recipe", steps: int, steps_an_epoch: int = 0, language: str = "en") -> "go.Figure":
    """The schedule of a recipe before it is run: `steps` in all, epochs marked where it is known how long one is."""
    from labkit.training import schedules

    rates = [recipe.learning_rate * schedules.of_recipe(recipe, index, steps) for index in range(steps)]
    momenta = [schedules.momentum_of_recipe(recipe, index, steps) for index in range(steps)] if recipe.schedule == "one_cycle" else ()
    return schedule(rates, momenta, range(1, steps + 1, steps_an_epoch) if steps_an_epoch else (), language)


def schedules_compared(shares: Mapping[str, Sequence[float]], language: str = "en") -> "go.Figure":
    """Several schedules over the same steps, each as shares of its peak."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    for place, (name, values) in enumerate(shares.items()):
        figure.add_scatter(x=list(range(1, len(values) + 1)), y=list(values), name=shown(name), mode="lines", line=_line(place))
    return _styled(figure, words["step"], words["share"])


def rate_finder(sweep: "Sweep", language: str = "en") -> "go.Figure":
    """The range test: the loss over the rate, as measured and smoothed, with what it suggests and why."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    figure.add_scatter(x=list(sweep.rates), y=list(sweep.losses), name=words["as_measured"], mode="lines",
                       line={"color": COLOURS[4], "width": 1})
    figure.add_scatter(x=list(sweep.rates), y=list(sweep.smoothed), name=words["smoothed"], mode="lines",
                       line={"color": COLOURS[0], "width": 3})
    for name, rate, symbol in (("steepest", sweep.steepest, "triangle-down"), ("lowest", sweep.lowest, "circle")):
        if rate is not None:
            height = sweep.smoothed[sweep.rates.index(rate)]
            figure.add_scatter(x=[rate], y=[height], name=words[name], mode="markers",
                               marker={"color": COLOURS[1], "size": 10, "symbol": symbol, "line": {"color": "black", "width": 1}})
    _styled(figure, words["learning_rate"], words["loss"]).update_xaxes(type="log", exponentformat="power")
    title = words["no_suggestion"]
    if sweep.suggestion is not None:
        title = words["suggestion"].format(rate=sweep.suggestion)
        figure.add_vline(sweep.suggestion, line={"color": COLOURS[5], "dash": "dash"})
    why = sweep.zh if language == "zh" else sweep.reason
    subtitle = {"text": shown(why, 150), "font": {"size": 12}}
    figure.update_layout(title={"text": title, "font": {"size": 15}, "subtitle": subtitle}, height=430, margin_t=110)
    if sweep.smoothed:  # a loss that ran away would flatten all else
        low, high = min(sweep.smoothed), max(sweep.losses[: max(1, len(sweep.losses) // 2)])
        figure.update_yaxes(range=[low - 0.1 * (high - low), high + 0.3 * (high - low)] if high > low else None)
    return figure


def curves(runs: Mapping[str, Rows], measure: str = "loss", smoothing: float = 0.9, language: str = "en",
           seconds: bool = False) -> "go.Figure":
    """A measure of several runs, laid over each other: each value as a thin line, a running mean as a thick one.

    Args:
        runs: rows of metrics.jsonl, by the run's name.
        measure: `loss`, `validation_loss`, another figure of the rows, or a metric of the validation. What is not in every row is drawn
            with a mark each and not smoothed.
        smoothing: share of the running mean that stays from step to step, 0 to below 1; 0 draws no thick line.
        seconds: over the time since the run began, instead of over steps.
    """
    import plotly.graph_objects as go

    words, figure, seen = _WORDS[language], go.Figure(), {}
    for name, rows in runs.items():
        points = [(row["seconds" if seconds else "step"], value) for row in rows if (value := _value(row, measure)) is not None]
        if not points:
            continue
        xs, ys = [x for x, _ in points], [y for _, y in points]
        line = _line_of(name, seen)
        if len(points) < len(rows) or not smoothing:
            figure.add_scatter(x=xs, y=ys, name=shown(name), mode="lines+markers" if len(points) < len(rows) else "lines", line=line)
            continue
        figure.add_scatter(x=xs, y=ys, name=shown(name), legendgroup=name, showlegend=False, mode="lines", opacity=0.35, hoverinfo="skip",
                           line={**line, "width": 1, "dash": "solid"})
        figure.add_scatter(x=xs, y=smoothed(ys, smoothing), name=shown(name), legendgroup=name, mode="lines", line={**line, "width": 3})
    _styled(figure, words["seconds" if seconds else "step"], _title(measure, language))
    if not figure.data:
        figure.add_annotation(text=words["none"], x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"color": BASE_COLOUR})
    return figure


def panels(runs: Mapping[str, Rows], measures: Sequence[str] = PANELS, language: str = "en") -> "go.Figure":
    """Learning rate, gradient norm, speed and memory of several runs over the steps, a small figure each.

    A measure that no row has keeps its place and says so.
    """
    from plotly.subplots import make_subplots

    rows_of_panels, words, seen = math.ceil(len(measures) / 2), _WORDS[language], {}
    figure = make_subplots(rows_of_panels, 2, subplot_titles=[_title(measure, language) for measure in measures], vertical_spacing=0.2)
    lines = {name: _line_of(name, seen) for name in runs}
    for place, measure in enumerate(measures):
        at, drawn = {"row": place // 2 + 1, "col": place % 2 + 1}, False
        for name, rows in runs.items():
            points = [(row["step"], value) for row in rows if (value := _value(row, measure)) is not None]
            drawn = drawn or bool(points)
            figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], name=shown(name), legendgroup=name,
                               showlegend=place == 0, mode="lines", line=lines[name], **at)
        figure.update_xaxes(title=words["step"], **at)
        if not drawn:
            axis = "" if place == 0 else place + 1
            figure.add_annotation(text=words["none"], x=0.5, y=0.5, xref=f"x{axis} domain", yref=f"y{axis} domain", showarrow=False,
                                  font={"color": BASE_COLOUR})
    return figure.update_layout(template="plotly_white", height=90 + 230 * rows_of_panels, margin={"l": 60, "r": 20, "t": 70, "b": 50},
                                legend={"orientation": "h", "y": 1.04, "yanchor": "bottom"})


def landscape(surface: Callable[[float, float], float], trails: Mapping[str, Sequence[tuple[float, float]]],
              bounds: tuple[tuple[float, float], tuple[float, float]], language: str = "en", levels: int = 30) -> "go.Figure":
    """Ways of optimisers over a surface of two coordinates, see `labkit.training.optimisers.trail`.

    Args:
        surface: the height at a place.
        trails: the places each optimiser came through, the first where it began.
        bounds: lowest and highest value of the first coordinate, and of the second.
        levels: places of the contours' grid along each side, times two. Heights are drawn as their logarithm above the lowest, so that
            valleys show.
    """
    import numpy as np
    import plotly.graph_objects as go

    words = _WORDS[language]
    xs, ys = (np.linspace(*bound, 2 * levels + 1) for bound in bounds)
    heights = np.array([[surface(x, y) for x in xs] for y in ys])
    drawn = np.log10(heights - heights.min() + 1e-3 * max(float(np.ptp(heights)), 1e-12))
    figure = go.Figure(go.Contour(x=xs, y=ys, z=drawn, customdata=heights, colorscale="Greys", reversescale=True, showscale=False,
                                  opacity=0.6, ncontours=levels // 2, name=words["height"],
                                  hovertemplate="(%{x:.2f}, %{y:.2f}): %{customdata:.4g}<extra></extra>"))
    for place, (name, trail) in enumerate(trails.items()):
        figure.add_scatter(x=[x for x, _ in trail], y=[y for _, y in trail], name=shown(name), mode="lines+markers", line=_line(place),
                           marker={"size": 4})
    if trails:
        start = next(iter(trails.values()))[0]
        figure.add_scatter(x=[start[0]], y=[start[1]], name=words["start"], mode="markers",
                           marker={"size": 12, "color": "black", "symbol": "x"})
    _styled(figure, words["first"], words["second"]).update_layout(height=480)
    return figure.update_xaxes(range=bounds[0]).update_yaxes(range=bounds[1])


def smoothed(values: Sequence[float], keep: float) -> list[float]:
    """The running mean in which a value counts `keep` times as much a step later; the first value is its own mean."""
    found, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(total / weight)
    return found


def _value(row: Mapping[str, Any], measure: str) -> float | None:
    """What a row says of a measure, if it is a finite number."""
    value = row.get(measure, (row.get("validation") or {}).get(measure))
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _title(measure: str, language: str) -> str:
    return _WORDS[language].get(measure, shown(measure.replace("_", " ")))


def _line(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "dash": _DASHES[place % len(_DASHES)]}


def _line_of(name: str, seen: dict[str, int]) -> dict[str, Any]:
    """A run's own colour; where another run in the figure has it too, another dash."""
    own = colour(name)
    seen[own] = seen.get(own, -1) + 1
    return {"color": own, "dash": _DASHES[seen[own] % len(_DASHES)]}

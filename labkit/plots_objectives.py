"""The plotly figures of objectives: losses as functions, embeddings before and after, similarities, and what several seeds reached.

All take plain numbers and say what they show in English or Chinese (`language`). Names are escaped: plotly reads a little HTML and LaTeX in
its texts.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from labkit.plots import BASE_COLOUR, COLOURS, _styled
from labkit.plots_data import shown

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go

    from labkit.scenarios import Field

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "diamond", "square", "x", "triangle-up", "star")  # beside the colour: there are more labels than colours
_WORDS = {
    "en": {"loss": "loss (nats)", "probability": "probability of the right label", "component": "first principal component",
           "component_2": "second principal component", "cosine": "cosine", "seed": "one seed each",
           "mean": "mean, 95% interval", "difference": "difference, 95% interval", "lowest": "lowest"},
    "zh": {"loss": "损失（nat）", "probability": "正确标签的概率", "component": "第一主成分", "component_2": "第二主成分", "cosine": "余弦",
           "seed": "每点一个种子", "mean": "均值与 95% 区间", "difference": "差值与 95% 区间", "lowest": "最低处"},
}


class Interval(Protocol):
    """A value with its 95% interval; low and high are None where there is none."""

    value: float | None
    low: float | None
    high: float | None


def losses(curves: Mapping[str, Sequence[tuple[float, float]]], x: str = "", y: str = "", language: str = "en") -> "go.Figure":
    """Losses as functions, a line each, with a mark at the lowest place of one that has it inside.

    Args:
        curves: (place, loss) by the loss's name.
        x: what the places are; by default the probability of the right label.
        y: what the loss is; by default nats.
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    for number, (name, points) in enumerate(curves.items()):
        xs, ys = [place for place, _ in points], [loss for _, loss in points]
        line = {"color": COLOURS[number % len(COLOURS)], "dash": _DASHES[number % len(_DASHES)]}
        figure.add_scatter(x=xs, y=ys, name=shown(name), mode="lines", line=line)
        lowest = min(range(len(ys)), key=ys.__getitem__)
        if 0 < lowest < len(ys) - 1:
            figure.add_scatter(x=[xs[lowest]], y=[ys[lowest]], mode="markers", showlegend=False,
                               hovertemplate=words["lowest"] + " (%{x:.3f}, %{y:.3f})",
                               marker={"color": line["color"], "size": 9, "symbol": "circle-open", "line": {"width": 2}})
    return _styled(figure, x or words["probability"], y or words["loss"])


def embeddings(panels: "Mapping[str, tuple[np.ndarray, Sequence[str]]]", field: "Field", language: str = "en") -> "go.Figure":
    """Texts in the plane of their first two principal components, by label, a panel for each model.

    Each panel has components of its own, of its embeddings scaled to length 1 (what cosines see); its title says how much of the variance
    they hold.

    Args:
        panels: float (texts, hidden) and each text's label, by the model's name.
        field: whose labels they are.
    """
    import numpy as np
    from plotly.subplots import make_subplots

    words, flat, titles = _WORDS[language], {}, []
    for name, (vectors, labels) in panels.items():
        points, held = plane(np.asarray(vectors))
        flat[name] = points, list(labels)
        titles.append(f"{shown(name)} ({held:.0%})")
    figure = make_subplots(1, max(1, len(panels)), subplot_titles=titles, horizontal_spacing=0.05)
    for column, (points, labels) in enumerate(flat.values(), 1):
        for place, value in enumerate(field.values):
            chosen = [row for row, label in enumerate(labels) if label == value]
            if not chosen:
                continue
            marker = {"color": COLOURS[place % len(COLOURS)], "symbol": _SYMBOLS[place // len(COLOURS) % len(_SYMBOLS)], "size": 7,
                      "line": {"color": "white", "width": 0.5}}
            figure.add_scatter(x=points[chosen, 0], y=points[chosen, 1], mode="markers", name=shown(field.show(value, language)),
                               legendgroup=value, showlegend=column == 1, row=1, col=column, marker=marker)
        figure.update_xaxes(title=words["component"], showticklabels=False, row=1, col=column)
        figure.update_yaxes(title=words["component_2"] if column == 1 else None, showticklabels=False, row=1, col=column)
    return figure.update_layout(template="plotly_white", height=470, margin={"l": 50, "r": 20, "t": 40, "b": 50},
                                legend={"orientation": "h", "y": -0.14, "yanchor": "top"})


def plane(vectors: "np.ndarray") -> "tuple[np.ndarray, float]":
    """The first two principal components of vectors scaled to length 1, float (texts, 2), and the share of the variance that they hold."""
    import numpy as np

    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    left, strengths, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    points = left[:, :2] * strengths[:2]
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((strengths**2).sum())
    return points, float((strengths[:2] ** 2).sum()) / total if total else 0.0


def similarities(matrix: "np.ndarray", rows: Sequence[str], columns: Sequence[str], language: str = "en") -> "go.Figure":
    """The cosine of each row's text with each column's; what belongs together stands on the diagonal."""
    import plotly.graph_objects as go

    words = _WORDS[language]
    both = [[f"{shown(row)}<br>{shown(column)}" for column in columns] for row in rows]
    figure = go.Figure(go.Heatmap(z=matrix, customdata=both, colorscale="Blues", zmin=0, zmax=1, texttemplate="%{z:.2f}",
                                  colorbar={"title": words["cosine"]}, hovertemplate="%{customdata}: %{z:.3f}<extra></extra>"))
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=[shown(text, 22) for text in columns], tickangle=-25)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=[shown(text, 44) for text in rows], autorange="reversed", automargin=True)
    return _styled(figure, "", "").update_layout(height=170 + 42 * max(3, len(rows)), margin={"b": 90})


def over_seeds(found: Mapping[str, Sequence[float]], measure: str, against: float | None = None, language: str = "en") -> "go.Figure":
    """What each way of training reached: a dot a seed, and the mean with its 95% interval over the seeds (Student's t).

    Args:
        found: a number a seed, by the way's name.
        measure: what the numbers are, with their unit.
        against: a value to draw a line at, such as what costs nothing.
    """
    import plotly.graph_objects as go

    from labkit.labeling.cost import over_runs

    words, figure, names = _WORDS[language], go.Figure(), [shown(name) for name in found]
    means = [over_runs(values) for values in found.values()]
    every = [(value, name) for name, values in zip(names, found.values(), strict=True) for value in values]
    figure.add_scatter(x=[value for value, _ in every], y=[name for _, name in every], mode="markers", name=words["seed"],
                       marker={"color": COLOURS[4], "size": 6, "symbol": "line-ns-open", "line": {"width": 2}})
    figure.add_scatter(x=[mean.value for mean in means], y=names, mode="markers", name=words["mean"], error_x=_bars(means),
                       marker={"color": COLOURS[0], "size": 9}, hovertemplate="%{y}: %{x:.3f}<extra></extra>")
    return _listed(figure, measure, names, against)


def differences(found: Mapping[str, Interval], measure: str, language: str = "en") -> "go.Figure":
    """Differences with their 95% intervals and a line at 0; those whose interval excludes 0 are blue, the others grey."""
    import plotly.graph_objects as go

    figure, names = go.Figure(), [shown(name) for name in found]
    for name, each in zip(names, found.values(), strict=True):
        sure = each.low is not None and each.high is not None and (each.low > 0 or each.high < 0)
        colour = COLOURS[0] if sure else BASE_COLOUR
        figure.add_scatter(x=[each.value], y=[name], mode="markers", showlegend=False, marker={"color": colour, "size": 10},
                           error_x={**_bars([each]), "color": colour}, hovertemplate="%{y}: %{x:+.3f}<extra></extra>")
    return _listed(figure, f"{measure} ({_WORDS[language]['difference']})", names, 0.0)


def _bars(points: Sequence[Interval]) -> dict:
    """The intervals as plotly's error bars; none where there is no interval."""
    return {"type": "data", "symmetric": False, "array": [0.0 if each.high is None else each.high - each.value for each in points],
            "arrayminus": [0.0 if each.low is None else each.value - each.low for each in points]}


def _listed(figure: "go.Figure", measure: str, names: list[str], line: float | None) -> "go.Figure":
    if line is not None:
        figure.add_vline(x=line, line={"color": BASE_COLOUR, "dash": "dot"})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names, autorange="reversed", automargin=True)
    return _styled(figure, measure, "").update_layout(height=150 + 36 * max(2, len(names)))

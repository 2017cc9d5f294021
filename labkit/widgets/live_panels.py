"""The curves of the live board: six panels that stay quick however long a training is."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit import plots

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_POINTS = 400    # of a curve: a panel is about 300 pixels wide
MOST_MEASURES = 6    # in the panel of the validation's measures

_PANELS = ("loss", "measures", "rate", "norm", "speed", "memory")  # row by row
_COLUMNS = 3
_WIDTH = 980         # pixels: JupyterLab's cells on a laptop's screen


class Thinned:
    """A curve of at most `2 * most` points, however many are added: once there are as many, two become one, and from then on
    twice as many steps make a point.

    Args:
        peak: a point is the largest of its steps' values (for what must not be averaged away), else their mean.

    Example:
        >>> curve = Thinned(most=2)
        >>> for step in range(1, 9):
        ...     curve.add(step, float(step))
        >>> curve.points()
        ([4, 8], [2.5, 6.5])
    """

    def __init__(self, most: int = MOST_POINTS, peak: bool = False) -> None:
        self._most, self._peak, self._stride = most, peak, 1
        self._xs: list[float] = []
        self._ys: list[float] = []
        self._open: list[float] = []  # values of the last, unfinished point
        self._last = 0.0

    def add(self, x: float, y: float) -> None:
        """One more value; `x` must not fall."""
        self._open.append(y)
        self._last = x
        if len(self._open) == self._stride:
            self._xs.append(x)
            self._ys.append(self._one(self._open))
            self._open = []
        if len(self._xs) == 2 * self._most:
            self._xs = self._xs[1::2]
            self._ys = [self._one(self._ys[place: place + 2]) for place in range(0, len(self._ys), 2)]
            self._stride *= 2

    def points(self) -> tuple[list[float], list[float | None]]:
        """(xs, ys) with the unfinished point; None where a value is no number."""
        xs, ys = self._xs, self._ys
        if self._open:
            xs, ys = [*xs, self._last], [*ys, self._one(self._open)]
        return list(xs), [y if math.isfinite(y) else None for y in ys]

    def _one(self, values: Sequence[float]) -> float:
        return max(values) if self._peak else math.fsum(values) / len(values)


class Panels:
    """Loss, validation measures, learning rate, gradient norm, speed and memory over the steps.

    Args:
        name: of the run, for its colour.
        words: the board's captions in one language.
        live: a FigureWidget, which can change while it is shown; else a plain figure.
    """

    def __init__(self, name: str, words: dict[str, str], live: bool = True) -> None:
        self.figure, self._words = _empty(words, live), words
        colour = plots.colour(name)
        self._curves: dict[str, Thinned] = {}
        self._places: dict[str, int] = {}
        faint = {"color": plots.BASE_COLOUR, "width": 1}
        self._add("training", "loss", words["training"], line=faint, opacity=0.5, legend=True)
        self._add("smoothed", "loss", words["smoothed"], line={"color": colour, "width": 2}, legend=True)
        self._add("validation", "loss", words["validation"], mode="lines+markers", line={"color": plots.COLOURS[1]}, legend=True)
        for panel in ("rate", "norm", "speed", "memory"):
            self._add(panel, panel, words[f"{panel}_panel"], peak=panel == "norm", line={"color": colour})

    def see(self, row: dict[str, Any], smoothed: float) -> None:
        """One row of metrics, without drawing it."""
        values = {"training": row["loss"], "smoothed": smoothed, "validation": row.get("validation_loss"), "rate": row["learning_rate"],
                  "norm": row["gradient_norm"], "speed": row["tokens_per_second"], "memory": row.get("memory_gb")}
        for name, value in (row.get("validation") or {}).items():
            if type(value) not in (int, float):
                continue
            key, taken = f"measure {name}", sum(each.startswith("measure ") for each in self._curves)
            if key not in self._curves and taken < MOST_MEASURES:
                self._add(key, "measures", name, mode="lines+markers", line={"color": plots.COLOURS[taken]}, legend=True)
            values[key] = value
        for name, value in values.items():
            if value is not None and name in self._curves:
                self._curves[name].add(row["step"], value)

    def draw(self) -> None:
        """Show what was seen so far."""
        with self.figure.batch_update():
            for name, curve in self._curves.items():
                trace = self.figure.data[self._places[name]]
                trace.x, trace.y = curve.points()

    def _add(self, key: str, panel: str, title: str, *, mode: str = "lines", legend: bool = False, peak: bool = False,
             **style: Any) -> None:
        row, column = divmod(_PANELS.index(panel), _COLUMNS)
        self._curves[key], self._places[key] = Thinned(peak=peak), len(self.figure.data)
        self.figure.add_scatter(x=[], y=[], name=title, mode=mode, showlegend=legend, row=row + 1, col=column + 1, **style)


def _empty(words: dict[str, str], live: bool) -> "go.Figure":
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [words[f"{panel}_panel"] for panel in _PANELS]
    figure = make_subplots(rows=2, cols=_COLUMNS, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.16)
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title_text=words["step"], title_standoff=4, row=2)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(exponentformat="e", row=1, col=3)
    # Without a width it has 700 pixels: plotly measures its place on the page before there is one.
    figure.update_layout(template="plotly_white", height=480, width=_WIDTH, margin={"l": 40, "r": 20, "t": 60, "b": 40},
                         legend={"orientation": "h", "y": 1.18})
    return go.FigureWidget(figure) if live else figure

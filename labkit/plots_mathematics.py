"""The plotly figures of the notebooks on the mathematics: attention, next tokens, losses by token, learning rates, shares with intervals.

Tokens and names are escaped (`plots_data.shown`): plotly reads a little HTML and LaTeX in its texts.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from labkit.plots import BASE_COLOUR, COLOURS
from labkit.plots_data import shown

if TYPE_CHECKING:
    import plotly.graph_objects as go

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # beside the colour, so that lines are told apart in print too
_WORDS = {
    "en": {"key": "token looked at (key)", "query": "token that looks (query)", "weight": "attention weight", "chance": "probability",
           "next": "next token", "token": "token, in the order of the text", "loss": "loss (nats)", "mean": "mean {value:.2f}",
           "step": "step", "rate": "learning rate", "end": "training ends", "accuracy": "share right (0 to 1)",
           "guess": "always the commonest label"},
    "zh": {"key": "被关注的词元（键）", "query": "发出关注的词元（查询）", "weight": "注意力权重", "chance": "概率", "next": "下一个词元",
           "token": "词元（按文本顺序）", "loss": "损失（nat）", "mean": "平均 {value:.2f}", "step": "步", "rate": "学习率",
           "end": "训练结束", "accuracy": "正确比例（0 到 1）", "guess": "总猜最常见的标签"},
}


class Share(Protocol):
    """A share with its 95% interval; each is None where there is none."""

    value: float | None
    low: float | None
    high: float | None


def attention(heads: Sequence[Sequence[Sequence[float]]], tokens: Sequence[str], titles: Sequence[str],
              language: str = "en") -> "go.Figure":
    """A map a head, side by side: a row for each token that looks, a column for each that is looked at; a row adds up to 1.

    Args:
        heads: weights (heads, queries, keys), 0 to 1.
        tokens: names of rows and columns.
        titles: of the heads.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    words, places = _WORDS[language], list(range(len(tokens)))
    figure = make_subplots(1, len(heads), subplot_titles=[shown(title) for title in titles], horizontal_spacing=0.02)
    names = [_visible(token) for token in tokens]
    for column, weights in enumerate(heads, 1):
        figure.add_trace(go.Heatmap(
            z=[list(row) for row in weights], x=places, y=places, coloraxis="coloraxis", xgap=1, ygap=1,
            customdata=[[[query, key] for key in names] for query in names],
            hovertemplate="%{customdata[0]} → %{customdata[1]}: %{z:.2f}<extra></extra>"), 1, column)
        figure.update_xaxes(tickvals=places, ticktext=names, tickangle=-60, title=words["key"], row=1, col=column)
        figure.update_yaxes(tickvals=places, ticktext=names if column == 1 else [""] * len(names), autorange="reversed", row=1, col=column)
    figure.update_yaxes(title=words["query"], row=1, col=1)
    bar = {"title": {"text": words["weight"], "side": "right"}}
    return figure.update_layout(coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar": bar}, template="plotly_white",
                                height=240 + 20 * max(6, len(tokens)), margin={"l": 90, "r": 20, "t": 40, "b": 90})


def next_tokens(likeliest: Mapping[str, Sequence[tuple[str, float]]], language: str = "en") -> "go.Figure":
    """The likeliest next tokens with their probabilities, one panel for each name (a model, a text)."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    words = _WORDS[language]
    figure = make_subplots(1, len(likeliest), subplot_titles=[shown(name) for name in likeliest], horizontal_spacing=0.16)
    for column, pairs in enumerate(likeliest.values(), 1):
        places = list(range(len(pairs)))
        figure.add_trace(go.Bar(x=[chance for _, chance in pairs], y=places, orientation="h", marker_color=COLOURS[(column - 1) % 6],
                                showlegend=False, hovertemplate="%{x:.3f}<extra></extra>"), 1, column)
        figure.update_yaxes(tickvals=places, ticktext=[_visible(token) for token, _ in pairs], autorange="reversed", row=1, col=column)
        figure.update_xaxes(title=words["chance"], rangemode="tozero", row=1, col=column)
    figure.update_yaxes(title=words["next"], row=1, col=1)
    return figure.update_layout(template="plotly_white", height=360, margin={"l": 90, "r": 20, "t": 40, "b": 50})


def token_losses(surprises: Mapping[str, Sequence[tuple[str, float]]], language: str = "en") -> "go.Figure":
    """The loss of each token of one text, for one model or several, with their means as lines.

    Args:
        surprises: (token, loss in nats) of the same tokens by the model's name.
    """
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    for place, (name, pairs) in enumerate(surprises.items()):
        losses = [loss for _, loss in pairs]
        mean = sum(losses) / len(losses)
        figure.add_bar(x=list(range(len(pairs))), y=losses, name=f"{shown(name)}, {words['mean'].format(value=mean)}",
                       marker_color=COLOURS[place % 6])
        figure.add_hline(y=mean, line={"color": COLOURS[place % 6], "dash": _DASHES[1 + place % 4], "width": 1})
    first = next(iter(surprises.values()))
    figure.update_xaxes(tickvals=list(range(len(first))), ticktext=[_visible(token) for token, _ in first], tickangle=-60)
    return _styled(figure, words["token"], words["loss"]).update_layout(barmode="group", showlegend=True, margin={"b": 110})


def learning_rates(schedules: Mapping[str, Sequence[float]], end: int | None = None, language: str = "en") -> "go.Figure":
    """The learning rate of each step, a line a schedule; what lies behind `end` was never run."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    for place, (name, rates) in enumerate(schedules.items()):
        figure.add_scatter(x=list(range(1, len(rates) + 1)), y=list(rates), name=shown(name), mode="lines",
                           line={"color": COLOURS[place % 6], "dash": _DASHES[place % 5]})
    if end is not None:
        figure.add_vline(x=end, line={"color": BASE_COLOUR, "dash": "dot"}, annotation_text=words["end"])
    figure.update_yaxes(exponentformat="e", rangemode="tozero")
    return _styled(figure, words["step"], words["rate"])


def shares(found: Mapping[str, Share], guess: float | None = None, language: str = "en") -> "go.Figure":
    """A share right for each way of doing it, with its 95% interval; `guess` is what always saying the commonest label gets."""
    import plotly.graph_objects as go

    words, figure = _WORDS[language], go.Figure()
    names, known = list(found), list(found.values())
    ups = [0.0 if each.high is None else each.high - each.value for each in known]
    downs = [0.0 if each.low is None else each.value - each.low for each in known]
    figure.add_bar(y=[shown(name) for name in names], x=[each.value for each in known], orientation="h", showlegend=False,
                   marker_color=[COLOURS[place % 6] for place in range(len(names))],
                   error_x={"type": "data", "symmetric": False, "array": ups, "arrayminus": downs, "color": "#333333"},
                   text=[f"{each.value:.2f}" for each in known], textposition="inside", insidetextanchor="start")
    if guess is not None:
        figure.add_vline(x=guess, line={"color": BASE_COLOUR, "dash": "dot"}, annotation_text=words["guess"], annotation_position="top")
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.update_xaxes(range=[0, 1])
    return _styled(figure, words["accuracy"], "").update_layout(height=140 + 40 * max(2, len(names)))


def _visible(token: str) -> str:
    """A token with its blanks and line breaks made visible, as plotly must be given it."""
    return shown(token.replace(" ", "␣").replace("\n", "↵"), 24)


def _styled(figure: "go.Figure", x: str, y: str) -> "go.Figure":
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    return figure.update_layout(xaxis_title=x, yaxis_title=y, template="plotly_white", height=380, legend=legend,
                                margin={"l": 60, "r": 20, "t": 50, "b": 50})

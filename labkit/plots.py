"""Every plotly figure of the lab, used by notebooks, reports and the app alike.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by the colour-blind too; the same checkpoint has
the same colour everywhere.
"""

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from datasets import Dataset

    from labkit.scenarios import Field

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
BASE_COLOUR = "#777777"


def colour(checkpoint: str) -> str:
    """The colour of a checkpoint: grey for the base, `default` runs blue, others by a hash of their key."""
    if checkpoint == "base":
        return BASE_COLOUR
    if checkpoint.endswith("/default"):
        return COLOURS[0]
    return COLOURS[1 + hashlib.sha256(checkpoint.encode()).digest()[0] % (len(COLOURS) - 1)]


def loss_curve(metrics: list[dict[str, Any]], name: str = "default", live: bool = False) -> "go.Figure":
    """Training loss a step, and the validation loss where it was measured.

    Args:
        metrics: rows of a run's metrics.jsonl.
        live: a FigureWidget that can be updated in a notebook (see `labkit.widgets.live`).
    """
    import plotly.graph_objects as go

    figure = (go.FigureWidget if live else go.Figure)()
    held_out = [row for row in metrics if "validation_loss" in row]
    figure.add_scatter(x=[row["step"] for row in metrics], y=[row["loss"] for row in metrics], name="training",
                       mode="lines", line={"color": colour(name)})
    figure.add_scatter(x=[row["step"] for row in held_out], y=[row["validation_loss"] for row in held_out], name="validation",
                       mode="lines+markers", line={"color": COLOURS[1]})
    return _styled(figure, "step", "loss (nats an answer token)")


def label_counts(records: "Dataset", field: "Field", language: str = "en") -> "go.Figure":
    """How often each label occurs, by the records' language."""
    import plotly.graph_objects as go

    figure = go.Figure()
    titles = [label.title(language) for label in field.labels]
    for place, spoken in enumerate(sorted(set(records["language"]))):
        pairs = zip(records["answer"], records["language"], strict=True)
        counts = Counter(answer.get(field.name) for answer, language_of in pairs if language_of == spoken)
        figure.add_bar(x=titles, y=[counts[label.value] for label in field.labels], name=spoken, marker_color=COLOURS[place])
    return _styled(figure, field.title[language], "records").update_layout(barmode="stack")


def before_and_after(evaluation: dict[str, Any], title: dict[str, str] | None = None) -> "go.Figure":
    """Each field's main measure for base, TF-IDF and fine-tuned, with 95% intervals where the evaluation has them.

    Args:
        evaluation: a run's evaluation.json.
        title: names of the fields, by field.
    """
    import plotly.graph_objects as go

    from labkit.evaluation import report

    figure = go.Figure()
    colours = {"base": BASE_COLOUR, "tfidf": COLOURS[1], "fine_tuned": COLOURS[0]}
    names = {"base": "base", "tfidf": "TF-IDF + logistic regression", "fine_tuned": "fine-tuned"}
    for side, points in report.main_measures(evaluation).items():
        shares = [point for point in points if point["measure"] != "mean_absolute_error"]
        figure.add_bar(
            x=[f"{(title or {}).get(point['field'], point['field'])}<br>{point['measure'].replace('_', ' ')}" for point in shares],
            y=[point["value"] for point in shares], name=names[side], marker_color=colours[side],
            error_y={"type": "data", "symmetric": False, "array": [point["high"] - point["value"] for point in shares],
                     "arrayminus": [point["value"] - point["low"] for point in shares]})
    return _styled(figure, "field", "measure (0 to 1)").update_layout(barmode="group")


def _styled(figure: "go.Figure", x: str, y: str) -> "go.Figure":
    figure.update_layout(xaxis_title=x, yaxis_title=y, template="plotly_white", height=380, margin={"l": 60, "r": 20, "t": 30, "b": 50},
                         legend={"orientation": "h", "y": 1.12})
    return figure

"""A training that is watched in a notebook: loss curve, speed, time left."""

import time
from typing import Any

from labkit import plots


class LiveCurve:
    """A curve and a line of figures that grow with the training: give `on_step` and `on_prepare` to `trainer.train`.

    Example:
        >>> live = LiveCurve("customer_service/quick")      # doctest: +SKIP
        >>> display(live.view)                              # doctest: +SKIP
        >>> trainer.train(recipe, records, scenario, on_step=live.on_step, on_prepare=live.on_prepare)  # doctest: +SKIP
    """

    def __init__(self, name: str, redraw_seconds: float = 0.5) -> None:
        import ipywidgets

        self.rows: list[dict[str, Any]] = []
        self.figure = plots.loss_curve([], name, live=True)
        self.line = ipywidgets.Label("loading the base model …")
        self.bar = ipywidgets.FloatProgress(min=0.0, max=1.0, layout={"width": "100%"})
        self.view = ipywidgets.VBox([self.line, self.bar, self.figure])
        self._redraw_seconds, self._drawn = redraw_seconds, 0.0

    def on_prepare(self, done: int, total: int) -> None:
        """The frozen layers are being run: `done` of `total` records."""
        self.bar.value = done / total
        self.line.value = f"running the frozen layers once: {done} of {total} records"

    def on_step(self, row: dict[str, Any]) -> None:
        """One row of metrics."""
        self.rows.append(row)
        self.bar.value = row["step"] / row["steps"]
        left = row["seconds"] / row["step"] * (row["steps"] - row["step"])
        self.line.value = (f"step {row['step']} of {row['steps']}, loss {row['loss']:.3f}, {row['tokens_per_second']:.0f} tokens/s, "
                           f"{left:.0f} s left")
        now = time.monotonic()
        if now - self._drawn >= self._redraw_seconds or row["step"] == row["steps"] or "validation_loss" in row:
            self._drawn = now
            self.draw()

    def draw(self) -> None:
        """Redraw the curve from the rows seen so far."""
        held_out = [row for row in self.rows if "validation_loss" in row]
        with self.figure.batch_update():
            self.figure.data[0].x = [row["step"] for row in self.rows]
            self.figure.data[0].y = [row["loss"] for row in self.rows]
            self.figure.data[1].x = [row["step"] for row in held_out]
            self.figure.data[1].y = [row["validation_loss"] for row in held_out]

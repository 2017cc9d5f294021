"""A training that is watched and steered in a notebook: curves, figures, answers, warnings, and buttons that work while it runs."""

import asyncio
import functools
import html
import threading
import time
from collections.abc import Callable
from typing import Any

from labkit.errors import LabError
from labkit.training.control import Control
from labkit.training.watching import memory
from labkit.training.watching.diagnosis import Concern, Diagnosis
from labkit.training.watching.pace import Pace, duration
from labkit.widgets.live_answers import Answers
from labkit.widgets.live_captions import CAPTIONS
from labkit.widgets.live_panels import Panels

_SHARE = 0.05        # of the training's time that drawing may take
_ASK_SECONDS = 0.1   # between two looks at whether the training has ended
_CONCERNS = 4        # how many are shown
_STYLE = """<style>
.labkit-live table { border-collapse: collapse; margin: 2px 0 8px; width: 100% }
.labkit-live td, .labkit-live th { padding: 2px 12px 2px 0; text-align: left; vertical-align: top; line-height: 1.35;
  overflow-wrap: anywhere; white-space: pre-wrap }
.labkit-live h4 { margin: 4px 0 2px }
.labkit-live .right { color: #009E73; font-weight: bold }
.labkit-live .concern { color: #D55E00 }
</style>"""


class LiveBoard:
    """Watch a training, and steer it.

    `start` trains in a thread of its own, so that the buttons work and other cells can be run. `await board.finished()` waits for it
    while the buttons go on working; so does nothing else: a notebook that is busy in any other way hears no button (`result`, which
    scripts use, included). Without `start`, `on_step` and `on_prepare` can be given to `trainer.train` in the cell itself, without buttons.

    Args:
        name: the run's, `SCENARIO/NAME`.
        language: of the captions, `en` or `zh`.
        max_seconds: the recipe's, for the time that is left.
        redraw_seconds: the shortest time between two drawings.

    Example:
        >>> board = LiveBoard("finance/quickstart")                                        # doctest: +SKIP
        >>> display(board.view)                                                            # doctest: +SKIP
        >>> board.start(functools.partial(trainer.train, recipe, records, scenario))       # doctest: +SKIP
        >>> run = await board.finished()                                                   # doctest: +SKIP
    """

    def __init__(self, name: str, language: str = "en", *, max_seconds: float = 0.0, redraw_seconds: float = 0.5) -> None:
        if language not in CAPTIONS:
            raise LabError(f"language must be one of {', '.join(CAPTIONS)}, not {language!r}")
        self.name, self.language, self.control = name, language, Control()
        self._max_seconds, self._redraw_seconds, self._words = max_seconds, redraw_seconds, CAPTIONS[language]
        self._thread: threading.Thread | None = None
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._build()
        self._reset()

    def start(self, train: Callable[..., Any]) -> None:
        """Call `train(on_step=…, on_prepare=…, control=…)` in another thread and show the buttons.

        Raises:
            LabError: this board shows a training already.
        """
        if self.running:
            raise LabError(CAPTIONS["en"]["running"], CAPTIONS["zh"]["running"])
        if self._row is not None or self._thread is not None:
            self._reset()
        self._outcome = self._error = None
        self.control = Control()
        self.control.on_change = self._show_state
        self.line.value = self._words["loading"]
        self.buttons.layout.display = "flex"
        # A daemon: a kernel that is shut down must not wait for it. What it loses is what `kill -9` would, the steps since the checkpoint.
        self._thread = threading.Thread(target=self._run, args=(train,), daemon=True, name=f"training {self.name}")
        self._show_state()
        self._thread.start()

    async def finished(self) -> Any:
        """Wait for the training in a cell, with buttons that work; gives back and raises what `result` does.

        (ipykernel 7 sends what a widget says to the loop of the cells, and hears it there while a cell waits.)
        """
        try:
            while self.running:
                await asyncio.sleep(_ASK_SECONDS)
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.control.stop()
            raise
        return self.result()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the training; gives back what it returned. Interrupting the wait stops the training after its step, with a checkpoint.

        Raises:
            LabError: nothing was started, or what stopped the training; any other error of the training is raised as it is.
            TimeoutError: it goes on still after `timeout` seconds.
        """
        if self._thread is None:
            raise LabError(CAPTIONS["en"]["not_started"], CAPTIONS["zh"]["not_started"])
        try:
            self._thread.join(timeout)
        except KeyboardInterrupt:
            self.control.stop()
            raise
        if self._thread.is_alive():
            raise TimeoutError(f"{self.name} is being trained still")
        if self._error is not None:
            raise self._error
        return self._outcome

    @property
    def running(self) -> bool:
        """Whether a training that was started here goes on still."""
        return self._thread is not None and self._thread.is_alive()

    def on_prepare(self, done: int, total: int) -> None:
        """The frozen layers are being run: `done` of `total` records."""
        if self._due() or done >= total:
            self.bar.value = done / max(1, total)
            self.line.value = self._words["preparing"].format(done=done, total=total)
            self._drawn = time.monotonic()

    def on_step(self, row: dict[str, Any]) -> None:
        """One row of metrics."""
        self._row = row
        self._pace.see(row)
        measured = "validation_loss" in row or "validation" in row
        if time.monotonic() - self._measured >= 1.0 or self._measured == 0.0:
            self._memory, self._measured = memory.resident_gb(), time.monotonic()
        row = {"memory_gb": self._memory, **row}
        self._panels.see(row, self._pace.loss)
        self._concerns += self._diagnosis.see(row)
        self._has_answers = self._answers.see(row) or self._has_answers
        if measured or row["step"] == row["steps"] or self._due():
            self.draw()

    def draw(self) -> None:
        """Show what was seen so far."""
        began = time.monotonic()
        if self._row is not None:
            self.bar.value = self._row["step"] / self._row["steps"]
            self.line.value = self._figures(self._row)
            self._panels.draw()
            concerns = [self._said(each) for each in self._concerns[-_CONCERNS:]]
            _set(self.concerns, f'{_STYLE}<div class="labkit-live">{"".join(concerns)}</div>' if concerns else "")
            if self._has_answers:
                _set(self.answers, f'{_STYLE}<div class="labkit-live">{self._answers.html()}</div>')
            self._show_state()
        self._drawn = time.monotonic()
        self._cost = self._drawn - began

    def _reset(self) -> None:
        self._pace, self._diagnosis, self._answers = Pace(self._max_seconds), Diagnosis(memory.limit_gb()), Answers(self._words)
        self._panels = Panels(self.name, self._words)
        self.figure = self._panels.figure
        self._row: dict[str, Any] | None = None
        self._concerns: list[Concern] = []
        self._has_answers, self._memory, self._measured = False, 0.0, 0.0
        self._drawn, self._cost = 0.0, 0.0
        self.bar.value, self.message.value, self.concerns.value, self.answers.value = 0.0, "", "", ""
        self.view.children = [self.line, self.bar, self.buttons, self.message, self.concerns, self.figure, self.answers]

    def _build(self) -> None:
        import ipywidgets

        words, wide = self._words, {"width": "auto"}
        self.line, self.message = ipywidgets.Label(words["waiting"]), ipywidgets.HTML()
        self.concerns, self.answers = ipywidgets.HTML(), ipywidgets.HTML(layout={"width": "100%"})
        self.bar = ipywidgets.FloatProgress(min=0.0, max=1.0, layout={"width": "100%"})
        icons = {"pause": "pause", "resume": "play", "stop": "stop", "evaluate": "check"}
        made = {name: ipywidgets.Button(description=words[name], icon=icon, layout=wide) for name, icon in icons.items()}
        self.pause_button, self.resume_button, self.stop_button, self.evaluate_button = made.values()
        acts = {"pause": "pause", "resume": "resume", "stop": "stop", "evaluate": "ask_evaluate"}
        for name, button in made.items():
            button.on_click(functools.partial(self._act, acts[name]))
        self.buttons = ipywidgets.HBox(list(made.values()), layout={"flex_flow": "row wrap", "display": "none"})
        self.buttons.add_class("labkit-live-buttons")
        self.view = ipywidgets.VBox(layout={"width": "100%"})

    def _act(self, act: str, button: Any) -> None:
        getattr(self.control, act)()  # of the training that goes on now: each start has a control of its own

    def _run(self, train: Callable[..., Any]) -> None:
        try:
            self._outcome = train(on_step=self.on_step, on_prepare=self.on_prepare, control=self.control)
        except BaseException as error:  # raised again by result()
            self._error = error
        self.control.on_change = None
        self.draw()
        self._show_end()

    def _due(self) -> bool:
        return time.monotonic() - self._drawn >= max(self._redraw_seconds, self._cost / _SHARE)

    def _figures(self, row: dict[str, Any]) -> str:
        words, left = self._words, self._pace.seconds_left
        device = memory.device_gb()
        if device is not None:
            taken = words["device"].format(now=device[0], most=device[1], total=device[2])
        else:
            taken = words["memory"].format(now=self._memory, most=memory.peak_gb())
        return words["line"].format(step=row["step"], steps=row["steps"], epoch=row["epoch"] + 1, loss=self._pace.loss,
                                    rate=row["learning_rate"], norm=row["gradient_norm"], speed=row["tokens_per_second"], memory=taken,
                                    left="" if left is None else words["left"].format(left=duration(left, self.language)))

    def _said(self, concern: Concern) -> str:
        at = self._words["at"].format(step=concern.step)
        return f'<div class="concern">⚠ {html.escape(f"{at} {concern.said(self.language)}")}</div>'

    def _show_state(self) -> None:
        """Which buttons can be pressed, and what was asked for."""
        control, words = self.control, self._words
        stopping, paused = control.stopped, control.paused
        self.pause_button.disabled, self.resume_button.disabled = stopping or paused, stopping or not paused
        self.stop_button.disabled, self.evaluate_button.disabled = stopping, stopping or control.evaluation_asked
        said = "stopping" if stopping else "evaluating" if control.evaluation_asked else "pausing" if paused and not control.waiting else \
            "paused" if paused else ""
        _set(self.message, f"<b>{words[said]}</b>" if said else "")

    def _show_end(self) -> None:
        for button in self.buttons.children:
            button.disabled = True
        words, row, error = self._words, self._row, self._error
        if isinstance(error, LabError):
            said = words["failed"].format(error=error.said(self.language))
        elif error is not None:
            said = words["failed"].format(error=f"{type(error).__name__}: {error}")
        elif row is None:
            said = words["given"]
        elif self.control.stopped and row["step"] < row["steps"]:
            said = words["stopped"].format(**row)
        else:
            said = words["ended"].format(step=row["step"], time=duration(row["seconds"], self.language))
        colour = "#D55E00" if error is not None else "inherit"
        self.message.value = f'<b style="color: {colour}">{html.escape(said)}</b>'


def _set(widget: Any, value: str) -> None:
    """Traitlets send nothing where nothing changes, but compare long texts quickly."""
    if widget.value != value:
        widget.value = value


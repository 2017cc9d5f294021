"""The board of a labelling in the notebook: how far everybody is, how far they agree, what to label next; push and pull.

The board asks a `Source` (see `labkit.widgets.labeling_sources`: Argilla's server, or the files of the labelling widget) and keeps nothing
itself. Texts of the data are escaped wherever they become HTML.
"""

import asyncio
import html
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labkit import plots_labeling
from labkit.errors import LabError
from labkit.labeling.annotations import Annotation, ratings
from labkit.records import Record
from labkit.scenarios import Scenario, Text
from labkit.widgets.labeling_captions import CAPTIONS
from labkit.widgets.labeling_sources import Progress, Source

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.labeling.quality.intervals import Estimate

Choice = tuple[str, Text | str]  # a record's id, and why it is next
Choose = Callable[[list[Annotation]], Sequence[Choice]]
_Found = tuple[Progress, dict[str, float | None], dict[str, dict[str, "Estimate"]], list[Choice] | None]

_PREVIEW = 120  # characters of a record that is next
_RESAMPLES = 200  # of the intervals: enough to look at, and quick
_STYLE = """<style>
.labkit-board table { border-collapse: collapse; margin: 2px 0 8px }
.labkit-board td, .labkit-board th { padding: 1px 12px 1px 0; text-align: left; vertical-align: top; overflow-wrap: anywhere }
.labkit-board td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.labkit-board .bar { display: flex; width: 240px; height: 14px; background: rgba(128, 128, 128, .25); margin-top: 3px }
.labkit-board h4 { margin: 8px 0 2px }
</style>"""
_BARS = (("submitted", "#009E73"), ("draft", "#E69F00"), ("discarded", "#D55E00"))  # the colours of plots_labeling.progress


class Board:
    """Watch a labelling; `display(board.view)` shows it.

    Args:
        source: where labelling happens.
        scenario: its fields are compared.
        records: for the texts of what is next; only ids are shown where None.
        choose: what to label next: from all annotations (record id, reason) in order; asked where an answer is new; not shown where None.
        language: of the captions, `en` or `zh`.
        most_next: how many records of what is next are shown.

    Example:
        >>> board = Board(source, scenario, records=data)   # doctest: +SKIP
        >>> display(board.view)                             # doctest: +SKIP
    """

    def __init__(self, source: Source, scenario: Scenario, *, records: "Dataset | Iterable[Record] | None" = None,
                 choose: Choose | None = None, language: str = "en", most_next: int = 8) -> None:
        if language not in CAPTIONS:
            raise LabError(f"language must be one of {', '.join(CAPTIONS)}, not {language!r}")
        self.source, self.scenario, self.choose, self.language, self.most_next = source, scenario, choose, language, most_next
        self.estimates: dict[str, dict[str, Estimate]] = {}
        self._texts = {record["id"]: record["messages"][-1]["content"] for record in records or ()}
        self._words, self._watching, self._reckoned = CAPTIONS[language], None, None
        self._build()
        self.refresh()

    def refresh(self) -> bool:
        """Ask the source and show what it says, or what went wrong; returns whether it went well."""
        found = self._try(self._ask)
        if found is not None:
            self._paint(found)
        return found is not None

    def push(self) -> None:
        """Push, and show what came of it."""
        self._act(self.source.push)

    def pull(self) -> None:
        """Pull, and show what came of it."""
        self._act(self.source.pull)

    def watch(self, seconds: float = 10.0) -> None:
        """Refresh by itself every so often, while no cell runs, until `stop`."""
        self.stop()
        self._watching = asyncio.get_running_loop().create_task(self._watch(seconds))
        self._watching.add_done_callback(self._ended)

    def stop(self) -> None:
        """No longer refresh by itself."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _build(self) -> None:
        import ipywidgets

        said = self._words
        self.head, self.body, self.message = ipywidgets.HTML(), ipywidgets.HTML(layout={"width": "100%"}), ipywidgets.HTML()
        buttons = [ipywidgets.Button(description=said[name], layout={"width": "auto"}) for name in ("push", "pull", "refresh")]
        self.push_button, self.pull_button, self.refresh_button = buttons
        for button, act in zip(buttons, (self.push, self.pull, self.refresh), strict=True):
            button.on_click(lambda button, act=act: act())
        self.live_button = ipywidgets.ToggleButton(description=said["live"], layout={"width": "auto"})
        self.live_button.observe(lambda change: self.watch() if change["new"] else self.stop(), names="value")
        bar = ipywidgets.HBox([*buttons, self.live_button, self.head], layout={"flex_flow": "row wrap"})
        self.view = ipywidgets.VBox([bar, self.message, self.body], layout={"width": "100%"})

    def _act(self, act: Callable[[], Text | str]) -> None:
        self.message.value = html.escape(self._words["working"])
        done = self._try(act)
        if done is not None and self.refresh():
            self.message.value = html.escape(done if isinstance(done, str) else done[self.language])

    def _try(self, act: Callable[[], Any]) -> Any:
        """What `act` returns; None where a LabError came of it, which is then shown."""
        try:
            return act()
        except LabError as error:
            self._complain(error)
            return None

    def _complain(self, error: LabError) -> None:
        self.message.value = f"<b>{html.escape(error.said(self.language))}</b>"

    def _ended(self, task: asyncio.Task) -> None:
        """A watch that ended by a mistake of the program's must not look alive; the notebook's log tells the mistake."""
        if not task.cancelled():
            self.live_button.value = False
            task.result()

    async def _watch(self, seconds: float) -> None:
        """Ask in another thread, so that the notebook stays usable, and paint in this one."""
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await asyncio.to_thread(self._ask)
            except LabError as error:  # the server may come back
                self._complain(error)
                continue
            self._paint(found)

    def _ask(self) -> _Found:
        from labkit.labeling.quality import agreement, annotators

        progress, said = self.source.progress(), self.source.annotations()
        if self._reckoned is None or self._reckoned[0] != said:  # nothing new: the measures and the choice are what they were
            answered = {each.field for each in said if each.status == "submitted"}
            estimates = {field.name: agreement.of_field(ratings(said, field.name), field, resamples=_RESAMPLES)
                         for field in self.scenario.fields if field.name in answered}
            seconds = {each.annotator: each.seconds.value for each in annotators.speed(said, resamples=_RESAMPLES)}
            self._reckoned = said, seconds, estimates, list(self.choose(said)) if self.choose else None
        return progress, *self._reckoned[1:]

    def _paint(self, found: _Found) -> None:
        progress, seconds, self.estimates, chosen = found
        parts = [self._progress(progress, seconds), self._agreement()]
        if chosen is not None:
            parts.append(self._next(chosen))
        self.body.value = f'{_STYLE}<div class="labkit-board">{"".join(parts)}</div>'
        self.head.value = html.escape(self._words["seen"].format(time=f"{datetime.now():%H:%M:%S}"))
        self.message.value = ""

    def _progress(self, progress: Progress, seconds: dict[str, float | None]) -> str:
        said = self._words
        rows = []
        for name, states in progress.by_annotator.items():
            bar = "".join(f'<div style="background: {colour}; width: {100 * states.get(state, 0) / max(1, progress.total):.2f}%" '
                          f'title="{said[state]} {states.get(state, 0):,}"></div>' for state, colour in _BARS)
            pace = "" if seconds.get(name) is None else f"{seconds[name]:.0f}"
            numbers = "".join(f'<td class="number">{states.get(state, 0):,}</td>' for state, _ in _BARS)
            rows.append(f'<tr><td>{html.escape(name)}</td><td><div class="bar">{bar}</div></td>{numbers}'
                        f'<td class="number">{pace}</td></tr>')
        heads = [said["annotator"], "", *(said[state] for state, _ in _BARS), said["seconds"]]
        of = said["of"].format(done=progress.done, all=progress.total)
        return f"<h4>{said['progress']}</h4><div>{of}</div>" + (_table(heads, rows) if rows else f"<p>{said['no_answers']}</p>")

    def _agreement(self) -> str:
        said, rows = self._words, []
        for field in self.scenario.fields:
            for name, point in self.estimates.get(field.name, {}).items():
                measure = plots_labeling.MEASURES.get(name, {}).get(self.language, name)
                value = "–" if point.value is None else f"{point.value:.3f}"
                interval = f"{point.low:.3f} – {point.high:.3f}" if point.low is not None else (point.reason or {}).get(self.language, "")
                rows.append(f"<tr><td>{html.escape(field.title[self.language])}</td><td>{html.escape(measure)}</td>"
                            f'<td class="number">{value}</td><td>{html.escape(interval)}</td>'
                            f'<td class="number">{point.records:,}</td></tr>')
        heads = [said["field"], said["measure"], said["value"], said["interval"], said["shared"]]
        return f"<h4>{said['agreement']}</h4>{_table(heads, rows)}" if rows else ""

    def _next(self, chosen: Sequence[Choice]) -> str:
        said, rows = self._words, []
        for record, reason in chosen[: self.most_next]:
            text = " ".join(self._texts.get(record, record).split())
            text = text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"
            why = reason if isinstance(reason, str) else reason[self.language]
            rows.append(f"<tr><td>{html.escape(text)}</td><td>{html.escape(why)}</td></tr>")
        return f"<h4>{said['what_next']}</h4>" + (_table(["", said["reason"]], rows) if rows else f"<p>{said['no_next']}</p>")


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    return f"<table><tr>{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr>{''.join(rows)}</table>"

"""Prepared records to look through in a notebook: search and filter, see what each step did, undo a drop, edit, drop.

What the person does is kept by `labkit.data.corrections`; this module only shows it. Texts of the data are escaped wherever they
become HTML.
"""

import html
import os
from itertools import islice
from typing import TYPE_CHECKING, Any

from labkit.data import corrections
from labkit.data.reporting import words
from labkit.data.reporting.columns import Columns
from labkit.errors import LabError
from labkit.records import SPLITS, Record
from labkit.scenarios import LANGUAGES, Scenario
from labkit.widgets import explorer_story
from labkit.widgets.explorer_captions import CAPTIONS

if TYPE_CHECKING:
    import numpy
    from datasets import Dataset

    from labkit.data.collect import Collected
    from labkit.data.pipeline import Prepared
    from labkit.data.plan import Plan

_ALL = ()  # a filter's value that lets everything through (a dropdown shows None as if nothing were chosen)
_MOST_REJECTS = 20_000  # rejected rows that are held; the others are counted, and stand in the preparation's file of rejects


class Explorer:
    """Look through a preparation and correct it; `display(explorer.view)` shows it.

    Args:
        collected: what `collect` gave.
        prepared: what the pipeline made of it.
        plan: the plan it ran with.
        language: of the captions, `en` or `zh`.
        page_size: rows of the table.

    Example:
        >>> explorer = Explorer(collected, prepared, scenario, plan)   # doctest: +SKIP
        >>> display(explorer.view)                                     # doctest: +SKIP
        >>> records = explorer.records()                               # doctest: +SKIP
    """

    def __init__(self, collected: "Collected", prepared: "Prepared", scenario: Scenario, plan: "Plan", language: str = "en",
                 page_size: int = 10) -> None:
        if language not in CAPTIONS:
            raise LabError(f"language must be one of {', '.join(CAPTIONS)}, not {language!r}")
        self.scenario, self.plan, self.language, self.page_size = scenario, plan, language, page_size
        self.corrections = corrections.Corrections(collected.records, prepared, scenario, plan)
        self._prepared = prepared
        self._rejects = list(islice(collected.rejects, _MOST_REJECTS))
        self._more_rejects = len(collected.rejects) - len(self._rejects)
        self._columns = Columns(collected.records, self.corrections, prepared, self._rejects)
        self._words = CAPTIONS[language]
        self._chosen: int | None = None
        self._page = 0
        self._build()
        self._search()

    def records(self) -> "Dataset":
        """The prepared records with what was done here."""
        return self.corrections.records()

    def changes(self) -> list[dict[str, Any]]:
        """What was done here, in order; see `corrections.Corrections.changes`."""
        return self.corrections.changes()

    def save(self, path: str | os.PathLike) -> None:
        """Write what was done here as JSON."""
        self.corrections.save(path)

    def apply(self, path: str | os.PathLike) -> int:
        """Do again what a saved file says; returns how many corrections. Raises LabError where it does not fit these records."""
        count = self.corrections.apply(path)
        self._search()
        if self._chosen is not None:
            self.choose(self._chosen)
        return count

    @property
    def found(self) -> "numpy.ndarray":
        """The items that the filters let through: int64 positions among the collected records, behind them the rejected rows."""
        return self._found

    def choose(self, item: int) -> None:
        """Show an item in the detail pane."""
        self._chosen = item
        is_record = item < self._columns.records
        self.message.value, proposal = "", None
        try:
            if is_record:
                told, proposal = explorer_story.story(self.corrections, item, self.language), self.corrections.proposal(item)
            else:
                told = explorer_story.rejected(self._rejects[item - self._columns.records], self.language)
        except LabError as error:  # a step that cannot run here, for want of a key say
            told, is_record = f"<b>{html.escape(error.said(self.language))}</b>", False
        self.detail.value = explorer_story.STYLE + f'<div class="labkit-explorer">{told}</div>'
        dropped = is_record and self.corrections.current(item) is None
        for button, shown in ((self.undo_button, dropped), (self.drop_button, is_record and not dropped), (self.save_button, is_record),
                              (self.back_button, is_record and self.corrections.change(item) is not None)):
            button.layout.display = None if shown else "none"
        self._fill_form(proposal)

    def _build(self) -> None:
        import ipywidgets

        said = self._words
        wide = ipywidgets.Layout(width="auto", max_width="260px")
        style = {"description_width": "initial"}
        self.search = ipywidgets.Text(description=said["search"], placeholder=said["search_hint"], continuous_update=False, layout=wide,
                                      style=style)
        self.filters = {name: ipywidgets.Dropdown(description=said[name], options=options, layout=wide, style=style)
                        for name, options in self._options().items()}
        for widget in (self.search, *self.filters.values()):
            widget.observe(lambda change: self._search(), names="value")
        self.status = ipywidgets.HTML()
        self.before_button = ipywidgets.Button(description=said["before"], layout={"width": "44px"})
        self.next_button = ipywidgets.Button(description=said["next"], layout={"width": "44px"})
        self.before_button.on_click(lambda button: self._turn(-1))
        self.next_button.on_click(lambda button: self._turn(1))
        self.row_buttons, self.row_texts = [], []
        for place in range(self.page_size):
            button = ipywidgets.Button(layout={"width": "84px", "min_width": "84px"})
            button.on_click(lambda button, place=place: self._choose_place(place))
            self.row_buttons.append(button)
            self.row_texts.append(ipywidgets.HTML(layout={"flex": "1 1 auto", "min_width": "0"}))
        rows = [ipywidgets.HBox([button, text], layout={"width": "100%", "overflow": "hidden"})
                for button, text in zip(self.row_buttons, self.row_texts, strict=True)]
        self.detail = ipywidgets.HTML(f'<div class="labkit-explorer">{html.escape(said["choose"])}</div>')
        self.form = ipywidgets.VBox([])
        self.message = ipywidgets.HTML()
        hidden = {"width": "auto", "display": "none"}
        buttons = [ipywidgets.Button(description=said[name], layout=hidden) for name in ("undo", "drop", "save", "back")]
        self.undo_button, self.drop_button, self.save_button, self.back_button = buttons
        for button, act in zip(buttons, (self._undo, self._drop, self._save_edit, self._take_back), strict=True):
            button.on_click(lambda button, act=act: self._try(act))
        head = ipywidgets.HBox([self.search, *self.filters.values()], layout={"flex_flow": "row wrap", "width": "100%"})
        turn = ipywidgets.HBox([self.before_button, self.next_button, self.status])
        actions = ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"})
        self.view = ipywidgets.VBox([head, turn, ipywidgets.VBox(rows), self.detail, actions, self.message, self.form])

    def _options(self) -> dict[str, list[tuple[str, Any]]]:
        """The choices of each filter as (caption, value); the value `_ALL` lets everything through."""
        said, columns = self._words, self._columns
        states: list[tuple[str, Any]] = [(said["all"], _ALL), (said["kept"], ("kept",)), (said["dropped"], ("dropped",))]
        for step, reason in sorted(set(columns.drops.values())):
            title = f"{words.step(step)[self.language]}: {words.reason(reason)[self.language]}"
            states.append((f"{said['dropped']}: {title}", ("dropped", step, reason)))
        states += [(said["rejected"], ("rejected",)), (said["changed"], ("changed",))]
        labels: list[tuple[str, Any]] = [(said["all"], _ALL)]
        for field in self.scenario.label_fields:
            title = field.title[self.language]
            labels += [(f"{title} = {label.title(self.language)}", (field.name, label.value)) for label in field.labels]
            labels.append((f"{title} = {said['none']}", (field.name, None)))
        plain = lambda values, show: [(said["all"], _ALL), *((show(value), value) for value in values)]  # noqa: E731
        return {"state": states,
                "split": plain([split for split in SPLITS if split in columns.splits],
                               lambda split: words.split(split)[self.language] if split else said["no_split"]),
                "language": plain(sorted(set(columns.languages)), lambda value: words.language(value)[self.language]),
                "label": labels,
                "source": plain(sorted(set(columns.sources)), str)}

    def _search(self) -> None:
        """Find what the filters let through, and show the first page of it."""
        columns, wanted = self._columns, {name: widget.value for name, widget in self.filters.items()}
        mask = columns.matching_text(self.search.value) if self.search.value.strip() else columns.everything()
        if wanted["state"] != _ALL:
            mask &= columns.in_state(wanted["state"], self.corrections)
        for name, values in (("split", columns.splits), ("language", columns.languages), ("source", columns.sources)):
            if wanted[name] != _ALL:
                mask &= values == wanted[name]
        if wanted["label"] != _ALL:
            mask &= columns.with_label(*wanted["label"])
        self._found = mask.nonzero()[0]
        self._page = 0
        self._show_page()

    def _turn(self, pages: int) -> None:
        self._page += pages
        self._show_page()

    def _show_page(self) -> None:
        said, count = self._words, len(self._found)
        pages = max(1, -(-count // self.page_size))
        self._page = min(max(self._page, 0), pages - 1)
        status = said["found"].format(found=count, all=self._columns.items, page=self._page + 1, pages=pages) if count else said["nothing"]
        if self._more_rejects:
            status += " " + said["more_rejects"].format(count=self._more_rejects)
        self.status.value = html.escape(status)
        self.before_button.disabled, self.next_button.disabled = self._page == 0, self._page == pages - 1
        shown = self._found[self._page * self.page_size : (self._page + 1) * self.page_size].tolist()
        for place, (button, text) in enumerate(zip(self.row_buttons, self.row_texts, strict=True)):
            is_used = place < len(shown)
            button.layout.visibility = text.layout.visibility = "visible" if is_used else "hidden"
            button.description = f"{shown[place] + 1:,}" if is_used else ""
            text.value = explorer_story.STYLE + f'<div class="labkit-explorer row">{self._line(shown[place])}</div>' if is_used else ""

    def _choose_place(self, place: int) -> None:
        number = self._page * self.page_size + place
        if number < len(self._found):
            self.choose(int(self._found[number]))

    def _line(self, item: int) -> str:
        """A row of the table."""
        if item < self._columns.records:
            return explorer_story.line(self.corrections, item, self.language)
        return explorer_story.rejected_line(self._rejects[item - self._columns.records], self.language)

    def _fill_form(self, record: Record | None) -> None:
        """The form of a record's messages, answer, split and language; none where no record is chosen."""
        import ipywidgets

        self.message_inputs: list[tuple[str, Any]] = []
        self.answer_inputs: dict[str, Any] = {}
        if record is None:
            self.form.children = []
            return
        said, full, style = self._words, {"width": "100%"}, {"description_width": "110px"}
        for message in record["messages"]:
            area = ipywidgets.Textarea(value=message["content"], description=said[message["role"]], layout=full, style=style, rows=4)
            self.message_inputs.append((message["role"], area))
        for field in self.scenario.fields:
            value, title = record["answer"].get(field.name), field.title[self.language]
            if field.kind == "label":
                options = [(said["none"], ""), *((label.title(self.language), label.value) for label in field.labels)]
                known = value if value in field.values else ""
                self.answer_inputs[field.name] = ipywidgets.Dropdown(options=options, value=known, description=title, style=style)
            else:
                kind = ipywidgets.Textarea if field.kind == "text" else ipywidgets.Text
                self.answer_inputs[field.name] = kind(value=explorer_story.plain(value), description=title, layout=full, style=style)
        splits = [(words.split(split)[self.language] if split else said["no_split"], split) for split in SPLITS]
        self.split_input = ipywidgets.Dropdown(options=splits, value=self._split_of(record), description=said["split"], style=style)
        spoken = [(words.language(name)[self.language], name) for name in LANGUAGES]
        known = record["language"] if record["language"] in LANGUAGES else self.language
        self.language_input = ipywidgets.Dropdown(options=spoken, value=known, description=said["language"], style=style)
        self.form.children = [*(area for _, area in self.message_inputs), *self.answer_inputs.values(), self.split_input,
                              self.language_input]

    def _split_of(self, record: Record) -> str:
        """The split to offer: the record's own, else training where the others have one."""
        return record["split"] or ("train" if self._columns.has_splits else "")

    def _try(self, act: Any) -> None:
        """Do what a button says for the chosen record; what is wrong with it is said below the buttons."""
        if self._chosen is None or self._chosen >= self._columns.records:
            return
        try:
            said = act(self._chosen)
        except LabError as error:
            self.message.value = f"<b>{html.escape(error.said(self.language))}</b>"
            return
        self._columns.update(self._chosen, self.corrections)
        page = self._page
        self._show_page()
        self._page = page
        self.choose(self._chosen)
        self.message.value = html.escape(said)

    def _undo(self, item: int) -> str:
        made = self.corrections.keep(item, self.split_input.value)
        return self._words["undone"].format(split=words.split(made["split"])[self.language])

    def _drop(self, item: int) -> str:
        self.corrections.drop(item)
        return self._words["gone_now"]

    def _save_edit(self, item: int) -> str:
        messages = [{"role": role, "content": area.value} for role, area in self.message_inputs]
        answer = {name: widget.value for name, widget in self.answer_inputs.items() if widget.value != ""}
        self.corrections.edit(item, messages, answer, self.split_input.value, self.language_input.value)
        return self._words["saved"]

    def _take_back(self, item: int) -> str:
        self.corrections.take_back(item)
        return self._words["taken"]


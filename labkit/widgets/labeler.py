"""Labelling in the notebook, for somebody without the server: a record, the scenario's fields, save and go on.

What is labelled stands in a file (see `labkit.widgets.labeling_journal`) the moment it is saved, and labelling goes on where one
stopped. Texts of the data are escaped wherever they become HTML: a record is shown as text, never as a page.
"""

import html
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.labeling.annotations import Annotation
from labkit.labeling.settings import Suggestion, Suggestions
from labkit.records import Record
from labkit.scenarios import Scenario, answers
from labkit.widgets import labeling_keys
from labkit.widgets.labeling_captions import CAPTIONS
from labkit.widgets.labeling_form import Form
from labkit.widgets.labeling_journal import Entry, Journal

if TYPE_CHECKING:
    from datasets import Dataset

_DONE = ("submitted", "discarded")
_BOX = "white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid rgba(128, 128, 128, .5); padding: 2px 10px; " \
       "margin: 4px 0; line-height: 1.45"


class Labeler:
    """Label records one after the other; `display(labeler.view)` shows it, `labeler.annotations()` gives what was said.

    Args:
        records: what to label, in this order.
        scenario: its fields are the form.
        path: the file that labels are kept in; it may hold other annotators' labels too.
        annotator: the name of who labels.
        suggestions: record id -> field -> (value, score, who suggests), as `labkit.labeling.settings.predictions` makes them; they are
            chosen beforehand and marked.
        language: of the captions, `en` or `zh`.
        fields: names of the fields that are asked; all where None.
        needed: names of the fields that must be answered; the label fields among those asked where None.
        clock: seconds, for the time a record takes.

    Raises:
        LabError: a language or field that is not known, a suggestion that does not fit its field, a file that is no labelling.

    Example:
        >>> labeler = Labeler(data, scenario, "runs/labels.jsonl", "ann")   # doctest: +SKIP
        >>> display(labeler.view)                                           # doctest: +SKIP
        >>> labeler.annotations()                                           # doctest: +SKIP
    """

    def __init__(self, records: "Dataset | Iterable[Record]", scenario: Scenario, path: str | os.PathLike, annotator: str, *,
                 suggestions: Suggestions | None = None, language: str = "en",
                 fields: Iterable[str] | None = None, needed: Iterable[str] | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        if language not in CAPTIONS:
            raise LabError(f"language must be one of {', '.join(CAPTIONS)}, not {language!r}")
        if not annotator.strip():
            raise LabError("the annotator needs a name")
        self.scenario, self.annotator, self.language = scenario, annotator.strip(), language
        self.records: list[Record] = list(records)
        if not self.records:
            raise LabError("there are no records to label")
        self.journal = Journal(path)
        asked = list(scenario.fields) if fields is None else [scenario.field(name) for name in fields]
        must = {field.name for field in asked if field.kind == "label"} if needed is None else set(needed)
        if unknown := must - {field.name for field in asked}:
            raise LabError(f"a field that is needed must be asked: {', '.join(sorted(unknown))}")
        self.form = Form(asked, language, must)
        self._suggestions = {record: _checked(record, of_record, scenario) for record, of_record in (suggestions or {}).items()}
        self._clock, self._words = clock, CAPTIONS[language]
        self._spent: dict[str, float] = {}  # seconds by record
        self._check_kept()
        self._place = self._next_todo(-1)
        self._build()
        self._show(said=self._words["all_done"].format(all=len(self.records)) if not self.left else "")

    @property
    def record(self) -> Record:
        """The record that is shown."""
        return self.records[self._place]

    @property
    def left(self) -> int:
        """How many of the records are neither submitted nor discarded."""
        return sum(self._status(record) not in _DONE for record in self.records)

    def annotations(self) -> list[Annotation]:
        """What this annotator said about these records, drafts and discarded records included."""
        known, names = {record["id"] for record in self.records}, [field.name for field in self.form.fields]
        return [annotation for entry in self.journal.entries(self.annotator) if entry.record in known
                for annotation in entry.annotations(names)]

    def next(self) -> None:
        """Save the answer and go to the next record that is to be labelled; where something is missing it is said, and nothing is saved."""
        self._leave(self._submit, self._next_todo)

    def skip(self) -> None:
        """Go to the next record that is to be labelled; what was begun is kept as a draft."""
        self._leave(self._keep_changes, self._next_todo)

    def back(self) -> None:
        """Go to the record before this one; what was begun is kept as a draft."""
        self._leave(self._keep_changes, lambda place: max(0, place - 1))

    def discard(self) -> None:
        """Say that this record cannot or should not be labelled, and go on."""
        self._leave(lambda: self._save("discarded", {}), self._next_todo)

    def press(self, key: str) -> None:
        """Do what a key stands for; keys that stand for nothing do nothing."""
        acts = {"Enter": self.next, "ArrowLeft": self.back, "ArrowRight": self.skip, "Delete": self.discard, **self.form.keys}
        if act := acts.get(key):
            act()

    def _build(self) -> None:
        import ipywidgets

        said, full = self._words, {"width": "100%"}
        self.bar = ipywidgets.IntProgress(min=0, max=len(self.records), layout=full)
        self.status, self.conversation, self.message = ipywidgets.HTML(), ipywidgets.HTML(layout=full), ipywidgets.HTML()
        lines = [self.scenario.instructions[self.language], self.scenario.notice[self.language]]
        guide = ipywidgets.HTML("".join(f"<p>{html.escape(line)}</p>" for line in lines if line.strip()))
        self.guide = ipywidgets.Accordion([guide], titles=[said["guide"]], selected_index=None)
        buttons = [ipywidgets.Button(description=said[name], layout={"width": "auto"}, button_style=style)
                   for name, style in (("back", ""), ("next", "success"), ("skip", ""), ("discard", "warning"))]
        self.back_button, self.next_button, self.skip_button, self.discard_button = buttons
        for button, act in zip(buttons, (self.back, self.next, self.skip, self.discard), strict=True):
            button.on_click(lambda button, act=act: act())
        actions = ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"})
        actions.add_class("labkit-actions")
        labels = self.form.label_keys
        hint = ipywidgets.HTML(f"<small>{html.escape(said['keys' if labels else 'keys_plain'].format(labels=labels))}</small>")
        self.keys = labeling_keys.listen(self.press, self.form.type_in)
        self.view = ipywidgets.VBox([self.status, self.bar, self.guide, self.conversation, self.form.view, actions, self.message, hint,
                                     self.keys], layout={"width": "100%", "padding": "4px"})
        self.view.add_class(labeling_keys.BOX)

    def _leave(self, before: Callable[[], str], target: Callable[[int], int]) -> None:
        """Do what must be done before the record is left, and go to another one; where that fails say why and stay."""
        try:
            said = before()
        except LabError as error:
            self.message.value = f"<b>{html.escape(error.said(self.language))}</b>"
            return
        self._place = target(self._place)
        self._show(said if self.left else self._words["all_done"].format(all=len(self.records)))
        self.keys.send({"focus": True})

    def _submit(self) -> str:
        values = self.form.values()
        self.form.check(values)
        return self._save("submitted", values)

    def _keep_changes(self) -> str:
        """Keep what was changed: as a draft, or as it was where it had been submitted."""
        values, now = self.form.values(), self._clock()
        if values == self._shown:
            self._spent[self.record["id"]] = self._spent.get(self.record["id"], 0.0) + now - self._since
            return ""
        if self._status(self.record) == "submitted":
            self.form.check(values)
            return self._save("submitted", values)
        self._save("draft", values)
        return self._words["kept_draft"]

    def _save(self, status: str, values: dict[str, Any]) -> str:
        record, now = self.record["id"], self._clock()
        seconds = self._spent.get(record, 0.0) + now - self._since
        before = self.journal.entry(record, self.annotator)
        if before and status != "discarded":  # fields that are not asked here stay as they were
            values = {name: value for name, value in before.values.items() if name not in self.form.inputs} | values
        self.journal.save(Entry(record, self.annotator, status, values, datetime.now(UTC), round(seconds, 3)))
        self._spent[record] = seconds
        return self._words["kept"]

    def _status(self, record: Record) -> str:
        """`todo` or what the file says; what was submitted without the fields that are asked here is to do."""
        entry = self.journal.entry(record["id"], self.annotator)
        if entry is None:
            return "todo"
        answered = self.form.inputs.keys() & entry.values.keys()
        return entry.status if entry.status != "submitted" or answered and self.form.needed <= answered else "todo"

    def _check_kept(self) -> None:
        """LabError where the file has answers of this annotator's that do not fit the scenario."""
        for record in self.records:
            if entry := self.journal.entry(record["id"], self.annotator):
                try:
                    answers.tidy(self.scenario, entry.values)
                except LabError as error:
                    raise LabError(f"{self.journal.path}, record {entry.record}: {error}; name another file, or mend this one") from None

    def _next_todo(self, place: int) -> int:
        """The next place with a record that is to be labelled, from the start again at the end; this one if there is none."""
        count = len(self.records)
        order = ((place + step) % count for step in range(1, count + 1))
        return next((each for each in order if self._status(self.records[each]) not in _DONE), max(place, 0))

    def _show(self, said: str = "") -> None:
        """Show the record at the place, with what was said about it or else what is suggested."""
        record, entry = self.record, self.journal.entry(self.record["id"], self.annotator)
        suggestions = self._suggestions.get(record["id"], {})
        values = entry.values if entry and entry.status != "discarded" else {name: value for name, (value, *_) in suggestions.items()}
        self._spent.setdefault(record["id"], entry.seconds or 0.0 if entry else 0.0)
        self.form.show(values, suggestions)
        self._shown, self._since = self.form.values(), self._clock()
        self.conversation.value = "".join(
            f'<div style="{_BOX}"><small><b>{self._words[message["role"]]}</b></small>\n{html.escape(message["content"])}</div>'
            for message in record["messages"])
        self.message.value = html.escape(said)
        self.back_button.disabled = self._place == 0
        self._show_progress()

    def _show_progress(self) -> None:
        said, statuses = self._words, Counter(self._status(record) for record in self.records)
        left = len(self.records) - sum(statuses[name] for name in _DONE)
        parts = [said["place"].format(place=self._place + 1, all=len(self.records)), said[self._status(self.record)],
                 said["counts"].format(left=left, **{name: statuses[name] for name in ("submitted", "discarded", "draft")})]
        times = [entry.seconds for entry in self.journal.entries(self.annotator) if entry.status == "submitted" and entry.seconds]
        if times and left:
            pace = statistics.median(times)
            minutes = pace * left / 60
            parts.append(said["pace"].format(seconds=pace, left=said["minutes"].format(minutes=max(1, minutes)) if minutes < 90
                                             else said["hours"].format(hours=minutes / 60)))
        self.bar.value = len(self.records) - left
        self.status.value = " · ".join(html.escape(part) for part in parts)


def _checked(record: str, suggestions: Mapping[str, Suggestion], scenario: Scenario) -> dict[str, Suggestion]:
    """The suggestions in the form in which values are kept."""
    found = {}
    for name, (value, score, agent) in suggestions.items():
        try:
            found[name] = (answers.tidy_value(scenario.field(name), value), score, agent)
        except LabError as error:
            raise LabError(f"the suggestion for record {record}: {error}") from None
    return found

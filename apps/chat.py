"""The Chat page: one checkpoint, many turns."""

from typing import Any

import gradio as gr

from apps import checkpoints, controls, rounds, views
from apps.controls import PLAIN, i18n
from apps.page import Page, Updates
from apps.panes import Answer, Desk, Desks
from apps.texts import say
from labkit import scenarios
from labkit.errors import LabError


class ChatPage(Page):
    """The page's components and what happens on it. A desk's `kept` is the list of its turns: (question, answer)."""

    def __init__(self, desks: Desks, page: gr.Blocks) -> None:
        super().__init__(desks)
        self._lay_out()
        self._wire(page)

    def _lay_out(self) -> None:
        text = i18n()
        controls.header("chat")
        self.browser = [gr.Textbox(visible=False), gr.Textbox(visible=False)]  # language and scenario, see controls.LOAD_JS
        with gr.Row():
            self.scenario = controls.scenario_picker()
            self.checkpoint = gr.Dropdown([], label=text("checkpoint"), elem_id="checkpoint", min_width=200)
            self.refresh = controls.refresh_button()
        self.note = gr.HTML()
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self.notice = gr.HTML()
                self.talk = gr.HTML(elem_id="talk")
                with gr.Row():
                    self.box = controls.question_box()
                    self.send, self.stop, self.again, self.clear = controls.question_buttons("send", "stop")
                self.alert = gr.HTML(elem_id="alert")
                self.examples = controls.examples()
            with gr.Column(scale=1, min_width=280):
                self.card = gr.HTML(elem_id="card")
                self.sampling = controls.sampling_controls()
                self.system, self.reset = controls.system_editor("system_info")

    def _wire(self, page: gr.Blocks) -> None:
        moving = [self.talk, self.box, self.alert, self.send, self.stop]
        chosen = [self.checkpoint, self.note, self.notice, self.card, self.examples, self.system, *moving]
        which = [self.scenario, self.checkpoint]
        page.load(self._load, self.browser, [self.scenario, *chosen], js=controls.LOAD_JS, **PLAIN)
        self.scenario.input(self._pick_scenario, self.scenario, chosen, js=controls.KEEP_JS, **PLAIN)
        self.checkpoint.input(self._pick_checkpoint, which, chosen, **PLAIN)
        self.refresh.click(self._look_again, which, chosen, **PLAIN)
        self.reset.click(self._reset_system, which, [self.system, self.alert], **PLAIN)
        self.examples.click(self._example, [self.examples, *which], [self.box, self.alert], **PLAIN)
        gr.on([self.send.click, self.box.submit], self._ask, [self.box, *which, self.system, *self.sampling], moving, **PLAIN)
        controls.next_seed(self.again, self.sampling).then(self._ask_again, self.sampling, moving, **PLAIN)
        self.stop.click(self._stop, queue=False, **PLAIN)
        self.clear.click(self._clear, None, moving, queue=False, **PLAIN)

    # choosing

    def _choose(self, desk: Desk, name: str, key: str | None = None) -> Updates:
        """Everything that follows from a scenario and one of its checkpoints, by default the newest run."""
        desk.clear()
        found = checkpoints.listing(name)
        key = key if key in found.available else found.newest
        chosen, language = found.available[key], desk.language
        desk.warm(0, chosen)
        return {self.checkpoint: gr.Dropdown(controls.choices(found, language), value=key),
                self.note: views.runs_note(found, name, language), self.notice: views.notice(chosen.scenario, language),
                self.card: views.card(chosen, language), self.examples: controls.samples(chosen.scenario, language),
                self.system: chosen.scenario.system_prompt(language), **self._show(desk)}

    def _load(self, language: str, remembered: str, request: gr.Request) -> Updates:
        desk = self._desk(request)
        desk.language = language if language in scenarios.LANGUAGES else "en"
        name = controls.first_scenario(remembered)
        return {self.scenario: gr.Dropdown(controls.scenario_choices(desk.language), value=name), **self._choose(desk, name)}

    def _pick_scenario(self, name: str, request: gr.Request) -> Updates:
        return self._choose(self._desk(request), name)

    def _pick_checkpoint(self, name: str, key: str, request: gr.Request) -> Updates:
        """What follows from a pick. The picker is left alone where it can be, because more may have been picked meanwhile."""
        updates = self._choose(self._desk(request), name, key)
        if key in checkpoints.listing(name).available:
            del updates[self.checkpoint]
        return updates

    def _look_again(self, name: str, key: str, request: gr.Request) -> Updates:
        """The list as it is now; the conversation stays where its checkpoint does."""
        desk, found = self._desk(request), checkpoints.listing(name)
        if key not in found.available:
            return self._choose(desk, name)
        return {self.checkpoint: gr.Dropdown(controls.choices(found, desk.language), value=key),
                self.note: views.runs_note(found, name, desk.language), self.card: views.card(found.available[key], desk.language)}

    def _reset_system(self, name: str, key: str, request: gr.Request) -> Updates:
        desk = self._desk(request)
        try:
            return {self.system: checkpoints.find(name, key).scenario.system_prompt(desk.language)}
        except LabError as error:
            return self._refuse(error, desk)

    def _example(self, number: int, name: str, key: str, request: gr.Request) -> Updates:
        desk = self._desk(request)
        try:
            return {self.box: checkpoints.find(name, key).scenario.examples[desk.language][number]}
        except LabError as error:
            return self._refuse(error, desk)

    # asking

    def _show(self, desk: Desk) -> Updates:
        """The conversation and the buttons as they stand."""
        return {self.talk: views.conversation(desk.kept or [], desk.language), self.alert: views.alert(desk.hint),
                self.send: gr.Button(interactive=not desk.busy), self.stop: gr.Button(interactive=desk.busy)}

    async def _follow(self, desk: Desk, turns: list[tuple[str, Answer]], hint: str = ""):
        """Answer the last of these turns."""
        desk.kept, desk.hint = turns, hint
        desk.ask([turns[-1][1]])
        yield {self.box: "", **self._show(desk)}
        async for _ in desk.follow():
            yield self._show(desk)
        if desk.kept is not turns:  # cleared meanwhile: the last thing shown must be what is there now
            yield self._show(desk)

    async def _ask(self, request: gr.Request, question: str, name: str, key: str, system: str, *values: Any):
        desk = self._desk(request)
        question = (question or "").strip()
        if desk.busy or not question:
            yield self._refuse(say("wait" if desk.busy else "say_something", desk.language), desk)
            return
        turns = list(desk.kept or [])
        before = [(asked, answer.text) for asked, answer in turns if answer.text]
        try:
            drawn = controls.sampling(values, desk.language)
            new = Answer(checkpoints.find(name, key), rounds.messages(system, before, question), drawn)
        except LabError as error:
            yield self._refuse(error, desk)
            return
        async for update in self._follow(desk, [*turns, (question, new)]):
            yield update

    async def _ask_again(self, request: gr.Request, *values: Any):
        desk = self._desk(request)
        if desk.busy or not desk.kept:
            yield self._refuse(say("wait" if desk.busy else "nothing_to_repeat", desk.language), desk)
            return
        *turns, (question, old) = desk.kept
        try:
            drawn = controls.sampling(values, desk.language)
        except LabError as error:
            yield self._refuse(error, desk)
            return
        repeated = Answer(old.checkpoint, old.messages, drawn)
        async for update in self._follow(desk, [*turns, (question, repeated)], controls.hint_again(drawn, desk.language)):
            yield update

    def _stop(self, request: gr.Request) -> None:
        self._desk(request).stop()

    def _clear(self, request: gr.Request) -> Updates:
        desk = self._desk(request)
        desk.clear()
        return {self.box: "", **self._show(desk)}

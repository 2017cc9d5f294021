"""The Compare page: one question to two to four checkpoints side by side, and a vote on their answers."""

from typing import Any

import gradio as gr

from apps import checkpoints, controls, rounds, views
from apps.checkpoints import BASE, Listing
from apps.controls import PLAIN, i18n
from apps.page import Page, Updates
from apps.panes import Desk, Desks
from apps.rounds import Round
from apps.texts import say
from labkit import scenarios
from labkit.errors import LabError
from labkit.evaluation import votes
from labkit.evaluation.votes import SIDES

MOST = len(SIDES)


def _seen(visible: bool) -> list[str]:
    """Classes that show or hide what holds a dropdown: one that Gradio 6.31 takes out of the page comes back empty."""
    return [] if visible else ["gone"]


class ComparePage(Page):
    """The page's components and what happens on it. A desk's `kept` is the round that its panes show, or None.

    Checkpoints are picked by number, answers are shown by side; blind, lot decides which goes where.
    """

    def __init__(self, desks: Desks, page: gr.Blocks) -> None:
        super().__init__(desks)
        self._lay_out_choice()
        self._lay_out_answers()
        self._wire(page)

    def _lay_out_choice(self) -> None:
        text = i18n()
        controls.header("compare")
        self.browser = [gr.Textbox(visible=False), gr.Textbox(visible=False)]  # language and scenario, see controls.LOAD_JS
        with gr.Row():
            self.scenario = controls.scenario_picker()
            self.count = gr.Radio([2, 3, 4], value=2, label=text("how_many"), elem_id="count", min_width=200)
            self.blind = gr.Checkbox(False, label=text("vote_blind"), info=text("vote_blind_info"), elem_id="blind", min_width=300)
            self.refresh = controls.refresh_button()
        self.note = gr.HTML()
        self.pickers, self.cards, self.places = [], [], []
        with gr.Row(equal_height=False) as self.choosing:
            for number in range(1, MOST + 1):
                with gr.Column(min_width=220, elem_classes=_seen(number <= 2)) as place:
                    self.pickers.append(gr.Dropdown([], label=text(f"checkpoint_{number}"), elem_id=f"checkpoint-{number}"))
                    self.cards.append(gr.HTML())
                self.places.append(place)
        self.notice = gr.HTML()
        with gr.Row():
            self.box = controls.question_box()
            self.send, self.stop_all, self.again, self.clear = controls.question_buttons("ask_all", "stop_all")
        self.alert = gr.HTML(elem_id="alert")
        self.examples = controls.examples()

    def _lay_out_answers(self) -> None:
        text = i18n()
        self.panes, self.stops, self.columns = [], [], []
        with gr.Row(equal_height=True):
            for number, side in enumerate(SIDES, 1):
                with gr.Column(min_width=240, visible=number <= 2, elem_classes="pane-column") as column:
                    self.panes.append(gr.HTML(elem_id=f"pane-{side}", elem_classes="pane-place"))
                    self.stops.append(gr.Button(text(f"stop_{side}"), size="sm", interactive=False, elem_id=f"stop-{side}"))
                self.columns.append(column)
        with gr.Column(elem_id="vote"):
            self.status = gr.HTML(elem_id="vote-state")
            with gr.Row():
                self.ballots = {choice: gr.Button(text(f"better_{choice}" if choice in SIDES else choice), interactive=False,
                                                  visible=choice not in SIDES[2:], min_width=130, elem_id=f"vote-{choice}")
                                for choice in (*SIDES, *votes.UNDECIDED)}
            self.reason = gr.Textbox(label=text("reason"), lines=1, max_lines=4, max_length=2000, elem_id="reason")
        self.tally = gr.HTML(elem_id="tally")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                self.sampling = controls.sampling_controls()
            with gr.Column(min_width=300):
                self.system, self.reset = controls.system_editor("system_info_compare")

    def _wire(self, page: gr.Blocks) -> None:
        moving = [self.alert, *self.panes, *self.stops, self.send, self.stop_all, *self.ballots.values(), self.status, self.choosing,
                  self.tally]
        chosen = [*moving, *self.pickers, *self.cards, self.note, self.notice, self.examples]
        which = [self.scenario, self.count, *self.pickers]
        page.load(self._load, [*self.browser, self.count], [self.scenario, self.system, *chosen], js=controls.LOAD_JS_COUNT, **PLAIN)
        self.scenario.input(self._pick_scenario, [self.scenario, self.count], [self.system, *chosen], js=controls.KEEP_JS, **PLAIN)
        self.count.input(self._pick_count, which, [*self.columns, *self.places, *chosen], **PLAIN)
        gr.on([picker.input for picker in self.pickers], self._pick_checkpoint, which, chosen, **PLAIN)
        self.refresh.click(self._look_again, which, chosen, **PLAIN)
        self.blind.input(self._pick_blind, self.blind, [*moving, *self.cards], **PLAIN)
        self.reset.click(self._reset_system, self.scenario, self.system, **PLAIN)
        self.examples.click(self._example, [self.examples, self.scenario], self.box, **PLAIN)
        asked = [self.box, self.scenario, self.count, self.blind, self.system, *self.pickers, *self.sampling]
        gr.on([self.send.click, self.box.submit], self._ask, asked, [self.box, *moving], **PLAIN)
        controls.next_seed(self.again, self.sampling).then(self._ask_again, [self.blind, *self.sampling], [self.box, *moving], **PLAIN)
        self.stop_all.click(self._stop_all, queue=False, **PLAIN)
        for place, button in enumerate(self.stops):
            button.click(self._stopper(place), queue=False, **PLAIN)
        for choice, button in self.ballots.items():
            button.click(self._voter(choice), self.reason, [self.reason, *moving], **PLAIN)
        self.clear.click(self._clear, None, [self.box, *moving], queue=False, **PLAIN)

    # choosing

    def _choose(self, desk: Desk, name: str, count: int, keys: list[str | None]) -> Updates:
        """Everything that follows from a scenario and a choice of its checkpoints; where one is not there, the base, the newest
        run, and then the others take its place."""
        desk.clear()
        found, language = checkpoints.listing(name), desk.language
        usual = list(dict.fromkeys([BASE, found.newest, *found.available])) + [BASE] * MOST
        keys = [key if key in found.available else usual[place] for place, key in enumerate(keys)]
        for place, key in enumerate(keys[:count]):
            desk.warm(place, found.available[key])
        scenario = scenarios.load(name)
        return {**self._show(desk), **self._lists(found, name, keys, language), self.notice: views.notice(scenario, language),
                self.examples: controls.samples(scenario, language), self.tally: self._tally(desk, name)}

    def _lists(self, found: Listing, name: str, keys: list[str], language: str) -> Updates:
        pickers = {picker: gr.Dropdown(controls.choices(found, language), value=key)
                   for picker, key in zip(self.pickers, keys, strict=True)}
        cards = {card: views.card(found.available[key], language) for card, key in zip(self.cards, keys, strict=True)}
        return {**pickers, **cards, self.note: views.runs_note(found, name, language)}

    def _load(self, language: str, remembered: str, count: int, request: gr.Request) -> Updates:
        desk = self._desk(request)
        desk.language = language if language in scenarios.LANGUAGES else "en"
        name = controls.first_scenario(remembered)
        return {self.scenario: gr.Dropdown(controls.scenario_choices(desk.language), value=name),
                **self._pick_scenario(name, count, request)}

    def _pick_scenario(self, name: str, count: int, request: gr.Request) -> Updates:
        desk = self._desk(request)
        return {self.system: scenarios.load(name).system_prompt(desk.language), **self._choose(desk, name, count, [None] * MOST)}

    def _pick_checkpoint(self, request: gr.Request, name: str, count: int, *keys: str) -> Updates:
        """What follows from a pick. The pickers are left alone, because more may have been picked meanwhile."""
        updates = self._choose(self._desk(request), name, count, list(keys))
        if set(keys) <= set(checkpoints.listing(name).available):
            updates = {component: update for component, update in updates.items() if component not in self.pickers}
        return updates

    def _look_again(self, request: gr.Request, name: str, count: int, *keys: str) -> Updates:
        """The lists as they are now; the answers stay where their checkpoints do."""
        desk, found = self._desk(request), checkpoints.listing(name)
        if set(keys) <= set(found.available):
            return {**self._lists(found, name, list(keys), desk.language), self.tally: self._tally(desk, name)}
        return self._choose(desk, name, count, list(keys))

    def _pick_count(self, request: gr.Request, name: str, count: int, *keys: str) -> Updates:
        columns = {column: gr.Column(visible=at < count) for at, column in enumerate(self.columns)}
        columns |= {place: gr.Column(elem_classes=_seen(at < count)) for at, place in enumerate(self.places)}
        buttons = {self.ballots[side]: gr.Button(visible=place < count, interactive=False) for place, side in enumerate(SIDES)}
        bad = gr.Button(i18n()("both_bad" if count == 2 else "all_bad"), interactive=False)
        return {**columns, **self._pick_checkpoint(request, name, count, *keys), **buttons, self.ballots["both_bad"]: bad}

    def _pick_blind(self, blind: bool, request: gr.Request) -> Updates:
        desk = self._desk(request)
        desk.clear()
        return {**self._show(desk), **{card: gr.HTML(visible=not blind) for card in self.cards}}

    def _reset_system(self, name: str, request: gr.Request) -> str:
        return scenarios.load(name).system_prompt(self._desk(request).language)

    def _example(self, number: int, name: str, request: gr.Request) -> str:
        return scenarios.load(name).examples[self._desk(request).language][number]

    # asking

    def _show(self, desk: Desk) -> Updates:
        """The panes, the vote and the buttons as the round stands, or as they are without one."""
        asked: Round | None = desk.kept
        hidden = asked is not None and asked.hidden
        updates = {**self._buttons(asked), self.alert: views.alert(desk.hint), self.choosing: gr.Row(elem_classes=_seen(not hidden)),
                   self.tally: gr.HTML(visible=not hidden)}
        if asked is None:
            empty = {pane: views.pane(side, None, desk.language) for side, pane in zip(SIDES, self.panes, strict=True)}
            return {**updates, **empty, self.status: views.vote_state("vote_wait", desk.language)}
        updates |= self._answers(desk)
        if not asked.voted:
            key = "vote_wait" if not asked.ended else "vote_now" if asked.open_for_vote else "vote_failed"
            updates[self.status] = views.vote_state(key, desk.language)
        return updates

    def _answers(self, desk: Desk) -> Updates:
        """The panes of the round, which may have been cleared."""
        asked: Round | None = desk.kept
        if asked is None:
            return {}
        hidden = asked.hidden
        return {pane: views.pane(side, answer, desk.language, hidden, text, asked.ended if hidden else answer.done)
                for pane, side, answer, text in zip(self.panes, SIDES, asked.shown, asked.texts(), strict=False)}

    def _buttons(self, asked: Round | None) -> Updates:
        at_work = asked is not None and not asked.ended
        can_vote = asked is not None and asked.open_for_vote
        running = [at_work and (asked.hidden or not answer.done) for answer in asked.shown] if asked else []
        running += [False] * (MOST - len(running))
        return {self.send: gr.Button(interactive=not at_work), self.stop_all: gr.Button(interactive=at_work),
                **{button: gr.Button(interactive=on) for button, on in zip(self.stops, running, strict=True)},
                **{button: gr.Button(interactive=can_vote) for button in self.ballots.values()}}

    async def _follow(self, desk: Desk, asked: Round, hint: str = ""):
        desk.kept, desk.hint = asked, hint
        desk.ask(asked.answers)
        yield {self.box: asked.question, **self._show(desk)}
        before: list[bool] = []
        async for _ in desk.follow():
            done = [answer.done for answer in asked.answers]
            yield self._show(desk) if done != before else self._answers(desk)  # most looks find more text and nothing else
            before = done
        if desk.kept is not asked:  # cleared meanwhile: the last thing shown must be what is there now
            yield self._show(desk)

    async def _ask(self, request: gr.Request, question: str, name: str, count: int, blind: bool, system: str, *values: Any):
        desk = self._desk(request)
        question = (question or "").strip()
        if desk.busy or not question:
            yield self._refuse(say("wait" if desk.busy else "say_something", desk.language), desk)
            return
        try:
            chosen = [checkpoints.find(name, key) for key in values[:count]]
            drawn = controls.sampling(values[MOST:], desk.language)
        except LabError as error:
            yield self._refuse(error, desk)
            return
        async for update in self._follow(desk, rounds.start(scenarios.load(name), desk.language, question, system, chosen, drawn, blind)):
            yield update

    async def _ask_again(self, request: gr.Request, blind: bool, *values: Any):
        desk = self._desk(request)
        if desk.busy or desk.kept is None:
            yield self._refuse(say("wait" if desk.busy else "nothing_to_repeat", desk.language), desk)
            return
        try:
            drawn = controls.sampling(values, desk.language)
        except LabError as error:
            yield self._refuse(error, desk)
            return
        async for update in self._follow(desk, rounds.again(desk.kept, drawn, blind), controls.hint_again(drawn, desk.language)):
            yield update

    def _stop_all(self, request: gr.Request) -> None:
        self._desk(request).stop()

    def _stopper(self, place: int):
        def stop(request: gr.Request) -> None:
            asked: Round | None = self._desk(request).kept
            if asked and place < len(asked.shown):
                asked.shown[place].stop.set()

        return stop

    def _clear(self, request: gr.Request) -> Updates:
        desk = self._desk(request)
        desk.clear()
        return {self.box: "", **self._show(desk)}

    # voting

    def _voter(self, choice: str):
        def vote(reason: str, request: gr.Request) -> Updates:
            desk = self._desk(request)
            asked: Round | None = desk.kept
            desk.hint = ""
            try:
                number = rounds.vote(asked, choice, reason, desk.session) if asked else None
            except LabError as error:
                return self._refuse(error, desk)
            if number is None:
                return self._refuse(say("vote_twice" if asked and asked.voted else "vote_wait", desk.language), desk)
            tally = gr.HTML(self._tally(desk, asked.scenario.name), visible=True)
            return {**self._show(desk), self.status: views.thanks(number, asked.shown, desk.language), self.reason: "", self.tally: tally}

        return vote

    def _tally(self, desk: Desk, name: str) -> str:
        try:
            return views.tally(votes.tally(name), desk.language)
        except LabError as error:
            return views.alert(error.said(desk.language))

"""What both pages have: pickers, sampling, the system prompt, the question with its examples."""

import functools
from typing import Any

import gradio as gr

from apps import views
from apps.checkpoints import Listing
from apps.texts import LOCALES, PAGES, TEXTS, raw, say
from labkit import scenarios
from labkit.errors import LabError
from labkit.scenarios import Scenario
from labkit.serving import Sampling

_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "seed", "repeat_penalty")

PLAIN = {"show_progress": "hidden"}  # the panes say themselves what goes on

# In the browser, before a page's load and when a scenario is picked: the language that the first script (apps/shell.py) chose, and
# the scenario, which is kept for this tab so that the other page and the other language open on the same one.
LOAD_JS = "() => [window.labkitLanguage, sessionStorage.getItem('labkit.scenario') || '']"
LOAD_JS_COUNT = "(_, __, count) => [window.labkitLanguage, sessionStorage.getItem('labkit.scenario') || '', count]"
KEEP_JS = "(name, ...rest) => { sessionStorage.setItem('labkit.scenario', name); return [name, ...rest]; }"


@functools.cache
def i18n() -> gr.I18n:
    """All texts for Gradio; calling it with a key gives a text that the browser puts in its language. The pages' headers are
    texts as well, so that they are there from the first moment."""
    return gr.I18n(**{locale: {key: raw(key, language) for key in TEXTS}
                      | {f"header_{page}": views.header(page, language) for page in PAGES}
                      for language, locale in LOCALES.items()})


def header(page: str) -> None:
    """Where one is, the other page, language and colours; in place of Gradio's own bar, which knows one language."""
    gr.Navbar(visible=False)
    gr.HTML(i18n()(f"header_{page}"), padding=False)


def scenario_picker() -> gr.Dropdown:
    return gr.Dropdown([], label=i18n()("scenario"), elem_id="scenario", min_width=200)


def refresh_button() -> gr.Button:
    """Reads the list of checkpoints anew."""
    return gr.Button(i18n()("refresh"), size="sm", scale=0, min_width=120, elem_classes="beside", elem_id="refresh")


def question_box() -> gr.Textbox:
    """Enter sends, Shift+Enter makes a new line (Gradio does so where `lines` is 1)."""
    text = i18n()
    return gr.Textbox(label=text("question"), placeholder=text("question_hint"), lines=1, max_lines=8, autofocus=True,
                      elem_id="question", max_length=20_000, scale=6, min_width=520)


def question_buttons(send: str, stop: str) -> list[gr.Button]:
    """Send, stop, regenerate and clear, beside the question; the first two with these texts."""
    text = i18n()
    with gr.Column(scale=1, min_width=560, elem_classes="beside"), gr.Row():
        return [gr.Button(text(send), variant="primary", min_width=130, elem_id="send"),
                gr.Button(text(stop), variant="stop", interactive=False, min_width=130, elem_id="stop"),
                gr.Button(text("again"), min_width=130, elem_id="again"), gr.Button(text("clear"), min_width=130, elem_id="clear")]


def examples() -> gr.Dataset:
    """Example questions. Shown as HTML, because a text would be cut after 60 characters; a click gives the example's number."""
    return gr.Dataset(components=[gr.HTML(visible=False)], samples=[], type="index", label=i18n()("examples"), elem_id="examples")


def samples(scenario: Scenario, language: str) -> gr.Dataset:
    """The scenario's examples for `examples`."""
    return gr.Dataset(samples=[[views.safe(text)] for text in scenario.examples[language]])


def sampling_controls() -> list[Any]:
    """Controls in the order of `sampling`'s arguments."""
    text, start = i18n(), Sampling()
    with gr.Accordion(text("sampling"), open=False, elem_id="sampling"):
        return [
            gr.Slider(0, 2, start.temperature, step=0.05, label=text("temperature"), info=text("temperature_info"), buttons=[]),
            gr.Slider(0.05, 1, start.top_p, step=0.05, label=text("top_p"), info=text("top_p_info"), buttons=[]),
            gr.Slider(0, 200, start.top_k, step=1, label=text("top_k"), info=text("top_k_info"), buttons=[]),
            gr.Slider(16, 2048, start.max_tokens, step=16, label=text("max_tokens"), buttons=[]),
            gr.Number(start.seed, label=text("seed"), info=text("seed_info"), precision=0, minimum=0, elem_id="seed"),
            gr.Slider(1, 2, start.repeat_penalty, step=0.05, label=text("repeat_penalty"), info=text("repeat_penalty_info"), buttons=[]),
        ]


def sampling(values: tuple[Any, ...], language: str) -> Sampling:
    """The controls' values as a Sampling; LabError where one is missing or cannot be."""
    if any(value is None for value in values):
        raise LabError(say("sampling_empty", language))
    kinds = {name: type(getattr(Sampling(), name)) for name in _SAMPLING}
    return Sampling(**{name: kinds[name](value) for name, value in zip(_SAMPLING, values, strict=True)})


def next_seed(button: gr.Button, controls: list[Any]):
    """A click first moves the seed on, so that drawing again draws something else; returns the event to go on from."""
    seed = controls[_SAMPLING.index("seed")]
    return button.click(lambda value: (value or 0) + 1, seed, seed, **PLAIN)


def hint_again(drawn: Sampling, language: str) -> str:
    """Where nothing is drawn: why the answer will be the same."""
    return say("same_again", language) if drawn.temperature == 0 else ""


def system_editor(info: str) -> tuple[gr.Textbox, gr.Button]:
    """The system prompt, and the button that brings the scenario's own back."""
    text = i18n()
    with gr.Accordion(text("system"), open=False, elem_id="system"):
        box = gr.Textbox(label=text(info), lines=6, max_lines=16, max_length=20_000)
        return box, gr.Button(text("system_reset"), size="sm")


def scenario_choices(language: str) -> list[tuple[str, str]]:
    return [(scenarios.load(name).title[language], name) for name in scenarios.names()]


def choices(found: Listing, language: str) -> list[tuple[str, str]]:
    return [(views.name(checkpoint, language), key) for key, checkpoint in found.available.items()]


def first_scenario(remembered: str) -> str:
    """The scenario that this tab had before, else the first."""
    known = scenarios.names()
    return remembered if remembered in known else known[0]

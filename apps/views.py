"""What the pages show, as HTML made here. Whatever a model, a person or a file wrote goes through `safe` first."""

import html
from typing import Any

from apps.checkpoints import Checkpoint, Listing
from apps.panes import Answer
from apps.texts import LOCALES, PAGES, say
from labkit import files, plots
from labkit.errors import LabError
from labkit.evaluation import report
from labkit.evaluation.votes import SIDES
from labkit.scenarios import Scenario
from labkit.scenarios.answers import parse

# gr.HTML reads its value as a Handlebars template and looks for translation marks in it
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;", "_": "&#95;", "\\": "&#92;"})


def safe(text: Any) -> str:
    """The text as HTML that shows exactly its characters."""
    return html.escape(str(text), quote=True).translate(_TEMPLATE)


def header(page: str, language: str) -> str:
    """The top of a page: where one is, the other page, the language, the colours."""
    def link(key: str) -> str:
        here = ' aria-current="page"' if key == page else ""
        return f'<a href="{PAGES[key]}"{here}>{say(key, language)}</a>'

    other = "en" if language == "zh" else "zh"
    return (f'<header class="top"><h1 class="brand">labkit</h1><nav aria-label="{say("pages", language)}">'
            f'{link("chat")}{link("compare")}</nav><span class="tools">'
            f'<a href="?lang={other}" data-labkit="language" lang="{LOCALES[other]}" hreflang="{LOCALES[other]}">'
            f'{say("other_language", language)}</a>'
            f'<button type="button" data-labkit="theme" aria-label="{say("theme", language)}" title="{say("theme", language)}">◐</button>'
            "</span></header>")


def name(checkpoint: Checkpoint, language: str) -> str:
    """A checkpoint's name for a picker or a pane, plain text."""
    return f"{say('fine_tuned' if checkpoint.run else 'base', language)} · {checkpoint.name}"


def notice(scenario: Scenario, language: str) -> str:
    """The scenario's safety notice."""
    return f'<p class="notice" role="note"><b>{say("notice_label", language)}</b> {safe(scenario.notice[language])}</p>'


def alert(text: str) -> str:
    """One line that the user should read; nothing where the text is empty. (Gradio's own toasts speak English only.)"""
    return f'<p class="alert" role="alert">{safe(text)}</p>' if text else ""


def runs_note(found: Listing, scenario_name: str, language: str) -> str:
    """What there is to know about the list of checkpoints: how to train one, and which runs cannot answer and why."""
    lines = []
    if not any(checkpoint.run for checkpoint in found.available.values()):
        lines.append(f"<p>{say('no_runs', language)} <code>labkit build --scenario {safe(scenario_name)}</code></p>")
    if found.missing:
        rows = "".join(f"<li><code>{safe(key)}</code> {say(f'state_{state}', language)}</li>" for key, state in found.missing.items())
        lines.append(f"<p>{say('not_available', language)}</p><ul>{rows}</ul>")
    return f'<div class="runs-note">{"".join(lines)}</div>' if lines else ""


def card(checkpoint: Checkpoint, language: str) -> str:
    """What a checkpoint is and how good it was measured to be, in brief."""
    if checkpoint.run is None:
        return _folded(f"<p>{say('card_base', language, base=safe(checkpoint.name))}</p>", language)
    manifest = checkpoint.run.manifest()
    when = ""
    if "data" in manifest and "finished" in manifest:
        when = say("card_when", language, day=safe(manifest["finished"][:10]), train=manifest["data"]["train"])
    base = safe(checkpoint.base_name.rstrip("/").rsplit("/", 1)[-1])
    hashes = f"<code>{files.short((manifest.get('adapter') or manifest['model'])['sha256'])}</code>"
    made = f"<p>{say('card_run', language, base=base, when=when)} {say('weights_adapter', language)} {hashes}</p>"
    try:
        scores = _scores(checkpoint, language)
    except (LabError, KeyError, TypeError):  # a file of another version, or altered by hand
        scores = _not_measured(checkpoint, language)
    return _folded(made + scores, language)


def fields(scenario: Scenario, text: str, language: str) -> str:
    """The answer's fields as a small table."""
    answer = parse(scenario, text)
    rows = []
    for field in scenario.fields:
        value = f'<i class="quiet">{say("not_read", language)}</i>'
        if field.name in answer:
            value = safe(field.show(answer[field.name], language))
        rows.append(f'<tr><th scope="row">{safe(field.title[language])}</th><td><div>{value}</div></td></tr>')
    return f'<table class="fields"><caption>{say("fields", language)}</caption>{"".join(rows)}</table>'


def measures(answer: Answer, language: str) -> str:
    """Speed and hashes, as the engine reported them."""
    parts = []
    if answer.speed and answer.speed.tokens:
        speed = answer.speed
        parts.append(say("speed", language, rate=f"{speed.tokens_per_second:.0f}", first=f"{speed.first_token_seconds:.2f}",
                         tokens=speed.tokens))
        if answer.waited >= 0.5:
            parts.append(say("waited", language, seconds=f"{answer.waited:.1f}"))
    if answer.weights:
        adapter = answer.weights.adapter
        parts.append(f"{say('weights_base', language)} <code>{files.short(answer.weights.base)}</code>")
        parts.append(f"{say('weights_adapter', language)} <code>{files.short(adapter)}</code>" if adapter
                     else say("no_adapter", language))
        parts.append(safe(answer.weights.engine))
    return f'<p class="measures">{" · ".join(parts)}</p>' if parts else ""


def state(answer: Answer, language: str, ended: bool) -> str:
    """Whether the answer is coming, was stopped, has ended, or why it could not be given."""
    if answer.error and ended:
        return f'<p class="state failed" role="alert">{say("failed", language)} {safe(answer.error.said(language))}</p>'
    word = "loading" if answer.weights is None and not ended else "answering" if not ended else "stopped" if answer.stopped else "ended"
    return f'<p class="state {"" if ended else "moving "}{word}" role="status">{say(word, language)}</p>'


def pane(side: str, answer: Answer | None, language: str, hidden: bool = False, shown: str | None = None,
         ended: bool | None = None) -> str:
    """One pane of the Compare page.

    Args:
        hidden: the name, the speed and the hashes are not told.
        shown: the text to show, by default all of it; in a blind comparison the panes keep pace.
        ended: whether to show it as ended, by default whether it has.
    """
    title = f'<span class="side">{side}</span>'
    if answer is None:
        said = f'<p class="said quiet">{say("empty_pane", language)}</p>'
        return f'<article class="pane" aria-label="{say("answer_of", language, side=side)}"><h2>{title}</h2>{said}</article>'
    ended = answer.done if ended is None else ended
    text = answer.text if shown is None else shown
    label = say("hidden_name", language) if hidden else name(answer.checkpoint, language)
    colour = "" if hidden else f' style="--side-colour: {plots.colour(answer.checkpoint.run_key)}"'
    said = safe(text) or (say("empty_answer", language) if ended and not answer.error else "")
    parts = [f'<h2>{title} <span class="name">{safe(label)}</span></h2>', f'<div class="said">{said}</div>', state(answer, language, ended)]
    if ended and text:
        parts.append(fields(answer.checkpoint.scenario, text, language))
    if ended and not hidden:
        parts.append(measures(answer, language))
    return f'<article class="pane" aria-label="{say("answer_of", language, side=side)}"{colour}>{"".join(parts)}</article>'


def conversation(turns: list[tuple[str, Answer]], language: str) -> str:
    """The Chat page's conversation: questions, and under each its answer with fields, speed and hashes."""
    if not turns:
        return f'<div class="talk"><p class="quiet">{say("empty_chat", language)}</p></div>'
    parts = []
    for question, answer in turns:
        parts.append(f'<article class="you"><h2>{say("you", language)}</h2><div class="said">{safe(question)}</div></article>')
        body = [f'<h2 class="name">{safe(name(answer.checkpoint, language))}</h2>']
        said = safe(answer.text) or (say("empty_answer", language) if answer.done and not answer.error else "")
        body += [f'<div class="said">{said}</div>', state(answer, language, answer.done)]
        if answer.done and answer.text:
            body.append(fields(answer.checkpoint.scenario, answer.text, language))
        if answer.done:
            body.append(measures(answer, language))
        colour = plots.colour(answer.checkpoint.run_key)
        parts.append(f'<article class="model" style="--side-colour: {colour}">{"".join(body)}</article>')
    return f'<div class="talk">{"".join(parts)}</div>'


def vote_state(key: str, language: str) -> str:
    """Whether one can vote."""
    return f'<p role="status">{say("vote", language)} <span class="quiet">{say(key, language)}</span></p>'


def thanks(number: int, shown: list[Answer], language: str) -> str:
    """After a vote: that it was kept, and who was who."""
    sides = " · ".join(say("vote_was", language, side=side, name=safe(name(answer.checkpoint, language)))
                       for side, answer in zip(SIDES, shown, strict=False))
    return f'<p role="status">{say("vote_thanks", language, number=number, sides=sides)}</p>'


def tally(rows: list[dict[str, Any]], language: str) -> str:
    """The votes of a scenario, a row a pair of checkpoints."""
    head = f'<h2>{say("tally", language)}</h2>'
    if not rows:
        return f'<section class="tally">{head}<p class="quiet">{say("tally_none", language)}</p></section>'
    columns = ("first", "second", "share", "wins", "losses", "ties", "bad")
    titles = "".join(f'<th scope="col">{say(f"tally_{column}", language)}</th>' for column in columns)
    body = []
    for row in rows:
        names = [_voted(row[side], language) for side in ("first", "second")]
        share = "–" if row["share"] is None else f"{row['share']:.0%} ({row['low']:.0%}–{row['high']:.0%})"
        bar = "" if row["share"] is None else (f'<span class="bar" aria-hidden="true"><i style="left:{row["low"]:.1%};'
                                               f'width:{row["high"] - row["low"]:.1%}"></i><b style="left:{row["share"]:.1%}"></b></span>')
        counts = "".join(f"<td>{row[key]}</td>" for key in ("first_wins", "second_wins", "ties", "both_bad"))
        body.append(f"<tr><th scope=\"row\">{safe(names[0])}</th><td>{safe(names[1])}</td><td>{share}{bar}</td>{counts}</tr>")
    table = f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    return f'<section class="tally">{head}{table}<p class="quiet">{say("tally_note", language)}</p></section>'


def _voted(title: str, language: str) -> str:
    """A checkpoint's name in the tally: `base` or `SCENARIO/NAME`, either with `@HASH` where it had several weights."""
    run, at, weights = title.partition("@")
    return (say("base", language) if run == "base" else run.rsplit("/", 1)[-1]) + at + weights


def _scores(checkpoint: Checkpoint, language: str) -> str:
    """Base and fine-tuned side by side in the run's main measures."""
    found = checkpoint.run.evaluation()
    if found is None:
        return _not_measured(checkpoint, language)
    sides = {side: {point["field"]: point for point in points} for side, points in report.main_measures(found).items()}
    rows = []
    for key, tuned in sides.get("fine_tuned", {}).items():
        try:
            title = checkpoint.scenario.field(key).title[language]
        except LabError:  # evaluated with another scenario file: its name is all there is
            title = key
        cells = [_score(sides.get("base", {}).get(key)), _score(tuned)]
        rows.append(f'<tr><th scope="row">{safe(title)}<small>{say("measure_" + tuned["measure"], language)}</small></th>'
                    + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    titles = "".join(f'<th scope="col">{say(key, language)}</th>' for key in ("field", "base", "fine_tuned"))
    count = found["records"]["count"]
    return (f'<p>{say("card_scores", language, count=count)}</p><div class="scroll"><table class="scores"><thead><tr>{titles}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>')


def _not_measured(checkpoint: Checkpoint, language: str) -> str:
    return f"<p>{say('card_not_evaluated', language)} <code>labkit evaluate {safe(checkpoint.run.key)}</code></p>"


def _score(point: dict[str, Any] | None) -> str:
    if point is None:
        return "–"
    shift, digits = (1, 1) if point["measure"] == "mean_absolute_error" else (100, 0)
    value, low, high = (f"{point[key] * shift:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} <small>{low}–{high}</small>"


def _folded(body: str, language: str) -> str:
    return f'<details class="card"><summary>{say("card_title", language)}</summary>{body}</details>'

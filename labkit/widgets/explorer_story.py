"""What the explorer shows of a record, as HTML: its line in the table, and its story through the steps.

Every text of the data is escaped here, at the place where it becomes HTML.
"""

import json
from html import escape
from typing import Any

from labkit.data.corrections import Corrections
from labkit.data.reporting import differences, words
from labkit.records import Record
from labkit.scenarios import Field, Scenario
from labkit.widgets.explorer_captions import CAPTIONS

_PREVIEW = 110  # characters of a record in the table
_LONG = 4_000  # characters of a text in the story
STYLE = """<style>
.labkit-explorer del { background: rgba(220, 60, 40, .28) }
.labkit-explorer ins { background: rgba(40, 160, 60, .28); text-decoration: none }
.labkit-explorer .text { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid rgba(128, 128, 128, .4); padding: 2px 10px;
  margin: 4px 0 }
.labkit-explorer h4 { margin: 10px 0 2px; line-height: 1.4 }
.labkit-explorer.row { white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
</style>"""


def line(corrections: Corrections, position: int, language: str) -> str:
    """State, split, language, and how the record begins; a pencil where the person changed it."""
    said, now = CAPTIONS[language], corrections.current(position)
    record = now or corrections.given[position]
    state = said["kept"] if now else said["dropped"]
    mark = " ✎" if corrections.change(position) else ""
    split = words.split(record["split"])[language] if now and record["split"] else ""
    about = " · ".join(filter(None, (split, record["language"])))
    text = " ".join(record["messages"][-1]["content"].split())
    return f"<b>{escape(state)}{mark}</b> {escape(about)} {escape(text[:_PREVIEW])}"


def rejected_line(reject: dict[str, Any], language: str) -> str:
    """Where a row that could not be read stands, and why."""
    said = CAPTIONS[language]
    return f"<b>{escape(said['rejected'])}</b> {escape(_place(reject, said))}: {escape(reject['problem'][:_PREVIEW])}"


def story(corrections: Corrections, position: int, language: str) -> str:
    """The record as it was read, what each step did to it, and what is different now.

    Raises:
        LabError: a step cannot be run here.
    """
    from labkit.data import pipeline

    said, scenario, record = CAPTIONS[language], corrections.scenario, corrections.given[position]
    parts = [*_headed(said["original"], record, scenario, language)]
    before, told, dropped_here = record, False, False
    for name, outcome in pipeline.trace(record, scenario, corrections.plan):
        changed = _changed(before, outcome.record, scenario)
        if changed or outcome.drop:
            told = True
            parts.append(f"<h4>{escape(words.step(name)[language])} <code>{escape(name)}</code></h4>{changed}")
        if outcome.drop:
            dropped_here = True
            parts.append(f"<p><b>{escape(said['gone'].format(reason=words.reason(outcome.drop)[language]))}</b></p>")
        before = outcome.record
    drop = corrections.drops.get(position)
    if drop and not dropped_here:  # by a step that sees all, or by the last check
        told = True
        step, reason = words.step(drop[0])[language], words.reason(drop[1])[language]
        parts.append(f"<p><b>{escape(said['all_seen'].format(step=step, reason=reason))}</b></p>")
        if position in corrections.twins:
            parts += _headed(said["twin"], corrections.given[corrections.twins[position]], scenario, language)
    if not told:
        parts.append(f"<p>{escape(said['unchanged'])}</p>")
    now = corrections.current(position)
    different = _changed(before, now, scenario) if now else ""
    return "".join(parts) + (f"<h4>{escape(said['now'])}</h4>{different}" if different else "")


def rejected(reject: dict[str, Any], language: str) -> str:
    """A row that could not be read, with its values."""
    said = CAPTIONS[language]
    values = "".join(f'<div class="text"><small>{escape(str(name)[:80])}</small>\n{escape(str(value)[:_LONG])}</div>'
                     for name, value in (reject.get("values") or {}).items())
    return f"<h4>{escape(_place(reject, said))}</h4><p>{escape(said['broken'].format(problem=reject['problem']))}</p>{values}"


def plain(value: Any) -> str:
    """A value of an answer or of a record as text; nothing as the empty text."""
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict | list) else str(value)


def _headed(title: str, record: Record, scenario: Scenario, language: str) -> list[str]:
    """A record as it was read, under a title and its place."""
    origin = {"file": record["meta"].get("file") or record["source"], "row": record["meta"].get("row", "?")}
    return [f"<h4>{escape(title)}</h4><small>{escape(_place(origin, CAPTIONS[language]))}</small>", *_texts(record, scenario, language)]


def _texts(record: Record, scenario: Scenario, language: str) -> list[str]:
    """A record's messages and answer."""
    said = CAPTIONS[language]
    shown = [(said.get(message["role"], message["role"]), message["content"]) for message in record["messages"]]
    shown += [(field.title[language], _read(field, record["answer"][field.name], language)) for field in scenario.fields
              if record["answer"].get(field.name) is not None]
    return [f'<div class="text"><small>{escape(title)}</small>\n{escape(text[:_LONG])}</div>' for title, text in shown]


def _changed(before: Record, after: Record, scenario: Scenario) -> str:
    """The texts, values of the answer and other parts that differ between two states of a record."""
    old, new = ([message["content"] for message in record["messages"]] for record in (before, after))
    pairs = list(zip(old, new, strict=True)) if len(old) == len(new) else [("\n".join(old), "\n".join(new))]
    pairs += [(plain(before["answer"].get(field.name)), plain(after["answer"].get(field.name))) for field in scenario.fields]
    pairs += [(f"{name}: {plain(before[name])}", f"{name}: {plain(after[name])}") for name in ("language", "split", "meta")]
    return "".join(f'<div class="text">{differences.as_html(differences.shortened(differences.pieces(one, other)))}</div>'
                   for one, other in pairs if one != other)


def _place(row: dict[str, Any], said: dict[str, str]) -> str:
    """Where a row comes from, as text."""
    return f"{row['file']}, {said['row']} {row['row']}"


def _read(field: Field, value: Any, language: str) -> str:
    """A field's value as a person reads it; as it stands where it is none of the field's (a label that is not mended yet)."""
    try:
        return field.show(value, language)
    except (KeyError, TypeError, ValueError):
        return plain(value)

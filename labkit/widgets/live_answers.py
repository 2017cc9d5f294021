"""A model's answers to the same prompts as it learns, as a table."""

import html
from typing import Any

_SHOWN = 3        # columns of answers: the first, and the latest
_PROMPTS = 8
_PREVIEW = 400    # characters


class Answers:
    """Keeps the first answers of a training and the latest.

    Everything that comes from data or model is escaped. An answer that is word for word what was wanted has a tick.
    """

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words
        self._wanted: dict[str, str] = {}
        self._given: list[tuple[int, dict[str, str]]] = []  # (step, answer by prompt)

    def see(self, row: dict[str, Any]) -> bool:
        """A row of metrics; whether it has answers."""
        answers = row.get("answers")
        if not answers:
            return False
        self._wanted.update((each["prompt"], each["wanted"]) for each in answers)
        self._given.append((row["step"], {each["prompt"]: each["answer"] for each in answers}))
        if len(self._given) > _SHOWN:
            del self._given[1]
        return True

    def html(self) -> str:
        """The table; empty before the first answers."""
        if not self._given:
            return ""
        words = self._words
        heads = [words["prompt"], words["wanted"], *(words["after"].format(step=step) for step, _ in self._given)]
        rows = []
        for prompt, wanted in list(self._wanted.items())[-_PROMPTS:]:
            cells = [_cell(prompt), _cell(wanted), *(_cell(given.get(prompt), wanted) for _, given in self._given)]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        heads = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
        return f"<h4>{html.escape(words['answers'])}</h4><table><tr>{heads}</tr>{''.join(rows)}</table>"


def _cell(text: str | None, wanted: str | None = None) -> str:
    if text is None:
        return "<td>–</td>"
    text = str(text)
    tick = '<span class="right">✓</span> ' if wanted is not None and text.strip() == str(wanted).strip() else ""
    shown = text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"
    return f"<td>{tick}{html.escape(shown)}</td>"

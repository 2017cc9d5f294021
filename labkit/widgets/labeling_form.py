"""The form of a scenario's fields in a notebook: one input a field, with the model's suggestion marked beside it.

Texts of the data are escaped wherever they become HTML.
"""

import html
from collections.abc import Callable, Mapping
from typing import Any

from labkit.errors import LabError
from labkit.labeling.settings import Suggestion
from labkit.scenarios import Field, answers
from labkit.widgets.labeling_captions import CAPTIONS

KEYS = "1234567890qwertyuiopasdfghjklzxcvbnm"  # for labels, in the order of the form
_MOST_BUTTONS = 24  # a field with more labels is a list to choose from
_MARK = "✦"


class Form:
    """Inputs for these fields; `view` shows them.

    Args:
        fields: of the scenario, in the order in which they are shown.
        language: of the captions, `en` or `zh`.
        needed: names of the fields that must be answered before an answer counts.
    """

    def __init__(self, fields: list[Field], language: str, needed: set[str]) -> None:
        import ipywidgets

        self.fields, self.language, self.needed = fields, language, needed
        free = iter(KEYS)
        self.inputs: dict[str, Any] = {}
        self.keys: dict[str, Callable[[], None]] = {}
        for field in fields:
            if field.kind == "label" and len(field.labels) <= _MOST_BUTTONS:
                buttons = _Buttons(field, language, [next(free, "") for _ in field.labels])
                self.keys |= {key: lambda buttons=buttons, value=value: buttons.toggle(value)
                              for value, key in zip(field.values, buttons.keys, strict=True) if key}
                self.inputs[field.name] = buttons
            else:
                self.inputs[field.name] = (_Choice if field.kind == "label" else _Text)(field, language)
        self.view = ipywidgets.VBox([each.view for each in self.inputs.values()], layout={"width": "100%"})

    def show(self, values: Mapping[str, Any], suggestions: Mapping[str, Suggestion]) -> None:
        """Fill the inputs with these values and mark these suggestions; the others are empty."""
        for name, each in self.inputs.items():
            each.suggest(suggestions.get(name))
            each.value = values.get(name)

    def values(self) -> dict[str, Any]:
        """The answers as the scenario keeps them, without the empty ones.

        Raises:
            LabError: a number that is none, or out of its range.
        """
        said, found = CAPTIONS[self.language], {}
        for field in self.fields:
            value = self.inputs[field.name].value
            if value is None:
                continue
            try:
                found[field.name] = answers.tidy_value(field, value)
            except LabError as error:
                title, low, high = field.title[self.language], *(field.show(end, self.language) for end in (field.minimum, field.maximum))
                problem = said["range"].format(field=title, low=low, high=high) if _is_number(value) \
                    else said["no_number"].format(field=title, value=value)
                raise LabError(problem) from error
        return found

    def check(self, values: Mapping[str, Any]) -> None:
        """LabError where a field that is needed has no answer, or none has."""
        said = CAPTIONS[self.language]
        for field in self.fields:
            if field.name in self.needed and field.name not in values:
                raise LabError(said["needed"].format(field=field.title[self.language]))
        if not values:
            raise LabError(said["no_field"])

    def type_in(self, place: int, text: str) -> None:
        """Put a text into the input at this place among those that one types in."""
        typed = [each for each in self.inputs.values() if isinstance(each, _Text)]
        typed[place].text.value = text

    @property
    def label_keys(self) -> str:
        """The keys that choose labels, as they are told: `1–9 0 q w`."""
        keys = "".join(self.keys)
        digits = KEYS[:9]
        return " ".join([f"1–{len(keys)}" if len(keys) < 9 else "1–9", *keys[9:]]) if len(keys) > 2 and digits.startswith(keys[:9]) \
            else " ".join(keys)


class _Input:
    """One field's input: `view`, `value` (None where it is empty) and `suggest`."""

    def __init__(self, field: Field, language: str) -> None:
        import ipywidgets

        self.field, self.language = field, language
        self.hint = ipywidgets.HTML()
        title = ipywidgets.HTML(f"<b>{html.escape(field.title[language])}</b> <small>{html.escape(field.question[language])}</small>")
        self.view = ipywidgets.VBox([title, self.control(), self.hint], layout={"width": "100%", "margin": "0 0 6px 0"})

    def control(self) -> Any:
        raise NotImplementedError

    def suggest(self, suggestion: Suggestion | None) -> None:
        """Say what was suggested, by what, and how sure it was."""
        said = CAPTIONS[self.language]
        if suggestion is None:
            self.hint.value, self.hint.layout.display = "", "none"
            return
        value, score, agent = suggestion
        text = said["suggested"].format(agent=agent or said["model"], value=self.field.show(value, self.language))
        text += "" if score is None else " " + said["sure"].format(score=score)
        self.hint.value = f'<small style="white-space: pre-wrap; overflow-wrap: anywhere">{html.escape(text)}</small>'
        self.hint.layout.display = None


class _Buttons(_Input):
    """A button a label; the chosen one has a tick, a second press takes it back."""

    def __init__(self, field: Field, language: str, keys: list[str]) -> None:
        self.keys = keys
        self._value: str | None = None
        super().__init__(field, language)

    def control(self) -> Any:
        import ipywidgets

        self.buttons = {}
        for label in self.field.labels:
            button = ipywidgets.Button(layout={"width": "auto", "min_width": "64px"})
            button.on_click(lambda button, value=label.value: self.toggle(value))
            self.buttons[label.value] = button
        self._caption(None)
        return ipywidgets.HBox(list(self.buttons.values()), layout={"flex_flow": "row wrap"})

    @property
    def value(self) -> str | None:
        return self._value

    @value.setter
    def value(self, value: str | None) -> None:
        self._value = value if value in self.buttons else None
        for name, button in self.buttons.items():
            chosen = name == self._value
            button.icon, button.button_style = ("check", "primary") if chosen else ("", "")

    def toggle(self, value: str) -> None:
        self.value = None if value == self._value else value

    def suggest(self, suggestion: Suggestion | None) -> None:
        super().suggest(suggestion)
        self._caption(suggestion and suggestion[0])

    def _caption(self, suggested: str | None) -> None:
        for label, key in zip(self.field.labels, self.keys, strict=True):
            mark = f" {_MARK}" if label.value == suggested else ""
            self.buttons[label.value].description = f"{key} {label.title(self.language)}{mark}".strip()


class _Choice(_Input):
    """A list to choose from, for many labels."""

    def control(self) -> Any:
        import ipywidgets

        options = [(CAPTIONS[self.language]["none"], ""), *((label.title(self.language), label.value) for label in self.field.labels)]
        self.dropdown = ipywidgets.Dropdown(options=options, value="")
        return self.dropdown

    @property
    def value(self) -> str | None:
        return self.dropdown.value or None

    @value.setter
    def value(self, value: str | None) -> None:
        self.dropdown.value = value if value in self.field.values else ""


class _Text(_Input):
    """A number or a text. Its value comes when the input is left, so that a button's press never overtakes what was typed."""

    def control(self) -> Any:
        import ipywidgets

        said = CAPTIONS[self.language]
        if self.field.kind == "number":
            ends = (self.field.show(end, self.language) for end in (self.field.minimum, self.field.maximum))
            hint = said["number_hint"].format(**dict(zip(("low", "high"), ends, strict=True)))
            self.text = ipywidgets.Text(placeholder=hint, continuous_update=False, layout={"width": "220px"})
        else:
            self.text = ipywidgets.Textarea(placeholder=said["optional"], continuous_update=False, rows=3,
                                            layout={"width": "calc(100% - 6px)"})
        return self.text

    @property
    def value(self) -> str | None:
        return self.text.value.strip() or None

    @value.setter
    def value(self, value: Any) -> None:
        self.text.value = "" if value is None else str(value) if isinstance(value, str) else self.field.show(value, self.language)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True

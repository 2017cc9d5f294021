"""What a scenario is: titles, prompts and the answer's fields, read from one TOML file each.

`load("NAME")` reads `labkit/scenarios/NAME.toml`, `read(path)` any other file. The fields are the single source for the
prompt, for the answer's format (`render` and `parse` in `labkit.scenarios.answers`), for forms, metrics and plots.
This module knows nothing about models.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import files
from labkit.errors import LabError

LANGUAGES = ("en", "zh")
FOLDER = Path(__file__).parent

Text = dict[str, str]  # language -> text


@dataclass(frozen=True)
class Label:
    """One allowed value of a label field, with its title in each language."""

    value: str
    en: str
    zh: str

    def title(self, language: str) -> str:
        return getattr(self, language)


@dataclass(frozen=True)
class Field:
    """One field of the answer. `kind` is `label` (one of `labels`), `number` (from `minimum` to `maximum`, rounded to
    `decimals` places) or `text`."""

    name: str
    kind: str
    title: Text
    question: Text
    labels: tuple[Label, ...] = ()
    minimum: float = 0.0
    maximum: float = 100.0
    decimals: int = 0

    @property
    def values(self) -> list[str]:
        """The label values, in the file's order."""
        return [label.value for label in self.labels]

    @property
    def spellings(self) -> set[str]:
        """All that a label may be called, values and titles in both languages, case-folded."""
        return {text.casefold() for label in self.labels for text in (label.value, label.en, label.zh)}

    def label(self, value: str) -> Label:
        """The label with this value; KeyError where there is none."""
        for label in self.labels:
            if label.value == value:
                return label
        raise KeyError(value)

    def show(self, value: Any, language: str) -> str:
        """The value as a person reads it: a label's title, a number with its decimals, the text itself."""
        if self.kind == "label":
            return self.label(value).title(language)
        if self.kind == "number":
            return f"{value:.{self.decimals}f}"
        return value


@dataclass(frozen=True)
class Scenario:
    """A task with its prompts and fields; see the module's docstring."""

    name: str
    title: Text
    description: Text
    instructions: Text
    notice: Text
    examples: dict[str, tuple[str, ...]]
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field of this name; LabError names the ones there are."""
        for field in self.fields:
            if field.name == name:
                return field
        known = ", ".join(field.name for field in self.fields)
        raise LabError(f"scenario {self.name} has no field {name!r}; it has {known}")

    @property
    def label_fields(self) -> list[Field]:
        return [field for field in self.fields if field.kind == "label"]

    def system_prompt(self, language: str) -> str:
        """The instructions followed by the answer's format, made from the fields."""
        lines = [self.instructions[language].strip(), _FORMAT[language]]
        return "\n".join(lines + [_format_line(field, language) for field in self.fields])

    def narrowed(self, name: str, labels: dict[str, list[str]], keep: list[str]) -> "Scenario":
        """This scenario with only the fields in `keep`, and for the fields in `labels` those labels in place of its own."""
        chosen = []
        for field_name in keep:
            field = self.field(field_name)
            if field_name in labels:
                field = dataclasses.replace(field, labels=tuple(_plain_label(value) for value in labels[field_name]))
            chosen.append(field)
        return check(dataclasses.replace(self, name=name, fields=tuple(chosen)), f"scenario {name}")


_COLON = {"en": ": ", "zh": "\uff1a"}
_FORMAT = {
    "en": "Answer with these lines and nothing else:",
    "zh": "只按下面的格式逐行回答\uff1a",
}


def _format_line(field: Field, language: str) -> str:
    chinese = language == "zh"
    if field.kind == "label":
        titles = [label.title(language) for label in field.labels]
        body = "、".join(titles) + " 之一" if chinese else "one of " + ", ".join(titles)
    elif field.kind == "number":
        low, high = field.show(field.minimum, language), field.show(field.maximum, language)
        body = f"{low} 到 {high} 的数" if chinese else f"a number from {low} to {high}"
    else:
        body = "文字" if chinese else "text"
    return f"{field.title[language]}{_COLON[language]}{body}"


def _plain_label(value: str) -> Label:
    title = value.replace("_", " ")
    return Label(value=value, en=title, zh=title)


def names() -> list[str]:
    """The scenarios that come with the lab, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """The scenario `name` of the lab; LabError lists the known ones."""
    if name not in names():
        raise LabError(f"there is no scenario {name!r}; known: {', '.join(names())}")
    return read(FOLDER / f"{name}.toml")


def read(path: str | os.PathLike) -> Scenario:
    """Read one scenario file.

    Raises:
        LabError: the file is missing, not TOML, or says something that cannot be; the message names the file.
    """
    return from_dict(files.read_toml(path), str(path))


def from_dict(raw: dict[str, Any], where: str) -> Scenario:
    """A scenario from its plain form (`to_dict`'s inverse); `where` names the source in errors."""
    wanted = {"name", "title", "description", "instructions", "notice", "examples", "fields"}
    _same_keys(raw, wanted, wanted, where)
    fields = tuple(_field(entry, f"{where}: field {number}") for number, entry in enumerate(raw["fields"], 1))
    examples = {language: tuple(raw["examples"].get(language, ())) for language in LANGUAGES}
    texts = {key: raw[key] for key in ("title", "description", "instructions", "notice")}
    return check(Scenario(name=raw["name"], examples=examples, fields=fields, **texts), where)


def to_dict(scenario: Scenario) -> dict[str, Any]:
    """The plain form, as it stands in TOML."""
    plain = dataclasses.asdict(scenario)
    plain["examples"] = {language: list(texts) for language, texts in scenario.examples.items()}
    plain["fields"] = [_plain_field(field) for field in scenario.fields]
    return plain


def write(scenario: Scenario, path: str | os.PathLike) -> None:
    """Write the scenario as TOML; `read` gives an equal one back."""
    import tomli_w

    files.write_text(path, tomli_w.dumps(to_dict(scenario)))


def check(scenario: Scenario, where: str) -> Scenario:
    """The same scenario, or LabError with the first thing that is wrong in it."""
    def stop(problem: str) -> None:
        raise LabError(f"{where}: {problem}")

    for key in ("title", "description", "instructions", "notice"):
        for language in LANGUAGES:
            if not isinstance(getattr(scenario, key).get(language), str):
                stop(f"[{key}] needs a text for {language!r}")
    if not scenario.fields:
        stop("at least one [[fields]] is needed")
    if len({field.name for field in scenario.fields}) < len(scenario.fields):
        stop("two fields have the same name")
    for language in LANGUAGES:
        titles = [field.title.get(language) for field in scenario.fields]
        if any(not title or set(title) & set(":\uff1a\n") or title != title.strip() for title in titles):
            stop(f"every field needs a {language!r} title without colon, line break or outer space")
        if len({title.casefold() for title in titles}) < len(titles):
            stop(f"two fields have the same {language!r} title")
    for field in scenario.fields:
        if field.kind not in ("label", "number", "text"):
            stop(f"field {field.name}: kind must be label, number or text, not {field.kind!r}")
        if field.kind == "label":
            _check_labels(field, stop)
        if field.kind == "number" and not field.minimum < field.maximum:
            stop(f"field {field.name}: minimum must be below maximum")
    return scenario


def _check_labels(field: Field, stop) -> None:
    if len(field.labels) < 2:
        stop(f"field {field.name}: a label field needs at least two labels")
    seen: dict[str, str] = {}
    for label in field.labels:
        for text in {label.value, label.en, label.zh}:
            if not text or "\n" in text or text != text.strip() or text[-1] in ".。":
                stop(f"field {field.name}: label {text!r} is empty, has a line break or outer space, or ends in a full stop")
            if seen.setdefault(text.casefold(), label.value) != label.value:
                stop(f"field {field.name}: {text!r} stands for two labels")


def _field(entry: dict[str, Any], where: str) -> Field:
    allowed = {field.name for field in dataclasses.fields(Field)}
    _same_keys(entry, {"name", "kind", "title", "question"}, allowed, where)
    labels = []
    for number, label in enumerate(entry.get("labels", ()), 1):
        _same_keys(label, {"value", "en", "zh"}, {"value", "en", "zh"}, f"{where}, label {number}")
        labels.append(Label(**label))
    return Field(**{**entry, "labels": tuple(labels)})


def _plain_field(field: Field) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": field.name, "kind": field.kind, "title": field.title, "question": field.question}
    if field.kind == "label":
        plain["labels"] = [dataclasses.asdict(label) for label in field.labels]
    if field.kind == "number":
        plain |= {"minimum": field.minimum, "maximum": field.maximum, "decimals": field.decimals}
    return plain


def _same_keys(raw: Any, needed: set[str], allowed: set[str], where: str) -> None:
    if not isinstance(raw, dict):
        raise LabError(f"{where}: a table is needed")
    missing, unknown = needed - set(raw), set(raw) - allowed
    if missing:
        raise LabError(f"{where}: {', '.join(sorted(missing))} is missing")
    if unknown:
        raise LabError(f"{where}: {', '.join(sorted(unknown))} is not known here")

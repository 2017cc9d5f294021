"""What the verbs of the command line read in the same way: settings, languages."""

import tomllib
from typing import Annotated, Any

import typer

from labkit.errors import LabError
from labkit.scenarios import LANGUAGES

Settings = Annotated[list[str] | None, typer.Option("--set", help="A recipe setting, KEY=VALUE; may be given several times.")]
Base = Annotated[str | None, typer.Option(help="The base model: an embedded one, a folder, or a hub name.")]


def settings(pairs: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` pairs as TOML values; a bare word is a text."""
    found = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise LabError(f"--set: {pair!r} is not of the form KEY=VALUE; example: --set epochs=5")
        try:
            found[key.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value
    return found


def checked_language(language: str) -> str:
    """`language`, if it is one of the lab's."""
    if language not in LANGUAGES:
        raise LabError(f"--language must be one of {', '.join(LANGUAGES)}, not {language!r}")
    return language

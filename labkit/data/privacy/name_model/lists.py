"""Reading the hand-written files of this folder: templates, slots, words and characters."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


def lines(name: str) -> list[str]:
    """The lines of a file of this folder, without comments and empty ones."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


@cache
def characters() -> dict[str, str]:
    """The entries of `characters.zh.txt` by their name."""
    return dict(line.split(": ", 1) for line in lines("characters.zh.txt"))


def slots(language: str) -> dict[str, list[str]]:
    """What each slot of the language's templates is filled with."""
    return {name: [each.strip() for each in values.split(" | ")]
            for name, values in (line.split(": ", 1) for line in lines(f"slots.{language}.txt"))}


def ordinary_words() -> set[str]:
    """The ordinary Chinese words of two to four characters; most have a character that may be a surname."""
    words = set()
    for line in lines("words.zh.txt"):
        words |= {word for word in line.partition(":")[2].split() if len(word) > 1}
    return words


def around(language: str) -> tuple[list[str], list[str]]:
    """What may stand before a name and after it."""
    before, after = (line.split(": ", 1)[1].split(" | ") for line in lines(f"around.{language}.txt"))
    if language == "zh":
        return [each.strip() for each in before], [each.strip() for each in after]
    before = [each.replace("\\t", "\t") for each in before]
    return [each + " " * (each[-1:].isalnum() or each[-1:] in ",:.") for each in before], [each.replace("\\n", "\n") for each in after]

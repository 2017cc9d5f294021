"""The script of a text: what tells Chinese from English where nothing else is said."""

import re

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")  # one Chinese character
_WORDS = re.compile(r"[A-Za-z]+")


def script_of(text: str) -> str:
    """`zh` where a text has at least as many Chinese characters as words in Latin script, else `en`."""
    if text.isascii():
        return "en"
    text = text[:1000]  # more would only take longer
    han = len(HAN.findall(text))
    return "zh" if han and han >= len(_WORDS.findall(text)) else "en"

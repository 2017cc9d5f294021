"""What spoils data: small slips of typing in a text (`slip`), and the dirt of a raw table (`dirty_table`).

Only the user's text gets slips; the answers stay clean. The raw table is for learning to clean: every fault in it is planted
and listed, so that what was found can be compared with what is there. This module knows nothing about cores and splits.
"""

import csv
import io
import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_GREETINGS = ("Hi, ", "Hello, ", "Good morning. ", "Hey, ", "Hi there. ", "Good evening. ")
_SIGN_OFFS = (" Thanks.", " Thank you!", " Thanks in advance.", " Best regards.", " Cheers.")
_GREETINGS_ZH = ("你好", "您好", "打扰一下", "麻烦看一下")
_PARTICLES = ("呢", "哈", "啊", "哦", "呀")
_HOMOPHONES = (("已经", "以经"), ("应该", "因该"), ("再", "在"), ("做", "作"), ("账", "帐"), ("那", "哪"), ("的", "得"),
               ("逾期", "愈期"), ("需要", "须要"), ("一直", "一只"), ("在", "再"))
_COMMA, _STOP = "\uff0c", "\u3002"  # the full-width comma and full stop
_HALF_WIDTH = str.maketrans("\uff0c\u3002\uff1f\uff01\uff1a\uff1b", ",.?!:;")
_STOPS = ".!?\u3002\uff01\uff1f"


def slip(text: str, language: str, draw: random.Random) -> str:
    """The text with one slip, now and then two."""
    kinds = _KINDS[language]
    for kind in draw.sample(kinds, draw.choice((1, 1, 1, 2))):
        text = kind(text, draw)
    return text


def _neighbours(letter: str) -> str:
    row = next(row for row in _ROWS if letter in row)
    place = row.index(letter)
    return row[max(0, place - 1):place] + row[place + 1:place + 2]


def _long_words(text: str) -> list[tuple[int, int]]:
    """Where the lower-case words of five letters and more stand: no names, no negations, no numbers."""
    return [match.span() for match in re.finditer(r"\b[a-z]{5,}\b", text)]


def _neighbour_key(text: str, draw: random.Random) -> str:
    words = _long_words(text)
    for start, end in draw.sample(words, min(len(words), draw.choice((1, 1, 2)))):
        place = draw.randrange(start + 1, end)
        text = text[:place] + draw.choice(_neighbours(text[place])) + text[place + 1:]
    return text


def _doubled_letter(text: str, draw: random.Random) -> str:
    words = _long_words(text)
    if not words:
        return text
    place = draw.randrange(*draw.choice(words))
    return text[:place] + text[place] + text[place:]


def _lower_case(text: str, draw: random.Random) -> str:
    return text.lower()


def _no_stop(text: str, draw: random.Random) -> str:
    return text.rstrip(_STOPS)


def _greeting(text: str, draw: random.Random) -> str:
    return draw.choice(_GREETINGS) + text


def _sign_off(text: str, draw: random.Random) -> str:
    return (text if text[-1:] in _STOPS else text + ".") + draw.choice(_SIGN_OFFS)


def _greeting_zh(text: str, draw: random.Random) -> str:
    return draw.choice(_GREETINGS_ZH) + _COMMA + text


def _missing_punctuation(text: str, draw: random.Random) -> str:
    return re.sub("[\uff0c\uff1b、]", " ", text).rstrip(_STOPS)


def _particle(text: str, draw: random.Random) -> str:
    body = text.rstrip(_STOPS)
    return body + draw.choice(_PARTICLES) + text[len(body):]


def _homophone(text: str, draw: random.Random) -> str:
    found = [pair for pair in _HOMOPHONES if pair[0] in text]
    return text.replace(*draw.choice(found), 1) if found else text.rstrip(_STOPS)


def _half_width(text: str, draw: random.Random) -> str:
    return text.translate(_HALF_WIDTH)


_KINDS = {
    "en": (_neighbour_key, _neighbour_key, _doubled_letter, _lower_case, _no_stop, _greeting, _sign_off),
    "zh": (_missing_punctuation, _particle, _homophone, _half_width, _greeting_zh, _no_stop),
}


# --- the raw table ---

_CLEAN = 309  # records that go in; with the rows that are added the table has 350
_COUNTS = {"exact_duplicate": 14, "near_duplicate": 14, "html": 12, "mojibake": 10, "invalid_bytes": 6, "personal_data": 16,
           "empty": 8, "over_long": 5, "wrong_label": 12, "ragged": 7}
_ADDED = ("exact_duplicate", "near_duplicate", "empty", "over_long")  # rows of their own; the others spoil a clean row
_TAGS = ("<p>{}</p>", "<div class=\"msg\">{}</div>", "{}<br/><br>", "&nbsp;{}&nbsp;", "<span style=\"color:#333\">{}</span>")
_PEOPLE = {  # name, mailbox
    "en": (("Orla Fennimore", "o.fennimore"), ("Tobin Castrell", "tcastrell"), ("Mirela Dunsworth", "mirela.d"),
           ("Jasper Okwood", "jokwood"), ("Selma Varnholt", "selma.v"), ("Edwin Prastow", "eprastow")),
    "zh": (("欧阳知遥", "zhiyao.oy"), ("司徒墨白", "mobai88"), ("端木青禾", "qinghe.dm"),
           ("上官予安", "yuan.sg"), ("夏侯云舟", "yunzhou"), ("慕容思齐", "siqi.mr")),
}
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def dirty_table(records: list[dict[str, Any]], fields: list[dict[str, Any]], seed: int) -> tuple[bytes, dict[str, list]]:
    """A CSV of about 350 rows, one physical line each, and what is planted in it: {kind: [{"line": …, …}]}.

    Args:
        records: training records alone, so that a model trained on the cleaned table can be tested on the samples' test
            split; no two of them near-duplicates, so that those found are those planted.
        fields: the scenario's fields, as in its TOML.
    """
    draw = random.Random(f"{seed}:{records[0]['scenario']}:raw")
    names = [field["name"] for field in fields]
    rows = [{"text": record["messages"][0]["content"], **record["answer"], "language": record["language"]}
            for record in draw.sample(records, min(_CLEAN, len(records)))]
    rows = [{"values": row, "planted": None} for row in rows]
    spare = draw.sample(rows, len(rows))
    for kind, count in _COUNTS.items():
        for _ in range(count):
            row = spare.pop()
            if kind in _ADDED:
                row = {"values": dict(row["values"]), "planted": None, "of": row}
                rows.insert(draw.randint(rows.index(row["of"]) + 1, len(rows)), row)
            row["planted"] = (kind, _PLANT[kind](row, fields, draw))
    header = ["id", "text", *names, "language", "received_at"]
    moment, lines, planted = datetime(2025, 3, 3, 8, 0), [_line(header)], {kind: [] for kind in _COUNTS}
    for number, row in enumerate(rows):
        moment += timedelta(minutes=draw.randint(3, 90))
        cells = [str(1001 + number), *(str(row["values"][name]) for name in ["text", *names, "language"]), moment.isoformat()]
        line = _line(row["shape"](cells) if "shape" in row else cells)
        lines.append(line.replace(*row["bytes"], 1) if "bytes" in row else line)
        row["line"] = number + 2
    for row in rows:
        if row["planted"]:
            kind, more = row["planted"]
            origin = {"of": row["of"]["line"]} if kind in ("exact_duplicate", "near_duplicate") else {}
            planted[kind].append({"line": row["line"], **origin, **more})
    return b"".join(lines), planted


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([cell.replace("\n", " ") for cell in cells])
    return text.getvalue().encode()


def _nothing(row, fields, draw) -> dict[str, Any]:
    return {}


def _near(row, fields, draw) -> dict[str, Any]:
    before, language = row["values"]["text"], row["values"]["language"]
    for _ in range(20):
        row["values"]["text"] = draw.choice(_KINDS[language])(before, draw)
        if row["values"]["text"] != before:
            break
    else:
        row["values"]["text"] = before + " "
    return {}


def _html(row, fields, draw) -> dict[str, Any]:
    text = row["values"]["text"].replace("&", "&amp;").replace("'", "&#39;")
    row["values"]["text"] = draw.choice(_TAGS).format(text)
    return {}


def _mojibake(row, fields, draw) -> dict[str, Any]:
    """UTF-8 read as Windows-1252, as far as that goes; English gets a typographic mark to break first."""
    text = row["values"]["text"]
    if row["values"]["language"] == "en":
        text = text.replace("'", "\u2019") if "'" in text else f"\u201c{text}\u201d"
    row["values"]["text"] = "".join(_misread(character) for character in text)
    return {}


def _misread(character: str) -> str:
    return "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in character.encode())


def _invalid_bytes(row, fields, draw) -> dict[str, Any]:
    """A character cut in the middle, as a fixed-width export leaves it; stray bytes in English."""
    text = row["values"]["text"]
    if row["values"]["language"] == "zh":
        character = next(character for character in text if character > "\u4e00").encode()
        row["bytes"] = (character, character[:2])
    else:
        row["bytes"] = (b" ", draw.choice((b" \xa0", b" \xe9 ", b" \x96 ", b"\xff ")))
    return {}


def _personal_data(row, fields, draw) -> dict[str, Any]:
    language = row["values"]["language"]
    name, mailbox = draw.choice(_PEOPLE[language])
    mail = f"{mailbox}@example.com"
    if language == "en":
        phone = f"({draw.randint(201, 989)}) 555-01{draw.randint(0, 99):02d}"
        number = draw.choice((_card_number, _account_number))(draw)
        found = {"name": name, **draw.choice(({"email": mail}, {"phone": phone}, {"email": mail, "phone": phone}, {"id": number}))}
        tail = f" {name}, {', '.join(list(found.values())[1:])}."
    else:
        phone = f"199000000{draw.randint(0, 99):02d}"
        number = draw.choice((_card_number, _resident_number))(draw)
        found = {"name": name, **draw.choice(({"email": mail}, {"phone": phone}, {"id": number}, {"phone": phone, "id": number}))}
        tail = f"我是{name}{_COMMA}{_COMMA.join(list(found.values())[1:])}{_STOP}"
    text = row["values"]["text"]
    row["values"]["text"] = text + ("" if text[-1] in _STOPS else "." if language == "en" else _STOP) + tail
    return {"found": found}


def _card_number(draw: random.Random) -> str:
    """A card number in the range that is kept for tests, with the right Luhn digit (ISO/IEC 7812-1)."""
    body = "400000" + "".join(draw.choices("0123456789", k=9))
    doubled = (int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(body))
    return f"{body}{-sum(value - 9 if value > 9 else value for value in doubled) % 10}"


def _account_number(draw: random.Random) -> str:
    """A British IBAN of a bank that does not exist, with the right check digits (ISO 13616, mod 97)."""
    body = "XLAB" + "".join(draw.choices("0123456789", k=14))
    digits = "".join(str(int(character, 36)) for character in body + "GB00")
    return f"GB{98 - int(digits) % 97:02d}{body}"


def _resident_number(draw: random.Random) -> str:
    """A Chinese resident number of a district that does not exist (119901), with the right check digit (GB 11643)."""
    body = f"119901{draw.randint(1960, 2004)}{draw.randint(1, 12):02d}{draw.randint(1, 28):02d}{draw.randint(0, 999):03d}"
    return body + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, _ID_WEIGHTS, strict=True)) % 11]


def _empty(row, fields, draw) -> dict[str, Any]:
    row["values"]["text"] = draw.choice(("", "", " ", "   "))
    return {}


def _over_long(row, fields, draw) -> dict[str, Any]:
    """The message, then itself quoted again and again, as a mail thread grows."""
    text = row["values"]["text"]
    row["values"]["text"] = " > ".join([text] * (4000 // len(text) + 1))
    return {}


def _wrong_label(row, fields, draw) -> dict[str, Any]:
    field = draw.choice([field for field in fields if field["kind"] == "label"])
    right = row["values"][field["name"]]
    row["values"][field["name"]] = draw.choice([label["value"] for label in field["labels"] if label["value"] != right])
    return {"field": field["name"], "right": right}


def _ragged(row, fields, draw) -> dict[str, Any]:
    lost = draw.choice((1, 2, -1))
    row["shape"] = lambda cells: cells[:-lost] if lost > 0 else [*cells, "n/a"]
    return {"cells": len(fields) + 4 - lost}


_PLANT: dict[str, Callable] = {
    "exact_duplicate": _nothing, "near_duplicate": _near, "html": _html, "mojibake": _mojibake,
    "invalid_bytes": _invalid_bytes, "personal_data": _personal_data, "empty": _empty, "over_long": _over_long,
    "wrong_label": _wrong_label, "ragged": _ragged,
}

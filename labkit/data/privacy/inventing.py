"""Invented values in the shape of real ones, each drawn from 32 bytes that depend on the value and a secret key.

None can belong to anybody: phones are from the blocks kept free for films (555-01…, Ofcom's drama numbers) or begin as no number
does, hosts and addresses are those kept for documentation (RFC 2606, 5737, 3849), numbers with check digits have wrong ones.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable

_GIVEN = ("Alba Arlo Bella Bruno Cara Cleo Cyrus Dora Edda Elio Enzo Esme Fay Finn Gaia Hugo Ida Iris Ivo Jona Juno Kai Lena Leo Lila "
          "Luca Mila Milo Nell "
          "Nico Nora Odin Orla Otto Pia Remy Rosa Silas Tessa Vera").split()
_FAMILY = ("Alder Ashdown Barlow Beck Birchall Brandt Calder Cole Dale Eastman Falk Fenn Garland Hale Hartwell Holm Ives Kemp Langley "
           "Lund Marsh Merrow "
           "Norden Oakes Penrose Quill Ridley Rowan Sayer Stroud Tarn Thorne Underhill Vale Wade Westbrook Winslow Wyatt Yardley "
           "Yates").split()
_SURNAMES = "白秦江史顾侯邵孟龙万段钱汤尹黎易常武乔贺"
_GIVEN_CHINESE = "安白澄朵帆甘禾景可岚宁沛琦然舒棠微夏言叶盈悠舟竹"
_TRANSCRIBED = "阿莱恩 贝尔加 科米洛 德安娜 埃文塔 菲洛斯 格兰达 赫米亚 伊莱莎 卢西科".split()
_COMPOUND = frozenset("欧阳 司马 上官 诸葛 东方 皇甫 尉迟 公孙 慕容 令狐 宇文 长孙 夏侯 司徒 端木 轩辕 百里 东郭 南宫 歐陽 司馬 諸葛 "
                      "東方".split())
_TITLES = frozenset("mr mrs ms miss mx dr prof sir madam lady lord judge nurse captain officer rev father sister".split())
_CHINESE_TITLE = re.compile(r"(?:先生|女士|小姐|太太|老师|老師|医生|醫生|大夫|律师|律師|经理|總經理|总|师傅|同学|护士|主任|教授|阿姨|叔叔"
                            r"|法官|警官|局长|院长|工程师|工|哥|姐)$")
_STREETS = "Sample Example Model Pattern Placeholder Specimen Template Trial".split()
_MONTHS = "January February March April May June July August September October November December".split()
_HAN = "一二三四五六七八九"


class Draws:
    """Numbers from 32 bytes, as many as are needed."""

    def __init__(self, seed: bytes) -> None:
        self._seed, self._pool, self._round = seed, b"", 0

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1; a bound is small here, so 4 bytes are even enough."""
        if len(self._pool) < 4:
            self._pool += hashlib.sha256(self._seed + self._round.to_bytes(4)).digest()
            self._round += 1
        value, self._pool = int.from_bytes(self._pool[:4]), self._pool[4:]
        return value % bound

    def pick(self, choices):
        return choices[self.below(len(choices))]

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))


def pour(written: str, digits: str) -> str:
    """`written` with its digits replaced from the right by `digits`; what is left over at the left stays."""
    rest = list(digits)
    out = [rest.pop() if each.isdigit() and rest else each for each in reversed(unicodedata.normalize("NFKC", written))]
    return "".join(reversed(out))


def _shape(written: str, draws: Draws, head: str = "") -> str:
    """Digits and letters drawn anew, all else kept; `head` are its first digits."""
    out, first = [], list(head)
    for each in unicodedata.normalize("NFKC", written):
        if each.isdigit():
            out.append(first.pop(0) if first else str(draws.below(10)))
        elif each.isascii() and each.isalpha():
            letter = draws.pick("abcdefghijklmnopqrstuvwxyz")
            out.append(letter.upper() if each.isupper() else letter)
        else:
            out.append(each)
    return "".join(out)


def _digits_of(written: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFKC", written) if each.isdigit())


def _email(written: str, draws: Draws, language: str) -> str:
    return f"user{draws.below(1 << 20):05x}@example.com"


def _chinese_mobile(written: str, draws: Draws, language: str) -> str:
    return pour(written, "12" + draws.digits(9))  # no mobile begins with 12


def _phone(written: str, draws: Draws, language: str) -> str:
    plain = unicodedata.normalize("NFKC", written)
    head, *extension = re.split(r"(?i)(?=\s?(?:x|ext|转|轉))", plain, maxsplit=1)
    digits, tail = _digits_of(head), "".join(_shape(each, draws) for each in extension)
    if digits.startswith(("44", "0044")) or (language == "en" and digits.startswith("0") and 10 <= len(digits) <= 11):
        free = "7700900" if re.match(r"(?:(?:00)?44)?0?7", digits) else "1632960"
        return pour(head, free + draws.digits(3)) + tail
    abroad = head.startswith(("+", "00"))
    if len(digits) == 7 or (len(digits) >= 10 and digits[0] != "0" and not abroad) or digits.startswith(("001", "1")):
        area = "" if len(digits) == 7 else f"{2 + draws.below(8)}{draws.digits(2)}"
        return pour(head, area + "55501" + draws.digits(2)) + tail
    if abroad:
        return pour(head, "0" * 3 + draws.digits(max(0, len(digits.lstrip("0")) - 5))) + tail  # the country code stays
    size = 7 if len(digits) == 11 and digits[1] not in "12" or len(digits) <= 10 else 8
    return pour(head, "00" + draws.digits(size - 2)) + tail  # no subscriber's number begins with 0


def _card(written: str, draws: Draws, language: str) -> str:
    from stdnum import luhn

    fake = "9" + draws.digits(len(_digits_of(written)) - 1)  # 9 is no issuer's
    if luhn.is_valid(fake):
        fake = fake[:-1] + str((int(fake[-1]) + 1) % 10)
    return pour(written, fake)


def _iban(written: str, draws: Draws, language: str) -> str:
    from stdnum import iban

    fake = written[:2] + _shape(written[2:], draws)
    while iban.is_valid(fake):
        fake = fake[:2] + _shape(fake[2:], draws)
    return fake


def _account(written: str, draws: Draws, language: str) -> str:
    return _shape(written, draws, "000")


def _ssn(written: str, draws: Draws, language: str) -> str:
    return pour(written, f"9{draws.digits(2)}0{draws.digits(5)}")  # never issued, nor as the tax number that begins with 9


def _nhs(written: str, draws: Draws, language: str) -> str:
    return pour(written, "999" + draws.digits(7))  # the range kept for tests


def _resident_id(written: str, draws: Draws, language: str) -> str:
    from stdnum.cn import ric

    plain = unicodedata.normalize("NFKC", written)
    count = sum(each.isalnum() for each in plain)
    born = f"{1950 + draws.below(60)}{1 + draws.below(12):02d}{1 + draws.below(28):02d}"
    if count < 18:
        return pour(plain, "99" + draws.digits(4) + born[2:] + draws.digits(3))
    body = "99" + draws.digits(4) + born + draws.digits(3)  # no district begins with 99
    right = ric.calc_check_digit(body + "0")
    wrong = str((int(right) + 1 + draws.below(9)) % 10) if right != "X" else str(draws.below(10))
    rest = list(body + wrong)
    return "".join(reversed([rest.pop() if each.isalnum() else each for each in reversed(plain)]))


def _papers(written: str, draws: Draws, language: str) -> str:
    """Passport, licence, medical record: no check digit is public for all of them, so they begin with zeros."""
    plain = unicodedata.normalize("NFKC", written)
    zeros = iter("00")
    return "".join((next(zeros, None) or str(draws.below(10))) if each.isdigit() else each for each in plain)


def _ip(written: str, draws: Draws, language: str) -> str:
    if ":" in written:
        return f"2001:db8::{draws.below(65535) + 1:x}:{draws.below(65535) + 1:x}"
    return draws.pick(("192.0.2.", "198.51.100.", "203.0.113.")) + str(1 + draws.below(254))


def _url(written: str, draws: Draws, language: str) -> str:
    return f"https://example.com/{draws.below(1 << 24):06x}"


def _secret(written: str, draws: Draws, language: str) -> str:
    if len(written) <= 24:
        return _shape(written, draws)
    return "not-a-key-" + "".join(draws.pick("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(12))


def _address(written: str, draws: Draws, language: str) -> str:
    number = 1 + draws.below(999)
    if re.search(r"[\u4e00-\u9fff]", written):
        return f"示例市示例区{draws.pick('甲乙丙丁戊己庚辛')}{draws.pick('东西南北中')}路{number}号"
    return f"{number} {draws.pick(_STREETS)} {draws.pick(('Street', 'Road', 'Avenue', 'Lane'))}, Sampletown"


def _date(written: str, draws: Draws, language: str) -> str:
    """Another day in the same form, some years off at most; parts that may be a day or a month stay below 13."""
    shift = draws.below(7) - 3

    def part(match: re.Match) -> str:
        old = match.group()
        if len(old) == 8:
            return f"{int(old[:4]) + shift}{1 + draws.below(12):02d}{1 + draws.below(28):02d}"
        if len(old) == 4:
            return str(int(old) + shift)
        if old.isdigit():
            return str(1 + draws.below(12)).zfill(len(old)) if len(old) == 2 else str(1 + draws.below(9))
        if old[0] in "〇零一二三四五六七八九十廿":
            if len(old) == 4:
                return old[:3] + draws.pick(_HAN)
            return draws.pick(_HAN)
        month = draws.pick(_MONTHS)
        month = month[:3] if len(old) == 3 else month
        return month.upper() if old.isupper() else month.lower() if old.islower() else month

    months = "|".join(f"{each}|{each[:3]}" for each in _MONTHS)
    return re.sub(rf"[0-9]{{8}}|[0-9]{{4}}|[0-9]{{1,2}}|(?i:\b(?:{months})\b)|[〇零一二三四五六七八九十廿]+", part,
                  unicodedata.normalize("NFKC", written))


INVENT: dict[str, Callable[[str, Draws, str], str]] = {
    "email": _email, "phone": _phone, "chinese_mobile": _chinese_mobile, "address": _address, "date_of_birth": _date, "bank_card": _card,
    "iban": _iban, "bank_account": _account, "us_ssn": _ssn, "uk_nhs": _nhs, "chinese_resident_id": _resident_id, "passport": _papers,
    "driving_licence": _papers, "medical_record": _papers, "ip": _ip, "url_with_token": _url, "secret": _secret}


class Names:
    """Invented names, part by part: who is "Maria Lopez" in one place and "Ms Lopez" or "maria" in another stays one person."""

    def __init__(self, language: str, draws: Callable[[str, str], Draws]) -> None:
        self._draws = draws
        self._parts: dict[tuple[str, str], str] = {}  # (role, part as it was) -> its replacement
        self._language = language

    def invent(self, written: str) -> str:
        if re.search(r"[\u4e00-\u9fff]", written):
            return self._chinese(written)
        words = re.split(r"([\s,]+)", written.strip())
        plain = [place for place in range(0, len(words), 2) if words[place] and words[place].strip(".").casefold() not in _TITLES]
        titled = len(plain) < (len(words) + 1) // 2
        turned = any("," in gap for gap in words[1::2])
        for place in plain:
            family = (place == plain[0]) if turned else (place == plain[-1] and (len(plain) > 1 or titled))
            words[place] = self._english(words[place], family)
        return "".join(words)

    def _english(self, written: str, family: bool) -> str:
        owner = re.search(r"['’]s$", written)
        part = written[:owner.start()] if owner else written
        key = part.strip(".").casefold()
        if len(key) == 1:
            known = [new for (_, old), new in self._parts.items() if old[:1] == key]
            new = (known[0] if known else self._part("given", key, _GIVEN))[0] + ("." if part.endswith(".") else "")
        else:
            known = [self._parts[role, key] for role in ("family", "given") if (role, key) in self._parts]
            new = known[0] if known else self._part("family" if family else "given", key, _FAMILY if family else _GIVEN)
        new = new.upper() if part.isupper() and len(key) > 1 else new.lower() if part.islower() else new
        return new + (owner.group() if owner else "")

    def _chinese(self, written: str) -> str:
        if "·" in written or "•" in written:
            return re.sub(r"[^·•]+", lambda match: self._part("foreign", match.group(), _TRANSCRIBED), written)
        title = _CHINESE_TITLE.search(written)
        name, tail = (written[:title.start()], title.group()) if title and title.start() else (written, "")
        head, name = (name[0], name[1:]) if name[0] in "小老阿" and len(name) == 2 else ("", name)
        known = self._parts.get(("chinese", name))
        if known and len(name) > 1:
            return head + known + tail  # a given name alone
        surname = name[:2] if name[:2] in _COMPOUND else name[:1]
        given = name[len(surname):]
        new = self._part("surname", surname, _SURNAMES)
        if given:
            pairs = [one + other for one in _GIVEN_CHINESE for other in _GIVEN_CHINESE if one != other]
            new += self._part("chinese", given, pairs if len(given) > 1 else _GIVEN_CHINESE)
        return head + new + tail

    def _part(self, role: str, part: str, pool) -> str:
        """The replacement of a part; no two parts of a record share one while there are enough."""
        if (role, part) not in self._parts:
            taken = {new for (other, _), new in self._parts.items() if other == role} | {part}
            place = self._draws("name", f"{role}:{part}").below(len(pool))
            turns = (pool[(place + step) % len(pool)] for step in range(len(pool)))
            self._parts[role, part] = next((new for new in turns if new not in taken and new.casefold() != part), pool[place])
        return self._parts[role, part]

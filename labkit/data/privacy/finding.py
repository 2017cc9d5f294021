"""What a detector gives back, the kinds there are, and how findings that overlap become one."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.errors import LabError


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of a text that may tell who somebody is: its kind, where it stands (`text[start:end]`), how sure the detector is (0 to 1)."""

    kind: str
    start: int
    end: int
    score: float


# kind -> (title, placeholder) in each language; the placeholders stand in texts that a model learns from, so they are short words
_TABLE = {
    "name": ("person's name", "NAME", "姓名", "姓名"),
    "email": ("e-mail address", "EMAIL", "电子邮箱", "邮箱"),
    "phone": ("phone number", "PHONE", "电话号码", "电话"),
    "chinese_mobile": ("Chinese mobile number", "MOBILE", "手机号码", "手机号"),
    "address": ("postal address", "ADDRESS", "地址", "地址"),
    "date_of_birth": ("date of birth", "DATE OF BIRTH", "出生日期", "出生日期"),
    "bank_card": ("bank card number", "CARD", "银行卡号", "银行卡号"),
    "iban": ("IBAN", "IBAN", "国际银行账号", "国际账号"),
    "bank_account": ("bank account number", "ACCOUNT", "银行账号", "账号"),
    "us_ssn": ("US social security number", "SSN", "美国社会保障号", "社保号"),
    "uk_nhs": ("UK NHS number", "NHS NUMBER", "英国医保号", "医保号"),
    "chinese_resident_id": ("Chinese resident id", "ID NUMBER", "居民身份证号", "身份证号"),
    "passport": ("passport number", "PASSPORT", "护照号", "护照号"),
    "driving_licence": ("driving licence number", "LICENCE", "驾驶证号", "驾驶证号"),
    "medical_record": ("medical record number", "RECORD NUMBER", "病历号", "病历号"),
    "ip": ("IP address", "IP", "IP 地址", "IP地址"),
    "url_with_token": ("link with a token", "LINK", "带令牌的链接", "链接"),
    "secret": ("password or key", "SECRET", "密码或密钥", "密钥"),
}
KINDS = tuple(_TABLE)
TITLES = {kind: {"en": row[0], "zh": row[2]} for kind, row in _TABLE.items()}
PLACEHOLDERS = {kind: {"en": f"[{row[1]}]", "zh": f"[{row[3]}]"} for kind, row in _TABLE.items()}


@functools.cache
def parse_kinds(text: str) -> frozenset[str]:
    """`all`, or kinds separated by commas.

    Raises:
        LabError: a kind that there is not, or none at all.
    """
    if text.strip() == "all":
        return frozenset(KINDS)
    chosen = [each.strip() for each in text.split(",") if each.strip()]
    for kind in chosen:
        if kind not in KINDS:
            raise LabError(f"no kind of personal data {kind!r}; there are: all, {', '.join(KINDS)}")
    if not chosen:
        raise LabError(f"no kind of personal data is named; write all, or some of: {', '.join(KINDS)}")
    return frozenset(chosen)


def settle(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in their order in the text, none overlapping: those that do become one that covers them all, of the kind whose
    length times score is greatest. Nothing that any detector found is left uncovered."""
    ordered = sorted(findings, key=lambda each: (each.start, -each.end))
    settled: list[Finding] = []
    for new in ordered:
        if not settled or new.start >= settled[-1].end:
            settled.append(new)
            continue
        old = settled[-1]
        better = new if (new.end - new.start) * new.score > (old.end - old.start) * old.score else old
        settled[-1] = Finding(better.kind, old.start, max(old.end, new.end), better.score)
    return settled

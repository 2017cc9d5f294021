"""Passwords, keys and tokens.

Found: keys of well-known shapes, JSON web tokens, private key blocks; what follows "password:" and its like, where it does not read
as an ordinary word ("password: must be long"); a long token behind a word such as "key". A hash that nothing calls a key stays.
"""

import re
from collections.abc import Iterator

from labkit.data.privacy.finding import Finding
from labkit.data.privacy.surroundings import holds

_MARKS = ("sk-", "sk_", "rk_", "AKIA", "ASIA", "gh", "xox", "AIza", "glpat-", "npm_", "hf_", "eyJ", "SG.", "LTAI", "AKID", "-----BEGIN",
          "ya29.",
          "whsec_", "pypi-")
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|[\s\S]*)"
    r"|(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_\-]{16,}|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|A[KS]IA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}|xox[abeprs]-[A-Za-z0-9\-]{10,}|AIza[A-Za-z0-9_\-]{30,}|glpat-[A-Za-z0-9_\-]{16,}|npm_[A-Za-z0-9]{20,}"
    r"|hf_[A-Za-z0-9]{20,}|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?|SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}"
    r"|LTAI[A-Za-z0-9]{12,}|AKID[A-Za-z0-9]{13,}|ya29\.[A-Za-z0-9_\-]{16,}|whsec_[A-Za-z0-9+/=]{16,}|pypi-[A-Za-z0-9_\-]{30,})")
_PASSWORD = re.compile(
    r"(?<![a-z])(?:pass(?:word|code|phrase|wd|(?=\s?[:=]|\sis\s))|pwd|pw(?=\s?[:=])|pin(?:\s?(?:code|number))?|otp|(?:verification"
    r"|security|access|login|one-time)\scode"
    r"|mot\sde\spasse)(?![a-z])(?:\s(?:for|of|to)\s\w+(?:\s\w+)?)?\s*(is\s*:?|was|:|=|->|(?<=\s)-(?=\s)|)\s*[\"'`]?([!-~]{4,64})"
    r"|(?:密码|密碼|口令|提取码|验证码|校验码|动态码|取件码|暗号)(?:分别|设置|设|改|重置)?\s*(是\s*:?|为|成|:|="
    r"|)\s*[\"'“「]?([!-~]{4,64})", re.I)
_KEY = re.compile(
    r"(?:(?:api|access|secret|private|auth|encryption)[\s_\-]?key(?:[\s_\-]?id)?|client[\s_\-]?secret|(?<![a-z])secret|token"
    r"|(?<![a-z])key|bearer|密钥|令牌|秘钥|私钥"
    r"|凭证)[\"']?\s*(?:is|was|:|=|是|为|)\s*[\"'`]?([A-Za-z0-9_\-+/=.]{16,})", re.I)
_PASSWORD_WORDS = ("pass", "pw", "pin", "code", "otp", "码", "碼", "口令", "暗号")
_KEY_WORDS = ("key", "token", "secret", "bearer", "密钥", "令牌", "秘钥", "私钥", "凭证")
_CARD_CHECK = re.compile(r"(?:(?<![a-z])cv[vc]2?(?![a-z])|安全码)(?:\s(?:code|number))?\s*(?:is|是|为|:)?\s*([0-9]{3,4})(?![0-9])")
_ORDINARY = frozenset(("must", "your", "with", "that", "this", "none", "null", "reset", "required", "forgot", "forgotten", "wrong",
                       "incorrect", "invalid",
                       "expired", "change", "changed", "https", "http", "true", "false", "string", "hidden", "unknown", "protected",
                       "please"))
_END = re.compile(r"\s*(?:$|[\n,;.。])")


def find(text: str, small: str) -> Iterator[Finding]:
    """The secrets in a levelled text."""
    if holds(text, _MARKS):
        for match in _SHAPES.finditer(text):
            yield Finding("secret", *match.span(), 0.97)
    if holds(small, _PASSWORD_WORDS):
        for match in _PASSWORD.finditer(text):
            yield from _password(text, match)
    if "cv" in small or "安全码" in small:
        for match in _CARD_CHECK.finditer(small):
            yield Finding("secret", *match.span(1), 0.8)
    if holds(small, _KEY_WORDS):
        for match in _KEY.finditer(text):
            value = match[1].rstrip(".")
            if any(each.isdigit() for each in value) and any(each.isalpha() for each in value):
                yield Finding("secret", match.start(1), match.start(1) + len(value), 0.9)


def _password(text: str, match: re.Match) -> Iterator[Finding]:
    group = 2 if match[2] else 4
    said, value = match[group - 1].strip(), match[group].rstrip(".,;:!?\"'`)]}")
    if len(value) < 4 or set(value) <= {"*", "."} or value.lower() in _ORDINARY:
        return
    if match.group()[:3].lower() in ("pin", "otp") and not value.isdigit():
        return
    start = match.start(group)
    odd = any(each.isdigit() for each in value) or any(not each.isalnum() for each in value[1:-1].replace("-", "").replace("'", ""))
    if not said and not any(each.isdigit() for each in value):
        return  # "password passcode_forgotten"
    plain_value = said in (":", "=", "->", "-", "is:", "是:") and _END.match(text, start + len(value))
    if odd or plain_value:
        yield Finding("secret", start, start + len(value), 0.85)

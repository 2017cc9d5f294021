"""E-mail addresses, IP addresses, and links that carry a token.

A link counts where its user info, query or fragment holds a password, key, token or session; then the whole link is the finding,
because host and path often tell who it was sent to as well. Other links stay.
"""

import ipaddress
import re
from collections.abc import Iterator

from labkit.data.privacy.finding import Finding

_LETTER = r"A-Za-z0-9\u00c0-\u024f"
_EMAIL = re.compile(rf"(?<![{_LETTER}._%+\-])[{_LETTER}][{_LETTER}._%+'\-]{{0,63}}(?:@|\s@\s"
                    rf"|@\s?\n\s?)(?:[{_LETTER}][{_LETTER}\-]{{0,62}}\s?\.)+[A-Za-z]{{2,24}}"
                    rf"(?![{_LETTER}])")
_AT = r"\s*(?:\(at\)|\[at\]|\{at\}|<at>|艾特|\(a\))\s*"
_DOT = r"\s*(?:\(dot\)|\[dot\]|\{dot\}|<dot>|\sdot\s|点|\.)\s*"
_LABELS = rf"[{_LETTER}\-]{{1,63}}(?:{_DOT}[{_LETTER}\-]{{1,63}}){{0,4}}"
_SPELT = re.compile(rf"(?<![{_LETTER}._%+\-])[{_LETTER}][{_LETTER}._%+\-]{{0,63}}(?:\sdot\s[{_LETTER}]{{1,40}}){{0,4}}"
                    rf"(?:{_AT}{_LABELS}{_DOT}[A-Za-z]{{2,24}}|\sat\s{_LABELS}\sdot\s[A-Za-z]{{2,24}})(?![{_LETTER}])", re.I)

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IP4 = re.compile(rf"(?<![A-Za-z0-9.])(?:{_OCTET}\.){{3}}{_OCTET}(?![A-Za-z0-9])(?!\.[0-9])")
_IP6 = re.compile(r"(?<![A-Za-z0-9:.])(?:[0-9A-Fa-f]{1,4}:|:){2,7}(?:[0-9A-Fa-f]{1,4})?(?![A-Za-z0-9:])")
_NOT_IP = re.compile(r"(?:(?<![a-z])(?:version|ver|release|build|firmware|driver|update\sto|upgrade\sto|sdk|(?<![a-z])ec|section|clause"
                     r"|chapter|paragraph|v)|§|版本|版本号|固件|系统"
                     r"|第|条款|章节|升级到)[\s:.]*(?:no\.?|number|号)?\s*(?:is|was|是|为|到)?[\s:]*$")

_URL = re.compile(r"(?<![A-Za-z0-9])(?:[A-Za-z][A-Za-z0-9+.\-]{1,15}://|www\."
                  r"|[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){1,8}/)[!-;=?-~]+")
_SENSITIVE = re.compile(
    r"[?&#;](?:[a-z0-9]+[_\-.])*(?:token|access_?token|auth|authorization|api_?key|apikey|key|sig|signature|secret|password|passwd|pass"
    r"|pwd|session|"
    r"session_?id|sessid|sid|phpsessid|jsessionid|jwt|otp|code|ticket|credential|invite|magic)=[^&#\s]{3}", re.I)
_USER = re.compile(r"://[^/@\s:?#]+:[^/@\s]+@")


def emails(text: str, small: str) -> Iterator[Finding]:
    """E-mail addresses, those spelt out with (at) and dot too."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Finding("email", *match.span(), 0.97)
    if "at)" in small or "at]" in small or "at}" in small or " dot " in small or "艾特" in small or "(a)" in small:
        for match in _SPELT.finditer(text):
            yield Finding("email", *match.span(), 0.85)


def addresses(text: str, small: str) -> Iterator[Finding]:
    """IP addresses; not a version's number, not this machine's own, no net mask."""
    if text.count(".") >= 3:
        for match in _IP4.finditer(text):
            start = match.start()
            if not match.group().startswith(("127.", "0.", "255.")) and not _NOT_IP.search(small, max(0, start - 24), start):
                yield Finding("ip", *match.span(), 0.9)
    if text.count(":") >= 2:
        for match in _IP6.finditer(text):
            if match.group().count(":") >= 3 and any(each.isdigit() for each in match.group()):
                try:
                    address = ipaddress.IPv6Address(match.group())
                except ValueError:
                    continue
                if not address.is_loopback and not address.is_unspecified:
                    yield Finding("ip", *match.span(), 0.9)


def urls(text: str) -> Iterator[Finding]:
    """Links that carry a token."""
    for match in _URL.finditer(text):
        link = match.group().rstrip(".,;:!?)]}'\"")
        if _SENSITIVE.search(link) or _USER.search(link):
            yield Finding("url_with_token", match.start(), match.start() + len(link), 0.95)

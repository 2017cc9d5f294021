"""Steps that mend texts: wrong decoding, Unicode forms, invisible characters, markup, boilerplate, repeated lines, white space.

Each is text to text, leaves a clean text alone, and gives the same when run twice. They look first whether a text can hold what
they mend at all, for most texts do not.
"""

import html
import re
import unicodedata
from collections.abc import Callable

from labkit.data.script import HAN
from labkit.data.steps import text_step

# ---- mojibake: text that was decoded with the wrong encoding

# Where UTF-8 was read as Windows-1252, Latin-1, a Mac or DOS code page, its first bytes became one of these.
_MISREAD = re.compile("[\u0080-\u052f\u201a\u201e\u2030\u2200-\u25ff]")
_LATIN_RUN = re.compile("[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2026\u2030\u2039\u203a"
                        "\u20ac\u2122]+")
_CHINESE_ONLY = re.compile("[\x00-\x7f\u4e00-\u9fff\u3000-\u303f\uff01-\uff5e\u2014\u2018-\u201d\u2026\u00b7]+")


@text_step("Mend wrongly decoded text", "修复乱码")
def mojibake(text: str) -> str:
    """Mend text that was decoded with the wrong encoding: UTF-8 read as Windows-1252 and its kin (ftfy), UTF-8 read as GBK, GBK read
    as Latin-1."""
    if text.isascii():
        return text
    if HAN.search(text):
        text = _utf8_read_as_gbk(text)
    if not _MISREAD.search(text):
        return text
    import ftfy

    return ftfy.fix_encoding(_gbk_read_as_latin(text))


def _utf8_read_as_gbk(text: str) -> str:
    """`浣犲ソ` to `你好`. Chinese that is right in GBK begins with common characters, whose bytes are never valid UTF-8, so that the
    whole text decodes only where it was wrong."""
    try:
        mended = text.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return text
    return mended if len(HAN.findall(mended)) >= 2 and _CHINESE_ONLY.fullmatch(mended) else text


def _gbk_read_as_latin(text: str) -> str:
    """`ÄãºÃ` to `你好`: runs of accented letters and signs of which every two are one common Chinese character. No language writes six
    accented letters in a row, nor four with a sign among them."""

    def mend(match: re.Match[str]) -> str:
        run = match.group()
        if len(run) % 2 or len(run) < (6 if run.isalpha() else 4):
            return run
        try:
            data = run.encode("latin-1") if max(run) < "\u0100" else run.encode("cp1252")
            found = data.decode("gb2312")
        except UnicodeError:
            return run
        if _is_utf8(data):  # ftfy's to mend
            return run
        return found if _CHINESE_ONLY.fullmatch(found) and len(HAN.findall(found)) * 2 > len(found) else run

    return _LATIN_RUN.sub(mend, text)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# ---- Unicode forms

_WIDE = re.compile("[\uff01-\uff5e\u3000]")
_ALL_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}
_CHINESE_MARKS = "\uff01\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff3b\uff3d\uff5b\uff5d\uff5e"  # ！（）,．：；？［］｛｝～ in full width
_NARROW = {code: value for code, value in _ALL_NARROW.items() if chr(code) not in _CHINESE_MARKS}
_POINT_IN_WORD = re.compile("(?<=[A-Za-z0-9])\uff0e(?=[A-Za-z0-9])")
_COLON_IN_TIME = re.compile("(?<=[0-9])\uff1a(?=[0-9])")


@text_step("Normalise Unicode and full-width characters", "统一 Unicode 与全角字符")
def unicode_form(text: str) -> str:
    """Composed form (NFC); full-width letters, digits and symbols to half width; Chinese punctuation stays full width in texts that
    have Chinese characters, except inside numbers and addresses."""
    if text.isascii():
        return text
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if not _WIDE.search(text):
        return text
    if HAN.search(text):
        text = text.translate(_NARROW)
        text = _COLON_IN_TIME.sub(":", _POINT_IN_WORD.sub(".", text))
    else:
        text = text.translate(_ALL_NARROW)
    return unicodedata.normalize("NFC", text)


# ---- characters that are not seen

_LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_EMOJI = "\u00a9\u00ae\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_JOINING_SCRIPTS = "\u0600-\u109f\u1780-\u18af"  # Arabic to Burmese, Khmer, Mongolian: their spelling needs joiners
_UNSEEN = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f"  # flags of regions are spelt in tag characters
    f"|(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])|(?<=[{_JOINING_SCRIPTS}])[\u200c\u200d])"
    "|\x1b\\[[0-9;?]*[A-Za-z]"  # colours of a terminal
    "|[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef\ufeff\uffa0"
    "\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]")


@text_step("Remove control and invisible characters", "去除控制字符与不可见字符")
def control_characters(text: str) -> str:
    """Remove control characters, zero-width characters, direction overrides and hidden tag characters; line breaks become line feeds;
    tabs, and joiners inside emoji and in scripts that need them, stay."""
    if text.isascii() and text.isprintable():
        return text
    if _LINE_BREAK.search(text):
        text = _LINE_BREAK.sub("\n", text)
    return _UNSEEN.sub(lambda match: match.group(1) or "", text) if _UNSEEN.search(text) else text


# ---- markup

_BLOCK = ("address article aside blockquote body br caption center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
          "head header hr html li main nav ol p pre section table tbody td tfoot th thead title tr ul")
_INLINE = ("a abbr acronym b bdi bdo big button cite code del dfn em font i iframe img input ins kbd label link mark meta nobr option q s "
           "samp select small span strike strong sub sup svg textarea time tt u var video")
# A placeholder such as `<address>` looks the same: these count only with attributes or where the text closes them too.
_DOUBTFUL = frozenset("address button caption code form header input label link main mark meta option select time title var".split())
_TAG = re.compile(
    rf"<(/?)({'|'.join(sorted((_BLOCK + ' ' + _INLINE).split(), key=len, reverse=True))})"
    r"((?:\s+[A-Za-z_:@][\w:.-]*+\s*+=\s*+(?:\"[^\"<]{0,4000}\"|'[^'<]{0,4000}'|[^\s\"'<>=]+))*+"
    r"(?:\s+(?:disabled|checked|selected|hidden|async|defer|noshade|nowrap|controls))*+)\s*+/?>", re.IGNORECASE)
_BLOCKS = frozenset(_BLOCK.split())
_DECLARATION = re.compile(r"<(?:!DOCTYPE\b|\?xml\b)[^<>]{0,1000}>|<!\[CDATA\[|\]\]>", re.IGNORECASE)
_AMPERSANDS = re.compile(r"&(?:amp;|#0{0,6}38;|#[xX]0{0,6}26;)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_CODE_SPAN = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_PROGRAM = re.compile(r"[;{]\s*$|^\s*(?:def|class|import|from|return|const|let|var|public|#include|SELECT)\b", re.MULTILINE)
_MARKDOWN = (
    (re.compile(r"!?\[([^\[\]\n]{1,500})\]\((?:https?://|mailto:|/|#|www\.)[^\s()]{0,2000}(?:\s\"[^\"\n]{0,300}\")?\)"), r"\1"),
    (re.compile(r"(?<![A-Za-z0-9_)\]*])\*\*(?=[^\s*])([^*\n]{0,2000}[^\s*])\*\*(?![A-Za-z0-9_*])"), r"\1"),
    (re.compile(r"(?<![A-Za-z0-9_)\]*\\])\*(?=[^\s*])([^*\n]{0,2000}[^\s*])\*(?![A-Za-z0-9_*])"), r"\1"),
    (re.compile(r"(?<![\w~])~~(?=[^\s~])([^~\n]{0,2000}[^\s~])~~(?![\w~])"), r"\1"),
    (re.compile(r"^#{1,6}[ \t]++(?=[^\s#])", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*+(?:(?:\*[ \t]*+){3,}|(?:-[ \t]*+){3,}|(?:_[ \t]*+){3,})$\n?", re.MULTILINE), ""),
)
_ROUNDS = 4  # what was escaped twice comes to light in the second round


@text_step("Remove HTML and Markdown residue", "去除 HTML 与 Markdown 残留")
def markup(text: str) -> str:
    """Remove HTML tags, comments and scripts, decode entities, take Markdown's marks off; comparisons (`a < b and c > d`), placeholders
    (`<name>`) and code between backticks stay."""
    for _ in range(_ROUNDS):
        if not ("<" in text or "&" in text or "*" in text or "#" in text or "](" in text or "~~" in text or "---" in text or "___" in text):
            break
        before = text
        if "`" in text:
            parts = _CODE_SPAN.split(text)  # the code spans stand at the odd places
            text = "".join(part if place % 2 else _without_markup(part) for place, part in enumerate(parts))
        else:
            text = _without_markup(text)
        if text == before:
            break
    return text


def _without_markup(text: str) -> str:
    if "&" in text:
        text = _AMPERSANDS.sub("&", text) if ";" in text else text
        # An entity may stand for a character that is not seen; the step for those has gone before.
        text = _ENTITY.sub(lambda match: control_characters(html.unescape(match.group())), text)
    if "<" in text:
        text = _without_tags(text)
    if ("*" in text or "#" in text or "](" in text or "~~" in text or "---" in text or "___" in text) and not _PROGRAM.search(text):
        for pattern, replacement in _MARKDOWN:
            text = pattern.sub(replacement, text)
    return text


def _without_tags(text: str) -> str:
    text = _without_between(text, re.compile("<!--"), "-->")
    lowered = text.lower()
    for name in ("script", "style"):
        if f"<{name}" in lowered:
            text = _without_between(text, re.compile(rf"<{name}(?=[\s>])[^<>]{{0,4000}}>", re.IGNORECASE), f"</{name}>")
    lowered = text.lower()

    def replace(match: re.Match[str]) -> str:
        name = match.group(2).lower()
        if name in _DOUBTFUL and not match.group(3) and f"</{name}" not in lowered:
            return match.group()
        return "\n" if name in _BLOCKS else ""

    return _TAG.sub(replace, _DECLARATION.sub("", text))


def _without_between(text: str, opening: re.Pattern[str], closing: str) -> str:
    """The text without what stands from each `opening` to the next `closing`; an opening that is never closed stays."""
    lowered, kept, place = text.lower(), [], 0
    if len(lowered) != len(text):  # a few capital letters become two small ones
        lowered = text
    while (match := opening.search(text, place)) is not None:
        end = lowered.find(closing, match.end())
        if end < 0:
            break
        kept.append(text[place:match.start()])
        place = end + len(closing)
    return "".join([*kept, text[place:]])


# ---- boilerplate

_SIGNED = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    r"^\s*sent (?:from|via|with|using) (?:my |the |yahoo |proton ?|mail|outlook|gmail|samsung|iphone|ipad|blackberry)[^.!?\n]{0,60}"
    r"[.!]?\s*$",
    r"^\s*get outlook for (?:ios|android|mac)\b.{0,40}$",
    r"^\s*(?:发自|来自|从)我的.{1,30}$",
    r"^\s*(?:发自|来自)\s?(?:iphone|ipad|安卓|手机|华为|小米|qq|网易|foxmail|outlook).{0,20}$",
    r"^\s*从我的.{1,20}发送.?$",
))
_UNSUBSCRIBE = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    r"^.{0,60}\b(?:to unsubscribe|unsubscribe (?:here|from (?:this|these|our|all))|click (?:here|below) to (?:unsubscribe|opt out)|"
    r"manage your (?:email )?(?:preferences|subscriptions?)|you (?:are receiving|received) this (?:e-?mail|message) because)\b.{0,300}$",
    r"^\s*\[?unsubscribe\]?(?:\s*\|.{0,80})?\s*$",
    r"^.{0,30}(?:如需退订|退订请?(?:回复?|点击|发送|回)|回复?\s?(?:td|t|n)\s?退订|点击(?:此处|这里)退订|取消订阅请|您收到(?:此|这封)邮件是因为).{0,100}$",
    r"^\s*(?:此|本)邮件(?:为|由)?系统自动(?:发送|发出|生成).{0,60}$",
    r"^\s*(?:this is an automat(?:ed|ically generated) (?:e-?mail|message)|please do not reply to this (?:automated )?e-?mail).{0,200}$",
))
_DISCLAIMER = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    r"^\W*(?:confidentiality (?:notice|note|statement)|disclaimer|legal notice)\s*:.*$",
    r"^\W*this (?:e-?mail|message|communication)(?: \([^)\n]{0,80}\))?(?:,? (?:and|including|together with) (?:any |all |its )?"
    r"(?:attach|files)[^.\n]{0,80})?,? (?:is|are|may be|contains?|may contain|is intended)\b.{0,200}"
    r"(?:confidential|privileged|intended|addressee|recipient).*$",
    r"^\W*if you (?:are not|have received).{0,80}(?:intended recipient|in error).*$",
    r"^\W*(?:please )?consider the environment before printing.*$",
    r"^\W*(?:本|此|这封)(?:电子)?(?:邮件|信息|传真)(?:及其?|和|以及|与|中)?.{0,20}(?:保密|机密|特权|仅供|仅限|限于).*$",
    r"^\W*(?:如果?|若)(?:您|你)?.{0,15}(?:误收|错收|不是(?:预期|指定|本邮件)的?收件人|非(?:预期|指定)收件人).*$",
    r"^\W*(?:保密声明|免责声明|保密提示)\s*[:\uff1a].*$",
))
_QUOTED = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    r"^\s*-{2,}\s*(?:original message|forwarded message|原始邮件|转发邮件|原邮件)\s*-{2,}",
    r"^\s*on .{6,120}\bwrote\s*:\s*$",
    r"^\s*(?:在|于)?\s?\d{2,4}.{4,80}写道\s*[:\uff1a]\s*$",
    r"^.{1,60}(?:于|在)\s?\d{4}\s?(?:年|-|/).{2,40}写道\s*[:\uff1a]\s*$",
    r"^\s*begin forwarded message\s*:\s*$",
))
_HEADER = re.compile(r"^\s*(?:from|发件人)\s*[:\uff1a].+", re.IGNORECASE)
_HEADER_NEXT = re.compile(r"^\s*(?:sent|date|to|subject|cc|发送时间|日期|收件人|主题|抄送)\s*[:\uff1a]", re.IGNORECASE)
_CLOSING = re.compile(
    r"^\s*(?:(?:best|kind|warm|with kind|with best)(?:est)? regards|regards|best wishes|yours (?:sincerely|faithfully|truly)|"
    r"sincerely(?: yours)?|many thanks and (?:best|kind) regards|此致|顺颂商祺|顺祝商祺|祝商祺|祝好)\s*[,.!\uff0c\u3002\uff01]?\s*$",
    re.IGNORECASE)
_LONGEST_SIGNATURE = 8  # lines


@text_step("Remove boilerplate", "去除签名、退订与引用等套话")
def boilerplate(text: str) -> str:
    """Remove what mail programs add: signatures of phones, closings with the lines under them, unsubscribe lines, confidentiality
    notices and quoted earlier mails at the end. A text that is nothing else stays."""
    if "\n" not in text:  # it would be nothing else
        return text
    lines = [line for line in text.split("\n")
             if not _matches(line, _SIGNED) and not _matches(line, _UNSUBSCRIBE) and not _matches(line, _DISCLAIMER)]
    lines = _without_tail(lines[:_first_quoted(lines)])
    left = "\n".join(lines)
    return left.rstrip() if left != text and any(map(str.isalnum, left)) else text


def _matches(line: str, patterns: tuple[re.Pattern[str], ...]) -> bool:
    return len(line) < 2000 and any(pattern.search(line) for pattern in patterns)


def _first_quoted(lines: list[str]) -> int:
    """The place of the line that introduces a quoted mail; behind the last line where none does."""
    for place, line in enumerate(lines):
        if _matches(line, _QUOTED) or (_HEADER.match(line) and any(_HEADER_NEXT.match(after) for after in lines[place + 1:place + 3])):
            return place
    return len(lines)


def _without_tail(lines: list[str]) -> list[str]:
    """The lines without quoted lines (`>`) and signatures at the end: a closing or `-- ` with at most a few short lines under it."""
    end, cut = len(lines), len(lines) + 1
    while end < cut:
        cut = end
        last = end
        while last and (not lines[last - 1].strip() or lines[last - 1].lstrip().startswith(">")):
            last -= 1
        if any(line.lstrip().startswith(">") for line in lines[last:end]):
            end = last
        for place in range(max(1, end - _LONGEST_SIGNATURE), end):
            if (lines[place].rstrip() == "--" or _CLOSING.match(lines[place])) and all(len(line) <= 80 for line in lines[place + 1:end]):
                end = place
                break
    return lines[:end]


# ---- lines and spaces

_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_GAP = re.compile(r"(?<=\S) {2,}")
_EMPTY_LINES = re.compile(r"\n{3,}")


@text_step("Remove repeated lines", "去除重复行")
def repeated_lines(text: str, *, min_characters: int = 10) -> str:
    """Keep one of equal lines that follow one another, and the first of equal lines of at least `min_characters` wherever they stand;
    lines without letters or digits stay."""
    if "\n" not in text:
        return text
    seen: set[str] = set()
    kept: list[str] = []
    lines = text.split("\n")
    for line in lines:
        bare = line.strip()
        if bare and any(map(str.isalnum, bare)):
            if bare in seen and (len(bare) >= min_characters or (kept and kept[-1].rstrip() == line.rstrip())):
                continue
            seen.add(bare)
        kept.append(line)
    return text if len(kept) == len(lines) else "\n".join(kept)


@text_step("Tidy white space", "整理空白")
def spaces(text: str) -> str:
    """One kind of space, one space between words, at most one empty line, none at the ends; indentation and tabs stay."""
    if "  " not in text and text.isprintable():
        return text.strip()
    if not text.isascii():
        text = _SPACES.sub(" ", text)
    if "  " in text:
        text = _GAP.sub(" ", text)
    if "\n" in text:
        text = _EMPTY_LINES.sub("\n\n", "\n".join(map(_right, text.split("\n"))))
    return text.strip()


_right: Callable[[str], str] = str.rstrip

"""Which kind a file is: by its first bytes where these tell it, and else by its ending."""

import re

from labkit.data.readers import json_files, streams
from labkit.data.readers.streams import Stream
from labkit.errors import LabError

ENDINGS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
           ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow", ".xlsx": "spreadsheet", ".xlsm": "spreadsheet", ".xlsb": "spreadsheet",
           ".xls": "spreadsheet", ".ods": "spreadsheet", ".txt": "text", ".text": "text"}

READABLE = frozenset(ENDINGS.values())

_MAGIC = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "arrow"), (b"PK\x03\x04", "zip"),
          (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet"), (b"SQLite format 3\0", "a SQLite database"), (b"%PDF-", "a PDF"),
          (b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"), (b"GIF8", "a picture"), (b"Rar!", "an archive"),
          (b"7z\xbc\xaf", "an archive"), (b"\x7fELF", "a program"), (b"MZ\x90", "a program"), (b"{\\rtf", "an RTF document"))
_ADVICE = {"a SQLite database": "name it as sqlite:///FILE#table=NAME", "an archive": "unpack it and name the folder"}
_MARKUP = re.compile(r"\s*<(!doctype|html|\?xml)", re.IGNORECASE)


def kind_of(stream: Stream) -> str:
    """Which reader a file needs, by its first bytes, else by its ending."""
    head, path = stream.head, stream.path
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    claimed = streams.ENDINGS.get(suffixes[-1], "") if suffixes else ""
    if claimed and not stream.compression:
        raise LabError(f"{stream.name}: is not {claimed}, though its name ends in {suffixes[-1]}")
    if claimed:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "") or streams.compression_of(head)
    if kind == "zip":
        kind = "spreadsheet" if _is_workbook(head, suffix) else "an archive"
    if not kind:
        kind = ENDINGS.get(suffix, "")
        if not kind:
            ending = f"its ending {suffix}" if suffix else "a file without an ending"
            raise LabError(f"{stream.name}: {ending} is not known; use {', '.join(ENDINGS)}, also with {', '.join(streams.ENDINGS)} behind")
        if kind in ("parquet", "arrow", "spreadsheet"):
            raise LabError(f"{stream.name}: is not what its ending {suffix} says; give it the ending of what it is")
        kind = _kind_of_text(stream.name, kind, head)
    if kind not in READABLE:
        raise LabError(f"{stream.name}: is {kind}, {_ADVICE.get(kind, 'not a file of rows')}")
    return kind


def _is_workbook(head: bytes, suffix: str) -> bool:
    """Whether a zip file is a spreadsheet: its first part is one of a workbook's, or its ending says so."""
    return ENDINGS.get(suffix) == "spreadsheet" or b"[Content_Types].xml" in head[:2000] or b"opendocument.spreadsheet" in head[:2000]


def _kind_of_text(name: str, kind: str, head: bytes) -> str:
    """Text whose ending is wrong is read as what it is where that is JSON, and refused where it is a web page."""
    text = head[:1 << 16].decode("utf-8-sig", "replace").lstrip("\ufeff \t\r\n")
    if kind != "text" and _MARKUP.match(text):
        raise LabError(f"{name}: is a web page or XML, not a table")
    first, _, rest = text.partition("\n")
    if kind == "json" and text.startswith("{") and rest.lstrip().startswith("{") and _is_json(first):
        return "jsonl"
    if kind == "jsonl" and text.startswith("[") and not (_is_json(first) and rest.strip()):
        return "json"
    if kind in ("csv", "tsv") and text.startswith(('{"', "[{")):
        return "jsonl" if text.startswith("{") and _is_json(first) else "json"
    return kind


def _is_json(line: str) -> bool:
    try:
        json_files.parsed(line)
    except LabError:
        return False
    return True

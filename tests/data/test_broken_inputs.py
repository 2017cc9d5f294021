"""Three hundred broken inputs: each ends in one clear line that names it, or in counted rejects with their place; none in a traceback,
a silent loss, or more memory than the limits allow.

A case is (name of the input, what writes it, what must come of it). What must come of it is either `REFUSED` (a `LabError`), or how
many good and how many rejected rows; `ANY` where the damage may leave the data readable.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import resource
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
import zlib

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard

from labkit.data import collect, sources
from labkit.data.readers import Limits
from labkit.errors import LabError
from tests.data.readers import workbooks

REFUSED, ANY = "refused", "any"
LIMITS = Limits(value=20_000, free=1 << 20, columns=1000, workbook=8 << 20)
TEXTS = [f"row {number}: " + "".join(chr(97 + number * 7919 % 26 * step % 26) for step in range(1, 60)) + " 好" for number in range(400)]
CASES = {}


def case(name, content, expected, good=0):
    """Register an input: bytes, or a function that makes it at a path (and may return another name for it)."""
    assert name not in CASES, name
    CASES[name] = (content, expected, good)


def rejects(count, good=0):
    return count, good


def csv_of(texts):
    return ("text,label\n" + "".join(f"{text},a\n" for text in texts)).encode()


def jsonl_of(texts):
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()


def columns_of(texts):
    return pyarrow.table({"text": texts, "label": ["a"] * len(texts)})


def parquet_of(texts):
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(columns_of(texts), sink, row_group_size=100)
    return sink.getvalue().to_pybytes()


def arrow_of(texts, new=pyarrow.ipc.new_file):
    sink = pyarrow.BufferOutputStream()
    with new(sink, columns_of(texts).schema) as writer:
        writer.write_table(columns_of(texts), max_chunksize=50)
    return sink.getvalue().to_pybytes()


def xlsx_of(texts):
    return workbooks.xlsx({"Sheet": [["text"], *([text] for text in texts)]})


def flipped(data, place):
    damaged = bytearray(data)
    damaged[place] ^= 0x55
    return bytes(damaged)


WHOLE = {"rows.csv.gz": gzip.compress(csv_of(TEXTS)), "rows.jsonl.gz": gzip.compress(jsonl_of(TEXTS)),
         "rows.csv.zst": zstandard.compress(csv_of(TEXTS)), "rows.jsonl.zst": zstandard.ZstdCompressor().compress(jsonl_of(TEXTS)),
         "rows.csv.bz2": bz2.compress(csv_of(TEXTS)), "rows.csv.xz": lzma.compress(csv_of(TEXTS)),
         "rows.parquet": parquet_of(TEXTS), "rows.arrow": arrow_of(TEXTS), "stream.arrow": arrow_of(TEXTS, pyarrow.ipc.new_stream),
         "rows.xlsx": xlsx_of(TEXTS), "rows.ods": workbooks.ods([["text"], *([text] for text in TEXTS)]),
         "rows.xls": workbooks.xls([["text"], *([text] for text in TEXTS)])}
CUTS = {"rows.xlsx": 6, "rows.ods": 4, "rows.xls": 4, "rows.csv.gz": 20, "rows.jsonl.gz": 12}

for file, data in WHOLE.items():
    for part in range(CUTS.get(file, 8)):  # cut off at many places, the first and the last byte among them
        size = 1 + (len(data) - 2) * part // (CUTS.get(file, 8) - 1)
        case(f"cut_{size}_{file}", data[:size], "cut")
    for part in range(2 if file.endswith((".xlsx", ".ods", ".xls")) else 6):
        place = len(data) * (2 * part + 1) // 13
        case(f"flipped_{place}_{file}", flipped(data, place), ANY)

# What is in the file is not what its name says
FOREIGN = {"png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "pdf": b"%PDF-1.7\n" + bytes(range(256)) * 4,
           "program": b"\x7fELF" + bytes(500),
           "zip": None, "sqlite": b"SQLite format 3\0" + bytes(500), "noise": bytes(zlib.crc32(bytes([place % 256, place // 256])) % 256
                                                                                     for place in range(2000))}
_archive = io.BytesIO()
with zipfile.ZipFile(_archive, "w") as _zip:
    _zip.writestr("../../escape.csv", "text\nout\n")
FOREIGN["zip"] = _archive.getvalue()
for ending in ("csv", "json", "jsonl", "parquet", "arrow", "txt"):
    for what, content in FOREIGN.items():
        case(f"{what}.{ending}", content, REFUSED)
for ending in ("parquet", "arrow", "xlsx", "xls", "ods", "csv.gz", "csv.zst", "jsonl.bz2", "txt.xz"):
    case(f"text.{ending}", csv_of(TEXTS), REFUSED)
for ending in ("doc", "rtf", "py", "data"):
    case(f"unknown.{ending}", csv_of(TEXTS), REFUSED)
case("no_ending", csv_of(TEXTS), REFUSED)
case("page.csv", b"<!DOCTYPE html><html><body>Sign in</body></html>", REFUSED)
case("page.json", b"<?xml version='1.0'?><rows/>", REFUSED)
case("twice.csv.gz", gzip.compress(gzip.compress(csv_of(TEXTS))), REFUSED)
case("member.csv.gz", gzip.compress(csv_of(TEXTS[:5])) + b"behind it", "cut")

# Nothing in it
for ending in ("csv", "tsv", "json", "jsonl", "txt", "parquet", "arrow", "xlsx", "xls", "csv.gz"):
    case(f"empty.{ending}", b"", REFUSED)
for mark in ("utf-8-sig", "utf-16", "utf-32"):
    for ending in ("csv", "json", "txt"):
        case(f"mark_only_{mark}.{ending}", "".encode(mark), REFUSED)
case("packed_nothing.csv.gz", gzip.compress(b""), REFUSED)
case("header_only.csv", b"text,label\n", REFUSED)
case("blank.csv", b"\n \n\n", REFUSED)
case("blank.jsonl", b"\n\n  \n", REFUSED)
case("empty_list.json", b"[]", REFUSED)
case("empty_object.json", b"{}", REFUSED)
case("no_rows.parquet", parquet_of([]), REFUSED)
case("no_rows.arrow", arrow_of([]), REFUSED)
case("no_rows.xlsx", workbooks.xlsx({"Sheet": []}), REFUSED)

# JSON
for name, content in {
        "scalar": b"5", "text": b'"x"', "null": b"null", "open": b"[", "comma": b"[,]", "two_lists": b'{"a": [{}], "b": [{}]}',
        "scalars": b'{"a": 1, "b": "x"}', "nan_only": b"NaN", "python": b"[{'text': 'a'}]", "open_object": b"{", "no_colon": b'{"a" 1}',
        "deep_open": b"[" * 100_000, "deep_objects": b'{"a":' * 100_000, "key_number": b"{1: 2}", "half_text": b'[{"text": "abc',
        "comment": b"// rows\n[]", "twice": b'{"a": [], "a": []}'}.items():
    case(f"{name}.json", content, REFUSED)
for name, (content, bad, good) in {
        "not_objects": (b'[{"text": "a"}, 1, "x", null, [1]]', 4, 1), "same_key": (b'[{"text": "a", "text": "b"}, {"text": "c"}]', 1, 1),
        "same_key_within": (b'[{"text": "a", "x": {"k": 1, "k": 2}}, {"text": "c"}]', 1, 1),
        "nan": (b'[{"text": NaN}, {"text": "c"}]', 1, 1),
        "infinity": (b'[{"text": "a", "n": -Infinity}, {"text": "c"}]', 1, 1),
        "huge": (b'[{"text": %s}, {"text": "c"}]' % (b"9" * 5000), 1, 1),
        "deep": (b'[{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, {"text": "c"}]', 1, 1),
        "deep_enough": (b'[{"text": "a", "x": ' + b"[" * 100 + b"]" * 100 + b'}, {"text": "c"}]', 1, 1),
        "nul": (b'[{"text": "a\\u0000"}, {"text": "c"}]', 1, 1), "surrogate": (b'[{"text": "\\ud83d"}, {"text": "c"}]', 1, 1),
        "nul_key": (b'[{"text": "a", "\\u0000": "x"}, {"text": "c"}]', 1, 1),
        "surrogate_key": (b'[{"text": "a", "\\udc00": 1}, {"text": "c"}]', 1, 1), "bytes": (b'[{"text": "a\xff"}, {"text": "c"}]', 1, 1),
        "long": (b'[{"text": "' + b"x" * 30_000 + b'"}, {"text": "c"}]', 1, 1), "trailing": (b'[{"text": "a"}] {"text": "b"}', 1, 1),
        "cut": (b'[{"text": "a"}, {"text": "b', 1, 1), "no_comma": (b'[{"text": "a"} {"text": "b"}]', 1, 1),
        "last_comma": (b'[{"text": "a"},]', 1, 1), "wrong_bracket": (b'[{"text": "a"}}', 1, 1), "bad_word": (b'[{"text": "a"}, nul]', 1, 1),
        "control": (b'[{"text": "a"}, {"text": "b\x01"}]', 1, 1), "objects": (b'{"a": {"text": "a"}, "a": {"text": "b"}}', 1, 1)}.items():
    case(f"{name}_rows.json", content, rejects(bad, good))
for name, (line, good) in {
        "cut": (b'{"text": "b', 2), "list": (b"[1, 2]", 2), "same_key": (b'{"text": "a", "text": "b"}', 2), "nan": (b'{"text": NaN}', 2),
        "minus_infinity": (b'{"n": -Infinity}', 2), "huge": (b'{"n": ' + b"9" * 5000 + b"}", 2), "deep": (b'{"a":' * 3_000, 2),
        "deep_lists": (b'{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}", 2), "nul": (b'{"text": "a\0b"}', 2),
        "nul_escape": (b'{"text": "a\\u0000b"}', 2), "surrogate": (b'{"text": "\\udfff"}', 2),
        "surrogate_within": (b'{"a": [{"b": "\\ud800"}]}', 2),
        "bytes": (b'{"text": "\xc3\x28"}', 2), "overlong": (b'{"text": "\xc0\xaf"}', 2),
        "encoded_surrogate": (b'{"text": "\xed\xa0\x80"}', 2),
        "long": (b'{"text": "' + b"x" * 30_000 + b'"}', 2), "words": (b"not json", 2), "two": (b'{"text": "a"} {"text": "b"}', 2),
        "return": (b'{"text": "a"}\r{"text": "b"}', 2), "single_quotes": (b"{'text': 'a'}", 2), "scalar": (b"17", 2),
        "null": (b"null", 2)}.items():
    case(f"{name}.jsonl", '{"text": "first 好"}\n'.encode() + line + '\n{"text": "last 好"}\n'.encode(), rejects(1, good))
case("mixed_ends.jsonl", b'{"text": "a"}\r\n{"text": "b"}\n{"text": c}\r\n', rejects(1, 2))

# Tables
for name, (line, bad, good) in {
        "short": (b"only one", 1, 2), "wide": (b"a,b,c", 1, 2), "nul": (b"a\0b,c", 1, 2), "bytes": (b"a\xff\xfe,c", 1, 2),
        "long": (b"x" * 30_000 + b",c", 1, 2), "long_quoted": (b'"' + b"x" * 30_000 + b'",c', 1, 2),
        "unclosed": (b'"a,b', 1, 2), "unclosed_later": (b'a,"b', 1, 2), "behind_quote": (b'"a"b,c', 1, 2),
        "escaped": (b'"a \\"b\\" c",d', 1, 2),
        "return": (b"a,b\rc,d", 1, 2), "nul_within": (b'"a\n\0\nb",c', 1, 2), "bytes_within": (b'"a\n\xff\nb",c', 1, 2),
        "two_unclosed": (b'"a,b\n"c,d', 2, 2), "many_unclosed": (b"\n".join([b'"a,b'] * 50), 50, 2), "spaces": (b"   ", 1, 2)}.items():
    case(f"{name}.csv", "text,label\nfirst 好,a\n".encode() + line + "\nlast 好,c\n".encode(), rejects(bad, good))
case("endless.csv", b'text,label\nfirst,a\n"' + b"word,word\n" * 5_000, rejects(1, 5_000))
case("ragged.tsv", b"text\tlabel\na\tb\nc\nd\te\tf\ng\th\n", rejects(2, 2))
case("same_names.csv", b"text,text\na,b\n", REFUSED)
case("same_empty_names.csv", b"column 2,\na,b\n", REFUSED)
case("unclosed_header.csv", b'"text,label\na,b\n', REFUSED)
case("nul_header.csv", b"te\0xt,label\na,b\n", REFUSED)
case("broken_header.csv", b"te\xff\xffxt,\xe5\xa5\xbd,\xff\n" + "好,好,好\n".encode() * 3, REFUSED)
case("columns.csv", ",".join(f"c{number}" for number in range(100_000)).encode() + b"\n" + b"," * 99_999, REFUSED)
case("columns.xlsx", workbooks.xlsx({"Sheet": [[f"c{number}" for number in range(1200)], ["a"]]}), REFUSED)
case("columns.parquet", lambda path: pyarrow.parquet.write_table(
    pyarrow.table({f"c{number}": [1] for number in range(1200)}), path), REFUSED)
case("all_nul.csv", bytes(10_000), REFUSED)
case("mixed_encodings.csv", csv_of(TEXTS[:50]) + "坏,x\n".encode("gb18030") + csv_of(TEXTS[50:60])[11:], rejects(1, 60))
case("gb_in_big.txt", "好的\n".encode("gb18030") * 200 + b"\xff\xff\n" + "可以\n".encode("gb18030"), rejects(1, 201))
case("utf16_odd.csv", "text\n好\n".encode("utf-16") + b"\x31", rejects(1, 1))
case("utf16_surrogate.csv", "text\n好\n".encode("utf-16") + b"\x00\xd8\n\x00" + "好\n".encode("utf-16-le"), rejects(1, 2))
case("utf32_range.csv", "text\n好\n".encode("utf-32") + b"\xff\xff\xff\x7f\n\0\0\0", rejects(1, 1))
case("utf16_cut.json", json.dumps([{"text": "好"}]).encode("utf-16")[:-3], REFUSED)
case("nul_line.txt", b"one\n\0\0\ntwo\n", rejects(1, 2))
case("long_line.txt", b"one\n" + b"x" * 30_000 + b"\ntwo", rejects(1, 2))

# Bombs, in small
case("zeros.csv.gz", gzip.compress(b"text\n" + b"0" * (16 << 20)), "cut")
case("lines.csv.gz", gzip.compress(b"text\n" + (b"the same line " * 500 + b"\n") * 4000), "cut")
case("zeros.jsonl.zst", zstandard.compress(b'{"text": "a"}\n' + b" " * (64 << 20)), "cut")
case("zeros.txt.bz2", bz2.compress(b"a\n" + b"0" * (32 << 20)), "cut")
case("zeros.txt.xz", lzma.compress(b"a\n" + b"0" * (32 << 20)), "cut")
case("zeros.xlsx", workbooks.xlsx({"Sheet": [["text"], ["a"]]}, [("xl/media/zeros.bin", bytes(32 << 20))]), REFUSED)
case("shared.xlsx", workbooks.xlsx({"Sheet": f'<row r="1">{workbooks.cell("A1", "x" * (16 << 20))}</row>'}), REFUSED)
case("far_corner.xlsx", workbooks.xlsx({"Sheet": f'<row r="1">{workbooks.cell("A1", "text")}</row><row r="1048576">'
                                                 f'{workbooks.cell("XFD1048576", "x")}</row>'}), REFUSED)
case("beyond_corner.xlsx", workbooks.xlsx({"Sheet": f'<row r="1">{workbooks.cell("A1", "text")}</row><row r="99999999">'
                                                    f'{workbooks.cell("ZZZZ99999999", "x")}</row>'}), REFUSED)
case("repeated.ods", workbooks.ods([["x"]], 'table:number-rows-repeated="1048576"', 'table:number-columns-repeated="16384"'), REFUSED)
case("slip.xlsx", workbooks.xlsx({"Sheet": [["text"], ["a"]]}, [("../../../tmp/labkit-slipped", b"x")]), ANY)
case("not_a_sheet.xlsx", workbooks.xlsx({"Sheet": "<row><c"}), REFUSED)
case("same_names.xlsx", workbooks.xlsx({"Sheet": [["a", "a"], ["b", "c"]]}), REFUSED)
case("wide_row.xlsx", workbooks.xlsx({"Sheet": [["text"], ["a"], ["b", "c"]]}), rejects(1, 1))
case("long_cell.xlsx", workbooks.xlsx({"Sheet": [["text"], ["a"], ["x" * 30_000]]}), rejects(1, 1))
case("repeated_text.parquet", lambda path: pyarrow.parquet.write_table(
    repeated("x" * 1_000_000, 3000), path, dictionary_pagesize_limit=1 << 24), rejects(3000, 1))
case("same_names.arrow", lambda path: path.write_bytes(same_names()), REFUSED)


def repeated(text, count):
    """A table in which all rows but the last point at one text."""
    places = pyarrow.array([0] * count + [1], pyarrow.int32())
    return pyarrow.table({"text": pyarrow.DictionaryArray.from_arrays(places, pyarrow.array([text, "short"]))})


def same_names():
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


# Formulas are text: nothing is wrong with them, and nothing is computed
case("formulas.csv", b'text,label\n"=HYPERLINK(""http://example.org"",""x"")",a\n@SUM(1),b\n', rejects(0, 2))
case("formulas.xlsx", workbooks.xlsx({"Sheet": [["text"], [("1/0", "=cmd|' /C calc'!A0")]]}), rejects(0, 1))


# What is no file
def make_socket(path):
    place = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as each:
            each.bind(path.name)
    finally:
        os.chdir(place)


def make_folder(*contents):
    def make(path):
        path.mkdir()
        for name, content in contents:
            content(path / name) if callable(content) else (path / name).write_bytes(content)
    return make


def make_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (text)")
        connection.executemany("INSERT INTO t VALUES (?)", [("a",), ("好",)])
        connection.execute("INSERT INTO t VALUES (CAST(x'61ff62' AS TEXT))")
        connection.execute("INSERT INTO t VALUES ('n' || char(0))")
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 30_000,))
    connection.close()


def asking(rest, prefix="sqlite:///"):
    def make(path):
        make_database(path)
        return f"{prefix}{path}{rest}"
    return make


GOOD = ("good.csv", csv_of(TEXTS[:3]))
case("missing.csv", lambda path: None, REFUSED)
case("missing/in/folder.csv", lambda path: str(path), REFUSED)
case("a" * 300 + ".csv", lambda path: str(path), REFUSED)
case("nul_in_name", lambda path: f"{path}\0.csv", REFUSED)
case("none_*.csv", lambda path: str(path), REFUSED)
case("empty_name", lambda path: "", REFUSED)
case("empty_folder", make_folder(), REFUSED)
case("folder.csv", make_folder(GOOD), rejects(0, 3))
case("pipe.csv", os.mkfifo, REFUSED)
case("socket.csv", make_socket, REFUSED)
case("zero_device", lambda path: "/dev/zero", REFUSED)
case("null_device", lambda path: "/dev/null", REFUSED)
case("link_to_zero.csv", lambda path: path.symlink_to("/dev/zero"), REFUSED)
case("link_to_nothing.csv", lambda path: path.symlink_to("nowhere"), REFUSED)
case("link_to_itself.csv", lambda path: path.symlink_to(path), REFUSED)
case("folder_pipe", make_folder(GOOD, ("pipe.csv", os.mkfifo)), rejects(1, 3))
case("folder_link_out", make_folder(GOOD, ("out.csv", lambda path: path.symlink_to("/etc/hostname"))), rejects(1, 3))
case("folder_link_up", make_folder(GOOD, ("up", lambda path: path.symlink_to(".."))), rejects(1, 3))
case("folder_link_round", make_folder(GOOD, ("round", lambda path: path.symlink_to("."))), rejects(1, 3))
case("folder_link_dead", make_folder(GOOD, ("dead.csv", lambda path: path.symlink_to("nowhere"))), rejects(1, 3))
case("folder_unknown", make_folder(GOOD, ("notes.doc", b"x"), (".hidden", b"x")), rejects(2, 3))
case("folder_empty_file", make_folder(GOOD, ("empty.csv", b"")), rejects(1, 3))
case("folder_bad_json", make_folder(GOOD, ("bad.json", b"[")), rejects(1, 3))
case("folder_cut_gzip", make_folder(GOOD, ("cut.csv.gz", WHOLE["rows.csv.gz"][:20])), rejects(1, 3))
case("folder_bad_workbook", make_folder(GOOD, ("bad.xlsx", b"PK\x03\x04 nonsense")), rejects(1, 3))

# Databases and the hub
case("select.db", asking("#query=SELECT text FROM t"), rejects(3, 2))
case("table.db", asking("#table=t"), rejects(3, 2))
for number, query in enumerate(["DELETE FROM t", "SELECT 1; DELETE FROM t", "DROP TABLE t", "PRAGMA query_only=OFF", "ATTACH 'x' AS y",
                                "nonsense", "SELECT * FROM nowhere", "SELECT nothing FROM t", "SELECT text, text FROM t",
                                "SELECT text FROM t WHERE 0",
                                "INSERT INTO t VALUES (1) RETURNING *", "WITH a AS (SELECT 1) DELETE FROM t", "VACUUM", "SELECT",
                                "SELECT :x"]):
    case(f"query_{number}.db", asking(f"#query={query}"), REFUSED)
case("no_table.db", asking("#table=nowhere"), REFUSED)
case("hostile_table.db", asking('#table=t"; DROP TABLE t; --'), REFUSED)
case("nothing_asked.db", asking(""), REFUSED)
case("unknown_option.db", asking("#where=1"), REFUSED)
case("wrong_driver.db", asking("#table=t", "nosuchdatabase:///"), REFUSED)
case("no_database.db", lambda path: f"sqlite:///{path}#table=t", REFUSED)
case("memory", lambda path: "sqlite:///:memory:#table=t", REFUSED)
case("no_sqlite.db", lambda path: path.write_bytes(b"text,label\n" * 500) and f"sqlite:///{path}#table=t", REFUSED)
case("cut.db", lambda path: (make_database(path), os.truncate(path, 5000)) and f"sqlite:///{path}#table=t", ANY)
case("no_server", lambda path: "postgresql://me:secret@127.0.0.1:1/db#table=t", REFUSED)
case("web", lambda path: "https://example.org/rows.csv", REFUSED)
case("bad_url", lambda path: "sqlite://///\0#table=t", REFUSED)
case("hub", lambda path: "hub:owner/name", REFUSED)
case("hub_name", lambda path: "hub:../../etc", REFUSED)
case("option", lambda path: path.with_suffix(".txt").write_bytes(b"a") and f"{path.with_suffix('.txt')}#unit=page", REFUSED)
case("option_nowhere.csv", lambda path: path.write_bytes(csv_of(TEXTS)) and f"{path}#sheet=x", REFUSED)


@pytest.fixture()
def made(tmp_path, request):
    """The input's name, after it was made."""
    name, content = request.param, CASES[request.param][0]
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
        return str(path)
    found = content(path)
    return found if isinstance(found, str) else str(path)


def test_there_are_three_hundred_cases():
    assert len(CASES) >= 300


@pytest.mark.parametrize("made", list(CASES), indirect=True, ids=[name[:40] for name in CASES])
def test_a_broken_input_ends_in_one_clear_line_or_in_counted_rejects(made, request, small_scenario, tmp_path):
    _, expected, _ = CASES[request.node.callspec.params["made"]]
    problem, rows = "", []
    try:
        for row in sources.read(made, limits=LIMITS):
            rows.append(row)
    except LabError as error:
        problem = str(error)
    if problem:
        assert "\n" not in problem and "secret" not in problem
        assert not rows, "an error after rows were given would lose them"
        assert os.path.basename(made.partition("#")[0])[:200] in problem or repr(made) in problem or "secret" in made
    bad = [row for row in rows if row.problem]
    for row in bad:
        assert "\n" not in row.problem and row.file and row.number >= 0
    good = [row.values["text"] for row in rows if not row.problem and "text" in row.values]
    if expected == REFUSED:
        assert problem
    elif expected == "cut":  # what came before the end is there as it was, and the end is told
        assert problem or len(bad) == 1 or good == TEXTS  # the last bytes may be but padding
        if "rows" in made or "stream" in made:
            assert good == TEXTS[: len(good)]
    elif expected != ANY:
        assert (len(bad), len(rows) - len(bad)) == expected
    _collected_as_read(made, rows, bad, problem, small_scenario, tmp_path)


def _collected_as_read(made, rows, bad, problem, scenario, folder):
    try:
        found = collect.collect([made], scenario, {"text": "text"}, folder=folder / "collected", limits=LIMITS)
    except LabError as error:
        assert "\n" not in str(error)
        assert problem or not [row for row in rows if not row.problem and str(row.values.get("text") or "").strip()]
        return
    assert not problem
    assert len(found.records) + len(found.rejects) == sum(found.rows_read.values()) == len(rows)
    assert len(found.rejects) >= len(bad)
    for reject in found.rejects:
        assert reject["file"] and reject["row"] >= 0 and reject["problem"]


def test_nothing_was_written_out_of_a_workbook():
    assert not os.path.exists("/tmp/labkit-slipped")


def test_a_query_leaves_the_database_as_it_was(tmp_path):
    path = tmp_path / "lab.db"
    make_database(path)
    before = path.read_bytes()
    for query in ("SELECT text FROM t", "DELETE FROM t", "WITH a AS (SELECT 1) UPDATE t SET text = 1"):
        try:
            list(sources.read(f"sqlite:///{path}#query={query}"))
        except LabError:
            pass
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["lab.db"]


def test_a_folder_that_may_not_be_read_is_listed_and_a_file_is_refused():
    """Root may read everything, so another user asks, in a folder of its own: pytest's are closed to others."""
    if os.name != "posix" or os.geteuid():
        pytest.skip("NOT ROOT: the test needs to become another user")
    script = ("import os, sys\nfrom labkit.data import sources\nfrom labkit.errors import LabError\n"
              "list(sources.read(sys.argv[1] + '/data/open/rows.csv'))\n"  # what is imported only later may be closed to the other user
              "os.setgid(65534); os.setuid(65534)\nos.chdir(sys.argv[1])\n"
              "for row in sources.read('data'): print(row.file, row.number, row.problem)\n"
              "try:\n    list(sources.read('data/secret.csv'))\nexcept LabError as error: print(error)\n")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        for inner in ("open", "shut"):
            (folder / "data" / inner).mkdir(parents=True)
            (folder / "data" / inner / "rows.csv").write_bytes(csv_of(TEXTS[:3]))
        (folder / "data" / "secret.csv").write_bytes(csv_of(TEXTS[:3]))
        (folder / "data" / "secret.csv").chmod(0)
        (folder / "data" / "shut").chmod(0)
        done = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "data/open/rows.csv 2 ", "data/open/rows.csv 3 ", "data/open/rows.csv 4 ", "data/secret.csv 0 cannot be read: Permission denied",
        "data/shut 0 cannot be read: Permission denied", "data/secret.csv: cannot be read: Permission denied"], done.stderr


def peak_of(name, **limits):
    tracemalloc.start()
    try:
        good = bad = 0
        problem = ""
        try:
            for row in sources.read(str(name), limits=Limits(**limits)):
                good, bad = good + (not row.problem), bad + bool(row.problem)
        except LabError as error:
            problem = str(error)
        return good, bad, problem, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "begin", "end"), [("line.jsonl", b'{"text": "a"}\n{"text": "', b'"}\n{"text": "b"}\n'),
                                                    ("line.csv", b"text\na\n", b"\nb\n"),
                                                    ("line.json", b'[{"text": "a"}, {"text": "', b'"}, {"text": "b"}]'),
                                                    ("line.txt", b"a\n", b"\nb")])
def test_a_line_of_200_megabytes_is_one_reject_and_never_held(tmp_path, name, begin, end):
    with (tmp_path / name).open("wb") as file:
        file.write(begin)
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(end)
    good, bad, problem, peak = peak_of(tmp_path / name)
    assert (good, bad, problem) == (2, 1, "") and peak < 100 << 20


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_bomb_of_gigabytes_is_told_after_some_megabytes(tmp_path, pack):
    path = tmp_path / f"bomb.csv.{pack}"
    block = b"text,label\n" + b"0" * (1 << 24)
    with (gzip.open(path, "wb", compresslevel=1) if pack == "gz" else zstandard.open(path, "wb")) as file:
        for _ in range(16):
            file.write(block)
    good, bad, problem, peak = peak_of(path)
    assert "times its size" in problem or bad
    assert peak < 150 << 20  # csv keeps a cell of 16 MB in four bytes a character


def test_a_file_that_decompresses_beyond_the_limit_stops_there(tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(csv_of(TEXTS * 50)))
    rows = list(sources.read(str(tmp_path / "rows.csv.gz"), limits=Limits(decompressed=1 << 20)))
    assert [row.problem for row in rows if row.problem] == ["decompresses to more than 1 MB; unpack and divide it"]
    good = [row.values["text"] for row in rows if not row.problem]
    assert good == (TEXTS * 50)[: len(good)] and 0.5 * (1 << 20) < sum(len(text.encode()) for text in good) < 1 << 20


def test_a_workbook_that_asks_for_all_memory_ends_only_its_own_process(tmp_path):
    path = tmp_path / "far.xlsx"
    path.write_bytes(CASES["far_corner.xlsx"][0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LabError, match="not a valid spreadsheet, or needs more than"):
        list(sources.read(str(path)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kilobytes


def test_a_small_parquet_file_of_one_long_text_in_every_row_stays_small(tmp_path):
    pyarrow.parquet.write_table(repeated("x" * 4_000_000, 2000), tmp_path / "rows.parquet", dictionary_pagesize_limit=1 << 24)
    good, bad, problem, peak = peak_of(tmp_path / "rows.parquet")
    assert (good, bad, problem) == (2001, 0, "") and peak < 50 << 20


def test_the_length_that_gzip_claims_is_not_believed(tmp_path):
    data = bytearray(WHOLE["rows.csv.gz"])
    data[-4:] = struct.pack("<I", 5)
    (tmp_path / "rows.csv.gz").write_bytes(data)
    rows = list(sources.read(str(tmp_path / "rows.csv.gz")))
    assert [row.values["text"] for row in rows if not row.problem] == TEXTS
    assert [row.problem[:19] for row in rows if row.problem] == ["the gzip data is br"]

"""Each kind of file gives the rows that were written into it, with their place; one broken row costs no other."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard

from labkit.data import sources
from labkit.data.readers import Limits, databases
from labkit.errors import LabError
from tests.data.readers import workbooks

ROWS = [{"text": 'one, "two"', "label": "a"}, {"text": "three\nlines", "label": "b"}, {"text": "四", "label": "c"},
        {"text": "=HYPERLINK(\"http://example.org\")", "label": "d"}]


def table():
    return pyarrow.table({key: [row[key] for row in ROWS] for key in ROWS[0]})


def delimited(delimiter):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue().encode()


def arrow(new):
    sink = pyarrow.BufferOutputStream()
    with new(sink, table().schema) as writer:
        writer.write_table(table())
    return sink.getvalue().to_pybytes()


def parquet(data=None):
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(data or table(), sink)
    return sink.getvalue().to_pybytes()


def written(suffix):
    if suffix in (".csv", ".tsv", ".tab"):
        return delimited("," if suffix == ".csv" else "\t")
    if suffix in (".jsonl", ".ndjson"):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    if suffix == ".json":
        return json.dumps(ROWS).encode()
    if suffix == ".parquet":
        return parquet()
    if suffix in (".arrow", ".ipc", ".feather"):
        return arrow(pyarrow.ipc.new_file if suffix == ".arrow" else pyarrow.ipc.new_stream)
    cells = [["text", "label"], *([row["text"], row["label"]] for row in ROWS)]
    if suffix == ".xls":
        return workbooks.xls(cells)
    return workbooks.ods(cells) if suffix == ".ods" else workbooks.xlsx({"Sheet": cells})


def read(path, **options):
    return list(sources.read(str(path), **options))


def values(path, **options):
    rows = read(path, **options)
    assert not [row for row in rows if row.problem]
    return [row.values for row in rows]


KINDS = [suffix for suffix in sources.ENDINGS if suffix not in (".txt", ".text", ".xlsb")]
PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_of_file_gives_the_same_rows_however_it_is_packed(tmp_path, suffix, packing):
    if packing in (".bz2", ".xz") and suffix in (".xlsm", ".ods", ".tab", ".ndjson", ".feather"):
        pytest.skip("the same way as others")
    path = tmp_path / f"rows{suffix}{packing}"
    path.write_bytes(PACKERS[packing](written(suffix)))
    found = values(path)
    assert [{**row, "text": row["text"].replace("\r\n", "\n")} for row in found] == ROWS


@pytest.mark.parametrize(("suffix", "content"), [(".csv", "parquet"), (".json", "parquet"), (".parquet", "xlsx"), (".csv", "xlsx"),
                                                 (".xlsx", "parquet"), (".txt", "arrow")])
def test_a_file_is_read_as_what_it_is_not_as_it_is_called(tmp_path, suffix, content):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(written(f".{content}"))
    assert values(path) == ROWS


@pytest.mark.parametrize(("name", "content"), [("lines.json", written(".jsonl")), ("list.jsonl", written(".json")),
                                               ("list.csv", written(".json")), ("lines.csv", written(".jsonl")),
                                               ("object.json", json.dumps({"count": 4, "rows": ROWS, "by": {"x": "]"}}).encode()),
                                               ("indented.json", json.dumps(ROWS, indent=3).encode())])
def test_json_is_told_from_json_lines_by_its_content(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert values(tmp_path / name) == ROWS


def test_an_object_of_objects_gives_a_row_for_each_with_its_key(tmp_path):
    (tmp_path / "rows.json").write_text('{"7": {"text": "a", "contexts": ["x"]}, "9": {"text": "b"}}')
    assert values(tmp_path / "rows.json") == [{"key": "7", "text": "a", "contexts": ["x"]}, {"key": "9", "text": "b"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "gb18030", "gbk"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt"])
def test_chinese_text_is_read_in_the_encodings_it_is_kept_in(tmp_path, suffix, encoding):
    lines = ["我的银行卡丢了，应该怎么办？", "请问转账什么时候能够到账", "订单已经取消，退款还没有收到。"]
    text = {".csv": "text\n" + "\n".join(lines), ".txt": "\n".join(lines), ".json": json.dumps([{"text": line} for line in lines],
            ensure_ascii=False), ".jsonl": "\n".join(json.dumps({"text": line}, ensure_ascii=False) for line in lines)}[suffix]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(text.encode(encoding))
    notes = {}
    assert [row["text"] for row in values(path, notes=notes)] == lines
    reported = notes[str(path)].encoding
    assert reported.replace("-", "").startswith(encoding.removesuffix("-sig").replace("-", "").replace("gbk", "gb18030"))


@pytest.mark.parametrize(("word", "encoding"), [("挂失", "gb18030"), ("好", "gb18030"), ("订单", "gb18030"), ("Rückzahlung", "cp1252"),
                                                ("café", "cp1252"), ("5 €", "cp1252"), ("“yes”", "cp1252"), ("naïve", "latin-1")])
@pytest.mark.parametrize("count", [1, 30])
def test_one_word_beyond_ascii_is_enough_to_tell_the_encoding(tmp_path, word, encoding, count):
    (tmp_path / "rows.csv").write_bytes(("text,label\n" + f"my card is lost,{word}\n" * count).encode(encoding))
    assert values(tmp_path / "rows.csv") == [{"text": "my card is lost", "label": word}] * count


def test_chinese_utf_16_without_a_mark_and_without_ascii_is_told_by_its_line_feeds(tmp_path):
    lines = ["我的银行卡丢了应该怎么办", "请问转账什么时候能够到账", "一二三四五六七八九十"] * 5
    for encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "rows.txt").write_bytes("\n".join(lines).encode(encoding))
        assert [row["text"] for row in values(tmp_path / "rows.txt")] == lines


@pytest.mark.parametrize(("encoding", "lines"), [
    ("big5", ["我的銀行卡丟了，應該怎麼辦？", "請問轉賬什麼時候能夠到賬", "訂單已經取消，退款還沒有收到。"]),
    ("cp1252", ["Wo ist meine Karte? Ich hätte gern eine Rückzahlung.", "Das kostet 5 €, oder? “Natürlich”", "J'ai payé à l'hôtel déjà."]),
    ("latin-1", ["Où est ma carte ? Elle a été volée hier.", "El niño pagó mañana", "Größe und Gewicht"])])
def test_other_encodings_are_told_by_statistics(tmp_path, encoding, lines):
    (tmp_path / "rows.csv").write_bytes("\n".join(["text", *(f'"{line}"' for line in lines)]).encode(encoding))
    assert [row["text"] for row in values(tmp_path / "rows.csv")] == lines


def test_a_line_that_does_not_fit_the_files_encoding_is_reported_not_guessed(tmp_path):
    (tmp_path / "rows.csv").write_bytes("text\n好\n坏".encode() + b"\xff\n" + "也好\n".encode())
    rows = read(tmp_path / "rows.csv")
    assert [(row.number, row.values["text"]) for row in rows if not row.problem] == [(2, "好"), (4, "也好")]
    assert [(row.number, row.problem) for row in rows if row.problem] == [(3, "not UTF-8 text")]


def test_lines_of_a_table_are_counted_as_an_editor_shows_them(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b'text,label\nfirst,a\n"two\nlines",b\n\nonly one cell\nlast,d\n"never closed,e\nbehind it,f\n')
    rows = read(tmp_path / "rows.csv")
    assert [(row.number, row.values["text"]) for row in rows if not row.problem] == [
        (2, "first"), (3, "two\nlines"), (7, "last"), (9, "behind it")]
    assert {row.number: row.problem for row in rows if row.problem} == {
        6: "1 cells where the header has 2", 8: "a quotation mark that is never closed"}


def test_a_row_over_several_lines_is_rejected_as_one_where_one_of_them_is_broken(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b'text,label\nfirst,a\n"two\nli\0nes\nmore",b\nlast,d\n')
    rows = read(tmp_path / "rows.csv")
    assert [(row.number, row.problem) for row in rows] == [(2, ""), (3, "line 4: holds a NUL character"), (6, "")]


@pytest.mark.parametrize(("line", "problem"), [("x" * 2000, "longer than 1,000 bytes"), ('"' + "x" * 2000 + '"', "longer than 1,000 bytes"),
                                               ('"' + "x" * 2000 + '\nrest"', "longer than 1,000 bytes")])
def test_a_line_that_is_too_long_is_one_rejected_row_and_the_rows_behind_it_are_read(tmp_path, line, problem):
    (tmp_path / "rows.csv").write_text(f"text,label\nfirst,a\n{line},b\nlast,d\n")
    rows = read(tmp_path / "rows.csv", limits=Limits(value=1000))
    assert [(row.values.get("text"), row.problem) for row in rows if not row.problem] == [("first", ""), ("last", "")]
    assert [(row.number, row.problem) for row in rows if row.problem] == [(3, problem)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_tables_delimiter_is_told_by_its_header(tmp_path, delimiter):
    (tmp_path / "rows.csv").write_bytes(delimited(delimiter))
    assert values(tmp_path / "rows.csv") == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_known(tmp_path, end):
    (tmp_path / "rows.csv").write_bytes(end.join(["text,label", "a,b", "c,d", ""]).encode())
    assert [(row.number, row.values) for row in read(tmp_path / "rows.csv")] == [
        (2, {"text": "a", "label": "b"}), (3, {"text": "c", "label": "d"})]


def test_a_column_without_a_name_gets_one_and_two_of_the_same_are_refused(tmp_path):
    (tmp_path / "rows.csv").write_text(",text\n0,a\n")
    assert values(tmp_path / "rows.csv") == [{"column 1": "0", "text": "a"}]
    (tmp_path / "rows.csv").write_text("text,text\n0,a\n")
    with pytest.raises(LabError, match="rows.csv: line 1: the header names the column 'text' twice"):
        read(tmp_path / "rows.csv")


def test_formulas_stay_text_and_are_counted(tmp_path):
    cells = ["=1+1", "=HYPERLINK(\"x\")", "@SUM(A1)", "+cmd|' /C calc'!A0", "-3", "+49 170", "@home", "- item", "a=b"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": cell}) + "\n" for cell in cells))
    notes = {}
    assert [row["text"] for row in values(tmp_path / "rows.jsonl", notes=notes)] == cells
    assert notes[str(tmp_path / "rows.jsonl")].formulas == 4


def test_a_workbook_gives_every_sheet_with_cached_values_and_the_rows_of_the_spreadsheet(tmp_path):
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbooks.xlsx({"One": [[], ["text", "n"], ["a", 5], [], ["b", 0.5]], "空": [], "Two": [["x"], [("1+1", "=2")]]}))
    rows = read(path)
    assert [(row.file, row.number, row.values) for row in rows] == [
        (f"{path}#sheet=One", 3, {"text": "a", "n": 5}), (f"{path}#sheet=One", 5, {"text": "b", "n": 0.5}),
        (f"{path}#sheet=Two", 2, {"x": "=2"})]
    assert [row.values for row in read(f"{path}#sheet=Two")] == [{"x": "=2"}]
    with pytest.raises(LabError, match="has no sheet 'Three'; there are: One, 空, Two"):
        read(f"{path}#sheet=Three")


def test_text_gives_a_row_for_each_line_or_for_each_paragraph(tmp_path):
    (tmp_path / "notes.txt").write_text("one\ntwo\n\n三\n\n\nfour\n")
    assert [(row.number, row.values["text"]) for row in read(tmp_path / "notes.txt")] == [(1, "one"), (2, "two"), (4, "三"), (7, "four")]
    paragraphs = read(f"{tmp_path}/notes.txt#unit=paragraph")
    assert [(row.number, row.values["text"]) for row in paragraphs] == [(1, "one\ntwo"), (4, "三"), (7, "four")]
    with pytest.raises(LabError, match="no option unit=page"):
        read(f"{tmp_path}/notes.txt#unit=page")


def test_parquet_is_read_by_row_groups_and_keeps_nested_values(tmp_path):
    data = pyarrow.table({"text": [f"row {number}" for number in range(5000)], "parts": [[{"a": number}] for number in range(5000)]})
    pyarrow.parquet.write_table(data, tmp_path / "rows.parquet", row_group_size=700)
    rows = read(tmp_path / "rows.parquet")
    assert [row.number for row in rows] == list(range(1, 5001))
    assert rows[4999].values == {"text": "row 4999", "parts": [{"a": 4999}]}


def test_one_value_of_a_parquet_file_that_is_no_text_rejects_only_its_row(tmp_path):
    offsets = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0\6\0\0\0")
    column = pyarrow.Array.from_buffers(pyarrow.string(), 3, [None, offsets, pyarrow.py_buffer(b"ok\xff\xfeok")])
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "rows.parquet")
    assert [(row.number, row.problem) for row in read(tmp_path / "rows.parquet")] == [(1, ""), (2, "not UTF-8 text"), (3, "")]


OPENAI = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                       {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "My card?"},
                       {"role": "assistant", "content": "On its way."}]}
SHAREGPT = {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"},
                              {"from": "human", "value": "My card?"}, {"from": "gpt", "value": "On its way."}]}
ALPACA = {"instruction": "My card?", "input": "", "output": "On its way.", "system": "Be kind.", "history": [["Hi", "Hello"]]}


@pytest.mark.parametrize("row", [OPENAI, SHAREGPT, ALPACA, {"messages": json.dumps(OPENAI["messages"])}],
                         ids=["openai", "sharegpt", "alpaca", "openai as text"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_a_chat_is_found_by_its_keys(tmp_path, row, suffix):
    path = tmp_path / f"chats{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row] if suffix == ".json" else row))
    (found,) = values(path)
    assert found["chat"] == OPENAI["messages"][1:4]
    assert found["chat.reply"] == "On its way." and found["chat.system"] == "Be kind."
    assert {key: found[key] for key in row} == row


@pytest.mark.parametrize(("messages", "says"), [
    ([{"role": "tool", "content": "x"}], "message 1 is of 'tool'"), ([{"role": "assistant", "content": "x"}], "no message of the user"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "something other than text"),
    ([{"role": "user", "content": None}], "message 1 has no text"), ([{"role": "user", "content": "x"}, "y"], "message 2 has no role")])
def test_a_chat_that_cannot_be_kept_says_why(tmp_path, messages, says):
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": messages}))
    (row,) = read(tmp_path / "chats.jsonl")
    assert says in row.problem


def test_a_column_that_is_only_called_messages_is_no_chat(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"messages": 5, "text": "a"}\n{"messages": ["x"], "text": "b"}\n')
    assert [set(row) for row in values(tmp_path / "rows.jsonl")] == [{"messages", "text"}] * 2


@pytest.fixture()
def database(tmp_path):
    import sqlite3

    path = tmp_path / "lab.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE messages (text TEXT, kind TEXT)")
        connection.executemany("INSERT INTO messages VALUES (?, ?)", [(f"第{number}条", "a") for number in range(1000)])
    connection.close()
    return f"sqlite:///{path}"


def test_a_table_and_a_query_are_read_from_a_database(database):
    assert [row.values for row in read(f"{database}#table=messages")] == [{"text": f"第{number}条", "kind": "a"} for number in range(1000)]
    query = "SELECT text AS t FROM messages WHERE text LIKE '%99%' ORDER BY text LIMIT 2"
    assert [row.values for row in read(f"{database}#query={query}")] == [{"t": "第199条"}, {"t": "第299条"}]


@pytest.mark.parametrize(("query", "fits"), [
    ("SELECT 1", True), (" select a from b; ", True), ("WITH x AS (SELECT 1) SELECT * FROM x", True), ("(SELECT 1) UNION (SELECT 2)", True),
    ("SELECT 'drop table; insert' AS x -- delete\n FROM \"update\"", True), ("SELECT created, updated FROM t", True),
    ("DELETE FROM messages", False), ("SELECT 1; DROP TABLE messages", False),
    ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", False),
    ("SELECT * INTO other FROM messages", False), ("PRAGMA query_only = OFF", False), ("", False), ("/* SELECT */ DROP TABLE t", False),
    ("EXPLAIN SELECT 1", False), ("SELECT 1 /* ' */ ; DELETE FROM t -- '", False)])
def test_only_a_select_is_run(query, fits):
    if fits:
        assert databases.check_select(query) in query
    else:
        with pytest.raises(LabError):
            databases.check_select(query)


def test_a_password_is_never_shown():
    assert databases.shown("postgresql://me:secret@host/db#table=t") == "postgresql://me:***@host/db#table=t"
    assert "secret" not in databases.shown("weird//:://me:secret@host")


def test_the_hub_is_asked_only_where_there_is_a_network():
    with pytest.raises(LabError, match="hub:owner/name: the hub is asked only with LABKIT_ONLINE=1"):
        read("hub:owner/name")
    with pytest.raises(LabError, match="not of the form hub:OWNER/NAME"):
        read("hub:a b")

"""Files of all kinds as rows with their line; broken rows are reported, broken files refused."""

import json

import pytest

from labkit.data import tables
from labkit.errors import LabError

ROWS = [{"text": "one, \"two\"", "label": "a"}, {"text": "three\nlines", "label": "b"}, {"text": "四", "label": "c"}]


def write(path, rows):
    import csv

    import pandas

    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "label"], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pandas.DataFrame(rows).to_parquet(path)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    write(path, ROWS)
    assert [row.values for row in tables.read(path)] == ROWS


def test_lines_are_counted_as_an_editor_shows_them(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\nfirst,a\n\"two\nlines\",b\nbad \xff,c\nonly one cell\nlast,d\n")
    rows = list(tables.read(path))
    assert [(row.line, row.values.get("text")) for row in rows if not row.problem] == [(2, "first"), (3, "two\nlines"), (7, "last")]
    problems = {row.line: row.problem for row in rows if row.problem}
    assert problems == {5: "not UTF-8 text", 6: "1 cells where the header has 2"}


def test_broken_jsonl_rows_are_reported_and_the_others_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\nnot json\n[1]\n\n{"a": "\xff"}\n{"a": 2}\n')
    rows = list(tables.read(path))
    assert [row.values for row in rows if not row.problem] == [{"a": 1}, {"a": 2}]
    assert [row.line for row in rows if row.problem] == [2, 3, 5]


@pytest.mark.parametrize(("name", "content", "says"), [
    ("a.csv", b"", "is empty"), ("a.json", b"{", "not valid JSON"), ("a.json", b'"x"', "list of objects"),
    ("a.parquet", b"PAR1 nonsense", "not valid Parquet"), ("a.doc", b"x", "cannot read .doc"), ("a.csv", b"a,a\n1,2\n", "repeated column"),
])
def test_a_broken_file_is_refused_by_name(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=says):
        list(tables.read(tmp_path / name))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(LabError, match="does not exist"):
        list(tables.read(tmp_path / "a.csv"))
    with pytest.raises(LabError, match="is a folder"):
        list(tables.read(tmp_path))

"""What a name stands for: files, folders, patterns, databases; nothing that lies in a folder is passed over in silence."""

import os

import pytest

from labkit.data import sources
from labkit.errors import LabError


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """A folder `data` with files at two depths, seen from its parent."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/b.csv", "data/a.csv", "data/deep/中文.csv", "data/deep/c.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "c"}\n' if name.endswith("jsonl") else f"text\n{name}\n", encoding="utf-8")
    return tmp_path / "data"


def names(*given):
    return [source.name for source in sources.expand(list(given))]


def test_a_folder_stands_for_all_its_files_in_order(folder):
    assert names("data") == ["data/a.csv", "data/b.csv", "data/deep/c.jsonl", "data/deep/中文.csv"]
    assert [source.title for source in sources.expand(["data"])] == ["a.csv", "b.csv", "deep/c.jsonl", "deep/中文.csv"]
    assert [row.values["text"] for row in sources.read("data")] == ["data/a.csv", "data/b.csv", "c", "data/deep/中文.csv"]


@pytest.mark.parametrize(("pattern", "found"), [
    ("data/*.csv", ["data/a.csv", "data/b.csv"]), ("data/**/*.csv", ["data/a.csv", "data/b.csv", "data/deep/中文.csv"]),
    ("data/[b-z].csv", ["data/b.csv"]), ("data/d*", ["data/deep/c.jsonl", "data/deep/中文.csv"])])
def test_a_pattern_stands_for_what_fits_it(folder, pattern, found):
    assert names(pattern) == found


def test_a_file_that_is_called_like_a_pattern_is_that_file(folder):
    (folder / "a[1].csv").write_text("text\nx\n")
    (folder / "b#1.csv").write_text("text\nx\n")
    assert names("data/a[1].csv", "data/b#1.csv") == ["data/a[1].csv", "data/b#1.csv"]


def test_a_file_that_is_named_twice_is_read_once(folder):
    assert names("data/a.csv", "data/*.csv", str(folder / "a.csv")) == ["data/a.csv", "data/b.csv"]


def test_what_cannot_be_read_in_a_folder_is_a_row_that_says_so(folder):
    (folder / "notes.doc").write_text("x")
    (folder / "empty.csv").write_text("")
    os.symlink("/etc/hostname", folder / "out.csv")
    os.symlink("a.csv", folder / "same.csv")
    problems = {row.file: (row.number, row.problem) for row in sources.read("data") if row.problem}
    assert problems["data/empty.csv"] == (0, "is empty")
    assert problems["data/out.csv"] == (0, "is a link that leaves the folder; it is not followed")
    assert problems["data/notes.doc"][1].startswith("its ending .doc is not known; use .csv, .tsv")
    assert [row.values["text"] for row in sources.read("data/same.csv")] == ["data/a.csv"] and len(problems) == 3


def test_a_source_that_breaks_off_says_so_in_its_last_row_and_the_next_one_is_read(folder):
    (folder / "ab.json").write_text('[{"text": "one"}, {"text": "two"')
    rows = list(sources.read("data"))
    assert [(row.file, row.values.get("text")) for row in rows] == [
        ("data/a.csv", "data/a.csv"), ("data/ab.json", "one"), ("data/ab.json", None), ("data/b.csv", "data/b.csv"),
        ("data/deep/c.jsonl", "c"), ("data/deep/中文.csv", "data/deep/中文.csv")]
    assert rows[2].number == 1 and "entry 2: not valid JSON, or cut off" in rows[2].problem


def test_notes_say_how_each_file_was_read(folder):
    (folder / "semicolons.csv").write_bytes("text;x\n好的，没有问题;=1+1\n".encode("gb18030"))
    notes = {}
    list(sources.read("data", notes=notes))
    found = notes["data/semicolons.csv"]
    assert (found.kind, found.encoding, found.delimiter, found.formulas, found.bytes_read) == ("csv", "gb18030", ";", 1, found.size)


@pytest.mark.parametrize(("name", "says"), [
    ("nowhere.csv", "nowhere.csv: does not exist"), ("no_*.csv", "no file fits"), ("", "the name of a source is empty"),
    ("https://example.org/x.csv", "download it"), ("sqlite:///x.db", "name a table or a query"),
    ("sqlite:///x.db#table=t", "x.db does not exist")])
def test_a_name_that_stands_for_nothing_is_refused(folder, name, says):
    with pytest.raises(LabError, match=says.replace("*", ".")):
        list(sources.read(name))

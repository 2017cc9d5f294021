"""Records that a killed server left with the wrong status, by a database with the server's tables and column names."""

import contextlib
import sqlite3

import pytest

from labkit.labeling.argilla_side import database


@pytest.fixture
def path(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "argilla.sqlite")) as made, made:
        made.executescript("""
            CREATE TABLE datasets (id TEXT, distribution TEXT);
            CREATE TABLE records (id TEXT, dataset_id TEXT, status TEXT, updated_at TEXT);
            CREATE TABLE responses (record_id TEXT, status TEXT);
            INSERT INTO datasets VALUES ('one', '{"strategy": "overlap", "min_submitted": 1}'),
                                        ('two', '{"strategy": "overlap", "min_submitted": 2}');""")
    return tmp_path / "argilla.sqlite"


def add(path, record, dataset, status, *responses):
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("INSERT INTO records VALUES (?, ?, ?, '2020-01-01 00:00:00.000000')", (record, dataset, status))
        opened.executemany("INSERT INTO responses VALUES (?, ?)", [(record, each) for each in responses])


def rows(path):
    with contextlib.closing(sqlite3.connect(path)) as opened:
        found = opened.execute("SELECT id, status, updated_at > '2020-02' FROM records").fetchall()
    return {record: (status, bool(changed)) for record, status, changed in found}


def test_only_records_whose_status_disagrees_with_their_submitted_responses_change(path):
    add(path, "answered", "one", "pending", "submitted")
    add(path, "answered and known", "one", "completed", "submitted", "submitted")
    add(path, "drafted", "one", "pending", "draft", "discarded")
    add(path, "untouched", "one", "pending")
    add(path, "half", "two", "completed", "submitted", "draft")  # as when `min_submitted` was raised
    add(path, "full", "two", "pending", "submitted", "submitted")
    assert database.settle(path) == 3
    assert rows(path) == {"answered": ("completed", True), "answered and known": ("completed", False), "drafted": ("pending", False),
                          "untouched": ("pending", False), "half": ("pending", True), "full": ("completed", True)}
    assert database.settle(path) == 0


def test_what_no_status_can_be_reckoned_from_stays(path):
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("INSERT INTO datasets VALUES ('later', '{\"strategy\": \"another\"}')")
    add(path, "a", "later", "completed")
    assert database.settle(path) == 0

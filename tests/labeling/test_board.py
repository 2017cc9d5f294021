"""The notebook's board over a real Argilla server."""

import pytest

from labkit import records
from labkit.errors import LabError
from labkit.labeling import accounts, sync
from labkit.widgets.labeling_board import Board
from labkit.widgets.labeling_sources import ServerSource


@pytest.fixture
def server(argilla_server):
    with sync.connect(argilla_server.url, argilla_server.owner_key) as opened:
        yield opened


def answer(argilla_server, server, dataset, name, values):
    """Answer the first records as this annotator, through the server's API: one record for each of `values`."""
    found = next(each for each in server.get("me/datasets")["items"] if each["name"] == dataset)
    rows = server.get(f"datasets/{found['id']}/records", limit=len(values))["items"]
    key = next(each.api_key for each in accounts.everybody(argilla_server.url, argilla_server.owner_key) if each.username == name)
    with sync.connect(argilla_server.url, key) as own:
        for row, value in zip(rows, values, strict=True):
            own.post(f"records/{row['id']}/responses", {"status": "submitted", "values": {"kind": {"value": value}}})


def test_the_board_pushes_watches_and_pulls(argilla_server, server, small_scenario, small_records):
    source = ServerSource(small_records, small_scenario, server, dataset="board", vectors=False)
    board = Board(source, small_scenario, records=small_records, language="zh")
    assert "没有数据集" in board.message.value and board.body.value == ""
    board.push_button.click()
    assert "新增 12 条" in board.message.value and "12 条记录中 0 条已完成" in board.body.value
    answer(argilla_server, server, "board", "ana", ["pear", "pear", "apple"])
    answer(argilla_server, server, "board", "晨", ["pear", "apple"])
    board.refresh_button.click()
    assert "12 条记录中 3 条已完成" in board.body.value and "晨" in board.body.value and board.estimates == {}
    board.pull_button.click()
    assert board.estimates["kind"]["percent"].value == 0.5 and board.estimates["kind"]["percent"].records == 2
    assert len(source.pulled.records) == 12 and records.fingerprint(source.pulled.records) == records.fingerprint(small_records)


def test_what_was_pulled_another_day_is_there_at_once(argilla_server, server, small_scenario, small_records):
    source = ServerSource(small_records, small_scenario, server, dataset="board_again", vectors=False)
    source.push()
    answer(argilla_server, server, "board_again", "bo", ["pear"])
    source.pull()
    again = Board(ServerSource(small_records, small_scenario, server, dataset="board_again"), small_scenario)
    assert again.message.value == "" and [(each.annotator, each.value) for each in again.source.annotations()] == [("bo", "pear")]


def test_a_server_that_went_away_is_said(small_scenario, small_records, monkeypatch, tmp_path):
    monkeypatch.delenv("ARGILLA_API_URL", raising=False)
    source = ServerSource(small_records, small_scenario)
    with pytest.raises(LabError):
        source.progress()
    assert "labkit label up" in Board(source, small_scenario).message.value

"""Records: written and read again, checked with file and line."""

import json

import pytest

from labkit import records
from labkit.errors import LabError


def test_records_written_and_read_again_are_equal(small_records, small_scenario, tmp_path):
    records.write(small_records, tmp_path / "r.jsonl")
    again = records.read(tmp_path / "r.jsonl", small_scenario)
    assert again.to_list() == small_records.to_list()
    assert records.fingerprint(again) == records.fingerprint(small_records)


def test_the_id_depends_on_content_and_not_on_source(small_records):
    row = small_records[0]
    again = records.make("small", row["language"], row["messages"], row["answer"], source="elsewhere", license="x", split="test")
    other = records.make("small", row["language"], row["messages"], {**row["answer"], "kind": "pear"}, source="test", license="x")
    assert again["id"] == row["id"] != other["id"]


def test_the_fingerprint_changes_with_the_split(small_records):
    moved = records.from_list([{**row, "split": "test"} for row in small_records])
    assert records.fingerprint(moved) != records.fingerprint(small_records)


@pytest.mark.parametrize(("change", "says"), [
    ({"language": "fr"}, "language"), ({"split": "dev"}, "split"), ({"messages": []}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "role"), ({"answer": {"kind": "banana"}}, "banana"),
    ({"messages": [{"role": "user", "content": "  "}]}, "empty"), ({"extra": 1}, "extra"),
])
def test_a_wrong_row_is_named_by_file_and_line(small_records, small_scenario, tmp_path, change, says):
    rows = [dict(row) for row in small_records]
    rows[2] |= change
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(LabError, match=f"r.jsonl, line 3: .*{says}"):
        records.read(path, small_scenario)


def test_a_file_without_records_is_an_error(small_scenario, tmp_path):
    (tmp_path / "r.jsonl").write_text("\n")
    with pytest.raises(LabError, match="no records"):
        records.read(tmp_path / "r.jsonl", small_scenario)


def test_the_prompt_begins_with_the_system_prompt_in_the_records_language(small_records, small_scenario):
    prompt = records.prompt(small_records[1], small_scenario)
    assert prompt[0] == {"role": "system", "content": small_scenario.system_prompt("zh")}
    assert prompt[1:] == small_records[1]["messages"]

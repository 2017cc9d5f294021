"""Files are whole or not there."""

import errno
import hashlib

import pytest

from labkit import files
from labkit.errors import LabError


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.whole(path) as part:
        part.write_text("half")
        raise RuntimeError("killed")
    assert files.read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_a_clear_error(tmp_path):
    with pytest.raises(LabError, match="cannot write .*No space left.*free some space"), files.whole(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "a").write_bytes(b"labkit" * 100_000)
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(b"labkit" * 100_000).hexdigest()


def test_json_that_is_broken_or_missing_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(LabError, match="a.json is not valid JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(LabError, match="b.json does not exist"):
        files.read_json(tmp_path / "b.json")


def test_canonical_json_is_the_same_for_equal_values():
    assert files.canonical_json({"b": 1, "a": "é"}) == files.canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'

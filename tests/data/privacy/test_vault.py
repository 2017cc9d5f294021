"""The way back, encrypted."""

import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data.privacy import vault
from labkit.errors import LabError

PHRASE = "correct horse battery"
ROWS = [("email", "maria@bank.com", "[EMAIL]"), ("name", "王海燕", "[姓名]")]


@pytest.fixture()
def path(tmp_path):
    path = tmp_path / "vault"
    with vault.writing(path, PHRASE) as writer:
        writer.add("r1", ROWS)
        writer.add("r2", ROWS[:1])
    return path


def test_what_was_written_is_read_back(path):
    entries = list(vault.read(path, PHRASE))
    assert [(each["record"], each["kind"], each["text"], each["replacement"]) for each in entries] == [
        ("r1", *ROWS[0]), ("r1", *ROWS[1]), ("r2", *ROWS[0])]


def test_nothing_can_be_read_from_the_file_itself(path):
    content = path.read_bytes()
    assert b"maria" not in content and "王".encode() not in content and b"email" not in content


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_only_the_owner_may_read_it(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_wrong_passphrase_is_an_error(path):
    with pytest.raises(LabError, match="the passphrase is wrong, or the file is damaged"):
        list(vault.read(path, "wrong passphrase"))


def test_a_short_passphrase_is_refused(tmp_path):
    with pytest.raises(LabError, match="has 3 characters; use at least 8"), vault.writing(tmp_path / "vault", "abc"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_or_changed_anywhere_is_an_error(path):
    whole = path.read_bytes()
    for size in (0, 10, 31, 40, len(whole) - 1, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises(LabError):
            list(vault.read(path, PHRASE))
    for place in (0, 20, 33, 36, 60, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        with pytest.raises(LabError):
            list(vault.read(path, PHRASE))
    path.write_bytes(whole + b"x")
    with pytest.raises(LabError):
        list(vault.read(path, PHRASE))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(LabError, match="does not exist"):
        list(vault.read(tmp_path / "none", PHRASE))


def test_a_block_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), vault.writing(tmp_path / "vault", PHRASE) as writer:
        writer.add("r1", ROWS)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=40), st.text(max_size=10)), max_size=8), st.integers(1, 40))
def test_many_frames_are_read_back_in_their_order(tmp_path_factory, rows, times):
    path = tmp_path_factory.mktemp("vault") / "vault"
    frame, vault._FRAME = vault._FRAME, 100
    try:
        with vault.writing(path, PHRASE) as writer:
            for number in range(times):
                writer.add(str(number), rows)
    finally:
        vault._FRAME = frame
    read = [(int(each["record"]), each["text"]) for each in vault.read(path, PHRASE)]
    assert read == [(number, row[1]) for number in range(times) for row in rows]

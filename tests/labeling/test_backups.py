"""A backup taken while people label, and put back."""

import contextlib
import json
import sqlite3
import stat
import threading
import zipfile

import pytest

from labkit.errors import LabError
from labkit.labeling import accounts, backups, server
from tests.labeling.asking import found, log_in, make_dataset, respond, who_is, with_status


@pytest.fixture
def data(tmp_path):
    """A folder with a database as the server leaves it, WAL and all, but made by hand: three users."""
    folder = tmp_path / "data"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / server.DATABASE)) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('580a6553186f')")
        for table in ("users", "workspaces", "datasets", "records", "responses", "suggestions"):
            database.execute(f"CREATE TABLE {table} (id INTEGER)")
        database.execute("INSERT INTO users VALUES (1), (2), (3)")
    return folder


def users(folder):
    with contextlib.closing(sqlite3.connect(folder / server.DATABASE)) as database:
        return database.execute("SELECT count(*) FROM users").fetchone()[0]


def test_a_backup_says_what_is_in_it_and_is_for_its_owner_alone(data, tmp_path):
    manifest = backups.backup(tmp_path / "a.zip", data)
    assert manifest["rows"] == {"users": 3, "workspaces": 0, "datasets": 0, "records": 0, "responses": 0, "suggestions": 0}
    assert manifest["revision"] == "580a6553186f" and manifest["server"] == "2.8.0"
    assert stat.S_IMODE((tmp_path / "a.zip").stat().st_mode) == 0o600
    assert set(zipfile.ZipFile(tmp_path / "a.zip").namelist()) == {server.DATABASE, "manifest.json"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_backup_takes_what_is_only_in_the_write_ahead_log(data, tmp_path):
    with contextlib.closing(sqlite3.connect(data / server.DATABASE)) as writer:
        writer.execute("INSERT INTO users VALUES (4)")
        writer.commit()
        writer.execute("INSERT INTO users VALUES (5)")  # and not what nobody was told is there
        assert backups.backup(tmp_path / "a.zip", data)["rows"]["users"] == 4
        writer.rollback()


def test_a_restored_folder_holds_the_same(data, tmp_path):
    backups.backup(tmp_path / "a.zip", data)
    backups.restore(tmp_path / "a.zip", tmp_path / "new")
    assert users(tmp_path / "new") == 3
    assert stat.S_IMODE((tmp_path / "new" / server.DATABASE).stat().st_mode) == 0o600


def test_what_is_there_already_is_moved_aside_only_when_that_was_asked_for(data, tmp_path):
    backups.backup(tmp_path / "a.zip", data)
    (data / server.CREDENTIALS).write_text("{}")
    (data / "notes of mine.txt").write_text("stay")
    with contextlib.closing(sqlite3.connect(data / server.DATABASE)) as database, database:
        database.execute("DELETE FROM users")
    with pytest.raises(LabError, match="has data already"):
        backups.restore(tmp_path / "a.zip", data)
    assert users(data) == 0
    backups.restore(tmp_path / "a.zip", data, replace=True)
    assert users(data) == 3 and not (data / server.CREDENTIALS).exists() and (data / "notes of mine.txt").exists()
    aside, = data.glob("replaced-*")
    assert users(aside) == 0 and (aside / server.CREDENTIALS).exists()


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5])  # of its length: in the packed database
def test_a_damaged_archive_is_refused_and_nothing_changes(data, tmp_path, at):
    backups.backup(tmp_path / "a.zip", data)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[int(len(content) * at)] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(LabError, match="damaged"):
        backups.restore(tmp_path / "a.zip", data, replace=True)
    assert users(data) == 3 and list(data.glob("replaced-*")) == []


def test_an_archive_whose_database_was_exchanged_is_refused(data, tmp_path):
    backups.backup(tmp_path / "a.zip", data)
    manifest = zipfile.ZipFile(tmp_path / "a.zip").read("manifest.json")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as other:
        other.writestr(server.DATABASE, b"something else")
        other.writestr("manifest.json", manifest)
    with pytest.raises(LabError, match="not what was packed"):
        backups.restore(tmp_path / "b.zip", tmp_path / "new")


@pytest.mark.parametrize("names", [["../outside"], ["/etc/passwd", server.DATABASE], []])
def test_an_archive_with_other_files_in_it_is_refused(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        archive.writestr("manifest.json", json.dumps({"kind": "labkit argilla backup", "files": dict.fromkeys(names, "0" * 64)}))
    with pytest.raises(LabError, match="no backup"):
        backups.restore(tmp_path / "a.zip", tmp_path / "new")


def test_what_is_no_archive_or_not_there_is_one_line(tmp_path):
    (tmp_path / "a.zip").write_text("no zip file")
    with pytest.raises(LabError, match="no backup"):
        backups.restore(tmp_path / "a.zip", tmp_path / "new")
    with pytest.raises(LabError, match="does not exist"):
        backups.restore(tmp_path / "none.zip", tmp_path / "new")
    with pytest.raises(LabError, match="nothing to back up"):
        backups.backup(tmp_path / "b.zip", tmp_path / "none")


def test_no_backup_is_written_over_another(data, tmp_path):
    (tmp_path / "a.zip").write_text("another")
    with pytest.raises(LabError, match="exists already"):
        backups.backup(tmp_path / "a.zip", data)


def test_a_damaged_database_is_not_taken_for_a_backup(data, tmp_path):
    path = data / server.DATABASE
    content = bytearray(path.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    path.write_bytes(content)
    with pytest.raises(LabError, match="damaged|cannot be copied"):
        backups.backup(tmp_path / "a.zip", data)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.slow
def test_what_was_acknowledged_before_a_backup_of_a_busy_server_is_there_after_it_was_restored(own_server, tmp_path):
    busy = own_server("busy", annotators=("ana",))
    ana = busy.accounts[1]
    dataset, records = make_dataset(busy.url, busy.owner_key, "busy", [f"梨 {number}" for number in range(200)])
    acknowledged, enough = [], threading.Event()

    def answer():
        for record in records:
            respond(busy.url, ana.api_key, record, "pear")
            acknowledged.append(record)
            if len(acknowledged) == 20:
                enough.set()

    person = threading.Thread(target=answer)
    person.start()
    enough.wait(60)
    before = len(acknowledged)
    manifest = backups.backup(tmp_path / "busy.zip", busy.folder)
    after = len(acknowledged)
    person.join()
    assert before <= manifest["rows"]["responses"] <= after + 1
    with pytest.raises(LabError, match="end it first"):
        backups.restore(tmp_path / "busy.zip", busy.folder, replace=True)

    backups.restore(tmp_path / "busy.zip", tmp_path / "restored")
    restored = own_server("restored")
    assert restored.owner_key == busy.owner_key and restored.accounts == ()
    assert who_is(restored.url, log_in(restored.url, "ana", ana.password)) == "ana"
    answers = manifest["rows"]["responses"]
    assert found(restored.url, ana.api_key, dataset, "梨", with_status("submitted")) == answers
    assert accounts.call(restored.url, restored.owner_key, "GET", f"datasets/{dataset}/progress")["completed"] == answers

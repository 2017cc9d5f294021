"""The side database is disposable, and the index survives whatever happens to it, to the process and to single records."""

import json
import sqlite3

import pytest

from tests.labeling.search.database import found

from argilla_side.search import changes  # isort: skip


def test_after_a_restart_only_what_changed_is_indexed(server, shop, opened, monkeypatch):
    from argilla_side.search.store import Store

    old = [server.record(shop, f"old {number}") for number in range(5)]
    index = opened()
    index.close()
    new = server.record(shop, "new")
    server.change("records", old[0], fields='{"text": "changed"}')
    server.delete("records", old[1])
    worked_in = []
    index_records = Store.index
    monkeypatch.setattr(Store, "index", lambda store, records: index_records(store, worked_in.extend(records) or worked_in[-len(records):]))
    index = opened()
    assert sorted(worked_in) == sorted([new, old[0], old[1]])
    assert found(index, shop) == [old[0], *old[2:], new] and found(index, shop, "changed | new") == [old[0], new]


@pytest.mark.parametrize("harm", ["missing", "empty", "no database", "torn", "another version", "another log"])
def test_a_side_database_that_cannot_be_used_is_made_again(server, shop, opened, tmp_path, harm):
    records = [server.record(shop, f"card {number} " + "x" * 2000) for number in range(40)]
    index = opened()
    if harm == "another version":
        index.store.keep("version", "0")
    if harm == "another log":
        index.store.keep("log", "0")
    index.close()
    side = tmp_path / "argilla.search.sqlite"
    if harm == "missing":
        side.unlink()
    elif harm == "empty":
        side.write_bytes(b"")
    elif harm == "no database":
        side.write_bytes(b"no database at all" * 500)
    elif harm == "torn":
        content = bytearray(side.read_bytes())
        content[8192:] = b"\xab" * (len(content) - 8192)
        side.write_bytes(bytes(content))
    index = opened()
    assert sorted(index.ask(found, shop, "card")) == sorted(records)


def test_damage_that_shows_while_answering_is_repaired(server, shop, opened):
    record = server.record(shop, "card")
    index = opened()
    index.store.connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)")
    content = bytearray(index.side.read_bytes())
    content[4096:] = b"\xab" * (len(content) - 4096)
    index.side.write_bytes(content)
    index.store.connection.execute("PRAGMA shrink_memory")  # so that the file is read again
    assert index.ask(found, shop, "card") == [record]


def test_an_earlier_copy_of_the_servers_database_is_noticed(server, shop, opened, tmp_path):
    kept = server.record(shop, "kept")
    index = opened()
    index.close()
    with sqlite3.connect(tmp_path / "backup.sqlite") as backup:
        server.connection.backup(backup)
    server.record(shop, "card lost later")
    opened().close()
    server.connection.close()
    for name in ("argilla.sqlite-wal", "argilla.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "backup.sqlite").replace(server.path)
    index = opened()
    assert found(index, shop) == [kept] and found(index, shop, "later") == []


def test_tables_that_a_migration_made_anew_are_watched_again(server, shop, opened):
    server.record(shop, "card")
    index = opened()
    server.connection.execute("DROP TRIGGER labkit_records_insert")
    record = server.record(shop, "unseen")
    assert found(index, shop, "unseen") == [record]


def test_changes_that_are_worked_in_are_forgotten(server, shop, opened, monkeypatch):
    from argilla_side.search import upkeep as module

    monkeypatch.setattr(module, "NOTED", 10)
    index = opened()
    for number in range(30):
        server.record(shop, f"card {number}", suggestions={"kind": "refund"})
        index.catch_up()
    assert server.connection.execute(f"SELECT count(*) FROM {changes.LOG}").fetchone()[0] < 60
    assert len(found(opened(), shop, "card")) == 30


def test_two_processes_do_not_disturb_each_other(server, shop, opened, tmp_path):
    from argilla_side.search.index import Index

    index = opened()
    other = Index(server.path, tmp_path / "argilla.search.sqlite")
    try:
        for number in range(6):
            record = server.record(shop, f"word{number}")
            for each in ((index, other) if number % 2 else (other, index)):
                assert found(each, shop, f"word{number}") == [record]
        other.index_dataset(shop)
        server.delete("records", record)
        assert found(index, shop) == found(other, shop) and len(found(index, shop)) == 5
    finally:
        other.close()


def test_a_whole_index_is_made_in_the_order_of_the_records(server, opened, monkeypatch):
    from argilla_side.search import upkeep as module

    monkeypatch.setattr(module, "BATCH", 7)
    dataset = server.dataset()
    records = [server.record(dataset, f"card {number}") for number in range(30)]
    assert found(opened(), dataset) == records
    index = opened()
    index.index_dataset(dataset)
    assert found(index, dataset) == records


def test_records_can_be_taken_out_and_put_back(server, shop, opened):
    records = [server.record(shop, f"card {number}") for number in range(3)]
    index = opened()
    index.remove(shop, records[:1])
    assert found(index, shop, "card") == records[1:]
    index.add(records)
    assert sorted(found(index, shop, "card")) == sorted(records)


def test_indexing_that_was_cut_short_is_done_again(server, opened, monkeypatch):
    from argilla_side.search import upkeep as module
    from argilla_side.search.store import Store

    monkeypatch.setattr(module, "BATCH", 7)
    dataset = server.dataset()
    records = [server.record(dataset, f"card {number}") for number in range(30)]
    index = opened()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        left, index_records = [1, 2], Store.index
        patched.setattr(Store, "index", lambda store, some: index_records(store, some) if left and left.pop() else cut_short())
        index.index_dataset(dataset)
    assert found(opened(), dataset, "card") == records


def cut_short():
    raise KeyboardInterrupt


def test_a_failure_half_way_leaves_nothing_half_known(server, shop, opened, monkeypatch):
    from argilla_side.search.mirror import Mirror

    index = opened()
    assert found(index, shop) == []
    record = server.record(shop, "card")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Mirror, "refresh", lambda *arguments: cut_short())
        index.catch_up()
    assert found(index, shop, "card") == [record]


@pytest.mark.parametrize("text", ["card \ud83d", "card \u0000 end", "card \ue000", "card " + "x" * 100_000, "card 😀", "card \u202e", ""])
def test_no_text_keeps_the_others_from_being_found(server, shop, opened, text):
    index = opened()
    strange = server.put("records", fields=json.dumps({"text": text}), metadata='{"age": ' + "9" * 400 + ', "weight": NaN}',
                         status="pending", dataset_id=shop, inserted_at=server.now(), updated_at=server.now())
    record = server.record(shop, "card")
    assert sorted(found(index, shop, "card")) == sorted([record, *([strange] if text else [])])


def test_an_emoji_is_a_word(server, shop, opened):
    record = server.record(shop, "late😀again")
    assert found(opened(), shop, "😀") == found(opened(), shop, "late again") == [record]

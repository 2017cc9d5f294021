"""The index is disposable: whatever happens to it or to the server, the answers afterwards are those of the records."""

import sqlite3
from contextlib import closing

import pytest

from tests.labeling.contract import corpus
from tests.labeling.contract.asking import Asked
from tests.labeling.contract.serving import Served
from tests.labeling.contract.test_changes import add, agrees, remove

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(argilla_python, tmp_path_factory):
    each = Served(tmp_path_factory.mktemp("restart"))
    each.start()
    yield each
    each.stop()


@pytest.fixture(scope="module")
def kept(served):
    """A data set on a server that this module may stop, kill and start."""
    return Asked(served.url, served.owner_key, "kept", corpus.make(60, seed=5))


def index_files(served):
    """The side database and what belongs to it."""
    found = sorted(served.folder.glob("argilla.search.sqlite*"))
    assert found, "the side database is not where the suite looks for it"
    return found


def test_after_a_restart_the_answers_are_the_same(served, kept):
    served.stop()
    served.start()
    agrees(kept)


def test_an_index_that_was_removed_is_made_again(served, kept):
    served.stop()
    for path in index_files(served):
        path.unlink()
    served.start()
    agrees(kept)


@pytest.mark.parametrize("part", ["whole", "middle"])
def test_a_damaged_index_is_made_again(served, kept, part):
    served.stop()
    path = served.folder / "argilla.search.sqlite"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0 if part == "whole" else 8192)
        file.write(b"?" * (size if part == "whole" else size - 12288))
    served.start()
    agrees(kept)


def test_an_index_from_before_some_changes_catches_up(served, kept):
    served.stop()
    before = {path: path.read_bytes() for path in index_files(served)}
    served.start()
    kept.items[0].fields = {"text": "zebra refund 退款"}
    kept.items[1].vectors = {**kept.items[1].vectors, "small": [0.5, -0.5, 0.1, 0.7]}
    kept.log(kept.items[:2])
    remove(kept, kept.items[2])
    add(kept, corpus.Item("late", {"text": "a late zebra"}, {"topic": "card"}, {}, {}, {"small": [0.1, 0.1, 0.1, 0.1]}))
    agrees(kept)
    served.stop()
    for path in index_files(served):
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    served.start()
    agrees(kept)


def test_a_killed_server_has_what_it_acknowledged(served, kept):
    add(kept, corpus.Item("killed", {"text": "zebra 退款"}, {"topic": "card"}, {}, {}, {"small": [0.2, 0.1, 0.4, 0.1]}))
    served.kill()
    served.start()
    agrees(kept)


def test_the_files_are_sound_afterwards(served):
    for name in ("argilla.sqlite", "argilla.search.sqlite"):
        with closing(sqlite3.connect(f"file:{served.folder / name}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

"""A server's database and an index over it, of a test's own."""

import pytest

from tests.labeling.search.database import Database


@pytest.fixture
def server(tmp_path):
    """The server's database, without datasets."""
    return Database(tmp_path / "argilla.sqlite")


@pytest.fixture
def opened(server, tmp_path):
    """Opens the index over `server`; when called again, as another process would after the first was killed."""
    from argilla_side.search.index import Index

    indices = []

    def open_it():
        for index in indices:
            index.close()
        indices.append(Index(server.path, tmp_path / "argilla.search.sqlite"))
        return indices[-1]

    yield open_it
    for index in indices:
        index.close()


@pytest.fixture
def shop(server):
    """A dataset with one of everything."""
    return server.dataset(
        fields=(("text", "text"), ("note", "text"), ("chat", "chat"), ("picture", "image"), ("form", "custom")),
        questions=(("kind", "label_selection"), ("tags", "multi_label_selection"), ("stars", "rating"), ("comment", "text")),
        metadata=(("topic", "terms"), ("age", "integer"), ("weight", "float")), vectors=(("v", 2),))

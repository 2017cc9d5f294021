"""Fixtures for labelling: a real Argilla server, started as `labkit label up` starts it."""

import pytest

from labkit.labeling import server, sync
from tests.ports import free_port


@pytest.fixture(scope="session")
def argilla_python():
    """The server's own Python; its environment is made where it is missing, once for the machine."""
    from labkit.labeling import environment

    return environment.python()


@pytest.fixture(scope="session")
def argilla_server(argilla_python, tmp_path_factory):
    """A running server for the whole session, with the annotators `ana`, `bo` and `晨`: `url`, `owner_key`, `folder`, `accounts` (the owner
    first, with passwords). Make data sets of your own on it, with names of your own; leave others' alone."""
    folder = tmp_path_factory.mktemp("argilla")
    yield server.up(folder, free_port(), annotators=("ana", "bo", "晨"))
    server.down(folder)


@pytest.fixture
def own_server(argilla_python, tmp_path):
    """Starts servers of the test's own: `own_server(name, **arguments of up)`; all are ended."""
    folders = []

    def start(name="argilla", **arguments):
        folders.append(tmp_path / name)
        arguments.setdefault("port", free_port())
        return server.up(tmp_path / name, **arguments)

    yield start
    for folder in folders:
        server.down(folder)


@pytest.fixture
def people(argilla_server):
    """Connections of the annotators, by name."""
    opened = {each.username: sync.connect(argilla_server.url, each.api_key) for each in argilla_server.accounts}
    yield opened
    for each in opened.values():
        each.close()

"""The fixtures that Argilla's own search engine tests are run with: the lab's engine, and its index in Elasticsearch's words.

Runs inside the server's environment, as the `conftest.py` beside a copy of those tests (see `tests/labeling/test_upstream.py`). They were
written for Elasticsearch: records stay in a transaction that is never committed, and what is in the index is looked up, and sometimes
written, through its client. Here every record is committed, as the server does before it tells the engine; what a test writes into the
index goes where the lab's engine has it from, the server's database; and what it reads comes from the lab's index (`looking.Looking`).
"""

import asyncio
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from argilla_server.settings import settings
from argilla_side.database import migrate
from argilla_side.search.engine import LabSearchEngine, worker
from sqlalchemy.ext.asyncio import create_async_engine
from tests.database import TestSession, set_task
from tests.looking import Looking

from tests import factories


def pytest_collection_modifyitems():
    """Have the factories commit what they make."""
    waiting = [factories.BaseFactory]
    while waiting:
        factory = waiting.pop()
        factory._meta.sqlalchemy_session_persistence = "commit"
        waiting += factory.__subclasses__()


@pytest.fixture(scope="session")
def event_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def database():
    """A database made by the server's migrations. Some tests give one user several responses to a record, as the index allows and the
    database does not, so that constraint goes, before the engine opens the file."""
    path = Path(os.environ["LABKIT_TEST_DATABASE"])
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        statement = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'responses'").fetchone()[0]
        loose = re.sub(r"CONSTRAINT \w+ UNIQUE \(record_id, user_id\),", "", statement)
        assert loose != statement
        with connection:
            connection.execute("DROP TABLE responses")
            connection.execute(loose)
        connection.execute("PRAGMA journal_mode = WAL")
    settings.database_url = f"sqlite+aiosqlite:///{path}"
    return path


@pytest_asyncio.fixture(scope="session")
async def connections(database):
    engine = create_async_engine(settings.database_url)
    TestSession.configure(bind=engine)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture(autouse=True)
async def db(connections):
    set_task(asyncio.current_task())
    session = TestSession()
    yield session
    await session.close()
    await TestSession.remove()


class Committing:
    """The engine; before each of its methods what the test has changed is committed, as the server does."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        method = getattr(self._engine, name)

        async def call(*arguments, **options):
            await TestSession.commit()
            return await method(*arguments, **options)
        return call

    async def create_index(self, dataset):
        """The lab's engine makes an index with the first record; here it is made at once, by the same function, for tests that look."""
        await TestSession.commit()
        await self._engine.create_index(dataset)
        worker().submit(lambda index: index.store.known(dataset.id.hex) or index.store.make(dataset.id.hex)).result()

    async def configure_metadata_property(self, dataset, metadata_property):
        """The tests make the property in a dataset of its own; the server has put it into this one when it tells the engine so."""
        metadata_property.dataset_id = dataset.id
        await TestSession.commit()
        await self._engine.configure_metadata_property(dataset, metadata_property)

    async def delete_record_response(self, response):
        """The server has deleted a response when it tells the engine so."""
        await TestSession.delete(response)
        await TestSession.commit()
        await self._engine.delete_record_response(response)

    async def _bulk_op_request(self, actions):
        """Elasticsearch is told of vectors this way; here a record's vectors are in the database already."""
        await TestSession.commit()


@pytest_asyncio.fixture()
async def search_engine(database):
    return Committing(await LabSearchEngine.new_instance())


@pytest.fixture(scope="session")
def opensearch(database):
    return Looking(database)

"""What the server does for every record, and need not: records are logged three times as fast without, and nothing else changes.

Each function replaces one piece of the running server, and says what that piece cost; the package's files stay as they are.
"""

import functools
import importlib.util
import sys
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LATE = "argilla_server.jobs.hub_jobs"


class Late(types.ModuleType):
    """A module that is read when something in it is first asked for. (importlib's own lazy loader is woken by an import statement.)"""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self.__file__ = str(path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks for
            raise AttributeError(name)
        spec = importlib.util.spec_from_file_location(self.__name__, self.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        vars(self).update(vars(module))
        return getattr(module, name)


def load_late() -> None:
    """Import the jobs that talk to the hub, and with them `datasets`, pandas and pyarrow, when the first of them is asked for: a fifth of
    the time that a start takes, and 100 of 275 MB. Called before the server is imported."""
    package = Path(importlib.util.find_spec("argilla_server").origin).parent
    sys.modules[LATE] = Late(LATE, package / "jobs" / "hub_jobs.py")


def install(app: Any) -> None:
    """Put all of the below in place, before the application starts."""
    keep_adapters()
    write_at_once()
    tell_only_listeners()
    remember_memberships()
    send_plain(app)


def keep_adapters() -> None:
    """Build the pydantic adapter of a question's settings once, not for every suggestion of every record: half of all time."""
    import argilla_server.models.database as models

    models.TypeAdapter = functools.lru_cache(maxsize=None)(models.TypeAdapter)


def write_at_once() -> None:
    """Write a batch's suggestions and vectors as one prepared statement with many rows. The server compiles one statement that spells
    every row out, and reads all rows back as objects, which the batch then reads again for the index."""
    from argilla_server.models import Suggestion, Vector
    from sqlalchemy.dialects.sqlite import insert

    original = Suggestion.upsert_many.__func__

    async def upsert_many(cls: Any, db: Any, objects: list, constraints: list, autocommit: bool = True) -> list:
        if autocommit or not all(isinstance(each, dict) for each in objects):  # not a batch of records: the rows are wanted back
            return await original(cls, db, objects, constraints, autocommit)
        statement = insert(cls.__table__)
        changed = {name: statement.excluded[name] for name in cls.__upsertable_columns__}
        changed["updated_at"] = datetime.now(UTC).replace(tzinfo=None)  # as the server keeps its times
        await db.execute(statement.on_conflict_do_update(index_elements=constraints, set_=changed), objects)
        for loaded in list(db.sync_session.identity_map.values()):
            if isinstance(loaded, cls):
                db.expire(loaded)  # it may be one of those that were written, as it was before
        return []

    for model in (Suggestion, Vector):
        model.upsert_many = classmethod(upsert_many)


def tell_only_listeners() -> None:
    """Build the events of a batch's records only when a webhook is there to hear of them: twenty queries a record otherwise."""
    from argilla_server.bulk.records_bulk import UpsertRecordsBulk
    from argilla_server.contexts import webhooks

    original = UpsertRecordsBulk._notify_upsert_record_events

    async def notify(self: UpsertRecordsBulk, records: list) -> None:
        if await webhooks.list_enabled_webhooks(self._db):
            await original(self, records)

    UpsertRecordsBulk._notify_upsert_record_events = notify


def remember_memberships() -> None:
    """Ask once a request whether an annotator belongs to a workspace. The server asks for every value of metadata of every record that it
    shows: thirty queries a page. Only a yes is remembered, and a user's object lives as long as its request."""
    from argilla_server.models import User

    original = User.is_member

    async def is_member(self: User, workspace_id: Any) -> bool:
        known = vars(self).setdefault("labkit_member_of", set())
        if workspace_id not in known and await original(self, workspace_id):
            known.add(workspace_id)
        return workspace_id in known

    User.is_member = is_member


def send_plain(app: Any) -> None:
    """Answer without compression: the page is on the same machine, and packing a batch took longer than sending it."""
    app.user_middleware = [each for each in app.user_middleware if each.cls.__name__ != "BrotliMiddleware"]

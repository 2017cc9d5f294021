"""The lab database of a test: the default SQLite file, or PostgreSQL where `LABKIT_TEST_POSTGRESQL` names one."""

import os

import pytest

from labkit import database


def use(kind, monkeypatch, tables):
    """Make the lab database one of this kind; in a PostgreSQL database these tables are deleted first."""
    if kind == "postgresql":
        url = os.environ.get("LABKIT_TEST_POSTGRESQL")
        if not url:
            pytest.skip("LABKIT_TEST_POSTGRESQL names no database")
        monkeypatch.setenv("LABKIT_DATABASE", url)
        tables.drop_all(database.engine(url, os.getpid()))

"""One data set of 240 records with three annotators, on the server that all of the labelling tests share."""

import pytest

from tests.labeling.contract import corpus
from tests.labeling.contract.asking import Asked


@pytest.fixture(scope="session")
def asked(argilla_server):
    """The data set that is only asked, never changed."""
    return Asked(argilla_server.url, argilla_server.owner_key, "contract", corpus.make())

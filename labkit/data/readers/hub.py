"""A data set of the hub, streamed: `hub:OWNER/NAME`, with `:SPLIT` behind it, and `@CONFIGURATION` before that where it has several."""

import os
import re
from collections.abc import Iterator

from labkit.data.readers import Limits, Notes
from labkit.data.rows import Row
from labkit.errors import LabError

PREFIX = "hub:"
_NAME = re.compile(r"hub:([\w.-]+(?:/[\w.-]+)?)(?:@([\w.-]+))?(?::([\w.\[\]%-]+))?")


def rows(name: str, limits: Limits, notes: Notes) -> Iterator[Row]:
    """The rows of one split (`train` where none is named). No code of the data set is run.

    Raises:
        LabError: there is no network, the data set or the split does not exist, or it breaks off.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise LabError(f"{name}: is not of the form hub:OWNER/NAME, hub:OWNER/NAME:SPLIT or hub:OWNER/NAME@CONFIGURATION:SPLIT")
    if os.environ.get("LABKIT_ONLINE") != "1":
        raise LabError(f"{name}: the hub is asked only with LABKIT_ONLINE=1; set it, or name files of your own")
    import datasets
    import httpx
    import pyarrow

    repository, configuration, split = match.groups()
    try:
        found = datasets.load_dataset(repository, configuration, split=split or "train", streaming=True)
        notes.license = (found.info.license or "") if found.info else ""
        for number, values in enumerate(found, 1):
            yield Row(name, number, values)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, httpx.HTTPError, pyarrow.ArrowException) as error:
        # what datasets raises is not bounded by any class of its own
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise LabError(f"{name}: the hub says: {said}") from None

"""How far push and pull are: told to whoever asks, else shown as a bar where a person looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]  # (records done, records in all)


@contextmanager
def shown(progress: Progress | None, title: str) -> Iterator[Progress]:
    """Yields what is to be called with (done, total): `progress` itself, or a tqdm bar with rate and time left (none without a terminal
    or a notebook)."""
    if progress is not None:
        yield progress
        return
    from tqdm.auto import tqdm

    with tqdm(desc=title, unit=" records", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show

"""The search engine as the server knows it: `ARGILLA_SEARCH_ENGINE=labkit`.

Import this module before the server's application is served. The side database lies beside the server's own (`argilla.sqlite` →
`argilla.search.sqlite`), or where `LABKIT_SEARCH_DATABASE` says. All questions of a process go through one thread, which owns the index.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from argilla_server.enums import MetadataPropertyType, SimilarityOrder, SortOrder
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Dataset, MetadataProperty, Record, Response, Suggestion, User, VectorSettings
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    FilterScope,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataFilterScope,
    MetadataMetrics,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    SuggestionFilterScope,
    TermsFilter,
    TermsMetrics,
    TextQuery,
)
from argilla_server.settings import settings
from argilla_side.search import conditions, queries
from argilla_side.search.index import Found, Index
from sqlalchemy import make_url

Answer = TypeVar("Answer")


class Worker:
    """The one thread that owns a process's index, and opens it as its first work. It ends with the process, whatever it is at: what it
    has not finished is made up for at the next start."""

    def __init__(self, server: Path, side: Path) -> None:
        self.process = os.getpid()
        self.server, self.side = server, side
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        self.index: Index | None = None
        threading.Thread(target=self._work, name="labkit-search", daemon=True).start()
        self.submit(Index.warm)

    def submit(self, question: Callable[..., Answer], *arguments: Any, **options: Any) -> "Future[Answer]":
        """Have the thread call `question(index, …)`."""
        future: Future[Answer] = Future()
        self.waiting.put((future, question, arguments, options))
        return future

    def _work(self) -> None:
        while True:
            future, question, arguments, options = self.waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if self.index is None:
                    self.index = Index(self.server, self.side)
                future.set_result(self.index.ask(question, *arguments, **options))
            except BaseException as error:  # whoever asked gets it
                future.set_exception(error)


_worker: Worker | None = None
_making = threading.Lock()


def worker() -> Worker:
    """This process's worker; a process that was forked gets its own."""
    global _worker
    with _making:
        if _worker is None or _worker.process != os.getpid():
            if not settings.database_is_sqlite:
                raise ValueError("the search engine `labkit` needs a SQLite database; with another one use elasticsearch or opensearch")
            server = Path(make_url(settings.database_url).database)
            _worker = Worker(server, Path(os.environ.get("LABKIT_SEARCH_DATABASE") or server.with_suffix(".search.sqlite")))
        return _worker


@SearchEngine.register("labkit")
class LabSearchEngine(SearchEngine):
    """What the server asks, put into the index's words. What the server tells after a commit, the index knows already from the database."""

    @classmethod
    async def new_instance(cls) -> "LabSearchEngine":
        worker()
        return cls()

    async def close(self) -> None:
        """Nothing: the index is the process's, an instance a request's."""

    async def _ask(self, question: Callable[..., Answer], *arguments: Any, **options: Any) -> Answer:
        try:
            return await asyncio.wrap_future(worker().submit(question, *arguments, **options))
        except (queries.TooLong, conditions.Senseless) as error:
            raise UnprocessableEntityError(str(error)) from error

    async def ping(self) -> bool:
        return worker() is not None  # a whole index being made anew is no reason for the server not to start

    async def info(self) -> dict:
        documents, version = await self._ask(lambda index: index.store.connection.execute(
            "SELECT count(*), sqlite_version() FROM main.rows").fetchone())
        return {"name": "labkit", "version": {"number": version, "distribution": "sqlite"}, "documents": documents}

    async def create_index(self, dataset: Dataset) -> None:
        await self._ask(lambda index: (index.catch_up(), index.index_dataset(_hex(dataset.id))))

    async def delete_index(self, dataset: Dataset) -> None:
        await self._ask(lambda index: (index.catch_up(), index.drop(_hex(dataset.id))))

    async def configure_metadata_property(self, dataset: Dataset, metadata_property: MetadataProperty) -> None:
        await self._ask(Index.catch_up)

    async def configure_index_vectors(self, vector_settings: VectorSettings) -> None:
        await self._ask(Index.catch_up)

    async def index_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        await self._ask(Index.add, [_hex(record.id) for record in records])

    async def partial_record_update(self, record: Record, **update: Any) -> None:
        await self._ask(Index.catch_up)

    async def delete_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        await self._ask(Index.remove, _hex(dataset.id), [_hex(record.id) for record in records])

    async def update_record_response(self, response: Response) -> None:
        await self._ask(Index.catch_up)

    async def delete_record_response(self, response: Response) -> None:
        await self._ask(Index.catch_up)

    async def update_record_suggestion(self, suggestion: Suggestion) -> None:
        await self._ask(Index.catch_up)

    async def delete_record_suggestion(self, suggestion: Suggestion) -> None:
        await self._ask(Index.catch_up)

    async def get_dataset_progress(self, dataset: Dataset) -> dict:
        return {} if dataset.is_draft else await self._ask(Index.progress, _hex(dataset.id))

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict:
        return {} if dataset.is_draft else await self._ask(Index.progress_of, _hex(dataset.id), _hex(user.id))

    async def search(self, dataset: Dataset, query: TextQuery | str | None = None, filter: Filter | None = None,
                     sort: list[Order] | None = None, offset: int = 0, limit: int = 100,
                     user_id: UUID | str | None = None) -> SearchResponses:
        text, field = _text(query)
        return _responses(await self._ask(
            Index.search, _hex(dataset.id), text, field, _conditions(filter), [_order(order) for order in sort or []], offset, limit,
            _hex(user_id) if user_id else None))

    async def similarity_search(self, dataset: Dataset, vector_settings: VectorSettings, value: list[float] | None = None,
                                record: Record | None = None, query: TextQuery | str | None = None, filter: Filter | None = None,
                                max_results: int = 100, order: SimilarityOrder = SimilarityOrder.most_similar,
                                threshold: float | None = None) -> SearchResponses:
        if bool(value) == bool(record):
            raise ValueError("Must provide either vector value or record to compute the similarity search")
        vector = value or record.vector_value_by_vector_settings(vector_settings)
        if not vector:
            raise ValueError("Cannot find a vector value to apply with provided info")
        if len(vector) != vector_settings.dimensions:
            raise UnprocessableEntityError(f"Vector `{vector_settings.name}` has {vector_settings.dimensions} numbers, not {len(vector)}")
        text, field = _text(query)
        return _responses(await self._ask(
            Index.similar, _hex(dataset.id), _hex(vector_settings.id), vector, None if record is None else _hex(record.id), text, field,
            _conditions(filter), max_results, order == SimilarityOrder.least_similar, threshold))

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        dataset, name = _hex(metadata_property.dataset_id), metadata_property.name
        if metadata_property.type == MetadataPropertyType.terms:
            found = await self._ask(Index.terms, dataset, name)
            counts = [TermsMetrics.TermCount(term=term, count=count) for term, count in found]
            return TermsMetrics(total=sum(each.count for each in counts), values=counts)
        low, high = await self._ask(Index.extremes, dataset, name) or (None, None)
        whole = metadata_property.type == MetadataPropertyType.integer
        return (IntegerMetadataMetrics if whole else FloatMetadataMetrics)(min=low, max=high)


def _hex(identity: UUID | str) -> str:
    """An id as the database has it: 32 hex digits."""
    return identity.hex if isinstance(identity, UUID) else UUID(str(identity)).hex


def _text(query: TextQuery | str | None) -> tuple[str | None, str | None]:
    """What is looked for, and in which field."""
    return (query.q, query.field) if isinstance(query, TextQuery) else (query, None)


def _word(value: Any) -> Any:
    """The plain value of an enumeration's member."""
    return getattr(value, "value", value)


def _scope(scope: FilterScope) -> conditions.Scope:
    if isinstance(scope, MetadataFilterScope):
        return conditions.Scope("metadata", scope.metadata_property)
    if isinstance(scope, SuggestionFilterScope):
        return conditions.Scope("suggestion", scope.question, _word(scope.property))
    if isinstance(scope, ResponseFilterScope):
        return conditions.Scope("response", scope.question, _word(scope.property), _hex(scope.user.id) if scope.user else None)
    if isinstance(scope, RecordFilterScope):
        return conditions.Scope("record", None, _word(scope.property))
    raise ValueError(f"Cannot process request for search scope {scope}")


def _conditions(filter: Filter | None) -> list[conditions.Condition]:
    """A filter as a list of conditions, all of which must hold."""
    if filter is None:
        return []
    if isinstance(filter, AndFilter):
        return [condition for part in filter.filters for condition in _conditions(part)]
    if isinstance(filter, TermsFilter):
        return [conditions.Condition(_scope(filter.scope), tuple(str(_word(value)) for value in filter.values))]
    if isinstance(filter, RangeFilter):
        return [conditions.Condition(_scope(filter.scope), low=filter.ge, high=filter.le)]
    raise ValueError(f"Cannot process request for filter {filter}")


def _order(order: Order) -> conditions.Order:
    return conditions.Order(_scope(order.scope), order.order == SortOrder.desc)


def _responses(found: Found) -> SearchResponses:
    items = [SearchResponseItem(record_id=UUID(record), score=score) for record, score in found.items]
    return SearchResponses(items=items, total=found.total)

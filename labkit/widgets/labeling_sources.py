"""Where labelling happens, as the board sees it: files of the labelling widget, or an Argilla server."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from labkit import plots_labeling
from labkit.labeling.annotations import STATUSES, Annotation
from labkit.records import Record
from labkit.scenarios import LANGUAGES, Scenario, Text
from labkit.widgets.labeling_journal import Journal

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.labeling.sync import Connection, Pulled, Pushed


@dataclass(frozen=True)
class Progress:
    """`total` records are to be labelled, `done` have as many answers as are wanted; `by_annotator` counts records by status."""

    total: int
    done: int
    by_annotator: Mapping[str, Mapping[str, int]]


def progress_of(annotations: Iterable[Annotation], total: int) -> Progress:
    """The progress that these annotations show, where one answer a record is wanted."""
    annotations = list(annotations)
    return Progress(total, len({each.record for each in annotations if each.status == "submitted"}), plots_labeling.counts(annotations))


class Source(Protocol):
    """Where labelling happens. Whatever goes wrong there is a LabError; push and pull say in a sentence what they did."""

    def progress(self) -> Progress:
        """How far everybody is."""

    def annotations(self) -> list[Annotation]:
        """All that was said, with drafts and discarded records."""

    def push(self) -> Text | str:
        """Bring the records to where they are labelled."""

    def pull(self) -> Text | str:
        """Fetch the answers."""


class FileSource:
    """The files of `labkit.widgets.labeler`, one or one for each annotator.

    Args:
        paths: of the files; those that are not there yet are read once they are.
        scenario: whose fields are asked.
        total: records that are to be labelled.
    """

    def __init__(self, paths: Iterable[Any], scenario: Scenario, total: int) -> None:
        self.paths, self.total, self._fields = list(paths), total, [field.name for field in scenario.fields]

    def progress(self) -> Progress:
        return progress_of(self.annotations(), self.total)

    def annotations(self) -> list[Annotation]:
        return [each for path in self.paths for entry in Journal(path).entries() for each in entry.annotations(self._fields)]

    def push(self) -> Text:
        return {"en": "Nothing to push: the records are in the notebook.", "zh": "无需推送：记录就在笔记本中。"}

    def pull(self) -> Text:
        count = len({(each.record, each.annotator) for each in self.annotations()})
        return {"en": f"Read {count:,} answered records from {len(self.paths)} files.",
                "zh": f"从 {len(self.paths)} 个文件读取了 {count:,} 条已答记录。"}


class ServerSource:
    """A dataset on an Argilla server, this machine's own or any by a connection.

    Progress is the server's at the moment it is asked; annotations are those of the last pull, also one of another day.

    Args:
        records: what is pushed.
        scenario: of the records.
        server: from `labkit.labeling.sync.connect`; this machine's own where None.
        dataset: its name; the scenario's where None.
        workspace: by default the lab's.
        settings: more for `labkit.labeling.sync.push`, such as `suggestions`.
    """

    def __init__(self, records: "Dataset | Sequence[Record]", scenario: Scenario, server: "Connection | None" = None, *,
                 dataset: str | None = None, workspace: str | None = None, **settings: Any) -> None:
        self.records, self.scenario, self.server, self.settings = records, scenario, server, settings
        self.dataset, self.workspace = dataset or scenario.name, workspace
        self.pushed: Pushed | None = None
        self.pulled: Pulled | None = None

    def progress(self) -> Progress:
        from labkit.labeling import sync

        found = sync.progress(self.scenario, self.server, dataset=self.dataset, workspace=self.workspace)
        people = {each["username"]: {state: each[state] for state in STATUSES} for each in found["users"]}
        return Progress(found["records"], found["completed"], {name: of for name, of in sorted(people.items()) if any(of.values())})

    def annotations(self) -> list[Annotation]:
        from labkit.labeling import store

        if self.pulled is not None:
            return self.pulled.annotations
        known = [each["id"] for each in store.datasets(self._url()) if each["name"] == self.dataset]
        return store.annotations(known[0])[0] if len(known) == 1 else []

    def push(self) -> Text:
        from labkit.labeling import sync

        self.pushed = sync.push(self.records, self.scenario, self.server, dataset=self.dataset, workspace=self.workspace, **self.settings)
        return {language: self.pushed.said(language) for language in LANGUAGES}

    def pull(self) -> Text:
        from labkit.labeling import sync

        self.pulled = sync.pull(self.scenario, self.server, records=self.records, dataset=self.dataset, workspace=self.workspace)
        return {language: self.pulled.said(language) for language in LANGUAGES}

    def _url(self) -> str:
        from labkit.labeling import sync

        if self.server is not None:
            return self.server.url
        with sync.connect() as server:
            return server.url

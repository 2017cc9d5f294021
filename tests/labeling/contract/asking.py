"""A labelling data set on a real server, filled from the corpus, and ways to ask it: by the client, or over HTTP where that lacks it."""

import warnings
from collections.abc import Iterable
from typing import Any

import requests

from tests.labeling.contract import corpus
from tests.labeling.contract.corpus import Item

CLIENT_FILTERS = list[tuple[str, str, Any]]


class Asked:
    """One data set of `items` on the server, and the API keys of everybody who labels in it."""

    def __init__(self, url: str, owner_key: str, name: str, items: list[Item]) -> None:
        import argilla

        self.url, self.keys, self.name, self.items = url, {"owner": owner_key}, name, items
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client = argilla.Argilla(api_url=url, api_key=owner_key)
        self.workspace = self.client.workspaces(name) or argilla.Workspace(name, client=self.client).create()
        self.users: dict[str, str] = {"owner": self.http("GET", "me")["id"]}
        for user in corpus.USERS[1:]:
            made = self.http("POST", "users", {"username": f"{user}-{name}", "first_name": user, "password": "12345678",
                                               "role": "annotator"})
            self.users[user], self.keys[user] = made["id"], made["api_key"]
            self.http("POST", f"workspaces/{self.workspace.id}/users", {"user_id": made["id"]})
        self.dataset = argilla.Dataset(name=name, workspace=self.workspace, settings=self._settings(), client=self.client).create()
        self.question_ids = {question.name: str(question.id) for question in self.dataset.settings.questions}
        for start in range(0, len(items), 40):  # several batches, so that records differ in time
            self.log(items[start:start + 40])
        self.read_times()

    def _settings(self):
        import argilla as rg

        labels = list(corpus.TAGS)
        return rg.Settings(
            guidelines="Label what you see.", distribution=rg.TaskDistribution(min_submitted=2),
            fields=[rg.TextField("text"), rg.TextField("note", required=False), rg.ChatField("chat", required=False)],
            questions=[rg.LabelQuestion("kind", labels=list(corpus.KINDS)), rg.MultiLabelQuestion("tags", labels=labels, required=False),
                       rg.RatingQuestion("quality", values=[1, 2, 3, 4, 5], required=False), rg.TextQuestion("comment", required=False),
                       rg.RankingQuestion("order", values=["a", "b", "c"], required=False),
                       rg.SpanQuestion("names", field="text", labels=["person"], required=False)],
            metadata=[rg.TermsMetadataProperty("topic"), rg.TermsMetadataProperty("code"), rg.TermsMetadataProperty("both"),
                      rg.IntegerMetadataProperty("row-count"), rg.FloatMetadataProperty("weight")],
            vectors=[rg.VectorField("small", dimensions=4), rg.VectorField("wide", dimensions=8)])

    def log(self, items: Iterable[Item]) -> None:
        """Write records through the client, with everything that belongs to them; the same ids again are updates."""
        import argilla as rg

        rows = []
        for item in items:
            suggestions = [rg.Suggestion(question, value, score=score, agent=agent, type=kind)
                           for question, (value, score, agent, kind) in item.suggestions.items()]
            responses = [rg.Response(question, value, user_id=self.users[user], status=status)
                         for user, (status, values) in item.responses.items() for question, value in values.items()]
            rows.append(rg.Record(id=item.id, fields=item.fields, metadata=item.metadata, vectors=item.vectors, suggestions=suggestions,
                                  responses=responses))
        self.dataset.records.log(rows)

    def read_times(self) -> None:
        """Note each record's id on the server and its times, from the list that the server reads from its own database."""
        known = {item.id: item for item in self.items}
        for offset in range(0, len(known), 200):
            for row in self.http("GET", f"datasets/{self.dataset.id}/records", offset=offset, limit=200)["items"]:
                if row["external_id"] in known:
                    item = known[row["external_id"]]
                    item.server_id, item.inserted_at, item.updated_at = row["id"], row["inserted_at"], row["updated_at"]

    def http(self, method: str, path: str, body: Any = None, user: str = "owner", **parameters: Any) -> Any:
        """The answer's JSON; an AssertionError with the server's words where it refuses."""
        answer = requests.request(method, f"{self.url}/api/v1/{path}", json=body, params=parameters, timeout=30,
                                  headers={"X-Argilla-Api-Key": self.keys[user]})
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def search(self, query: str | None = None, *, field: str | None = None, vector: dict[str, Any] | None = None,
               filters: list[dict[str, Any]] | None = None, sort: list[dict[str, Any]] | None = None, user: str | None = None,
               offset: int = 0, limit: int = 1000) -> dict[str, Any]:
        """One search over HTTP; with `user` the one that the user's page makes."""
        body: dict[str, Any] = {}
        if query is not None or vector:
            body["query"] = {}
            if query is not None:
                body["query"]["text"] = {"q": query, **({"field": field} if field else {})}
            if vector:
                body["query"]["vector"] = vector
        if filters:
            body["filters"] = {"and": filters}
        if sort:
            body["sort"] = sort
        path = f"{'me/' if user else ''}datasets/{self.dataset.id}/records/search"
        return self.http("POST", path, body, user or "owner", offset=offset, limit=limit)

    def found(self, *arguments: Any, **options: Any) -> list[str]:
        """The ids that one search over HTTP gives, in its order; the total must agree where all fit the page."""
        answer = self.search(*arguments, **options)
        ids = [item["record"]["external_id"] for item in answer["items"]]
        if not options.get("offset") and len(ids) < options.get("limit", 1000) and "vector" not in options:
            assert answer["total"] == len(ids)
        return ids

    def by_client(self, query: str | None = None, *, filters: CLIENT_FILTERS | None = None, similar: Any = None, limit: int | None = None):
        """The ids that the client's search gives, in its order; with `similar` pairs of id and score."""
        import argilla as rg

        asked = rg.Query(query=query, filter=filters, similar=similar)
        rows = self.dataset.records(query=asked, with_suggestions=False, with_responses=False, limit=limit)
        return [(row[0].id, row[1]) for row in rows] if similar else [row.id for row in rows]


def scope(name: str) -> dict[str, Any]:
    """What a filter or sort is about, from a short name: `metadata.topic`, `kind.suggestion`, `kind.score`, `kind.response`, `status`."""
    first, _, second = name.partition(".")
    if first == "metadata":
        return {"entity": "metadata", "metadata_property": second}
    if name == "response.status":
        return {"entity": "response", "property": "status"}
    if second == "response":
        return {"entity": "response", "question": first}
    if second:
        return {"entity": "suggestion", "question": first, "property": "value" if second == "suggestion" else second}
    return {"entity": "record", "property": first}


def terms(name: str, *values: Any) -> dict[str, Any]:
    return {"type": "terms", "scope": scope(name), "values": list(values)}


def between(name: str, low: Any = None, high: Any = None) -> dict[str, Any]:
    return {"type": "range", "scope": scope(name), "ge": low, "le": high}


def order(name: str, direction: str) -> dict[str, Any]:
    return {"scope": scope(name), "order": direction}

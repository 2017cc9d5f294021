"""Small things that tests ask of a server through its API."""

import contextlib
import json
import urllib.parse
import urllib.request

from labkit.labeling.accounts import WORKSPACE, call


def log_in(url, username, password):
    """What the page does: a session's token for a name and a password."""
    body = urllib.parse.urlencode({"username": username, "password": password}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(f"{url}/api/v1/token", data=body), timeout=60) as answer:
        return json.loads(answer.read())["access_token"]


def who_is(url, token):
    """Whose session this is, or None when the server does not accept it."""
    request = urllib.request.Request(f"{url}/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    with contextlib.suppress(urllib.error.HTTPError):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read())["username"]
    return None


def make_dataset(url, key, name, records, min_submitted=1):
    """A data set with a text `text`, a label `kind` (apple, pear) and these texts; returns its id and the records' ids in their order."""
    place = next(each["id"] for each in call(url, key, "GET", "me/workspaces")["items"] if each["name"] == WORKSPACE)
    dataset = call(url, key, "POST", "datasets", {"name": name, "workspace_id": place,
                                                  "distribution": {"strategy": "overlap", "min_submitted": min_submitted}})["id"]
    call(url, key, "POST", f"datasets/{dataset}/fields", {"name": "text", "title": "Text", "required": True, "settings": {"type": "text"}})
    options = [{"value": value, "text": value, "description": None} for value in ("apple", "pear")]
    call(url, key, "POST", f"datasets/{dataset}/questions", {"name": "kind", "title": "Kind", "required": True,
                                                             "settings": {"type": "label_selection", "options": options}})
    call(url, key, "PUT", f"datasets/{dataset}/publish")
    made = call(url, key, "PUT", f"datasets/{dataset}/records/bulk", {"items": [{"fields": {"text": text}} for text in records]})["items"]
    return dataset, [each["id"] for each in made]


def respond(url, key, record, value, status="submitted"):
    return call(url, key, "POST", f"records/{record}/responses", {"values": {"kind": {"value": value}}, "status": status})


def found(url, key, dataset, text=None, filters=None):
    """How many records of a data set a search finds; `filters` as the API has them."""
    query = {} if text is None else {"text": {"q": text}}
    body = {"query": query, **({"filters": filters} if filters else {})}
    return call(url, key, "POST", f"me/datasets/{dataset}/records/search?limit=1", body)["total"]


def with_status(*statuses):
    """A filter: records to which the asking user's response has one of these statuses."""
    return {"and": [{"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": list(statuses)}]}

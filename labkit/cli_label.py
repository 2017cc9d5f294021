"""`labkit label …`: the Argilla server, records there and back, how good the labels are, what to label next, what it costs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from labkit.cli_words import checked_language
from labkit.errors import LabError

app = typer.Typer(no_args_is_help=True, help="Label with people: an Argilla server, push and pull, quality, cost.")
votes_app = typer.Typer(no_args_is_help=True, help="Votes of the Compare page as ranking questions, and preference pairs.")
app.add_typer(votes_app, name="votes")

ScenarioName = Annotated[str, typer.Option("--scenario", "-s", help="The scenario.")]
Source = Annotated[Path | None, typer.Option(help="Prepared records (JSONL); the scenario's samples without it.")]
Name = Annotated[str | None, typer.Option("--dataset", help="The dataset's name on the server; the scenario's without it.")]
Language = Annotated[str, typer.Option(help="en or zh.")]
Folder = Annotated[Path | None, typer.Option(help="Where the server keeps its data; runs/argilla without it.")]
Url = Annotated[str | None, typer.Option(help="A team's server; this machine's own without it. Or ARGILLA_API_URL.")]
Key = Annotated[str | None, typer.Option(help="The API key for --url. Or ARGILLA_API_KEY.")]


@app.command(epilog="Example: labkit label up --annotator mei --annotator tom")
def up(port: Annotated[int | None, typer.Option(min=1, max=65535, help="6900, or that of last time.")] = None,
       annotator: Annotated[list[str] | None, typer.Option(help="Somebody who gets an account; may be given several times.")] = None,
       foreground: Annotated[bool, typer.Option("--foreground", help="Stay; Ctrl-C ends the server.")] = False,
       folder: Folder = None) -> None:
    """Start the Argilla server. The first time its own environment is made (1 to 5 minutes), and accounts; passwords are shown once."""
    from labkit.labeling import environment, server

    if not environment.is_ready():
        typer.echo(f"Making the server's own environment in {environment.folder()} (once, 1 to 5 minutes)")
    found = server.up(folder, port, annotator or ())
    typer.echo(f"Argilla is up: {found.url}")
    for account in found.accounts:
        typer.echo(f"  {account.role} {account.username}: password {account.password}, API key {account.api_key}")
    if found.accounts:
        typer.echo("These are shown once; `labkit label password NAME` gives a new one.")
    if foreground:
        server.follow(found)
    else:
        typer.echo("End it with: labkit label down")


@app.command(epilog="Example: labkit label down")
def down(folder: Folder = None) -> None:
    """End the server. What people answered stays."""
    from labkit.labeling import server

    typer.echo("The server has ended." if server.down(folder) else f"No server ran in {server.home(folder)}.")


@app.command(epilog="Example: labkit label status")
def status(folder: Folder = None) -> None:
    """Whether the server runs, since when, what it takes, and what waits."""
    from labkit.labeling import server

    found = server.status(folder)
    disk = f"{found.disk_bytes / 1e6:.0f} MB on disk in {found.folder}"
    if found.server is None:
        typer.echo(f"not running; {disk}; start it with: labkit label up")
        return
    memory = f"{found.memory_bytes / 1e6:.0f} MB of memory, " if found.memory_bytes else ""
    since = f" since {found.started:%Y-%m-%d %H:%M} UTC" if found.started else ""
    typer.echo(f"{found.server.url}: Argilla {found.version}{since}; {memory}{disk}; {found.jobs} jobs wait")


@app.command(epilog="Example: labkit label password mei")
def password(name: Annotated[str, typer.Argument(help="The account.")], folder: Folder = None) -> None:
    """Give an account a new password, shown once."""
    from labkit.labeling import server

    account = server.password(name, folder)
    typer.echo(f"{account.role} {account.username}: password {account.password}")


@app.command(epilog="Example: labkit label backup monday.zip")
def backup(path: Annotated[Path, typer.Argument(help="The archive (zip) to write.")], folder: Folder = None) -> None:
    """Write the server's data into one archive, while people go on labelling."""
    from labkit.labeling import backups

    rows = backups.backup(path, folder)["rows"]
    typer.echo(f"{path}: " + ", ".join(f"{count:,} {name}" for name, count in rows.items()))


@app.command(epilog="Example: labkit label restore monday.zip")
def restore(path: Annotated[Path, typer.Argument(help="What `labkit label backup` wrote.")],
            replace: Annotated[bool, typer.Option("--replace", help="Move what is there aside.")] = False, folder: Folder = None) -> None:
    """Put a backup's data into the server's folder, while the server is down."""
    from labkit.labeling import backups

    manifest = backups.restore(path, folder, replace)
    typer.echo(f"restored what was saved at {manifest['made']}; start the server with: labkit label up")


@app.command(epilog="Example: labkit label push -s customer_service --source mine.jsonl --suggest customer_service/default")
def push(scenario: ScenarioName, source: Source = None, dataset: Name = None,
         suggest: Annotated[str, typer.Option(help="What annotators see as a suggestion: answers (those the records have), none, or a "
                                                   "run (SCENARIO/NAME), whose checkpoint answers first.")] = "answers",
         unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only records without an answer.")] = False,
         count: Annotated[int | None, typer.Option(min=1, help="Only so many, worth most (see `labkit label next`).")] = None,
         strategy: Annotated[str, typer.Option(help="How --count chooses.")] = "staged",
         gold: Annotated[int, typer.Option(min=0, help="Mix in so many labelled records as hidden gold questions.")] = 0,
         answers: Annotated[int, typer.Option("--answers-each", min=1, help="How many people answer a record.")] = 1,
         language: Annotated[str | None, typer.Option(help="Of titles and labels, en or zh; by default that of most records.")] = None,
         url: Url = None, key: Key = None) -> None:
    """Send records to Argilla. Twice does no harm: what is there stays, what was changed there is listed and not overwritten."""
    from labkit.labeling import sync, tasks

    if gold and suggest == "answers":
        raise LabError("gold questions would be the only ones without a suggestion, so that everybody could tell them; add --suggest none, "
                       "or name a run that suggests")
    known, records = tasks.records_of(scenario, source)
    wanted = tasks.to_push(records, known, unlabelled=unlabelled, count=count, strategy=strategy, gold=gold, tell=typer.echo)
    suggestions = tasks.suggestions(wanted.records, known, suggest, tell=typer.echo)
    with sync.connect(url, key) as server:
        done = sync.push(wanted.records, known, server, dataset=dataset, language=language, suggestions=suggestions, hidden=wanted.hidden,
                         answers_each=answers)
    typer.echo(done.said())
    for conflict in done.conflicts[:20]:
        typer.echo(f"  {conflict.record} {conflict.field}: {conflict.local!r} here, {conflict.server!r} there")
    for refusal in done.refused[:20]:
        typer.echo(f"  {refusal.record}: {refusal.problem}")


@app.command(epilog="Example: labkit label pull -s customer_service --source mine.jsonl --out labelled.jsonl")
def pull(scenario: ScenarioName, source: Source = None, dataset: Name = None,
         out: Annotated[Path | None, typer.Option(help="Where the records with the agreed answers go (JSONL).")] = None,
         take: Annotated[str, typer.Option(help="Where both sides changed a field: local or server.")] = "local",
         method: Annotated[str, typer.Option(help="How several answers become one: majority, dawid_skene or weighted.")] = "majority",
         url: Url = None, key: Key = None) -> None:
    """Fetch what people answered: into the lab database, and into the records."""
    from labkit import records as recs
    from labkit.labeling import sync, tasks

    known, records = tasks.records_of(scenario, source) if source else (tasks.scenario_of(scenario), None)
    with sync.connect(url, key) as server:
        done = sync.pull(known, server, records=records, dataset=dataset, aggregate=tasks.aggregate(method), take=take)
    typer.echo(done.said())
    for conflict in done.conflicts[:20]:
        typer.echo(f"  conflict in {conflict.record} {conflict.field}: {conflict.local!r} here, {conflict.server!r} there")
    for reject in done.rejected[:20]:
        typer.echo(f"  rejected: {reject}")
    if out:
        recs.write(done.records, out)
        typer.echo(f"{out}: {len(done.records):,} records")


@app.command(epilog="Example: labkit label progress -s customer_service")
def progress(scenario: ScenarioName, dataset: Name = None, url: Url = None, key: Key = None) -> None:
    """How far a dataset is, in all and by annotator."""
    from labkit.labeling import sync, tasks

    with sync.connect(url, key) as server:
        found = sync.progress(tasks.scenario_of(scenario), server, dataset=dataset)
    typer.echo(f"{found['completed']:,} of {found['records']:,} records are done, {found['pending']:,} wait")
    for user in found["users"]:
        typer.echo(f"  {user['username']}: {user['submitted']:,} submitted, {user['draft']:,} drafts, {user['discarded']:,} discarded")


@app.command(epilog="Example: labkit label quality -s customer_service")
def quality(scenario: ScenarioName, language: Language = "en", source: Source = None,
            gold: Annotated[bool, typer.Option("--gold", help="Score annotators against the answers of --source.")] = False,
            out: Annotated[Path | None, typer.Option(help="All of it as JSON.")] = None) -> None:
    """How good the labels are: agreement, annotators, gold questions, confused labels, what to adjudicate. Of what was pulled."""
    from labkit import files
    from labkit.labeling import tasks
    from labkit.labeling.quality import report

    found, known = tasks.quality(scenario, source if gold else None)
    typer.echo(report.table(found, known, checked_language(language)))
    if out:
        files.write_json(out, found)


@app.command(epilog="Example: labkit label errors -s customer_service --source mine.jsonl")
def errors(scenario: ScenarioName, source: Source = None,
           count: Annotated[int, typer.Option(min=1, help="How many are listed.")] = 20) -> None:
    """Which labels are likely wrong, by a classifier that has not seen them (cross-validation, cleanlab)."""
    from labkit.labeling import tasks

    for line in tasks.errors(scenario, source, count):
        typer.echo(line)


@app.command("next", epilog="Example: labkit label next -s customer_service --source pool.jsonl --count 50 --out next.jsonl")
def next_(scenario: ScenarioName, source: Source = None, count: Annotated[int, typer.Option(min=1)] = 50,
          strategy: Annotated[str, typer.Option(help="See --strategies.")] = "staged",
          out: Annotated[Path | None, typer.Option(help="Where the chosen records go (JSONL).")] = None, language: Language = "en",
          strategies: Annotated[bool, typer.Option("--strategies", help="List the strategies, and end.")] = False) -> None:
    """Which records are worth labelling next, each with its reason."""
    from labkit import records as recs
    from labkit.labeling import selection, tasks

    language = checked_language(language)
    if strategies:
        for name, title in selection.STRATEGIES.items():
            typer.echo(f"{name}: {title[language]}")
        return
    known, records = tasks.records_of(scenario, source)
    choices = tasks.choose(records, known, count, strategy)
    for choice in choices:
        record = records[choice.row]
        typer.echo(f"{record['id']}  {choice.reason(language)}  {' '.join(record['messages'][-1]['content'].split())[:80]}")
    if out:
        recs.write(records.select([choice.row for choice in choices]), out)


@app.command(epilog="Example: labkit label cost -s customer_service --more 200 --wage 20")
def cost(scenario: ScenarioName, source: Source = None, more: Annotated[int, typer.Option(min=1, help="So many further labels.")] = 200,
         wage: Annotated[float | None, typer.Option(help="An hour's pay.")] = None,
         seconds: Annotated[float | None, typer.Option(help="Seconds a label, where nobody has been timed yet.")] = None,
         language: Language = "en") -> None:
    """What further labels cost, and what they buy: the learning curve of the labels there are, and its forecast."""
    from labkit.labeling import tasks

    for line in tasks.cost(scenario, source, more, wage, seconds, checked_language(language)):
        typer.echo(line)


@votes_app.command("push", epilog="Example: labkit label votes push -s customer_service")
def votes_push(scenario: ScenarioName, dataset: Name = None, url: Url = None, key: Key = None) -> None:
    """Send what was compared in the app to Argilla, for people to rank; checkpoints are hidden and sides are shuffled."""
    from labkit.labeling import preferences, sync

    with sync.connect(url, key) as server:
        done = preferences.push(preferences.comparisons(scenario=scenario), server, dataset=dataset or f"{scenario}-preferences")
    counts = (len(done.created), len(done.unchanged), len(done.refused))
    typer.echo("{}: {:,} new, {:,} as they were, {:,} refused".format(", ".join(done.datasets), *counts))


@votes_app.command("pull", epilog="Example: labkit label votes pull -s customer_service --out pairs.jsonl")
def votes_pull(scenario: ScenarioName, out: Annotated[Path, typer.Option(help="Where the preference pairs go (JSONL).")],
               dataset: Name = None, url: Url = None, key: Key = None) -> None:
    """Fetch the rankings and write preference pairs from them and from the app's votes."""
    from labkit.evaluation import votes
    from labkit.labeling import preferences, sync

    with sync.connect(url, key) as server:
        ranked = preferences.pull(server, dataset=dataset or f"{scenario}-preferences")
    _write_pairs(preferences.pairs([*votes.all_votes(scenario), *ranked.votes]), out)


@votes_app.command("pairs", epilog="Example: labkit label votes pairs -s customer_service --out pairs.jsonl")
def votes_pairs(scenario: ScenarioName, out: Annotated[Path, typer.Option(help="Where the preference pairs go (JSONL).")]) -> None:
    """Write preference pairs from the app's votes alone."""
    from labkit.labeling import preferences

    _write_pairs(preferences.pairs(scenario=scenario), out)


def _write_pairs(found: Any, out: Path) -> None:
    from labkit.labeling import preferences

    preferences.write(found, out)
    typer.echo(f"{out}: {len(found.pairs):,} pairs; left out: {found.ties:,} ties, {found.both_bad:,} both bad, {found.split:,} undecided, "
               f"{found.same:,} the same answer")

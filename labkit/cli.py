"""The command line: a thin face over functions that can be imported. A user's mistake is one line and exit code 2."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit import __version__, cli_label, cli_train, models, process
from labkit.cli_words import Base, Settings, checked_language, settings
from labkit.errors import LabError

app = typer.Typer(name="labkit", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  add_completion=False, help="Prepare data, fine-tune, evaluate and serve language models.")
votes_app = typer.Typer(no_args_is_help=True, help="The votes of the Compare page.")
app.add_typer(votes_app, name="votes")
app.add_typer(cli_label.app, name="label")
app.add_typer(cli_train.runs_app, name="runs")
app.command(epilog="Example: labkit train -s legal --name careful --set learning_rate=0.0005 --set epochs=5")(cli_train.train)
app.command(epilog="Example: labkit search my-recipe.toml --trials 30 --workers 2")(cli_train.search)
app.command(epilog="Example: labkit prefer -s legal --start legal/default")(cli_train.prefer)

ScenarioNames = Annotated[list[str] | None, typer.Option("--scenario", "-s", help="A scenario; may be given several times.")]
ScenarioName = Annotated[str, typer.Option("--scenario", "-s", help="The scenario.")]
Source = Annotated[str | None, typer.Option(help="A file of your own, in place of the samples: prepared records, or anything that "
                                                 "`labkit prepare` reads.")]
Mapping = Annotated[str | None, typer.Option("--map", help="Which column is what: text=COLUMN,FIELD=COLUMN,…; guessed without it.")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="Which steps to run (TOML), in place of the lab's own plan.")]
Name = Annotated[str, typer.Option(help="The run's name.")]
Language = Annotated[str, typer.Option(help="The language of the system prompt and the answer: en or zh.")]
_INTERRUPTED = 130  # what typer exits with at Ctrl-C


@app.command(epilog="Example: labkit build --scenario finance")
def build(scenario: ScenarioNames = None, source: Source = None, map: Mapping = None, plan: PlanFile = None, name: Name = "default",
          set: Settings = None, base: Base = None) -> None:
    """Train and evaluate whatever is missing: all scenarios, or those named.

    A file of your own: labkit build -s customer_service --source mine.csv --map text=message,intent=category --name mine
    """
    from labkit import build as building
    from labkit import runs, scenarios
    from labkit.data import plan as plans

    if source and (not scenario or len(scenario) != 1):
        raise LabError("--source needs exactly one --scenario; example: "
                       "-s customer_service --source mine.csv --map text=message,intent=category")
    if (map or plan) and not source:
        raise LabError(f"{'--map' if map else '--plan'} belongs to --source; name the file")
    steps = plans.read(plan) if plan else None
    name = Path(source).stem if source and name == "default" else name
    for each in scenario or scenarios.names():
        recipe = building.recipe_for(each, name, base=base, **settings(set))
        folder = runs.folder_for(each, name)
        data = building.from_file(each, source, map, name, typer.echo, steps) if source else building.from_samples(each)
        if not source and building.is_current(runs.Run(folder)):
            typer.echo(f"{each}/{name}: ready")
            continue
        with cli_train.watched(runs.Run(folder), recipe, []) as (on_prepare, on_step):
            run = building.build(recipe, data, on_step, on_prepare, typer.echo)
        typer.echo(_summary(run))


@app.command(epilog="Example: labkit prepare -s customer_service --source mine.csv --out mine.jsonl")
def prepare(scenario: Annotated[str | None, typer.Option("--scenario", "-s", help="The scenario.")] = None,
            source: Annotated[list[str] | None, typer.Option(
                help="A file (CSV, TSV, JSON, JSONL, Parquet, Arrow, Excel, text, chat logs; .gz, .zst), folder, pattern, "
                     "hub:OWNER/NAME or database URL#table=NAME; may be given several times.")] = None,
            out: Annotated[Path | None, typer.Option(help="Where the records go (JSONL); their account goes beside them.")] = None,
            map: Mapping = None,
            yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the guess without asking.")] = False,
            plan: PlanFile = None,
            labels: Annotated[str, typer.Option(help="Whose labels: auto, scenario or file.")] = "auto",
            license: Annotated[str, typer.Option(help="The licence of rows that name none.")] = "unknown",
            processes: Annotated[int | None, typer.Option(min=1, help="How many work at once; all cores by default.")] = None,
            engine: Annotated[str, typer.Option(help="local, datasets, or ray for a cluster.")] = "local",
            seed: Annotated[int, typer.Option(help="For the split.")] = 0, language: Language = "en",
            vault: Annotated[Path | None, typer.Option(
                help="Keep what was masked in this file, encrypted; the passphrase is asked for, or LABKIT_VAULT_PASSPHRASE.")] = None,
            steps: Annotated[bool, typer.Option("--steps", help="List all steps with their parameters, and end.")] = False) -> None:
    """Collect, clean, filter, deduplicate, protect and split: files of any kind become records, with an account of every row."""
    from labkit import scenarios
    from labkit.data import collect, mapping, preparation
    from labkit.data import plan as plans

    if steps:
        return _list_steps(checked_language(language))
    if not scenario or not source or not out:
        raise LabError("prepare needs --scenario, --source and --out; example: "
                       "labkit prepare -s customer_service --source mine.csv --out mine.jsonl")
    known = scenarios.load(scenario)
    chosen = mapping.parse(map, known) if map else _guessed(collect.preview(source), known, checked_language(language), yes)
    with _named_bars() as tell:
        done = preparation.prepare(source, known, out, mapping=chosen, labels=labels, plan=plans.read(plan) if plan else None,
                                   processes=processes, engine=engine, seed=seed, license=license, page_language=language,
                                   vault=vault, passphrase=_passphrase(True) if vault else "", on_progress=tell)
    typer.echo(done.headline())
    for path, what in ((done.paths.records, "the records"), (done.paths.scenario, "their scenario"), (done.paths.page, "the report"),
                       (done.paths.rejects, f"{len(done.collected.rejects)} rows that did not work"),
                       (done.paths.dropped, f"{len(done.prepared.dropped)} records that a step dropped")):
        typer.echo(f"  {path}: {what}")


@app.command(epilog="Example: labkit vault mine.vault")
def vault(path: Annotated[Path, typer.Argument(help="A file that `labkit prepare --vault` wrote.")],
          record: Annotated[str | None, typer.Option(help="Only what was masked in this record (its id).")] = None) -> None:
    """Show what was masked, as JSON lines. Asks for the passphrase, or takes LABKIT_VAULT_PASSPHRASE."""
    from labkit import files
    from labkit.data.privacy import vault as vaults

    for entry in vaults.read(path, _passphrase(False)):
        if record in (None, entry["record"]):
            typer.echo(files.canonical_json(entry))


@app.command(epilog="Example: labkit evaluate finance/default")
def evaluate(run: Annotated[str | None, typer.Argument(help="The run, SCENARIO/NAME.")] = None,
             data: Annotated[str | None, typer.Option(help="Of a run on a task's own data: NAME=FOLDER where its files lie.")] = None,
             table: Annotated[bool, typer.Option("--table", help="Print the default runs' results as Markdown.")] = False,
             language: Annotated[str, typer.Option(help="The table's language: en or zh.")] = "en") -> None:
    """Measure a run and its base model on the test split; results go into the run's folder."""
    from labkit import records, runs, scenarios
    from labkit.evaluation import report

    if table:
        typer.echo(report.table([runs.find(f"{name}/default") for name in scenarios.names()], checked_language(language)))
        return
    if not run:
        raise LabError("which run? labkit runs lists them; example: labkit evaluate finance/default")
    found = runs.find(run)
    if not (found.folder / "scenario.toml").exists():
        _evaluate_task(found, data)
        return
    kept = found.folder / "records.jsonl"
    rows = records.read(kept, found.scenario) if kept.exists() else records.samples(found.scenario)
    if not found.writes():
        from labkit.evaluation import encoder_report

        typer.echo(f"{found.key}: ready\n{encoder_report.summary(encoder_report.evaluate(found, rows))}")
        return
    report.evaluate(found, rows)
    typer.echo(_summary(found))


def _evaluate_task(run, data: str | None) -> None:
    """Measure a run on a task's own data, from where it came or from a folder of the same layout."""
    from labkit.evaluation import task_report
    from labkit.training.tasks import formats

    found = task_report.evaluate(run, formats.named(data or run.manifest()["data"]["name"]))
    typer.echo(f"{run.key}: ready\n{task_report.summary(found)}")


@app.command(epilog="Example: labkit chat finance/default --prompt 'Salaried, 4 years in the job, no missed payments.'")
def chat(run: Annotated[str, typer.Argument(help="A run (SCENARIO/NAME), or a scenario's name with --base-only.")],
         prompt: Annotated[str | None, typer.Option(help="Ask this and end; without it, ask line by line.")] = None,
         language: Language = "en",
         base_only: Annotated[bool, typer.Option("--base-only", help="The base model without adapter.")] = False,
         temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 0.0,
         max_tokens: Annotated[int, typer.Option(min=1, max=4096)] = 256) -> None:
    """Chat with one checkpoint in the terminal."""
    from labkit import serving

    scenario, engine = _open(run, base_only)
    try:
        system = {"role": "system", "content": scenario.system_prompt(checked_language(language))}
        history: list[dict[str, str]] = []
        for question in [prompt] if prompt is not None else _questions():
            history.append({"role": "user", "content": question})
            pieces = []
            for piece in engine.stream([system, *history], serving.Sampling(temperature=temperature, max_tokens=max_tokens)):
                pieces.append(piece)
                typer.echo(piece, nl=False)
            typer.echo("")
            history.append({"role": "assistant", "content": "".join(pieces)})
    finally:
        engine.close()


@app.command(epilog="Example: labkit compare customer_service base default --prompt 'Where is my parcel?'")
def compare(scenario: Annotated[str, typer.Argument(help="The scenario.")],
            names: Annotated[list[str], typer.Argument(help="Two to four of its runs, or `base`.")],
            prompt: Annotated[str, typer.Option(help="The question to all.")], language: Language = "en") -> None:
    """Ask several checkpoints the same question and print the answers one after the other."""
    from labkit import files, serving

    if not 2 <= len(names) <= 4:
        raise LabError(f"compare needs two to four checkpoints, not {len(names)}")
    for name in names:
        chosen, engine = _open(scenario if name == "base" else f"{scenario}/{name}", name == "base")
        try:
            system = {"role": "system", "content": chosen.system_prompt(checked_language(language))}
            messages = [system, {"role": "user", "content": prompt}]
            weights = engine.weights
            shown = f"base {files.short(weights.base)}, " + (f"adapter {files.short(weights.adapter)}" if weights.adapter else "no adapter")
            typer.echo(f"── {name} ({shown}) ──")
            typer.echo("".join(engine.stream(messages, serving.Sampling())) + "\n")
        finally:
            engine.close()


@app.command("app", epilog="Example: labkit app --port 7861")
def app_(port: Annotated[int, typer.Option(min=1, max=65535)] = 7860) -> None:
    """Start the web app on 127.0.0.1."""
    from labkit import lab

    lab.check_port(port, "PORT")
    from apps import main as web

    web.launch(port=port)


@app.command(epilog="Example: labkit doctor")
def doctor() -> None:
    """What is installed, what this machine has, which engine will be used, and what is wrong, with the fix."""
    from labkit import doctor as checks

    findings = checks.look()
    for finding in findings:
        typer.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}: {finding.found}")
        if not finding.ok:
            typer.echo(f"     fix: {finding.fix}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: labkit lab --scenario finance --port 7861")
def lab(scenario: ScenarioNames = None, port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
        jupyter_port: Annotated[int, typer.Option(min=1, max=65535)] = 8888) -> None:
    """Build what is missing, then run the web app and JupyterLab until Ctrl-C. This is `make lab`."""
    from labkit import lab as whole

    whole.check_ports(port, jupyter_port)
    build(scenario=scenario)
    whole.serve(port, jupyter_port)


@votes_app.command("export", epilog="Example: labkit votes export votes.jsonl")
def votes_export(path: Annotated[Path, typer.Argument(help="Where the votes go (JSONL).")]) -> None:
    """Write all votes as JSONL."""
    from labkit.evaluation import votes

    typer.echo(f"{path}: {votes.export(path)} votes")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit()


def main() -> None:
    """The `labkit` command. Exit code 2 and one line for a LabError, 130 for Ctrl-C."""
    process.prepare()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except LabError as error:
        typer.echo(f"labkit: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            typer.echo("\nstopped; unfinished training goes on from its last checkpoint with the next `labkit build`", err=True)
        raise


def _list_steps(language: str) -> None:
    from labkit.data import plan, steps

    usual = plan.default().names
    for name, step in steps.every().items():
        typer.echo(f"{name}  ({step.title[language]}){'' if name in usual else '  not in the usual plan'}")
        typer.echo(f"    {' '.join(step.about.split())}")
        for parameter, default in step.defaults.items():
            typer.echo(f"    {parameter} = {default!r}")


def _guessed(rows: list[Any], scenario: Any, language: str, yes: bool) -> dict[str, str]:
    """The mapping that is guessed from these rows, shown, and agreed to by --yes or by the person at the terminal."""
    from labkit.data import mapping

    guess = mapping.guess(rows, scenario)
    for line in guess.table(language):
        typer.echo(line)
    mapping.check(guess.mapping, scenario)
    if not yes and not (sys.stdin.isatty() and typer.confirm("go on with this?", default=True)):
        raise LabError(f"nothing was prepared; take this guess with --yes, or say it yourself: --map '{guess.spelled()}'")
    return guess.mapping


def _passphrase(new: bool) -> str:
    found = os.environ.get("LABKIT_VAULT_PASSPHRASE")
    if found or not sys.stdin.isatty():
        return found or ""
    return typer.prompt("passphrase of the vault", hide_input=True, confirmation_prompt=new)


@contextlib.contextmanager
def _named_bars():
    """Progress in the terminal, a bar for each step in turn: `tell(step, done, total)`."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def tell(step: str, done: int, total: int) -> None:
        if step not in bars:
            for bar in bars.values():
                bar.close()
            bars[step] = tqdm(total=total, desc=step, unit=" records", leave=False, disable=None)  # no bar where nobody looks
        bars[step].update(done - bars[step].n)

    try:
        yield tell
    finally:
        for bar in bars.values():
            bar.close()


def _open(name: str, base_only: bool):
    """(scenario, engine) of a run, or of a scenario's base model."""
    from labkit import runs, scenarios, serving

    if base_only:
        return scenarios.load(name.split("/")[0]), serving.open_engine(models.resolve(), None)
    run = runs.find(name)
    return run.scenario, serving.open_engine(models.resolve(run.manifest()["base"]["name"]), run)


def _questions() -> Iterator[str]:
    while True:
        try:
            question = typer.prompt("you", prompt_suffix="> ")
        except typer.Abort:
            typer.echo("")
            return
        if question.strip():
            yield question


def _summary(run) -> str:
    """One line a field: base → fine-tuned."""
    from labkit.evaluation import report

    return f"{run.key}: ready\n{report.summary(run)}"

"""The command line: a thin face over functions that can be imported. A user's mistake is one line and exit code 2."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit import __version__, models, process
from labkit.errors import LabError

app = typer.Typer(name="labkit", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  add_completion=False, help="Prepare data, fine-tune, evaluate and serve language models.")
votes_app = typer.Typer(no_args_is_help=True, help="The votes of the Compare page.")
app.add_typer(votes_app, name="votes")

ScenarioNames = Annotated[list[str] | None, typer.Option("--scenario", "-s", help="A scenario; may be given several times.")]
ScenarioName = Annotated[str, typer.Option("--scenario", "-s", help="The scenario.")]
Source = Annotated[str | None, typer.Option(help="A CSV, TSV, JSON, JSONL or Parquet file of your own, in place of the samples.")]
Mapping = Annotated[str | None, typer.Option("--map", help="Which column is what: text=COLUMN,FIELD=COLUMN,…")]
Name = Annotated[str, typer.Option(help="The run's name.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A recipe setting, KEY=VALUE; may be given several times.")]
Language = Annotated[str, typer.Option(help="The language of the system prompt and the answer: en or zh.")]
_INTERRUPTED = 130  # what typer exits with at Ctrl-C

Base = Annotated[str | None, typer.Option(help="The base model: an embedded one, a folder, or a hub name.")]


@app.command(epilog="Example: labkit build --scenario finance")
def build(scenario: ScenarioNames = None, source: Source = None, map: Mapping = None, name: Name = "default",
          set: Settings = None, base: Base = None) -> None:
    """Train and evaluate whatever is missing: all scenarios, or those named.

    A file of your own: labkit build -s customer_service --source mine.csv --map text=message,intent=category --name mine
    """
    from labkit import build as building
    from labkit import runs, scenarios

    if source and (not scenario or len(scenario) != 1 or not map):
        raise LabError("--source needs exactly one --scenario and a --map; example: "
                       "-s customer_service --source mine.csv --map text=message,intent=category")
    if map and not source:
        raise LabError("--map belongs to --source; name the file")
    name = Path(source).stem if source and name == "default" else name
    for each in scenario or scenarios.names():
        recipe = building.recipe_for(each, name, base=base, **_settings(set))
        folder = runs.folder_for(each, name)
        data = building.from_file(each, source, map, name, typer.echo) if source else building.from_samples(each)
        if not source and building.is_current(runs.Run(folder)):
            typer.echo(f"{each}/{name}: ready")
            continue
        with _bars(f"{each}/{name}") as (on_prepare, on_step):
            run = building.build(recipe, data, on_step, on_prepare, typer.echo)
        typer.echo(_summary(run))


@app.command(epilog="Example: labkit prepare -s customer_service --source mine.csv --map text=message,intent=category --out mine.jsonl")
def prepare(scenario: ScenarioName, source: Annotated[str, typer.Option(help="The file to read.")],
            map: Annotated[str, typer.Option("--map", help="text=COLUMN,FIELD=COLUMN,…")],
            out: Annotated[Path, typer.Option(help="Where the records go (JSONL).")]) -> None:
    """Turn a file of rows into records; rows that do not work go to OUT.rejects.jsonl with their line."""
    from labkit import records, scenarios
    from labkit.data import own

    known = scenarios.load(scenario)
    imported = own.read(source, known, own.parse_mapping(map, known))
    records.write(imported.records, out)
    scenarios.write(imported.scenario, out.with_suffix(".scenario.toml"))
    typer.echo(f"{out}: {len(imported.records)} records; the scenario with the file's labels: {out.with_suffix('.scenario.toml')}")
    if imported.rejects:
        own.write_rejects(imported.rejects, out.with_suffix(".rejects.jsonl"))
        typer.echo(f"{out.with_suffix('.rejects.jsonl')}: {len(imported.rejects)} rows that did not work")


@app.command(epilog="Example: labkit train -s legal --name careful --set learning_rate=0.0005 --set epochs=5")
def train(scenario: Annotated[str | None, typer.Option("--scenario", "-s", help="The scenario.")] = None,
          recipe: Annotated[Path | None, typer.Option(help="A recipe file (TOML); --set changes it.")] = None,
          name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
          set: Settings = None, base: Base = None) -> None:
    """Train one run on a scenario's sample data, or go on with it; see `labkit evaluate` for what comes next."""
    import dataclasses

    from labkit import build as building
    from labkit.training import recipe as recipes
    from labkit.training import trainer

    changes = {"name": name, "base": base, "scenario": scenario, **_settings(set)}
    plain = dataclasses.asdict(recipes.read(recipe)) if recipe else {}
    plain |= {key: value for key, value in changes.items() if value is not None}
    chosen = recipes.from_dict(plain, str(recipe) if recipe else "train")
    source = building.from_samples(chosen.scenario)
    with _bars(f"{chosen.scenario}/{chosen.name}") as (on_prepare, on_step):
        run = trainer.train(chosen, source.records, source.scenario, on_step, on_prepare)
    typer.echo(f"{run.key}: trained; {run.folder}")


@app.command(epilog="Example: labkit evaluate finance/default")
def evaluate(run: Annotated[str | None, typer.Argument(help="The run, SCENARIO/NAME.")] = None,
             table: Annotated[bool, typer.Option("--table", help="Print the default runs' results as Markdown.")] = False,
             language: Annotated[str, typer.Option(help="The table's language: en or zh.")] = "en") -> None:
    """Measure a run and its base model on the test split; results go into the run's folder."""
    from labkit import records, runs, scenarios
    from labkit.evaluation import report

    if table:
        typer.echo(report.table([runs.find(f"{name}/default") for name in scenarios.names()], _language(language)))
        return
    if not run:
        raise LabError("which run? labkit runs lists them; example: labkit evaluate finance/default")
    found = runs.find(run)
    kept = found.folder / "records.jsonl"
    data = records.read(kept, found.scenario) if kept.exists() else records.samples(found.scenario)
    report.evaluate(found, data)
    typer.echo(_summary(found))


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
        system = {"role": "system", "content": scenario.system_prompt(_language(language))}
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
            messages = [{"role": "system", "content": chosen.system_prompt(_language(language))}, {"role": "user", "content": prompt}]
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


@app.command(epilog="Example: labkit runs")
def runs() -> None:
    """List the runs with their state; damaged ones with what is wrong."""
    from labkit import runs as catalogue

    found = catalogue.catalogue()
    if not found:
        typer.echo("no runs yet; `labkit build` trains the four scenarios")
    for run in found:
        state = run.state()
        line = f"{run.key:40s} {state:9s}"
        if state == "done":
            training = run.manifest()["training"]
            line += f" loss {training['loss']:.3f}  {training['seconds']:.0f} s  {'evaluated' if run.evaluation() else 'not evaluated'}"
        elif state == "damaged":
            line += " " + "; ".join(catalogue.verify(run))
        elif rows := run.metrics():
            line += f" step {rows[-1]['step']} of {rows[-1]['steps']}"
        typer.echo(line)


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


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` pairs as TOML values; a bare word is a text."""
    import tomllib

    found = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise LabError(f"--set: {pair!r} is not of the form KEY=VALUE; example: --set epochs=5")
        try:
            found[key.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value
    return found


def _language(language: str) -> str:
    from labkit.scenarios import LANGUAGES

    if language not in LANGUAGES:
        raise LabError(f"--language must be {' or '.join(LANGUAGES)}, not {language!r}")
    return language


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


@contextlib.contextmanager
def _bars(title: str):
    """Progress in the terminal: (on_prepare, on_step) for `trainer.train`."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def on_prepare(done: int, total: int) -> None:
        if "prepare" not in bars:
            bars["prepare"] = tqdm(total=total, desc=f"{title} frozen layers", unit=" records")
        bars["prepare"].update(done - bars["prepare"].n)

    def on_step(row: dict[str, Any]) -> None:
        if "train" not in bars:
            bars["train"] = tqdm(total=row["steps"], initial=row["step"] - 1, desc=f"{title} training", unit=" steps")
        bars["train"].set_postfix_str(f"loss {row['loss']:.3f}, {row['tokens_per_second']:.0f} tokens/s")
        bars["train"].update(1)

    try:
        yield on_prepare, on_step
    finally:
        for bar in bars.values():
            bar.close()


def _summary(run) -> str:
    """One line a field: base → fine-tuned."""
    from labkit.evaluation import report

    return f"{run.key}: ready\n{report.summary(run)}"

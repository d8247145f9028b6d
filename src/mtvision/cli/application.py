"""The command ``mtvision``: its verbs, and what stands before them."""

import logging
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from mtvision.cli import data, exporting, parts, predicting, runs, setup, studies, training
from mtvision.cli.verbs import Verbs, add_verb

_HELP = """One network that segments and detects.

A verb with --help tells its options and has an example. Settings are key=value, such as training.lr=0.01.

\b
Example:
  mtvision init-config run.yaml
  mtvision train run.yaml training.lr=0.001 --run-dir runs/a
  mtvision predict runs/a photos --out predictions

\b
Exit codes:
  0    done
  1    the work failed: bad data, a damaged checkpoint, no memory
  2    the command or the config is wrong
  130  stopped by Ctrl-C

Completion of verbs, keys and names: mtvision --install-completion
"""

app = typer.Typer(
    name="mtvision",
    cls=Verbs,
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its import takes longer than the help
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from mtvision import __version__

        typer.echo(f"mtvision {__version__}")
        raise typer.Exit


@app.callback()
def _before_each_verb(
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="FILE.py|MODULE", help="Parts of your own, which it registers; repeatable."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files have characters that a terminal lacks
    if imports:
        from mtvision.study.running.own_parts import import_parts

        import_parts(imports, Path.cwd())


add_verb(app, training.train)
add_verb(app, runs.evaluate)
add_verb(app, predicting.predict)
add_verb(app, runs.analyze)
add_verb(app, runs.compare)
add_verb(app, exporting.export)
app.add_typer(studies.app, name="study", short_help=str(studies.app.info.help).rstrip("."))
add_verb(app, data.check_data, "check-data")
add_verb(app, data.stats)
add_verb(app, parts.list_parts, "list")
add_verb(app, parts.describe)
add_verb(app, setup.init_config, "init-config")
add_verb(app, setup.doctor)

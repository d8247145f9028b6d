"""Calls of the command line within the test's process, and a config whose run takes a second."""

import shlex

import typer
from typer.testing import CliRunner

from mtvision.cli import app

SETTINGS = (
    "system.epochs=1",
    "system.device=cpu",
    "system.trackers=[]",
    "model.backbone=test_resnet",
    "model.dropout_rate=0",
    "training.batch_size=4",
    "data.dataset={name: shapes, num_images: 8, image_size: 32}",
    "data.image_size=32",
    "data.augmentation_level=none",
)


def run(*arguments, **environment):
    return CliRunner().invoke(app, list(map(str, arguments)), env=environment, prog_name="mtvision")


def ok(*arguments):
    """Return what a call says that must end well."""
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def commands():
    """Return each command of the command line by the words that call it: ``("study", "plan")``."""
    root = typer.main.get_command(app)
    return {words: command for words, command in _below((), root) if words}


def _below(words, command):
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _below((*words, name), inner)
    else:
        yield words, command


def parsed(line):
    """Return what a line of a shell means: the words of the command, and its parameters as the command takes them."""
    program, *words = shlex.split(line, comments=True)
    assert program == "mtvision"
    known = commands()
    start = next(words[:n] for n in (1, 2) if tuple(words[:n]) in known)
    context = known[tuple(start)].make_context(" ".join(start), words[len(start) :])
    return tuple(start), context.params

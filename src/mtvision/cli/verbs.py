"""How a verb is shown, and how it ends that cannot do its work: with a sentence and an exit code."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from mtvision.errors import ConfigError, MtvisionError, RegistryError

FAILED, WRONG, STOPPED = 1, 2, 130
"""Exit codes: the work failed, the command or config is wrong, Ctrl-C."""

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch says on a GPU, and what its CPU allocators say."""


def add_verb(app: typer.Typer, function: Callable[..., None], name: str | None = None) -> None:
    """Add a verb to a command; its help is the docstring, in which the example keeps its lines.

    Args:
        app: the command.
        function: whose parameters are the verb's arguments and options.
        name: of the verb; that of the function if None.
    """
    text = inspect.cleandoc(function.__doc__ or "").replace("\nExample:\n", "\n\b\nExample:\n")
    summary = text.partition("\n\n")[0].replace("\n", " ").rstrip(".")

    @wraps(function)
    def verb(**values: Any) -> None:
        function(**{key: _at_home(value) for key, value in values.items()})

    app.command(name or function.__name__, help=text, short_help=summary)(verb)


def _at_home(value: Any) -> Any:
    """Return a path, or those of a list, without the ``~`` that a shell leaves in quotes or behind a ``=``."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return value.expanduser() if isinstance(value, Path) else value


class Verbs(TyperGroup):
    """The group of all verbs, whose errors are told in one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was named."""
        with one_sentence():
            return super().invoke(ctx)


@contextmanager
def one_sentence(*, code: int = FAILED) -> Iterator[None]:
    """End with the sentence of an error that a person can act on.

    Args:
        code: to exit with; 2 for a wrong config, in any case.
    """
    try:
        yield
    except MtvisionError as error:
        _leave(f"error: {error}", WRONG if isinstance(error, ConfigError | RegistryError) else code)
    except ModuleNotFoundError as error:
        _leave(f"error: {error}{_hint(error)}", code)
    except KeyboardInterrupt as error:
        _leave(str(error) or "stopped", STOPPED)
    except BrokenPipeError:  # whoever read the output has enough, as head does
        raise
    except OSError as error:
        if error.strerror is None:  # not of the operating system
            raise
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"error: {where}{error.strerror}", code)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _NO_MEMORY):
            raise
        first = next(iter(str(error).splitlines()), "out of memory")
        _leave(f"error: {first}\nhint: smaller batches need less: training.batch_size, or --batch-size", code)


def _leave(text: str, code: int) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(code) from None


def _hint(error: ModuleNotFoundError) -> str:
    """Return the command that brings a missing module, where the message does not tell it already."""
    from mtvision.installation import extra_of

    extra = extra_of(error.name or "")
    return f": pip install 'mtvision[{extra}]'" if extra is not None and "pip install" not in str(error) else ""

"""Where a study keeps its queue and its results: Optuna's tables in a local file or a PostgreSQL database."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from mtvision.errors import ConfigError

FILE = "study.db"
HEARTBEAT_SECONDS = 20
GRACE_SECONDS = 120  # without a sign of life, after which a worker on another machine counts as dead
_LOCK_SECONDS = 300.0  # for SQLite; its locks are held for milliseconds

logger = logging.getLogger(__name__)


class Storage:
    """Optuna's storage and a lock that all workers of a study share.

    Args:
        folder: of the study; the file of a local storage is in it.
        url: ``postgresql://user:password@host/database``; None: a file in the folder.
        grace: seconds without a sign of life, after which a worker elsewhere counts as dead.

    Raises:
        ConfigError: if the URL is of another database, its driver is not installed or it cannot be reached.
    """

    def __init__(self, folder: Path, url: str | None = None, *, grace: int = GRACE_SECONDS) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self.url = url
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError([f"{folder}: the study's folder cannot be made ({error.strerror})"]) from None
        self._folder_lock = FileLock(folder / "study.lock")  # the system gives it up when its process dies
        resolved = _driver_url(url) if url is not None else f"sqlite:///{(folder / FILE).absolute()}"
        self.is_file = resolved.startswith("sqlite")
        options = {"connect_args": {"timeout": _LOCK_SECONDS}} if self.is_file else {"pool_pre_ping": True}
        with self._folder_lock:  # Optuna creates its tables without looking whether another process does
            self.optuna: Any = _connect(optuna, resolved, url, options, grace)

    def take(self, trial_id: int) -> bool:
        """Make a waiting trial a running one; tell whether it was this process that did."""
        from optuna.trial import TrialState

        return bool(self.optuna.set_trial_state_values(trial_id, TrialState.RUNNING))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other workers of the study out, on this machine and on others; given up when this process ends."""
        with self._folder_lock:
            if self.is_file:
                yield
                return
            from sqlalchemy import text

            with self.optuna.engine.connect() as connection:
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
                try:
                    yield
                finally:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})


_LOCK_KEY = 0x6D74_7669  # "mtvi"


def _driver_url(url: str) -> str:
    match = re.match(r"(postgresql|postgres)(\+\w+)?:", url)
    if match is None:
        raise ConfigError([f"storage: '{_without_password(url)}' is not supported; give postgresql://user@host/db"])
    if match[2] is None:
        return "postgresql+psycopg" + url[len(match[1]) :]
    return url


def _connect(optuna: Any, resolved: str, url: str | None, options: dict[str, Any], grace: int) -> Any:
    from sqlalchemy.exc import DatabaseError, SQLAlchemyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                resolved,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=grace,
            )
    except ImportError as error:
        raise ConfigError([f"storage: {error}; pip install 'mtvision[postgresql]'"]) from None
    except (SQLAlchemyError, ValueError) as error:
        reason = str(error.orig if isinstance(error, DatabaseError) else error).strip().splitlines()[0]
        raise ConfigError([f"storage: '{_without_password(url or resolved)}' cannot be opened ({reason})"]) from None


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)

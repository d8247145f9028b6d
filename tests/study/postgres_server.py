"""A PostgreSQL server of one's own for a test, where its programs are installed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

_SECONDS = 30


def _program(name):
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(iter(installed), None)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def postgres_server(folder):
    """Start a server in a folder, and yield the URL of its database; skip where that cannot be done."""
    programs = {name: _program(name) for name in ("initdb", "postgres")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f"no PostgreSQL server here: {', '.join(missing)} not found (Debian's package: postgresql)")
    data, port = folder / "data", _free_port()
    data.mkdir()
    user = {}
    if os.geteuid() == 0:  # the server refuses to be root
        import pwd

        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        for parent in (folder, *folder.parents):
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)  # pytest's folders are closed to others
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": "/"}
    auth = ["--auth=trust", "--username=study", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run([programs["initdb"], "-D", str(data), *auth], check=True, **user, **quiet)
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-F"]
    server = subprocess.Popen([programs["postgres"], "-D", str(data), *options], **user, **quiet)
    try:
        url = f"postgresql://study@127.0.0.1:{port}/postgres"
        _wait_until_it_answers(url, server)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for the clients to leave
        server.wait(timeout=_SECONDS)


def _wait_until_it_answers(url, server):
    import psycopg

    for _ in range(10 * _SECONDS):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, "the server has ended"
            time.sleep(0.1)
    raise AssertionError("the server does not answer")

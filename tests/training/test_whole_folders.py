"""A folder is there whole or not at all, whatever happens while it is written."""

import errno
import resource
import signal

import pytest

from mtvision.errors import CheckpointError
from mtvision.training import whole_folders
from mtvision.training.whole_folders import is_whole, write_folder

FIRST, SECOND, THIRD = ({"a": bytes([n]) * 1000, "b": b"x" * n} for n in (1, 2, 3))


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def newest(folder):
    found = next(whole_folders.whole_folders(folder), None)
    return content(found) if found is not None else None


def test_the_last_two_are_kept(tmp_path):
    folder = tmp_path / "last"
    for files in (FIRST, SECOND, THIRD):
        write_folder(folder, files, keep_previous=True)
    assert content(folder) == THIRD
    assert content(tmp_path / "last.previous") == SECOND
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "last.previous"]
    write_folder(tmp_path / "best", FIRST)
    write_folder(tmp_path / "best", SECOND)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "last.previous"]


@pytest.mark.parametrize(
    "damage", ["a file shorter", "a byte changed", "a file missing", "no manifest", "half a manifest"]
)
def test_a_torn_folder_is_noticed_and_costs_one_interval(tmp_path, damage):
    folder = tmp_path / "last"
    write_folder(folder, FIRST, keep_previous=True)
    write_folder(folder, SECOND, keep_previous=True)
    manifest = folder / "manifest.json"
    if damage == "a file shorter":
        (folder / "a").write_bytes(SECOND["a"][:-1])
    elif damage == "a byte changed":
        (folder / "a").write_bytes(b"\xff" + SECOND["a"][1:])
    elif damage == "a file missing":
        (folder / "b").unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:20])
    assert not is_whole(folder)
    assert newest(folder) == FIRST


@pytest.mark.parametrize("keep_previous", [True, False])
def test_cut_off_before_any_call_of_the_system_a_whole_one_stays(tmp_path, monkeypatch, keep_previous):
    """Every write, sync, rename and removal in turn is the one that no longer happens."""

    class Killed(BaseException):
        pass

    def dying(function, left):
        def call(*arguments, **options):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*arguments, **options)

        return call

    survived = []
    for number in range(40):
        folder = tmp_path / str(number) / "last"
        write_folder(folder, FIRST, keep_previous=keep_previous)
        write_folder(folder, SECOND, keep_previous=keep_previous)
        left = [number]
        with monkeypatch.context() as patch:
            for owner, name in (
                (whole_folders.os, "fsync"),
                (whole_folders.Path, "mkdir"),
                (whole_folders.Path, "open"),
                (whole_folders.Path, "rename"),
                (whole_folders.shutil, "rmtree"),
            ):
                patch.setattr(owner, name, dying(getattr(owner, name), left))
            try:
                write_folder(folder, THIRD, keep_previous=keep_previous)
                survived.append(number)
            except Killed:
                pass
        expected = (THIRD,) if survived else (SECOND, THIRD)
        state = newest(folder)
        assert state in expected, number
        with monkeypatch.context() as patch:
            patch.setattr(whole_folders, "write_synced", full_disk)
            with pytest.raises(CheckpointError, match="No space left on device"):
                write_folder(folder, FIRST, keep_previous=keep_previous)
        assert newest(folder) == state, number  # what the cut left is not given up for what cannot be written
        write_folder(folder, FIRST, keep_previous=keep_previous)  # the next writing mends what was left
        assert newest(folder) == FIRST
    assert survived, "no writing came to its end: there are more calls than were tried"
    assert survived[0] > 8


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """The system refuses to let a file grow, in the middle of it, as it does when the disk is full."""
    folder = tmp_path / "last"
    write_folder(folder, FIRST, keep_previous=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"last: cannot be written \(File too large\); what was there before"):
            write_folder(folder, SECOND, keep_previous=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert content(folder) == FIRST
    assert [path.name for path in tmp_path.iterdir()] == ["last"]

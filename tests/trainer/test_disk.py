"""What a run takes of a disk is seen, also where it hides."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.disk import Disk
from trainer.spawn import WORKSPACE_BYTES, WORKSPACE_FILES
from trainer.tree import Tree

KEEPS_DELETED = """
import os, sys
file = open(sys.argv[1], "wb")
os.posix_fallocate(file.fileno(), 0, int(sys.argv[2]))
os.unlink(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_nothing_is_said_of_a_usual_run(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    (tmp_path / "checkpoint").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/usr")
    assert disk.overuse([Tree(os.getpid())]) == ""


def test_files_are_counted(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for number in range(WORKSPACE_FILES // 128):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file in range(128):
            (folder / str(file)).touch()
    assert disk.overuse([]) == "made more than the 16384 files that are granted"


def test_bytes_are_counted_as_they_lie_on_the_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2 * WORKSPACE_BYTES)
    assert disk.overuse([]) == ""
    with (tmp_path / "real").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, WORKSPACE_BYTES + 1)
    assert disk.overuse([]) == "wrote more than the 1024 MiB that are granted"


def test_deleted_files_count_while_they_are_open(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    command = [sys.executable, "-c", KEEPS_DELETED, str(tmp_path / "file"), str(WORKSPACE_BYTES + 1)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert disk.overuse([]) == ""
        assert disk.overuse([Tree(process.pid)]) == "wrote more than the 1024 MiB that are granted"
        process.communicate()
    assert disk.overuse([Tree(process.pid)]) == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only who may mount can have a small disk")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_some_of_the_disk_is_left_to_others(small_disk: Path) -> None:
    disk = Disk(small_disk)
    (small_disk / "half").write_bytes(b"x" * (1 << 20))
    assert disk.overuse([]) == ""
    (small_disk / "more").write_bytes(b"x" * (2 << 20))
    assert disk.overuse([]) == "left less than 2 MiB free on the disk"


async def test_waiting_ends_when_more_is_taken(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    (tmp_path / "closed").mkdir()
    (tmp_path / "file").touch()
    for number in range(WORKSPACE_FILES):
        (tmp_path / f"closed/{number}").touch()
    assert "files" in await disk.overused([])

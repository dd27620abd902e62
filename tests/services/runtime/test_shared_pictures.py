"""Pictures in memory that a gateway shares with task services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perception.v1 import image_pb2

from services.runtime.errors import InvalidInput, PictureNotShared
from services.runtime.shared_pictures import SharedPictureReader, SharedPictures

MOST = 3

HOLDER = """
import sys, time
from pathlib import Path
from services.runtime.shared_pictures import SharedPictures
memory = SharedPictures(Path(sys.argv[1]), 1)
memory.take(4, 4).pixels[:] = 7
print("holds", flush=True)
time.sleep(600)
"""


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[SharedPictures]:
    memory = SharedPictures(tmp_path, MOST)
    yield memory
    memory.close()


def folders(directory: Path) -> set[Path]:
    return {path for path in directory.iterdir() if path.is_dir()}


@given(sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12))
def test_what_is_written_is_read(sizes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("shared")
    memory, reader = SharedPictures(directory, MOST), SharedPictureReader(directory)
    rng = np.random.default_rng(len(sizes))
    for height, width in sizes:
        room = memory.take(height, width)
        assert room is not None
        written = rng.integers(0, 256, (height, width, 3), np.uint8)
        room.pixels[:] = written
        np.testing.assert_array_equal(reader.read(room.message), written)
        memory.give_back(room)
    assert len(list(directory.glob("*/0"))) == 1, "a place that is free again is taken before another one"
    memory.close()


def test_so_many_at_once_and_none_too_large(memory: SharedPictures) -> None:
    taken = [memory.take(2, 2) for _ in range(MOST)]
    assert len({room.message.name for room in taken if room}) == MOST
    assert memory.take(2, 2) is None
    assert taken[1] is not None
    memory.give_back(taken[1])
    again = memory.take(2, 2)
    assert again is not None
    assert again.message.name == taken[1].message.name
    memory.give_back(again)
    assert memory.take(4097, 2304) is None
    assert memory.take(4096, 2304) is not None


def test_a_full_file_system_leaves_the_picture_to_be_sent(
    memory: SharedPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        assert [memory.take(2, 2) for _ in range(2 * MOST)] == [None] * 2 * MOST
    assert memory.take(2, 2) is not None


def test_what_is_read_cannot_be_written(memory: SharedPictures, tmp_path: Path) -> None:
    room = memory.take(2, 2)
    assert room is not None
    pixels = SharedPictureReader(tmp_path).read(room.message)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1


def test_nobody_else_may_read(memory: SharedPictures, tmp_path: Path) -> None:
    assert memory.take(2, 2) is not None
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    "name", ["", "0", "../secret", "/etc/passwd", f"{'0' * 32}/../lock", f"{'0' * 32}/lock", f"{'0' * 32}/0\n"]
)
def test_a_name_that_no_gateway_gives_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^image\.shared\.name: "):
        SharedPictureReader(tmp_path).read(image_pb2.SharedPicture(name=name, height=1, width=1))


@given(height=st.integers(0, 2**32 - 1), width=st.integers(0, 2**32 - 1))
def test_a_claim_beyond_the_memory_is_refused(
    height: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("shared")
    memory = SharedPictures(directory, 1)
    room = memory.take(8, 8)
    assert room is not None
    reader = SharedPictureReader(directory)
    claimed = image_pb2.SharedPicture(name=room.message.name, height=height, width=width)
    if 0 < height * width <= 64:
        assert reader.read(claimed).shape == (height, width, 3)
    else:
        with pytest.raises(InvalidInput, match=r"^image\.shared: a picture of "):
            reader.read(claimed)
    memory.close()


def test_who_shares_nothing_says_so(memory: SharedPictures, tmp_path: Path) -> None:
    room = memory.take(2, 2)
    assert room is not None
    with pytest.raises(PictureNotShared, match="SHARED_PICTURES_DIRECTORY is not set"):
        SharedPictureReader(None).read(room.message)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(PictureNotShared, match="No such file or directory"):
        SharedPictureReader(elsewhere).read(room.message)


def test_nothing_is_left_of_a_gateway_that_ended(tmp_path: Path) -> None:
    SharedPictures(tmp_path, 1).close()
    assert not folders(tmp_path)


def test_a_killed_gateway_is_cleared_away_by_the_next_and_a_living_one_is_not(
    memory: SharedPictures, tmp_path: Path
) -> None:
    held = memory.take(2, 2)
    assert held is not None
    living = folders(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        killed = folders(tmp_path) - living
        assert len(killed) == 1
        holder.send_signal(signal.SIGKILL)
    reader = SharedPictureReader(tmp_path)
    name = f"{killed.pop().name}/0"
    assert reader.read(image_pb2.SharedPicture(name=name, height=4, width=4)).max() == 7
    following = SharedPictures(tmp_path, 1)
    assert len(folders(tmp_path)) == 2
    assert living < folders(tmp_path)
    reader.read(held.message)
    with pytest.raises(PictureNotShared):  # it has let go of what nobody holds any more
        reader.read(image_pb2.SharedPicture(name=name, height=4, width=4))
    following.close()

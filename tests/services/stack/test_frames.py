"""Frames from pictures, folders and videos."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.stack.frames import Source, SourceError


def write_picture(path: Path, value: int) -> bytes:
    data = cv2.imencode(path.suffix.lower(), np.full((20, 30, 3), value, np.uint8))[1].tobytes()
    path.write_bytes(data)
    return data


def write_video(path: Path, frames: int = 12, rate: int = 10, codec: str = "libx264") -> Path:
    """A video whose frames differ in brightness, by 20 from one to the next."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            picture = np.full((48, 64, 3), 10 + 20 * (index % 12), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_picture_is_one_frame_of_its_own_bytes(tmp_path: Path) -> None:
    data = write_picture(tmp_path / "street.jpg", 50)
    source = Source.open(tmp_path / "street.jpg")
    assert (source.count, source.frames_per_second) == (1, None)
    (frame,) = source.frames()
    assert (frame.name, frame.data) == ("street", data)


def test_a_folder_gives_its_pictures_in_order_and_nothing_else(tmp_path: Path) -> None:
    data = {name: write_picture(tmp_path / name, 50) for name in ("b.png", "a.JPG", "c.webp", "d.jpeg")}
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    source = Source.open(tmp_path)
    assert (source.count, source.frames_per_second) == (4, None)
    frames = list(source.frames())
    assert [frame.name for frame in frames] == ["a", "b", "c", "d"]
    assert [frame.data for frame in frames] == [data[name] for name in ("a.JPG", "b.png", "c.webp", "d.jpeg")]


def test_pictures_that_differ_by_their_suffix_alone_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        write_picture(tmp_path / name, 50)
    assert [frame.name for frame in Source.open(tmp_path).frames()] == ["a_jpg", "a_png", "b"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_gives_every_frame_in_order(tmp_path: Path, suffix: str) -> None:
    source = Source.open(write_video(tmp_path / f"film{suffix}"))
    assert (source.count, source.frames_per_second) == (12, 10)
    frames = list(source.frames())
    assert [frame.name for frame in frames] == [f"film_{index:06d}" for index in range(12)]
    means = [cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_COLOR).mean() for frame in frames]
    np.testing.assert_allclose(means, 10 + 20 * np.arange(12), atol=5)


def test_real_videos(perception_data: Path) -> None:
    expected = {
        "bottle-detection.mp4": (1189, 29.8, (360, 640, 3)),
        "camvid_0016E5_15hz.mp4": (101, 15.0, (360, 480, 3)),
        "dashcam_solidWhiteRight.mp4": (221, 25.0, (540, 960, 3)),
    }
    for name, (count, rate, shape) in expected.items():
        source = Source.open(perception_data / "videos" / name)
        assert source.count == count
        assert source.frames_per_second == pytest.approx(rate, abs=0.1)
        first = next(source.frames())
        assert cv2.imdecode(np.frombuffer(first.data, np.uint8), cv2.IMREAD_COLOR).shape == shape


def test_a_real_video_has_as_many_frames_as_it_says(perception_data: Path) -> None:
    source = Source.open(perception_data / "videos" / "camvid_0016E5_15hz.mp4")
    assert sum(1 for _ in source.frames()) == source.count


def test_a_real_folder(perception_data: Path) -> None:
    folder = perception_data / "images" / "camvid" / "val_0016E5_15hz"
    source = Source.open(folder)
    names = [frame.name for frame in source.frames()]
    assert len(names) == source.count == len(list(folder.glob("*.jpg")))
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jpg", None, "no such file or folder"),
        ("empty.mp4", b"", "cannot be read as a video"),
        ("noise.mp4", bytes(range(256)) * 40, "cannot be read as a video"),
        ("page.mkv", b"<html>404</html>", "cannot be read as a video"),
    ],
)
def test_what_no_frame_can_be_read_from(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        Source.open(path)
    assert str(path) in str(caught.value)


def test_an_empty_folder_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    with pytest.raises(SourceError, match=r"no pictures \(.jpeg, .jpg, .png, .webp\) in this folder"):
        Source.open(tmp_path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(SourceError, match="no video in this file"):
        Source.open(path)


def test_a_video_cut_short_gives_what_is_there_or_says_where_it_breaks_off(tmp_path: Path) -> None:
    """Matroska is written from the front, so its beginning can be read."""
    whole = write_video(tmp_path / "film.mkv", frames=100).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    names = []
    try:
        names += [frame.name for frame in Source.open(path).frames()]
    except SourceError as error:
        assert "breaks off" in str(error)
    assert 0 < len(names) < 100

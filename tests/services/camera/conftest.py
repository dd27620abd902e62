"""Real cameras on this machine."""

from pathlib import Path

import pytest

from tests.support.rtsp import require_gstreamer, write_access_units


@pytest.fixture(scope="session")
def h264(perception_data: Path) -> Path:
    """A real drive on a motorway: 960x540, 25 frames per second, 221 frames, no B-frames."""
    return perception_data / "videos" / "dashcam_solidWhiteRight.mp4"


@pytest.fixture(scope="session")
def access_units(h264: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drive as the RTSP server takes it; skips the test where there is no GStreamer."""
    require_gstreamer()
    return write_access_units(h264, tmp_path_factory.mktemp("rtsp") / "units")

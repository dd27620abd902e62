import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.catalog.schema import Source
from models.export import weights
from models.export.download import DownloadError, download
from models.export.weights import WeightsError, WrongDigestError, file_sha256, resolve_weights, verify

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Upstream(http.server.BaseHTTPRequestHandler):
    """Serves `/good`, and files that are wrong in one way each."""

    protocol_version = "HTTP/1.1"
    ranges: list[str | None] = []  # noqa: RUF012 - of the whole test server

    def do_GET(self) -> None:
        start = self.headers.get("Range", "")
        self.ranges.append(start or None)
        if self.path == "/moved":
            self.answer(302, b"", Location="/good")
        elif self.path == "/missing":
            self.answer(404, b"nothing here")
        elif self.path == "/corrupted":
            self.answer(200, CONTENT[:-1] + b"x")
        elif self.path == "/truncated":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100_000])
            self.close_connection = True
        elif self.path == "/nameless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
            self.close_connection = True
        elif start and self.path == "/good":
            offset = int(start.removeprefix("bytes=").removesuffix("-"))
            if offset >= len(CONTENT):
                self.answer(416, b"")
            else:
                self.answer(206, CONTENT[offset:])
        else:
            self.answer(200, CONTENT)

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_requests_seen() -> None:
    Upstream.ranges.clear()


def check(path: Path) -> None:
    verify(path, DIGEST, "weights")


def test_a_file_is_fetched_whole_and_with_progress(upstream: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    download(f"{upstream}/good", tmp_path / "new" / "file", check, lambda done, total: seen.append((done, total)))
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_redirects_are_followed(upstream: str, tmp_path: Path) -> None:
    download(f"{upstream}/moved", tmp_path / "file", check)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_does_not_say_the_length_is_believed_until_the_digest(upstream: str, tmp_path: Path) -> None:
    download(f"{upstream}/nameless", tmp_path / "file", check)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_corrupted_file_is_refused_by_name_and_not_kept(upstream: str, tmp_path: Path) -> None:
    with pytest.raises(WrongDigestError, match=f"weights: expected SHA-256 {DIGEST}, found [0-9a-f]{{64}}"):
        download(f"{upstream}/corrupted", tmp_path / "file", check)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_an_error_with_the_status(upstream: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="/missing: the server answered 404"):
        download(f"{upstream}/missing", tmp_path / "file", check)
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_refused_and_a_later_call_goes_on(upstream: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"expected {len(CONTENT)} bytes, found 100000"):
        download(f"{upstream}/truncated", tmp_path / "file", check)
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]
    download(f"{upstream}/good", tmp_path / "file", check)
    assert Upstream.ranges[-1] == "bytes=100000-"
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(upstream: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"some other beginning")
    download(f"{upstream}/elsewhere", tmp_path / "file", check)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_complete_part_needs_nothing_more(upstream: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(f"{upstream}/good", tmp_path / "file", check)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["good", "nameless"])
def test_a_file_over_the_limit_is_refused(upstream: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloadError, match="expected at most 1000 bytes, found"):
        download(f"{upstream}/{path}", tmp_path / "file", check, size_limit=1000)
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_an_error_with_the_address(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/file: "):
        download("http://127.0.0.1:9/file", tmp_path / "file", check)


def test_other_protocols_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected an http or https address"):
        download("file:///etc/hostname", tmp_path / "file", check)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    names = {name: tmp_path / name for name in ("user", "bundled", "cache", "data")}
    for folder in names.values():
        folder.mkdir()
    (names["data"] / "weights" / "derived").mkdir(parents=True)
    monkeypatch.setenv("WEIGHTS_DIR", str(names["user"]))
    monkeypatch.setenv("PERCEPTION_DATA", str(names["data"]))
    monkeypatch.setattr(weights, "BUNDLED", names["bundled"])
    monkeypatch.setattr(weights, "CACHE", names["cache"])
    return names


SOURCE = Source(file="model.onnx", sha256=DIGEST)


def test_weights_are_looked_for_in_order(folders: dict[str, Path]) -> None:
    places = [folders["data"] / "weights" / "derived", folders["cache"], folders["bundled"], folders["user"]]
    for place in places:  # each is found before those that came earlier
        (place / "model.onnx").write_bytes(CONTENT)
        assert resolve_weights(SOURCE).parent == place


def test_weights_may_lie_one_folder_below(folders: dict[str, Path]) -> None:
    (folders["user"] / "yolo").mkdir()
    (folders["user"] / "yolo" / "model.onnx").write_bytes(CONTENT)
    assert resolve_weights(SOURCE) == folders["user"] / "yolo" / "model.onnx"


def test_a_file_with_another_digest_is_refused_rather_than_passed_over(folders: dict[str, Path]) -> None:
    (folders["user"] / "model.onnx").write_bytes(b"something else")
    (folders["bundled"] / "model.onnx").write_bytes(CONTENT)
    with pytest.raises(WrongDigestError, match=rf"user/model\.onnx: expected SHA-256 {DIGEST}, found "):
        resolve_weights(SOURCE)


def test_the_first_digits_of_a_digest_are_checked(folders: dict[str, Path]) -> None:
    (folders["user"] / "model.onnx").write_bytes(CONTENT)
    assert resolve_weights(Source(file="model.onnx", sha256_prefix=DIGEST[:8])).name == "model.onnx"
    with pytest.raises(WrongDigestError, match="expected SHA-256 00000000, found"):
        resolve_weights(Source(file="model.onnx", sha256_prefix="00000000"))


def test_a_file_without_a_known_digest_needs_the_user_s(folders: dict[str, Path]) -> None:
    source = Source(file="model.onnx", url="https://example.org/model.onnx")
    with pytest.raises(WeightsError, match=r"put the file into WEIGHTS_DIR, and its digest beside it as model\.onnx"):
        resolve_weights(source, may_download=True)
    path = folders["user"] / "model.onnx"
    path.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="no SHA-256 is known"):
        resolve_weights(source)
    path.with_name("model.onnx.sha256").write_text(f"{DIGEST}  model.onnx\n")
    assert resolve_weights(source) == path
    path.with_name("model.onnx.sha256").write_text("0" * 64)
    with pytest.raises(WrongDigestError):
        resolve_weights(source)


def test_missing_weights_are_downloaded_only_when_asked(
    upstream: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The catalogue takes https alone; the test server speaks http.
    source = SOURCE.model_copy(update={"url": f"{upstream}/good"})
    with pytest.raises(WeightsError, match="--download fetches it"):
        resolve_weights(source)
    assert not Upstream.ranges
    path = resolve_weights(source, may_download=True)
    assert path == folders["user"] / "model.onnx"
    assert file_sha256(path) == DIGEST
    path.unlink()
    monkeypatch.delenv("WEIGHTS_DIR")
    assert resolve_weights(source, may_download=True) == folders["cache"] / "model.onnx"


def test_weights_without_an_address_say_where_they_were_looked_for(folders: dict[str, Path]) -> None:
    with pytest.raises(WeightsError) as caught:
        resolve_weights(SOURCE, may_download=True)
    for folder in (folders["user"], folders["bundled"], folders["cache"], folders["data"] / "weights"):
        assert str(folder) in str(caught.value)

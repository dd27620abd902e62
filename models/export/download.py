"""Fetches a file over HTTP so that a reader sees the whole verified file or none, and an interruption costs nothing."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

SIZE_LIMIT = 2 * 1024**3
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30.0


class DownloadError(RuntimeError):
    """A file could not be fetched; names the address and what happened."""


def download(
    url: str,
    target: Path,
    verify: Callable[[Path], None],
    progress: Callable[[int, int], None] | None = None,
    size_limit: int = SIZE_LIMIT,
) -> None:
    """Fetch `url` into `target`.

    What has arrived is kept as `<target>.part`; a later call goes on from there if the server allows it. `verify` sees
    that file when it is complete and raises when it is wrong, which removes it. Only then it becomes `target`.

    Args:
        url: http or https; redirects are followed.
        target: its folder is made.
        verify: raises what the caller wants to see.
        progress: is told bytes done and bytes in all (0 where the server does not say).
        size_limit: in bytes.

    Raises:
        DownloadError: no such file, no connection, an answer cut short or larger than the limit.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        _fetch(url, part, progress, size_limit)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {error}") from error
    try:
        verify(part)
    except Exception:
        part.unlink()
        raise
    part.replace(target)


def _fetch(url: str, part: Path, progress: Callable[[int, int], None] | None, size_limit: int) -> None:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url}: expected an http or https address")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return  # nothing is left to fetch: the digest decides
    with response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if not goes_on:
            done = 0
        length = int(response.headers.get("Content-Length") or 0)
        total = done + length if length else 0
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := response.read(CHUNK):
                done += len(chunk)
                if max(done, total) > size_limit:
                    break
                file.write(chunk)
                if progress is not None:
                    progress(done, total)
    if max(done, total) > size_limit:
        part.unlink()
        raise DownloadError(f"{url}: expected at most {size_limit} bytes, found {max(done, total)}")
    if done < total:
        raise DownloadError(f"{url}: expected {total} bytes, found {done}; run it again to go on from there")

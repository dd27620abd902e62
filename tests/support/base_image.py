"""Stands in for the bases of our images where no registry can be reached: the same Debian, made with debootstrap.

Debian's own Python 3.11 takes the place of the one in /usr/local of the official image, and its wheels of pip lie where
every other Python keeps them. What the Dockerfiles do with the base, they do with this one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_PACKAGES = ("ca-certificates", "netbase", "python3-distutils", "python3.11", "python3.11-venv", "tzdata")
# What Docker's own Debian images leave out.
_LEFT_OUT = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt/archives", "var/lib/apt/lists")


def make_base(archive: Path) -> Path:
    """Writes the Python image's root file system as a tar archive, once; minutes. Needs root and Debian's mirrors."""
    if archive.is_file():
        return archive
    root = archive.with_suffix("")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    cache = archive.parent / "packages"
    cache.mkdir(exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", f"--cache-dir={cache.resolve()}"]
    subprocess.run([*command, "bookworm", str(root)], check=True, stdout=subprocess.DEVNULL)
    for folder in _LEFT_OUT:
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    wheels = root / "usr/lib/python3.11/ensurepip/_bundled"
    (root / "usr/share/python-wheels").rename(wheels)
    (root / "usr/share/python-wheels").symlink_to("/usr/lib/python3.11/ensurepip/_bundled")
    return _pack(root, archive)


def make_busybox(archive: Path) -> Path:
    """Writes busybox's root file system, Debian's static build of it, as a tar archive, once."""
    if archive.is_file():
        return archive
    root = archive.with_suffix("")
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    subprocess.run(["apt-get", "download", "-qq", "busybox-static"], cwd=root, check=True, stderr=subprocess.DEVNULL)
    (package,) = root.glob("*.deb")
    subprocess.run(["dpkg", "--extract", str(package), str(root)], check=True)
    package.unlink()
    shutil.rmtree(root / "usr")
    subprocess.run(["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True)
    return _pack(root, archive)


def _pack(root: Path, archive: Path) -> Path:
    unfinished = archive.with_suffix(".unfinished")
    subprocess.run(
        ["tar", "--create", "--numeric-owner", f"--file={unfinished}", f"--directory={root}", "."], check=True
    )
    shutil.rmtree(root)
    unfinished.rename(archive)
    return archive


def import_base(archive: Path, name: str) -> str:
    """Makes an image of that name out of the archive in buildah's store. Returns its digest, `sha256:…`."""

    def buildah(*arguments: str) -> str:
        ran = subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    container = buildah("from", "scratch")
    try:
        buildah("add", container, str(archive.resolve()), "/")
        # The same archive gives the same digest, on which a build finds what it has built before.
        buildah("commit", "--quiet", "--timestamp=0", container, name)
    finally:
        buildah("rm", container)
    return buildah("images", "--format", "{{.Digest}}", name)

"""Runs processes out of an image as a cluster would: no root, no capabilities, and /tmp alone to write to."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

USER = 1000

_SCRIPT = """
set -e
mkdir -p {folders}
mount --bind {root} {root}
mount -o remount,bind,ro {root}
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs {root}/tmp
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
{volumes}
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
    chroot --userspec={user}:{user} --groups= {root} /bin/env -i {environment} {command}
"""


class UnpackedImage:
    """An image of buildah's store, mounted. Needs root."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> UnpackedImage:
        self._container = _buildah("from", "--pull-never", self.name)
        self.root = Path(_buildah("mount", self._container))
        inspected = json.loads(_buildah("inspect", "--type=image", self.name))
        self.configuration: dict[str, Any] = inspected["OCIv1"]["config"]
        return self

    def __exit__(self, *_: object) -> None:
        _buildah("rm", self._container)

    def popen(
        self,
        command: Sequence[str],
        environment: Mapping[str, object] | None = None,
        volumes: Mapping[str, tuple[Path, bool]] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Starts a command with the image's environment and these variables, and nothing of the caller's.

        volumes: what is mounted, by its place in the image: the file or folder outside of it, and whether it may be
            written to. The network is the machine's.
        """
        volumes = volumes or {}
        folders = ["/tmp", "/proc", "/dev", *(place for place, (source, _) in volumes.items() if source.is_dir())]
        variables = [*self.configuration["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        script = _SCRIPT.format(
            root=self.root,
            folders=" ".join(f"{self.root}{folder}" for folder in folders),
            user=USER,
            volumes="\n".join(
                f"mount --bind {source} {self.root}{place}"
                + ("" if writable else f"\nmount -o remount,bind,ro {self.root}{place}")
                for place, (source, writable) in volumes.items()
            ),
            environment=shlex.join(variables),
            command=shlex.join(command),
        )
        isolated = [
            "unshare",
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
        ]
        return subprocess.Popen(isolated, stdin=subprocess.DEVNULL, **options)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, within a minute."""
        process = self.popen(command, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()

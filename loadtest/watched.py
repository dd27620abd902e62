"""What the processes of a system use: on this machine by their ids, elsewhere by what they export."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from prometheus_client.parser import text_string_to_metric_families

from loadtest.result import ProcessUse

_PROJECT = Path(__file__).resolve().parents[1]
_TIMEOUT_SECONDS = 5
_STUB = "triton_python"  # Linux cuts the name of a program; its first argument is models/<name>/<version>/model.onnx
_THIS_MACHINE = {"localhost", "127.0.0.1", "[::1]"}


class WatchError(ValueError):
    """A process or page that cannot be watched; the message says why."""


@dataclass(frozen=True)
class Reading:
    """What one process had used by one moment."""

    name: str
    cpu_seconds: float
    resident_bytes: int


@dataclass
class Watched:
    """The processes of a system.

    roots: ids of processes of this machine that are watched with all that they started. pages: URLs of `/metrics`,
    which tell what their processes use where there are no roots. All methods raise `WatchError` where one is not there.
    """

    roots: Sequence[int] = ()
    pages: Sequence[str] = ()
    _peaks: dict[str, int] = field(default_factory=dict)

    def read(self) -> dict[str, Reading]:
        """Every process now, by what tells it from the others."""
        readings = {f"pid {process.pid}": reading for process, reading in self._processes()}
        if not self.roots:
            readings = {page: _of_page(page) for page in self.pages}
        for key, reading in readings.items():
            self._peaks[key] = max(self._peaks.get(key, 0), reading.resident_bytes)
        return readings

    def counters(self) -> dict[str, float]:
        """The counters of perception on all pages, by page and series."""
        return {f"{urlsplit(page).netloc} {series}": value for page in self.pages for series, value in _counters(page)}

    def use(self, before: dict[str, Reading], after: dict[str, Reading]) -> list[ProcessUse]:
        """What was used between two readings, those of one name together. Processes that are gone are left out."""
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for key, reading in after.items():
            alike[reading.name].append(key)
        return [
            ProcessUse(
                name=name,
                processes=len(keys),
                cpu_seconds=sum(after[key].cpu_seconds - _cpu_seconds(before, key) for key in keys),
                resident_bytes=sum(after[key].resident_bytes for key in keys),
                resident_bytes_max=sum(self._peaks[key] for key in keys),
            )
            for name, keys in alike.items()
        ]

    def _processes(self) -> Iterator[tuple[psutil.Process, Reading]]:
        for root in self.roots:
            try:
                parent = psutil.Process(root)
                family = [parent, *parent.children(recursive=True)]
            except psutil.NoSuchProcess:
                raise WatchError(f"there is no process {root}") from None
            for process in family:
                # One that has ended meanwhile is no part of the system any more.
                with suppress(psutil.NoSuchProcess), process.oneshot():
                    times = process.cpu_times()
                    reading = Reading(_name(process), times.user + times.system, process.memory_info().rss)
                    yield process, reading


def stack_of(address: str) -> list[int]:
    """The process of `perception up` that serves at an address of this machine; none where there is no such one."""
    host, _, port = address.rpartition(":")
    if host not in _THIS_MACHINE or not port.isdecimal():
        return []
    state = _PROJECT / ".cache" / "stack" / port / "stack.json"
    with suppress(OSError, ValueError, KeyError, psutil.Error):
        supervisor = psutil.Process(json.loads(state.read_text())["pid"])
        # The file may be left by one that was killed, and the id be another's by now.
        if _listens(supervisor.children(recursive=True), int(port)):
            return [supervisor.pid]
    return []


def _listens(processes: Iterable[psutil.Process], port: int) -> bool:
    connections = (connection for process in processes for connection in process.net_connections("tcp"))
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def _name(process: psutil.Process) -> str:
    """What a process is: the module that Python runs, the model of one of Triton's, or its program."""
    command = process.cmdline()
    if "-m" in command and (at := command.index("-m") + 1) < len(command):
        module, arguments = command[at], command[at + 1 :]
        if module == "services.cli":
            return {"up": "supervisor"}.get(arguments[0], arguments[0])
        return module.rpartition(".")[2]
    if process.name().startswith(_STUB):
        return f"triton {Path(command[1]).parts[-3]}"
    return process.name()


def _cpu_seconds(readings: dict[str, Reading], key: str) -> float:
    return readings[key].cpu_seconds if key in readings else 0.0


def _page(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise WatchError(f"{url}: expected http://… or https://…")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - checked above
            return str(answer.read().decode())
    except (OSError, ValueError) as error:
        raise WatchError(f"{url}: {error}") from None


def _of_page(url: str) -> Reading:
    samples = {
        sample.name: sample.value for family in text_string_to_metric_families(_page(url)) for sample in family.samples
    }
    try:
        used, resident = samples["process_cpu_seconds_total"], samples["process_resident_memory_bytes"]
    except KeyError as missing:
        raise WatchError(f"{url}: has no {missing.args[0]}") from None
    return Reading(urlsplit(url).netloc, used, int(resident))


def _counters(url: str) -> Iterator[tuple[str, float]]:
    for family in text_string_to_metric_families(_page(url)):
        if family.type == "counter" and family.name.startswith("perception_"):
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                    yield f"{sample.name}{{{labels}}}", sample.value

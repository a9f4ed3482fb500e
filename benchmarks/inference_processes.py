"""Starting, telling and timing the processes of `inference_worker.py`.

This side imports nothing large: on Linux a process begins with the peak memory of the one that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

WORKER = Path(__file__).parent / "inference_worker.py"
PAUSE = 0.1
"""Seconds between two measurements: threads that wait by spinning fall asleep."""


class FailedError(Exception):
    """A method that could not do it; the message says why, in one line."""


class Measurement(NamedTuple):
    """One repetition."""

    seconds: float
    memory: int
    """The process' peak so far, in bytes."""
    held: int = 0
    """What the process still holds after it, in bytes; 0 where it has ended."""


class Worker:
    """A process with one method's network and picture, which computes when told.

    Args:
        method: a key of `inference_methods.METHODS`.
        assets: the folder that `inference_methods.prepare` filled.
        picture: a PNG.
        environment: of the process; see `with_threads`.
        threads: how many the method may use.

    Raises:
        FailedError: from any of its methods, where the process did not do it.
    """

    def __init__(
        self, method: str, *, assets: Path, picture: Path, environment: Mapping[str, str], threads: int
    ) -> None:
        self._errors = assets / f"{method}.log"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command("serve", method, assets, picture, threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def run(self) -> Measurement:
        """Compute once."""
        time.sleep(PAUSE)
        return Measurement(**json.loads(self._ask("run")))

    def save(self, path: Path) -> None:
        """Write the last result, an 8-bit picture, as ``.npy``."""
        self._ask(f"save {path}")

    def close(self) -> None:
        """End the process."""
        for pipe in self._pipes():
            with suppress(BrokenPipeError):  # it ended first, and does not read what it was told last
                pipe.close()
        self._process.wait()

    def _ask(self, line: str) -> str:
        told, answers = self._pipes()
        try:
            told.write(f"{line}\n")
            told.flush()
        except BrokenPipeError:
            pass  # it ended while it was opened: the missing answer leads to the reason
        answer = answers.readline()
        if not answer:
            raise FailedError(reason(self._process.wait(), self._errors))
        return answer

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def time_process(arguments: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Measurement:
    """Start a process and wait for its end.

    Raises:
        FailedError: where it does not end well.
    """
    time.sleep(PAUSE)
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=output, stderr=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise FailedError(reason(process.returncode, log))
    return Measurement(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def ask_once(*words: object, environment: Mapping[str, str] | None = None) -> str:
    """Run one of the worker's short verbs, and return what it prints.

    Raises:
        FailedError: where it does not end well.
    """
    done = subprocess.run(command(*words), capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise FailedError(last_line(done.stderr) or f"ended with status {done.returncode}")
    return done.stdout


def agreement(one: Path, other: Path) -> float:
    """PSNR between two results in dB, PNG or npy of 8 bit, over all channels; infinite where they are equal."""
    return float(ask_once("agreement", one, other))


def command(*words: object) -> list[str]:
    return [sys.executable, str(WORKER), *map(str, words)]


def with_threads(threads: int, cache: Path) -> dict[str, str]:
    """The environment of a measured process: so many threads, and ``cache`` for what a program keeps for itself."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "XDG_CACHE_HOME": str(cache)}


def free_memory() -> int:
    """Bytes that may be allocated; where the system does not say, half of all there is."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        entries = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(entries["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def reason(status: int, log: Path) -> str:
    """Why a process ended, in one line."""
    text = log.read_text(errors="replace")
    if any(word in text for word in ("bad_alloc", "MemoryError", "not enough memory", "llocat")):
        return "out of memory"
    if status < 0:
        return f"ended by signal {-status}"
    return last_line(text) or f"ended with status {status}"


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:120] if lines else ""

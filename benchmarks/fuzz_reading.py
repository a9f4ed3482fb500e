"""Read many damaged pictures: each is read rightly or refused in one sentence, and nothing crashes or hangs.

Small files of every format are damaged at random (bytes changed, cut out, put in, doubled, the end cut off, numbers
set to their extremes) and read in a process of its own, which a crash or a hang ends without ending this one. For
each kind it says how many files were read and how many refused, then what went wrong, with the damaged file kept.
The same seed makes the same files.

    python benchmarks/fuzz_reading.py --files 12000
"""

from __future__ import annotations

import argparse
import random
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from crispen import images
from crispen.errors import PictureError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
DAMAGE = import_module("damage")  # beside the tests, which use it too
samples: Callable[[], dict[str, bytes]] = DAMAGE.samples
damaged: Callable[[bytes, random.Random], bytes] = DAMAGE.damaged

SECONDS_PER_FILE = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_findings"), help="where findings are kept")
    parser.add_argument("--read-those-named-on-stdin", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read_those_named_on_stdin:
        return serve()
    with tempfile.TemporaryDirectory() as folder:
        findings = fuzz(Path(folder), files=arguments.files, seed=arguments.seed, keep=arguments.keep)
    sys.exit(1 if findings else 0)


def serve() -> None:
    """Read each file whose name comes on stdin, and answer with one line."""
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))  # so that a bomb shows, and hurts nobody
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            with images.open_pages(path, max_megapixels=4) as pages:
                for count, picture in enumerate(pages, start=1):
                    if count > 8:
                        break
                    np.asarray(picture.pixels).sum()
            answer = "read"
        except PictureError as error:
            answer = "refused" if "\n" not in str(error) and str(path) in str(error) else f"said {error!r}"
        except MemoryError as error:
            answer = f"raised {error!r}"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def fuzz(folder: Path, *, files: int, seed: int, keep: Path) -> list[str]:
    """Read damaged files, print what came of them, and return the findings."""
    kinds = list(samples().items())
    outcomes: Counter[tuple[str, str]] = Counter()
    findings: list[str] = []
    reader = Reader()
    started = time.monotonic()
    for index in range(files):
        kind, data = kinds[index % len(kinds)]
        path = folder / "damaged"
        path.write_bytes(damaged(data, random.Random(f"{seed} {index}")))
        answer = reader.read(path)
        outcomes[kind, answer if answer in ("read", "refused") else "found"] += 1
        if answer not in ("read", "refused"):
            keep.mkdir(exist_ok=True)
            (keep / f"{seed}-{index}").write_bytes(path.read_bytes())
            findings.append(f"{keep / f'{seed}-{index}'} ({kind}): {answer}")
            print(findings[-1], flush=True)
    reader.close()
    for kind, _ in kinds:
        counts = [outcomes[kind, outcome] for outcome in ("read", "refused", "found")]
        print(f"{kind:18} {counts[0]:6} read {counts[1]:6} refused {counts[2]:4} findings")
    print(f"{files} files in {time.monotonic() - started:.0f} s; peak memory {reader.peak_mib} MiB")
    return findings


class Reader:
    """A process that reads; it is started again after a crash or a hang."""

    def __init__(self) -> None:
        self.peak_mib = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process; a full pipe would stop it
        command = [sys.executable, __file__, "--read-those-named-on-stdin"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def read(self, path: Path) -> str:
        """Return "read", "refused", or what went wrong."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{path}\n")
        stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(SECONDS_PER_FILE):
                self._process.kill()
                self._restart()
                return f"took more than {SECONDS_PER_FILE} s"
        answer = stdout.readline().rstrip("\n")
        if answer:
            return answer
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read()[-300:]
        self._restart()
        return f"ended with {code}: {said}"

    def _restart(self) -> None:
        self.close()
        self._process = self._start()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._said.close()
        self.peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


if __name__ == "__main__":
    main()

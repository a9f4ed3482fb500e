"""What was done, what failed and why, as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crispen import __version__
from crispen.errors import CrispenError, PictureError, UsageError
from crispen.files import check_replaceable, published
from crispen.jobs.finding import Failure
from crispen.jobs.planning import Job, Plan, key
from crispen.jobs.running import Done, Made, Skipped
from crispen.upscaling import Upscaler
from crispen.zoo import Model

_BEGINNING = '{\n  "crispen": '


@dataclass(slots=True, kw_only=True)
class Report:
    """What came of many jobs, noted down as it comes.

    ::

        {
          "crispen": "0.1.0",
          "model": {"name": ..., "weights_sha256": ..., "computed_by": ...},
          "finished": "2026-11-21T18:00:00+00:00",
          "counts": {"done": 2, "skipped": 0, "failed": 1},
          "results": [
            {"source": ..., "target": ..., "status": "done", "size": [48, 32], "result_size": [192, 128], "count": 1,
             "seconds": 0.2, "notes": [], "sha256": ..., "result_sha256": ...},
            {"source": ..., "target": ..., "status": "skipped"},
            {"source": ..., "target": null, "status": "failed", "error": "..."}
          ],
          "left_out": ["photo-640x480.jpg"]
        }

    ``size`` is width and height, ``count`` how many pages or frames were enlarged, ``left_out`` what in folders has
    the name of a result. A name that is no text is written
    with one half of a surrogate pair for each byte, as Python's ``os.fsencode`` reads it.
    """

    model: Model
    skipped: list[Job]
    """What has been done before."""
    failures: list[Failure]
    """What was never begun."""
    left_out: list[Path] = field(default_factory=list[Path])
    """What in folders was taken for results of earlier runs."""
    done: list[Done] = field(default_factory=list[Done])
    """What has come to its end, a good or a bad one."""
    upscaler: Upscaler | None = None
    """What computed, where anything did."""

    @property
    def is_clean(self) -> bool:
        """Whether all went well."""
        return not self.failures and not any(isinstance(done.outcome, CrispenError) for done in self.done)

    def write(self, path: Path, *, force: bool = False) -> None:
        """Write the report, whole or not at all; what it raises is what `check_report_path` raises."""
        check_report_path(path, force=force)
        with published(path, error=PictureError) as temporary:
            temporary.write_text(json.dumps(self._content(), indent=2) + "\n", encoding="ascii")

    def _content(self) -> dict[str, Any]:
        results = [
            *(_entry(done) for done in self.done),
            *(_named(job.source, job.target) | {"status": "skipped"} for job in self.skipped),
            *(_named(source) | {"status": "failed", "error": str(error)} for source, error in self.failures),
        ]
        counts = Counter(entry["status"] for entry in results)
        return {
            "crispen": __version__,
            "model": {
                "name": self.model.name,
                "weights_sha256": self.model.weights_sha256,
                "computed_by": self.upscaler and self.upscaler.description,
            },
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "counts": {status: counts[status] for status in ("done", "skipped", "failed")},
            "results": results,
            "left_out": [str(path) for path in self.left_out],
        }


def check_report_path(path: Path, *, force: bool = False) -> None:
    """Raise `PictureError` where no report can be written; an earlier one is replaced, another file with ``force``."""
    if path.is_dir():
        raise PictureError(f"--report {path} is a folder, but must be a file")
    check_replaceable(path, error=PictureError)
    if not path.parent.is_dir():
        raise PictureError(f"--report {path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PictureError(f"--report {path} cannot be written: {path.parent} may not be written to")
    if path.exists() and not force and not _is_report(path):
        raise PictureError(f"{path} exists already, and is no report; with --force it is replaced")


def check_report_apart(path: Path, planned: Plan) -> None:
    """Raise `UsageError` where the report would replace a picture, or the result of one."""
    jobs = [*planned.jobs, *planned.skipped]
    taken = [job.target for job in jobs]
    taken += [*planned.left_out, *(each.source for each in (*jobs, *planned.failures))]
    if key(path) in map(key, taken):
        raise UsageError(f"--report {path} would replace a picture: it must have a name of its own")


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING.encode()


def _named(source: Path, target: Path | None = None) -> dict[str, Any]:
    return {"source": str(source), "target": None if target is None else str(target)}


def _entry(done: Done) -> dict[str, Any]:
    entry = _named(done.job.source, done.job.target)
    if isinstance(done.outcome, Skipped):
        return entry | {"status": "skipped"}
    if not isinstance(done.outcome, Made):
        return entry | {"status": "failed", "error": str(done.outcome), "seconds": round(done.seconds, 3)}
    made = done.outcome
    return entry | {
        "status": "done",
        "size": list(made.small),
        "result_size": list(made.large),
        "count": made.count,
        "seconds": round(done.seconds, 3),
        "notes": list(made.notes),
        "sha256": made.sha256,
        "result_sha256": made.result_sha256,
    }

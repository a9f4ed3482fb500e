"""Many pictures and films: which are meant, what the results are called, the work, and the report on it.

::

    planned = jobs.plan([Path("holiday")], output="large/", naming=naming)
    with jobs.folders(planned.jobs) as (ready, failures):
        for event in jobs.Running(ready, enlarge):
            ...                                     # jobs.Moved: a step; jobs.Done: a result, in the jobs' order
"""

from crispen.jobs.enlarging import Enlarger, FilmWishes
from crispen.jobs.finding import Failure, Search, is_film
from crispen.jobs.planning import Job, Plan, folders, plan
from crispen.jobs.report import Report, check_report_apart, check_report_path
from crispen.jobs.running import Done, Made, Moved, Running, Skipped

__all__ = [
    "Done", "Enlarger", "Failure", "FilmWishes", "Job", "Made", "Moved", "Plan", "Report", "Running", "Search",
    "Skipped", "check_report_apart", "check_report_path", "folders", "is_film", "plan",
]  # fmt: skip

"""`make results`: train our recipes and others on real data, and write docs/results.md.

Finished jobs are kept in build/results, so that an interrupted run can be continued; remove the folder to start
again. A quick run (`--quick`) trains each method for two epochs with one seed on three data sets of a question at most,
as a smoke test; its page goes to build/results/quick.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.results import jobs as work
from benchmarks.results.facts import facts
from benchmarks.results.page import write
from benchmarks.results.questions import QUESTIONS, run
from benchmarks.results.settings import SEEDS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "results"


def main() -> int:
    """Run the missing jobs, then write the page of all results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=QUESTIONS, nargs="*", default=list(QUESTIONS), help="run these questions")
    parser.add_argument("--method", help="run the jobs of this method only")
    parser.add_argument("--data", help="run the jobs of this data set, or cell type, only")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="two epochs and one seed, as a smoke test")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    seeds = range(1 if arguments.quick else arguments.seeds)
    every = [job for s in seeds for question in QUESTIONS.values() for job in question.jobs(s, arguments.quick)]
    chosen = [
        job
        for job in every
        if job.question in arguments.only
        and arguments.method in {None, job.method}
        and arguments.data in {None, job.data}
    ]
    started = time.time()
    with work.processes(arguments.processes) as pool:
        failed = work.run_all(chosen, run, BUILD, facts(ROOT), pool)
    print(f"{(time.time() - started) / 60:.1f} minutes")
    page = BUILD / "quick.md" if arguments.quick else ROOT / "docs" / "results.md"
    results = [written for job in every if (written := work.kept(job, BUILD)) is not None]
    write(page, results, n_jobs=len(every))
    print(f"wrote {page}")
    for job in failed:
        print(f"failed: {job}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

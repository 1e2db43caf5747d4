"""How well models fit, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from genevae.evaluation.fit.measurements import MAX_BOUND, Measured
from genevae.evaluation.fit.scores import TOP
from genevae.evaluation.predictions import view
from genevae.metrics.agreement import R2_PER_GENE
from genevae.metrics.bootstrap import paired
from genevae.metrics.calibration import COVERAGE
from genevae.metrics.denoising import POISSON_DEVIANCE
from genevae.report.records import Score, Tone, Verdict

__all__ = ["verdicts_of"]

COVERED_WELL = (0.86, 0.94)
"""Coverage of 90 % intervals that is called good."""
ADVICE = "train it longer, on more cells, or on fewer genes (--genes 2000)"
"""Where a distribution per gene explains held-out cells as well as the model."""


def verdicts_of(runs: Sequence[Measured], scores: Sequence[Score]) -> list[Verdict]:
    """Say what was found, the most important first."""
    found = [_bound(run) for run in runs] + [_pair(a, b) for a, b in combinations(runs, 2)]
    found += [part(run, scores) for part in (_coverage, _recovery, _mean) for run in runs]
    return [verdict for verdict in found if verdict is not None]


def _bound(run: Measured) -> Verdict | None:
    if run.bounds is None:
        return None
    base = f"gene-wise {'negative binomial' if run.is_count else 'normal distribution'}"
    gap = paired(run.bounds[1], run.base_log_prob[:MAX_BOUND], run.seed)
    if gap.low <= 0 <= gap.high:
        text = f"{run.name} explains held-out cells no better than a {base}: the difference may be chance."
        return Verdict(text, "bad", run.name, "no better than gene by gene", ADVICE)
    low, high = sorted((abs(gap.low), abs(gap.high)))
    better = gap.difference > 0
    return Verdict(
        f"{run.name} explains held-out cells {'better' if better else 'worse'} than a {base}, by "
        f"{_short(abs(gap.difference))} nats per cell ({_short(low)} to {_short(high)}).",
        "good" if better else "bad",
        run.name,
        f"{_short(abs(gap.difference))} nats {'better' if better else 'worse'} than gene by gene",
        "" if better else ADVICE,
    )


def _pair(a: Measured, b: Measured) -> Verdict | None:
    """Compare models that give probabilities to the same numbers."""
    if a.bounds is None or b.bounds is None or view(a.model) != view(b.model):
        return None
    gap = paired(a.bounds[1], b.bounds[1], a.seed)
    if gap.low <= 0 <= gap.high:
        return Verdict(f"{a.name} and {b.name} explain held-out cells about equally well.")
    better, worse = (a, b) if gap.difference > 0 else (b, a)
    by = _short(abs(gap.difference))
    return Verdict(f"{better.name} explains held-out cells better than {worse.name}, by {by} nats per cell.")


def _coverage(run: Measured, scores: Sequence[Score]) -> Verdict | None:
    found = [score.value for score in scores if score.metric == COVERAGE.name and score.who == run.name]
    if not found:
        return None
    kept = [COVERED_WELL[0] <= value <= COVERED_WELL[1] for value in found]
    every, top = (f"{100 * value:.0f} %" for value in found)
    tone: Tone = "good" if all(kept) else "mixed" if any(kept) else "bad"
    return Verdict(
        f"{run.name}: 90 % intervals cover {every} of entries, and {top} in the most expressed tenth of the genes.",
        tone,
        run.name,
        f"90 % intervals cover {every}",
    )


def _recovery(run: Measured, scores: Sequence[Score]) -> Verdict | None:
    values = {score.who: score.value for score in scores if score.metric == POISSON_DEVIANCE.name}
    if run.name not in values:
        return None
    beaten = [name for name in run.baselines if values[run.name] < values[name + run.answers]]
    lost = [name for name in run.baselines if name not in beaten]
    parts = [f"{how} than {_listed(some)}" for how, some in (("better", beaten), ("worse", lost)) if some]
    tone: Tone = "good" if not lost else "mixed" if beaten else "bad"
    return Verdict(f"{run.name} predicts hidden molecules {', and '.join(parts)}.", tone, run.name, ", ".join(parts))


def _mean(run: Measured, scores: Sequence[Score]) -> Verdict | None:
    values = {score.who: score.value for score in scores if score.metric == R2_PER_GENE.name and score.of == TOP}
    if run.name not in values:
        return None
    explained, line = (100 * values[name] for name in (run.name, run.baselines[-1] + run.answers))
    share = f"{explained:.3g} %" if explained > 0 else "nothing"
    return Verdict(
        f"{run.name}: what it expects of each cell explains {share} of the variance of the median gene among the "
        f"most expressed tenth; {run.baselines[-1]}: {line:.3g} %.",
        who=run.name,
    )


def _short(value: float) -> str:
    """Write a number with three digits at most, and never with an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

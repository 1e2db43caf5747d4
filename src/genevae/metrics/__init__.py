"""Arrays in, numbers out: scores and baselines.

A :class:`~genevae.metrics.metric.Metric` says what each score of the report means.
"""

"""Arrays in, numbers out: scores and baselines; a :class:`Metric` record says what each score of the report means."""

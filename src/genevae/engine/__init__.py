"""Where passes over cells run: in this thread, in pools, or on the workers of Dask or submitit.

A pass is a function of parts, and a part is the same on any worker. Results come in the order of the parts, so
that the result of a pass is the same, to the last bit, for any number of workers.
"""

from genevae.engine.executors import engine, require_workers
from genevae.engine.light import is_light
from genevae.engine.parts import Block, computed_blocks
from genevae.engine.plan import Pass, Plan
from genevae.engine.workers import Engine, Workers

__all__ = ["Block", "Engine", "Pass", "Plan", "Workers", "computed_blocks", "engine", "is_light", "require_workers"]

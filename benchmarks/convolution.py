"""Training steps of the recipe convolutional beside the same network in Keras, in one run.

`python benchmarks/convolution.py --keras VENV/bin/python`, where `pip install tensorflow-cpu` was run in VENV. Both
take steps of 32 cells with images of 144 × 144 and 11 labels, forward, backward and Adam, on numbers in memory,
in turn and with the same number of threads. Two figures: by the clock, of the fastest step; and by the processor's
time, of the median step, which other programs disturb less (with one thread: several that wait for each other spend it
too). Target: as many cells per second as Keras, or more.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import torch
from stopwatch import seconds_of

from genevae.cells import Cells, Condition, ExpressionRows
from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.recipes.registry import RECIPES
from genevae.training.malloc import keep_freed_memory

N_GENES, N_LABELS = 144 * 144, 11


def main() -> None:
    """Print cells per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", help="a Python that has TensorFlow; left out, Keras is not run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = [(ours(arguments.batch_size, arguments.steps), theirs(arguments)) for _ in range(arguments.rounds)]
    print(f"parameters: genevae {rounds[0][0][0]:,}, Keras {rounds[0][1][0]:,}; {arguments.threads} threads")
    for at, what in enumerate(("by the clock", "by the processor's time"), 1):
        mine, keras = (min(each[side][at] for each in rounds) for side in (0, 1))
        rates = f"genevae {arguments.batch_size / mine:,.0f} cells/s, Keras {arguments.batch_size / keras:,.0f} cells/s"
        print(f"{what}: {rates}, ratio {keras / mine:.2f} (target: 1)")


def ours(batch_size: int, steps: int) -> tuple[int, float, float]:
    """Return parameters, and the seconds of a training step by the clock and of the processor."""
    torch.manual_seed(0)
    schema = Schema(
        tuple(map(str, range(N_GENES))), Kind.COUNTS, categorical=(Categorical("type", tuple("abcdefghijk")),)
    )
    recipe = RECIPES["convolutional"].edit({"order": "given"})
    model, objective = recipe.build(schema), recipe.make_objective(schema, 1)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)  # as training does
    condition = Condition(torch.full((batch_size, 1), 1e3), {"type": torch.randint(N_LABELS, (batch_size,))})
    cells = Cells(ExpressionRows.from_dense(torch.rand(batch_size, N_GENES)), condition, torch.arange(batch_size))

    def step() -> None:
        optimizer.zero_grad()
        objective(model, cells).total.backward()
        optimizer.step()

    with keep_freed_memory():  # as training does
        return sum(p.numel() for p in model.parameters()), *seconds_of(step, steps)


def theirs(arguments: argparse.Namespace) -> tuple[int, float, float]:
    """Return the same of Keras, in a process of its own."""
    if not arguments.keras:
        return 0, float("nan"), float("nan")
    script = str(Path(__file__).with_name("convolution_keras.py"))
    options = map(str, (arguments.threads, arguments.batch_size, arguments.steps))
    said = subprocess.run([arguments.keras, script, *options], check=True, capture_output=True, text=True).stdout
    n, clock, processor = said.split()[-3:]
    return int(n), float(clock), float(processor)


if __name__ == "__main__":
    main()

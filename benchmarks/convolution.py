"""Training steps of the recipe convolutional beside the same network in Keras, in one run.

`python benchmarks/convolution.py --keras VENV/bin/python`, where `pip install tensorflow-cpu` was run in VENV. Both
take steps of 32 cells with images of 144 × 144 and 11 labels, forward, backward and Adam, on numbers in memory,
in turn and with the same number of threads. Two figures: by the clock, of the fastest step; and by the processor's
time, of the median step, which other programs disturb less (with one thread: several that wait for each other spend it
too). Target: 1.5 times as many cells per second as Keras. `--layers` measures each convolution alone, and as a product
of matrices.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
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
    parser.add_argument("--layers", action="store_true", help="measure each layer alone instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.layers:
        layers(arguments.batch_size, arguments.steps)
        return
    rounds = [(ours(arguments.batch_size, arguments.steps), theirs(arguments)) for _ in range(arguments.rounds)]
    print(f"parameters: genevae {rounds[0][0][0]:,}, Keras {rounds[0][1][0]:,}; {arguments.threads} threads")
    for at, what in enumerate(("by the clock", "by the processor's time"), 1):
        mine, keras = (min(each[side][at] for each in rounds) for side in (0, 1))
        rates = f"genevae {arguments.batch_size / mine:,.0f} cells/s, Keras {arguments.batch_size / keras:,.0f} cells/s"
        print(f"{what}: {rates}, ratio {keras / mine:.2f} (target: 1.5)")


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


LAYERS = ((2, 16, 144, False), (16, 32, 72, False), (32, 16, 36, True), (16, 8, 72, True), (8, 1, 144, True))
"""Channels in and out, and side, of each convolution and transposed convolution; all of stride 2 but the last."""


def layers(batch_size: int, steps: int) -> None:
    """Print the processor's time of forward and backward of each layer, in several forms."""
    for n, m, side, transposed in LAYERS:
        stride = 1 if m == 1 else 2
        weight = torch.randn(n, m, 3, 3) if transposed else torch.randn(m, n, 3, 3)
        x = torch.randn(batch_size, n, side, side)
        times = {
            "channels first": timed(convolved, x, weight, transposed, stride, steps),
            "channels last": timed(convolved, *map(channels_last, (x, weight)), transposed, stride, steps),
            "im2col and a product": timed(multiplied, x, weight, transposed, stride, steps),
        }
        kind = "transposed" if transposed else "plain"
        said = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in times.items())
        print(f"{kind}, {n} to {m} channels, side {side}: {said}")


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Lay the channels of a pixel next to each other."""
    return x.contiguous(memory_format=torch.channels_last)


def timed(
    form: Callable[..., torch.Tensor], x: torch.Tensor, weight: torch.Tensor, transposed: bool, stride: int, steps: int
) -> float:
    """Return the processor's seconds of a forward and backward pass."""
    given = x.clone().requires_grad_(), weight.clone().requires_grad_()

    def step() -> None:
        y = form(*given, transposed, stride).relu()
        y.backward(torch.ones_like(y))

    return seconds_of(step, steps)[1]


def convolved(x: torch.Tensor, weight: torch.Tensor, transposed: bool, stride: int) -> torch.Tensor:
    """Return the convolution by torch, and so by oneDNN."""
    if transposed:
        return F.conv_transpose2d(x, weight, stride=stride, padding=1, output_padding=stride - 1)
    return F.conv2d(x, weight, stride=stride, padding=1)


def multiplied(x: torch.Tensor, weight: torch.Tensor, transposed: bool, stride: int) -> torch.Tensor:
    """Return it as one product of matrices, of patches that are copied before or added up after it."""
    side = x.shape[-1]
    if transposed:
        patches = weight.flatten(1).T @ x.flatten(2)
        return F.fold(patches, (side * stride, side * stride), 3, padding=1, stride=stride)
    patches = F.unfold(x, 3, padding=1, stride=stride)
    return (weight.flatten(1) @ patches).unflatten(2, (side // stride, side // stride))


if __name__ == "__main__":
    main()

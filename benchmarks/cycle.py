"""Training steps of the recipe cycle beside its plain form.

The plain form does the same sums as one would first write them down: a torch DataLoader with two workers over dense
rows, every expression written out, and a Python loop over the categories of each field. Both train on the same matrix
(Kang et al. 2018, log-normalised), with the same minibatches, threads and Adam, in turn. Target: six times.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from anndata import AnnData
from real import kang
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from genevae.data.loader import Loader
from genevae.data.sampler import Shuffled
from genevae.data.schema import Schema
from genevae.data.transforms.transform import LogNormalise
from genevae.data.value_kind import Kind
from genevae.io.formats import open_source
from genevae.models.additive import Additive
from genevae.nn.heads import CategoryNetworks, non_negative
from genevae.objectives.cycle import Cycle, random_targets
from genevae.objectives.objective import Progress
from genevae.recipes.cycle import CYCLE
from genevae.training.adam import Adam

FIELDS = ("condition", "cell_type", "donor")


def main() -> None:
    """Print cells per second of both forms, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=CYCLE.training.batch_size)
    parser.add_argument("--genes", type=int, default=2000, help="the first so many of the 4,805")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    speed(kang()[:, : arguments.genes].copy(), arguments.rounds, arguments.batch_size)


def speed(adata: AnnData, rounds: int, batch_size: int) -> None:
    """Print cells per second of both forms, and their ratio; the first epoch of each does not count."""
    schema = Schema.fit(adata.var_names, adata.obs, Kind.COUNTS, condition=FIELDS, unknown=True)
    schema = schema.with_transform(LogNormalise())
    rows = np.arange(adata.n_obs)
    loader = Loader(open_source(adata), schema, Shuffled(rows, batch_size, 0))
    print(
        f"{adata.n_obs:,} cells, {adata.n_vars:,} genes, minibatches of {batch_size}, {torch.get_num_threads()} threads"
    )
    print(f"categories: {', '.join(f'{name} {n}' for name, n in schema.n_categories.items())}")
    whole = next(iter(Loader(open_source(adata), schema, Shuffled(rows, adata.n_obs, 0))))
    codes = torch.stack([whole.condition.codes[name] for name in FIELDS], -1)
    table = TensorDataset(whole.x.dense(), codes)
    dense = DataLoader(table, batch_size, shuffle=True, num_workers=2, persistent_workers=True)
    ours, plain = (training(schema, form) for form in (True, False))
    rates: dict[str, list[float]] = {"genevae": [], "plain": []}
    spent: dict[str, list[float]] = {"genevae": [], "plain": []}
    for number in range(rounds + 1):
        for name, step, minibatches in (("genevae", ours, loader.epoch(number)), ("plain", plain, dense)):
            started = time.perf_counter(), time.process_time()
            n_cells = sum(step(cells) for cells in minibatches)
            if number:
                rates[name].append(n_cells / (time.perf_counter() - started[0]))
                spent[name].append(1e6 * (time.process_time() - started[1]) / n_cells)
    for name, values in rates.items():
        print(f"{name:<12}{statistics.median(values):8,.0f} cells/s (from {min(values):,.0f} to {max(values):,.0f})")
    ratio = statistics.median(rates["genevae"]) / statistics.median(rates["plain"])
    print(f"ratio {ratio:.1f} over {rounds} rounds (target: 6)")
    ours_us, plain_us = (statistics.median(spent[name]) for name in ("genevae", "plain"))
    print(f"CPU time of the training process: {ours_us:.0f} and {plain_us:.0f} µs per cell: {plain_us / ours_us:.1f}")


def training(schema: Schema, ours: bool):
    """Return a step of one form."""
    torch.manual_seed(0)
    recipe = CYCLE
    model, objective = recipe.build(schema), recipe.make_objective(schema, 10)
    parameters = [*model.parameters(), *objective.parameters()]
    clip = recipe.training.clip

    optimizer, plain_optimizer = (
        Adam(parameters, lr=1e-4, fused=True),
        torch.optim.Adam(parameters, lr=1e-4, fused=True),
    )

    def step(cells) -> int:
        objective(model, cells, Progress(0, 1)).total.backward()
        if (norm := optimizer.gradient_norm()) > clip:
            optimizer.scale_gradients(clip / norm)
        optimizer.step()
        optimizer.zero_grad()
        return cells.n_cells

    def plain_step(cells) -> int:
        plain_loss(model, objective, *cells).backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        plain_optimizer.step()
        plain_optimizer.zero_grad()
        return len(cells[0])

    return step if ours else plain_step


def plain_loss(model: Additive, objective: Cycle, x_ng: Tensor, code_nf: Tensor) -> Tensor:
    """Return the same three terms and the classifier's, with every expression written out and loops over categories."""
    source = dict(zip(FIELDS, code_nf.T, strict=True))
    target = random_targets(source, objective.n_categories)
    there = plain_encode(model, x_ng, source)
    made = plain_decode(model, there, target)
    back = plain_encode(model, made, target)
    home = plain_decode(model, back, source)
    critic = objective.classifier
    agree = [
        (a - b).square().sum(-1) / (0.5 * (a.square().sum(-1) + b.square().sum(-1)) + 1e-12)
        for a, b in zip(there, back, strict=True)
    ]
    terms = {
        "cycle": (home - x_ng).square().sum(-1) / x_ng.square().sum(-1).mean(),
        "integration": torch.stack(agree).mean(0),
        "target": critic.cross_entropy_n(made @ critic.weight_gc.detach() + critic.bias_c.detach(), target),
    }
    read = critic.cross_entropy_n(x_ng @ critic.weight_gc + critic.bias_c, source)
    return sum((objective.scales[name](term).mean() for name, term in terms.items()), read.mean())


def plain_encode(model: Additive, x_ng: Tensor, codes: dict[str, Tensor]) -> list[Tensor]:
    """Return the hidden states of every head."""
    heads = model.heads
    fields = zip(heads.fields, heads.heads, strict=True)
    return [
        x_ng @ heads.base.weight_gh,
        *(looped(head.encode_hidden, x_ng @ head.read_gh, codes[name]) for name, head in fields),
    ]


def plain_decode(model: Additive, states: list[Tensor], codes: dict[str, Tensor]) -> Tensor:
    """Return the sum of what the heads write."""
    heads = model.heads
    x_ng = states[0] @ heads.base.weight_gh.T
    for name, head, z in zip(heads.fields, heads.heads, states[1:], strict=True):
        x_ng = x_ng + heads.scale * (looped(head.decode_hidden, z, codes[name]) @ head.write_gh.T)
    return x_ng


def looped(networks: CategoryNetworks, h_nh: Tensor, code_n: Tensor) -> Tensor:
    """Take cells through the networks of their categories, one category after the other."""
    out = torch.zeros(len(h_nh), networks.free[-1].shape[-1])
    for category in range(networks.n_categories):
        here = code_n == category
        h = h_nh[here]
        for free_chk in networks.free:
            h = networks.activation(h @ non_negative(free_chk[category]))
        out[here] = h
    return out


if __name__ == "__main__":
    main()

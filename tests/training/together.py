"""What the processes of a test do: `python together.py OUT NAME…`, alone or as one of several.

Trains small models in float64, and writes their histories and weights for the test to compare.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from safetensors.torch import save_file
from torch import distributed, nn

from genevae.cells import Cells, Shard
from genevae.errors import DataError, TrainingError
from genevae.models.vae import VAE
from genevae.nn.mlp import LayerStyle
from genevae.nn.norm import BatchNorm
from genevae.nn.sharding import shares_memory
from genevae.nn.shared_memory import ROOM, SharedMemory
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Loss, Progress
from genevae.runs.fit import fit
from genevae.training.launch_env import launched
from genevae.training.world import World, join

FITS = {
    "nb": {"condition": ["type"], "batch": "lane"},
    "gaussian": {"recipe": "gaussian", "condition": ["type"], "continuous": ["dose"]},
    "learned size": {"recipe": "zinb", "batch": "lane", "setting": {"size": "learned"}},
    "conditional prior": {"recipe": "nb", "condition": ["type"], "setting": {"prior": "conditional"}},
    "categories hidden": {"recipe": "conditional", "condition": ["type", "drug"], "setting": {"category_dropout": 0.3}},
    "adversarial": {"recipe": "adversarial", "batch": "lane"},
    "bulk": {"recipe": "bulk", "setting": {"hidden": [16, 16]}},
    "contrastive": {"recipe": "contrastive", "group": "donor"},
    "cycle": {"recipe": "cycle", "condition": ["type", "drug"], "setting": {"category_dropout": 0.2}},
    "cycle, fitted": {"recipe": "cycle", "condition": ["type"], "setting": {"head_scaling": "fitted"}},
    "dose": {"recipe": "dose", "condition": ["drug"], "continuous": ["dose"]},
    "convolutional": {"recipe": "convolutional", "condition": ["type"], "n_latent": 2},
    "layer norm, balanced": {"balance": "type", "condition": ["type"], "setting": {"norm": "layer", "dropout": 0.3}},
    "accumulated": {"condition": ["type"], "setting": {"accumulate": 3, "cells_per_epoch": 150}},
    "stopped": {"condition": ["type"], "epochs": 30, "setting": {"patience": 2, "plateau": 1, "beta_ramp": 0.0},
                "learning_rate": 0.05},
}  # fmt: skip
"""By name: how each model is fitted. Parts of minibatches of 31 cells are never equal."""


def cells(n: int = 200, n_genes: int = 24) -> AnnData:
    """Draw counts of three types under two drugs, in two lanes and of forty donors."""
    rng = np.random.default_rng(0)
    kind, drug, lane = rng.choice(3, n), rng.choice(2, n), rng.choice(2, n)
    rate = np.exp(rng.normal(0, 1, (3, n_genes))[kind] + rng.normal(0, 1, (2, n_genes))[drug])
    obs = pd.DataFrame(
        {
            "type": np.array(["A", "B", "C"])[kind],
            "drug": np.array(["ctrl", "stim"])[drug],
            "lane": np.array(["l1", "l2"])[lane],
            "donor": [f"d{each}" for each in rng.choice(40, n)],
            "dose": np.abs(rng.normal(2, 1, n)),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    return AnnData(rng.poisson(rate * (1 + lane[:, None])).astype(np.float32), obs=obs)


def in_float64() -> None:
    """Compute in float64, on cells that are float64 too."""
    torch.set_default_dtype(torch.float64)
    to = Cells.to

    def doubled(self: Cells, device: torch.device | str) -> Cells:
        moved = to(self, device)
        condition = moved.condition.map(lambda t: t.double() if t.is_floating_point() else t)
        return Cells(moved.x.to(device, torch.float64), condition, moved.row_n)

    Cells.to = doubled  # type: ignore[method-assign]


def write_fits(out: Path, names: list[str], rank: int) -> None:
    """Fit some of the models; every process writes what it has found."""
    adata = cells()
    for name in names:
        fixed = {"epochs": 3, "batch_size": 31, "validation": 0.2, "seed": 3, "device": "cpu", "progress": False}
        model = fit(adata, **{**fixed, **FITS[name]})
        found = {"history": model.history.to_dict("list"), "ended": model.facts["ended"]}
        (out / f"{name} {rank}.json").write_text(json.dumps(found))
        weights = {name: tensor.contiguous() for name, tensor in model.module.state_dict().items()}
        save_file(weights, out / f"{name} {rank}.safetensors")


def batch_norm_differences(world: World) -> dict[str, float]:
    """Return by how much the batch norm of parts differs from torch's of the whole, for parts of several sizes."""
    found = {}
    sizes_of = {"equal": (6, 6), "unequal": (9, 2), "one cell": (1, 7)}
    for (name, sizes), momentum, n_particles in itertools.product(sizes_of.items(), (0.01, None), (1, 3)):
        x_snh = torch.randn(n_particles, sum(sizes), 5, generator=torch.Generator().manual_seed(0)) * 3 + 20
        own = x_snh.split(sizes, 1)[world.rank]
        torchs, ours = nn.BatchNorm1d(5, momentum=momentum), BatchNorm(5, momentum=momentum)
        whole, part = (x.flatten(0, 1).requires_grad_() for x in (x_snh, own))
        torchs(whole).pow(3).sum().backward()
        ours(part, Shard(world.rank, sizes)).pow(3).sum().backward()
        for parameter in ours.parameters():
            parameter.grad = world.sum(parameter.grad)
        expected = whole.grad.view_as(x_snh).split(sizes, 1)[world.rank].flatten(0, 1)
        pairs = [(part.grad, expected), (ours.weight.grad, torchs.weight.grad), (ours.bias.grad, torchs.bias.grad)]
        pairs += list(zip(ours.buffers(), torchs.buffers(), strict=True))
        found[f"{name} {momentum} {n_particles}"] = max(float((a - b).abs().max()) for a, b in pairs)
    return found


def compiled_norm_differences(world: World) -> dict[str, float]:
    """Return by how much batch norm, ReLU and dropout of parts differ between the compiled and the plain form."""
    found = {}
    for sizes, n_particles in itertools.product(((6, 6), (9, 2), (1, 7)), (1, 3)):
        each = []
        for dtype in (torch.float32, torch.float64):
            rng = torch.Generator().manual_seed(world.rank)
            x_nh, weight_nh = torch.randn(2, n_particles * sizes[world.rank], 5, generator=rng)
            x_nh = (x_nh * 3 + 2 * world.rank).to(dtype).requires_grad_()
            layer = LayerStyle(dropout=0.3).after(5).to(dtype)
            with torch.no_grad():
                layer[0].weight.copy_(torch.arange(1.0, 6.0))
            torch.manual_seed(4)
            out_nh = layer(x_nh, Shard(world.rank, sizes))
            assert (type(out_nh.grad_fn).__name__ == "_NormReLUBackward") == (dtype == torch.float32)
            (out_nh * weight_nh.to(dtype)).sum().backward()
            gradients = (x_nh.grad, layer[0].weight.grad, layer[0].bias.grad)
            each.append([t.double() for t in (out_nh.detach(), *gradients, *layer[0].buffers())])
        pairs = zip(*each, strict=True)
        found[f"{sizes} {n_particles}"] = max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)
    return found


def exchange_differences() -> dict[str, float]:
    """Return by how much numbers that were exchanged through shared memory differ from those of torch's collectives."""
    memory = SharedMemory.connect(timedelta(seconds=60))
    assert memory is not None, "this machine does not share memory between processes"
    rng = torch.Generator().manual_seed(distributed.get_rank())
    tensors = {
        "one number": torch.randn((), generator=rng),
        "none": torch.randn((0, 3), generator=rng),
        "flags": torch.rand((3, 5), generator=rng) < 0.5,
        "integers": torch.randint(-(2**40), 2**40, (7,), generator=rng),
        "float32": torch.randn((4, 3), generator=rng, dtype=torch.float32),
        "not contiguous": torch.randn((6, 4), generator=rng).T,
        "longer than the memory": torch.randn(ROOM // 8 + 5, generator=rng),
        "again": torch.randn(ROOM // 8 + 5, generator=rng),
    }
    found = {}
    for name, x in tensors.items():
        each = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(memory.n_ranks)]
        distributed.all_gather(each, x.contiguous())
        found[f"{name}, gathered"] = float((memory.gather(x).double() - torch.stack(each).double()).abs().sum())
        if x.is_floating_point():
            total = x.contiguous().clone()
            memory.add_up(total)
            found[f"{name}, added up"] = float((total - torch.stack(each).sum(0)).abs().sum())
    return found


def refusals(world: World) -> dict[str, str]:
    """Return what is said of data that differ, and of cells that are too few."""
    found = {}
    adata = cells(40)
    try:
        fit(adata[: 40 - world.rank], epochs=1, device="cpu", progress=False)
    except DataError as error:
        found["other data"] = str(error)
    try:
        fit(adata, epochs=1, validation=1 / 40, device="cpu", progress=False)
    except TrainingError as error:
        found["few cells"] = str(error)
    ELBO.forward = broken  # type: ignore[method-assign]
    try:
        fit(adata, epochs=30, batch_size=64, device="cpu", progress=False)
    except TrainingError as error:
        found["broken"] = str(error)
    return found


def broken(self: ELBO, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
    """Return a loss that is not a number in one cell."""
    loss = self.weigh(self.terms(model, cells), progress)
    bad_n = torch.where(cells.row_n == 17, torch.nan, 0.0)
    return Loss(loss.total + bad_n.mean(), loss.terms, loss.per_cell_n + bad_n)


def main(out: Path, names: list[str]) -> None:
    """Do all that was asked for."""
    torch.set_num_threads(1)
    in_float64()
    launch = launched(os.environ)
    if "by sockets" in names:
        SharedMemory.connect = lambda wait: None  # type: ignore[method-assign,assignment]
        write_fits(out, [name for name in names if name != "by sockets"], launch.rank)
        assert not shares_memory()
        return
    write_fits(out, names, launch.rank)
    if launch.n_ranks > 1:
        assert shares_memory()
        world = join(launch, torch.device("cpu"))
        found = {
            "batch norm": batch_norm_differences(world),
            "texts": world.texts(f"process {world.rank}" + "é" * world.rank),
            "wishes": [world.any(wish) for wish in (False, world.is_first, True)],
            "compiled norm": compiled_norm_differences(world),
            "exchanged": exchange_differences(),
            "refusals": refusals(world),
        }
        (out / f"found {world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

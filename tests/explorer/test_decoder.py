"""The decoder in the browser is the decoder in Python, for every kind of model that the page can run."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import genevae as gv
from genevae.data.schema import Schema
from genevae.data.transforms.transform import Standardise
from genevae.data.value_kind import Kind
from genevae.errors import DataError
from genevae.explorer.decoder import decoder_arrays, require_decoder
from genevae.explorer.page import SMALL, _part, packed_matrix, packed_tree
from genevae.models.likelihoods import ImageNormalLikelihood
from genevae.recipes.registry import RECIPES
from genevae.report.packing import Packer, embedded

N_GENES, N_LATENTS = 60, 100
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "nb": ("nb", {}),
    "zinb": ("zinb", {"activation": "silu"}),
    "poisson": ("poisson", {"norm": "layer", "hidden": (24, 20)}),
    "gaussian": ("gaussian", {"activation": "gelu", "norm": "none"}),
    "conditional": ("conditional", {"n_latent": 32, "hidden": (128, 96)}),
    "adversarial": ("adversarial", {"activation": "leaky_relu"}),
    "standardised": ("bulk", {}),
    "components": ("gaussian", {"standardise": True, "components": True, "activation": "tanh"}),
    "linear": ("linear", {}),
    "programs": ("programs", {}),
    "semi": ("semi", {}),
    "dose, hill": ("dose", {}),
    "dose, free": ("dose", {"dose_response": "free"}),
    "cycle": ("cycle", {"hidden": (16, 8)}),
    "cycle, shared": ("cycle", {"shared_networks": True, "activation": "elu"}),
}


DECODE = """([name, z, every]) => {
  const decoder = decoders[name], latents = z.map((each) => Float32Array.from(each)), found = [];
  for (const given of every) for (const one of latents) {
    found.push(...decoder.decode(one, given, given, 1000), decoder.decodeGene(7, one, given, given, 1000));
  }
  let text = "";
  for (const byte of new Uint8Array(Float32Array.from(found).buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}"""


def relative_difference(page_mg: Any, python_mg: Any, signed: bool) -> float:
    """Return the largest difference over the value; where values have both signs, over their gene's size at least."""
    rms_g = np.sqrt(np.square(python_mg).mean(0))
    least_mg = np.maximum(np.abs(python_mg), (1 if signed else 1e-6) * rms_g)
    return float((np.abs(page_mg - python_mg) / least_mg).max())


def untrained(
    recipe: str, settings: dict[str, Any], n_genes: int = N_GENES, conditions: Sequence[str] = ("drug", "type")
) -> Any:
    """Make a model of random weights and statistics, as training would leave them."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    dosed = recipe != "cycle" and bool(conditions)
    obs = pd.DataFrame({"drug": rng.choice(["a", "b", "none"], 90), "type": rng.choice(["T", "B"], 90)})
    obs["dose"] = rng.choice([0, 0.5, 20], 90)
    chosen = RECIPES[recipe].edit(settings)
    schema = Schema.fit(
        [f"G{g}" for g in range(n_genes)], obs, Kind.COUNTS, condition=list(conditions),
        control={"drug": "none"} if conditions else {},
        batch="type" if recipe == "adversarial" else None, continuous=["dose"] if dosed else [],
        unknown=chosen.has_unknown,
    )  # fmt: skip
    transform = chosen.model.transform(schema.kind)
    if isinstance(transform, Standardise):
        transform = type(transform)(transform.inner, torch.rand(n_genes), 0.5 + torch.rand(n_genes))
    programs = (("some", (0, 2, 5)), ("others", (5, 9, 11))) if recipe == "programs" else ()
    schema = replace(schema.with_transform(transform), programs=programs)
    module = chosen.build(schema).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
    n_latent = module.prior(schema.encode(obs)).mean.shape[1]
    return SimpleNamespace(module=module, schema=schema, reference=SimpleNamespace(mean_nk=torch.zeros(1, n_latent)))


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return {name: untrained(*given) for name, given in MODELS.items()}


@pytest.fixture(scope="module")
def page_of_decoders(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that has all decoders, and nothing else."""
    packer = Packer()
    decoders = {name: packed_tree(decoder_arrays(model.module, model.schema), packer) for name, model in made.items()}
    content = {"arrays": packer.arrays, "palette": [], "decoders": decoders}
    scripts = [_part("report", "draw.js"), _part("explorer", "decode.js")]
    path = tmp_path_factory.mktemp("decoders") / "decoders.html"
    path.write_text(
        f'<meta charset="utf-8"><link rel="icon" href="data:,"><script type="application/json" id="report-data">'
        f"{embedded(content)}</script><script>{''.join(scripts)}\nwindow.decoders = Object.fromEntries(Object.entries("
        "report.decoders).map(([name, each]) => [name, openDecoder(each)]));\n"
        'document.documentElement.dataset.drawn = "1";</script>',
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_those_of_python(
    name: str, made: dict[str, Any], page_of_decoders: Path, open_page: Callable[..., Any]
) -> None:
    model, page = made[name], open_page(page_of_decoders)
    schema = model.schema
    z_nk = np.random.default_rng(1).normal(size=(N_LATENTS, model.reference.mean_nk.shape[1])).astype(np.float32)
    z_nk = np.abs(z_nk) if name.startswith("cycle") else z_nk
    choices: dict[str, list[Any]] = {c.name: list(c.labels) for c in schema.categorical}
    choices |= {c.name: [0.0, 0.003, 20.0] for c in schema.continuous}
    every = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    codes = [{f: schema[f].code(x) if isinstance(x, str) else x for f, x in given.items()} for given in every]
    found = page.evaluate(DECODE, [name, z_nk.tolist(), codes])
    page_mg = np.frombuffer(base64.b64decode(found), dtype="<f4").reshape(-1, N_GENES + 1)
    size = 1000.0 if schema.output_kind.is_count else None
    python_mg = np.concatenate([gv.decode(model, z_nk, given, size=size).to_numpy() for given in every])
    assert len(page_mg) == len(python_mg) == N_LATENTS * len(every)
    signed = not schema.output_kind.is_count and not name.startswith("cycle")
    assert relative_difference(page_mg[:, :-1], python_mg, signed) < 1e-3
    assert np.allclose(page_mg[:, -1], page_mg[:, 7], rtol=1e-5, atol=1e-6), "one gene is as it is among all"
    assert python_mg.std(0).min() > 0, "the model is not constant, so that a wrong decoder would show"


def test_a_convolution_cannot_run_in_a_page_and_the_message_says_what_can() -> None:
    module = nn.Module()
    module.decoder = ImageNormalLikelihood(nn.Identity())
    with pytest.raises(DataError, match=r"'convolutional' cannot run in a browser.*nb, zinb"):
        require_decoder(module, "convolutional")


def test_codes_of_a_matrix_are_near_its_numbers() -> None:
    packer, x = Packer(), np.random.default_rng(0).normal(size=(100, 60)) ** 3
    assert x.size > SMALL
    packed = packed_matrix(x, packer)

    def array(place: int) -> Any:
        found = packer.arrays[place]
        return np.frombuffer(base64.b64decode(found["content"]), dtype="<" + found["kind"])

    share = array(packed["codes"]).reshape(x.shape) / 32_767
    back = array(packed["scale"])[:, None] * share * np.abs(share)
    assert (np.abs(back - x) <= 3.1e-5 * np.sqrt(np.abs(x) * np.abs(x).max(1, keepdims=True)) + 1e-6).all()

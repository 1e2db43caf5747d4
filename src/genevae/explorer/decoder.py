"""A decoder as arrays for the browser: batch norm folded, conditions as tables that are added to the first layer.

With hidden units h₁ = W_z z + b + Σ_f T_f[c_f] + Σ_f v_f w_f + Σ_parts r(dose) T_drug[part], where every T is the first
layer times an embedding, all that is left in the browser are products, additions and activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genevae.data.schema import Schema
from genevae.data.transforms.transform import AsIs, LogNormalise, Standardise, Transform
from genevae.errors import DataError
from genevae.models.additive import Additive, AdditiveLikelihood
from genevae.models.likelihoods import (
    Decoder,
    NegativeBinomialLikelihood,
    NormalLikelihood,
    PoissonLikelihood,
    ZeroInflatedLikelihood,
)
from genevae.models.principal import PrincipalLikelihood
from genevae.models.vae import VAE
from genevae.nn.conditioning import Conditioning
from genevae.nn.dose import DosedConditioning, FreeResponse, HillResponse
from genevae.nn.mlp import ACTIVATIONS, AfterLinear

__all__ = ["decoder_arrays", "require_decoder"]

Array = NDArray[np.float32]
Arrays = dict[str, Any]

COUNT_LIKELIHOODS = (NegativeBinomialLikelihood, PoissonLikelihood, ZeroInflatedLikelihood)
IN_BROWSER = (*COUNT_LIKELIHOODS, NormalLikelihood, AdditiveLikelihood)
"""Likelihoods that the page can compute."""


def require_decoder(module: VAE, recipe: str) -> None:
    """Check that the browser can run a decoder.

    Raises
    ------
    DataError
        If it cannot.
    """
    if not isinstance(module.decoder, IN_BROWSER):
        raise DataError(
            f"The decoder of the recipe '{recipe}' cannot run in a browser: the explorer computes layers and sums, and "
            "no convolutions. Train a model with another recipe, such as nb, zinb, gaussian, conditional, dose, cycle."
        )


@torch.no_grad()
def decoder_arrays(module: VAE, schema: Schema) -> Arrays:
    """Return a decoder as nested dictionaries of numbers, names and arrays.

    Parameters
    ----------
    module
        The model, in evaluation mode.
    schema
        Its fields, and the transform of which the inverse becomes part of the last layer.
    """
    likelihood = module.decoder
    if isinstance(module, Additive):
        return _additive(module, schema.transform)
    trunk = cast("Any", likelihood).decoder
    arrays: Arrays = {
        "counts": isinstance(likelihood, COUNT_LIKELIHOODS),
        "layers": _layers(trunk.trunk.layers, trunk.conditioning.n_out) or [_pass_on(trunk)],
        "condition": _condition(trunk.conditioning, schema, _first_weight(trunk)),
    }
    if isinstance(likelihood, COUNT_LIKELIHOODS):
        arrays["output"] = _linear(likelihood.proportion.logits)
        if isinstance(likelihood, ZeroInflatedLikelihood):
            arrays["gate"] = _linear(likelihood.gate_logits)
        return arrays
    normal = cast("NormalLikelihood", likelihood)
    arrays["output"] = _inverted(_linear(normal.mean), schema.transform)
    if isinstance(normal, PrincipalLikelihood):
        arrays["direct"] = _inverted({"weight": _array(normal.weight_kg.T), "bias": 0.0}, schema.transform)["weight"]
    return arrays


def _additive(module: Additive, transform: Transform) -> Arrays:
    heads = module.heads
    networks = [cast("Any", head).decode_hidden for head in heads.heads]
    return {
        "counts": False,
        "base": heads.hidden_widths[0],
        "heads": [
            {
                "field": name,
                "width": width,
                "activation": _activation(network.activation),
                "layers": [_array(free.abs().transpose(1, 2)) for free in network.free],  # category × out × in
            }
            for name, width, network in zip(heads.fields, heads.hidden_widths[1:], networks, strict=True)
        ],
        "output": _inverted(
            {"weight": _array(heads.last_layer()), "bias": np.zeros(len(heads.last_layer()), np.float32)}, transform
        ),
    }


def _layers(layers: nn.Sequential, n_condition: int) -> list[Arrays]:
    """Return the linear layers with what follows each; the first without the columns of the condition."""
    found = []
    for number, layer in enumerate(layers):
        linear, after = cast("tuple[nn.Linear, AfterLinear]", tuple(cast("nn.Sequential", layer)))
        weight, bias = _folded(linear, after[0])
        if number == 0 and n_condition:
            weight = weight[:, :-n_condition]
        arrays: Arrays = {"weight": _array(weight), "bias": _array(bias), "activation": _activation(after[1])}
        if isinstance(after[0], nn.LayerNorm):
            norm = after[0]
            arrays["norm"] = {"weight": _array(norm.weight), "bias": _array(norm.bias), "epsilon": norm.eps}
        found.append(arrays)
    return found


def _folded(linear: nn.Linear, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear layer and the batch norm after it: γ (W x + b − m) / √(v + ε) + β."""
    if not isinstance(norm, nn.BatchNorm1d):
        return linear.weight, linear.bias
    factor_h = norm.weight.double() / (cast("Tensor", norm.running_var).double() + norm.eps).sqrt()
    bias_h = (linear.bias.double() - cast("Tensor", norm.running_mean).double()) * factor_h + norm.bias
    return linear.weight * factor_h.unsqueeze(-1), bias_h


def _pass_on(decoder: Decoder) -> Arrays:
    """Return the layer of a decoder without layers, which passes on the latent and the condition side by side."""
    n_out = decoder.n_latent + decoder.conditioning.n_out
    weight = np.eye(n_out, decoder.n_latent, dtype=np.float32)
    return {"weight": weight, "bias": np.zeros(n_out, np.float32), "activation": "identity"}


def _first_weight(decoder: Decoder) -> Tensor:
    """Return the weights of the first layer, by which the condition is multiplied too."""
    if not len(decoder.trunk.layers):
        return torch.eye(decoder.trunk.n_out, dtype=torch.float64)
    first = cast("nn.Sequential", decoder.trunk.layers[0])
    linear, after = cast("tuple[nn.Linear, AfterLinear]", tuple(first))
    return _folded(linear, after[0])[0].double()


def _condition(conditioning: Conditioning, schema: Schema, weight_hk: Tensor) -> Arrays:
    """Return what each category and each number adds to the first hidden units."""
    at = weight_hk.shape[1] - conditioning.n_out
    tables, slopes = {}, {}
    for name, table in zip(conditioning.categorical, conditioning.embeddings, strict=True):
        embedding_ck = table(torch.arange(schema.n_codes[name], device=weight_hk.device)).double()
        part_hk = weight_hk[:, at : (at := at + embedding_ck.shape[1])]
        tables[name] = _array(embedding_ck @ part_hk.T)
    numbers = {c.name: c for c in schema.continuous}
    for name in conditioning.continuous:
        slopes[name] = {"mean": numbers[name].mean, "scale": numbers[name].scale, "weight": _array(weight_hk[:, at])}
        at += 1
    found: Arrays = {"tables": tables, "slopes": slopes}
    if isinstance(conditioning, DosedConditioning):
        effect = conditioning.effect
        embedding_ck = effect.embedding(torch.arange(len(effect.part_cm), device=weight_hk.device)).double()
        counted = zip(effect.part_cm, effect.counts_cm.bool(), strict=True)
        found["dose"] = {
            "drug": conditioning.drug,
            "dose": conditioning.dose,
            "smallest": conditioning.doses.smallest,
            "parts": [part_m[counts_m].tolist() for part_m, counts_m in counted],
            "table": _array(embedding_ck @ weight_hk[:, at:].T),
            "response": _response(conditioning.response),
        }
    return found


def _response(response: nn.Module) -> Arrays:
    """Return the parameters of the curves of all drugs."""
    if isinstance(response, HillResponse):
        return {"type": "hill", "log_ec50": _array(response.ec50_c.log()), "slope": _array(response.slope_c)}
    free = cast("FreeResponse", response)
    return {
        "type": "free",
        "unit": free.unit,
        "steps": free.weight_cj.shape[1],
        "share": _array(free.weight_cj.softmax(-1)),
        "rate": _array(nn.functional.softplus(free.rate_cj)),
        "bias": _array(free.bias_cj),
    }


def _inverted(linear: Mapping[str, Any], transform: Transform) -> Arrays:
    """Return the last layer with the inverse of the transform in it, which is linear for the values it is used on."""
    if isinstance(transform, Standardise):
        scale_g, mean_g = transform.scale_g.numpy(), transform.mean_g.numpy()
        scaled = {"weight": linear["weight"] * scale_g[:, None], "bias": linear["bias"] * scale_g + mean_g}
        return _inverted(scaled, transform.inner)
    if not isinstance(transform, AsIs | LogNormalise):
        raise DataError(f"The explorer cannot undo the transform '{transform.name}' of this model in a browser.")
    return dict(linear)


def _linear(linear: nn.Linear) -> Arrays:
    return {"weight": _array(linear.weight), "bias": _array(linear.bias)}


def _activation(activation: nn.Module) -> str:
    return next(name for name, kind in ACTIVATIONS.items() if type(activation) is kind)


def _array(x: Tensor) -> Array:
    return np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float32)

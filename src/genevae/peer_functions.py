"""Functions that scvi-tools, scanpy and similar packages have, made of ours; and scanpy's namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from genevae.errors import CategoryError, RecipeError, nearest, warn
from genevae.peers import ALIASES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["COMPOSED", "METRICS", "NAMESPACES", "Namespace", "composed"]


def composed(name: str, where: str) -> Callable[..., Any] | None:
    """Return a function of another package that is made of ours, with a note; None if there is none."""
    known = METRICS if where == "metrics" else COMPOSED
    if name not in known:
        return None
    ours, function = known[name]
    warn(f"{where}.{name} is {ours} here.")
    return function


def _ours() -> Any:
    """Return our public names, which are imported when they are used."""
    import genevae

    return genevae


class Namespace:
    """Functions as scanpy calls them, ``gv.tl.embed(adata, model)``: the result is added to the given AnnData.

    Parameters
    ----------
    name
        ``pp`` or ``tl``.
    keys
        Our functions, each with the name under which its result is added, if it can be.
    """

    def __init__(self, name: str, keys: Mapping[str, str | None]) -> None:
        self._name, self._keys = name, keys

    def __getattr__(self, name: str) -> Any:
        genevae = _ours()
        if self._name == "pp" and name in {"highly_variable", "highly_variable_genes"}:
            return _highly_variable_genes
        ours = ALIASES.get(name, name)
        if ours not in self._keys:
            scanpys = getattr(import_module("scanpy"), self._name)
            there = f"scanpy has it: scanpy.{self._name}.{name}. " if hasattr(scanpys, name) else ""
            raise AttributeError(f"genevae.{self._name} has no '{name}'. {there}{nearest(name, self._keys, 40)}")
        function, key = getattr(genevae, ours), self._keys[ours]
        return function if key is None else partial(_added, function, key)

    def __dir__(self) -> list[str]:
        return sorted(self._keys)


def _added(function: Callable[..., Any], key: str, data: Any, *arguments: Any, **options: Any) -> Any:
    """Call one of our functions with the data first, and add its result to them."""
    model, *rest = arguments or (options.pop("model", None),)
    return function(*((data,) if model is None else (model, data)), *rest, **{"key_added": key, **options})


def _highly_variable_genes(adata: AnnData, *arguments: Any, **options: Any) -> None:
    """Mark highly variable genes in ``adata.var["highly_variable"]``, as scanpy does."""
    genevae = _ours()
    adata.var["highly_variable"] = adata.var_names.isin(genevae.highly_variable(adata, *arguments, **options))


NAMESPACES = {
    "pp": Namespace("pp", {"highly_variable": "highly_variable", "inspect": None, "pseudobulk": None}),
    "tl": Namespace(
        "tl",
        {
            "embed": "X_genevae", "classify": "genevae_label", "cluster": "genevae_cluster",
            "counterfactual": "genevae_counterfactual", "denoise": "genevae_denoised", "differential_expression": None,
            "dose_response": None, "effect": None, "generate": None, "influence": None, "loadings": None,
            "program_scores": None,
        },
    ),
}  # fmt: skip
"""The namespaces of scanpy; what is drawn is in the report, and scanpy's pl draws the rest."""


def _predict(model: Any, *arguments: Any, soft: bool = False, **options: Any) -> Any:
    """Return labels, as scvi-tools' SCANVI does; or, where a condition is given, cells in it, as scGen does."""
    genevae = _ours()
    model = genevae.load(model) if not hasattr(model, "schema") else model
    fields = model.schema.fields
    is_value = len(arguments) > 1 and arguments[1] not in fields
    if is_value or {"condition", "stim_key", "to", "target", *fields} & set(options):
        return genevae.counterfactual(model, *arguments, **options)
    table = genevae.classify(model, *arguments, **options)
    start = "probability "
    each = table.loc[:, [name.startswith(start) for name in table]]
    return each.rename(columns=lambda name: name.removeprefix(start)) if soft else table["label"].to_numpy()


def _integrate(first: Any, *rest: Any, **options: Any) -> AnnData:
    """Embed cells without their technical batch; data without a model are fitted first."""
    genevae = _ours()
    if rest or hasattr(first, "schema"):
        return genevae.embed(first, *rest, **options)
    return genevae.embed(genevae.fit(first, **{"recipe": "adversarial", **options}), first)


def _transfer_labels(first: Any, query: Any, *, labels: str | None = None, **options: Any) -> pd.DataFrame:
    """Label a query by a model, or by data with labels, which are fitted first."""
    genevae = _ours()
    if not hasattr(first, "schema"):
        first = genevae.fit(first, labels=labels, **options)
        options = {}
    return genevae.classify(first, query, labels, **options)


def _correct(model: Any, data: Any = None, batch: str | None = None, **options: Any) -> AnnData:
    """Return expected expression in one technical batch; averaged over all, where none is given."""
    genevae = _ours()
    model = genevae.load(model) if not hasattr(model, "schema") else model
    given = () if data is None else (data,)
    if batch is None:
        return genevae.denoise(model, *given, average_batches=True, **options)
    if model.schema.batch is None:
        raise CategoryError(f"The model has no technical batch '{batch}'. Train one with batch=FIELD.")
    found = genevae.counterfactual(model, *given, condition={model.schema.batch: batch}, answer="model", **options)
    found.X = found.layers["mean"]
    return found


def _de(model: Any, *arguments: Any, **options: Any) -> pd.DataFrame:
    """Compare groups that are named without their column: ``de(model, adata, "stim", "ctrl")``."""
    genevae = _ours()
    data, *groups = arguments or (None,)
    obs = getattr(data, "obs", None)
    if groups and obs is not None and groups[0] not in obs:
        having = [name for name in obs if set(groups) <= set(obs[name].astype(str))]
        if len(having) != 1:
            raise CategoryError(f"Give the obs column of the groups {groups}: group_by=. {nearest('', obs)}")
        options |= {"group_by": having[0], **dict(zip(("group1", "group2"), groups, strict=False))}
        arguments = (data,)
    return genevae.differential_expression(model, *arguments, **options)


def _contrasts(model: Any, data: Any, pairs: Iterable[Sequence[str]], **options: Any) -> pd.DataFrame:
    """Return the effects of several pairs, each of a perturbation and what it is compared with."""
    import pandas as pd

    genevae = _ours()
    return pd.concat([genevae.effect(model, data, to, control, **options) for to, control in pairs], ignore_index=True)


def _top_genes(model: Any, data: Any, to: str, n: int = 10, **options: Any) -> list[str]:
    """Return the genes of the largest effects of a perturbation."""
    genevae = _ours()
    return list(genevae.effect(model, data, to, by=(), **options)["gene"].head(n))


def _cells(model: Any, data: Any, name: str) -> Any:
    """Return the cells, or those of training where none are given."""
    return data if data is not None else _ours().tasks.task.data_of_training(model, name)


def _bound(model: Any, data: Any, seed: int, n_draws: int, name: str) -> Any:
    genevae = _ours()
    log_w_sn = genevae.adapters.as_evaluated(model).log_weights(_cells(model, data, name), n_draws, seed)
    if log_w_sn is None:
        raise RecipeError("This recipe has no bound: its latent is a point.")
    return log_w_sn


def _get_elbo(model: Any, data: Any = None, seed: int = 0) -> float:
    """Return the evidence lower bound, averaged over cells; the higher, the better."""
    return float(_bound(model, data, seed, 10, "get_elbo").mean())


def _get_marginal_ll(model: Any, data: Any = None, seed: int = 0, n_draws: int = 100) -> float:
    """Return the importance-weighted bound of log p(x), averaged over cells."""
    log_w_sn = _bound(model, data, seed, n_draws, "get_marginal_ll")
    return float(_ours().metrics.importance_weighted_bound(log_w_sn).mean())


def _get_reconstruction_error(model: Any, data: Any = None, seed: int = 0) -> dict[str, float]:
    """Return −log p(x | z, c), averaged over draws of z and cells."""
    import numpy as np

    genevae = _ours()
    each = genevae.adapters.as_evaluated(model).likelihoods(_cells(model, data, "get_reconstruction_error"), 10, seed)
    log_px_n = np.concatenate([d.p.log_prob_n(d.x, d.measured_ng).mean(0).cpu().numpy() for d in each])
    return {"reconstruction_loss": -float(log_px_n.mean())}


def _posterior_predictive_sample(model: Any, data: Any = None, seed: int = 0) -> NDArray[np.float32]:
    """Return one sample of each cell, z ~ q(z | x, c), x ~ p(x | z, c)."""
    import numpy as np

    genevae = _ours()
    each = genevae.adapters.as_evaluated(model).likelihoods(_cells(model, data, "posterior_predictive_sample"), 1, seed)
    return np.concatenate([model.schema.transform.draw(d.p, d.size_n1)[0].cpu().numpy() for d in each])


def _read_csv(path: Any, metadata: Any = None, **options: Any) -> AnnData:
    """Read a table, with the table of its cells."""
    genevae = _ours()
    return genevae.read(genevae.ReadOptions(path, metadata=metadata, **options))


def _silhouette(z_nk: Any, label_n: Any) -> float:
    genevae = _ours()
    return float(genevae.metrics.silhouette_n(z_nk, label_n).mean())


COMPOSED: dict[str, tuple[str, Callable[..., Any]]] = {
    "predict": ("classify (labels), or counterfactual where a condition is given", _predict),
    "integrate": ("embed, of a model with batch= and recipe adversarial", _integrate),
    "correct": ("denoise, or counterfactual where one batch is given", _correct),
    "batch_correct": ("denoise, or counterfactual where one batch is given", _correct),
    "transfer_labels": ("classify, of a model of the labelled cells", _transfer_labels),
    "label_transfer": ("classify, of a model of the labelled cells", _transfer_labels),
    "de": ("differential_expression", _de),
    "contrasts": ("effect, once for each pair", _contrasts),
    "top_genes": ('effect(…)["gene"]', _top_genes),
    "get_elbo": ("evaluate(…, sections='fit')", _get_elbo),
    "get_marginal_ll": ("evaluate(…, sections='fit')", _get_marginal_ll),
    "get_reconstruction_error": ("evaluate(…, sections='fit')", _get_reconstruction_error),
    "posterior_predictive_sample": ("denoise, with the noise of expression", _posterior_predictive_sample),
    "read_csv": ("read(ReadOptions(PATH, metadata=TABLE))", _read_csv),
    "from_csv": ("read(ReadOptions(PATH, metadata=TABLE))", _read_csv),
    "summary": ("repr(model)", repr),
    "plot_history": ('history.plot(x="epoch")', lambda model, **options: model.history.plot(x="epoch", **options)),
}
"""Functions of theirs that are made of ours: what of ours, and how. Those of a model are its methods too."""
METRICS = dict.fromkeys(("silhouette", "silhouette_score"), ("silhouette_n(…).mean()", _silhouette))
"""The same for metrics."""

"""What scvi-tools, scanpy and similar packages call functions and options, and what these are called here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from genevae.errors import RecipeError, nearest, warn

__all__ = [
    "ALIASES", "LOSSES", "METHODS", "METHOD_ALIASES", "NAMES", "OPTIONS", "READING", "RENAMED", "alias", "our_option",
    "peer_name", "peer_option", "translated",
]  # fmt: skip

CONVERTED: dict[str, tuple[str, str, Callable[[Any], dict[str, Any]]]] = {
    "train_size": (
        "validation",
        "the share of the cells that is not trained on",
        lambda value: {"validation": round(1 - float(value), 6)},
    ),
    "n_layers": ("hidden", "the width of each layer, as in 512,256", lambda value: {"hidden": (128,) * int(value)}),
    "use_gpu": ("device", "cpu, cuda or mps", lambda value: {"device": "cuda" if value else "cpu"}),
    "early_stopping": (
        "setting.patience",
        "epochs without a better validation loss; 0 never stops early",
        lambda value: {} if value else {"setting": {"patience": 0}},
    ),
    "hvg": ("genes", "the number of highly variable genes", lambda value: {"genes": 2000 if value is True else value}),
    "inplace": (
        "key_added",
        "where the result goes in the given AnnData",
        lambda value: {"key_added": "X_genevae"} if value else {},
    ),
    "verbose": ("progress", "true or false", lambda value: {"progress": bool(value)}),
    "bulk": ("recipe", 'as in recipe="bulk"', lambda value: {"recipe": "bulk"} if value else {}),
    "save_anndata": ("path", "a run never holds the data: keep them in a file of their own", lambda value: {}),  # noqa: ARG005
    "report": (
        "out",
        "the folder of the report, or the page alone: report.html",
        lambda value: {"out": "report.html" if value is True else value} if value else {},
    ),
}
"""Options of theirs whose values differ: our option, how it differs, and our options for a value of theirs."""
RENAMED: dict[str, str | tuple[str, ...]] = {
    "batch_key": "batch",
    "labels_key": ("condition", "field"),
    "unlabeled_category": "unlabelled",
    "unlabelled_category": "unlabelled",
    "unknown_label": "unlabelled",
    "condition_key": "condition",
    "conditions": "condition",
    "covariates": "condition",
    "categorical_covariate_keys": "condition",
    "perturbation_key": "condition",
    "continuous_covariate_keys": "continuous",
    "dose_key": "continuous",
    "control_group": "control",
    "control_key": "control",
    "ctrl": "control",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "n_hidden": "hidden",
    "hidden_dims": "hidden",
    "hidden_layers": "hidden",
    "latent_dim": "n_latent",
    "n_dims": "n_latent",
    "latent_dims": "n_latent",
    "lr": "learning_rate",
    "dropout_rate": "setting.dropout",
    "dropout": "setting.dropout",
    "beta": "setting.beta",
    "patience": "setting.patience",
    "early_stopping_patience": "setting.patience",
    "gene_likelihood": "recipe",
    "likelihood": "recipe",
    "model_type": "recipe",
    "n_top_genes": ("genes", "n_genes"),
    "holdout": "hold_out",
    "held_out": "hold_out",
    "n_genes": "genes",
    "accelerator": "device",
    "adata": "data",
    "query": "data",
    "dataset": "data",
    "random_state": "seed",
    "random_seed": "seed",
    "show_progress": "progress",
    "validation_size": "validation",
    "val_size": "validation",
    "test_size": "test",
    "save_path": "out",
    "out_dir": "out",
    "outdir": "out",
    "output": "out",
    "output_dir": "out",
    "dir_path": "out",
    "n_samples": ("n_draws", "n"),
    "n_samples_per_cell": "n_draws",
    "n_cells": "n",
    "library_size": "size",
    "groupby": ("by", "field", "group_by"),
    "group_by": ("by", "field"),
    "group1": "to",
    "group2": "control",
    "idx1": "group1",
    "idx2": "group2",
    "delta": "change",
    "fdr_target": "fdr",
    "n_samples_overall": "n_draws",
    "batch_correction": "average_batches",
    "sample_key": "replicate",
    "donor_key": "replicate",
    "groups": ("by", "to", "group1"),
    "reference": ("control", "group2"),
    "label_key": ("field", "condition"),
    "cell_type_key": ("field", "condition"),
    "target": ("condition", "to"),
    "stim_key": "condition",
    "to_condition": "condition",
    "to": "condition",
    "by": "field",
    "column": "field",
    "key_to_predict": "field",
    "perturbation": ("condition", "field"),
    "cell_type": ("condition", "field"),
    "celltype": ("condition", "field"),
    "html": "out",
    "label": ("field", "condition"),
    "labels": ("field", "condition"),
    "dose": ("field", "continuous"),
    "doses_to_predict": "doses",
    "n_cells_per_condition": "n",
    "number": "n",
    "cells": "n",
    "obs": "labels",
    "top_n": "top",
    "n_top": "top",
    "n_neighbors": "neighbours",
    "key": "key_added",
    "covariate_data": "conditions",
    "perturbation_covariate_reps": "embedding",
    "perturbation_embeddings": "embedding",
    "drug_embeddings": "embedding",
    "pert_embeddings": "embedding",
    "embeddings": "embedding",
}
"""Options of theirs that are the same here under another name; they work, with a note."""

READING = {"obs": "metadata", "meta": "metadata", "coldata": "metadata", "sample_table": "metadata"}
"""Options of theirs that are a table of the cells, where the data and it are paths."""

KNOWN_BY_MODELS = frozenset({"batch", "batch_key", "condition", "label_key", "labels", "labels_key"})
"""Options that an evaluation needs not, because models know their fields."""

LISTS = frozenset({"condition", "continuous"})
"""Options that may be given under several names, which are joined."""

OPTIONS = {
    "num_workers": ("read_threads", "threads that read from disk"),
    "plan_kwargs": ("setting", 'as in setting={"weight_decay": 1e-6}'),
    "devices": ("device", "cpu, cuda or cuda:1; several GPUs are started by torchrun"),
    "limit_train_batches": ("setting.cells_per_epoch", "a number of cells"),
    "logs": ("callbacks", "what takes part in training"),
    "transform_batch": ("average_batches", "over all batches"),
    "use_rep": ("layer", "the layer that holds the expression"),
    "source": ("condition", "the target state; the cells that are given are the source"),
    "ctrl_key": ("data", "the cells to start from: give those of the control, adata[adata.obs[FIELD] == CONTROL]"),
    "celltype_to_predict": ("data", "the cells to start from: give those of the type"),
    "copy": ("key_added", "where the result goes in the given AnnData; without, nothing is changed"),
    "return_dist": ("seed", "the result has the mean and the standard deviation"),
}
"""Options that are something else here, or nothing: what answers them, and how it differs."""

THREADS = frozenset({"threads", "num_threads", "n_threads", "n_jobs"})
"""Options that no function has: they are set for the session."""

ALIASES = {
    "train": "fit",
    "read_h5ad": "read",
    "load_data": "read",
    "from_numpy": "from_arrays",
    "load_model": "load",
    "save_model": "save",
    "encode": "embed",
    "get_latent": "embed",
    "get_embedding": "embed",
    "impute": "denoise",
    "sample": "generate",
    "simulate": "generate",
    "perturb": "counterfactual",
    "what_if": "counterfactual",
    "predict_counterfactual": "counterfactual",
    "annotate": "classify",
    "predict_labels": "classify",
    "get_loadings": "loadings",
    "get_gene_loadings": "loadings",
    "contrast": "effect",
    "pathway_scores": "program_scores",
    "score_genes": "program_scores",
    "latent_enrich": "program_scores",
    "map": "map_query",
    "load_query_data": "map_query",
    "reference_mapping": "map_query",
    "rank_genes_groups": "differential_expression",
    "find_markers": "differential_expression",
    "effects": "effect",
    "perturbation_effect": "effect",
    "perturbation_effects": "effect",
    "dose_curve": "dose_response",
    "gene_embedding": "gene_embeddings",
    "get_gene_embeddings": "gene_embeddings",
    "benchmark": "evaluate",
    "compare": "evaluate",
    "score": "evaluate",
    "info": "inspect",
    "describe": "inspect",
    "summary": "inspect",
    "summarize": "inspect",
    "hvg": "highly_variable",
    "highly_variable_genes": "highly_variable",
    "pseudo_bulk": "pseudobulk",
    "list_recipes": "RECIPES",
    "recipes": "RECIPES",
}
"""Functions of theirs that are the same here under another name; they work, with a note."""

NAMES = {
    "SCVI": 'fit(adata, "nb")',
    "scvi": 'fit(adata, "nb")',
    "SCANVI": 'fit(adata, "semi", labels="cell_type", unlabelled="Unknown"), then classify',
    "scANVI": 'fit(adata, "semi", labels="cell_type", unlabelled="Unknown"), then classify',
    "CVAE": 'fit(adata, "conditional", condition="cell_type")',
    "VAE": 'fit(adata, "nb")',
    "LinearSCVI": 'fit(adata, "linear"), then loadings',
    "EXPIMAP": 'fit(adata, "programs", gene_sets="sets.gmt"), then program_scores',
    "VEGA": 'fit(adata, "programs", gene_sets="sets.gmt"), then program_scores',
    "CPA": 'fit(adata, "dose", condition="drug", continuous="dose", control="DMSO"), then counterfactual',
    "CellFlow": 'fit(adata, condition="gene", control="ctrl", embedding={"gene": table}), then counterfactual',
    "GEARS": 'fit(adata, condition="gene", control="ctrl", embedding={"gene": table}), then counterfactual',
    "Model": "fit",
    "get_latent_representation": 'embed(model, adata).obsm["X_genevae"]',
    "get_normalized_expression": "denoise",
    "setup_anndata": 'fit(adata, batch="donor", layer="counts")',
    "latent": "embed",
    "decode": "generate",
    "prepare_query_anndata": "map_query, which matches genes itself; those that the query lacks are missing, not zero",
    "evaluate_counterfactual": 'evaluate(model, adata, sections=["response"])',
    "plot_history": "pl.training",
    "plot_umap": "pl.embedding",
    "volcano": "pl.volcano",
    "dotplot": "pl.program_scores, or scanpy's pl",
    "autotune": "tune",
    "run_autotune": "tune",
    "seed": "settings.seed, the seed of every function that is given none",
    "from_csv": "read",
}
"""For other functions of theirs, what answers them here."""

_NO_METHODS = {
    "RECIPES", "fit", "from_arrays", "highly_variable", "inspect", "load", "pl", "pseudobulk", "read", "settings",
    "tune",
}  # fmt: skip
METHOD_ALIASES = {name: ours for name, ours in ALIASES.items() if ours not in _NO_METHODS}
"""Methods of theirs that are the same here under another name; they work, with a note."""
METHODS = {
    **NAMES,
    "train": "fit(…), which trains and returns the model",
    "is_trained": "fit(…), which returns trained models only",
    "history_": "history",
    "load_query_data": "map_query(adata), which learns the new batches of a query and returns a model of both",
    "plot_history": 'history.plot(x="epoch"), or genevae.pl.training(model)',
    "view_anndata_setup": "schema",
    "adata": "schema; a model does not keep its data",
    "registry": "schema",
    "device": 'load(path, device="cuda")',
    "to_device": 'load(path, device="cuda")',
    "to": 'load(path, device="cuda")',
    "eval": "embed and the other tasks, which evaluate without gradients",
    "parameters": "module.parameters()",
    "state_dict": "module.state_dict()",
    "genes": "schema.genes",
    "var_names": "schema.genes",
    "params": "recipe.settings()",
    "config": "recipe.settings()",
    "n_latent": 'recipe.settings()["n_latent"]',
    "conditions": "schema.fields",
    "loss": "history",
    "metrics": "history",
    "get_likelihood_parameters": "denoise",
}
"""For other methods or attributes of their models, what answers them here."""
LOSSES = {
    "elbo_train": "train_loss",
    "train_loss_epoch": "train_loss",
    "loss": "train_loss",
    "elbo_validation": "validation_loss",
    "val_loss": "validation_loss",
}
"""Columns of their history, and what they are called here."""


def peer_option(name: str, known: Iterable[str] | None = None) -> RecipeError | None:
    r"""Return the error that answers an option of another package with the option here, if it is one.

    The answer is in the words of the command line where the name begins with ``--``. Where ``known``, the options of
    the function, are given, answers that it lacks are not offered.

    >>> print(peer_option("batch_key"), peer_option("--dropout-rate"), sep="\n")
    There is no option 'batch_key'; here it is: batch.
    There is no option '--dropout-rate'; here it is: --setting dropout=VALUE.
    """
    plain = name.removeprefix("--").replace("-", "_")
    if name in THREADS:
        return RecipeError(f"There is no option '{name}'. It is of the session: genevae.settings.num_threads = 4.")
    if not any(plain in names for names in (CONVERTED, OPTIONS, RENAMED)):
        return None
    option, remark = (CONVERTED.get(plain) or OPTIONS.get(plain) or (our_option(plain, known), ""))[:2]
    option, _, setting = option.partition(".")
    if known is not None and option not in set(known):
        return None
    typed = name.startswith("--")
    answer = f"--{option.replace('_', '-')}" if typed else option
    if setting:
        answer = f"--setting {setting}=VALUE" if typed else f'setting={{"{setting}": VALUE}}'
    return RecipeError(f"There is no option '{name}'; here it is: {answer}{', ' if remark else ''}{remark}.")


def translated(options: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return options of a function under our names; a note says what those of other packages are called here.

    Raises
    ------
    RecipeError
        If the function has no such option, with ours for a peer's, or the nearest.
    """
    known = [each for each in known if not each.startswith("_")]
    if "n_hidden" in options and "n_layers" in options and "hidden" in known:
        given = {name: value for name, value in options.items() if name not in {"n_hidden", "n_layers"}}
        warn("The options n_hidden and n_layers are hidden here, a width for each layer.")
        return translated({**given, "hidden": (int(options["n_hidden"]),) * int(options["n_layers"])}, known)
    ours: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known and name in CONVERTED and CONVERTED[name][0].split(".")[0] in known:
            title, remark, convert = CONVERTED[name]
            warn(f"The option {name} is {title.replace('.', ' ')} here: {remark}.")
            ours |= convert(value)
            continue
        if name in KNOWN_BY_MODELS and name not in known and "models" in known:
            warn(f"The option {name} is left out: each model knows its batch and its conditions.")
            continue
        option, _, setting = our_option(name, known).partition(".")
        if name in known:
            option, setting = name, ""
        elif option not in known:
            raise peer_option(name, known) or RecipeError(
                f"There is no option '{name}'. {nearest(name, known, len(known))}"
            )
        else:
            warn(f"The option {name} is {f'setting={{{setting!r}: …}}' if setting else option} here.")
        if setting:
            ours["setting"] = {**ours.get("setting", {}), **(options.get("setting") or {}), setting: value}
        elif option in LISTS and option in {**ours, **(options if option != name else {})}:
            ours[option] = (*_listed(ours.get(option, options.get(option))), *_listed(value))
        elif option in ours or (option != name and option in options):
            raise RecipeError(f"'{option}' is given twice, also as '{name}'. Leave one out.")
        else:
            ours[option] = value
    return ours


def _listed(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def our_option(name: str, known: Iterable[str] | None) -> str:
    """Return what an option is called here; of several, the one that the function has."""
    ours = RENAMED.get(name, name)
    if isinstance(ours, str):
        return ours
    return next((each for each in ours if known is not None and each in known), ours[0])


def alias(name: str, aliases: Mapping[str, str], where: str) -> str | None:
    """Return our name for a function of another package, with a note; None if it has none."""
    if name not in aliases:
        return None
    warn(f"{where}.{name} is {where}.{aliases[name]} here.")
    return aliases[name]


def peer_name(name: str, valid: Iterable[str], where: str) -> str:
    """Say what answers a name of another package here, or which of ours is nearest.

    >>> peer_name("view_anndata_setup", ["schema"], "model")
    'Here it is model.schema.'
    """
    known = METHODS if where == "model" else NAMES
    if name not in known:
        return nearest(name, valid, 40)
    first = re.split(r"\W", known[name], maxsplit=1)[0]
    return f"Here it is {'genevae' if first in _NO_METHODS else where}.{known[name]}."

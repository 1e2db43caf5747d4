"""The verbs: what holds for all of them, and for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from genevae.data.schema import Categorical
from genevae.errors import CategoryError, DataError, GeneError
from genevae.runs.fit import fit
from genevae.tasks.classify import classify
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.denoise import denoise
from genevae.tasks.embed import embed
from genevae.tasks.generate import generate

STIM = {"drug": "stim"}
TASKS: dict[str, Callable] = {
    "embed": embed,
    "classify": lambda model, data, **kw: classify(model, data, field="type", **kw),
    "posterior": lambda model, data, **kw: classify(model, data, field="type", method="posterior", **kw),
    "reconstruct": lambda model, data, **kw: classify(model, data, field="type", method="reconstruction", **kw),
    "counterfactual": lambda model, data, **kw: counterfactual(model, data, condition=STIM, **kw),
    "denoise": denoise,
    "generate": lambda model, data, **kw: generate(model, n=5, condition=STIM, **kw),
}
ON_CELLS = [name for name in TASKS if name != "generate"]
SEEDED = [name for name in TASKS if name != "embed"]


def numbers(result: AnnData | pd.DataFrame) -> dict[str, np.ndarray]:
    """Return all the numbers of a result, by name."""
    if isinstance(result, pd.DataFrame):
        return {name: result[name].to_numpy() for name in result if name not in ("label", "true", "set")}
    arrays = {**result.layers, **result.obsm}
    if result.X is not None:
        arrays["X"] = result.X.toarray() if sparse.issparse(result.X) else result.X
    return arrays


def same(one, other) -> bool:
    one, other = numbers(one), numbers(other)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(params=TASKS)
def task(request) -> Callable:
    return TASKS[request.param]


@pytest.mark.parametrize("name", ON_CELLS)
def test_the_users_data_are_not_changed(name, tiny_model, adata):
    adata.layers["twice"] = adata.X * 2
    adata.obsm["X_pca"] = np.ones((40, 2))
    adata.uns["note"] = {"a": [1, 2]}
    before = adata.copy()
    TASKS[name](tiny_model, adata)
    assert (before.X != adata.X).nnz == 0
    assert (before.layers["twice"] != adata.layers["twice"]).nnz == 0
    pd.testing.assert_frame_equal(before.obs, adata.obs)
    pd.testing.assert_frame_equal(before.var, adata.var)
    assert (list(before.layers), list(before.obsm), before.uns) == (list(adata.layers), list(adata.obsm), adata.uns)


def test_the_model_comes_back_in_its_mode_with_its_weights_on_its_device(task, tiny_model, adata):
    module = tiny_model.module
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    dropout = next(part for part in module.modules() if isinstance(part, torch.nn.Dropout))
    dropout.eval()
    modes = [part.training for part in module.modules()]
    try:
        task(tiny_model, adata)
        assert [part.training for part in module.modules()] == modes
        with pytest.raises(DataError):
            task(tiny_model, adata, batch_size=0)
        assert [part.training for part in module.modules()] == modes
    finally:
        module.eval()
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    assert all(torch.equal(weights[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_task_leaves_the_users_random_numbers_as_they_were(task, tiny_model, adata):
    before = torch.get_rng_state()
    task(tiny_model, adata)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["embed", "classify", "posterior", "reconstruct"])
@pytest.mark.parametrize("batch_size", [1, 7, 39])
def test_deterministic_results_do_not_depend_on_the_batch_size(name, tiny_model, adata, batch_size):
    one, other = numbers(TASKS[name](tiny_model, adata)), numbers(TASKS[name](tiny_model, adata, batch_size=batch_size))
    for key, array in one.items():
        np.testing.assert_allclose(other[key], array, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", SEEDED)
def test_the_same_seed_gives_the_same_bits(name, tiny_model, adata):
    assert same(TASKS[name](tiny_model, adata, seed=4), TASKS[name](tiny_model, adata, seed=4))


@pytest.mark.parametrize("name", ["posterior", "counterfactual", "denoise", "generate"])
def test_another_seed_gives_other_numbers(name, tiny_model, adata):
    assert not same(TASKS[name](tiny_model, adata, seed=4), TASKS[name](tiny_model, adata, seed=5))


@pytest.mark.parametrize("name", ON_CELLS)
def test_a_result_has_the_users_cells_in_their_order(name, tiny_model, adata):
    result = TASKS[name](tiny_model, adata)
    assert (result.index if isinstance(result, pd.DataFrame) else result.obs_names).tolist() == adata.obs_names.tolist()


@pytest.mark.parametrize("name", ON_CELLS)
def test_order_and_surplus_of_genes_do_not_matter(name, tiny_model, adata):
    surplus = AnnData(sparse.csr_matrix(np.ones((40, 1), dtype=np.float32)), obs=adata.obs)
    surplus.var_names = ["other"]
    x = sparse.hstack([surplus.X, adata.X[:, ::-1]], format="csr")
    shuffled = AnnData(x, obs=adata.obs)
    shuffled.var_names = ["other", *adata.var_names[::-1]]
    found = numbers(TASKS[name](tiny_model, shuffled))
    for key, array in numbers(TASKS[name](tiny_model, adata)).items():
        if key != "draw":  # a draw may fall to the other side of a rounding
            np.testing.assert_allclose(found[key], array, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ON_CELLS)
def test_a_dense_matrix_and_a_layer_give_the_same_as_a_sparse_one(name, tiny_model, adata):
    dense = adata.copy()
    dense.X = None
    dense.layers["counts"] = adata.X.toarray()
    for key, array in numbers(TASKS[name](tiny_model, adata)).items():
        if key != "draw":
            found = numbers(TASKS[name](tiny_model, dense, layer="counts"))[key]
            np.testing.assert_allclose(found, array, rtol=1e-3, atol=1e-3)


WRONG_CELLS = {
    "genes that are missing": (lambda a: a[:, :5].copy(), GeneError),
    "a column that is missing": (lambda a: AnnData(a.X, obs=a.obs.drop(columns="drug"), var=a.var), CategoryError),
    "a category that is unknown": (
        lambda a: AnnData(a.X, obs=a.obs.assign(drug="aspirin"), var=a.var),
        CategoryError,
    ),
    "logarithms": (lambda a: AnnData(np.log1p(a.X.toarray()), obs=a.obs, var=a.var), DataError),
}


@pytest.mark.parametrize("name", ON_CELLS)
@pytest.mark.parametrize("wrong", WRONG_CELLS)
def test_cells_that_do_not_fit_the_model_are_a_typed_error(name, wrong, tiny_model, adata):
    make, error = WRONG_CELLS[wrong]
    with pytest.raises(error):
        TASKS[name](tiny_model, make(adata))


WRONG_ARGUMENTS = [
    (embed, {"layer": "nope"}, DataError, "nope"),
    (embed, {"batch_size": 0}, DataError, "batch_size"),
    (classify, {"field": "tpye"}, CategoryError, "Did you mean 'type'"),
    (classify, {"field": "type", "method": "guess"}, DataError, "Unknown method 'guess'"),
    (classify, {"field": "type", "threshold": 1.5}, DataError, "1.5"),
    (counterfactual, {"condition": {}}, CategoryError, "Give a target condition"),
    (counterfactual, {"condition": {"drg": "stim"}}, CategoryError, "Did you mean 'drug'"),
    (counterfactual, {"condition": {"drug": "stm"}}, CategoryError, "Did you mean 'stim'"),
    (counterfactual, {"condition": STIM, "n_draws": 0}, DataError, "n_draws"),
    (counterfactual, {"condition": STIM, "interval": 1.0}, DataError, "interval"),
    (denoise, {"size": 0.0}, DataError, "size"),
    (denoise, {"size": float("nan")}, DataError, "size"),
    (denoise, {"n_draws": 0}, DataError, "n_draws"),
]


@pytest.mark.parametrize(
    ("verb", "arguments", "error", "words"), WRONG_ARGUMENTS, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_a_wrong_argument_is_its_typed_error(verb, arguments, error, words, tiny_model, adata):
    with pytest.raises(error, match=words):
        verb(tiny_model, adata, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n": 0}, DataError, "n=0"),
        ({"size": -1.0}, DataError, "-1"),
        ({"latent": "posterior"}, DataError, "Unknown latent 'posterior'"),
        ({"condition": {"drug": "stm"}}, CategoryError, "Did you mean 'stim'"),
        ({"condition": {"drg": "stim"}}, CategoryError, "Did you mean 'drug'"),
        ({"batch_size": 0}, DataError, "batch_size"),
    ],
    ids=str,
)
def test_a_wrong_argument_of_generate_is_its_typed_error(arguments, error, words, tiny_model):
    with pytest.raises(error, match=words):
        generate(tiny_model, **arguments)


def test_embeddings_are_the_posterior(tiny_model, adata):
    z = embed(tiny_model, adata)
    assert z.obsm["X_genevae"].shape == z.obsm["X_genevae_scale"].shape == (40, 4)
    assert (z.obsm["X_genevae_scale"] > 0).all()
    pd.testing.assert_frame_equal(z.obs, adata.obs)


def test_embeddings_of_training_cells_are_those_that_the_model_remembers(tiny_model, make_adata):
    training = make_adata()[(tiny_model.split == "training").to_numpy()].copy()
    z = embed(tiny_model, training).obsm["X_genevae"]
    np.testing.assert_allclose(z, tiny_model.reference.mean_nk.numpy(), rtol=1e-4, atol=1e-5)


def test_generate_gives_n_whole_counts_of_every_combination(tiny_model):
    cells = generate(tiny_model, n=7, condition={"type": ["A", "B"], "drug": ["ctrl", "stim"]})
    assert cells.shape == (28, 30)
    assert cells.obs.groupby(["type", "drug"], observed=True).size().to_dict() == {
        (kind, drug): 7 for kind in "AB" for drug in ("ctrl", "stim")
    }
    x = cells.X.toarray() if sparse.issparse(cells.X) else cells.X
    assert (x == x.round()).all()
    assert (x >= 0).all()
    assert cells.var_names.tolist() == list(tiny_model.schema.genes)
    assert set(cells.obs["lane"]) <= {"l1", "l2"}


def test_generated_cells_have_the_size_that_was_asked_for(tiny_model):
    cells = generate(tiny_model, n=300, condition={"type": "A"}, size=500.0)
    total = np.asarray(cells.X.sum(1)).ravel()
    assert total.mean() == pytest.approx(500, rel=0.1)
    assert (cells.obs["size"] == 500).all()


def test_without_a_condition_generated_cells_are_mixed_as_the_training_cells_were(tiny_model, make_adata):
    cells = generate(tiny_model, n=600)
    share = cells.obs["type"].value_counts(normalize=True)
    expected = make_adata().obs["type"].value_counts(normalize=True)
    assert all(abs(share[kind] - expected[kind]) < 0.1 for kind in "ABC")


@pytest.mark.parametrize("latent", ["aggregate", "prior"])
def test_generated_cells_express_the_markers_of_their_type(latent, tiny_model):
    for number, kind in enumerate("ABC"):
        mean = np.asarray(generate(tiny_model, n=200, condition={"type": kind}, latent=latent).X.mean(0)).ravel()
        markers = [mean[5 * i : 5 * i + 5].mean() for i in range(3)]
        assert np.argmax(markers) == number


def test_generate_does_not_depend_on_the_batch_size_but_for_the_order_of_draws(tiny_model):
    one, other = (generate(tiny_model, n=400, condition=STIM, batch_size=size) for size in (512, 64))
    np.testing.assert_allclose(np.asarray(one.X.mean(0)).ravel(), np.asarray(other.X.mean(0)).ravel(), rtol=0.4)
    assert one.obs["type"].tolist() == other.obs["type"].tolist()


def test_a_counterfactual_to_its_own_condition_is_the_denoised_cell(tiny_model, adata):
    stim = adata[(adata.obs["drug"] == "stim").to_numpy()].copy()
    same_condition = counterfactual(tiny_model, stim, condition=STIM, n_draws=400)
    denoised = denoise(tiny_model, stim, n_draws=400)
    np.testing.assert_allclose(same_condition.layers["mean"], denoised.X, rtol=0.15, atol=0.1)


def test_a_counterfactual_raises_the_genes_that_the_drug_raises(tiny_model, adata):
    ctrl = adata[((adata.obs["drug"] == "ctrl") & (adata.obs["type"] != "C")).to_numpy()].copy()
    ratio = counterfactual(tiny_model, ctrl, condition=STIM).layers["mean"].mean(0) / denoise(tiny_model, ctrl).X.mean(
        0
    )
    assert ratio[20:25].min() > 2 * np.delete(ratio, range(20, 25)).max()


def test_a_counterfactual_says_where_it_came_from(tiny_model, adata):
    result = counterfactual(tiny_model, adata, condition=STIM)
    assert (result.obs["drug"] == "stim").all()
    assert result.obs["source_drug"].tolist() == adata.obs["drug"].tolist()
    assert result.obs["type"].tolist() == adata.obs["type"].tolist()
    assert (result.layers["draw"] == result.layers["draw"].round()).all()


def test_a_cell_moved_to_its_own_condition_is_itself(tiny_model, adata):
    stim = adata[(adata.obs["drug"] == "stim").to_numpy()].copy()
    result = counterfactual(tiny_model, stim, condition=STIM)
    assert np.array_equal(result.X, stim.X.toarray() if sparse.issparse(stim.X) else stim.X)
    assert not np.array_equal(result.layers["draw"], result.X)


def test_a_moved_cell_keeps_its_noise_and_responds(tiny_model, adata):
    ctrl = adata[((adata.obs["drug"] == "ctrl") & (adata.obs["type"] != "C")).to_numpy()].copy()
    answer = counterfactual(tiny_model, ctrl, condition=STIM)
    seen = ctrl.X.toarray() if sparse.issparse(ctrl.X) else ctrl.X
    moved, drawn = (np.abs(x_ng - seen)[:, 25:].mean() for x_ng in (answer.X, answer.layers["draw"]))
    assert moved < 0.6 * drawn
    ratio = answer.X.mean(0) / seen.mean(0)
    assert ratio[20:25].mean() > 2 * np.delete(ratio, range(20, 25)).mean()


@pytest.mark.parametrize("interval", [0.5, 0.9])
def test_intervals_are_ordered_and_hold_the_mean(interval, tiny_model, adata):
    result = counterfactual(tiny_model, adata, condition=STIM, interval=interval, n_draws=50)
    lower, upper = result.layers["lower"], result.layers["upper"]
    assert (lower <= upper).all()
    assert ((lower <= result.layers["mean"]) & (upper >= result.layers["mean"])).mean() > 0.95


def test_a_wider_interval_holds_a_narrower_one(tiny_model, adata):
    narrow, wide = (counterfactual(tiny_model, adata, condition=STIM, interval=i) for i in (0.5, 0.9))
    assert (wide.layers["lower"] <= narrow.layers["lower"]).all()
    assert (wide.layers["upper"] >= narrow.layers["upper"]).all()


def test_support_is_higher_where_such_cells_were_seen(tiny_model, adata):
    support = counterfactual(tiny_model, adata, condition=STIM).obs["support"]
    unseen = adata.obs["type"] == "C"
    assert support.between(0, 1).all()
    assert support[~unseen].median() > 1.25 * support[unseen].median()


def test_denoised_cells_sum_to_their_size_or_to_the_one_that_was_asked_for(tiny_model, adata):
    np.testing.assert_allclose(denoise(tiny_model, adata).X.sum(1), np.asarray(adata.X.sum(1)).ravel(), rtol=1e-4)
    np.testing.assert_allclose(denoise(tiny_model, adata, size=1e4).X.sum(1), 1e4, rtol=1e-4)


def test_denoised_cells_are_nearer_to_their_rates_than_counts_are(tiny_model, adata):
    kind = adata.obs["type"].to_numpy()
    centre = np.vstack([np.asarray(adata.X[kind == k].mean(0)).ravel() for k in kind])
    assert np.abs(denoise(tiny_model, adata).X - centre).mean() < np.abs(adata.X.toarray() - centre).mean()


def test_averaging_over_batches_is_the_mean_over_their_categories(tiny_model, adata):
    average = denoise(tiny_model, adata, average_batches=True, n_draws=600, size=1e4).X
    each = [
        counterfactual(tiny_model, adata, condition={"lane": lane}, n_draws=600).layers["mean"] for lane in ("l1", "l2")
    ]
    size = np.asarray(adata.X.sum(1))
    np.testing.assert_allclose(average, np.mean(each, 0) * 1e4 / size, rtol=0.15, atol=5)


def test_averaging_needs_a_technical_batch(tiny_model, adata):
    schema = replace(tiny_model.schema, categorical=tuple(replace(c, technical=False)
                                                          for c in tiny_model.schema.categorical))  # fmt: skip
    with pytest.raises(CategoryError, match="no technical batch"):
        denoise(replace(tiny_model, schema=schema), adata, average_batches=True)


def test_classify_tells_the_types_apart_and_its_probabilities_sum_to_one(tiny_model, adata):
    table = classify(tiny_model, adata, field="type")
    p = table[["probability A", "probability B", "probability C"]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(table["probability"], p.max(1))
    assert (table["label"].to_numpy() == np.array(list("ABC"))[p.argmax(1)]).all()
    assert (table["label"].to_numpy() == adata.obs["type"].to_numpy()).mean() > 0.9


def test_classify_says_which_labels_are_plausible(tiny_model, make_adata):
    cells = make_adata(400, seed=7)
    table = classify(tiny_model, cells, field="type")
    p = table[["probability A", "probability B", "probability C"]].to_numpy()
    sets = [set(text.split(" | ")) - {""} for text in table["set"]]
    for row, some in zip(p, sets, strict=True):
        assert some == {"ABC"[c] for c in np.argsort(-row)[: len(some)]}, "the most probable labels come first"
    assert 0.8 < np.mean([label in some for label, some in zip(table["true"], sets, strict=True)]) < 0.99
    assert table["unknown"].between(0, 1).all()
    assert abs(table["unknown"].mean() - 0.5) < 0.1


def test_a_run_without_label_models_classifies_by_its_posterior(tiny_model, adata):
    old = classify(replace(tiny_model, labels=None), adata, field="type")
    pd.testing.assert_frame_equal(old, classify(tiny_model, adata, field="type", method="posterior"))
    assert "set" not in old


@pytest.mark.parametrize("field", ["drug", "lane"])
def test_perturbations_and_batches_are_classified_by_the_posterior(tiny_model, adata, field):
    assert list(tiny_model.labels.fields) == ["type"]
    assert "set" not in classify(tiny_model, adata, field=field)


def test_classify_by_reconstruction_takes_the_smallest_error(tiny_model, adata):
    table = classify(tiny_model, adata, field="type", method="reconstruction")
    error = table[["error A", "error B", "error C"]].to_numpy()
    np.testing.assert_array_equal(table["error"], error.min(1))
    assert (table["label"].to_numpy() == adata.obs["type"].to_numpy()).mean() > 0.9


def test_classify_calls_unknown_what_is_below_the_threshold(tiny_model, adata):
    table = classify(tiny_model, adata, field="drug")
    threshold = float(table["probability"].median())
    marked = classify(tiny_model, adata, field="drug", threshold=threshold)
    np.testing.assert_array_equal(marked["label"] == "unknown", table["probability"] < threshold)
    assert (marked["label"] == "unknown").any()
    assert not (table["label"] == "unknown").any()


def test_classify_ignores_the_field_itself(tiny_model, adata):
    table = classify(tiny_model, adata, field="type").drop(columns="true")
    wrong, without = adata.copy(), adata.copy()
    wrong.obs["type"] = "Z"
    del without.obs["type"]
    for other in (wrong, without):
        assert same(classify(tiny_model, other, field="type").drop(columns="true", errors="ignore"), table)


def test_classify_needs_two_categories(tiny_model, adata):
    one = Categorical("type", ("A",))
    schema = replace(tiny_model.schema, categorical=(one, *tiny_model.schema.categorical[1:]))
    with pytest.raises(CategoryError, match="a single category"):
        classify(replace(tiny_model, schema=schema, calibration={}), adata, field="type")


@pytest.fixture(scope="module")
def dosed(make_adata):
    """A model with a learned size, a conditional prior and a continuous field."""
    return fit(make_adata(60), condition=["type"], continuous=["dose"], epochs=2, batch_size=16, n_latent=2, hidden=[8],
               setting={"size": "learned", "prior": "conditional"}, device="cpu", progress=False)  # fmt: skip


def test_a_learned_size_changes_no_law(dosed, adata):
    before = torch.get_rng_state()
    one, other = (classify(dosed, adata, field="type", batch_size=size) for size in (64, 9))
    for key, array in numbers(one).items():
        np.testing.assert_allclose(numbers(other)[key], array, rtol=1e-3, atol=1e-3)
    assert np.isfinite(denoise(dosed, adata).X).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_continuous_field_is_asked_for_in_its_own_units(dosed, adata):
    result = counterfactual(dosed, adata, condition={"dose": "3.5"})
    assert (result.obs["dose"] == 3.5).all()
    np.testing.assert_array_equal(result.obs["source_dose"], adata.obs["dose"])
    np.testing.assert_allclose(generate(dosed, n=4, condition={"dose": "3.5"}).obs["dose"], 3.5, rtol=1e-5)


@pytest.mark.parametrize("value", ["much", "nan", "inf"])
def test_a_dose_that_is_no_number_is_a_typed_error(dosed, adata, value):
    with pytest.raises(DataError, match=f"'dose'.*{value}"):
        counterfactual(dosed, adata, condition={"dose": value})


def test_a_continuous_field_cannot_be_classified(dosed, adata):
    with pytest.raises(CategoryError, match="continuous"):
        classify(dosed, adata, field="dose")


def test_every_remembered_cell_serves_once_before_any_serves_again(tiny_model):
    condition = tiny_model.reference.condition
    stim = tiny_model.schema.categorical_field("drug").code("stim")
    remembered = condition.size_n1[condition.codes["drug"] == stim]
    times = pd.Series(remembered.flatten().numpy()).value_counts()
    made = (
        generate(tiny_model, n=2 * len(remembered) + 3, condition=STIM, latent="aggregate").obs["size"].value_counts()
    )
    extra = made.reindex(times.index, fill_value=0) - 2 * times
    assert (extra >= 0).all()
    assert (extra <= times).all()
    assert extra.sum() == 3

"""System D: the published size, the padding, and counts of the right sizes."""

from __future__ import annotations

from math import log, pi

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse, stats

import genevae as gv
from genevae.cells import Cells, Condition, ExpressionRows
from genevae.data.schema import Categorical, Schema
from genevae.data.transforms.gene_order import Ordered
from genevae.data.transforms.transform import AsIs
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, DataError, RecipeError, RunError
from genevae.models.vae import VAE
from genevae.recipes.registry import RECIPES

BOTH = ("convolutional", "convolutional-nb")


def schema(n_genes: int, n_labels: int, transform=None) -> Schema:
    genes, labels = (tuple(f"{letter}{i}" for i in range(n)) for letter, n in (("G", n_genes), ("T", n_labels)))
    return Schema(genes, Kind.COUNTS, transform or AsIs(), categorical=(Categorical("type", labels),))


def some_cells(n: int, n_genes: int) -> Cells:
    x = torch.rand(n, n_genes)
    return Cells(
        ExpressionRows.from_dense(x), Condition(x.sum(-1, keepdim=True), {"type": torch.arange(n) % 3}), torch.arange(n)
    )


def build(name: str, n_genes: int = 30, transform=None, **settings) -> VAE:
    torch.manual_seed(0)
    return RECIPES[name].edit(settings).build(schema(n_genes, 3, transform)).eval()


def test_at_144_by_144_and_11_labels_it_has_the_published_number_of_parameters():
    model = RECIPES["convolutional"].edit({"image_size": 144}).build(schema(20_000, 11))
    pixels, small, unit = 144 * 144, 36 * 36 * 32, 11
    published = {
        "_posterior.condition": unit * pixels + pixels,
        "_posterior.convolutions.layers.0": 9 * 2 * 16 + 16,
        "_posterior.convolutions.layers.1": 9 * 16 * 32 + 32,
        "_posterior.dense": small * 16 + 16,
        "_posterior.head": 2 * (16 * 2 + 2),
        "_likelihood.decoder.dense": (2 + unit) * small + small,
        "_likelihood.decoder.convolutions.layers.0": 9 * 32 * 16 + 16,
        "_likelihood.decoder.convolutions.layers.2": 9 * 16 * 8 + 8,
        "_likelihood.decoder.convolutions.layers.4": 9 * 8 * 1 + 1,
    }
    counted = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in published}
    assert counted == published
    assert sum(published.values()) == sum(p.numel() for p in model.parameters()) == 1_503_877


def test_sizes_and_filters_are_settings():
    assert build("convolutional", 30)._posterior.layout.side == 6
    model = build("convolutional", 30, image_size=9, filters=(4, 6, 8), kernel=5, hidden=(7, 5), n_latent=3)
    assert model.posterior(some_cells(4, 30)).mean.shape == (4, 3)
    assert model.likelihood(torch.randn(2, 4, 3), some_cells(4, 30).condition).mean.shape == (2, 4, 30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"image_size": 5}, "image_size of 6 or more"), ({"filters": ()}, "filters needs one number"),
     ({"kernel": 2}, "odd"), ({"order": "size"}, "order cannot be 'size'"), ({"image_size": 0}, "image_size must be")],
)  # fmt: skip
def test_what_no_image_can_be_is_an_error_that_says_so(settings, words):
    with pytest.raises(RecipeError, match=words):
        build("convolutional", 30, **settings)


def test_the_bound_is_squared_error_plus_kl():
    model, cells = build("convolutional"), some_cells(5, 30)
    noise = torch.zeros(1, 1, 2)
    with torch.no_grad():
        terms = model.terms(cells, noise_snk=noise)
        error_n = (cells.x.dense() - model.likelihood(terms.z_snk[0], cells.condition).mean).square().sum(-1)
    torch.testing.assert_close(-terms.bound_n, error_n + terms.kl_n + 15 * log(pi))


@pytest.mark.parametrize("name", BOTH)
def test_the_decoder_may_say_anything_in_the_padding(name):
    model, cells = build(name, 30, image_size=8), some_cells(5, 30)
    noise = torch.zeros(1, 1, 2)
    padding = torch.ones(64, dtype=torch.bool)
    padding[model._posterior.layout.place_g] = False
    assert padding.sum() == 34
    before = model.bound_n(cells, noise_snk=noise)

    def scribble(module, given, image):
        return image + 1e3 * padding.view(8, 8)

    model._likelihood.decoder.convolutions.register_forward_hook(scribble)
    torch.testing.assert_close(model.bound_n(cells, noise_snk=noise), before)


@pytest.mark.parametrize("name", BOTH)
def test_cells_do_not_know_of_each_other(name):
    model, cells = build(name), some_cells(6, 30)
    turned = Cells(
        ExpressionRows.from_dense(cells.x.dense().flip(0)), cells.condition.map(lambda t: t.flip(0)), cells.row_n
    )
    noise = torch.zeros(1, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            model.bound_n(turned, noise_snk=noise), model.bound_n(cells, noise_snk=noise).flip(0)
        )


@pytest.mark.parametrize("name", BOTH)
def test_genes_given_in_another_order_are_the_same_model_once_they_are_laid_out_alike(name):
    permuted = torch.randperm(30)
    first = build(name, transform=Ordered(AsIs(), "expression", torch.arange(30)))
    other = build(name, transform=Ordered(AsIs(), "expression", permuted.argsort()))
    cells = some_cells(4, 30)
    again = Cells(ExpressionRows.from_dense(cells.x.dense()[:, permuted]), cells.condition, cells.row_n)
    with torch.no_grad():
        torch.testing.assert_close(other.posterior(again).mean, first.posterior(cells).mean)
        one, two = (m.likelihood(torch.ones(4, 2), cells.condition).mean for m in (first, other))
    torch.testing.assert_close(two, one[:, permuted])


@pytest.mark.parametrize("name", BOTH)
def test_every_parameter_has_a_gradient(name):
    model = build(name)
    model.bound_n(some_cells(6, 30), n_particles=2).mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.fixture(scope="module", params=BOTH)
def trained(request, make_adata) -> gv.Trained:
    adata = make_adata(240)
    x = adata.X.toarray()
    x[adata.obs["type"] == "A"] *= 3  # so that sizes depend on the type
    adata.X = sparse.csr_matrix(x)
    return gv.fit(adata, recipe=request.param, condition=["type"], epochs=3, progress=False, device="cpu")


def test_generated_cells_are_counts_of_the_sizes_that_training_cells_of_their_type_have(trained):
    made = gv.generate(trained, per_category={"type": 400})
    assert made.obs["type"].value_counts().to_dict() == {"A": 400, "B": 400, "C": 400}
    counts = made.X.toarray() if sparse.issparse(made.X) else made.X
    assert np.array_equal(counts, counts.round())
    assert made.uns["genevae"]["values"] == "counts"
    codes, sizes = trained.reference.condition.codes["type"].numpy(), trained.reference.condition.size_n1.numpy()
    for code, name in enumerate("ABC"):
        mine, theirs = counts[made.obs["type"] == name].sum(1), sizes[codes == code, 0]
        if trained.schema.output_kind.is_count and trained.schema.input_kind is Kind.SCALED:
            assert stats.ks_2samp(mine, theirs).pvalue > 0.01
        assert abs(np.log(mine.mean() / theirs.mean())) < 0.15, "after three epochs, some counts are at their limit"
    assert counts[made.obs["type"] == "A"].sum(1).mean() > 1.8 * counts[made.obs["type"] == "B"].sum(1).mean()


def test_every_verb_understands_it_in_counts(trained, make_adata, tmp_path):
    gv.save(trained, tmp_path / "run")
    model, cells = gv.load(tmp_path / "run"), make_adata(20, seed=3)
    assert gv.embed(model, cells).obsm["X_genevae"].shape == (20, 2)
    assert set(gv.classify(model, cells, field="type")["label"]) <= set("ABC")
    answer = gv.counterfactual(model, cells, condition={"type": "A"}, n_draws=3)
    size_n = np.asarray(cells.X.sum(1)).ravel()
    assert np.array_equal(answer.layers["draw"], answer.layers["draw"].round())
    for x in (answer.X, gv.denoise(model, cells, n_draws=2).X):
        assert 0.3 < np.median(x.sum(1) / size_n) < 6
    larger, smaller = (gv.denoise(model, cells, n_draws=2, size=size).X for size in (2000, 1000))
    np.testing.assert_allclose(larger, 2 * smaller, rtol=1e-4)
    one, other = (gv.generate(m, n=5, seed=4).X for m in (trained, model))
    np.testing.assert_array_equal(np.asarray(one.todense() if sparse.issparse(one) else one),
                                  np.asarray(other.todense() if sparse.issparse(other) else other))  # fmt: skip


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [({"per_category": {"type": 0}}, DataError, "type=0"), ({"per_category": {"type": "few"}}, DataError, "type=few"),
     ({"per_category": {"typ": 5}}, CategoryError, "Did you mean 'type'"),
     ({"per_category": {"type": 5}, "condition": {"type": "A"}}, CategoryError, "type is in both condition")],
)  # fmt: skip
def test_what_cannot_be_generated_per_category_is_an_error(trained, words, error, match):
    with pytest.raises(error, match=match):
        gv.generate(trained, **words)


@pytest.mark.parametrize("suffix", [".h5", ".mtx", ""])
def test_counts_are_written_as_others_read_them_and_come_back(trained, suffix, tmp_path):
    whole = gv.generate(trained, per_category={"type": 7}, batch_size=4)
    path = tmp_path / f"made{suffix}"
    gv.generate(trained, per_category={"type": "7"}, batch_size=4, out=path)
    back = gv.read(path)
    assert back.obs_names.tolist() == whole.obs_names.tolist()
    assert back.var_names.tolist() == whole.var_names.tolist()
    assert_same(back, whole)
    with pytest.raises(RunError, match="already exists"):
        gv.generate(trained, n=2, out=path)
    gv.generate(trained, n=2, out=path, overwrite=True)
    assert gv.read(path).n_obs == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def assert_same(back: AnnData, whole: AnnData) -> None:
    one, other = (each.X.toarray() if sparse.issparse(each.X) else each.X for each in (back, whole))
    np.testing.assert_array_equal(one, other)


def test_an_answer_that_is_more_than_expression_is_not_cut_down(trained, make_adata, tmp_path):
    for suffix in (".h5", ".mtx"):
        with pytest.raises(RunError, match=r"Choose a name that ends in \.h5ad or \.zarr"):
            gv.embed(trained, make_adata(20), out=tmp_path / f"latent{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", BOTH)
def test_a_model_that_knows_missing_genes_takes_cells_that_have_all(name):
    lacking = schema(30, 3).with_genes([f"G{i}" for i in range(30)], missing=True)
    model, cells = RECIPES[name].build(lacking).eval(), some_cells(6, 30)
    measured = cells.given(cells.condition.with_measured(torch.ones(6, 30, dtype=torch.bool)))
    torch.testing.assert_close(model.posterior(cells).mean, model.posterior(measured).mean)

"""The code of the documentation runs, its links lead somewhere, and it names all that is public."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import genevae as gv
from genevae.cli import COMMANDS, app
from genevae.recipes.describe import settings_of
from genevae.recipes.registry import RECIPES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CODE_OF_CONDUCT.md", *sorted(DOCS.glob("**/*.md"))]
THEORY = [page for page in sorted((DOCS / "theory").glob("*.md")) if page.name != "index.md"]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z", re.DOTALL)
QUICK = {"README.md", "index.md", "first-model.md", "choose.md", "nb.md"}
"""Pages whose blocks run in every test; the others' in `make test-all`, and their cells in `make docs`."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def cells_of(page: Path) -> list[str]:
    """Return the code cells of a page, without their options."""
    found = re.findall(
        r"^```\{code-cell\}[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [re.sub(r"\A(?::[\w-]+:.*\n)+", "", cell) for cell in found]


def prose_of(text: str) -> str:
    """Return a page without blocks of code and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^( *)```.*?^\1``` *$", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def from_package() -> ModuleType:
    """What pages take from the package; it needs no Sphinx."""
    spec = importlib.util.spec_from_file_location("from_package", DOCS / "_ext" / "from_package.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The theory series


def test_the_series_has_twelve_lessons() -> None:
    assert len(THEORY) == 12


@pytest.mark.parametrize("page", THEORY, ids=lambda page: page.stem)
def test_formulas_of_a_lesson_are_those_of_the_package(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("Agg")
    assert "## Check" in page.read_text(encoding="utf-8")
    cells = cells_of(page)
    assert any("plt.subplots" in cell for cell in cells), "a lesson computes its figure"
    assert any("assert" in cell for cell in cells), "a lesson checks its formulas"
    assert any("genevae" in cell for cell in cells), "against the package"
    names: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng(), warnings.catch_warnings():
        for number, cell in enumerate(cells):
            exec(compile(cell, f"{page.name}, cell {number}", "exec"), names)  # noqa: S102 - our own pages
    plt.close("all")


# All that is public is on a page


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   ([\w.]+)$", page, re.MULTILINE)) | set(
        re.findall(r"^`(\w+)`\n: ", page, re.MULTILINE)
    )
    assert not set(gv.__all__) - listed, "add them to docs/reference/api.md"
    for path in listed:
        found: Any = importlib.import_module("genevae")
        for part in path.split("."):
            if not hasattr(found, part):
                importlib.import_module(f"{found.__name__}.{part}")
            found = getattr(found, part)


def test_every_command_is_on_the_page_of_the_command_line(from_package: ModuleType) -> None:
    assert from_package.COMMANDS_HERE in (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    text = from_package.commands()
    of_data = {f"data {name}" for name in app["data"] if not name.startswith("-")}
    titles = set(re.findall(r"^#+ genevae (.+)$", text, re.MULTILINE))
    assert titles == {*COMMANDS, *of_data}
    for option in ("--checkpoint-every", "--metadata", "--set", "--n-genes"):
        assert f"`{option}" in text
    assert text.count("--counts-glob") == 1, "options that commands share are listed once"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_page_of_settings_that_exist(name: str) -> None:
    text = (DOCS / "recipes" / f"{name}.md").read_text(encoding="utf-8")
    for title in ("## Model", "## What it answers", "## Limits", "## Defaults", "## Paper", "```{graph}", "results.md"):
        assert title in text or (title == "results.md" and name == "convolutional-nb"), title
    known = {setting.name for setting in settings_of(RECIPES[name])}
    block = re.search(r"```\{settings\} (\S+)\n(.*?)```", text, re.DOTALL)
    assert block is not None
    assert block[1] == name
    assert {line.split(":")[0] for line in block[2].splitlines() if line} <= known
    for recipe, setting in re.findall(r"\{default\}`([\w-]+)\.(\w+)`", text):
        assert setting in {each.name for each in settings_of(RECIPES[recipe])}


def test_a_page_whose_data_are_absent_is_not_run(
    from_package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text("---\ngenevae_data: a.h5ad, b.h5ad\n---\n\n# Title\n", encoding="utf-8")
    (tmp_path / "other.md").write_text("# Title\n\n---\ngenevae_data: in the text\n", encoding="utf-8")
    (tmp_path / "a.h5ad").touch()
    monkeypatch.setenv("GENEVAE_DATA", str(tmp_path))
    assert from_package.pages_without_data(tmp_path) == ["page.md"]
    (tmp_path / "b.h5ad").touch()
    assert from_package.pages_without_data(tmp_path) == []
    monkeypatch.delenv("GENEVAE_DATA")
    assert from_package.pages_without_data(tmp_path) == ["page.md"]


# Links, without a network


def slug(title: str) -> str:
    """Return the anchor of a heading, as GitHub and MyST make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def broken_links(page: Path, text: str) -> list[str]:
    """Return relative links to files or headings that do not exist."""
    broken = []
    for link in re.findall(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)", prose_of(text)):
        target = "".join(link)
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            broken.append(target)
        elif anchor and file.suffix == ".md":
            content = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
            slugs = {slug(title) for title in re.findall(r"^#+ (.+)$", content, re.MULTILINE)}
            labels = set(re.findall(r"^\(([\w-]+)\)=$", content, re.MULTILINE))
            broken += [target] if anchor not in slugs | labels else []
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert not broken_links(page, page.read_text(encoding="utf-8"))


def test_broken_links_are_found() -> None:
    page = DOCS / "index.md"
    assert broken_links(page, "[a](nowhere.md), [b](theory.md#8-nothing), ![c](images/none.png)") == [
        "nowhere.md", "theory.md#8-nothing", "images/none.png",
    ]  # fmt: skip
    assert not broken_links(page, "[a](theory.md#5-counterfactuals) `[b](nowhere.md)` [c](https://example.org)")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent != ROOT and page.name != "results.md"], ids=name_of
)
def test_a_page_ends_with_what_to_read_next(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    is_home = page == DOCS / "index.md"
    is_included = text.startswith("```{include}")
    assert is_home or is_included or "**Read next:**" in text.rstrip().splitlines()[-1]


# Blocks of code


def blocks_of(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the language, the code and what it says before it, of each block that is Python or a command line."""
    text, at = page.read_text(encoding="utf-8"), 0
    while block := re.compile(r"^( *)```([^`\n]*)\n(.*?)^\1``` *$", re.DOTALL | re.MULTILINE).search(text, at):
        code = "\n".join(line.removeprefix(block[1]) for line in block[3].splitlines())
        if block[2].strip() in {"python", "", "bash"}:
            yield block[2].strip(), code, text[: block.start()]
        at = block.end()


def why_not_run(before: str) -> str:
    found = NOT_RUN.search(before[-400:])
    return found[1] if found else ""


BLOCKS = [
    pytest.param(
        page, language, code,
        id=f"{name_of(page)}-{number}",
        marks=[] if page.name in QUICK else [pytest.mark.slow],
    )
    for page in PAGES
    for number, (language, code, before) in enumerate(blocks_of(page))
    if not why_not_run(before)
]  # fmt: skip


@pytest.fixture(scope="module")
def stand_in(make_adata: Callable[..., AnnData]) -> Callable[[], AnnData]:
    """Small data with every column that a page names."""

    def make() -> AnnData:
        adata = make_adata(160, seed=3)
        rng = np.random.default_rng(0)
        adata.obs = pd.DataFrame(index=adata.obs_names)
        n = adata.n_obs
        treated = rng.random(n) < 0.5
        adata.obs["cell_type"] = pd.Categorical(rng.choice(["B", "T", "NK", "Unknown"], n))
        for name in ("donor", "batch", "lane", "study", "project", "file"):
            adata.obs[name] = pd.Categorical(rng.choice([f"{name}{i}" for i in range(6)], n))
        for name in ("condition", "perturbation", "drug"):
            adata.obs[name] = pd.Categorical(np.where(treated, "stim", "ctrl"))
        adata.obs["compound"] = pd.Categorical(np.where(treated, "BPAF", "control"))
        adata.obs["experiment"] = adata.obs["batch"]
        adata.obs["dose"] = np.where(treated, rng.choice([0.1, 1.0, 10.0], n), 0.0)
        adata.layers["log_normalised"] = np.log1p(adata.X.toarray())
        return adata

    return make


@pytest.fixture
def sandbox(
    tmp_path: Path, stand_in: Callable[[], AnnData], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, Any]]:
    """A folder with the files that pages name, and names that their code uses; training is one epoch of few genes."""
    monkeypatch.chdir(tmp_path)
    fit = gv.fit

    def short(*args: Any, **options: Any) -> gv.Trained:
        options |= {"overwrite": "out" in options, "epochs": 1, "progress": False, "folds": 0, "hidden": (8,)}
        if isinstance(options.get("genes"), int):
            options["genes"] = 20
        return fit(*args, **options)

    def make() -> dict[str, Any]:
        adata = stand_in()
        for name in ("cells.h5ad", "untreated.h5ad", "other_cells.h5ad", "query.h5ad", "dense.h5ad", "csc.h5ad"):
            adata.write_h5ad(name)
        (tmp_path / "batches").mkdir()
        adata.write_h5ad("batches/one.h5ad")
        adata.to_df().assign(study=adata.obs["study"].astype(str)).to_csv("samples.csv.gz")
        model = short(adata, "nb", condition=["condition", "cell_type"], control={"condition": "ctrl"}, batch="donor")
        gv.save(model, "run")
        save = gv.save
        monkeypatch.setattr(gv, "fit", short, raising=False)
        monkeypatch.setattr(gv, "save", lambda model, path: save(model, path, overwrite=True), raising=False)
        monkeypatch.setattr(gv.Trained, "save", lambda model, path: save(model, path, overwrite=True))
        import scanpy as sc

        monkeypatch.setattr(sc.pp, "neighbors", lambda *_, **__: None)  # scanpy's, and slow where it is compiled first
        monkeypatch.setattr(sc.tl, "umap", lambda *_, **__: None)
        monkeypatch.setattr(sc.pl, "umap", lambda *_, **__: None)
        names = dict.fromkeys(("adata", "cells", "query", "atlas"), adata)
        return {"gv": gv, "sc": sc, "model": model, "reference": model, **names}

    return make


def run_python(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "block", "exec"), names)  # noqa: S102 - our own pages


def check_commands(code: str) -> None:
    """Parse each command with its options, as the command line does, so that a wrong one is an error."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.split("#")[0])
        if words[:1] == ["genevae"] and words[1:2] != ["slurm"]:
            app.parse_args(words[1:], exit_on_error=False, print_error=False)


ELSEWHERE = ("slurm", "demo", "download", "evaluate", "--resume", "--help", "--from")
"""Commands with stories of their own, or that need a cluster, a network or hours; their options are checked above."""
SMALLER = {
    "--genes": "20", "--n-genes": "10", "--min-genes": "5", "--n": "20", "--each": "n_latent=2,3", "--epochs": "1",
    "--device": "cpu",
}  # fmt: skip
"""Values for data of 30 genes."""


def smaller(words: list[str]) -> list[str]:
    """Return a command for small data."""
    for name, value in SMALLER.items():
        if name in words and not words[words.index(name) + 1].endswith(".txt"):
            words[words.index(name) + 1] = value
    if words[0] in {"fit", "sweep"}:
        words += [] if "--epochs" in words else ["--epochs", "1"]
    if words[0] == "fit":
        words += ["--hidden", "8", "--folds", "0"]
    return words


def commands_of(page: Path) -> list[list[str]]:
    """Return the commands of a page that can run on small data, in order."""
    lines = [
        line
        for language, code, before in blocks_of(page)
        if language != "python" and not why_not_run(before)
        for line in code.replace("\\\n", " ").splitlines()
    ]
    found = [shlex.split(line.split("#")[0])[1:] for line in lines if line.startswith("genevae ")]
    return [smaller(words) for words in found if not set(words) & set(ELSEWHERE)]


def exit_code(main: Callable[[list[str]], None], words: list[str]) -> Any:
    try:
        main(words)
    except SystemExit as end:
        return end.code
    return 0


WITH_COMMANDS = [page for page in PAGES if page.parent.name != "tutorials" and commands_of(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_of_a_page_run_in_order(
    page: Path, sandbox: Callable[[], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    from genevae.cli import main

    adata = sandbox()["adata"]
    Path("atlas").mkdir()
    for half in (0, 1):
        adata[half::2].write_h5ad(f"atlas/{half}.h5ad")
    adata.obs[["cell_type"]].rename(columns={"cell_type": "kind"}).to_csv("labels.csv")
    adata.to_df().T.to_csv("genes_by_samples.csv.gz")
    for words in commands_of(page):
        out = Path(words[words.index("--out") + 1]) if "--out" in words else Path("none")
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
        for word in words:
            if word.endswith(".h5ad") and not Path(word).exists() and word != str(out):
                adata.write_h5ad(word)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = exit_code(main, words)
        assert not code, f"genevae {shlex.join(words)}: {capsys.readouterr().err}"


@pytest.mark.parametrize(("page", "language", "code"), BLOCKS)
def test_block_of_a_page_runs(
    page: Path,
    language: str,
    code: str,
    sandbox: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if language != "python":
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.toml").write_text('recipe = "nb"\n', encoding="utf-8")
        check_commands(code)
        return
    names = sandbox()
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_python(code, names)


def test_wrong_commands_are_found() -> None:
    with pytest.raises(Exception, match="nothing"):
        check_commands("genevae embed run cells.h5ad --nothing 3")

"""The model card and the paragraph for a paper say what the run records, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import genevae as gv
from genevae.runs.card import methods_paragraph, model_card


def test_a_card_has_what_others_must_know(tiny_model: gv.Trained) -> None:
    card = model_card(tiny_model)
    assert list(card) == ["Data", "Genes", "Conditions", "Training", "Versions", "Intended use", "Limits"]
    assert "240 cells (216 training, 24 validation)" in card["Data"]
    assert "type: A, B, C" in card["Conditions"]
    assert "drug: ctrl, stim" in card["Conditions"]
    assert f"genevae {gv.__version__}" in card["Versions"]


def test_a_card_names_the_combinations_that_no_training_cell_had(tiny_model: gv.Trained) -> None:
    assert "1 of 6 combinations" in model_card(tiny_model)["Limits"]
    assert "C + stim" in model_card(tiny_model)["Limits"]


def test_the_paragraph_has_the_numbers_of_the_run(tiny_model: gv.Trained) -> None:
    text = methods_paragraph(tiny_model)
    epochs, best = len(tiny_model.history), tiny_model.facts["best_epoch"]
    parts = ["recipe nb", "216 training", "30 genes", "4 latent dimensions", "32 units", "minibatches of 32 cells"]
    for part in [*parts, "rate of 0.005", f"{epochs} epochs", f"epoch {best}", "'ctrl' of drug", "seed was 0"]:
        assert part in text, part
    other = replace(tiny_model, facts={**tiny_model.facts, "seed": 7})
    assert methods_paragraph(other) == text.replace("seed was 0", "seed was 7")


def test_a_card_does_not_name_folders_of_the_machine(tiny_model: gv.Trained) -> None:
    moved = replace(tiny_model, facts={**tiny_model.facts, "data": "/home/somebody/secret/cells.h5ad"})
    assert "somebody" not in " ".join(model_card(moved).values())
    assert model_card(moved)["Data"].startswith("cells.h5ad")

"""True pairs of cohorts: what they show, and who is learnt from."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.samples import read_image_settings, read_pairs
from bmdkit.io.images import read_tiff

CONFIG = PairConfig(rows=128, columns=64, outward=1.0)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import true_pairs

    return true_pairs


def test_pairs_of_a_cohort_are_its_true_projections(module, sample_cohort, tmp_path) -> None:
    module.write_true_pairs([sample_cohort], tmp_path / "learnt", 1, CONFIG)
    module.write_true_pairs([sample_cohort], tmp_path / "held", 0, CONFIG)
    assert {pair.fold for pair in read_pairs(tmp_path / "learnt", "B")} == {module.LEARNT}
    assert {pair.fold for pair in read_pairs(tmp_path / "held", "B")} == {module.HELD_OUT}
    assert read_image_settings(tmp_path / "held")[0] == CONFIG
    for pair in read_pairs(tmp_path / "held", "B"):
        page = read_tiff(pair.drr)[0]
        assert page.shape == (128, 64)
        shown = page[page > 0].mean()  # pixels at the rim are half full
        assert shown == pytest.approx(pair.pf_drr_mean_g_cm2, rel=0.1)
        assert pair.pf_drr_mean_g_cm2 == pytest.approx(pair.dxa_bmd_g_cm2, rel=0.25)  # another view, another region


def test_patients_of_several_cohorts_keep_apart(module, sample_cohort, tmp_path) -> None:
    shutil.copytree(sample_cohort, tmp_path / "other")
    cohorts = [sample_cohort, tmp_path / "other"]
    module.write_true_pairs(cohorts, tmp_path / "pairs", 1, CONFIG)
    pairs = read_pairs(tmp_path / "pairs", "B")
    alone = [pair.patient_id for pair in pairs if pair.patient_id.startswith("other-")]
    assert len(alone) * 2 == len(pairs)
    assert {pair.patient_id.split("-", 1)[0] for pair in pairs} == {sample_cohort.name, "other"}
    assert len({pair.pair_id for pair in pairs}) == len(pairs)

"""A prediction without a run: the network that comes with the package, and what every output says of it."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click import BadParameter
from click.testing import CliRunner
from PIL import Image, ImageDraw

from bmdkit.cli.main import group
from bmdkit.config import load, make_settings
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset.layout import DESCRIPTION
from bmdkit.errors import PreflightError
from bmdkit.inference.colour_bar import load_font
from bmdkit.inference.hip_prediction import finish_picture, predict_hip
from bmdkit.inference.predictor import load_predictor
from bmdkit.inference.radiograph_prediction import predict
from bmdkit.segmentation.failures import SHIPPED
from bmdkit.training import provenance
from bmdkit.training.joint_predictions import average_predictions, join_predictions
from bmdkit.training.provenance import trace_provenance
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import read_weights_of
from bmdkit.training.run_layout import PairPrediction, read_predictions
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.shipped import DECOMPOSITION, DECOMPOSITIONS, SIMULATED_USE, WEIGHTS

ROOT = Path(__file__).parents[2]
MOST_MIB = 20
"""Of both networks together, so that a wheel stays small."""


@pytest.fixture(scope="module")
def predicted(sample_cohort, tmp_path_factory) -> tuple[Path, str]:
    """The radiograph of a simulated patient, predicted on the command line without a run; and what the screen said."""
    out = tmp_path_factory.mktemp("shipped") / "out"
    (file,) = (sample_cohort / "xray").glob("*.dcm")
    told = CliRunner().invoke(group, ["predict", str(file), "--out", str(out), "--device", "cpu", "--dicom", "-q"])
    assert told.exit_code == 0, told.output
    return out, told.output


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_both_hips_have_a_number_with_an_interval(predicted) -> None:
    rows = rows_of(predicted[0])
    assert [row["side"] for row in rows] == ["L", "R"]
    for row in rows:
        assert row["status"] == "ok"
        assert row["quality"] in ("accept", "review", "reject")
        assert 0.2 < float(row["dxa_bmd_g_cm2"]) < 1.8
        assert float(row["dxa_bmd_g_cm2_low"]) < float(row["dxa_bmd_g_cm2"]) < float(row["dxa_bmd_g_cm2_high"])
        assert row["interval_from"] == "held-out patients"


def test_the_columns_that_others_read_stand_where_they_stood(predicted) -> None:
    first = ["name", "xray", "side", "status", "code", "reason", "quality", "dxa_bmd_g_cm2"]
    assert list(rows_of(predicted[0])[0])[: len(first)] == first


def walk_content(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """All items of a report's content."""
    for part in item.get("ContentSequence", ()):
        yield part
        yield from walk_content(part)


def test_every_output_says_that_it_is_not_for_patients(predicted) -> None:
    out, screen = predicted
    assert SIMULATED_USE in screen
    assert all(row["intended_use"] == SIMULATED_USE for row in rows_of(out))
    record = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert record["intended_use"] == SIMULATED_USE
    assert record["run"] == "bmdkit"
    assert all(hip["intended_use"] == SIMULATED_USE for hip in record["hips"])
    for row in rows_of(out):
        drr, overlay, report = (pydicom.dcmread(out / name) for name in row["dicom"].split(";"))
        assert drr.ContentDescription.endswith(SIMULATED_USE)
        assert overlay.ImageComments == SIMULATED_USE
        assert SIMULATED_USE in {item.get("TextValue") for item in walk_content(report)}


def test_the_picture_has_the_words_as_its_title(predicted) -> None:
    """The words, drawn once more with the same font, stand in the picture pixel by pixel."""
    out, _ = predicted
    for row in rows_of(out):
        shown = np.asarray(Image.open(out / row["overlay"]))
        side = {"L": "left", "R": "right"}[row["side"]]
        for words in (f"{row['name']}, {side} hip: {row['quality']}", SIMULATED_USE):
            assert stands_in(shown, words)
        assert not stands_in(shown, "for patients")


def stands_in(shown: np.ndarray, words: str) -> bool:
    """Whether white words on black stand at the left, near the top."""
    font = load_font(13)
    line = Image.new("RGB", (int(font.getlength(words)), 14))
    ImageDraw.Draw(line).text((0, 0), words, fill=(255, 255, 255), font=font)
    text = np.asarray(line)
    return any((shown[top : top + 14, 8 : 8 + text.shape[1]] == text).all() for top in range(60))


def test_the_picture_has_a_colour_bar_and_a_scale_of_its_own_pixels() -> None:
    """At 0.5 mm a pixel and pairs of half the columns the 5 cm below the picture are as long as they say."""
    predictor = load_predictor()
    image = np.random.default_rng(0).random((360, 430)).astype(np.float32)
    known, unknown = (
        predict_hip(predictor, Radiograph(image, np.ones(image.shape, bool), **spacing), "L")
        for spacing in ({"row_spacing_mm": 0.5, "column_spacing_mm": 0.5}, {})
    )
    assert known.overlay_peak == predictor.run.scale_g_cm2
    assert known.overlay_pixel_mm == pytest.approx(0.5 / known.window.scale)
    shown, bare = (finish_picture(found, "hip", "L", predictor.unit) for found in (known, unknown))
    assert unknown.overlay_pixel_mm is None
    factor = -(-512 // len(known.overlay))
    line = (shown[-15] == 255).all(axis=1)
    assert line.sum() >= 50 / (known.overlay_pixel_mm / factor)
    assert (shown[:-30] == bare[:-30]).all()
    assert not (bare[-15] == 255).all(axis=1)[:200].all()
    brightest = shown[shown.shape[0] - 30 - 512, known.overlay.shape[1] * factor :]
    assert any(np.ptp(colour.astype(int)) > 20 for colour in brightest)


def test_a_rejected_hip_keeps_its_number(tmp_path) -> None:
    noise = np.random.default_rng(0).random((360, 430)).astype(np.float32)
    found = predict_hip(load_predictor(), Radiograph(noise, np.ones(noise.shape, bool)), "L")
    assert found.quality == "reject"
    assert found.reasons
    assert math.isfinite(found.bmd["dxa"])


def test_python_takes_no_run_either(sample_cohort) -> None:
    (file,) = (sample_cohort / "xray").glob("*.dcm")
    found = predict(file, side="L", device="cpu")["L"]
    assert found.intended_use == SIMULATED_USE
    assert found.bmd == predict(file, load_predictor(), side="L", device="cpu")["L"].bmd


def test_both_networks_together_are_small_and_have_their_cards() -> None:
    files = [path for folder in (WEIGHTS, SHIPPED) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_MIB * 2**20
    card = (WEIGHTS / "CARD.md").read_text(encoding="utf-8")
    assert SIMULATED_USE in card
    assert "make_weights.py" in card
    assert not [path for path in files if path.suffix in (".pt", ".pkl")]


def test_the_card_names_the_weights_that_it_is_of() -> None:
    from bmdkit.io.results import sha256_of

    card = (WEIGHTS / "CARD.md").read_text(encoding="utf-8")
    assert DECOMPOSITIONS[0] == DECOMPOSITION
    assert all(sha256_of(folder / "generator.safetensors") in card for folder in DECOMPOSITIONS)


def test_the_package_names_no_place_and_no_training_patient() -> None:
    for path in WEIGHTS.rglob("*"):
        if path.suffix in (".json", ".csv", ".md"):
            assert "/" + "work" not in path.read_text(encoding="utf-8"), path.name
    for folder in DECOMPOSITIONS:
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as handle:
            assert {row["split"] for row in csv.DictReader(handle)} == {"test"}


def test_the_recipe_that_made_it_has_its_architecture_and_settings(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from make_weights import WeightsConfig, read_trainings

    folder = ROOT / "pipelines/weights"
    config = load(WeightsConfig, recipe=folder / "cpu.yaml")
    recipes = [trainings[-1] for trainings in read_trainings(config, folder)]
    for package, recipe in zip(DECOMPOSITIONS, recipes, strict=True):
        made_with = json.loads((package / "config.json").read_text(encoding="utf-8"))["settings"]
        assert make_settings(DecompositionConfig, made_with) == recipe
        weights, dataset = read_weights_of(package, recipe.generator)
        assert dataset == "B"
        assert weights


def read_held_out() -> tuple[list[PairPrediction], list[tuple[PairPrediction, ...]]]:
    """The predictions of all networks together, and of each."""
    rows = [read_predictions(folder / "predictions.csv") for folder in DECOMPOSITIONS]
    return average_predictions(join_predictions(rows)), rows


def correlate_dxa(rows: Sequence[PairPrediction]) -> float:
    return float(np.corrcoef([row.predicted("dxa") for row in rows], [row.measured("dxa") for row in rows])[0, 1])


def test_they_have_held_out_the_same_patients_and_are_better_together() -> None:
    """By correlation than each; by the mean error than each but the two that see more pixels and are as good alone."""
    joint, rows = read_held_out()
    assert len(joint) == len(rows[0])
    assert correlate_dxa(joint) > max(map(correlate_dxa, rows))
    error = [np.mean([abs(row.predicted("dxa") - row.measured("dxa")) for row in one]) for one in (joint, *rows)]
    assert error[0] < min(error[3:])
    assert error[0] < 1.02 * min(error)


def test_the_figures_that_making_them_prints_are_of_all_held_out_images(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from make_weights import measure

    measure(DECOMPOSITIONS)
    joint, _ = read_held_out()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"dxa: {len(joint)} images, PCC {correlate_dxa(joint):.3f}, MAE ")
    assert len(joint) > 100


def test_a_training_that_starts_from_it_says_so_and_is_held_to_its_fold(own_hips, monkeypatch) -> None:
    """Its own data, dealt alike, may only be used with the fold that it has held out; others are free."""
    known = json.loads((DECOMPOSITION / "config.json").read_text(encoding="utf-8"))
    found = trace_provenance(own_hips, DECOMPOSITION, fold=3, held_out=())
    assert found.lineage[0].data_sha256 == known["data_sha256"] != found.data_sha256
    monkeypatch.setattr(provenance, "sha256_of", lambda path: known["data_sha256"])
    assert trace_provenance(own_hips, DECOMPOSITION, fold=known["settings"]["fold"], held_out=()).lineage
    with pytest.raises(PreflightError, match="BMD-TRN-014"):
        trace_provenance(own_hips, DECOMPOSITION, fold=known["settings"]["fold"] + 1, held_out=())


@pytest.mark.parametrize(
    ("train", "folder"), [("decomposition", DECOMPOSITION), ("regression", DECOMPOSITION), ("segmentation", SHIPPED)]
)
def test_the_word_stands_for_the_network_of_the_package(train, folder) -> None:
    command = group.get_command(None, "train").commands[train]
    (option,) = [one for one in command.params if one.name == "init_from"]
    assert option.type.convert("bmdkit", option, None) == folder
    with pytest.raises(BadParameter):
        option.type.convert("bmdkit2", option, None)


def test_the_recipe_of_the_weights_and_those_that_it_names_load(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from make_weights import WeightsConfig, read_trainings

    config = load(WeightsConfig, recipe=ROOT / "pipelines/weights/cpu.yaml")
    decompositions = [one for trainings in read_trainings(config, ROOT / "pipelines/weights") for one in trainings]
    load(RegressionConfig, recipe=ROOT / "pipelines/weights" / config.regression)
    cut = config.built_in.pairs
    assert {one.image_size for one in decompositions} == {(cut.rows, cut.columns), (cut.rows // 2, cut.columns // 2)}
    assert all(pairs.pairs == cut for pairs in config.maps)


@pytest.mark.parametrize("further", [False, True])
def test_networks_are_made_anew_or_go_on_from_others(further, tmp_path, monkeypatch) -> None:
    """All trainings of each in turn, or the last alone from the network of its name."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import make_weights

    recipe = ROOT / "pipelines/weights/cpu.yaml"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / DESCRIPTION).touch()
    made = {}

    def make_network(out, name, trainings, ridge, seed, init_from):
        made[name] = (trainings, init_from)
        return out / "package" / name

    monkeypatch.setattr(make_weights, "make_network", make_network)
    monkeypatch.setattr(make_weights, "measure", lambda packages: None)
    make_weights.main([str(recipe), str(tmp_path), *(["--init-from", str(WEIGHTS)] if further else [])])
    assert sorted(made) == [folder.name for folder in DECOMPOSITIONS]
    wanted = make_weights.read_trainings(load(make_weights.WeightsConfig, recipe=recipe), recipe.parent)
    assert [trainings for trainings, _ in made.values()] == [one[-1:] if further else one for one in wanted]
    assert [start for _, start in made.values()] == (list(DECOMPOSITIONS) if further else [None] * len(made))


def test_the_wheel_carries_them(tmp_path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "shared"))
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*words, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in (WEIGHTS, SHIPPED):
        for path in folder.rglob("*"):
            if path.is_file():
                assert path.relative_to(ROOT).as_posix() in names

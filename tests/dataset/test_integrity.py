"""Every corruption of an output is found and named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bmdkit.dataset import integrity
from bmdkit.dataset.case_meta import CaseMeta, find_damage, hash_data, read_meta, write_meta
from bmdkit.dataset.commit import hash_input, publish, rescue
from bmdkit.dataset.manifest import PairRow
from bmdkit.io.results import sha256_of, write_text

FLIPS = 60


@pytest.fixture
def built(tmp_path):
    """A folder of a few files with its SHA256SUMS."""
    for name in ("manifest.csv", "cases/a/calibration.json", "dataset_a/a__x__L/drr.tif", "report/index.html"):
        write_text(tmp_path / name, name * 20)
    write_text(tmp_path / "logs" / "events.jsonl", "varies")
    integrity.write_sums(tmp_path, {name: sha256_of(tmp_path / name) for name in integrity.list_data_files(tmp_path)})
    return tmp_path


def test_a_whole_dataset_has_no_findings_and_logs_may_vary(built):
    (built / "logs" / "events.jsonl").write_text("otherwise")
    assert integrity.check_files(built) == []


@pytest.mark.parametrize("name", ["manifest.csv", "dataset_a/a__x__L/drr.tif"])
def test_every_bit_flip_and_truncation_is_named(built, name):
    whole = (built / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), FLIPS):
        bad = bytearray(whole)
        bad[place] ^= 1 << rng.integers(8)
        for content in (bytes(bad), whole[:place]):
            (built / name).write_bytes(content)
            assert integrity.check_files(built) == [integrity.Finding("damaged", name)]


def test_missing_and_extra_files_are_named(built):
    (built / "manifest.csv").unlink()
    (built / "dataset_a" / "stray.tif").write_bytes(b"0")
    assert integrity.check_files(built) == [
        integrity.Finding("extra", "dataset_a/stray.tif"),
        integrity.Finding("missing", "manifest.csv"),
    ]


def test_damage_of_the_checksums_themselves_is_found(built):
    file = built / "SHA256SUMS"
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    for place in (*rng.integers(0, len(whole), FLIPS), len(whole) - 1):
        bad = bytearray(whole)
        bad[place] ^= 1 << rng.integers(8)
        for content in (bytes(bad), whole[:place]):
            file.write_bytes(content)
            assert integrity.check_files(built)
    file.unlink()
    assert integrity.check_files(built) == [integrity.Finding("missing", "SHA256SUMS")]


def test_a_new_report_is_vouched_for_without_vouching_for_anything_else(built):
    (built / "manifest.csv").write_text("damaged")
    (built / "report" / "index.html").write_text("new")
    integrity.record_report(built)
    assert integrity.check_files(built) == [integrity.Finding("damaged", "manifest.csv")]


def stage(root, text):
    folder = root / "staged"
    write_text(folder / "cases" / "a" / "calibration.json", text)
    write_text(folder / "dataset_a" / f"a__{text}__L" / "xray.tif", text)
    outputs = {
        name: sha256_of(folder / name) for name in ("cases/a/calibration.json", f"dataset_a/a__{text}__L/xray.tif")
    }
    write_meta(folder, CaseMeta("a", "ok", outputs=outputs))
    return folder


def test_a_published_case_replaces_the_earlier_one_with_all_of_its_pairs(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for text in ("first", "second"):
        publish(stage(tmp_path, text), out, "a")
        meta = read_meta(out, "a")
        assert list(find_damage(out, meta)) == []
    assert [path.name for path in (out / "dataset_a").iterdir()] == ["a__second__L"]
    assert not (tmp_path / "staged").exists()


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_dead_run_had_staged_whole_is_published(tmp_path, moved):
    out = tmp_path / "out"
    stage(tmp_path, "text")
    if moved:  # it died while publishing
        (out / "dataset_a").mkdir(parents=True)
        (tmp_path / "staged" / "dataset_a" / "a__text__L").rename(out / "dataset_a" / "a__text__L")
    out.mkdir(exist_ok=True)
    assert rescue(tmp_path, out, ["b"]) == []
    assert rescue(tmp_path, out, ["a", "b"]) == ["a"]
    assert list(find_damage(out, read_meta(out, "a"))) == []


@pytest.mark.parametrize("harm", ["meta.json", "changed", "published"])
def test_what_was_not_whole_or_is_there_is_not_rescued(tmp_path, harm):
    out, staged = tmp_path / "out", stage(tmp_path, "second")
    out.mkdir()
    before = None
    if harm == "meta.json":
        (staged / "cases" / "a" / "meta.json").unlink()
    elif harm == "changed":
        next((staged / "dataset_a").rglob("*.*")).write_text("other")
    else:
        (other := tmp_path / "other").mkdir()
        publish(stage(other, "first"), out, "a")
        before = read_meta(out, "a")
    assert rescue(staged, out, ["a"]) == []
    assert read_meta(out, "a") == before


def test_a_case_record_that_was_touched_is_not_believed(tmp_path):
    row = PairRow("a__1__L", "a", "L", "standing", qct_bmd_mg_cm3=312.5)
    write_meta(tmp_path, CaseMeta("a", "ok", pairs=(row,)))
    file = tmp_path / "cases" / "a" / "meta.json"
    whole = file.read_bytes()
    assert read_meta(tmp_path, "a").pairs == (row,)
    rng = np.random.default_rng(2)
    for place in (*rng.integers(0, len(whole), FLIPS), len(whole) - 1):
        bad = bytearray(whole)
        bad[place] ^= 1 << rng.integers(8)
        for content in (bytes(bad), whole[:place]):
            file.write_bytes(content)
            assert read_meta(tmp_path, "a") is None


def test_inputs_are_hashed_with_what_belongs_to_them(tmp_path):
    image = tmp_path / "a.nii.gz"
    image.write_bytes(b"0")
    alone = hash_input(image)
    (tmp_path / "b.json").write_text("{}")
    assert hash_input(image) == alone
    (tmp_path / "a.json").write_text("{}")
    assert hash_input(image) != alone
    assert hash_input(None) is None
    assert hash_data({"b": 1, "a": [1.5]}) == hash_data(json.loads('{"a": [1.5], "b": 1}'))

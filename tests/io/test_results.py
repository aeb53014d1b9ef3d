"""A file is whole or absent, whatever happens while it is written."""

import contextlib
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from bmdkit.errors import DiskFullError
from bmdkit.io import results
from bmdkit.io.images import read_tiff, write_png, write_tiff


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    results.write_text(tmp_path / "a.txt", "old")
    with contextlib.suppress(RuntimeError), results.open_whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_nothing_published(tmp_path, monkeypatch, number):
    def full(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(results.os, "fsync", full)
    with pytest.raises(DiskFullError) as caught:
        results.write_bytes(tmp_path / "a.bin", b"x")
    assert caught.value.exit_code == 6
    assert names(tmp_path) == []


def test_another_io_error_passes_as_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        results.write_text(tmp_path / "file" / "below.txt", "x")


def test_json_takes_numpy_and_refuses_what_is_not_finite(tmp_path):
    results.write_json(
        tmp_path / "a.json", {"n": np.float32(0.5), "v": np.arange(3), "p": tmp_path / "x", "t": np.True_}
    )
    assert json.loads((tmp_path / "a.json").read_text())["v"] == [0, 1, 2]
    with pytest.raises(ValueError, match="JSON"):
        results.write_json(tmp_path / "b.json", {"n": float("nan")})
    assert names(tmp_path) == ["a.json"]


def test_csv_cells(tmp_path):
    rows = [{"a": None, "b": 0.1 + 0.2, "c": "x,y"}, {"a": float("nan"), "b": np.float64(2), "c": 'q"'}]
    results.write_csv(tmp_path / "a.csv", rows, ["a", "b", "c"])
    assert (tmp_path / "a.csv").read_text() == 'a,b,c\n,0.30000000000000004,"x,y"\n,2.0,"q"""\n'
    with pytest.raises(ValueError, match="fields"):
        results.write_csv(tmp_path / "b.csv", [{"z": 1}], ["a"])


def test_permissions(tmp_path):
    results.write_csv(tmp_path / "keys.csv", [], ["a"], mode=0o600)
    assert (tmp_path / "keys.csv").stat().st_mode & 0o777 == 0o600
    results.write_text(tmp_path / "a.txt", "")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_staged_folder_replaces_whole_or_not_at_all(tmp_path):
    final = tmp_path / "case"
    with results.open_staged_folder(final) as staging:
        assert staging.parent == tmp_path
        (staging / "qc").mkdir()
        (staging / "qc" / "a.txt").write_text("1")
        assert not final.exists()
    with contextlib.suppress(RuntimeError), results.open_staged_folder(final) as staging:
        (staging / "b.txt").write_text("2")
        raise RuntimeError
    assert names(final) == ["qc"]
    with results.open_staged_folder(final) as staging:
        (staging / "c.txt").write_text("3")
    assert names(final) == ["c.txt"]
    assert names(tmp_path) == ["case"]


def test_sha256_of_files_and_folders(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert results.sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").write_bytes(b"1")
    before = results.sha256_of(tmp_path / "f")
    (tmp_path / "f" / "x").rename(tmp_path / "f" / "y")
    assert results.sha256_of(tmp_path / "f") != before


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_tiff_pages(tmp_path, dtype):
    pages = np.arange(2 * 5 * 7).reshape(2, 5, 7).astype(dtype)
    write_tiff(tmp_path / "a.tif", pages)
    first = (tmp_path / "a.tif").read_bytes()
    write_tiff(tmp_path / "a.tif", pages)
    assert (tmp_path / "a.tif").read_bytes() == first
    back = read_tiff(tmp_path / "a.tif")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pages)
    write_tiff(tmp_path / "b.tif", pages[0])
    assert read_tiff(tmp_path / "b.tif").shape == (1, 5, 7)


def test_images_refuse_other_types(tmp_path):
    with pytest.raises(ValueError, match="pages"):
        write_tiff(tmp_path / "a.tif", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="image"):
        write_png(tmp_path / "a.png", np.zeros((3, 3)))
    write_png(tmp_path / "a.png", np.zeros((3, 4, 3), np.uint8))
    assert names(tmp_path) == ["a.png"]


def test_nested_values_become_plain(tmp_path):
    given = {"a": (np.float32(0.5), float("nan")), "b": {"c": np.arange(2), "d": [None, True, Path("x/y")]}}
    assert results.make_plain(given) == {"a": [0.5, None], "b": {"c": [0, 1], "d": [None, True, "x/y"]}}
    with pytest.raises(TypeError, match="expected plain values"):
        results.make_plain({"a": object()})


def test_a_table_is_read_back_as_text(tmp_path):
    results.write_csv(tmp_path / "t.csv", [{"a": 1.5, "b": None}, {"a": "x, y", "b": "é"}], ("a", "b"))
    assert results.read_csv(tmp_path / "t.csv") == [{"a": "1.5", "b": ""}, {"a": "x, y", "b": "é"}]
    (tmp_path / "bad.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="utf-8"):
        results.read_csv(tmp_path / "bad.csv")

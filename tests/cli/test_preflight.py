"""What concerns the whole run is said before it starts: exit 4, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmdkit.cli.main import main
from bmdkit.core import device

STUDY = Path(__file__).parents[2] / "pipelines" / "study"

COMMANDS = {
    "build-dataset": ["build-dataset", "{cohort}", "--out", "{out}"],
    "dry run": ["build-dataset", "{cohort}", "--out", "{out}", "--dry-run"],
    "simulate": ["simulate", "{out}", "--patients", "1"],
    "simulate --pairs": ["simulate", "{out}", "--pairs", "2", "--dry-run"],
    "register": ["register", "{file}", "{file}", "--labels", "{file}", "--out", "{out}"],
    "segment": ["segment", "{file}", "--out", "{out}"],
    "render-drr": ["render-drr", "{file}", "--out", "{out}/x.png"],
    "train decomposition": ["train", "decomposition", "{folder}", "--out", "{out}"],
    "train regression": ["train", "regression", "{folder}", "--out", "{out}"],
    "train segmentation": ["train", "segmentation", "{folder}", "--out", "{out}"],
    "study": ["study", "{study}", "--out", "{out}"],
}


@pytest.fixture
def places(tmp_path):
    """Inputs that are there, and a place for the output; nothing of them is read before the pre-flight."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "volume.nii.gz"
    file.write_bytes(b"0")
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    for name in ("ct.nii.gz", "xray.dcm"):
        (cohort / name).write_bytes(b"0")
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,pose,side\np1,ct.nii.gz,xray.dcm,standing,L\n")
    recipe = next(STUDY.glob("*.yaml"))
    return {"folder": tmp_path / "folder", "file": file, "cohort": cohort, "study": recipe, "out": tmp_path / "out"}


def run(words: list[str], places, *more: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([word.format(**places) for word in words] + list(more))
    return ended.value.code


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_device_that_is_not_there_ends_every_command_at_once(words, places, capsys, monkeypatch):
    monkeypatch.setattr(device, "count_gpus", lambda: 0)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert run(words, places, "--device", "cuda") == 4
    assert capsys.readouterr().err.strip().split(":")[0] in ("BMD-DRR-001", "BMD-TRN-010")
    assert not places["out"].exists()


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_an_output_that_cannot_be_written_ends_every_command_at_once(words, places, capsys):
    places["out"] = places["file"] / "below"  # a file stands where a folder is needed
    assert run(words, places, "--device", "cpu") == 4
    assert capsys.readouterr().err.strip().startswith("BMD-RUN-030")

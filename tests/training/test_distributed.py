import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bmdkit.cli.main import main
from bmdkit.training.distributed import ProcessGroup

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_shares_make_up_the_mean_over_the_batch(size, count):
    values = torch.arange(count, dtype=torch.float64) ** 2
    total = sum(
        float(values[places].mean()) * weight
        for places, weight in (ProcessGroup(rank, size).share(torch.arange(count)) for rank in range(size))
    )
    assert total == pytest.approx(float(values.mean()))


def test_two_processes_train_as_one(hips, tmp_path):
    """The same batches, each split in two: equal losses but for the order of sums in single precision."""
    arguments = ["train", "decomposition", str(hips), "--recipe", str(RECIPE), "--device", "cpu", "-q"]
    main([*arguments, "--out", str(tmp_path / "one")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "bmdkit.cli.main", *arguments, "--out", str(tmp_path / "two")]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two = (list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("one", "two"))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"seconds"}:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3), name
    a, b = (load_file(tmp_path / name / "generator.safetensors") for name in ("one", "two"))
    # AdamW's first steps are of size lr whatever the gradient: rounding of a gradient near 0 may turn its sign
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 8 * 6e-5
    assert (tmp_path / "two/montage.png").exists()

"""One held-out case over the epochs: which epochs are kept, what stands in the files, and that training goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bmdkit.config import load
from bmdkit.dataset.samples import read_pairs
from bmdkit.training.case_snapshots import CaseWriter, read_snapshots
from bmdkit.training.pair_batches import load_pairs
from bmdkit.training.settings import DecompositionConfig


class Counting(nn.Module):
    """Gives what it is told, everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, xray):
        assert not self.training
        return self.value + 0 * xray


def test_the_epochs_that_were_asked_for_are_kept(hips, tmp_path):
    data = load_pairs(read_pairs(hips, "B")[2:6][::-1], (64, 32))
    writer, network = CaseWriter(tmp_path, data, (1, 3)), Counting().train()
    assert read_snapshots(tmp_path) is None
    for epoch in (1, 2, 3):
        with torch.no_grad():
            network.value.fill_(epoch / 10)
        writer.look(network, epoch)
        assert network.training
    found = read_snapshots(tmp_path)
    assert list(found.pages) == [1, 3]
    first = min(range(len(data)), key=lambda n: data.pairs[n].pair_id)
    inside = data.mask[first, 0].numpy() > 0
    assert found.target == pytest.approx(np.where(inside, data.drr[first, 0].numpy(), 0))
    for epoch, page in found.pages.items():
        expected = 0.5 * data.scale_g_cm2 * (epoch / 10 + 1)
        assert page[inside] == pytest.approx(np.full(inside.sum(), expected), rel=1e-5)
        assert (page[~inside] == 0).all()


@pytest.mark.parametrize(("poses", "expected"), [((), 0), (("supine",), 1), (("abduction",), 0)])
def test_the_case_is_of_a_pose_that_is_learnt_where_there_is_one(hips, tmp_path, poses, expected):
    pairs = [
        replace(pair, pose=pose) for pair, pose in zip(read_pairs(hips, "B"), ("standing", "supine"), strict=False)
    ]
    data = load_pairs(pairs, (64, 32))
    CaseWriter(tmp_path, data, (1,), poses).look(Counting(), 1)
    target = read_snapshots(tmp_path).target
    assert target == pytest.approx(np.where(data.mask[expected, 0].numpy() > 0, data.drr[expected, 0].numpy(), 0))


def test_an_epoch_before_the_first_is_refused():
    with pytest.raises(Exception, match="case_epochs"):
        load(DecompositionConfig, overrides=("case_epochs=[0]",))

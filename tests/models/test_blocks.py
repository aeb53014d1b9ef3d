import pytest
import torch

from bmdkit.models.blocks import Decoder, DropPath, PositionBias, count_parameters, initialise
from bmdkit.models.norms import norm_groups
from bmdkit.models.window_attention import WindowAttention


@pytest.mark.parametrize(("channels", "groups"), [(78, 2), (156, 4), (312, 8), (624, 16), (64, 32), (512, 32), (7, 1)])
def test_groups_of_a_norm_are_32_halved_until_they_divide(channels, groups):
    assert norm_groups(channels) == groups


def test_first_weights_are_normal_with_the_given_deviation():
    decoder = Decoder(256, 1)
    initialise(decoder, torch.Generator().manual_seed(0))
    weight = decoder.up[0][0].weight.detach()
    assert abs(float(weight.std()) - 0.02) < 3e-4  # 295 thousand draws: three standard errors are 8e-5
    assert abs(float(weight.mean())) < 2e-4
    assert not decoder.last.bias.any()


def test_decoder_has_the_published_number_of_parameters():
    # 256*128*9+128 + 2*128 + 128*64*9+64 + 2*64 + 64*49+1
    assert count_parameters(Decoder(256, 1)) == 372_353


def test_drop_path_keeps_the_mean_and_is_off_outside_training():
    path = DropPath(0.25)
    x = torch.ones(4000, 1, 1, 1)
    torch.manual_seed(0)
    dropped = path(x)
    assert set(dropped.unique().tolist()) == {0.0, float(torch.tensor(4 / 3))}
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.03)  # standard error 0.009
    assert torch.equal(path.eval()(x), x)


def test_position_bias_depends_on_the_offset_alone():
    bias = PositionBias(3, 4, 2)
    with torch.no_grad():
        bias.table.copy_(torch.arange(bias.table.numel()).view_as(bias.table))
    table = bias()
    for a, b, c, d in ((0, 5, 6, 11), (1, 0, 10, 9), (2, 2, 7, 7)):
        assert torch.equal(table[:, a, b], table[:, c, d])
    assert not torch.equal(table[:, 0, 1], table[:, 1, 0])


def attention(**sizes):
    module = WindowAttention(8, 2, **sizes)
    initialise(module, torch.Generator().manual_seed(1), std=0.3)
    return module


def test_windows_do_not_see_each_other():
    module = attention(window=4)
    x = torch.randn(1, 8, 4, 8, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 4:] += 1.0
    assert torch.allclose(module(x)[:, :4], module(changed)[:, :4], atol=1e-6)
    assert not torch.allclose(module(x)[:, 4:], module(changed)[:, 4:], atol=1e-3)


def test_padding_takes_no_part():
    """A map smaller than the window gets plain attention over its own places."""
    module = attention(window=7)
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    bias = module.position().view(2, 7, 7, 7, 7)[:, :3, :5, :3, :5].reshape(2, 15, 15)
    q, k, v = module.qkv(x.view(2, 15, 8)).view(2, 15, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.transpose(-1, -2) / 2.0 + bias, dim=-1)  # sqrt of 4 channels a head
    expected = module.out((weights @ v).transpose(1, 2).reshape(2, 15, 8)).view_as(x)
    assert torch.allclose(module(x), expected, atol=1e-5)

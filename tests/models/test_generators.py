import itertools

import pytest
import torch

from bmdkit.models.blocks import count_parameters
from bmdkit.models.generators import Generator, GeneratorConfig, make_encoder, make_generator

SMALL = {"filters": 8, "downsamplings": 3, "blocks": 1}


def make(**settings):
    outputs = settings.pop("outputs", 1)
    return make_generator(GeneratorConfig(**settings), outputs=outputs, rng=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", [SMALL, {"backbone": "hrformer_t"}, {"backbone": "hrnet_w18"}])
def test_images_lie_in_the_range_and_the_map_at_a_quarter(settings):
    generator = make(outputs=2, **settings).eval()
    xray = 2 * torch.rand(2, 1, 64, 32, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        fused, image = generator.encode(xray), generator(xray)
    assert fused.shape == (2, generator.channels, 16, 8)
    assert image.shape == (2, 2, 64, 32)
    assert float(image.min()) >= -1
    assert float(image.max()) <= 1
    assert float(image.std()) > 0


def test_what_is_drawn_dark_can_come_back_in_mixed_precision():
    """Scaled projections are mostly -1, where tanh rounded to bf16 has no gradient at all."""
    generator = make(**SMALL)
    last = generator.decoder.last
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-5.0)
    with torch.autocast("cpu", torch.bfloat16):
        image = generator(torch.zeros(1, 1, 64, 32))
    assert image.dtype == torch.float32
    image.mean().backward()
    assert float(last.bias.grad) == pytest.approx(1 / torch.cosh(torch.tensor(5.0)).item() ** 2, rel=0.01)


@pytest.mark.parametrize("backbone", ["hrformer_t", "hrformer_s", "hrformer_b", "hrnet_w48", "resnet"])
def test_full_size_maps_have_256_channels(backbone):
    assert make_on_meta(backbone).decoder.up[0][0].in_channels == 256


def make_on_meta(backbone):
    """Its sizes without its weights."""
    with torch.device("meta"):
        return Generator(make_encoder(GeneratorConfig(backbone=backbone), inputs=1), 1)


def test_hrformer_b_has_the_published_number_of_parameters():
    encoder = make_on_meta("hrformer_b").encoder
    assert count_parameters(encoder.trunk) == pytest.approx(44.0e6, abs=0.05e6)
    assert count_parameters(encoder.fuse) == pytest.approx(14.8e6, abs=0.05e6)


def test_hrnet_w48_has_the_published_number_of_parameters():
    """65.85 million with HRNetV2's own 19-class head (720*720 + 720*19, biases and a norm) in place of ours."""
    trunk = make_on_meta("hrnet_w48").encoder.trunk
    head = 720 * 720 + 720 + 2 * 720 + 720 * 19 + 19
    assert count_parameters(trunk) + head == pytest.approx(65.85e6, abs=0.02e6)


def test_resnet_is_the_global_generator():
    """Pix2PixHD's: four downsamplings, nine blocks at 1024 channels, four upsamplings; here with affine norms."""
    widths = [64, 128, 256, 512, 1024]
    convolutions = 49 * 64 + 64
    convolutions += sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    convolutions += 9 * 2 * (9 * 1024 * 1024 + 1024)
    convolutions += sum(9 * a * b + a for a, b in itertools.pairwise(widths))
    convolutions += 49 * 64 + 1
    norms = 2 * (64 + sum(widths[1:]) + 18 * 1024 + sum(widths[:-1]))
    assert count_parameters(make_on_meta("resnet")) == convolutions + norms


def test_equal_seeds_give_equal_networks():
    one, two = make(**SMALL), make(**SMALL)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_recomputing_activations_changes_no_gradient():
    xray = torch.rand(1, 1, 64, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for recompute in (False, True):
        generator = make(backbone="hrformer_t", recompute=recompute)
        torch.manual_seed(0)
        generator(xray).square().mean().backward()
        gradients.append(generator.encoder.trunk.stem[0].weight.grad)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "layout"),
    [
        ({"backbone": "unet", "filters": 8, "norm": "batch"}, torch.channels_last),
        ({"backbone": "hrnet_w18"}, torch.channels_last),
        ({"backbone": "daformer_b0"}, torch.contiguous_format),
    ],
)
def test_maps_lie_in_memory_as_the_backbone_is_fastest_with_and_say_the_same(settings, layout):
    generator = make(**settings).eval()
    kernels = [kernel for kernel in generator.parameters() if kernel.ndim == 4 and min(kernel.shape) > 1]
    assert all(kernel.is_contiguous(memory_format=layout) for kernel in kernels)
    xray = 2 * torch.rand(2, 1, 64, 32, generator=torch.Generator().manual_seed(0)) - 1
    other = torch.channels_last if layout == torch.contiguous_format else torch.contiguous_format
    with torch.no_grad():
        image = generator(xray)
        assert torch.allclose(generator.to(memory_format=other)(xray), image, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet", "hrformer_t", "hrnet_w18", "daformer_b0"])
def test_a_configuration_knows_the_stride_of_its_encoder(backbone):
    assert make_on_meta(backbone).encoder.stride == GeneratorConfig(backbone=backbone).stride


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"multiples of 8, got 60 x 32"):
        make(**SMALL).encode(torch.zeros(1, 1, 60, 32))


@pytest.mark.parametrize("wrong", [{"filters": 6}, {"downsamplings": 1}, {"blocks": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GeneratorConfig(**wrong)

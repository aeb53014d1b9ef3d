"""Radiographs as hospitals really write them: padding, tables, colours and codecs."""

from __future__ import annotations

import gdcm
import numpy as np
import pydicom
import pytest
from dicom_samples import hip_image, write_dx
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from bmdkit.errors import CaseError
from bmdkit.io import dicom_pixels
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig

ALIKE = 0.999  # correlation; 8 bits of 12 are left in some


def assert_same_image(found, *words: str) -> None:
    plain = hip_image()
    assert np.corrcoef(found.pixels.ravel(), plain.ravel())[0, 1] > ALIKE
    for word in words:
        assert any(word in warning for warning in found.warnings)


@pytest.mark.parametrize("count", [2, 64, 1024])
def test_padding_within_the_pixel_data_is_accepted(tmp_path, count):
    def edit(ds):
        ds.PixelData = bytes(ds.PixelData) + b"\0" * count

    assert_same_image(read_radiograph(write_dx(tmp_path / "x.dcm", hip_image(), edit=edit)), "padding within")


@pytest.mark.parametrize("rest", ["zeros", "elements"])
def test_what_harmlessly_follows_the_pixels_is_accepted(tmp_path, rest):
    def edit(ds):
        if rest == "elements":
            ds.add_new(0x7FE10010, "LO", "A VENDOR 1.0")
            ds.add_new(0x7FE11001, "OB", b"\1\2\3\4")

    path = write_dx(tmp_path / "x.dcm", hip_image(), edit=edit)
    if rest == "zeros":
        path.write_bytes(path.read_bytes() + b"\0" * 512)
    assert_same_image(read_radiograph(path), "after the pixels")


def as_colour(ds) -> np.ndarray:
    grey = np.rint(hip_image() * 255).astype(np.uint8)
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    colour = np.repeat(grey[..., None], 3, axis=2)
    ds.PixelData = colour.tobytes()
    return colour


SYNTAXES = {
    "J2K lossless": (gdcm.TransferSyntax.JPEG2000Lossless, "YBR_RCT"),
    "J2K": (gdcm.TransferSyntax.JPEG2000, "YBR_RCT"),
    "J2K, said to be irreversible": (gdcm.TransferSyntax.JPEG2000Lossless, "YBR_ICT"),
    "JPEG lossless": (gdcm.TransferSyntax.JPEGLosslessProcess14_1, "RGB"),
    "RLE": (gdcm.TransferSyntax.RLELossless, "RGB"),
}


def compress(source, target, syntax) -> None:
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.mark.parametrize("name", SYNTAXES)
def test_compressed_colour_is_read_in_grey_or_refused_with_a_code(tmp_path, name):
    syntax, space = SYNTAXES[name]
    source = write_dx(tmp_path / "rgb.dcm", hip_image(), edit=as_colour)
    compress(source, tmp_path / "x.dcm", syntax)
    ds = pydicom.dcmread(tmp_path / "x.dcm")
    ds.PhotometricInterpretation = space
    ds.save_as(tmp_path / "x.dcm")
    with pytest.raises(CaseError) as caught:
        read_radiograph(tmp_path / "x.dcm")
    assert caught.value.code == "BMD-XR-003"
    found = read_radiograph(tmp_path / "x.dcm", config=XrayConfig(color="warn", lossy="warn", precision="warn"))
    assert_same_image(found, "BMD-XR-003")


def test_a_codec_that_fails_is_no_traceback(tmp_path):
    def edit(ds):
        as_colour(ds)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
        ds.PixelData = encapsulate([b"\xff\xd8\xff" + bytes(50)])
        ds["PixelData"].is_undefined_length = True

    path = write_dx(tmp_path / "x.dcm", hip_image(), edit=edit)
    with pytest.raises(CaseError) as caught:
        read_radiograph(path, config=XrayConfig(color="warn"))
    assert caught.value.code == "BMD-XR-002"


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.4.51"],
)
def test_an_absent_decoder_is_to_be_installed(tmp_path, monkeypatch, syntax):
    def edit(ds):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(100)])
        ds["PixelData"].is_undefined_length = True

    path = write_dx(tmp_path / "x.dcm", hip_image(), edit=edit)
    monkeypatch.setattr(dicom_pixels, "find_spec", lambda module: None)
    with pytest.raises(CaseError) as caught:
        read_radiograph(path, config=XrayConfig(lossy="warn"))
    assert caught.value.code == "BMD-XR-008"
    assert "nstall" in caught.value.remedy


def table_item(kind: str, bits: int, count: int) -> tuple[Dataset, np.ndarray]:
    table = np.rint(np.sqrt(np.linspace(0, 1, count)) * (2**bits - 1)).astype(np.uint16)
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count, 0, bits])
    match kind:
        case "US":
            item.add_new("LUTData", "US", table.tolist())
        case "OW, a word each":
            item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
        case "OW, packed":
            item.add_new("LUTData", "OW", table.astype(np.uint8).tobytes())
    return item, table


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(
    ("kind", "bits"), [("US", 8), ("OW, a word each", 8), ("OW, packed", 8), ("US", 16), ("OW, a word each", 16)]
)
def test_tables_of_8_and_16_bits_in_every_form(tmp_path, sequence, kind, bits):
    item, table = table_item(kind, bits, 256)
    stored = np.rint(hip_image() * 255).astype(int)

    def edit(ds):
        ds.BitsStored, ds.HighBit, ds.PixelData = 8, 7, stored.astype("<u2").tobytes()
        setattr(ds, sequence, Sequence([item]))

    found = read_radiograph(write_dx(tmp_path / "x.dcm", hip_image(), edit=edit))
    assert np.corrcoef(found.pixels.ravel(), table[stored].ravel())[0, 1] > ALIKE


def test_a_damaged_element_of_pixels_is_refused(tmp_path):
    path = write_dx(tmp_path / "x.dcm", hip_image())
    data = path.read_bytes()
    place = data.rindex(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(data[: place + 4] + b"Z\0" + data[place + 6 :])
    with pytest.raises(CaseError) as caught:
        read_radiograph(path)
    assert caught.value.code == "BMD-XR-002"

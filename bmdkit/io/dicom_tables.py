"""Look-up tables of a DICOM image, in the form in which pydicom applies them."""

from __future__ import annotations

import copy

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from bmdkit.io.dicom_files import UNCOMPRESSED
from bmdkit.io.dicom_parsing import DicomImage

_SEQUENCES = ("ModalityLUTSequence", "VOILUTSequence")


def unpack_tables(image: DicomImage) -> Dataset:
    """Copy the data set of an image so that every table with entries of 8 bits has one number for each.

    Such tables may be packed, two entries into a word of 16 bits (VR OW).
    """
    found = copy.copy(image.data_set)
    is_big_endian = image.header.transfer_syntax_uid == UNCOMPRESSED[2]
    for name in _SEQUENCES:
        if name in found:
            items = [_unpack(item, is_big_endian=is_big_endian) for item in found[name].value]
            setattr(found, name, Sequence(items))
    return found


def _unpack(item: Dataset, *, is_big_endian: bool) -> Dataset:
    """One item of a sequence, its packed table as numbers."""
    data, descriptor = item.get("LUTData"), item.get("LUTDescriptor")
    if not isinstance(data, bytes) or descriptor is None or len(descriptor) != 3:
        return item
    count = int(descriptor[0]) or 1 << 16
    if len(data) != count + count % 2:
        return item
    if is_big_endian:
        swapped = bytearray(len(data))
        swapped[::2], swapped[1::2] = data[1::2], data[::2]
        data = bytes(swapped)
    plain = copy.copy(item)
    plain.add_new("LUTData", "US", list(data[:count]))
    return plain

"""Names for files and table rows."""

from __future__ import annotations

import pytest

from bmdkit.core.naming import LONGEST_NAME, make_safe_name, make_unique_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AP hip", "AP_hip"),
        ("../../etc/passwd", "etc_passwd"),
        ("a\\b:c", "a_b_c"),
        ("Hüfte", "H_fte"),
        ("...", "xray"),
        ("", "xray"),
        ("a" * 200, "a" * LONGEST_NAME),
    ],
)
def test_any_text_becomes_a_part_of_a_file_name(text, name):
    assert make_safe_name(text) == name


def test_a_name_that_is_taken_is_numbered_without_regard_to_case():
    names: list[str] = []
    for wanted in ("hip", "Hip", "hip", "hip-2"):
        names.append(make_unique_name(wanted, names, separator="-"))
    assert names == ["hip", "Hip-2", "hip-3", "hip-2-2"]

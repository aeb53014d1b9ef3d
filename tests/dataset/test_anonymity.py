"""File names of a cohort in what is said of a case."""

from pathlib import Path

from bmdkit.core.case import Case, CohortRow
from bmdkit.dataset.anonymity import FileNames


def case_in(folder: Path) -> Case:
    (folder / "mueller_ct").mkdir()
    for name in ("mueller_0001.dcm", "mueller_0002.dcm", "12", "IM1"):
        (folder / "mueller_ct" / name).touch()
    (folder / "mueller^anna.dcm").touch()
    return Case("sub-1", (CohortRow("sub-1", folder / "mueller_ct", folder / "mueller^anna.dcm", "L"),))


def test_names_and_paths_of_inputs_are_replaced_by_their_part(tmp_path):
    files = FileNames(case_in(tmp_path), hidden=True)
    hidden = files.hide(
        f"between mueller_0001.dcm (-58.28 mm) and IM1; {tmp_path}/mueller^anna.dcm: 12 of {tmp_path / 'mueller_ct'}."
    )
    assert hidden == "between [ct file 3] (-58.28 mm) and [ct file 2]; [radiograph 1]: 12 of [ct]."


def test_words_that_only_hold_a_name_stay(tmp_path):
    assert FileNames(case_in(tmp_path), hidden=True).hide("IM10, xIM1") == "IM10, xIM1"


def test_nothing_is_replaced_where_names_may_be_shown(tmp_path):
    assert FileNames(case_in(tmp_path), hidden=False).hide("mueller_0001.dcm") == "mueller_0001.dcm"

"""Whether a CT and a radiograph are of one person: the same written differently, others, and placeholders."""

from __future__ import annotations

import pytest

from bmdkit.errors import CaseError
from bmdkit.io.patient_identity import check_same_patient, is_placeholder, list_contradictions, make_patient_key

ONE = {"patient_id": "00012345", "birth_date": "19500101", "name": "Yamada^Taro", "sex": "M"}

SAME = {
    "the same": {},
    "no zeros in front": {"patient_id": "12345"},
    "blanks": {"patient_id": " 000 12345 "},
    "lower and upper case": {"patient_id": "00012345"},
    "ideographic name": {"name": "Yamada^Taro=\u5c71\u7530^\u592a\u90ce"},
    "kana name alone": {"name": "\u3084\u307e\u3060^\u305f\u308d\u3046"},
    "no birth date": {"birth_date": ""},
    "birth date with dots": {"birth_date": "1950.01.01"},
    "no identifier": {"patient_id": ""},
    "nothing": {"patient_id": "", "birth_date": "", "name": "", "sex": ""},
}
OTHERS = {
    "another number": {"patient_id": "12346"},
    "a digit more": {"patient_id": "123450"},
    "another birth date": {"birth_date": "19500102"},
    "a placeholder": {"patient_id": "ANONYMOUS"},
    "no identifier, another name": {"patient_id": "", "name": "Suzuki^Jiro"},
    "no identifier, another sex": {"patient_id": "", "sex": "F"},
}
STRICT_DIFFERS = ("no zeros in front", "blanks")


def key(**changes) -> str | None:
    return make_patient_key(**{**ONE, **changes})


@pytest.mark.parametrize("name", SAME)
def test_one_person_written_differently_is_one_person(name):
    assert check_same_patient(key(), key(**SAME[name])) == ()
    assert check_same_patient(key(**SAME[name]), key()) == ()


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_told_apart_and_never_named(name):
    with pytest.raises(CaseError) as caught:
        check_same_patient(key(), key(**OTHERS[name]))
    assert caught.value.code == "BMD-XR-021"
    told = str(caught.value).lower()
    assert "patient" in told
    for value in (*ONE.values(), *OTHERS[name].values()):
        assert len(value) < 2 or not any(
            word in told for word in value.lower().replace("anonymous", "-" * 9).split("^")
        )


@pytest.mark.parametrize("patient_id", ["ANONYMOUS", "anonymized", "Unknown", "N/A", "0000", "XXX", "no id"])
def test_a_placeholder_matches_nobody_not_even_itself(patient_id):
    assert is_placeholder(patient_id)
    with pytest.raises(CaseError, match="placeholder"):
        check_same_patient(key(patient_id=patient_id), key(patient_id=patient_id))
    (warning,) = check_same_patient(key(patient_id=patient_id), key(patient_id=patient_id), rule="given")
    assert "placeholder" in warning


@pytest.mark.parametrize("patient_id", ["ANON-0042", "12345", "X1", "TEST7", "patient12"])
def test_a_pseudonym_is_no_placeholder(patient_id):
    assert not is_placeholder(patient_id)


@pytest.mark.parametrize("name", STRICT_DIFFERS)
def test_strict_compares_what_is_written(name):
    with pytest.raises(CaseError, match="PatientID differ"):
        check_same_patient(key(), key(**SAME[name]), rule="strict")


def test_strict_compares_sex_and_ids_does_not():
    assert check_same_patient(key(), key(sex="F")) == ()
    with pytest.raises(CaseError, match="PatientSex"):
        check_same_patient(key(), key(sex="F"), rule="strict")


@pytest.mark.parametrize("name", OTHERS)
def test_given_believes_the_table_and_warns(name):
    (warning,) = check_same_patient(key(), key(**OTHERS[name]), rule="given")
    assert "taken to be of one person as given" in warning


def test_images_of_one_folder_contradict_each_other_only_where_both_speak():
    assert list_contradictions(key(), key(birth_date="", sex="")) == ()
    assert list_contradictions(key(), key(patient_id="12345")) == ()
    assert list_contradictions(key(), key(birth_date="19610101", sex="F")) == ("PatientBirthDate", "PatientSex")
    assert list_contradictions(key(patient_id="ANONYMOUS"), key(patient_id="ANONYMOUS")) == ()
    assert list_contradictions(None, key()) == ()

"""Whose images they are, and what each person is called in a cohort."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bmdkit.intake.header_scan import ScannedFile
from bmdkit.io.cohort_table import PATIENT_ID
from bmdkit.io.patient_identity import is_placeholder, simplify_id

_SHORTEST_NAME = 3


@dataclass(frozen=True)
class Person:
    """One person, as the headers tell persons apart.

    Attributes:
        files: CT slices and radiographs of the person.
        patient_id: PatientID as it stands in most of the files.
        is_known: Whether the headers name somebody; else only what one study holds belongs together.
    """

    files: tuple[ScannedFile, ...]
    patient_id: str
    is_known: bool


def group_by_person(files: Iterable[ScannedFile]) -> list[Person]:
    """Put together what shows one person: the same PatientID, leading zeros and blanks aside, and birth date.

    Files without a birth date go with the only person of that PatientID. Where PatientID is absent, name and birth
    date count; where it is a placeholder that many share, or nothing is filled, only what one study holds belongs
    together.

    Args:
        files: CT slices and radiographs.

    Returns:
        The persons, in the order of their identifiers.
    """
    groups: dict[tuple[str, ...], list[ScannedFile]] = defaultdict(list)
    births: dict[str, set[str]] = defaultdict(set)
    listed = list(files)
    for file in listed:
        number = simplify_id(file.patient_id)
        if number and not is_placeholder(file.patient_id) and (born := _digits(file.birth_date)):
            births[number].add(born)
    for file in listed:
        groups[_make_group_key(file, births)].append(file)
    persons = []
    for key, found in groups.items():
        given = sorted((file.patient_id for file in found), key=lambda name: (not name, name))
        most = max(dict.fromkeys(given), key=given.count)
        persons.append(Person(tuple(found), most, key[0] != "study"))
    return sorted(persons, key=lambda person: (not person.is_known, person.patient_id, str(person.files[0].path)))


def _make_group_key(file: ScannedFile, births: Mapping[str, set[str]]) -> tuple[str, ...]:
    number, born = simplify_id(file.patient_id), _digits(file.birth_date)
    if number and not is_placeholder(file.patient_id):
        if not born and len(births[number]) == 1:
            (born,) = births[number]
        return ("id", number, born)
    name = _find_name_words(file.name)
    if not number and born and name and not is_placeholder("".join(name)):
        return ("name", born, *sorted(name))
    return ("study", file.study_uid or str(file.path.parent))


def name_persons(
    persons: Sequence[Person], *, known: Mapping[str, str] | None = None, pseudonymise: bool = False
) -> list[str]:
    """Choose what each person is called: PatientID where the contract of a cohort allows it, else sub-001, sub-002 ...

    A PatientID that holds a part of the person's name, or the birth date, is not used.

    Args:
        persons: All persons.
        known: PatientID -> name of an earlier call, which is kept.
        pseudonymise: Whether nobody is called by PatientID.

    Returns:
        One name a person, unique whatever the case of its letters.
    """
    known = known or {}
    used = {name.casefold() for name in known.values()}
    usable = {index for index, person in enumerate(persons) if not pseudonymise and _is_usable(person)}
    names: dict[int, str] = {}
    for index, person in enumerate(persons):
        earlier = known.get(person.patient_id) if person.is_known else None
        if earlier is not None and earlier not in names.values():
            names[index] = earlier
        elif index in usable and person.patient_id.casefold() not in used:
            names[index] = person.patient_id
        if index in names:
            used.add(names[index].casefold())
    number = 0
    for index in range(len(persons)):
        while index not in names:
            number += 1
            if (name := f"sub-{number:03d}") not in used:
                names[index] = name
                used.add(name)
    return [names[index] for index in range(len(persons))]


def _is_usable(person: Person) -> bool:
    """Whether a PatientID may be written into paths: it is short and plain, and tells neither name nor birth date."""
    given = person.patient_id
    if not person.is_known or not PATIENT_ID.fullmatch(given):
        return False
    words = {word for file in person.files for word in _find_name_words(file.name) if len(word) >= _SHORTEST_NAME}
    written = re.findall(r"[a-z]{3,}", given.casefold())
    if any(word in given.casefold() for word in words) or any(part in word for part in written for word in words):
        return False
    digits = {_digits(file.birth_date) for file in person.files} - {""}
    return not any(day in given for day in digits)


def _find_name_words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.casefold())


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)

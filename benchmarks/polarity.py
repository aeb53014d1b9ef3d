"""How surely the polarity of a radiograph is read, with right and with wrong tags: wrong in silence, refused, told.

    python benchmarks/polarity.py [COHORT ...] [--patients N] [--seed S] [--n-jobs N] [--json FILE] [--rows FILE]

Every patient is drawn anew by the built-in simulator, which shares no seed with the images that the weights were fitted
to, and stands in two poses. Each exposure is shown as it is, with a lead marker, with black borders, behind collimators
of every shape, with metal, and as narrow fields on one hip; a third of them through a narrower window. The radiographs
of a COHORT, such as another simulator's, are shown as they are, with metal and as narrow fields; their own tags are
taken as true. Each image is judged with tags that are right and with tags that say the opposite; one image of every
patient is read whole from DICOM files, stored plain or inverted, with right, wrong and raw-data tags.
`--rows FILE` keeps the features of all images; `--rows-from FILE ...` measures nothing and weighs such features anew.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from figure_files import write_figures
from scipy import ndimage

from bmdkit.errors import CaseError
from bmdkit.image_content.polarity import judge_score, measure_features, weigh_features
from bmdkit.io.cohort import read_cohort
from bmdkit.io.xray import read_radiograph
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.simulation.collimator import FieldKind, collimate, draw_field
from bmdkit.simulation.dicom import write_radiograph
from bmdkit.simulation.presentation import present
from bmdkit.simulation.procedural_anatomy import draw_anatomy
from bmdkit.simulation.radiography import Exposed, mineral_channels, take_radiograph
from bmdkit.simulation.tissue import fill_tissue

STREAM = 7302
"""First word of every seed here, so that no patient is one that the weights were fitted to."""
PIXEL_MM = 0.5
GRID_MM = 2.5
"""Voxels of the anatomy: coarse, since a radiograph is looked at in pixels of a millimetre or two."""
MOST = 4095.0
COLLIMATORS: tuple[FieldKind, ...] = ("blades", "turned", "round", "polygon")
TAGS = {
    "right tags": {},
    "LIN tag": {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1},
    "wrong photometric interpretation": {},
    "wrong shape": {},
}
"""Kind of file -> tags that are set beside those that say how it is stored."""


def narrow_window(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image through a window that clips some of its range."""
    low, high = np.percentile(image, (rng.uniform(0, 12), 100 - rng.uniform(0, 6)))
    return np.clip((image - low) / max(high - low, 1), 0, 1) * MOST


def add_metal(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with a stem and a head of metal at one hip."""
    rows, columns = image.shape
    v, u = np.mgrid[:rows, :columns] * PIXEL_MM
    centre = rng.uniform(0.35, 0.55) * rows * PIXEL_MM, rng.choice([0.27, 0.73]) * columns * PIXEL_MM
    turn = rng.uniform(-0.3, 0.3)
    across = (u - centre[1]) * np.cos(turn) + (v - centre[0]) * np.sin(turn)
    along = (v - centre[0]) * np.cos(turn) - (u - centre[1]) * np.sin(turn)
    metal = ((abs(across) < rng.uniform(5, 10)) & (along > 0) & (along < 110)) | (np.hypot(across, along) < 22)
    blurred = ndimage.gaussian_filter(metal.astype(np.float32), 1.0)
    return np.maximum(image, blurred * MOST * rng.uniform(0.95, 1))


def cut_narrow(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A field about one hip, as a radiograph of one hip shows it."""
    rows, columns = image.shape
    height, width = int(rows * rng.uniform(0.35, 0.7)), int(columns * rng.uniform(0.3, 0.55))
    left = int(np.clip(rng.choice([0.28, 0.72]) * columns - width / 2 + rng.normal(0, 25), 0, columns - width))
    top = int(np.clip(0.48 * rows - height / 2 + rng.normal(0, 25), 0, rows - height))
    return image[top : top + height, left : left + width]


def show_exposure(signal: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Kind and image (bone bright) of everything that one exposure is shown as."""
    plain = present(signal, PIXEL_MM, rng).astype(np.float32)
    yield "plain", plain
    yield "marker", present(signal, PIXEL_MM, rng, marker=True).astype(np.float32)
    yield "borders", present(signal, PIXEL_MM, rng, collimation=True).astype(np.float32)
    image = plain
    for kind in COLLIMATORS:
        field = draw_field(signal.shape, PIXEL_MM, rng, kind)
        image = present(collimate(signal, field, PIXEL_MM, rng), PIXEL_MM, rng, field=field.is_open).astype(np.float32)
        yield kind, image
    yield "metal", add_metal(plain, rng)
    yield "narrow", cut_narrow(plain, rng)
    yield "narrow, collimated", cut_narrow(image, rng)


def judge(score: float | None, true_score_sign: int) -> str:
    """What becomes of an image whose tags are right (1) or say the opposite (-1)."""
    signed = None if score is None else score * true_score_sign
    try:
        choice = judge_score(signed, False, "MONOCHROME2", lambda code, message: CaseError(code, message))
    except CaseError:
        return "quarantined"
    return name_outcome(choice.lower_is_denser == (true_score_sign < 0), true_score_sign > 0, bool(choice.warnings))


def name_outcome(is_right: bool, are_tags_right: bool, is_told: bool) -> str:
    """One word for how an image was read."""
    if is_right:
        return "followed" if not are_tags_right else "warned" if is_told else "right"
    return "wrong, told" if is_told else "wrong in silence"


def read_whole(image: np.ndarray, exposed: Exposed, is_inverted: bool, folder: Path) -> Iterator[tuple[str, str]]:
    """Kind of file and outcome of one image, stored plain or inverted, in DICOM files of every kind."""
    stored = np.rint(image).astype(np.uint16)
    for kind, tags in TAGS.items():
        path = folder / "x.dcm"
        write_radiograph(path, stored, exposed, "p", inverted=is_inverted, origin=kind)
        data = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(data, name, value)
        if kind.startswith("wrong"):
            data.PresentationLUTShape = "IDENTITY" if is_inverted else "INVERSE"
        if kind == "wrong photometric interpretation":
            data.PhotometricInterpretation = "MONOCHROME2" if is_inverted else "MONOCHROME1"
        data.save_as(path)
        name = f"{kind}, stored {'inverted' if is_inverted else 'plain'}"
        try:
            found = read_radiograph(path)
        except CaseError as error:
            yield name, "quarantined" if error.code == "BMD-XR-023" else error.code
            continue
        likeness = np.corrcoef(found.pixels[found.mask], stored[found.mask])[0, 1]
        told = any("polarity" in warning for warning in found.warnings)
        yield name, name_outcome(likeness > 0, not kind.startswith("wrong"), told)


Features = list[tuple[str, dict[str, float]]]
Scores = list[tuple[str, float | None]]


def measure_patient(seed: int, number: int) -> tuple[str, Features, list[tuple[str, str]]]:
    """Name of a simulated patient, kind and features of each image, and the outcomes of its whole reads."""
    rng = np.random.default_rng([STREAM, seed, number])
    anatomy = draw_anatomy(rng, grid_mm=GRID_MM)
    tissue = fill_tissue(anatomy, rng)
    mineral = mineral_channels(tissue)
    found, reads = [], []
    poses = ("standing", "abduction") if number % 2 else ("supine", "adduction")
    with tempfile.TemporaryDirectory() as folder:
        for place, pose in enumerate(poses):
            exposed = take_radiograph(anatomy, tissue, mineral, pose, PIXEL_MM, rng, off_centre=number % 3 == 0)
            shown = list(show_exposure(exposed.signal, rng))
            for kind, image in shown:
                seen = narrow_window(image, rng) if rng.random() < 0.3 else image
                found.append((kind, measure_features(seen, np.ones(seen.shape, bool))))
            if place == 0:
                reads += read_whole(shown[number % (len(COLLIMATORS) + 4)][1], exposed, number % 2 > 0, Path(folder))
    return f"simulated {number}", found, reads


def list_files(folder: Path) -> list[Path]:
    """The radiographs of a cohort, each once; of a folder without a table, all of its xray/."""
    if not (folder / "cohort.csv").exists():
        return sorted((folder / "xray").glob("*.dcm"))
    return sorted({path for case in read_cohort(folder).cases for path in case.xrays})


def measure_file(folder: Path, number: int, seed: int) -> tuple[str, Features, list[tuple[str, str]]]:
    """The same for one radiograph of a cohort."""
    path = list_files(folder)[number]
    data = pydicom.dcmread(path)
    values = data.pixel_array.astype(np.float32)
    if data.PhotometricInterpretation == "MONOCHROME1":
        values = values.max() - values
    image = (values - values.min()) * MOST / max(float(np.ptp(values)), 1.0)
    rng = np.random.default_rng([STREAM, seed, number])
    shown = {"plain": image, "metal": add_metal(image, rng), "narrow": cut_narrow(image, rng)}
    found = [(f"cohort, {kind}", measure_features(a, np.ones(a.shape, bool))) for kind, a in shown.items()]
    return f"{folder.name}/{path.name}", found, []


def summarise(scores: Scores, reads: list[tuple[str, str]]) -> dict[str, float]:
    """Counts and shares of the outcomes, of all images and of each kind."""
    figures: dict[str, float] = {"images": float(len(scores))}
    for sign, tags in ((1, "right tags"), (-1, "wrong tags")):
        found = Counter(judge(score, sign) for _, score in scores)
        names = {"quarantined", "wrong in silence", "wrong, told", *found}
        figures |= {f"{tags}: {name}": float(found[name]) for name in sorted(names)}
        figures[f"{tags}: quarantined, percent"] = 100 * found["quarantined"] / len(scores)
    for kind in sorted({kind for kind, _ in scores}):
        mine = [np.nan if score is None else score for name, score in scores if name == kind]
        figures[f"{kind}: images"] = float(len(mine))
        figures[f"{kind}: least score"] = float(np.nanmin(mine))
        figures[f"{kind}: quarantined with right tags"] = float(sum(judge(score, 1) == "quarantined" for score in mine))
    figures["files read whole"] = float(len(reads))
    for (kind, outcome), count in sorted(Counter(reads).items()):
        figures[f"read whole, {kind}: {outcome}"] = float(count)
    figures["files read whole: wrong in silence"] = float(sum(outcome == "wrong in silence" for _, outcome in reads))
    return figures


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="COHORT")
    parser.add_argument("--patients", type=int, default=26)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of no effect: the measure runs on the CPU")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--rows-from", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    measured: Features = [row for path in options.rows_from for row in json.loads(path.read_text(encoding="utf-8"))]
    reads: list[tuple[str, str]] = []
    files = [(folder, number, options.seed) for folder in options.folders for number in range(len(list_files(folder)))]
    patients = [(options.seed, number) for number in range(0 if options.rows_from else options.patients)]
    for measure, jobs in ((measure_patient, patients), (measure_file, files)):
        for name, found, outcomes in run_in_pool(measure, jobs, options.n_jobs):
            measured += found
            reads += outcomes
            told = " ".join(f"{kind} {weigh_features(features) or np.nan:.1f};" for kind, features in found)
            print(name, told, *(f"[{kind}: {outcome}]" for kind, outcome in outcomes), flush=True)
    if options.rows:
        options.rows.write_text(json.dumps(measured) + "\n", encoding="utf-8")
    figures = summarise([(kind, weigh_features(features)) for kind, features in measured], reads)
    for name, value in figures.items():
        print(f"{name:72s} {value:10.4g}")
    if options.json:
        folders = [folder.name for folder in options.folders]
        write_figures(options.json, figures, "cpu", seed=options.seed, patients=options.patients, folders=folders)


if __name__ == "__main__":
    main()

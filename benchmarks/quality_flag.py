"""How well the quality of a prediction tells large errors, and whether images unlike a hip are refused.

    python benchmarks/quality_flag.py COHORT ... [--run RUN] [--others IMAGE ...] [--json FILE]

Each radiograph of the cohorts (cohort.csv with dxa_bmd) is predicted as it is, spoilt (blur, noise, saturation, plate,
a shift), and in place of it images that are none of a hip: its spine, turned, upside down, inverted, noise alone,
nothing at all, drawn chests and wrists, and what --others names. A large error is one of more than twice the median of
the radiographs as they are; AUROC is that of the strangeness for it. Much of an error is the network's own, and nothing
in the image tells it. So AUROC is also given for predictions that spoiling has moved by as much ("moved"), and of a
flag that knew by how much it has ("knows"): none that looks at images alone is likely to do better for large errors.
An image that is none of a hip should be rejected, or at the least reviewed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from figure_files import write_figures
from scipy import ndimage

from bmdkit.core.anatomy import Side
from bmdkit.core.radiograph import Radiograph
from bmdkit.errors import CaseError
from bmdkit.evaluation.segmentation_metrics import auroc
from bmdkit.inference.hip_prediction import Prediction, predict_hip
from bmdkit.inference.predictor import Predictor, load_predictor
from bmdkit.io.results import read_csv
from bmdkit.io.xray import read_radiograph

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
LARGE = 2.0
"""An error so many times the median is large."""

FARTHEST = 1e9
"""In place of an infinite strangeness, to be ranked."""


def blur(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion or a thick patient: blurred by 0.5 to 4 % of the height."""
    return ndimage.gaussian_filter(pixels, rng.uniform(0.005, 0.04) * len(pixels))


def add_noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Too little dose."""
    return np.clip(pixels + rng.normal(0, rng.uniform(0.1, 0.5), pixels.shape), 0, 1)


def saturate(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window that cuts the brightest or the darkest shades off."""
    low = rng.uniform(0, 0.4)
    return np.clip((pixels - low) / rng.uniform(0.2, 0.5), 0, 1)


def hide(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A plate over part of each half."""
    out = pixels.copy()
    top, beside = (int(rng.uniform(0.2, 0.6) * n) for n in pixels.shape)
    half = pixels.shape[1] // 2
    for first in (beside % (half // 2), half + beside % (half // 2)):
        out[top : top + len(pixels) // 4, first : first + half // 2] = rng.uniform(0, 1)
    return out


def shift(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The patient lies too high or too low, by 15 to 30 % of the height."""
    rows = int(rng.choice([-1, 1]) * rng.uniform(0.15, 0.3) * len(pixels))
    return ndimage.shift(pixels, (rows, 0), order=0, mode="nearest")


def show_spine(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What lies above the hips in the middle, enlarged to the whole image."""
    rows, columns = pixels.shape
    part = pixels[: rows // 3, columns // 3 : 2 * columns // 3]
    return np.clip(ndimage.zoom(part, (rows / part.shape[0], columns / part.shape[1]), order=1), 0, 1)


def cut_away(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A narrow detector: each half shows the ilium alone, enlarged."""
    rows, columns = pixels.shape
    part = pixels[: rows // 3]
    return np.clip(ndimage.zoom(part, (rows / len(part), 1), order=1)[:rows, :columns], 0, 1)


def draw_chest(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two dark lungs, a bright middle, ribs."""
    v, u = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    image = np.full(pixels.shape, 0.7)
    for side in (-1, 1):
        lung = ((u - 0.45 * side) / 0.35) ** 2 + (v / 0.8) ** 2 < 1
        ribs = 0.12 * (np.sin(18 * v + 5 * np.abs(u - 0.45 * side) + rng.uniform(0, 6)) > 0.4)
        image = np.where(lung, 0.15 + ribs, image)
    image += 0.2 * (np.abs(u) < 0.08)
    return np.clip(ndimage.gaussian_filter(image, 3) + rng.normal(0, 0.02, image.shape), 0, 1)


def draw_wrist(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two long bones below, small ones in the middle, five above."""
    v, u = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    image = 0.3 * (np.abs(u) < 0.5)
    for place in (-0.22, 0.2):
        image = np.where((np.abs(u - place) < 0.14) & (v > 0.15), 0.7, image)
    for place in np.linspace(-0.4, 0.4, 5):
        image = np.where((np.abs(u - place) < 0.06) & (v < -0.15), 0.65, image)
    for _ in range(8):
        at = rng.uniform(-0.35, 0.35), rng.uniform(-0.15, 0.15)
        image = np.where(np.hypot(u - at[0], v - at[1]) < 0.1, 0.75, image)
    return np.clip(ndimage.gaussian_filter(image, 2) + rng.normal(0, 0.02, image.shape), 0, 1)


SPOILT: Mapping[str, Change] = {
    "blur": blur,
    "noise": add_noise,
    "saturation": saturate,
    "plate": hide,
    "shift": shift,
}
UNLIKE: Mapping[str, Change] = {
    "spine": show_spine,
    "hip cut away": cut_away,
    "chest": draw_chest,
    "wrist": draw_wrist,
    "inverted": lambda pixels, rng: 1 - pixels,
    "upside down": lambda pixels, rng: pixels[::-1],
    "turned": lambda pixels, rng: ndimage.zoom(
        np.rot90(pixels), np.array(pixels.shape) / np.array(pixels.shape[::-1]), order=1
    )[: len(pixels), : pixels.shape[1]],
    "noise alone": lambda pixels, rng: rng.random(pixels.shape),
    "cloud": lambda pixels, rng: np.clip(
        0.5 + 30 * ndimage.gaussian_filter(rng.normal(0, 1, pixels.shape), len(pixels) / 12), 0, 1
    ),
    "nothing": lambda pixels, rng: np.full(pixels.shape, 0.5),
}


def predict_pixels(predictor: Predictor, pixels: np.ndarray, mask: np.ndarray, side: Side) -> Prediction:
    """The prediction of one hip of an image."""
    return predict_hip(predictor, Radiograph(np.ascontiguousarray(pixels, np.float32), mask), side)


def measure(predictor: Predictor, cohorts: Sequence[Path], others: Sequence[Path]) -> dict[str, float]:
    """All figures, flat."""
    errors: dict[str, list[float]] = {name: [] for name in ("as it is", *SPOILT)}
    told: dict[str, list[float]] = {name: [] for name in errors}
    strange: dict[str, list[float]] = {name: [] for name in (*errors, *UNLIKE, "others")}
    quality: dict[str, list[str]] = {name: [] for name in strange}
    number = 0
    for cohort in cohorts:
        for row in read_csv(cohort / "cohort.csv"):
            shown = read_radiograph(cohort / row["xray"], config=predictor.xray, case=row["patient_id"])
            side: Side = "L" if row["side"] == "L" else "R"
            rng, number = np.random.default_rng(number), number + 1
            changes: dict[str, Change] = {"as it is": lambda pixels, rng: pixels, **SPOILT, **UNLIKE}
            for name, change in changes.items():
                pixels = np.asarray(change(np.array(shown.pixels), rng))
                mask = np.array(shown.mask) if pixels.shape == shown.mask.shape else np.ones(pixels.shape, bool)
                found = predict_pixels(predictor, pixels, mask, side)
                strange[name].append(found.strangeness)
                quality[name].append(found.quality)
                if name in errors:
                    told[name].append(found.bmd["dxa"])
                    errors[name].append(abs(found.bmd["dxa"] - float(row["dxa_bmd"])))
    for path in others:
        try:
            shown = read_radiograph(path, config=predictor.xray, case=path.stem)
        except CaseError as error:
            print(f"{path.name}: refused as it is read ({error.code})")
            quality["others"].append("reject")
            continue
        for side in ("L", "R"):
            found = predict_pixels(predictor, np.array(shown.pixels), np.array(shown.mask), side)
            strange["others"].append(found.strangeness)
            quality["others"].append(found.quality)
    return summarise(errors, told, strange, quality)


def summarise(
    errors: Mapping[str, Sequence[float]],
    told: Mapping[str, Sequence[float]],
    strange: Mapping[str, Sequence[float]],
    quality: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Print a line for each kind of image; returns the figures."""
    limit = LARGE * float(np.median(errors["as it is"]))
    flat = {"large_error_g_cm2": limit, "images": float(len(errors["as it is"]))}
    for name, found in quality.items():
        if found:
            flat[f"{name}.rejected"] = float(np.mean([one == "reject" for one in found]))
            flat[f"{name}.not_accepted"] = float(np.mean([one != "accept" for one in found]))
            print(f"{name:14s} n {len(found):3d}  rejected {flat[f'{name}.rejected']:.2f}  "
                  f"not accepted {flat[f'{name}.not_accepted']:.2f}")  # fmt: skip
    wrong = np.concatenate([np.array(errors[name]) > limit for name in errors])
    flagged = np.concatenate([np.minimum(np.array(strange[name], float), FARTHEST) for name in errors])
    moved = np.concatenate([np.abs(np.subtract(told[name], told["as it is"])) for name in errors])
    rated = np.concatenate([quality[name] for name in errors])
    for which, part in {"as it is": slice(len(errors["as it is"])), "with spoilt": slice(None)}.items():
        flat[f"{which}.large"] = float(wrong[part].sum())
        flat[f"{which}.auroc"] = auroc(flagged[part], wrong[part])
        print(f"{which}: {int(wrong[part].sum())} of {wrong[part].size} errors above {limit:.3f} g/cm2, "
              f"AUROC {flat[f'{which}.auroc']:.3f}")  # fmt: skip
    flat["moved.large"], flat["moved.auroc"] = float((moved > limit).sum()), auroc(flagged, moved > limit)
    flat["knows.auroc"] = auroc(moved, wrong)
    for rating in ("accept", "review", "reject"):
        if (rated == rating).any():
            flat[f"{rating}.images"] = float((rated == rating).sum())
            flat[f"{rating}.large_share"] = float(wrong[rated == rating].mean())
            print(f"{rating}: {int((rated == rating).sum())}, large errors {flat[f'{rating}.large_share']:.2f}")
    print(f"moved by more than that: {int((moved > limit).sum())}, AUROC {flat['moved.auroc']:.3f}; of a flag that "
          f"knows by how much, for large errors: {flat['knows.auroc']:.3f}")  # fmt: skip
    like = np.array(strange["as it is"], float)
    unlike = np.minimum(np.concatenate([np.array(strange[name], float) for name in UNLIKE]), FARTHEST)
    flat["unlike.auroc"] = auroc(np.concatenate([like, unlike]), np.arange(like.size + unlike.size) >= like.size)
    print(f"unlike against as it is: AUROC {flat['unlike.auroc']:.3f}")
    return flat


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--run", type=Path, nargs="+", help="decomposition runs  [default: those of the package]")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="images that are none of a hip")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    began = time.process_time()
    flat = measure(load_predictor(args.run), args.cohorts, args.others)
    flat["cpu_seconds"] = time.process_time() - began
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()

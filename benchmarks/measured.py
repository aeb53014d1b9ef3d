"""Write the pages docs/measured/: every figure that is kept, with its command, machine, versions and date.

    python benchmarks/measured.py

Each file of benchmarks/results/ stands on the page that `PAGES` names. What a page says above its mark is written by
hand and stays; what stands below is written anew. A file that no page names is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from measured_figures import RESULTS, Figures, list_kept, write_markdown

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "measured"
MARK = "<!-- what follows is written by benchmarks/measured.py -->"
PAGES: Mapping[str, Mapping[str, str]] = {
    "radiographs": {
        "polarity_cpu": "Polarity",
        "collimation_cpu": "Collimators, the built-in simulator",
        "collimation_more_cpu": "Collimators, the built-in simulator, further patients",
        "collimation_twins_cpu": "Collimators, another simulator",
        "collimation_cohorts_cpu": "No collimator, cohorts",
        "validate_cpu": "Validation of a large cohort",
        "label_fit_cpu": "Label maps of another patient, shifted, mirrored",
    },
    "registration": {
        "registration_cpu": "Registration of hips",
        "registration_cpu_capture": "Capture range",
        "registration_cpu_labels": "Labels that are off by a voxel",
        "registration_cpu_sdd": "A source distance that is off by 2 %",
        "registration_cpu_peers": "Peers",
        "registration_noise_cpu": "Hips at a lower dose",
        "registration_pa_cpu": "PA radiographs",
        "registration_pairs_cpu": "Two views of hips, and oblique and lateral ones",
        "registration_blades_cpu": "Hips behind blades, from other sides",
        "registration_real_cpu": "Calibrated biplane radiographs of the wrist",
        "registration_solids_cpu": "Drawn bones of many kinds and sizes",
        "verdict_fit_cpu": "The fit of the verdicts of single bones",
    },
    "segmentation": {
        "segmentation_cpu": "The network that comes with bmdkit",
        "segmentation_mended_cpu": "The same network and its limit on new CTs of the mended simulator",
        "segmentation_in_builds_cpu": "What a build accepts of its failures",
        "segmentation_cpu_cross": "From one anatomy to another",
        "segmentation_cpu_time": "512 x 512 x 200 voxels, before and after the folded network",
    },
    "rendering": {"drr_cpu": "DRRs on a processor"},
    "training": {
        "study_site_cpu": "The small study at one site",
        "study_mixed_cpu": "The small study at sites that differ",
        "study_long_cpu": "800 patients of one site at 256 x 128",
        "learning_curve_cpu": "By patients and by steps, at 256 x 128",
        "study_hierarchical_cpu": "Hierarchical learning, U-Net and ResNet",
        "study_backbones_cpu": "Hierarchical learning, HRNetV2-W18, DAFormer, HRFormer-T and a ResNet",
        "study_cpu_demo": "The study of the demo",
        "study_unpaired": "Stage two without a registration",
        "key_points_cpu": "Key points",
        "study_transfer_cpu": "From a pre-trained network to another anatomy",
        "study_transfer_twins_cpu": "From a pre-trained network to another simulator and anatomy",
        "built_pairs_cpu": "What learning from built pairs costs",
        "border_effect_cpu": "What the border of a pair costs",
        "unseen_anatomy_cpu": "Anatomy that was not seen, in another simulator",
        "other_simulator_cpu": "The package's networks in another simulator",
        "other_simulator_more_cpu": "The package's networks on two more cohorts of another simulator",
        "other_simulator_third_cpu": "The package's networks on a third pair of cohorts of another simulator",
        "fine_tuning_cpu": "Fine-tuned on patients of another simulator",
        "fine_tuning_more_cpu": "Fine-tuned on patients of two more cohorts of another simulator",
        "quality_flag_cpu": "The quality flag in another simulator",
        "training_cpu": "Speed of a training, HRFormer-T",
        "training_unet_cpu": "Speed of a training, the U-Net of the small study",
    },
    "builds": {
        "ct_stage_cpu": "The CT of a patient, its segmentation apart",
        "faults": "Kills, faults, and what safety costs",
        "build_cpu": "A build",
        "build_scaling_cpu": "How a build grows with jobs, workers and patients",
        "pairs_cpu": "Simulated pairs by stage",
    },
}
"""Page -> file of figures -> its title. A file may be absent: it is then not measured."""


def write_page(kept: Sequence[Figures], titles: Mapping[str, str], by_hand: str) -> str:
    """A page: what is written by hand, then every measurement.

    Args:
        kept: Its measurements.
        titles: Title of each, by name.
        by_hand: What stands above the mark.
    """
    lines = [by_hand.rstrip(), "", MARK, "", "## All figures"]
    for figures in kept:
        lines += ["", f"### {titles[figures.name]}", "", *write_origin(figures)]
        for table in figures.tables():
            lines += ["", *write_markdown(table)]
    absent = [name for name in titles if name not in {figures.name for figures in kept}]
    if absent:
        lines += ["", "Not measured: " + ", ".join(titles[name] for name in absent) + "."]
    return "\n".join(lines) + "\n"


def write_origin(figures: Figures) -> list[str]:
    """Where figures come from: file, command, machine, date, versions, and what was noted."""
    about = figures.about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    kept = f"`benchmarks/results/{figures.name}.json`"
    lines = [f"`{about['command']}` ({about['device']}; {about['date']}; {versions}; {kept})"]
    return lines + (["", f"Note: {about['note']}."] if "note" in about else [])


def write_index(kept: Mapping[str, Sequence[Figures]], by_hand: str) -> str:
    """The first page: every measurement with its command and date."""
    lines = [by_hand.rstrip(), "", MARK, "", "| page | what | command | date |", "|---|---|---|---|"]
    for page, measured in kept.items():
        for figures in measured:
            title, about = PAGES[page][figures.name], figures.about
            lines.append(f"| [{page}]({page}.md) | {title} | `{about['command']}` | {about['date']} |")
    return "\n".join(lines) + "\n"


def write_all() -> dict[Path, str]:
    """Every page by its path, with what it should hold.

    Raises:
        ValueError: A file of figures has no page.
    """
    named = {name for titles in PAGES.values() for name in titles}
    present = {path.stem: path for path in list_kept()}
    if lost := sorted(present.keys() - named):
        raise ValueError(f"PAGES names no page of {', '.join(lost)}")
    kept = {
        page: [Figures.read(RESULTS / f"{name}.json") for name in titles if name in present]
        for page, titles in PAGES.items()
    }
    pages = {FOLDER / "index.md": write_index(kept, read_by_hand(FOLDER / "index.md"))}
    for page, titles in PAGES.items():
        path = FOLDER / f"{page}.md"
        pages[path] = write_page(kept[page], titles, read_by_hand(path))
    return pages


def read_by_hand(path: Path) -> str:
    """What a page says above its mark."""
    return path.read_text(encoding="utf-8").partition(MARK)[0]


def main() -> None:
    """Write all pages."""
    for path, text in write_all().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

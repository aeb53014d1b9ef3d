"""The report: well formed, self-contained, escaped, complete, and the same bytes each time."""

import csv
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from bmdkit.errors import CODES, PreflightError
from bmdkit.inference.colour_bar import find_ticks
from bmdkit.io.results import read_csv, write_csv, write_json
from bmdkit.report import charts, pages
from bmdkit.report.built import BuiltCase, read_built
from bmdkit.report.methods_text import write_methods
from bmdkit.segmentation.failures import ROC

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Outline(HTMLParser):
    """Checks nesting, and gathers what a page refers to and says."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.links, self.tags, self.text = [], [], [], [], []
        self.policy = ""

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [attributes[name] for name in ("src", "srcset", "data", "poster") if name in attributes]
        self.links += [attributes["href"]] if "href" in attributes else []
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag == "img":
            assert attributes.get("alt")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(built):
    index = pages.write_report(built)
    assert index == built / "report" / "index.html"
    return {path.name: path.read_text(encoding="utf-8") for path in index.parent.iterdir()}


def parse(page):
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


def test_there_is_a_page_for_every_case(report):
    assert set(report) == {"index.html", "p01.html", "p02.html", "q1.html", "q2.html"}
    links = parse(report["index.html"]).links
    assert {name for name in report if name != "index.html"} <= set(links)


def test_pages_are_well_formed_and_load_nothing(report):
    for page in report.values():
        outline = parse(page)
        assert not {"link", "iframe", "object", "embed", "base", "form"} & set(outline.tags)
        assert all(re.match(r"data:image/(png|jpeg|svg\+xml);base64,", source) for source in outline.sources)
        assert all(link in report or f'id="{link[1:]}"' in page for link in outline.links)
        assert "url(" not in page
        assert "@import" not in page


def test_the_policy_admits_the_page_s_own_style_and_script_and_nothing_else(report):
    import base64

    for name, page in report.items():
        style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = parse(page).policy
        assert "default-src 'none'" in policy
        assert f"style-src 'sha256-{digest}'" in policy
        assert "unsafe" not in policy
        scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
        assert page.count("<script") == len(scripts) == (3 if name == "index.html" else 2)
        for script in scripts:
            assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


def test_markup_of_the_cohort_is_shown_as_text(report):
    for name in ("p01.html", "q1.html", "index.html"):
        assert "<script>alert" not in report[name]
    assert "&lt;script&gt;alert" in report["p01.html"]  # a carried column
    assert "&lt;script&gt;alert" in report["index.html"]  # a reason


def test_every_code_comes_with_its_remedy(report):
    for page in report.values():
        text = " ".join(parse(page).text)
        for code in set(re.findall(r"BMD-[A-Z]+-\d{3}", text)):
            if f'<td class="code" rowspan="1">{code}' in page and page.count(code) == 1:
                continue
            assert CODES[code].remedy in text
    assert "BMD-CAL-001" in report["index.html"]
    assert "BMD-RUN-002" in report["q2.html"]


def test_every_heading_of_a_table_says_what_it_heads(report):
    for page in report.values():
        assert re.findall(r"<th(?! scope=)[ >]", page) == []


def test_every_control_has_a_label(report):
    for page in report.values():
        named = set(re.findall(r'<label for="([^"]+)"', page))
        assert set(re.findall(r'<input[^>]* id="([^"]+)"', page)) == named
        identifiers = re.findall(r' id="([^"]+)"', page)
        assert len(identifiers) == len(set(identifiers))


def relative_luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_of_text_can_be_read(report):
    """WCAG 2.1, 1.4.3: at least 4.5 between the colours of text and white, whichever is which."""
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", report["index.html"]))
    for name in ("ink", "muted", "accent", "good", "fair", "bad"):
        assert 1.05 / (relative_luminance(colours[name]) + 0.05) >= 4.5, name
    soft = relative_luminance(colours["soft"]) + 0.05
    assert soft / (relative_luminance(colours["ink"]) + 0.05) >= 4.5


def test_the_paragraph_for_methods_says_how_it_was_built(report, built):
    about = json.loads((built / "dataset.json").read_text(encoding="utf-8"))
    text = " ".join(parse(report["index.html"]).text)
    assert f"built with bmdkit {about['bmdkit']}" in text
    assert "from 4 patients" in text


def test_the_paragraph_cites_what_it_names():
    about = {
        "bmdkit": "1.2",
        "libraries": {"numpy": "2", "cma": "4"},
        "image": {"rows": 512, "columns": 256},
        "citation": "Gu et al. 2023",
        "configuration": {
            "calibration": {"mode": "phantom"},
            "segmentation": {"source": "totalsegmentator"},
            "registration": {"similarity": "patch_gc"},
            "folds": 5,
            "seed": 3,
        },
    }
    text = write_methods(about, patients=2, pairs=[{"patient_id": "a", "side": "L"}, {"patient_id": "a", "side": "L"}])
    assert "from 2 patients: 2 pairs of 1 hips." in text
    assert "5 folds (seed 3)" in text
    assert "cma 4, numpy 2" in text
    for reference in ("10.1109/TMI.2011.2176555", "10.1148/ryai.230024", "Gu et al. 2023"):
        assert reference in text
    assert "Hiasa" not in text


def test_numbers_carry_their_units(report, built):
    page = " ".join(parse(report["p01.html"]).text)
    row = read_built(built).rows[0]
    assert f"{float(row['qct_bmd_mg_cm3']):.1f}" in page
    assert f"{float(row['ct_abmd_g_cm2']):.3f}" in page
    assert "mg/cm³" in page
    assert "g/cm²" in page
    assert "1100.0 mm" in page


def test_a_case_page_shows_every_picture(report):
    outline = parse(report["p01.html"])
    # calibration line, rods, three planes per hip; per radiograph an overlay, and of each hip one picture of the pairs
    # and two to flicker
    assert outline.tags.count("img") == 2 + 2 + 2 * (1 + 2 * 3)
    assert "is missing or damaged" not in report["p01.html"]


def test_labels_by_a_network_come_with_the_curve_of_its_failures(write, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    curve = {"threshold": [0.0, 0.02, 1.0], "sensitivity": [1.0, 0.9, 0.0], "specificity": [0.0, 0.95, 1.0]}
    measured = {"threshold": 0.02, "sensitivity": 0.9, "specificity": 0.95, "auroc": 0.97, "failed_below_dice": 0.9}
    write_json(model / ROC, measured | {"structures": 60, "failed": 20, "curve": curve})
    root = write(tmp_path / "built", patients=1)
    assert "Labels by the network" not in pages.write_report(root).read_text(encoding="utf-8")
    about = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    write_json(root / "dataset.json", about | {"configuration": {"segmentation": {"model": str(model)}}})
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    write_csv(root / "manifest.csv", [row | {"segmentation_uncertainty": 0.004} for row in rows], list(rows[0]))
    index = pages.write_report(root).read_text(encoding="utf-8")
    assert "Labels by the network" in index
    assert "How uncertainty tells failed labels" in index


def test_the_same_dataset_gives_the_same_bytes(report, built):
    pages.write_report(built)
    assert {path.name: path.read_text(encoding="utf-8") for path in (built / "report").iterdir()} == report


def test_a_damaged_file_leaves_a_note_and_the_page(built, tmp_path):
    copy = shutil.copytree(built, tmp_path / "copy")
    shutil.rmtree(copy / "report", ignore_errors=True)
    (copy / "cases" / "p01" / "qc" / "labels_L.png").write_bytes(b"no image")
    (copy / "cases" / "p01" / "qc" / "overlay_supine.png").unlink()
    (copy / "dataset_a" / "p01__supine__L" / "drr.tif").write_bytes(b"II")
    (copy / "report").mkdir()
    (copy / "report" / "gone.html").write_text("a case of an earlier build")
    pages.write_report(copy)
    page = (copy / "report" / "p01.html").read_text(encoding="utf-8")
    parse(page)
    assert page.count("is missing or damaged") == 3
    assert not (copy / "report" / "gone.html").exists()


def test_an_unfinished_build_has_a_report_too(built, tmp_path):
    shutil.copytree(built / "cases" / "p01", tmp_path / "cases" / "p01")
    index = pages.write_report(tmp_path)
    assert "p01.html" in index.read_text(encoding="utf-8")
    with pytest.raises(PreflightError, match="BMD-RUN-035"):
        pages.write_report(tmp_path / "cases")


def test_a_patient_named_index_does_not_replace_the_index():
    assert pages.page_name("index") != "index.html"
    assert pages.page_name("Index") != "Index.html"
    assert pages.page_name("p01") == "p01.html"


def test_the_worst_word_is_the_verdict_of_a_case(tmp_path):
    rows = ({"status": "ok", "verdict": "accept"}, {"status": "ok", "verdict": "review"})
    assert BuiltCase("p", tmp_path, rows, ()).verdict == "review"
    assert BuiltCase("p", tmp_path, (*rows, {"status": "failed", "verdict": ""}), ()).verdict == "partial"
    assert BuiltCase("p", tmp_path, ({"status": "failed", "verdict": ""},), ()).verdict == "failed"


def test_numbers_that_are_not_there_are_a_dash():
    assert pages.number_text("") == "–"
    assert pages.number_text(None) == "–"
    assert pages.number_text(float("nan")) == "–"
    assert pages.number_text("-1.25", 1) == "−1.2"


@pytest.mark.parametrize("peak", [0.001, 0.13, 0.99, 1.0, 1.3, 2.2, 4.04, 9.9])
def test_ticks_are_few_and_within_the_scale(peak):
    found = find_ticks(peak)
    assert 4 <= len(found) <= 9
    assert found[0] == 0
    assert found[-1] <= peak * (1 + 1e-6)


def test_points_far_from_the_line_are_found_and_no_others():
    x = np.linspace(0, 1, 40)
    y = 2 * x + 0.01 * np.sin(40 * x)
    y[7], x[20] = y[7] + 0.4, np.nan
    assert charts.find_far(x, y) == [7]
    assert charts.find_far(x[:9], y[:9]) == []
    assert charts.find_far(np.ones(20), np.arange(20.0)) == []


def test_outliers_are_named_and_lead_to_their_case(write, tmp_path):
    root = write(tmp_path, patients=4)
    rows = read_csv(root / "manifest.csv")
    for row in rows:
        if row["pair_id"] == "p03__supine__R":
            row["dxa_bmd_g_cm2"] = str(float(row["dxa_bmd_g_cm2"]) + 0.5)
    write_csv(root / "manifest.csv", rows, list(rows[0]))
    page = pages.write_report(root).read_text(encoding="utf-8")
    parse(page)
    captions = re.findall(r"<figcaption>Far from the line: (.*?)</figcaption>", page)
    assert captions[0].startswith('<a href="p03.html">p03 R supine</a>')

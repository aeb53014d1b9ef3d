"""Fixtures that several folders of tests share."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_samples import body_hu, hip_image, write_ct, write_dx
from drawn_hips import write_dataset
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
FIGURES = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", metavar="FILE", help="Write what tests counted to FILE, JSON: name -> number.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = {}
    # on a busy machine any example may take long: no result depends on a clock
    settings.register_profile("bmdkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("bmdkit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of few tests first: a long test that begins last would keep a single process busy at the end."""
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (counts[item.path], str(item.path)))  # stable: within a file the order stays


@pytest.fixture(autouse=True)
def _undisturbed_logging() -> None:
    """Each test begins with the package's loggers as an import leaves them: commands and MONAI set logging up anew."""
    logging.disable(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "bmdkit" and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate, logger.handlers[:] = False, True, []
            logger.setLevel(logging.NOTSET)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """What the tests counted, as a table and, if asked for, added to a file."""
    figures = config.stash[FIGURES]
    for name, value in figures.items():
        terminalreporter.write_line(f"{name:70s} {value:g}")
    if config.getoption("figures") and figures:
        path = Path(config.getoption("figures"))
        path.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(before | figures, indent=1) + "\n", encoding="utf-8")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Write down what a test counted, for the table at the end.

    It is called with a name and a number. What several tests count under one name is combined, by `sum` or by the
    function that is given as a third argument.
    """
    figures = request.config.stash[FIGURES]

    def write_down(name: str, value: float, combined: Callable[[list[float]], float] = sum) -> None:
        figures[name] = combined([*([figures[name]] if name in figures else []), value])

    return write_down


@pytest.fixture(scope="session")
def network_device() -> str:
    """The GPU; the CPU where Triton's interpreter stands in for one; the test is skipped where there is neither."""
    import torch

    from bmdkit.core.device import is_interpreted

    if not torch.cuda.is_available() and not is_interpreted():
        pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1 in its place")
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def kernel_device(network_device: str) -> str:
    """Name of the device that rendering kernels run on, the interpreter included."""
    pytest.importorskip("triton", reason="the kernels need triton")
    return "cuda"


@pytest.fixture
def shared() -> Path:
    """The folder of measured data and tools beside the project; the test is skipped where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the project")
    return folder


@pytest.fixture
def ct_folder(tmp_path: Path) -> Path:
    """A tiny asymmetric DICOM CT: 12 slices of 40 x 48, bone on the patient's left, in front and above the middle."""
    return write_ct(tmp_path / "ct", body_hu())


@pytest.fixture
def dx_file(tmp_path: Path) -> Path:
    """A tiny asymmetric DICOM DX, 96 x 120, brighter = denser, 0.5 mm, SDD 1100 mm."""
    return write_dx(tmp_path / "xray.dcm", hip_image())


@pytest.fixture(scope="session")
def hips(tmp_path_factory):
    """Five patients, two radiographs each; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("hips"))


@pytest.fixture(scope="session")
def decomposition_run(hips, tmp_path_factory) -> Path:
    """A finished decomposition of dataset B of `hips`, seconds of training, fold 0 held out; not to be changed."""
    from bmdkit.config import load
    from bmdkit.training.decomposition import train_decomposition
    from bmdkit.training.settings import DecompositionConfig

    folder = tmp_path_factory.mktemp("runs") / "decomposition" / "seed0"
    settings = load(DecompositionConfig, recipe=ROOT / "pipelines/train/test.yaml", flags={"dataset": "B", "fold": 0})
    train_decomposition(hips, folder, settings, device="cpu")
    return folder


@pytest.fixture
def own_hips(tmp_path):
    """The same, to be changed."""
    return write_dataset(tmp_path / "hips")


@pytest.fixture(scope="session")
def sample_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort that pages and docstrings speak of: `bmdkit simulate cohort --patients 1 --poses standing`."""
    from bmdkit.simulation.simulated_cohort import simulate

    folder = tmp_path_factory.mktemp("pages") / "cohort"
    simulate(folder, recipe={"patients": 1, "poses": ["standing"]})
    return folder

"""One meaning of --device, for every command."""

import pytest

from bmdkit.core import device as module
from bmdkit.core.device import check_device_name, resolve_device
from bmdkit.errors import PreflightError


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs, with or without Triton."""

    def make(gpus: int, triton: bool = True) -> None:
        monkeypatch.setattr(module, "count_gpus", lambda: gpus)
        monkeypatch.setattr(module, "find_spec", lambda name: name if triton else None)
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    return make


@pytest.mark.parametrize(("gpus", "triton", "expected"), [(1, True, "cuda"), (0, True, "cpu"), (2, False, "cpu")])
@pytest.mark.parametrize("renders", [True, False])
def test_auto_is_the_gpu_where_it_can_be_used_else_the_cpu(machine, gpus, triton, expected, renders):
    machine(gpus, triton)
    assert resolve_device("auto", renders=renders) == expected


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1"])
def test_a_device_that_is_there_is_itself(machine, name):
    machine(2)
    assert resolve_device(name) == resolve_device(name, renders=True) == name


@pytest.mark.parametrize(
    ("gpus", "name", "renders", "code"),
    [
        (0, "cuda", False, "BMD-TRN-010"),
        (0, "cuda", True, "BMD-DRR-001"),
        (1, "cuda:1", False, "BMD-TRN-010"),
        (1, "cuda:7", True, "BMD-DRR-001"),
    ],
)
def test_a_device_that_is_not_there_is_told_before_the_work(machine, gpus, name, renders, code):
    machine(gpus)
    with pytest.raises(PreflightError) as told:
        resolve_device(name, renders=renders)
    assert (told.value.code, told.value.exit_code) == (code, 4)
    assert f"{gpus} CUDA devices" in told.value.message


def test_a_gpu_that_is_named_needs_triton_to_render_and_not_to_train(machine):
    machine(1, triton=False)
    assert resolve_device("cuda") == "cuda"
    with pytest.raises(PreflightError, match="triton is not installed"):
        resolve_device("cuda", renders=True)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "cuda:1 ", ""])
def test_no_other_word_is_a_device(name):
    with pytest.raises(ValueError, match="expected auto, cpu or cuda"):
        check_device_name(name)

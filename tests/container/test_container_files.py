"""The container's files without a container: what they copy is there, what they run exists, and both say the same."""

from __future__ import annotations

import configparser
import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "container/install.sh"
INSTRUCTIONS = {"FROM", "ARG", "LABEL", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
SECTIONS = {"arguments", "files", "post", "environment", "runscript", "test", "labels", "help"}
BASE = {"rm", "useradd", "apt-get", "cat", "echo", "exit"}
"""Commands of Debian's smallest system, and of the shell."""


def read_dockerfile() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    stages: list[list[tuple[str, str]]] = []
    for word, rest in lines:
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def read_definition() -> dict[str, list[str]]:
    """The lines of each section of the Apptainer definition."""
    sections: dict[str, list[str]] = {"": []}
    name = ""
    for line in (ROOT / "container/bmdkit.def").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:]
            sections[name] = []
        elif line.strip() and not line.startswith("#"):
            sections[name].append(line.strip())
    return sections


def find_all(word: str) -> list[str]:
    return [rest for stage in read_dockerfile() for name, rest in stage if name == word]


def list_copies() -> dict[str, str]:
    """Copied from the checkout: source -> target of the Dockerfile."""
    copies = {}
    for rest in find_all("COPY"):
        words = rest.split()
        if not words[0].startswith("--from"):
            *sources, target = words
            for source in sources:
                copies[source] = target + Path(source).name if target.endswith("/") else target
    return copies


def test_every_instruction_and_section_is_known():
    assert {name for stage in read_dockerfile() for name, _ in stage} <= INSTRUCTIONS
    assert read_definition().keys() - {""} == SECTIONS


def test_what_is_copied_is_there_and_not_ignored():
    copies = list_copies()
    assert {"bmdkit", "pipelines", "container/install.sh"} < set(copies)
    assert [source for source in copies if not (ROOT / source).exists()] == []
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(kept) == sorted(copies)
    assert dict(line.split() for line in read_definition()["files"]) == copies


def test_both_files_have_the_same_base_arguments_and_environment():
    definition = read_definition()
    first = find_all("FROM")[0].split()[0]
    assert definition[""] == ["Bootstrap: docker", f"From: {first}"]
    assert {rest.split()[0] for rest in find_all("FROM")} == {first}
    arguments = dict(rest.replace('"', "").split("=") for rest in find_all("ARG"))
    assert dict(line.split("=") for line in definition["arguments"]) == arguments
    ours = dict(word.split("=", 1) for rest in find_all("ENV") for word in shlex.split(rest))
    theirs = dict(word.split("=", 1) for line in definition["environment"] for word in shlex.split(line)[1:])
    assert theirs == {name: value for name, value in ours.items() if not name.startswith("NVIDIA")}


def test_every_argument_that_is_used_is_declared_in_its_stage():
    for stage in read_dockerfile():
        declared = {rest.split("=")[0] for name, rest in stage if name == "ARG"}
        used = {word for name, rest in stage if name == "RUN" for word in re.findall(r"\$(\w+)", rest)}
        assert used <= declared
    text = " ".join(read_definition()["post"])
    assert set(re.findall(r"{{ (\w+) }}", text)) == {line.split("=")[0] for line in read_definition()["arguments"]}


def test_the_steps_are_those_of_one_script_and_of_the_base():
    runs = [part.strip() for rest in find_all("RUN") for part in rest.split("&&")]
    for step in [*runs, *read_definition()["post"]]:
        command, *words = shlex.split(step)
        assert command in BASE | {"/install.sh"}
        if command == "/install.sh":
            assert (words[0], len(words)) in {("system", 2), ("package", 5)}


def test_it_runs_as_an_ordinary_user_and_its_command_is_bmdkit():
    last = read_dockerfile()[-1]
    assert [rest for name, rest in last if name == "USER"] == ["bmdkit"]
    names = [name for name, _ in last]
    assert "RUN" not in names[names.index("USER") :]
    assert find_all("ENTRYPOINT") == ['["bmdkit"]']
    assert read_definition()["runscript"] == ['exec bmdkit "$@"']


def test_the_extras_exist_and_the_constraints_pin_torch():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    (extras,) = (rest for rest in find_all("ARG") if rest.startswith("EXTRAS"))
    assert set(extras.partition("=")[2].strip('"').split(",")) <= set(parser["options.extras_require"])
    assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    installs = [line for line in INSTALL.read_text().splitlines() if line.strip().startswith("pip install")]
    assert len(installs) == 2
    assert all('-c "$source/constraints.txt"' in line for line in installs)


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
@pytest.mark.parametrize(
    ("words", "message"),
    [(["system", "tpu"], "expected cpu or gpu, got tpu"), (["all", "cpu"], "expected system or package, got all")],
)
def test_a_mistyped_step_is_refused(words, message):
    done = subprocess.run(["sh", str(INSTALL), *words], check=False, capture_output=True, text=True)
    assert (done.returncode, message in done.stderr) == (2, True)


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_the_script_parses_to_its_end():
    subprocess.run(["sh", "-n", str(INSTALL)], check=True)


@pytest.mark.slow
def test_what_is_copied_is_enough_for_the_package(tmp_path):
    source = tmp_path / "source"
    for name in (name for name in list_copies() if not name.startswith("container")):
        ignored = shutil.ignore_patterns("__pycache__")
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    assert fnmatch.filter([path.name for path in tmp_path.iterdir()], "bmdkit-*.whl")


@pytest.mark.slow
def test_the_image_builds(tmp_path):
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no docker that runs")
    subprocess.run(["docker", "build", "-t", "bmdkit:test", str(ROOT)], check=True)
    run = ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "bmdkit:test"]
    assert "bmdkit, version" in subprocess.run([*run, "--version"], check=True, capture_output=True, text=True).stdout
    subprocess.run([*run, "doctor"], check=True)

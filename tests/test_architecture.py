"""The rooms of docs/architecture.md: imports run downwards only, and the core stands without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import crispen

PACKAGE = Path(crispen.__file__).parent

FLOORS = [
    {"errors"},
    {"files"},
    {"images", "tiling"},
    {"zoo"},
    {"networks"},
    {"runtimes"},
    {"upscaling", "export"},
    {"films"},
    {"jobs"},
    {"evaluation"},
    {"training"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
WITHOUT_EXTRAS = BLOCK.format(blocked={"torch", "PIL", "onnx", "onnxruntime", "scipy", "av"})


def imports(file: Path) -> Iterator[str]:
    """The rooms that a file imports from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "crispen":
            yield from (alias.name for alias in node.names if alias.name in FLOOR)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("crispen."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("crispen."))


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_file_is_in_a_room() -> None:
    rooms = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == set(FLOOR)


def test_imports_run_downwards_only() -> None:
    upward: list[str] = []
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        upward += [
            f"{file.relative_to(PACKAGE)} imports {other}"
            for other in imports(file)
            if other != room and FLOOR[other] >= FLOOR[room]
        ]
    assert not upward


def test_the_core_works_without_any_extra() -> None:
    code = WITHOUT_EXTRAS + (
        "import numpy, crispen, crispen.cli, crispen.evaluation, crispen.upscaling, crispen.runtimes.openvino\n"
        "assert crispen.resize(numpy.zeros((8, 8), 'uint8'), 0.25).shape == (2, 2)\n"
        "crispen.models()\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_importing_crispen_is_light() -> None:
    heavy = "{'numpy', 'torch', 'openvino', 'pyvips', 'typer', 'rich', 'pydantic', 'PIL'}"
    result = run(f"import sys, crispen; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)")
    assert result.returncode == 0, result.stderr


def test_a_missing_extra_is_one_sentence_that_names_it() -> None:
    for command in ("train srresnet-x4 --data .", "export weights.safetensors folder"):
        arguments = ["crispen", *command.split()]
        result = run(
            WITHOUT_EXTRAS + f"import sys; sys.argv = {arguments}\nfrom crispen.cli import main; main()"
        )
        assert result.returncode == 1
        assert "pip install 'crispen[train]'" in result.stderr
        assert result.stderr.count("\n") == 1


def test_public_names_exist_and_are_documented() -> None:
    for name in crispen.__all__:
        assert getattr(crispen, name).__doc__ or name == "__version__"

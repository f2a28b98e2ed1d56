"""The house rules that a machine can check: who may import whom, what is never done, and how long a file may be."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"modelkit": 1, "trainers": 2, "evalkit": 2, "leaderboards": 3, "playground": 4, "app": 5}
LAZY = {"datasets", "evaluate", "pandas", "peft", "plotly"}
FROM_TRAINERS = ("trainers.data.", "trainers.plan.", "trainers.reading.", "trainers.recipe.")
DISTRIBUTIONS = {
    "google": "protobuf",
    "prometheus_client": "prometheus-client",
    "starlette": "gradio",
    "typing_extensions": "typing-extensions",
    "yaml": "PyYAML",
}
PICKLES = {"cloudpickle", "dill", "joblib", "pickle", "shelve"}
BANNED_NAMES = {"common.py", "helpers.py", "manager.py", "utils.py"}
LONGEST = 500

Import = tuple[Path, int, str, bool]
"""File, line, full name of what is imported, and whether the import runs as soon as the file is loaded."""


@cache
def sources() -> dict[Path, ast.Module]:
    """Every module of the packages, by its path in the repository."""
    files = [ROOT / "app.py", *(file for package in FLOORS for file in sorted((ROOT / package).rglob("*.py")))]
    return {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def imports() -> Iterator[Import]:
    """All imports of all modules; those under ``if TYPE_CHECKING`` never run."""
    for path, tree in sources().items():
        for statement in tree.body:
            yield from _imports(path, statement, runs=True)


def _imports(path: Path, node: ast.AST, runs: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from ((path, node.lineno, alias.name, runs) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # `evaluate` copies a metric's folder elsewhere and finds the files beside it by relative imports alone
        assert node.level == 0 or path.is_relative_to("evalkit/metrics"), f"{path}:{node.lineno}: a relative import; write the full name"
        module = ".".join(path.parent.parts) + f".{node.module}" if node.level else node.module
        yield from ((path, node.lineno, f"{module}.{alias.name}", runs) for alias in node.names)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in ast.iter_child_nodes(node):
            yield from _imports(path, child, runs=False)
    else:
        inside = runs and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from _imports(path, child, inside)


def package(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def top(name: str) -> str:
    return name.split(".")[0]


def test_imports_go_down_only() -> None:
    wrong = [
        f"{path}:{line}: {package(path)} imports {name}"
        for path, line, name, _ in imports()
        if top(name) in FLOORS and top(name) != package(path) and FLOORS[top(name)] >= FLOORS[package(path)]
    ]
    assert not wrong


def test_the_playground_takes_recipes_plans_and_data_from_the_trainers_but_not_their_loops() -> None:
    upper = [(f"{path}:{line}", name) for path, line, name, _ in imports() if package(path) in ("playground", "app")]
    taken = [(place, name) for place, name in upper if top(name) == "trainers"]
    assert not [(place, name) for place, name in taken if not f"{name}.".startswith(FROM_TRAINERS)]


def test_some_libraries_are_imported_in_one_place_only() -> None:
    def allowed(path: Path, library: str) -> bool:
        places = {
            "gradio": path == Path("app.py") or path.is_relative_to("playground/ui"),
            "typer": path.name == "cli.py",
            "click": path.name == "cli.py",
            "colossalai": path == Path("trainers/strategies/colossal.py"),
            "spaces": path == Path("playground/hosting/zero_gpu.py"),
        }
        return places.get(library, True)

    assert not [f"{path}:{line}: {name}" for path, line, name, _ in imports() if not allowed(path, top(name))]


def test_heavy_libraries_are_imported_inside_functions() -> None:
    # modules of Hugging Face `evaluate` are loaded by it alone, from their path
    ours = [one for one in imports() if not one[0].is_relative_to("evalkit/metrics")]
    assert not [f"{path}:{line}: {name}" for path, line, name, runs in ours if runs and top(name) in LAZY]


def test_command_lines_answer_help_without_loading_torch() -> None:
    heavy = LAZY | {"gradio", "scipy", "torch", "transformers"}
    modules = {".".join(path.with_suffix("").parts): path for path in sources()}
    eager: dict[Path, set[str]] = {path: set() for path in sources()}
    for path, _, name, runs in imports():
        if runs:
            eager[path].add(name)

    def reached(path: Path, seen: set[Path]) -> Iterator[str]:
        seen.add(path)
        for name in eager[path]:
            if top(name) in heavy:
                yield f"{path}: {name}"
            for module in (name, name.rpartition(".")[0]):
                if module in modules and modules[module] not in seen:
                    yield from reached(modules[module], seen)

    assert not [found for path in sources() if path.name == "cli.py" for found in reached(path, set())]


def test_every_library_imported_is_required() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {re.split(r"[<>=!~\[ ]", line)[0].lower() for line in lines if line and not line.startswith(("#", "-"))}
    known = sys.stdlib_module_names | FLOORS.keys() | {"colossalai", "spaces"}
    wrong = [
        f"{path}:{line}: {name}"
        for path, line, name, _ in imports()
        if top(name) not in known and DISTRIBUTIONS.get(top(name), top(name)).lower() not in required
    ]
    assert not wrong


def test_nothing_is_unpickled_and_no_remote_code_is_trusted() -> None:
    wrong = [f"{path}:{line}: {name}" for path, line, name, _ in imports() if top(name) in PICKLES]
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if called in ("torch.load", "torch.save") or called.endswith(".read_pickle"):
                    wrong.append(f"{path}:{node.lineno}: {called}")
                if options.get("trust_remote_code", "False") != "False" or options.get("allow_pickle", "False") != "False":
                    wrong.append(f"{path}:{node.lineno}: {called}({options})")
    assert not wrong


def test_files_stay_short_and_are_named_for_what_they_do() -> None:
    files = [*sources(), *(file.relative_to(ROOT) for folder in ("tests", "benchmarks") for file in (ROOT / folder).rglob("*.py"))]
    assert not [file for file in files if file.name in BANNED_NAMES]
    assert not {file: length for file in files if (length := len((ROOT / file).read_text(encoding="utf-8").splitlines())) > LONGEST}

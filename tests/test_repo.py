"""Rules of the repository: doctests, import direction, packaging, sizes, README, Makefile."""

import ast
import doctest
import importlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from tercet.flow import cli

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "quant": set(),
    "hw": {"quant"},
    "sim": {"quant"},
    "flow": {"quant", "hw", "sim", "constraints"},
}
MODULES = [p for d in MAY_IMPORT for p in sorted((ROOT / d).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 400
# Inside the simulator only: they need cocotb's running scheduler.
BENCHES = "sim/benches"


def relative(path):
    return str(path.relative_to(ROOT))


def tracked():
    """Text files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in done.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


def imports(path):
    """(level, module or None, names) of every import statement of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_doctests(path):
    """--doctest-modules cannot import mapped packages, so run each module by name."""
    if relative(path).startswith(BENCHES):
        pytest.skip("imported inside the simulator only")
    name = ".".join(("tercet", *path.relative_to(ROOT).with_suffix("").parts))

    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_import_direction(path):
    """Relative imports that leave a package go only to packages below it."""
    package, *rest = path.relative_to(ROOT).parts
    for level, module, names in imports(path):
        if level == len(rest) + 1:
            targets = {module.split(".")[0]} if module else set(names)
            assert targets <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=relative)
def test_no_bare_folder_imports(path):
    """`import quant` works from the repository root but makes a second copy of every class."""
    found = {module.split(".")[0] for level, module, _ in imports(path) if level == 0}

    assert not found & {*MAY_IMPORT, "constraints"}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_torch_is_imported_inside_functions_only(path):
    """Estimates and campaigns do not pay for torch."""
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in getattr(node, "names", [])]
        module = getattr(node, "module", None) or ""
        assert not any(name.split(".")[0] == "torch" for name in [*names, module])


def test_every_package_is_in_the_wheel():
    """A package missing from the list works from a checkout and is lost from the wheel."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(("tercet", *init.parent.relative_to(ROOT).parts))
        for folder in (*MAY_IMPORT, "constraints")
        for init in (ROOT / folder).rglob("__init__.py")
    }

    assert found == set(config["tool"]["setuptools"]["packages"])


def test_every_folder_with_modules_is_a_package():
    assert {path.parent / "__init__.py" for path in MODULES} <= set(MODULES)


def test_data_files_of_packages_are_in_the_wheel():
    """Only the kinds of files that pyproject.toml lists reach the wheel."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for path in tracked():
        folder, *_ = path.relative_to(ROOT).parts
        if folder in (*MAY_IMPORT, "constraints") and path.suffix != ".py":
            home = next(p for p in path.parents if (p / "__init__.py").is_file())
            package = ".".join(("tercet", *home.relative_to(ROOT).parts))
            patterns = data["package-data"].get(package, []) + data["package-data"]["*"]
            assert any(path in home.glob(pattern) for pattern in patterns), path


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=relative)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_nothing_names_a_machine_or_a_registry():
    """No absolute path of somebody's disk, no package index."""
    machine = re.compile(r"(?<![\w.])/(home|root|Users|work)/\w")
    registry = re.compile(r"(index-url|find-links|https?://[^ ]*/simple)|files\.python" + "hosted")
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not machine.search(text), path
        assert path == Path(__file__) or not registry.search(text), path


def test_nothing_is_left_to_do():
    """No stub and no leftover in the sources."""
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|NotImplemented" + r"Error)\b")
    for path in MODULES:
        assert not marks.search(path.read_text()), path


def readme_commands():
    """The indented `tercet` lines of the README, without the remarks beside them."""
    lines = (ROOT / "README.md").read_text().splitlines()
    return [re.split(r" {3,}", x.strip())[0] for x in lines if x.startswith("    tercet ")]


@pytest.mark.parametrize("command", readme_commands())
def test_readme_commands_are_understood(command):
    args = cli.parser().parse_args(shlex.split(command)[1:])

    assert callable(args.run)


def test_readme_shows_every_command():
    shown = {command.split()[1] for command in readme_commands()}

    assert shown == set(cli.COMMANDS)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    names = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text()))
    names |= set(re.findall(r"`make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text()))

    assert names >= {"demo", "test"}
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in names)


def test_links_between_documents_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path.name}: {link}"

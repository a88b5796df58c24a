"""The museum: its tables are those of the READMEs, and every program does what they say, elsewhere and here."""

import importlib.util
import sys
from pathlib import Path

import pytest

import tinygrad_vae as tg

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples" / "museum"))
import exhibit  # noqa: E402

spec = importlib.util.spec_from_file_location("museum", ROOT / "examples" / "museum" / "__main__.py")
museum = importlib.util.module_from_spec(spec)
spec.loader.exec_module(museum)
sys.path.pop(0)

DRAWS = 400_000
EXHIBITS = exhibit.EXHIBITS
every_exhibit = pytest.mark.parametrize("one", EXHIBITS, ids=[one.run.__name__ for one in EXHIBITS])


@every_exhibit
@pytest.mark.filterwarnings("ignore")  # those of other libraries
def test_the_number_that_is_handed_out_elsewhere(one):
    if not one.installed:
        pytest.skip(f"this program is {one.library}'s")
    found = exhibit.audit(one, DRAWS)
    assert found.agrees(one.gives), found
    assert not found.agrees(one.truth), found


@every_exhibit
def test_what_is_said_here(one):
    for said in (one.here, one.own):
        if said is not None:
            assert exhibit.disagreement(*said) == "", said[0]


@pytest.mark.parametrize(("page", "short"), [("README.md", True), ("examples/museum/README.md", False)])
def test_the_tables_are_those_of_the_exhibits(page, short):
    rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    table = exhibit.table([one for one in EXHIBITS if one.in_readme or not short])
    assert set(table.splitlines()) - {"|---|---|---|---|---|"} <= set(rows)
    assert "".join(f"{row}\n" for row in rows).count("PyTorch: ") == table.count("PyTorch: ")


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["museum", *arguments])
    return museum.main()


def test_an_exhibit_whose_library_is_missing_says_so(monkeypatch, capsys):
    monkeypatch.setitem(exhibit.MODULES, "PyTorch", "no_such_library")
    assert run(monkeypatch, "--only", "poisson", "--draws", "1000") == 0
    assert "skipped: PyTorch is not installed" in capsys.readouterr().out


def test_a_program_that_has_changed_is_an_error(monkeypatch, capsys):
    (one,) = (one for one in EXHIBITS if "mirrored" in one.program)
    assert run(monkeypatch, "--only", "mirrored", "--draws", "10000") == 0
    assert "would have been seen" in capsys.readouterr().out
    for changes in (
        {"gives": 7.0},
        {"here": ("`ValueError`", lambda: 1.0)},
        {"own": ("3", lambda: 4.0)},
    ):
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(one, name, value)
            assert run(patch, "--only", "mirrored", "--draws", "10000") == 1
            assert "CHANGED" in capsys.readouterr().out


def test_too_few_draws_decide_nothing(monkeypatch, capsys):
    assert run(monkeypatch, "--only", "running mean", "--draws", "1000") == 0
    assert "undecided" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--only", "no such program"), ("--draws", "10")])
def test_bad_arguments_are_refused(monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *arguments)
    assert arguments[0] in capsys.readouterr().err


def test_a_program_that_says_something_else_is_seen():
    x = tg.Tensor(1.0, "x")
    z = tg.Normal(x, 1.0).sample(rng=tg.noise(0))
    blocked = lambda: tg.gradients(z + x, x)  # noqa: E731
    assert exhibit.disagreement("`BlockedGradientError`: partly cut", blocked) == ""
    for says in ("`BlockedGradientError`: cut", "`InvalidGradientError`", "`BiasedGradientWarning`", "1"):
        assert exhibit.disagreement(says, blocked)

"""Every example runs from beginning to end, warnings taken for errors, and writes only where it is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", example],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "an example prints what it found"


def test_the_picture_of_the_readme_is_that_of_the_first_example(tmp_path):
    first, picture = EXAMPLES[0], tmp_path / "again.svg"
    subprocess.run([sys.executable, "-W", "error", first, picture], cwd=tmp_path, check=True, capture_output=True)
    assert picture.read_text(encoding="utf-8") == (first.parent / "why_backprop_stops.svg").read_text(encoding="utf-8")

"""A real browser, without a window, for the tests of pages."""

import contextlib
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def chromium():
    """Start Chromium for as long as the body takes; skip the test where it, or its driver, is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pages are looked at with playwright, from PyPI")
    if CHROMIUM is None:
        pytest.skip("pages are looked at in Chromium, which is not installed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()

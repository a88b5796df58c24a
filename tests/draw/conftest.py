"""A real browser for the tests of pages."""

import pytest
from chromium import chromium


@pytest.fixture(scope="package")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def tab(browser):
    """One tab for all pages: another one takes a process and a second to warm up."""
    return browser.new_page()


@pytest.fixture
def visit(tab):
    """Open a file; at the end nothing may have been said on the console, nor asked of a network."""
    said = []
    listeners = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "request": lambda request: said.append(request.url) if request.url.startswith("http") else None,
    }
    for event, listener in listeners.items():
        tab.on(event, listener)

    def open_file(path, width=1366, height=680, scheme="light", motion="reduce"):
        tab.set_viewport_size({"width": width, "height": height})
        tab.emulate_media(color_scheme=scheme, reduced_motion=motion)
        tab.goto(path.as_uri())
        return tab

    yield open_file
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert not said

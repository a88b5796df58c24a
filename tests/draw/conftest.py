"""A real browser for the tests of pages."""

import pytest
from chromium import chromium


@pytest.fixture(scope="package")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser):
    """Open a file; at the end nothing may have been said on the console, nor asked of a network."""
    said, contexts = [], []

    def open_file(path, width=1366, height=680, scheme="light", motion="reduce"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion=motion
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not said

"""The page to play with, in a real browser: backprop is stepped, and every control can be seen and used."""

import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.draw.labels import gradient_in_short
from tinygrad_vae.draw.picture import picture_of
from tinygrad_vae.draw.program import held, numbers_of

NASTY = "a<b> & \"c\" </script> \\ 'd' {{e}} μ"
TITLES = "sampled", "opened"


def blocked_cost():
    """A cost in which sigma is cut, mu partly cut and w open."""
    p = tg.wrap({"mu": 1.0, "sigma": 0.5, "w": 2.0})
    z = tg.Normal(p["mu"], p["sigma"]).sample(rng=tg.noise(3), name="z")
    return p["w"] * tg.square(z) + tg.exp(p["mu"]) / 2, p


def training_step():
    model = tg.wrap(tg.VAE.init(16, hidden=(8,), latent=2, rng=tg.noise(0)))
    x = (np.arange(80).reshape(5, 16) % 3 == 0).astype(np.float32)
    return -tg.mean(tg.elbo(model, x, rng=tg.noise(1))), model


@pytest.fixture(scope="module")
def file_of_two_graphs(tmp_path_factory):
    cost, p = blocked_cost()
    path = tmp_path_factory.mktemp("pages") / "page.html"
    tg.draw_side_by_side(cost, tg.reparameterize(cost), path, titles=TITLES, wrt=p)
    return path


@pytest.fixture
def two_graphs(file_of_two_graphs, visit):
    """The page with a blocked graph and its reparameterized one."""
    return visit(file_of_two_graphs)


def node(page, label):
    return page.locator("svg.graph:not([hidden]) .node", has=page.get_by_text(label, exact=True))


def texts(page, kind):
    """Return what stands in each box of the graph that is shown: the last text of a class, by label."""
    return dict(
        page.evaluate(
            """kind => [...document.querySelectorAll("svg.graph:not([hidden]) .node")].map((box) => [
                box.querySelector(".label").textContent, [...box.querySelectorAll(kind)].at(-1)?.textContent ?? ""])""",
            f".{kind}",
        )
    )


def says(page):
    return page.locator("#says").text_content()


def go_to_the_end(page):
    page.get_by_role("button", name="End", exact=True).click()


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("rewrite", [tg.reparameterize, tg.score_function])
def test_what_a_box_gets_is_the_sum_of_what_its_arrows_bring(rewrite):
    cost, p = blocked_cost()
    opened = rewrite(cost)
    picture = picture_of(opened, p)
    found = {slot: float(x.value) for slot, x in numbers_of(opened, picture, held([opened])).items()}
    checked = 0
    for i, box in enumerate(picture.boxes[:-1]):
        if box.arrives:
            parts = [found["part", e] for e, a in enumerate(picture.arrows) if ("part", e) in found and a.tail == i]
            assert sum(parts) == pytest.approx(found["gradient", i]), box.label
            checked += 1
    assert checked >= len(p)


# ------------------------------------------------------------------------------------------------ backprop


GREY = "rgb(154, 163, 173)"


def test_nothing_tells_the_result_before_it_is_reached(two_graphs):
    page = two_graphs
    lines = page.locator("svg.graph:not([hidden]) .arrow .line")
    assert set(lines.evaluate_all("lines => lines.map((x) => getComputedStyle(x).stroke)")) == {GREY}
    shapes = page.locator("svg.graph:not([hidden]) .node:not(.noise) .shape")
    assert set(shapes.evaluate_all("shapes => shapes.map((x) => getComputedStyle(x).stroke)")) == {GREY}
    assert set(texts(page, "gradient").values()) == {""}
    assert page.locator("svg.graph:not([hidden]) .mark").first.is_visible() is False
    assert set(page.locator(".fate").all_text_contents()) == {"no gradient yet"}
    seen = page.locator("#walk").inner_text() + " ".join(
        page.locator("svg.graph:not([hidden]) .node").evaluate_all("nodes => nodes.map((x) => x.ariaLabel)")
    )
    assert not re.search(r"\bcut\b|stops|arrives", seen)


def test_backprop_is_stepped_from_the_cost_to_where_it_stops(two_graphs):
    page = two_graphs
    order = []
    while "stops" not in says(page):
        page.keyboard.press("ArrowRight")
        order.append(says(page).partition(":")[0] if "cost" not in says(page)[:5] else "cost: +")
        shown = texts(page, "gradient")
        assert sum(text != "" for text in shown.values()) == len(order) + ("stops" in says(page))  # sigma's, at the end
        assert page.locator(".node.current").count() == 1
    assert order[0] == "cost: +"
    assert order[-1] == "z ~ Normal"
    assert set(order) >= {"mu", "w"}
    assert "sigma" not in order
    assert "Here backprop stops: a draw has a value and no derivative. Nothing goes back to mu and sigma." in says(page)
    end = page.locator(".node.current.end .shape")
    assert end.evaluate("shape => getComputedStyle(shape).stroke") == "rgb(209, 36, 47)"
    page.keyboard.press("ArrowLeft")
    assert "z ~ Normal" not in says(page)
    page.get_by_role("button", name="← Back").click()
    go_to_the_end(page)
    assert "stops" in says(page)
    page.get_by_role("button", name="Other graph →").click()
    assert page.get_by_role("radio", name="opened").is_checked()
    assert set(texts(page, "gradient").values()) == {""}
    go_to_the_end(page)
    assert "every parameter has its gradient" in says(page)
    page.get_by_role("button", name="Again ↺").click()
    assert set(texts(page, "gradient").values()) == {""}


def test_the_gradient_is_seen_to_run_against_the_arrows(two_graphs):
    page = two_graphs
    page.keyboard.press("ArrowRight")
    heads = page.evaluate(
        """() => [...document.querySelectorAll("svg.graph:not([hidden]) .arrow.passing")].map((arrow) => {
            const line = arrow.querySelector(".line"), tail = line.getPointAtLength(0);
            const at = [...arrow.parentNode.querySelectorAll(".back")].map((head) => head.getCTM().inverse()
                && head.transform.baseVal.consolidate().matrix);
            return Math.min(...at.map(({ e, f }) => Math.hypot(e - tail.x, f - tail.y)));
        })"""
    )
    assert len(heads) == 2
    assert max(heads) < 3  # a head at the far end of each arrow from the cost


def in_sight(page, locator):
    box, bar = locator.bounding_box(), page.locator("#bar")
    stuck = bar.bounding_box() if bar.evaluate("bar => getComputedStyle(bar).position") == "sticky" else None
    top = stuck["y"] + stuck["height"] if stuck else 0
    return box["y"] >= top - 1 and box["y"] + box["height"] <= page.viewport_size["height"] + 1


@pytest.mark.parametrize(("width", "height"), [(1366, 680), (390, 844)])
def test_the_node_in_question_is_in_sight_at_every_step(tmp_path, visit, width, height):
    cost, model = training_step()
    tg.draw(cost, tmp_path / "step.html", wrt=model)
    page = visit(tmp_path / "step.html", width=width, height=height)
    assert page.locator("svg.graph:not([hidden])").bounding_box()["height"] <= height  # fitted, although it is higher
    page.evaluate("scrollTo(0, 0)")
    for _ in range(len(texts(page, "value"))):
        page.keyboard.press("ArrowRight")
        if page.get_by_role("button", name="Other graph →").is_visible():
            break
        current = page.locator("svg.graph:not([hidden]) .node.current")
        assert in_sight(page, current), says(page)
        label = current.locator(".label").bounding_box()
        assert label["height"] > 9, "too small to be read"
    else:
        pytest.fail("the end was not reached")


def test_what_is_passed_on_is_said_and_written_beside_the_arrows(two_graphs):
    page = two_graphs
    page.get_by_role("radio", name="opened").check()
    for _ in range(len(texts(page, "value"))):
        page.get_by_role("button", name="Next →").click()
        passed = re.findall(r"(-?[\d.e+-]+) to ", says(page))
        assert sorted(page.locator(".part").all_text_contents()) == sorted(passed)
        if says(page).startswith("z (pathwise)"):
            assert "to mu" in says(page)
            return
    pytest.fail("backprop did not get to z")


def test_both_graphs_show_what_they_share_in_the_same_place(two_graphs):
    page = two_graphs
    places = []
    for name in TITLES:
        page.get_by_role("radio", name=name).check()
        corner = page.locator("svg.graph:not([hidden])").bounding_box()
        boxes = {label: node(page, label).bounding_box() for label in ("mu", "w", "cost: +")}
        places.append({k: (b["x"] + b["width"] / 2, b["y"] + b["height"] / 2 - corner["y"]) for k, b in boxes.items()})
    for label, place in places[0].items():
        assert place == pytest.approx(places[1][label], abs=1)


# ------------------------------------------------------------------------------------------------ a node


def test_a_node_tells_its_formula_its_numbers_and_the_line_of_the_draw(two_graphs):
    page = two_graphs
    about = page.get_by_role("region", name="The node in focus")
    node(page, "z ~ Normal").focus()
    assert "Normal(mu, sigma), drawn at test_draw_html.py" in about.text_content()
    assert '.sample(rng=tg.noise(3), name="z")' in about.text_content()
    node(page, "square").first.hover()
    assert re.search(r"square: x \* x. Derivative 2 x. \[tinygrad_vae/ops/\w+.py:\d+\]", about.text_content())
    assert about.locator("dt").all_text_contents() == ["value"]  # its gradient has not arrived
    go_to_the_end(page)
    node(page, "square").first.hover()
    value, gradient = about.locator("dd").all_text_contents()
    assert value == texts(page, "value")["square"]
    assert float(gradient)


# ------------------------------------------------------------------------------------------------ for everybody


NAME = """() => {
    const at = document.activeElement;
    return at.getAttribute("aria-label") || at.closest("label")?.textContent || at.textContent.trim();
}"""
HAS_RING = """() => {
    const at = document.activeElement, ring = (x) => getComputedStyle(x).outlineStyle !== "none";
    if (at.matches(".node")) return getComputedStyle(at.querySelector(".shape")).strokeWidth === "4px";
    return ring(at.closest("label") ?? at) || ring(at);
}"""


def test_everything_can_be_reached_and_used_by_keyboard(two_graphs):
    page = two_graphs
    reached, without_ring = [], []
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement !== document.body"):
        reached.append(page.evaluate(NAME))
        without_ring += [] if page.evaluate(HAS_RING) else [reached[-1]]
        page.keyboard.press("Tab")
    assert without_ring == []
    assert "" not in reached
    held = ["Hold the noise", "mu", "sigma", "Reset"]
    walked = ["sampled", "Start", "← Back", "Next →", "End"]
    played = ["mu", "sigma", "w", "Draw 1", "Draw 100", "Keep drawing", "Reset", "Shapes and colours"]
    compared = ["mu", "Draw 1", "Draw 100", "Keep drawing", "Let them roll", "Put them back"]
    read = ["core/gradients.py", "core/sample.py", "core/rewrite.py", "The trick in the library's own words"]
    nodes = [name.partition(",")[0] for name in texts(page, "value")]
    told = [name.partition(",")[0] for name in reached if not name.startswith("test_draw_html")]
    assert told == [*held, *walked, *nodes, *played, *compared, *read]
    slider = page.locator("#sliders").get_by_role("slider", name="mu")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert float(slider.input_value()) > 1
    page.get_by_role("radio", name="sampled").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="opened").is_checked()
    assert node(page, "z (pathwise)").is_visible()


def test_a_slider_says_its_value_and_the_gradient(two_graphs):
    slider = two_graphs.locator("#sliders").get_by_role("slider", name="sigma")
    assert slider.get_attribute("aria-valuetext") == "0.5, no gradient yet"
    go_to_the_end(two_graphs)
    assert slider.get_attribute("aria-valuetext") == "0.5, cut: no gradient"
    two_graphs.get_by_role("radio", name="opened").check()
    go_to_the_end(two_graphs)
    assert re.fullmatch(r"0\.5, gradient -?[\d.]+", slider.get_attribute("aria-valuetext"))


CONTRAST = """() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = (colour) => channels(colour).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const style = (x) => getComputedStyle(x);
    const ground = (x) => !x ? "rgb(255, 255, 255)"
        : /, 0\\)$/.test(style(x).backgroundColor) ? ground(x.parentElement) : style(x).backgroundColor;
    const seen = [...document.querySelectorAll("svg.graph:not([hidden]) .node text")].filter((t) => t.textContent)
        .map((t) => [t.textContent, ratio(style(t).fill, style(t.parentNode.querySelector(".shape")).fill)]);
    for (const t of document.querySelectorAll(".chart text"))
        if (t.textContent) seen.push([t.textContent, ratio(style(t).fill, ground(document.body))]);
    const plain = "h1, h2, h3, p, button:not([aria-disabled=true]), .choice label, .fate, .now, dt, dd, code, li";
    for (const t of document.querySelectorAll(plain))
        if (t.textContent) seen.push([t.textContent, ratio(style(t).color, ground(t))]);
    return seen;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(tmp_path, visit, scheme):
    cost, p = blocked_cost()
    tg.draw(cost, tmp_path / "page.html", wrt=p)
    page = visit(tmp_path / "page.html", scheme=scheme)
    for name in ("as it is", "reparameterize(cost)"):
        page.get_by_role("radio", name=name).check()
        go_to_the_end(page)
        page.locator("#why").get_by_role("button", name="Draw 100").click()
        seen = page.evaluate(CONTRAST)
        assert len(seen) > 40
        assert [(text, ratio) for text, ratio in seen if ratio < 4.5] == []  # WCAG 2.2, success criterion 1.4.3


# ------------------------------------------------------------------------------------------- other graphs


def test_a_training_step_fits_a_phone_and_can_be_drawn_again(tmp_path, visit):
    cost, model = training_step()
    tg.draw(cost, tmp_path / "page.html", wrt=model, title=f"{NASTY} {'long' * 40}")
    page = visit(tmp_path / "page.html", width=360)
    assert page.title() == page.get_by_role("heading", level=1).text_content() == f"{NASTY} {'long' * 40}"[:59] + "…"
    for name in ("as it is", "reparameterize(cost)"):
        page.get_by_role("radio", name=name).check()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#sliders").get_by_role("slider").count() == 0
    before = texts(page, "value")
    page.locator("#play").get_by_role("button", name="Draw 1", exact=True).click()
    after = texts(page, "value")
    changed = {label for label in before if before[label] != after[label]}
    assert {"noise", "decoder.layers.0"} < changed
    assert "encoder.layers.0" not in changed


def test_layers_are_one_box_each_until_they_are_opened(tmp_path, visit):
    cost, model = training_step()
    tg.draw(cost, tmp_path / "page.html", wrt=model)
    page = visit(tmp_path / "page.html")
    folded = texts(page, "value")
    assert "encoder.layers.0" in folded
    assert page.locator("#graphs").get_by_role("radio").count() == 2
    assert node(page, "encoder.layers.0").get_attribute("aria-label").endswith("a layer, Enter opens it")
    page.get_by_role("button", name="Open the layers").click()
    opened = texts(page, "value")
    assert {"encoder.layers.0.weight", "encoder.layers.0.bias", "linear", "relu"} <= opened.keys()
    assert "encoder.layers.0" not in opened
    go_to_the_end(page)
    assert re.fullmatch(r"only norm [\d.]+ arrives", texts(page, "gradient")["encoder.layers.0.weight"])
    page.get_by_role("radio", name="reparameterize(cost)").check()
    go_to_the_end(page)
    gradient = tg.gradients(tg.reparameterize(cost), model).encoder.layers[0].weight
    assert texts(page, "gradient")["encoder.layers.0.weight"] == (
        f"gradient {gradient_in_short(gradient).removeprefix('of ')}"
    )
    page.get_by_role("button", name="Fold the layers").click()
    assert texts(page, "value").keys() >= {"encoder.layers.0", "z (pathwise)"}
    node(page, "decoder.layers.0").focus()
    page.keyboard.press("Enter")
    assert "decoder.layers.0.weight" in texts(page, "value")
    assert page.get_by_role("button", name="Fold the layers").evaluate("button => button === document.activeElement")


def test_what_a_graph_does_not_need_is_not_shown(two_graphs, tmp_path, visit):
    assert not two_graphs.locator("#layers").is_visible()
    x = tg.Tensor(np.ones(3), "x")
    tg.draw(tg.exp(x), tmp_path / "page.html", wrt=x)
    page = visit(tmp_path / "page.html")
    for part in ("gesture", "play", "why", "graphs", "near"):
        assert not page.locator(f"#{part}").is_visible(), part


def test_names_are_text_and_nothing_else(tmp_path, visit):
    x = tg.Tensor(1.0, NASTY)
    tg.draw(tg.Normal(x, 1.0).sample(rng=tg.noise(0), name=NASTY) * x, tmp_path / "page.html", wrt=x, title=NASTY)
    page = visit(tmp_path / "page.html")
    assert page.title() == NASTY
    assert node(page, NASTY).count() == 1
    assert page.locator("#sliders").get_by_role("slider", name=NASTY).count() == 1
    go_to_the_end(page)
    assert says(page).startswith(f"{NASTY} ~ Normal: ")


def shown_gradients(cost, wrt, folder, visit):
    tg.draw(cost, folder / "page.html", wrt=wrt)
    page = visit(folder / "page.html")
    go_to_the_end(page)
    return {label: text for label, text in texts(page, "gradient").items() if text}, says(page)


def test_a_cost_without_a_gradient_is_stepped_in_words(tmp_path, visit):
    mu = tg.Tensor(np.ones(3), "mu")
    assert shown_gradients(tg.exp(mu), mu, tmp_path, visit) == ({"mu": "open"}, "mu: the gradient has arrived.")
    assert shown_gradients(tg.exp(mu), None, tmp_path, visit) == ({}, "mu: the gradient has arrived.")


def test_a_gradient_that_would_be_wrong_is_not_on_the_page(tmp_path, visit):
    low = tg.Tensor(0.0, "low")
    wrong = tg.score_function(tg.square(tg.Uniform(low, 1.0).sample(rng=tg.noise(0))))
    assert shown_gradients(wrong, low, tmp_path, visit)[0] == {"low": "refused: it would be wrong"}
    mu = tg.Tensor(0.3, "mu")
    step = tg.where(tg.Normal(mu, 1.0).rsample(rng=tg.noise(0), name="z") > 0, 1.0, 0.0)
    assert shown_gradients(step, mu, tmp_path, visit)[0]["mu"] == "cut: no gradient"


def test_a_blocked_graph_is_shown_with_one_that_opens_it(tmp_path, visit):
    p = tg.Tensor(0.3, "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    cost = (b - 0.45) ** 2
    tg.draw(cost, tmp_path / "page.html", wrt=p)
    page = visit(tmp_path / "page.html")
    go_to_the_end(page)
    assert "Here backprop stops" in says(page)
    page.get_by_role("radio", name="score_function(cost)").check()
    go_to_the_end(page)
    assert texts(page, "gradient")["p"] == f"gradient {tg.gradients(tg.score_function(cost), p):.4g}"


# ------------------------------------------------------------------------------------------------- the file


def test_the_same_graph_gives_the_same_page_and_it_needs_no_other_file(tmp_path):
    written = []
    for name in "ab":
        cost, p = blocked_cost()
        tg.draw(cost, tmp_path / f"{name}.html", wrt=p)
        written.append((tmp_path / f"{name}.html").read_text(encoding="utf-8"))
    assert written[0] == written[1]
    loaded = r"""(?:src|<link[^>]*href)\s*=\s*["'](?!data:)|@import|url\(|\bfetch\b|import\("""
    assert not re.findall(loaded, written[0])
    assert len(written[0]) < 200_000


def test_links_lead_to_the_program_and_to_the_source(file_of_two_graphs, two_graphs):
    links = two_graphs.locator("footer a").evaluate_all("links => links.map((a) => [a.getAttribute('href'), a.href])")
    assert {(file_of_two_graphs.parent / href).resolve() for href, _ in links} == {
        Path(__file__).resolve(),
        *(Path(tg.__file__).resolve().parent / "core" / name for name in ("gradients.py", "sample.py", "rewrite.py")),
    }
    assert all(address.startswith("file:") for _, address in links)


def test_a_notebook_shows_the_picture(visit, tmp_path):
    cost, p = blocked_cost()
    drawing = tg.draw(cost, wrt=p)
    (tmp_path / "notebook.html").write_text(drawing._repr_html_(), encoding="utf-8")
    image = visit(tmp_path / "notebook.html").get_by_role("img")
    assert image.get_attribute("alt") == drawing
    assert image.evaluate("image => image.complete && image.naturalWidth") > 400

"""What a page computes by itself: every number is the library's, wherever the sliders stand and whatever is drawn."""

import json
import math
import re

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.core import topological_order, trees
from tinygrad_vae.draw.folding import head_of
from tinygrad_vae.draw.labels import value_in_short
from tinygrad_vae.draw.picture import CONSTANT, picture_of
from tinygrad_vae.draw.program import DRAWS, KNOWN, sliders_of


def parabola(p):
    z = tg.Normal(p["mu"], p["sigma"]).sample(rng=tg.noise(7), name="z")
    return p["w"] * tg.square(z - 2) + tg.square(p["mu"]) / 2


def two_draws(p):
    a = tg.Laplace(p["loc"], tg.exp(p["width"])).sample(rng=tg.noise(1), name="a")
    b = tg.Logistic(a, 0.5).sample(rng=tg.noise(2), name="b")
    return tg.sin(a) * b + tg.softplus(b - p["loc"]) / (1 + b**2)


def waiting(p):
    return tg.sqrt(tg.Exponential(p["rate"]).sample(rng=tg.noise(3), name="t") + 1) * tg.tanh(p["rate"])


def toss(p):
    b = tg.Bernoulli(probs=p["p"]).sample(rng=tg.noise(4), name="b")
    return tg.where(b > 0.5, tg.log1p(p["p"]), tg.maximum(p["p"], 0.4)) * (b - 0.45) ** 2


COSTS = {
    "parabola": (parabola, {"mu": 1.0, "sigma": 0.5, "w": 2.0}),
    "two draws": (two_draws, {"loc": 0.3, "width": -0.2}),
    "waiting": (waiting, {"rate": 1.5}),
    "toss": (toss, {"p": 0.3}),
}


def shown_numbers(page, kind):
    numbers = page.locator("svg.graph:not([hidden]) .node").evaluate_all(f"nodes => nodes.map((x) => x.dataset.{kind})")
    return [{"": None, "true": 1.0, "false": 0.0}.get(x) if x in ("", "true", "false") else float(x) for x in numbers]


def assert_close(found, expected, what):
    assert abs(found - expected) <= 1e-6 * max(1.0, abs(expected)), (what, found, expected)


@pytest.mark.parametrize(
    ("name", "rewrite"),
    [
        ("parabola", tg.reparameterize),
        ("parabola", tg.score_function),
        ("two draws", tg.reparameterize),
        ("waiting", tg.score_function),
        ("toss", tg.score_function),
    ],
)
def test_values_and_gradients_are_the_librarys(name, rewrite, tmp_path, visit):
    formula, start = COSTS[name]
    p = tg.wrap(start)
    cost = formula(p)
    opened = rewrite(cost)
    tg.draw_side_by_side(cost, opened, tmp_path / "page.html", wrt=p, titles=("cut", "open"))
    page = visit(tmp_path / "page.html")
    noises = [x for x in topological_order([cost, opened]) if isinstance(x, tg.core.Noise)]
    ranges = {s.node.name: (s.low, s.high) for s in sliders_of([cost], [picture_of(cost)], p)}
    rng = np.random.default_rng(0)
    for turn in range(3):
        for parameter, (low, high) in ranges.items():
            page.locator("#sliders").get_by_role("slider", name=parameter).fill(repr(rng.uniform(low, high)))
        if turn:
            page.locator("#play").get_by_role("button", name="Draw 1", exact=True).click()
        values = {k: float(page.locator("#sliders").get_by_role("slider", name=k).input_value()) for k in start}
        assert all(low <= values[k] <= high for k, (low, high) in ranges.items())
        leaves = tg.wrap(values)
        drawn = dict(zip(noises, page.evaluate("now.noises"), strict=True))
        again = tg.replay(
            cost, {p[k]: leaves[k] for k in p} | {x: x.with_value(np.asarray(e)) for x, e in drawn.items()}
        )
        for title, graph in {"cut": again, "open": rewrite(again)}.items():
            page.get_by_role("radio", name=title).check()
            page.get_by_role("button", name="End").click()
            picture = picture_of(graph, leaves)
            heads = [head_of(box.nodes) for box in picture.boxes]
            for box, head, found in zip(picture.boxes, heads, shown_numbers(page, "value"), strict=True):
                if box.kind != CONSTANT:
                    assert_close(found, float(head.value), (title, box.label))
            found = shown_numbers(page, "gradient")
            if title == "open":
                reached = [i for i, box in enumerate(picture.boxes) if box.arrives]
                expected = tg.gradients(graph, [heads[i] for i in reached])
            else:
                samples = [x for x in topological_order([graph]) if isinstance(x, tg.Sample)]
                held = tg.replay(graph, {samples[-1]: tg.Tensor(samples[-1].value)})
                for z in samples[:-1]:  # a draw made of a draw is gone with it, if nothing else came from the first
                    if any(x is z for x in topological_order([held])):
                        held = tg.replay(held, {z: tg.Tensor(z.value)})
                reached = [i for i, box in enumerate(picture.boxes) if box.arrives and heads[i].op is None]
                expected = tg.gradients(held, [heads[i] for i in reached])
            assert reached
            for i, g in zip(reached, expected, strict=True):
                assert_close(found[i], float(g), (title, picture.boxes[i].label))


def test_the_arrays_of_a_training_step_are_the_librarys(tmp_path, visit):
    model = tg.wrap(tg.VAE.init(16, hidden=(8,), latent=2, rng=tg.noise(0)))
    x = tg.Tensor(tg.noise(3).uniform((5, 16)) < 0.4, "images")
    cost = -tg.mean(tg.elbo(model, x, rng=tg.noise(1)))
    opened = tg.reparameterize(cost)
    tg.draw_side_by_side(cost, opened, tmp_path / "page.html", wrt=model, titles=("cut", "open"))
    page = visit(tmp_path / "page.html")
    page.get_by_role("radio", name="open").check()
    page.get_by_role("button", name="Open the layers").click()
    page.get_by_role("button", name="End").click()
    (noise,) = (x for x in topological_order([cost]) if isinstance(x, tg.core.Noise))
    for turn in range(3):
        if turn:
            page.locator("#play").get_by_role("button", name="Draw 1", exact=True).click()
        drawn = np.reshape(page.evaluate("[...now.noises[0].data]"), noise.shape).astype(noise.dtype)
        again = tg.replay(opened, {noise: noise.with_value(drawn)})
        picture = picture_of(again, model, open_layers=True)
        heads = {i: head_of(box.nodes) for i, box in enumerate(picture.boxes) if box.kind != CONSTANT}
        reached = [i for i, box in enumerate(picture.boxes) if box.arrives]
        expected = dict(zip(reached, tg.gradients(again, [heads[i] for i in reached]), strict=True))
        for kind, numbers in ("value", {i: x.value for i, x in heads.items()}), ("gradient", expected):
            found = page.locator("svg.graph:not([hidden]) .node").evaluate_all(
                f"nodes => nodes.map((x) => x.dataset.{kind}.split(',').map(Number))"
            )
            for i, array in numbers.items():  # the library computes them in float32
                scale = max(1.0, float(np.abs(array).max()))
                assert np.allclose(found[i], np.ravel(array), rtol=1e-5, atol=2e-6 * scale), picture.boxes[i].label


def test_the_gradients_of_a_weight_are_compared(tmp_path, visit):
    model = tg.wrap(tg.VAE.init(16, hidden=(8,), latent=2, rng=tg.noise(0)))
    x = tg.Tensor(tg.noise(3).uniform((5, 16)) < 0.4, "images")
    tg.draw(-tg.mean(tg.elbo(model, x, rng=tg.noise(1))), tmp_path / "page.html", wrt=model)
    page = visit(tmp_path / "page.html")
    page.wait_for_function("get('spread').dataset.truth !== ''")
    for _ in range(4):
        page.locator("#why").get_by_role("button", name="Draw 100").click()
    assert re.search(r"The cut gradient is wrong.*Both others are right", page.locator("#spread-says").text_content())
    assert not page.locator("#hill").is_visible()
    assert page.locator("#wrt").get_by_role("radio").count() == 3


@pytest.mark.parametrize("family", tg.DISTRIBUTIONS.values(), ids=lambda family: family.__name__)
def test_draws_of_every_distribution_have_a_page(family, tmp_path):
    dist = family.example(np.random.default_rng(0), ())
    p = [tg.Tensor(x, f"p{k}") if np.asarray(x).dtype.kind == "f" else x for k, x in enumerate(trees.leaves(dist))]
    z = trees.replace_leaves(dist, p).sample(rng=tg.noise(0), name="z")
    tg.draw(tg.sum(tg.tanh(z)), tmp_path / "page.html", wrt=[x for x in p if isinstance(x, tg.Tensor)])
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "page.html").read_text("utf-8"))[1])
    assert ("rows" in data) != ("reason" in data)
    assert len(data["graphs"][0]["steps"]) > 1  # backprop gets from the cost to the draw


def test_each_op_that_a_page_knows_computes_what_the_library_does(tmp_path, visit):
    x = tg.Tensor(1.0, "x")
    tg.draw(tg.exp(x), tmp_path / "page.html", wrt=x)
    page = visit(tmp_path / "page.html")
    rng = np.random.default_rng(0)
    compared = 0
    for name in sorted(KNOWN - {"number"}):
        op = tg.OPS[name]
        inputs = [[float(op.declared.domain_of(i).draw(rng, ())) for i in range(len(op.vjps))] for _ in range(8)]
        found = page.evaluate("([name, inputs]) => inputs.map((x) => Number(OPS[name](...x)))", [name, inputs])
        expected = [float(op(*map(np.asarray, x))) for x in inputs]
        assert np.allclose(found, expected, rtol=1e-13, atol=1e-13), (name, inputs, found, expected)
        compared += 1
    assert compared > 50


def test_noise_drawn_by_the_page_follows_its_distribution(tmp_path, visit):
    stats = pytest.importorskip("scipy.stats")
    x = tg.Tensor(1.0, "x")
    tg.draw(tg.exp(x), tmp_path / "page.html", wrt=x)
    page = visit(tmp_path / "page.html")
    for name, cdf in {"N(0, 1)": "norm", "U(0, 1)": "uniform"}.items():
        drawn = page.evaluate(
            "name => { const u = uniforms(5); return Array.from({length: 20000}, () => DISTRIBUTIONS[name].draw(u)); }",
            name,
        )
        assert stats.kstest(drawn, cdf).pvalue > 1e-3, name


@pytest.fixture
def lesson(tmp_path, visit):
    """The page of the first lesson's cost."""
    p = tg.wrap(COSTS["parabola"][1])
    cost = parabola(p)
    tg.draw_side_by_side(cost, tg.reparameterize(cost), tmp_path / "page.html", wrt=p, titles=("cut", "open"))
    return visit(tmp_path / "page.html")


def truth_at(mu, sigma, w):
    return {"mu": 2 * w * (mu - 2) + mu, "sigma": 2 * w * sigma, "w": (mu - 2) ** 2 + sigma**2}


def test_the_line_in_the_histograms_is_the_truth(lesson):
    rng = np.random.default_rng(1)
    for _ in range(4):
        at = {"mu": rng.uniform(-1, 3), "sigma": rng.uniform(0.3, 2), "w": rng.uniform(0, 4)}
        for name, value in at.items():
            lesson.locator("#sliders").get_by_role("slider", name=name).fill(repr(value))
        for name, truth in truth_at(**at).items():
            lesson.locator("#wrt").get_by_role("radio", name=name).check()
            assert_close(float(lesson.locator("#spread").get_attribute("data-truth")), truth, name)


def test_the_histograms_say_which_gradient_is_wrong_and_which_is_noisy(lesson):
    for _ in range(30):
        lesson.locator("#why").get_by_role("button", name="Draw 100").click()
    assert lesson.locator("#count").text_content() == "3000 draws"
    cut, pathwise, score = (np.array(x) for x in lesson.evaluate("why.found"))
    assert np.all(cut == 1)
    for estimates in (pathwise, score):
        assert abs(estimates.mean() - -3) < 4.5 * estimates.std(ddof=1) / math.sqrt(len(estimates))
    assert pathwise.std() == pytest.approx(2, rel=0.1)  # 2 w sigma
    assert score.std() > 3 * pathwise.std()
    says = lesson.locator("#spread-says").text_content()
    assert "The cut gradient is wrong" in says
    assert "Both others are right on average" in says
    lesson.locator("#wrt").get_by_role("radio", name="w").check()
    assert lesson.locator("#count").text_content() == "0 draws"
    lesson.locator("#why").get_by_role("button", name="Draw 100").click()
    assert "wrong" not in lesson.locator("#spread-says").text_content()


def test_keep_drawing_goes_on_until_it_is_stopped(lesson):
    button = lesson.locator("#why").get_by_role("button", name="Keep drawing")
    button.click()
    lesson.wait_for_function("draws.count > 5")
    lesson.locator("#why").get_by_role("button", name="Stop").click()
    count = lesson.locator("#count").text_content()
    lesson.wait_for_timeout(200)
    assert lesson.locator("#count").text_content() == count
    assert button.is_visible()


def test_one_of_the_balls_ends_in_the_wrong_place(lesson):
    lesson.get_by_role("button", name="Let them roll").click()  # without motion they are at the end at once
    cut, pathwise, score = lesson.evaluate("balls.at")
    assert abs(cut) < 0.1  # the minimum of mu^2 / 2 alone
    assert abs(pathwise - 1.6) < 0.2  # 4 w / (2 w + 1)
    assert abs(score - 1.6) < 0.5
    lesson.get_by_role("button", name="Put them back").click()
    assert lesson.evaluate("balls.at") == [1, 1, 1]


def dots(page):
    return np.array(
        page.locator("#bell .dot").evaluate_all(
            "dots => dots.map((d) => ['cx', 'cy', 'r'].map((k) => +d.getAttribute(k)))"
        )
    )


def drag(page, part, by):
    box = page.locator(f"#bell .grip[data-part={part}]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + by, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()


def test_with_the_noise_held_the_dots_ride_along(lesson):
    before = dots(lesson)
    assert len(before) == 50
    drag(lesson, "loc", 60)
    after = dots(lesson)
    assert np.allclose(after[:, 0] - before[:, 0], 60, atol=0.2)
    assert np.all(after[:, 2] == before[:, 2])
    centre = lesson.locator("#bell .grip[data-part=loc]").get_attribute("cx")
    drag(lesson, "scale", 40)
    wider = dots(lesson)
    ratio = (wider[:, 0] - float(centre)) / (after[:, 0] - float(centre))
    assert np.allclose(ratio[np.abs(after[:, 0] - float(centre)) > 20], ratio[0], atol=0.02)
    assert ratio[0] > 1.1


def test_with_the_draw_held_the_dots_stay_and_change_their_size(lesson):
    lesson.get_by_role("radio", name="Hold the draw").check()
    before = dots(lesson)
    lesson.locator("#gesture-sliders").get_by_role("slider", name="mu").fill("1.4")
    after = dots(lesson)
    assert np.all(after[:, :2] == before[:, :2])
    noises = np.array(lesson.evaluate("[...gesture.dots.slice(1), gesture.dots[0]].map((dot) => dot.noise)"))
    z = 1 + 0.5 * noises
    density = [tg.Normal(mu, 0.5).log_prob(z) for mu in (1.0, 1.4)]
    expected = before[:, 2] * np.exp((density[1] - density[0]) / 2)  # the area goes with the density
    seen = (expected > 1) & (expected < 14)
    assert seen.sum() > 25
    assert np.allclose(after[seen, 2], expected[seen], atol=0.02)


def test_sliders_of_one_parameter_move_together(lesson):
    lesson.locator("#gesture-sliders").get_by_role("slider", name="sigma").fill("0.75")
    assert lesson.locator("#sliders").get_by_role("slider", name="sigma").input_value() == "0.75"
    lesson.locator("#play").get_by_role("button", name="Reset").click()
    assert lesson.locator("#gesture-sliders").get_by_role("slider", name="sigma").input_value() == "0.5"


def test_a_parameter_stays_where_the_library_takes_it():
    p = tg.wrap({"rate": 2.0, "chance": 0.25, "loc": -3.0})
    cost = (
        tg.Exponential(p["rate"]).sample(rng=tg.noise(0))
        + tg.Bernoulli(probs=p["chance"]).sample(rng=tg.noise(1))
        + tg.Normal(p["loc"], 1.0).sample(rng=tg.noise(2))
    )
    ranges = {s.node.name: (s.low, s.high) for s in sliders_of([cost], [picture_of(cost)], p)}
    assert ranges["loc"][0] < -3 < 0 < ranges["loc"][1]
    assert 0 < ranges["rate"][0] < 2 < ranges["rate"][1]
    assert 0 < ranges["chance"][0] < 0.25 < ranges["chance"][1] < 1


def test_nothing_is_shown_where_two_parameters_together_have_left_the_domain(tmp_path, visit):
    p = tg.wrap({"low": 0.0, "high": 1.0})
    cost = tg.square(tg.Uniform(p["low"], p["high"]).sample(rng=tg.noise(0), name="z"))
    tg.draw(cost, tmp_path / "page.html", wrt=p)
    page = visit(tmp_path / "page.html")
    box = page.locator("svg.graph:not([hidden]) .node.random .value").last
    slider = page.locator("#sliders").get_by_role("slider", name="low")
    for low, inside in ((0.5, True), (1.5, False), (-1.0, True)):
        slider.fill(str(low))
        assert (box.text_content() != "–") == inside  # noqa: RUF001


def test_the_blocked_graph_may_stand_second_and_arrays_may_hold_infinities(tmp_path, visit):
    mu = tg.Tensor(np.array([1.0, 2.0]), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    cost = tg.sum(tg.maximum(z, np.array([-np.inf, 0.5])))
    tg.draw_side_by_side(tg.reparameterize(cost), cost, tmp_path / "page.html", wrt=mu, titles=("open", "cut"))
    page = visit(tmp_path / "page.html")
    assert page.locator("#gesture").is_visible()
    page.get_by_role("radio", name="cut").check()
    page.get_by_role("button", name="End").click()
    assert "Here backprop stops" in page.locator("#says").text_content()
    assert page.locator(".node.current").get_attribute("data-value") == ",".join(str(float(x)) for x in z.value)


def test_a_page_that_cannot_compute_a_graph_looks_its_numbers_up_and_says_so(tmp_path, visit):
    a = tg.Tensor(2.0, "a")
    z = tg.Gamma(a, 1.0).sample(rng=tg.noise(0), name="z")
    cost = z * z
    tg.draw(cost, tmp_path / "page.html", wrt=a)
    page = visit(tmp_path / "page.html")
    said = page.locator("#computed").text_content()
    assert said.startswith("Looked up")
    assert "which this page does not know" in said
    assert page.get_by_role("slider").count() == 0
    value = page.locator("svg.graph:not([hidden]) .node.random .value").last
    seen = []
    for k in range(DRAWS):
        seen.append(value.text_content())
        page.get_by_role("button", name=f"Next draw ({k + 1} of {DRAWS})").click()
    assert seen[0] == value_in_short(z.value)[-1] == value.text_content()
    assert len(set(seen)) == DRAWS

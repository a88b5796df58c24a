"""Drawings: the right shape for each kind of node, the right colour for each arrow, and files that can be read."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.core import make_node, topological_order
from tinygrad_vae.draw.flow import CLOSED, CUT, OPEN, PARTLY
from tinygrad_vae.draw.labels import SYMBOLS, label_of_ops
from tinygrad_vae.draw.layout import SIDE_GAP, layered_layout
from tinygrad_vae.draw.picture import picture_of
from tinygrad_vae.draw.svg import svg

TIMES = SYMBOLS[tg.multiply]
SVG = "{http://www.w3.org/2000/svg}"
NASTY = "a<b> & \"c\" \\ #1; 'd' {e} |f| μ"


def blocked_cost(name="z"):
    """A cost in which sigma is cut, mu partly cut and w open."""
    p = tg.wrap({"mu": 1.0, "sigma": 0.5, "w": 2.0})
    z = tg.Normal(p["mu"], p["sigma"]).sample(rng=tg.noise(3), name=name)
    return p["w"] * tg.square(z) + tg.square(p["mu"]) / 2, p


def vae_cost():
    model = tg.wrap(tg.VAE.init(16, hidden=(8,), latent=2, rng=tg.noise(0)))
    x = (np.arange(80).reshape(5, 16) % 3 == 0).astype(np.float32)
    q = model.encode(x)
    z = q.sample(rng=tg.noise(1), name="z")
    return -tg.mean(model.decode(z).log_prob(x) - tg.kl_divergence(q, model.prior())), model


def drawn(cost, folder, **options):
    """Return the parsed SVG of a cost."""
    tg.draw(cost, folder / "graph.svg", **options)
    return ET.parse(folder / "graph.svg").getroot()


def groups(root, kind):
    """Return the classes and the texts of each node or arrow in the panels, legend left out."""
    return [
        (set(g.get("class").split()), [t.text for t in g.iter(f"{SVG}text")])
        for panel in root.iter(f"{SVG}g")
        if panel.get("class") == "panel"
        for g in panel.iter(f"{SVG}g")
        if kind in (g.get("class") or "").split()
    ]


def states(cost, wrt=None):
    return {box.label: box.state for box in picture_of(cost, wrt).boxes if box.state}


# ------------------------------------------------------------------------------------ what the picture shows


def test_each_kind_of_node_has_its_shape(tmp_path):
    cost, p = blocked_cost()
    root = drawn(cost * np.ones(2), tmp_path, wrt=p)
    shapes = {"leaf": "rect", "constant": "rect", "operation": "polygon", "random": "circle", "noise": "circle"}
    found = Counter()
    for node in root.iter(f"{SVG}g"):
        for kind, shape in shapes.items():
            if kind in (node.get("class") or "").split():
                found[kind] += 1
                assert len(node.findall(f"{SVG}{shape}")) == 1
    legend = 1
    assert found == {
        k: n + legend for k, n in {"leaf": 3, "constant": 1, "operation": 6, "random": 1, "noise": 1}.items()
    }


def test_the_cut_is_red_and_crossed_and_nothing_is_once_it_is_open(tmp_path):
    cost, p = blocked_cost()
    arrows = groups(drawn(cost, tmp_path, wrt=p), "arrow")
    assert Counter(next(iter(c - {"arrow"})) for c, _ in arrows) == {"open": 7, "cut": 2, "closed": 1}
    crosses = [g for g in drawn(cost, tmp_path, wrt=p).iter(f"{SVG}g") if g.get("class") == "mark cut"]
    assert len(crosses) == 2 + 1  # mu -> z, sigma -> z, and the legend
    opened = drawn(tg.reparameterize(cost), tmp_path, wrt=p)
    assert not [c for c, _ in groups(opened, "arrow") if c & {"cut", "partly"}]
    assert not [g for g in opened.iter(f"{SVG}g") if g.get("class") == "mark cut"]


def test_gradients_stand_in_the_boxes(tmp_path):
    cost, p = blocked_cost()
    texts = {texts[0]: texts[1:] for c, texts in groups(drawn(cost, tmp_path, wrt=p), "node") if "leaf" in c}
    z_squared = tg.gradients(cost, p["w"])
    assert texts == {
        "mu": ["1", "partly cut", "only 1 arrives"],
        "sigma": ["0.5", "cut: no gradient"],
        "w": ["2", f"gradient {z_squared:.4g}"],
    }
    opened = tg.reparameterize(cost)
    texts = {texts[0]: texts[-1] for c, texts in groups(drawn(opened, tmp_path, wrt=p), "node") if "leaf" in c}
    assert texts == {name: f"gradient {g:.4g}" for name, g in tg.gradients(opened, p).items()}


def test_without_wrt_no_gradient_is_computed(tmp_path):
    cost, _ = blocked_cost()
    root = drawn(cost, tmp_path)
    assert not [t for t in root.iter(f"{SVG}text") if t.get("class") == "gradient"]
    assert states(cost) == {"mu": PARTLY, "sigma": CUT, "w": OPEN}


def test_the_way_to_a_partly_cut_parameter_is_orange():
    mu = tg.Tensor(1.0, "mu")
    loc = tg.exp(mu)
    cost = tg.Normal(loc, 1.0).sample(rng=tg.noise(0)) + loc
    picture = picture_of(cost, mu)
    by_label = {(picture.boxes[a.tail].label, picture.boxes[a.head].label): a.state for a in picture.arrows}
    assert by_label["mu", "exp"] == PARTLY
    assert by_label["exp", "a draw ~ Normal"] == CUT
    assert by_label["exp", "cost: +"] == OPEN


def test_a_cut_on_purpose_is_grey_and_leaves_no_node():
    x = tg.Tensor(2.0, "x")
    y = tg.exp(x)
    for cost in (y * 2 + tg.stop_gradient(y), tg.stop_gradient(y) + y * 2):
        picture = picture_of(cost, x)
        assert [box.label for box in picture.boxes] == ["x", "exp", f"{TIMES} 2", "cost: +"]
        stopped = [a for a in picture.arrows if a.mark == "stop"]
        assert [(a.state, picture.boxes[a.tail].label) for a in stopped] == [(CLOSED, "exp")]


def test_a_jump_of_a_reparameterized_draw_is_cut():
    mu = tg.Tensor(0.3, "mu")
    z = tg.Normal(mu, 1.0).rsample(rng=tg.noise(0), name="z")
    cost = tg.where(z > 0, 1.0, 0.0)
    with pytest.raises(tg.InvalidGradientError):
        tg.gradients(cost, mu)
    assert states(cost, mu) == {"mu": CUT}
    picture = picture_of(cost, mu)
    marked = [(picture.boxes[a.tail].label, picture.boxes[a.head].label) for a in picture.arrows if a.mark == "cut"]
    assert marked == [("z (pathwise)", "less(0, ·)")]


def test_a_gradient_that_would_be_wrong_is_not_written():
    low, high = tg.Tensor(0.0, "low"), tg.Tensor(1.0, "high")
    z = tg.Uniform(low, high).sample(rng=tg.noise(0), name="z")
    text = tg.draw(tg.score_function(z * z), wrt=[low, high])
    assert text.count("refused: it would be wrong") == 2


def test_a_biased_gradient_is_called_so_and_no_other_is():
    p = tg.wrap({"logit": 0.2, "mu": 0.5})
    b = tg.Bernoulli(logits=p["logit"]).sample(rng=tg.noise(0), name="b")
    text = tg.draw(tg.estimate(b * b + tg.square(p["mu"]), {b: "straight-through"}), wrt=p)
    assert [line.split("  ")[-1].strip() for line in text.splitlines() if "gradient" in line] == [
        "gradient 1",
        f"biased gradient {tg.grad(lambda logit: 2 * b.value * tg.sigmoid(logit))(0.2):.4g}",
    ]


def test_a_draw_that_was_taken_care_of_keeps_its_name_and_no_bookkeeping():
    cost, p = blocked_cost()
    labels = [box.label for box in picture_of(tg.reparameterize(cost), p).boxes]
    assert "z (pathwise)" in labels
    assert "log p(z)" in [box.label for box in picture_of(tg.score_function(cost), p).boxes]
    assert not {"handled_draw", "identity", "stop_gradient"} & set(labels)


@pytest.mark.parametrize("rewrite", [lambda cost: cost, tg.reparameterize, tg.score_function])
@pytest.mark.parametrize("make", [blocked_cost, vae_cost])
def test_colours_agree_with_explain(make, rewrite):
    cost, wrt = make()
    cost = rewrite(cost)
    report = tg.explain(cost, wrt)
    cut = {name for node in report.nodes for name in node.cut}
    partly = {name for node in report.nodes for name in node.partly_cut} - cut
    colours = {getattr(x, "name", None): box.state for box in picture_of(cost, wrt).boxes for x in box.nodes}
    for name in report.parameters:
        assert colours[name] == (CUT if name in cut else PARTLY if name in partly else OPEN), name


# -------------------------------------------------------------------------------------------- larger graphs


def test_a_training_step_is_summarised_to_its_layers():
    cost, model = vae_cost()
    boxes = picture_of(cost, model).boxes
    layers = {box.label: box.state for box in boxes if box.kind == "group"}
    assert layers == {
        "encoder.layers.0": PARTLY,
        "posterior.mean": PARTLY,
        "posterior.log_variance": PARTLY,
        "decoder.layers.0": OPEN,
        "likelihood.logits": OPEN,
    }
    assert len(boxes) < 20
    assert {box.label: box.value[0] for box in boxes if box.label.startswith("encoder")} == {
        "encoder.layers.0": "16 → 8, relu"
    }


def test_layers_can_be_drawn_open():
    cost, model = vae_cost()
    boxes = {box.label: box for box in picture_of(cost, model, open_layers=True).boxes}
    assert not any(box.kind == "group" for box in boxes.values())
    gradient = tg.gradients(tg.reparameterize(cost), model).likelihood.logits.weight
    assert boxes["likelihood.logits.weight"].gradient == f"gradient of norm {np.linalg.norm(gradient):.3g}"
    assert "[ likelihood.logits.weight ]" in tg.draw(cost, wrt=model, open_layers=True)


def test_a_box_of_a_few_ops_says_what_they_compute():
    cost, model = vae_cost()
    labels = [box.label for box in picture_of(cost, model).boxes if box.kind == "operation"]
    assert labels == ["÷ 2", "exp", "normal_kl", "sum", "bernoulli_log_prob", "sum", "−", "mean", "cost: negative"]  # noqa: RUF001
    x = tg.Tensor(1.0, "x")
    assert _formula_of((tg.exp(x) + 1) * x) == f"(exp(·) + 1) {TIMES} ·"
    assert _formula_of(-((x - 2) / x)) == "−((· − 2) ÷ ·)"  # noqa: RUF001
    assert _formula_of(tg.maximum(x * 2, 0.5)) == f"maximum(· {TIMES} 2, 0.5)"


def _formula_of(cost):
    return label_of_ops(cost, [x for x in topological_order([cost]) if x.op])


def test_a_long_chain_is_one_box_and_takes_no_recursion():
    x = tg.Tensor(1.0, "x")
    y = x
    for _ in range(3000):
        y = y * 1.001
    assert tg.draw(y, wrt=x).splitlines()[1:3] == [
        f"  1  [ x ]              1               gradient {y.value:.4g}",
        f"  2  < cost: {TIMES} 1.001 >  3000 ops {y.value:.4g}  from 1",
    ]


def test_a_graph_that_nobody_could_read_is_refused(tmp_path):
    z = tg.Tensor(0.0, "x")
    for _ in range(400):
        z = tg.Normal(z, 1.0).sample(rng=tg.noise(0))
    with pytest.raises(ValueError, match=r"801 nodes.*no more than 300"):
        tg.draw(z, tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------- side by side


def test_what_two_graphs_share_stands_in_the_same_place(tmp_path):
    cost, p = blocked_cost()
    tg.draw_side_by_side(cost, tg.reparameterize(cost), tmp_path / "both.svg", titles=("left", NASTY), wrt=p)
    root = ET.parse(tmp_path / "both.svg").getroot()
    assert [t.text for t in root.iter(f"{SVG}text") if t.get("class") == "heading"] == ["left", NASTY]
    panels = [g for g in root.iter(f"{SVG}g") if g.get("class") == "panel"]
    spots = [
        {(t.text, float(t.get("x"))) for t in panel.iter(f"{SVG}text") if t.get("class") == "label"} for panel in panels
    ]
    rename = {"z ~ Normal": "z", "z (pathwise)": "z"}
    left, right = ({(rename.get(text, text), x) for text, x in spot} for spot in spots)
    assert left < right  # all of the left, and the step that was put into the graph
    assert {text for text, _ in right - left} == {TIMES}


# --------------------------------------------------------------------------------------------------- files


def test_svg_says_in_words_what_it_shows(tmp_path):
    cost, p = blocked_cost()
    root = drawn(cost, tmp_path, wrt=p, title=NASTY)
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == NASTY
    assert "sigma: cut: no gradient" in root.find(f"{SVG}desc").text


@pytest.mark.parametrize("suffix", [".svg", ".dot", ".mmd", ".txt"])
def test_a_name_that_no_file_could_hold_is_made_one_line(tmp_path, suffix):
    x = tg.Tensor(1.0, "a\x00b\nc" + "d" * 1000)
    text = tg.draw(x * 2, tmp_path / f"graph{suffix}", title="\ud800\n")
    assert len(text.splitlines()) == len(["title", "x", "cost", "legend"])
    assert "a b cddd" in (tmp_path / f"graph{suffix}").read_text(encoding="utf-8")
    if suffix == ".svg":
        ET.parse(tmp_path / "graph.svg")


@pytest.mark.parametrize("suffix", [".svg", ".dot", ".mmd", ".txt"])
def test_the_same_graph_gives_the_same_file_and_names_are_escaped(tmp_path, suffix):
    x = tg.Tensor(1.0, NASTY)
    cost = tg.Normal(x, 1.0).sample(rng=tg.noise(0), name=NASTY) * x
    files = [tmp_path / f"{k}{suffix}" for k in range(2)]
    for file in files:
        tg.draw(cost, file, wrt=x, title=NASTY)
    first, second = (file.read_text(encoding="utf-8") for file in files)
    assert first == second
    if suffix == ".svg":
        labels = [t.text for t in ET.fromstring(first).iter(f"{SVG}text") if t.get("class") == "label"]
        assert labels == [NASTY, "noise", f"{NASTY} ~ Normal", f"cost: {TIMES}"]


def test_dot_has_one_statement_a_line(tmp_path):
    x = tg.Tensor(1.0, NASTY)
    tg.draw(tg.Normal(x, 1.0).sample(rng=tg.noise(0), name="z") * x, tmp_path / "g.dot", wrt=x)
    first, label, font, *statements, last = (tmp_path / "g.dot").read_text(encoding="utf-8").splitlines()
    assert (first, last) == ("digraph {", "}")
    text = r'"(?:[^"\\]|\\.)*"'
    value = rf"(?:\w+|{text})"
    attributes = rf"\[\w+={value}(?:, \w+={value})*\];"
    for line in (f"  node {font.split('node ')[1]}", *statements):
        assert re.fullmatch(rf"  \w+(?: -> \w+)? {attributes}", line), line
    assert re.fullmatch(rf"  label={text};", label)
    assert sum("->" in line for line in statements) == 4
    assert [re.search(r"shape=(\w+)", line)[1] for line in statements[:4]] == ["box", "circle", "circle", "diamond"]


def test_mermaid_has_one_statement_a_line(tmp_path):
    x = tg.Tensor(1.0, NASTY)
    tg.draw(tg.Normal(x, 1.0).sample(rng=tg.noise(0), name="z") * x, tmp_path / "g.mmd", wrt=x)
    first, title, *statements = (tmp_path / "g.mmd").read_text(encoding="utf-8").splitlines()
    assert first == "flowchart TD"
    assert title == "  accTitle: A graph"
    node = r'n\d+(?:\["[^"]*"\]|\{"[^"]*"\}|\(\("[^"]*"\)\)|\("[^"]*"\))'
    link = r"n\d+ (?:-->|-\.->)(?:\|[^|]*\|)? n\d+"
    style = r"linkStyle \d+(?:,\d+)* stroke:#\w{6}|classDef \w+ stroke:#\w{6},stroke-width:2px|class n\d+(?:,n\d+)* \w+"
    for line in statements:
        assert re.fullmatch(rf"  (?:{node}|{link}|{style})", line), line
    assert sum("|✕|" in line for line in statements) == 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("graph.png", ValueError, r"\.svg, \.dot, \.mmd, \.txt, \.html, found the suffix '\.png'"),
        ("graph", ValueError, "found the suffix ''"),
        ("missing/graph.svg", FileNotFoundError, "no folder .*missing; make it first"),
        ("folder.svg", IsADirectoryError, "is a folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_first(tmp_path, name, error, message):
    cost, p = blocked_cost()
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(error, match=message):
        tg.draw(cost, tmp_path / name, wrt=p)
    if error is not ValueError:
        with pytest.raises(error, match=message):
            tg.draw_side_by_side(cost, cost, tmp_path / name)
    assert [x.name for x in tmp_path.iterdir()] == ["folder.svg"]


def test_arguments_of_the_wrong_kind_are_refused_before_anything_is_written(tmp_path):
    cost, p = blocked_cost()
    path = tmp_path / "graph.svg"
    with pytest.raises(TypeError, match=r"the graph of a Tensor, found a float64 array of shape \(3,\)"):
        tg.draw(np.ones(3), path)
    with pytest.raises(TypeError, match="wrt holds the float"):
        tg.draw(cost, path, wrt=[1.0])
    with pytest.raises(TypeError, match="path takes a file name, found an object of type int"):
        tg.draw(cost, 3)
    with pytest.raises(TypeError, match="a title is text, found the int 3"):
        tg.draw(cost, path, title=3)
    with pytest.raises(ValueError, match="titles takes two headings, found 1"):
        tg.draw_side_by_side(cost, cost, path, titles=("one",), wrt=p)
    assert not list(tmp_path.iterdir())


def test_values_that_are_no_numbers_are_drawn_too(tmp_path):
    x = tg.Tensor(np.array([np.nan, np.inf, -np.inf]), "x")
    empty = tg.Tensor(np.zeros((0, 2)), "empty")
    text = tg.draw(tg.sum(x) + tg.sum(empty), tmp_path / "graph.svg")
    assert "(3,) mean nan" in text
    assert "(0, 2)" in text


# -------------------------------------------------------------------------------------------------- layout


def test_boxes_keep_apart_and_arrows_point_down():
    rng = np.random.default_rng(0)
    count = 60
    sizes = [(float(w), float(h)) for w, h in rng.uniform(20, 150, (count, 2))]
    edges = [(int(rng.integers(0, head)), head) for head in range(1, count) for _ in range(2)]
    layout = layered_layout(sizes, edges)
    for tail, head in edges:
        assert layout.layers[tail] < layout.layers[head]
        assert layout.centres[tail][1] < layout.centres[head][1]
    lanes = [
        (layout.layers[tail] + 1 + k, x, 0.0)
        for (tail, _), xs in zip(edges, layout.lanes, strict=True)
        for k, x in enumerate(xs)
    ]
    boxes = [(layer, x, w) for layer, (x, _), (w, _) in zip(layout.layers, layout.centres, sizes, strict=True)]
    for layer in range(max(layout.layers) + 1):
        row = sorted((x, w) for at, x, w in (*boxes, *lanes) if at == layer)
        for (x, w), (next_x, next_w) in pairwise(row):
            assert next_x - x >= (w + next_w) / 2 + (SIDE_GAP / 2 if w or next_w else 0) - 1e-6
    for (x, y), (w, h) in zip(layout.centres, sizes, strict=True):
        assert w / 2 - 1e-6 <= x <= layout.width - w / 2 + 1e-6
        assert h / 2 - 1e-6 <= y <= layout.height - h / 2 + 1e-6


def test_pictures_whose_values_are_in_another_order_are_laid_out_apart():
    a, b = np.array(1.0), np.array(1.0)
    down, up = (make_node(y, tg.OPS["exp"], (tg.Tensor(x),)) for x, y in ((a, b), (b, a)))
    root = ET.fromstring(svg([("", picture_of(down)), ("", picture_of(up))], "two ways round"))
    assert len(groups(root, "node")) == 4

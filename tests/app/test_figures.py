"""The pictures are written, show what they are given, and say what is on their axes."""

import matplotlib.image
import numpy as np
import pytest
from app_runs import small_pictures

import tinygrad_vae as tg
from tinygrad_vae.app import estimator_figures
from tinygrad_vae.app import figures as plots

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _pictures():
    """Pictures are as large here as a user sees them."""


def drawn(path):
    picture = matplotlib.image.imread(path)
    assert picture[..., :3].std() > 0.01, "the picture is empty"
    return picture


def middles(picture, shape):
    """The first image of a mosaic: the middle of each square that a pixel has become."""
    factor = max(1, (84 // max(shape) - 1) // 2 * 2 + 1)
    start = plots.GAP + factor // 2
    return picture[start::factor, start::factor, :3][: shape[0], : shape[1]]


@pytest.fixture
def figures(monkeypatch):
    """The axes of every figure that is saved."""
    saved, save = [], plots.save

    def kept(figure, path):
        saved.append(figure.axes[0])
        save(figure, path)

    monkeypatch.setattr(plots, "save", kept)
    return saved


@pytest.mark.parametrize("epochs", [0, 1, 2, 100])
def test_the_learning_curve_shows_both_bounds(epochs, figures, tmp_path):
    history = [{"epoch": k, "bound_train": -20 - 30 / k, "bound_held_out": -21 - 30 / k} for k in range(1, epochs + 1)]
    plots.learning_curve(history, tmp_path / "a.png")
    drawn(tmp_path / "a.png")
    (axes,) = figures
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "evidence lower bound (nats per image)")
    for line, name in zip(axes.lines, ("bound_train", "bound_held_out"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in history])
    labels = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in axes.texts]
    assert labels == ([f"training  {-20 - 30 / epochs:.1f}", f"held out  {-21 - 30 / epochs:.1f}"] if epochs else [])


@pytest.mark.parametrize(("count", "shape"), [(1, (3, 3)), (7, (2, 5)), (4, (28, 28)), (2, (200, 100))])
def test_a_mosaic_holds_each_image_enlarged(count, shape, tmp_path):
    pixels = RNG.uniform(size=(count, shape[0] * shape[1]))
    plots.images(pixels, shape, tmp_path / "a.png")
    picture = drawn(tmp_path / "a.png")
    first = middles(picture, shape)[..., 0]
    np.testing.assert_allclose(first, 1 - pixels[0].reshape(shape), atol=1 / 128)


def test_reconstructions_stand_below_their_originals(figures, tmp_path):
    originals = RNG.integers(0, 2, (5, 16)).astype(np.float32)
    plots.labelled_images(
        np.concatenate([originals, 1 - originals]), (4, 4), ["original", "reconstruction"], tmp_path / "a.png"
    )
    drawn(tmp_path / "a.png")
    (axes,) = figures
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "reconstruction"]
    shown = axes.images[0].get_array()
    half = (len(shown) - plots.GAP) // 2
    above, below = shown[plots.GAP : half, ..., 0], shown[half + plots.GAP : 2 * half, ..., 0]
    inside = above != shown[0, 0, 0]
    np.testing.assert_allclose(above[inside], 255 - below[inside].astype(int), atol=1)


@pytest.mark.parametrize("labels", [None, np.arange(30) % 10, np.arange(30)], ids=["none", "digits", "many"])
def test_two_latent_dimensions_are_the_axes(labels, figures, tmp_path):
    means = RNG.normal(size=(30, 2))
    plots.latent_plane(means, labels, tmp_path / "a.png")
    drawn(tmp_path / "a.png")
    (axes,) = figures
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("posterior mean of $z_1$", "posterior mean of $z_2$")
    points = np.concatenate([part.get_offsets() for part in axes.collections])
    np.testing.assert_array_equal(np.sort(points, axis=0), np.sort(means, axis=0))


def test_more_latent_dimensions_are_shown_by_their_principal_components(figures, tmp_path):
    scales = np.array([0.1, 3.0, 1.0, 0.2])
    means = tg.noise(0).normal((500, 4)) * scales
    plots.latent_plane(means, None, tmp_path / "a.png")
    (axes,) = figures
    points = axes.collections[0].get_offsets()
    shares = np.linalg.eigvalsh(np.cov(means.T))[::-1] / np.cov(means.T).trace()
    np.testing.assert_allclose(points.var(axis=0, ddof=1) / means.var(axis=0, ddof=1).sum(), shares[:2])
    for label, place, share in zip((axes.get_xlabel(), axes.get_ylabel()), ("1st", "2nd"), shares, strict=False):
        assert label == f"{place} principal component of the posterior means ({share:.0%} of the variance)"


@pytest.mark.parametrize("means", [np.zeros((2, 3)), RNG.normal(size=(5, 1)), np.zeros((3, 5), np.float32)])
def test_a_collapsed_or_short_latent_vector_can_be_drawn(means, tmp_path):
    plots.latent_plane(means, None, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_many_points_are_thinned_out(figures, tmp_path):
    count = plots.POINTS + 500
    plots.latent_plane(RNG.normal(size=(count, 2)), np.arange(count) % 10, tmp_path / "a.png")
    assert sum(len(part.get_offsets()) for part in figures[0].collections) == plots.POINTS


@pytest.mark.parametrize("shape", [(8, 8), (4, 20), (20, 4)], ids=str)
def test_a_sheet_shows_each_panel_whole_with_its_words_above_it(shape, figures, tmp_path, monkeypatch):
    small_pictures(monkeypatch)  # the panels are as large, of fewer pixels
    mosaics = [plots.mosaic([RNG.uniform(size=(n, 64 * 2))[:, : np.prod(shape)]], n, shape, 5) for n in (10, 20, 25)]
    panels = [plots.Panel(f"heading {k}", f"caption {k}\nlonger", m, "abcde", "fg") for k, m in enumerate(mosaics)]
    plots.sheet("title", panels, tmp_path / "a.png")
    drawn(tmp_path / "a.png")
    figure = figures[0].figure
    assert [text.get_text() for text in figure.texts] == ["title"]
    boxes = [text.get_window_extent() for text in figure.texts]
    for axes, panel in zip(figure.axes, panels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), panel.picture)
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(panel.picture.shape[0] / panel.picture.shape[1])
        caption, heading = axes.texts
        assert (heading.get_text(), caption.get_text()) == (panel.heading, panel.caption)
        boxes += [box, heading.get_window_extent(), caption.get_window_extent()]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_rows_that_are_not_full_are_refused(tmp_path):
    with pytest.raises(ValueError, match="5 images do not fill 2 rows"):
        plots.labelled_images(np.zeros((5, 16)), (4, 4), ["a", "b"], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


ROWS = [
    tg.Measurement("pathwise", np.ones(1), np.ones(1), 4.0, 0.5, 1e-4, 5),
    tg.Measurement("score-function", np.ones(1), np.ones(1), 87.0, 9.0, 2e-4, 9, alarm="HEAVY TAIL"),
    tg.Measurement("enumeration", np.ones(1), np.zeros(1), 0.0, 0.0, 2e-4, 9),
    tg.Measurement("straight-through", np.ones(1), np.ones(1), 3.0, 0.4, 1e-4, 5, biased="it is"),
    tg.Measurement("arm", refused="it is for Bernoulli draws"),
]


def test_a_comparison_shows_each_variance_and_marks_what_is_biased_or_exact(figures, tmp_path):
    estimator_figures.comparison(tg.Comparison(ROWS, 100), tmp_path / "a.png", title="a cost")
    drawn(tmp_path / "a.png")
    (axes,) = figures
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "score-function",
        "pathwise",
        "straight-through  (biased)",
    ]
    assert axes.figure.get_suptitle() == "a cost\nno variance: enumeration"
    points = [line for line in axes.lines if line.get_marker() in "o^"]
    assert [float(p.get_xdata()[0]) for p in points] == [87.0, 4.0, 3.0]
    assert [p.get_marker() for p in points] == ["^", "o", "o"]
    assert [p.get_markerfacecolor() == "white" for p in points] == [False, False, True]


def test_variances_are_drawn_over_a_knob_with_their_theory(figures, tmp_path):
    found = [tg.Comparison(ROWS, 100)] * 3
    theory = {"pathwise": lambda x: 4.0, "score-function": lambda x: np.inf if x < 2 else 80.0}
    estimator_figures.variances((1.0, 2.0, 3.0), found, theory, tmp_path / "a.png", knob="k", title="a cost")
    drawn(tmp_path / "a.png")
    (axes,) = figures
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("k", "variance of one gradient")
    lines = [line for line in axes.lines if len(line.get_xdata()) == 400]
    assert [np.nanmax(line.get_ydata()) for line in lines] == [4.0, 80.0]
    assert np.isnan(lines[1].get_ydata()[0])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["pathwise", "score-function", "straight-through  (biased)", "heavy tail: may be larger"]


def test_a_label_for_each_image_takes_one_call(figures, tmp_path):
    means = RNG.normal(size=(1000, 2))
    plots.latent_plane(means, np.arange(1000)[::-1], tmp_path / "a.png")
    (part,) = figures[0].collections
    np.testing.assert_array_equal(part.get_offsets(), means)
    np.testing.assert_array_equal(part.get_array(), np.arange(1000)[::-1])


def test_images_in_colour_are_shown_in_their_colours(tmp_path):
    pixels = RNG.uniform(size=(2, 5 * 4 * 3))
    plots.images(pixels, (5, 4, 3), tmp_path / "a.png")
    first = middles(drawn(tmp_path / "a.png"), (5, 4))
    np.testing.assert_allclose(first, pixels[0].reshape(5, 4, 3), atol=1 / 128)


def test_a_picture_of_many_images_does_not_grow_with_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "WIDEST", 500)
    plots.images((np.eye(4) for _ in range(100)), (2, 2), tmp_path / "a.png", 400)
    height, width, _ = drawn(tmp_path / "a.png").shape
    assert max(height, width) <= plots.WIDEST + 21 * plots.GAP

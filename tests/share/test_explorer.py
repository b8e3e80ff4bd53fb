"""The page that runs a generator, in a real browser: what it draws, and that its parts do what they say."""

import json
import time

import chromium
import jax
import numpy as np
import pytest
from helpers import some_generator
from PIL import Image

from dcgan_jax import decode, directions, slerp, to_uint8
from dcgan_jax.gan.classes import Classes
from dcgan_jax.share import latents
from dcgan_jax.share.explorer import explorer
from dcgan_jax.share.folding import folded

pytestmark = chromium.needed
READY = "document.body && document.body.dataset.ready"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    opened = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def write(params, path):
    """The page of a generator as a file."""
    path.write_text(
        explorer(
            folded(params),
            latent=params.latent,
            title="</script>, drawn",
            introduction="<i> of 12.",
            facts=["<b>", "8×8"],
            weights=latents.digest(params),
            classes=params.classes,
        )
    )
    return path.as_uri()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The address of a page with a 16x16 generator."""
    return write(
        some_generator(image_size=16, width=8, latent_dim=8), tmp_path_factory.mktemp("page") / "explorer.html"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 16, "width": 5, "latent_dim": 7, "channels": 1},
        {"image_size": 32, "width": 8, "latent_dim": 16, "latent": "uniform"},
        {"image_size": 64, "width": 6},
        {"image_size": 128, "width": 2, "channels": 1},
        {"image_size": 256, "width": 1},
        {"image_size": 16, "width": 5, "latent_dim": 7, "channels": 2},
        {"image_size": 32, "width": 8, "latent_dim": 16, "channels": 4},
        {"image_size": "96x64", "width": 5},
        {"image_size": "40x56", "width": 8, "channels": 1},
        {"image_size": 64, "width": 6, "self_modulation": True},
    ],
    ids=lambda options: "-".join(
        str(options[name]) for name in ("image_size", "channels", "self_modulation") if name in options
    ),
)
def test_both_backends_draw_what_decode_draws(page, tmp_path, options):
    params = some_generator(**options)
    z = params.latent.draw(jax.random.key(3), 5)
    expected = to_uint8(decode(params, z)).astype(int)
    assert expected.std() > 20  # a picture, not a grey area
    address = write(params, tmp_path / "explorer.html")
    code = f"dcgan.decode({np.asarray(z).tolist()}).then((images) => images.map((image) => Array.from(image)))"
    for fragment, name in (("#gpu", "WebGL2"), ("#cpu", "JavaScript")):
        page.open(address + fragment, READY)
        assert page.run("dcgan.backend") == name
        images = np.array(page.run(code)).reshape(expected.shape)
        assert abs(images - expected).max() <= 2, name
    assert page.errors == []


def test_each_class_has_a_button_that_draws_it_and_the_address_says_which(page, tmp_path):
    classes = Classes(("cat & dog", "<b>", "zebra"), (1, 1, 2))
    params = some_generator(image_size=16, width=5, latent_dim=7, classes=classes, self_modulation=True)
    address = write(params, tmp_path / "explorer.html")
    page.open(address, READY)
    assert page.run("[...document.querySelectorAll('#classes button')].map((b) => b.textContent)") == [
        "All",
        *classes.names,
    ]
    z = np.array(page.run("samples.map((sample) => sample.z)"), np.float32)
    assert set(z[:, 7:].sum(0) > 0) == {True} and (z[:, 7:].sum(1) == 1).all()  # all classes, one in each
    for label, fragment in ((0, "#cpu"), (1, "#gpu")):
        page.open(address + fragment, READY)
        click(page, "#classes button", label + 1)
        now = settle(
            page, lambda: np.array(page.run("samples.map((s) => s.z)"), np.float32), lambda z: z[:, 7 + label].all()
        )
        np.testing.assert_array_equal(now[:, :7], z[:, :7])  # the same noise
        drawn = page.run("dcgan.decode(samples.map((s) => s.z)).then((all) => all.map((image) => Array.from(image)))")
        expected = to_uint8(decode(params, z[:, :7], labels=label)).astype(int)
        assert abs(np.array(drawn).reshape(expected.shape) - expected).max() <= 2
        before = grid(page)
        page.open(page.run("location.href"), READY)
        assert grid(page) == before
    way = page.run("between([...samples[0].z.slice(0, 7), 1, 0, 0], [...samples[1].z.slice(0, 7), 0, 0, 1], 0.25)")
    np.testing.assert_allclose(way[7:], [0.75, 0, 0.25])
    assert page.errors == []


def test_without_a_graphics_card_plain_javascript_draws(page, small):
    page.open(small, READY)  # this browser has WebGL2 in software alone, which is slower
    assert page.run("dcgan.backend") == "JavaScript"
    page.open(f"{small}#gpu&seed=2", READY)
    click(page, "#new")
    assert page.run("[dcgan.backend, location.hash.split('&').includes('gpu')]") == ["WebGL2", True]
    there = page.run("backend.draw(samples.map(({ z }) => z)).map((image) => Array.from(image))")
    page.run("backend.draw = () => null")  # as if the card had been taken away
    found = page.run("dcgan.decode(samples.map(({ z }) => z)).then((all) => all.map((image) => Array.from(image)))")
    assert page.run("dcgan.backend") == "JavaScript" and abs(np.array(found) - there).max() <= 2
    assert page.errors == []


def grid(page):
    return page.run("[...document.querySelectorAll('#grid canvas')].map((canvas) => canvas.toDataURL())")


def shown(page, selector):
    return page.run(f"[...document.querySelectorAll('{selector}')].map((canvas) => canvas.toDataURL())")


def click(page, selector, number=0):
    page.run(f"document.querySelectorAll('{selector}')[{number}].click()")


def settle(page, look, wanted):
    """Wait until ``look()`` is what is wanted; drawing takes a moment."""
    for _ in range(500):
        if wanted(found := look()):
            return found
        time.sleep(0.02)
    raise AssertionError("the page did not get there")


def test_the_address_says_which_samples_and_anybody_gets_the_same(page, small):
    page.open(f"{small}#seed=5", READY)
    five = grid(page)
    assert len(set(five)) == 16
    click(page, "#new")
    other = settle(page, lambda: grid(page), lambda found: not set(found) & set(five))
    address = page.run("location.href")
    page.open(address, READY)
    assert grid(page) == other
    page.run("location.hash = '#seed=5'")
    settle(page, lambda: grid(page), lambda found: found == five)
    page.open(f"{small}#seed=-1&variety=x", READY)
    assert page.run("[seed(), variety()]") == [0, 1]
    assert page.errors == []


def test_less_variety_draws_variations_of_the_first_picture_from_z_of_the_usual_length(page, small):
    """A shorter z would let all pictures fade."""
    page.open(f"{small}#seed=5", READY)
    wide, first = np.array(page.run("samples.map(({ z }) => z)")), grid(page)[0]
    page.run("$('variety').value = 0.2; $('variety').dispatchEvent(new Event('input'))")
    settle(page, lambda: page.run("location.hash"), lambda found: found == "#seed=5&variety=0.2")
    near = settle(page, lambda: np.array(page.run("samples.map(({ z }) => z)")), lambda z: not np.allclose(z, wide))
    np.testing.assert_allclose(near, slerp(np.tile(wide[:1], (16, 1)), wide, np.array([0.2]))[0], rtol=1e-4, atol=1e-5)
    assert grid(page)[0] == first
    assert page.errors == []


def test_a_slider_changes_a_picture_along_a_direction_and_shows_both_its_ends(page, tmp_path):
    params = some_generator(image_size=16, width=8, latent_dim=8)
    page.open(f"{write(params, tmp_path / 'explorer.html')}#cpu", READY)
    click(page, "[data-tab=steer]")
    click(page, "#grid button", 5)
    moved = "const {input} = sliders[1]; input.value = 1.5; for (const kind of ['input', 'change']) "
    page.run(f"{moved} input.dispatchEvent(new Event(kind))")
    z, ways = np.array(page.run("samples[5].z"), np.float32), np.asarray(directions(params, 6))
    places = [z + 1.5 * ways[1], *(z + 1.5 * (k != 1) * ways[1] + end * ways[k] for k in range(6) for end in (-3, 3))]
    expected = to_uint8(decode(params, np.stack(places)))[..., :3].astype(int)
    pixels = "Array.from(canvas.getContext('2d').getImageData(0, 0, 16, 16).data)"

    def drawn():
        canvases = "[...document.querySelectorAll('#steer-picture, #sliders canvas')]"
        return np.array(page.run(f"{canvases}.map((canvas) => {pixels})")).reshape(13, 16, 16, 4)[..., :3]

    settle(page, drawn, lambda images: abs(images - expected).max() <= 2)
    click(page, "#straight")
    grid_pixels = page.run("Array.from(samples[5].pixels)")
    settle(page, drawn, lambda images: images[0].ravel().tolist() == grid_pixels)
    assert page.errors == []


CLASSED = Classes(("cat & dog", "zebra"), (1, 2))


def offer(page, content, name="z.json", kind="application/json"):
    """Give the page a file: what it says then."""
    file = f"new File([{json.dumps(content)}], {json.dumps(name)}, {{type: {json.dumps(kind)}}})"
    return page.run(f"openFile({file}).then(() => document.querySelector('#opened p').textContent)")


@pytest.mark.parametrize(("classes", "labels"), [(Classes((), ()), None), (CLASSED, [1, 1]), (CLASSED, [1, 0])])
def test_z_of_a_photograph_is_drawn_first_and_all_goes_on_from_there(page, tmp_path, classes, labels):
    params = some_generator(image_size=16, width=5, latent_dim=7, classes=classes)
    z = np.asarray(params.latent.draw(jax.random.key(3), 2))
    expected = to_uint8(decode(params, z, labels=None if labels is None else np.array(labels))).astype(int)
    page.open(f"{write(params, tmp_path / 'explorer.html')}#seed=4", READY)
    before = grid(page)
    assert "first 2 pictures are yours" in offer(page, latents.to_json(params, z, labels, run="mine"))
    settle(page, lambda: grid(page), lambda shown: shown[0] != before[0])
    drawn = np.array(page.run("samples.slice(0, 2).map(({pixels}) => Array.from(pixels))")).reshape(expected.shape)
    assert abs(drawn - expected).max() <= 2
    assert page.run("label") == (1 if labels == [1, 1] else -1)
    if labels is None:
        assert grid(page)[2:] == before[2:]
    page.run("$('variety').value = 0.2; $('variety').dispatchEvent(new Event('input'))")
    near = settle(
        page, lambda: np.array(page.run("samples.map(({z}) => z)"))[:, :7], lambda z: (z[2:] @ z[0] > 0).all()
    )
    angles = np.degrees(np.arccos(near[2:] @ z[0] / np.linalg.norm(near[2:], axis=1) / np.linalg.norm(z[0])))
    assert (angles < 40).all()
    click(page, "[data-tab=steer]")
    settle(page, lambda: shown(page, "#steer-picture"), lambda found: found == grid(page)[:1])
    page.run("$('variety').value = 1; label = -1; $('close').click()")
    settle(page, lambda: grid(page), lambda shown: shown == before)
    assert page.run("$('opened').hidden") is True
    assert page.errors == []


def test_a_file_is_opened_by_the_button_and_by_dropping_it(page, tmp_path):
    params = some_generator(image_size=16, width=5, latent_dim=7)
    (tmp_path / "z.json").write_text(latents.to_json(params, np.ones((1, 7)), None, run="mine"))
    page.open(write(params, tmp_path / "explorer.html"), READY)
    looks = (lambda: page.run("samples[0].z"), lambda z: z == [1] * 7)
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "z.json")])
    settle(page, *looks)
    click(page, "#close")
    settle(page, looks[0], lambda z: z != [1] * 7)
    data = {"items": [], "files": [str(tmp_path / "z.json")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.send("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)
    settle(page, *looks)
    assert page.run("document.body.className") == "sharp"
    assert page.errors == []


def test_a_file_that_is_not_of_these_weights_is_refused_in_one_line_and_changes_nothing(page, tmp_path):
    params = some_generator(image_size=16, width=5, latent_dim=7, classes=CLASSED)
    page.open(write(params, tmp_path / "explorer.html"), READY)
    good = json.loads(latents.to_json(params, np.ones((1, 7)), [1], run="mine"))
    assert "yours" in offer(page, json.dumps(good))
    settle(page, lambda: page.run("samples[0].z[0] === 1 && Number(document.body.dataset.ready) === run"), bool)
    before = grid(page)
    scaled = params.replace(params=jax.tree.map(lambda weight: 2 * weight, params.params))
    other = json.loads(latents.to_json(scaled, np.ones((1, 7)), [1], run="<b>theirs"))
    picture = good["pictures"][0]
    bad = {
        "other weights than this page, those of <b>theirs, step": other,
        "no z.json that": [],
        "z.json was not opened: it is no z.json": "text",
        "not whole": {**good, "pictures": []},
        "are not whole: let": {**good, "pictures": [{**picture, "z": [1] * 6}]},
        "its numbers are not whole": {**good, "pictures": [{**picture, "z": [None, *[1] * 6]}]},
        "let python -m dcgan_jax.project write it anew": {**good, "pictures": [{**picture, "class": "dog"}]},
        "numbers are": {**good, "pictures": [picture] * 17},
    }
    for sentence, content in bad.items():
        assert sentence in offer(page, json.dumps(content)), content
    assert "it is no z.json" in offer(page, json.dumps(good)[:-5])
    assert "--image makes a z.json of it" in offer(page, "PNG", "photo.png", "image/png")
    assert "larger" in offer(page, "x" * 1_000_001)
    assert grid(page) == before and page.errors == []


def test_between_two_images_the_strip_goes_from_one_to_the_other(page, small):
    page.open(small, READY)
    samples = grid(page)
    click(page, "#grid button", 9)
    click(page, "#grid button", 4)
    strip = settle(page, lambda: shown(page, "#strip canvas"), lambda s: (s[0], s[-1]) == (samples[9], samples[4]))
    assert len(set(strip)) == 8
    lengths = page.run("[0, .5, 1].map((t) => { const z = slerp([3, 0], [0, 3], t); return Math.sqrt(dot(z, z)); })")
    assert np.allclose(lengths, 3)
    page.run("$('position').value = 1; $('position').dispatchEvent(new Event('input'))")
    settle(page, lambda: shown(page, "#between-picture"), lambda found: found == [samples[4]])
    assert page.errors == []


def test_the_picture_that_was_chosen_last_is_taken_along_to_the_other_tabs(page, small):
    page.open(small, READY)
    samples = grid(page)
    click(page, "#grid button", 9)
    click(page, "#grid button", 4)
    click(page, "[data-tab=steer]")
    settle(page, lambda: shown(page, "#steer-picture"), lambda found: found == [samples[4]])
    marks = "[...document.querySelectorAll('#grid span')].map((mark) => mark.textContent)"
    settle(
        page, lambda: page.run(marks), lambda found: found == ["here" if i == 4 else "" for i in range(len(samples))]
    )
    click(page, "#grid button", 7)
    click(page, "[data-tab=walk]")
    assert page.run("walkFrom") == 7
    assert page.errors == []


def test_a_drag_walks_on_from_an_image_at_the_same_length_of_z(page, small):
    page.open(small, READY)
    samples = grid(page)
    click(page, "[data-tab=walk]")
    click(page, "#move")
    click(page, "#grid button", 3)
    settle(page, lambda: shown(page, "#walk-picture"), lambda found: found == [samples[3]])
    before = page.run("dot(here, here)")
    page.run("$('walk-picture').scrollIntoView({block: 'center'})")
    box = page.run("(({x, y, width}) => [x + width / 2, y + width / 2])($('walk-picture').getBoundingClientRect())")
    mouse = {"button": "left", "clickCount": 1}
    page.send("Input.dispatchMouseEvent", type="mousePressed", x=box[0], y=box[1], **mouse)
    for i in range(1, 6):
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 20 * i, y=box[1], button="left", buttons=1)
    page.send("Input.dispatchMouseEvent", type="mouseReleased", x=box[0] + 100, y=box[1], **mouse)
    moved = settle(page, lambda: shown(page, "#walk-picture"), lambda found: found != [samples[3]])
    page.run("$('walk-picture').focus()")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowUp")
    settle(page, lambda: shown(page, "#walk-picture"), lambda found: found != moved)
    assert np.isclose(page.run("dot(here, here)"), before)
    assert page.errors == []


def test_the_walk_moves_by_itself_until_it_is_paused(page, small):
    page.open(small, READY)
    click(page, "[data-tab=walk]")
    seen = set()
    settle(page, lambda: seen.update(shown(page, "#walk-picture")) or len(seen), lambda count: count >= 5)
    assert np.isclose(page.run("dot(here, here)"), page.run("dot(samples[0].z, samples[0].z)"))
    click(page, "#move")
    assert page.run("$('move').textContent") == "Go on"
    settle(page, lambda: page.run("strolling"), lambda found: found is False)
    still = page.run("here")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run("here") == still
    click(page, "#move")
    settle(page, lambda: page.run("here"), lambda found: found != still)
    click(page, "[data-tab=between]")
    settle(page, lambda: page.run("strolling"), lambda found: found is False)  # nothing is drawn that nobody sees
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    page.open(small, READY)
    assert page.run("[moving, $('move').textContent]") == [False, "Go on"]
    page.send("Emulation.setEmulatedMedia", features=[])
    assert page.errors == []


def test_arithmetic_averages_up_to_three_images_for_each_term(page, small):
    page.open(small, READY)
    samples = grid(page)
    click(page, "[data-tab=arithmetic]")
    terms = "#terms > button"
    click(page, terms, 1)
    click(page, "#grid button", 0)  # B is what A is, so the answer is C
    # A longer z than usual would be shortened.
    page.run("samples[2].z = times(samples[2].z, 0.9 * USUAL / Math.sqrt(dot(samples[2].z, samples[2].z))); drawTab()")
    pictures = f"{terms} > canvas, #arithmetic-picture"
    settle(page, lambda: shown(page, pictures), lambda found: found[:2] == [samples[0]] * 2 and found[2] == found[3])
    click(page, terms, 2)
    for i in (5, 6, 7):
        click(page, "#grid button", i)
    settle(page, lambda: shown(page, f"{terms}:nth-child(3) div canvas"), lambda found: found == samples[5:8])
    wanted = page.run("decode([mean([5, 6, 7].map((i) => samples[i].z))]).then(([image]) => Array.from(image))")
    seen = "Array.from($('terms').children[2].querySelector('canvas').getContext('2d').getImageData(0, 0, 16, 16).data)"
    settle(page, lambda: np.array(page.run(seen)).reshape(-1, 4)[:, :3].ravel().tolist(), lambda found: found == wanted)
    assert page.errors == []


def test_pictures_are_saved(page, small, tmp_path):
    page.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.open(f"{small}#seed=3", READY)
    sizes = {"pictures-3.png": ("#save", (1024, 1024)), "between.png": ("#save-strip", (1024, 128))}
    sizes["walk.png"] = ("#save-walk", (1024, 1024))
    click(page, "[data-tab=walk]")
    click(page, "#move")
    click(page, "[data-tab=between]")
    for name, (button, size) in sizes.items():
        click(page, button)
        settle(page, lambda: (tmp_path / name).exists(), bool)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == size
    with Image.open(tmp_path / "pictures-3.png") as picture:  # each pixel as a square of its colour
        sheet = np.asarray(picture.convert("RGB"))
    small_sheet = sheet[::16, ::16]
    np.testing.assert_array_equal(sheet, small_sheet.repeat(16, 0).repeat(16, 1))
    last = page.run("Array.from(samples[15].pixels)")
    np.testing.assert_array_equal(small_sheet[48:, 48:], np.reshape(last, (16, 16, 3)))
    assert page.errors == []


def test_it_fits_a_phone_and_names_its_parts(page, small):
    page.open(small, READY)
    for width in (390, 1280):
        page.screenshot(width)
        assert page.run("document.documentElement.scrollWidth") <= width
    heads = page.run("[document.title, $('title').textContent, $('introduction').textContent, $('facts').textContent]")
    assert heads == ["</script>, drawn", "</script>, drawn", "<i> of 12.", "<b> · 8×8"]
    rendering = "getComputedStyle(document.querySelector('#grid canvas')).imageRendering"
    assert page.run(rendering) == "pixelated"  # 16 pixels are enlarged without blur
    click(page, "#sharp")
    assert page.run(rendering) == "auto"
    unnamed = page.run(
        "[...document.querySelectorAll('canvas, button, input')].filter((e) => !(e.ariaLabel || e.ariaHidden"
        " || e.textContent.trim() || (e.labels && e.labels.length))).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert page.errors == []

"""What a run folder's small JSON files hold is checked; what does not fit is refused by its name."""

import json

import pytest

from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.errors import InputError

ODD = (
    "3",
    "[1]",
    '{"count": 1e400}',
    '[{"seconds": "x"}]',
    '[{"versions": 3}]',
    '[{"seconds": NaN}]',
    '[{"cores": true}]',
)


@pytest.mark.parametrize("content", [*ODD, "[" * 10_000, "\udcff", "[{", '[{"step": 1' + "0" * 400 + "}]"])
def test_odd_files_are_damaged(tmp_path, content):
    folder = RunFolder(tmp_path)
    for path, read in ((folder.timing, folder.timings), (folder.images, folder.images_then)):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match=f"{path} is damaged"):
            read()


def test_what_a_run_wrote_is_read(tmp_path):
    folder = RunFolder(tmp_path)
    folder.timing.write_text(json.dumps([{"seconds": 1, "images_per_second": None}]))
    folder.images.write_text(json.dumps({"count": 3, "sha256": "a", "run": "b"}))
    assert folder.timings()[0]["seconds"] == 1 and folder.images_then() == {
        "count": 3,
        "sha256": "a",
        "run": "b",
        "objects": None,
        "classes": None,
        "values": None,
    }

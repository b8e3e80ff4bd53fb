import zipfile

import pytest


@pytest.fixture(scope="session")
def archive(photos, tmp_path_factory):
    """The photos as a .zip, with the litter that archives come with."""
    path = tmp_path_factory.mktemp("zip") / "photos.zip"
    with zipfile.ZipFile(path, "w") as out:
        for file in sorted(photos.rglob("*.png")):
            out.write(file, f"deep/down/{file.relative_to(photos)}")
        out.writestr("__MACOSX/deep/._00.png", b"resource fork")
        out.writestr("deep/.hidden.png", b"hidden")
        out.writestr("deep/readme.txt", b"text")
    return path

"""The images that a run was trained on, opened again."""

from dcgan_jax.data.store import Store, open_store
from dcgan_jax.run.folder import RunFolder


def images_of(folder: RunFolder, purpose: str = "evaluate the run") -> Store:
    """The images that the run was trained on; ``purpose``, what they are for, completes a message.

    Raises:
      InputError: they cannot be read, or are others now.
    """
    config = folder.config()
    store = open_store(config)
    folder.check_images(store, config.data, remedy=f"restore those to {purpose}")
    return store

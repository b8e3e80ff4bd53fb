"""The names of ``dcgan_jax`` and where they live: this list is what editors read, and what ``__init__.py`` imports."""

from .config import Config as Config
from .data.pipeline import batches as batches
from .data.settle import settle as settle
from .data.store import Store as Store
from .data.store import open_store as open_store
from .gan.average import generator_params as generator_params
from .gan.directions import directions as directions
from .gan.networks import Discriminator as Discriminator
from .gan.networks import DiscriminatorBlock as DiscriminatorBlock
from .gan.networks import Generator as Generator
from .gan.networks import GeneratorBlock as GeneratorBlock
from .gan.objectives import Objective as Objective
from .gan.pixels import from_pixels as from_pixels
from .gan.pixels import from_uint8 as from_uint8
from .gan.pixels import to_uint8 as to_uint8
from .gan.sampling import decode as decode
from .gan.sampling import sample as sample
from .gan.sampling import sample_labels as sample_labels
from .gan.sampling import slerp as slerp
from .gan.state import create_state as create_state
from .gan.step import train_step as train_step
from .metrics.projection import project_images as project_images
from .recipes import recipe as recipe
from .run.animation import animate as animate
from .run.classes import Classes as Classes
from .run.classes import evaluate_classes as evaluate_classes
from .run.evaluation import Evaluation as Evaluation
from .run.export import export as export
from .run.fit import fit as fit
from .run.measure import evaluate as evaluate
from .run.own_loop import resume as resume
from .run.own_loop import save as save
from .run.pictures import Pictures as Pictures
from .run.pictures import generate as generate
from .run.projection import Projection as Projection
from .run.projection import project as project
from .run.report import report as report
from .run.restore import restore as restore
from .run.restore import restore_state as restore_state
from .system.cache import cache_compilations as cache_compilations
from .system.errors import InputError as InputError
from .system.errors import NonFiniteError as NonFiniteError
from .system.errors import Stopped as Stopped
from .views.grid import show as show

__version__: str

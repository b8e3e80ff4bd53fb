"""Plant bugs of one line, one at a time, and see whether the quick tests notice: which tests cannot fail?

    python experiments/planted_bugs.py                 # all of them
    python experiments/planted_bugs.py --only gan/     # those whose file or text holds this
    python experiments/planted_bugs.py --check         # only that each bug still fits the code

Hardware: any CPU; needs the extra "test". Time: about 15 seconds of a free core for each bug.

Each bug is a file of the package, a text in it that occurs exactly once, what a mistake could have made of it, and the
tests that should notice. The package and its tests are copied to a temporary folder, where the bug is planted. When
code changes, its bugs change with it: the script says which no longer fit. TensorFlow, a browser and long runs are
left out, as far as possible, so that a bug takes seconds.

Result (November 2026, two shared cores): of 139 bugs that were planted the tests noticed 131. Six showed tests that could
not fail, which are sharpened since; one was noticed by another test than the one named, and one changed no number.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import flax.linen  # noqa: F401 - once for all trials
import jax
import optax  # noqa: F401
import PIL.Image  # noqa: F401
import pytest
import scipy.stats  # noqa: F401

ROOT = Path(__file__).parents[1]
COPIED = (
    "dcgan_jax",
    "tests",
    "experiments",
    "docs",
    "pyproject.toml",
    "zensical.toml",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
PROGRAMS = ROOT / ".pytest_cache" / "planted"
SECONDS = 900
"""A test that takes longer hangs, which counts as noticed."""


class Bug(NamedTuple):
    """``text`` of ``file`` becomes ``mistake``. ``tests`` are files below tests/, or tests in them."""

    file: str
    tests: str
    text: str
    mistake: str


AUGMENT = "gan/test_augment.py"
AVERAGE = "gan/test_average.py"
NETWORKS = "gan/test_networks.py"
OBJECTIVES = "gan/test_objectives.py"
PARITY = "gan/test_parity.py"
PROJECTED = "gan/test_projected.py"
STEP = "gan/test_step.py"
DISTANCES = "metrics/test_distances.py"
EVALUATE = "metrics/test_evaluate.py"
FEATURES = "metrics/test_features.py"
LABELS = "gan/test_labels.py"
MONITOR = "metrics/test_monitor.py"
CLASSES = "metrics/test_classes.py"
RESUME = "run/test_resume.py"

BUGS = [
    # --- gan: the step ---------------------------------------------------------------------------------------
    Bug("gan/step.py", f"{OBJECTIVES}::test_each_network_learns_at_its_own_rate", "batch_stats=stats, learning_rate=now.learning_rate_D", "batch_stats=stats, learning_rate=now.learning_rate_G"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_all_that_the_discriminator_sees_is_changed_each_time_anew", "critic.judge(D, critic.augment(real, 3), batch_stats=stats)", "critic.judge(D, real, batch_stats=stats)"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_all_that_the_discriminator_sees_is_changed_each_time_anew", "critic.judge(D, critic.augment(fake, 2))", "critic.judge(D, critic.augment(fake, 1))"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_all_that_the_discriminator_sees_is_changed_each_time_anew", "critic.judge(D, critic.augment(fake, 2))", "critic.judge(D, fake)"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_all_that_the_discriminator_sees_is_changed_each_time_anew", "critic.judge(D, critic.augment(real, 3), batch", "critic.judge(D, critic.augment(real, 2), batch"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_all_that_the_discriminator_sees_is_changed_each_time_anew", "fake, 1, penalty.fake)", "fake, 0, penalty.fake)"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_r1_is_of_the_real_images_and_r2_of_the_generated_ones", "real, 0, penalty.real)", "real, 0, penalty.fake)"),
    Bug("gan/objectives.py", f"{OBJECTIVES}::test_every_other_step_twice_as_strong", "step % self.every == 0", "(step + 1) % self.every == 0"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_every_other_step_twice_as_strong", "penalty.every * critic.gamma / 2 * r1", "critic.gamma / 2 * r1"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_ten_steps_of_the_robust_recipe", "+ penalty.every * critic.gamma / 2 * r2", "- penalty.every * critic.gamma / 2 * r2"),
    Bug("gan/step.py", f"{OBJECTIVES}::test_all_that_the_discriminator_sees_is_changed_each_time_anew", "return augment.flip(key, images) if state.flips else images", "return images"),
    Bug("gan/step.py", f"{PARITY}::test_gradients_of_the_first_step", "objective.discriminator(real_logits, fake_logits)", "objective.discriminator(fake_logits, real_logits)"),
    Bug("gan/step.py", f"{PARITY}::test_running_statistics_after_a_step", "return D.replace(batch_stats=stats), metrics, gradient", "return D, metrics, gradient"),
    Bug("gan/step.py", f"{AVERAGE}::test_a_young_average_forgets_the_first_weights", "ema_decay(state.step + 1,", "ema_decay(state.step,"),
    Bug("gan/step.py", f"{AVERAGE}::test_the_average_halves_the_old_weights_after_a_half_life", "decay * average + (1 - decay) * new", "(1 - decay) * average + decay * new"),
    Bug("gan/step.py", f"{STEP}::test_metrics_agree_with_their_definitions", '"D_x": jax.nn.sigmoid(real_logits).mean()', '"D_x": jax.nn.sigmoid(logits).mean()'),
    Bug("gan/step.py", f"{STEP}::test_a_step_is_a_pure_function_and_each_step_has_noise_of_its_own", "jax.random.fold_in(key, state.step), images.shape[0]", "key, images.shape[0]"),
    Bug("gan/step.py", f"{STEP}::test_several_steps_at_once_are_the_same_steps_and_what_lies_beyond_is_thrown_away", "jnp.where(number < count, new, old)", "jnp.where(number <= count, new, old)"),
    Bug("gan/step.py", f"{PARITY}::test_gradients_of_the_first_step", '"grad_norm_G": optax.tree.norm(g_grads)', '"grad_norm_G": optax.tree.norm(d_grads)'),
    Bug("gan/step.py", "test_face.py::test_wrong_inputs_are_refused_with_a_sentence", "not -1 <= low <= high <= 1", "not -1 <= low <= high"),
    Bug("gan/step.py", f"{LABELS}::test_networks_of_your_own_learn_from_the_logit_of_the_class_alone", "state.classes.chosen, labels=labels)", "state.classes.chosen, labels=0 * labels)"),
    Bug("gan/step.py", f"{LABELS}::test_networks_of_your_own_learn_from_the_logit_of_the_class_alone", "state.classes.beside(z, labels)", "state.classes.beside(z, labels[::-1])"),
    Bug("gan/classes.py", f"{LABELS}::test_the_logit_of_each_images_class_is_taken_at_each_place_and_of_each_head", "logits.reshape(*logits.shape[:-1], -1, len(self))", "logits.reshape(*logits.shape[:-1], len(self), -1).swapaxes(-1, -2)"),
    Bug("gan/average.py", f"{LABELS}::test_batchnorms_statistics_are_those_of_the_classes_of_training", "batch_size, as_trained=True", "batch_size, as_trained=False"),
    Bug("gan/networks.py", f"{LABELS}::test_batchnorms_statistics_are_those_of_the_classes_of_training", "ones[self.latent_dim :] = self.latent_dim**0.5", "ones[self.latent_dim :] = 1"),
    Bug("share/folding.py", "test_export.py::test_onnx_takes_the_class_of_each_image_as_a_second_input", "layers[0].kernel * inputs[None, None, :, None]", "layers[0].kernel"),
    Bug("data/pipeline.py", "data/test_pipeline.py::test_labels_are_those_of_the_images_where_some_are_held_out", "store.labels[indices]) if config.conditional", "store.labels[places(step)]) if config.conditional"),
    Bug("data/pipeline.py", "test_conditional.py::test_balanced_classes_come_equally_often_and_each_image_of_a_class_once_before_it_comes_again", "(seed, 1, int(label), epoch)", "(seed, 1, int(label), turn)"),
    # --- gan: state, average, sampling -----------------------------------------------------------------------
    Bug("gan/state.py", f"{OBJECTIVES}::test_r1_is_of_the_real_images_and_r2_of_the_generated_ones", 'Penalty(config.penalty in ("r1", "both"), config.penalty in ("r2", "both")', 'Penalty(config.penalty in ("r2", "both"), config.penalty in ("r1", "both")'),
    Bug("gan/state.py", f"{OBJECTIVES}::test_what_is_annealed_goes_from_start_to_end", "config.learning_rate * config.discriminator_rate", "config.learning_rate / config.discriminator_rate"),
    Bug("gan/state.py", f"{OBJECTIVES}::test_what_is_annealed_goes_from_start_to_end", "left = (1 + jnp.cos(jnp.pi * jnp.minimum(share, 1))) / 2", "left = 1 - share"),
    Bug("gan/state.py", f"{OBJECTIVES}::test_a_hyperbolic_penalty_falls_for_ever", "(end + share * (start - end))", "(end + jnp.minimum(share, 1) * (start - end))"),
    Bug("gan/state.py", f"{OBJECTIVES}::test_what_is_annealed_goes_from_start_to_end", "1 - (1 - config.beta2) * config.beta2_final", "config.beta2 * config.beta2_final"),
    Bug("gan/state.py", f"{OBJECTIVES}::test_long_gradients_are_shortened", "optax.clip_by_global_norm(self.clip_norm)", "optax.clip(self.clip_norm)"),
    Bug("gan/state.py", f"{OBJECTIVES}::test_without_a_weight_the_penalty_follows_side_and_batch", "math.sqrt(height * width) / config.batch_size", "config.batch_size / math.sqrt(height * width)"),
    Bug("gan/state.py", f"{STEP}::test_every_setting_of_the_networks_and_the_step_arrives", "flips=config.flip", "flips=False"),
    Bug("gan/state.py", f"{STEP}::test_every_setting_of_the_networks_and_the_step_arrives", "Latent(config.latent_dim, config.latent)", "Latent(config.latent_dim)"),
    Bug("gan/state.py", f"{STEP}::test_every_setting_of_the_networks_and_the_step_arrives", "OBJECTIVES[config.loss]", 'OBJECTIVES["bce"]'),
    Bug("gan/state.py", f"{PARITY}::test_gradients_of_the_first_step", "optax.adam(learning_rate, b1=self.beta1, b2=beta2)", "optax.adam(learning_rate, b2=beta2)"),
    Bug("gan/average.py", f"{AVERAGE}::test_the_average_halves_the_old_weights_after_a_half_life", "0.5 ** (batch_size / ", "0.5 ** (1 / "),
    Bug("gan/average.py", f"{AVERAGE}::test_a_young_average_forgets_the_first_weights", "0.05 * batch_size * step", "0.05 * step"),
    Bug("gan/average.py", f"{AVERAGE}::test_the_statistics_are_those_of_all_latents_together", "x / batches for path, x in total", "x for path, x in total"),
    Bug("gan/average.py", f"{AVERAGE}::test_the_statistics_are_those_of_all_latents_together", "key = jax.random.fold_in(random_key(0), i)", "key = random_key(0)"),
    Bug("gan/average.py", f"{AVERAGE}::test_the_statistics_are_those_of_all_latents_together", "params.replace(params=state.ema)", "params"),
    Bug("gan/sampling.py", "test_generate.py::test_a_sample_can_start_anywhere_and_a_sheet_that_is_too_large_is_a_sentence", "(start + jnp.arange(num))", "(jnp.arange(num))"),
    Bug("gan/sampling.py", "test_animate.py::test_arcs_have_the_length_of_their_ends", "(1 - t) * lengths[0] + t * lengths[1]", "t * lengths[0] + (1 - t) * lengths[1]"),
    Bug("gan/step.py", f"{PROJECTED}::test_a_step_is_that_of_plain_formulas", "state.heads_gamma * now.gamma", "now.gamma"),
    Bug("gan/step.py", f"{PROJECTED}::test_a_step_is_that_of_plain_formulas", "(critic.weight * g).astype", "g.astype"),
    Bug("gan/projected.py", f"{PROJECTED}::test_a_step_is_that_of_plain_formulas", "jnp.where(x >= 0, 1.0, self.leaky_slope)", "jnp.where(x >= 0, 1.0, 0.1)"),
    Bug("gan/projected.py", f"{PROJECTED}::test_maps_are_mixed_as_by_numpy", "(y + coarser.repeat", "(y - coarser.repeat"),
    Bug("gan/projected.py", f"{PROJECTED}::test_maps_are_mixed_as_by_numpy", "np.float32(0.5**0.5)", "np.float32(0.5)"),
    Bug("gan/projected.py", f"{PROJECTED}::test_maps_of_drawings_are_of_unit_size", 'project / weights["sizes"][level]', "project"),
    Bug("metrics/monitor.py", "metrics/test_monitor.py::test_a_discriminator_of_features_has_a_memory_of_its_own", "state.heads(state.features(images), train=False)[0]", "state.discriminator(images, train=False)[0]"),
    # --- gan: losses, networks, augmentation, convolutions ---------------------------------------------------
    Bug("gan/objectives.py", f"{OBJECTIVES}::test_each_loss_and_its_gradient", "jax.nn.softplus(real - fake).mean()", "jax.nn.softplus(fake - real).mean()"),
    Bug("gan/objectives.py", f"{OBJECTIVES}::test_each_loss_and_its_gradient", "jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake)", "jax.nn.relu(1 - real).mean() + jax.nn.relu(1 - fake)"),
    Bug("gan/objectives.py", f"{OBJECTIVES}::test_the_penalty_s_passes_serve_the_loss_too", "x.astype(jnp.float32), pull_images(to_seen)[0])", "x.astype(jnp.float32), to_seen)"),
    Bug("gan/objectives.py", f"{OBJECTIVES}::test_the_penalty_s_passes_serve_the_loss_too", "+ to_scale).reshape(logits.shape)", ").reshape(logits.shape)"),
    Bug("gan/networks.py", f"{PARITY}::test_running_statistics_after_a_step", "momentum=0.9,", "momentum=0.1,"),
    Bug("gan/networks.py", f"{NETWORKS}::test_kernels_without_batchnorm_start_with_the_variance_of_he", "gain=2 / (1 + self.leaky_slope**2)", "gain=1.0"),
    Bug("gan/networks.py", f"{NETWORKS}::test_spectral_norm_has_the_gradient_of_a_power_iteration_that_stands_still", "left = product(lax.stop_gradient(matrix), u)", "left = product(matrix, u)"),
    Bug("gan/networks.py", f"{NETWORKS}::test_spectral_norm_makes_the_largest_singular_value_one", "        u.value = right", "        u.value = u.value"),
    Bug("gan/networks.py", f"{NETWORKS}::test_the_first_block_has_batchnorm_when_asked", "batchnorm=i > 0 or self.first_batchnorm", "batchnorm=i > 0 and self.first_batchnorm"),
    Bug("gan/networks.py", f"{NETWORKS}::test_the_latent_distributions", "jnp.float32, -1.0, 1.0)", "jnp.float32, 0.0, 1.0)"),
    Bug("gan/networks.py", f"{NETWORKS}::test_the_slope_of_the_leaky_relu", "jnp.where(x >= 0, 1.0, self.leaky_slope)", "jnp.where(x >= 0, 1.0, 0.2)"),
    Bug("gan/augment.py", f"{AUGMENT}::test_the_probability_follows_from_the_number_of_images", "(_NONE - images) / (_NONE - _FULL)", "(_NONE - images) / _NONE"),
    Bug("gan/augment.py", f"{AUGMENT}::test_colours_are_changed_by_factors_of_the_whole_range_each_by_its_own", "(b,), maxval=2.0", "(b,), maxval=1.0"),
    Bug("gan/augment.py", f"{AUGMENT}::test_colours_are_changed_by_factors_of_the_whole_range_each_by_its_own", "minval=0.5, maxval=1.5", "minval=1.0, maxval=1.5"),
    Bug("gan/augment.py", f"{AUGMENT}::test_colours_are_changed_by_factors_of_the_whole_range_each_by_its_own", "contrast(y, jax.random.uniform(keys[2]", "contrast(y, jax.random.uniform(keys[1]"),
    Bug("gan/augment.py", f"{AUGMENT}::test_the_values_are_fresh_for_each_image_and_in_range", "[[h // 8, w // 8]]", "[[h // 4, w // 8]]"),
    Bug("gan/augment.py", f"{AUGMENT}::test_a_flip_mirrors_half_of_the_images", "x[:, :, ::-1], x)", "x[:, ::-1], x)"),
    Bug("gan/conv.py", "gan/test_conv.py::test_forward_and_both_gradients", "_OUTPUT = ((1, 1, 0), (0, -1, 1))", "_OUTPUT = ((1, 1, 0), (0, 1, 1))"),
    Bug("gan/conv.py", "gan/test_conv.py::test_second_derivatives", "lambda x, g, k, t: _input_gradient(g, k, t), lambda x, g, k, t: _conv(x, k, t)", "lambda x, g, k, t: _input_gradient(g, k, t), lambda x, g, k, t: _conv(-x, k, t)"),
    Bug("gan/pixels.py", "gan/test_pixels.py", "np.clip(np.round(", "np.clip(np.floor("),
    Bug("gan/pixels.py", "gan/test_pixels.py", "_LEVELS * (_LEVELS[:, None] / 255)", "_LEVELS * (_LEVELS[:, None] / 256)"),
    Bug("gan/pixels.py", "gan/test_pixels.py", "(1 - alpha) * ((ground + 1) / 2)", "(1 - alpha) * ((ground + 1) / 4)"),
    Bug("gan/augment.py", AUGMENT, "/ 2 * alpha, alpha)", "/ 2, alpha)"),
    Bug("gan/augment.py", AUGMENT, "_moved(x + 1, shift) - 1", "_moved(x, shift)"),
    Bug("gan/projected.py", f"{PROJECTED}::test_images_with_alpha_are_seen_on_black_and_on_white_in_turn", "jnp.array(GROUNDS)", "jnp.array(GROUNDS[:1])"),
    # --- metrics ---------------------------------------------------------------------------------------------
    Bug("metrics/distances.py", DISTANCES, "np.trace(cov_a + cov_b) - 2 * cross", "np.trace(cov_a + cov_b) - cross"),
    Bug("metrics/distances.py", DISTANCES, "/ (size * (size - 1))", "/ (size * size)"),
    Bug("metrics/distances.py", DISTANCES, "x @ y.T / x.shape[1] + 1", "x @ y.T + 1"),
    Bug("metrics/distances.py", DISTANCES, "inside = squared < real_radii[rows, None]", "inside = squared <= real_radii[rows, None]"),
    Bug("metrics/distances.py", DISTANCES, "np.partition(squared, k, axis=1)[:, k]", "np.partition(squared, k, axis=1)[:, k - 1]"),
    Bug("metrics/distances.py", DISTANCES, "reached[rows] = (squared < fake_radii)", "reached[rows] = (squared < real_radii[rows, None])"),
    Bug("metrics/distances.py", DISTANCES, ".sum() for _, squared in _squared_distances(x, x)) / (len(x) * (len(x) - 1))", ".sum() for _, squared in _squared_distances(x, x)) / len(x) ** 2"),
    Bug("metrics/distances.py", DISTANCES, "weights.append(len(h))", "weights.append(len(f))"),
    Bug("metrics/distances.py", DISTANCES, 'np.searchsorted(y, x, "right")', 'np.searchsorted(y, x, "left")'),
    Bug("metrics/distances.py", DISTANCES, "directions[:, : -count - 1 : -1]", "directions[:, :count]"),
    Bug("metrics/image_distances.py", DISTANCES, "images - 4 * _blur(stuffed)", "images - _blur(stuffed)"),
    Bug("data/split.py", DISTANCES, "counts.max() > n // 4", "counts.max() > n"),
    Bug("metrics/image_distances.py", DISTANCES, "means = levels.mean(0, np.float64).mean((0, 1))", "means = levels.mean((0, 1, 2, 3), np.float64)"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_every_number_is_that_of_its_function", "part, other = first[: self.n], second[: self.n]", "part, other = first[: self.n], first[: self.n]"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_every_number_is_that_of_its_function", "fresh, rest = self._second[::2], self._second[1::2]", "fresh, rest = self._second[::2], self._second[::2]"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_every_number_is_that_of_its_function", "return self._compared(images, vectors, vectors, self._second, self._second_far)", "return self._compared(images, vectors, vectors, self._first, self._second_far)"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_every_number_is_that_of_its_function", "np.abs(ratios - 1).argmax()", "np.abs(ratios - 1).argmin()"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_every_number_is_that_of_its_function", "self._far(fresh) / held_out_far", "held_out_far / self._far(fresh)"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_every_number_is_that_of_its_function", "min(self.n, SWD_IMAGES) if name", "self.n if name"),
    Bug("metrics/evaluate.py", f"{EVALUATE}::test_several_sets_give_a_mean_and_a_range", "Figures(float(np.mean(values)), floor, min(values), max(values), n)", "Figures(float(np.mean(values)), floor, max(values), min(values), n)"),
    Bug("metrics/features.py", FEATURES, 'jax.image.resize(x, shape, "linear")', 'jax.image.resize(x, shape, "nearest")'),
    Bug("metrics/features.py", FEATURES, "[opaque(chunk, ground) for", "[opaque(chunk) for"),
    Bug("metrics/features.py", FEATURES, "network_outputs(_weights(), to_levels(x))[0]", "network_outputs(_weights(), x * 127.5)[0]"),
    Bug("metrics/features.py", FEATURES, 'pooled - weights["projection"]["mean"][None]', 'pooled + weights["projection"]["mean"][None]'),
    Bug("metrics/features.py", FEATURES, "depth2 = x + block(second)", "depth2 = block(second)"),
    Bug("pretrained/efficientnet.py", "metrics/test_imagenet.py", "_EPSILON = 1e-3", "_EPSILON = 1e-5"),
    Bug("pretrained/efficientnet.py", "metrics/test_imagenet.py", "(1, 3, 3, 4, 4, 5, 1)", "(1, 3, 3, 4, 5, 4, 1)"),
    Bug("pretrained/efficientnet.py", "pretrained/test_efficientnet.py::test_other_weights_are_refused", "hexdigest() != network.sha256", "hexdigest() not in (LITE0.sha256, LITE2.sha256)"),
    Bug("metrics/imagenet.py", "metrics/test_imagenet.py", "NETWORK = efficientnet.LITE2", "NETWORK = efficientnet.LITE0"),
    Bug("run/evaluation.py", "run/test_evaluation.py", '"ImageNet": LITE0.name', '"ImageNet": LITE2.name'),
    Bug("metrics/monitor.py", f"{MONITOR}::test_figures_are_those_of_one_half_against_samples_and_against_the_other_half", "features(store.take_uint8(other[: self._n]))", "features(store.take_uint8(half[: self._n]))"),
    Bug("metrics/monitor.py", f"{MONITOR}::test_figures_are_those_of_one_half_against_samples_and_against_the_other_half", "generator_params(state, num=_FAKES)", "generator_params(state, num=_FAKES, ema=False)"),
    Bug("metrics/monitor.py", f"{MONITOR}::test_figures_are_those_of_one_half_against_samples_and_against_the_other_half", "diversity_ratio(self._reals, fakes)", "diversity_ratio(fakes, self._reals)"),
    Bug("metrics/monitor.py", f"{MONITOR}::test_memory_is_how_far_held_out_images_are_on_the_way_to_generated_ones", "(trained - unseen) / (trained - fake)", "(unseen - fake) / (trained - fake)"),
    Bug("metrics/monitor.py", f"{MONITOR}::test_memory_is_how_far_held_out_images_are_on_the_way_to_generated_ones", "store.take(train[pick]), store.take(others)", "store.take(others), store.take(train[pick])"),
    Bug("metrics/classes.py", f"{CLASSES}::test_the_interval_is_that_of_a_binomial_where_no_mistake_is_made", "(0.025, 0.975)", "(0.1, 0.9)"),
    Bug("metrics/classes.py", f"{CLASSES}::test_the_share_among_the_reals_is_that_of_the_labels_not_of_what_the_classifier_names", "real = confusion.sum(1) / confusion.sum()", "real = confusion.sum(0) / confusion.sum()"),
    Bug("metrics/classes.py", f"{CLASSES}::test_a_class_that_is_drawn_badly_comes_last_and_one_that_is_not_drawn_has_no_figures", "return kid.value - kid.floor if kid", "return kid.value if kid"),
    Bug("metrics/classes.py", f"{CLASSES}::test_shares_of_a_known_mixture_come_back_through_the_mistakes", "rows = confusion / np.maximum(confusion.sum(-1, keepdims=True), 1)", "rows = confusion / np.maximum(confusion.sum(-2, keepdims=True), 1)"),
    Bug("metrics/classifier.py", f"{CLASSES}::test_the_classifier_tells_shapes_apart_that_it_has_not_seen", "train = np.setdiff1d(np.arange(len(labels)), held_out)", "train = np.arange(len(labels))"),
    # --- data ------------------------------------------------------------------------------------------------
    Bug("data/split.py", f"{MONITOR}::test_held_out_images_are_whole_labels_and_never_trained_on", "if end <= most), default=0)", "if end >= most), default=0)"),
    Bug("data/split.py", f"{MONITOR}::test_held_out_images_are_whole_labels_and_never_trained_on", "return np.setdiff1d(every, others), np.sort(others)", "return every, np.sort(others)"),
    Bug("data/pipeline.py", "data/test_pipeline.py", "np.random.default_rng((seed, epoch))", "np.random.default_rng(seed)"),
    Bug("data/pipeline.py", "data/test_pipeline.py", "indices = train[places(step)]", "indices = places(step)"),
    Bug("data/decode.py", "data/test_decode.py", "pixels[pixels[..., -1] == 0] = 0", "pass"),
    Bug("sizes.py", "gan/test_networks.py::test_other_sizes_start_from_another_map", "return min(layouts, key", "return max(layouts, key"),
    Bug("gan/conv.py", "gan/test_conv.py::test_forward_and_both_gradients", "(0, -side % unit)", "(-side % unit, 0)"),
    Bug("data/settle.py", "data/test_settle.py::test_a_picture_has_the_shape_in_which_it_is_shown", "_TURNED = (5, 6, 7, 8)", "_TURNED = ()"),
    Bug("data/planes.py", "data/test_decode.py", "(outer - inner) // 2 for outer, inner", "(outer - inner) for outer, inner"),
    Bug("data/depth.py", "data/test_values.py", "* (top / (white - black))", "* ((top + 1) / (white - black))"),
    Bug("data/depth.py", "data/test_values.py", "full = full[::-1] if tiff.get(262) == 0 else full", "full = full[::-1] if tiff.get(262) == 1 else full"),
    Bug("data/depth.py", "data/test_values.py", "if low < high < (top + 1) / _DARK:", "if low < high < (top + 1) / (2 * _DARK):"),
    Bug("data/colour.py", "data/test_values.py", "image.putalpha(clear)", "image.putalpha(255)"),
    Bug("data/colour.py", "data/test_values.py", "if abs(converted.astype(int) - colours).max() <= 1:", "if abs(converted.astype(int) - colours).max() <= 99:"),
    Bug("data/listing.py", "data/test_listing.py", "if len(kinds) > 1 and not", "if len(kinds) > 0 and not"),
    Bug("data/listing.py", "data/test_listing.py", "circles += not new", "circles += new"),
    Bug("data/build.py", "data/test_store.py", "len(self.skipped) > len(self.labels)", "len(self.skipped) >= len(self.labels)"),
    Bug("data/store.py", "data/test_store.py", "store.fingerprint != source.fingerprint", "store.label_names is None"),
    Bug("data/idx.py", "data/test_sources.py", "pixels.T if lying else pixels", "pixels"),
    Bug("data/sprites.py", "data/test_sprites.py", "np.random.default_rng((seed, index))", "np.random.default_rng(index)"),
    # --- run -------------------------------------------------------------------------------------------------
    Bug("run/loop.py", f"{RESUME}::test_a_run_that_diverges_goes_back_and_tries_other_noise", "noise_key = jax.random.fold_in(noise_key, attempt)", "noise_key = jax.random.fold_in(noise_key, 0)"),
    Bug("run/writer.py", f"{RESUME}::test_the_best_checkpoint_is_kept_and_restored", 'if "kid" in quality:', "if False:"),
    Bug("run/folder.py", f"{RESUME}::test_the_best_checkpoint_is_kept_and_restored", "max(scores, key=lambda step: (scores[step], -step)", "min(scores, key=lambda step: (scores[step], -step)"),
    Bug("run/folder.py", f"{RESUME}::test_checkpoints_and_grids_do_not_fill_the_disk_of_a_long_run", "every *= 2", "every += 1"),
    Bug("run/history.py", "run/test_history.py", "bisect.bisect_right(range(size), step", "bisect.bisect_left(range(size), step"),
    Bug("run/history.py", "run/test_history.py", "[max(*self._best, line, key=score)]", "[min(*self._best, line, key=score)]"),
    Bug("run/history.py", "run/test_history.py", "self.lines, self._every = self.lines[::2]", "self.lines, self._every = self.lines[1::2]"),
    Bug("run/verdict.py", "run/test_verdict.py", "number = min(by_share, by_times)", "number = max(by_share, by_times)"),
    Bug("run/verdict.py", "run/test_verdict.py", "return value / floor if floor > 0 else math.nan", "return floor / value if floor > 0 else math.nan"),
    Bug("run/evaluation.py", "run/test_evaluation.py", "return self.step, FEATURES.index(self.features), self.ema is False", "return self.step, self.ema is False"),
    Bug("run/doctor.py", "run/test_doctor.py", "min(0.5, 1.1 * max(ratios[:-1]))", "max(0.5, 1.1 * max(ratios[:-1]))"),
    Bug("run/doctor.py", "run/test_doctor.py", "if share < 1 / 3", "if share > 1 / 3"),
    Bug("run/doctor.py", "run/test_doctor.py", "min(newest[1:]) < 0.95 * newest[0]", "min(newest[1:]) > 0.95 * newest[0]"),
    Bug("run/doctor.py", "run/test_doctor.py", "score(newest)[0] > 1.05 * score(before)[0]", "score(newest)[0] > 1.5 * score(before)[0]"),
    Bug("run/doctor.py", "run/test_doctor.py", "1.2 * top[name] + now", "1.2 * top[name] - now"),
    Bug("run/loop.py", f"{RESUME}::test_what_is_sent_to_the_device_at_once_ends_where_something_is_due", "range(1, _AT_ONCE + 1) if config.log_every % count == 0", "range(1, _AT_ONCE + 1) if config.sample_every % count == 0"),
    Bug("run/schedule.py", f"{RESUME}::test_what_is_sent_to_the_device_at_once_ends_where_something_is_due", " or step % config.keep_every == 0", ""),
    Bug("run/checkpoints.py", f"{RESUME}::test_the_newest_checkpoints_stay_and_one_every_so_often", "steps[: self._config.keep_newest]", "steps[: self._config.keep_newest - 1]"),
    Bug("run/manifest.py", f"{RESUME}::test_the_checkpoint_of_another_run_or_step_is_not_taken", 'manifest.step != int(place.name)', "False"),
    Bug("run/doctor.py", "run/test_doctor.py", "-line[\"kid\"]", "line[\"kid\"]"),
    Bug("run/doctor.py", "run/test_doctor.py", "if images >= 1000 or not evaluated", "if images >= 100 or not evaluated"),
    # --- views -----------------------------------------------------------------------------------------------
    Bug("share/folding.py", "test_export.py::test_onnx_runs_as_decode_does_for_any_number_of_images", '["bias"]) - mean * scale', '["bias"]) + mean * scale'),
    Bug("share/folding.py", "test_export.py::test_onnx_runs_as_decode_does_for_any_number_of_images", "Dense(kernels[0], middle + biases[0])", "Dense(kernels[0], biases[0])"),
    Bug("share/explorer.glsl", "share/test_explorer.py", "at(modulation, scale + groupsOut)", "at(modulation, scale)"),
    Bug("gan/networks.py", "gan/test_modulation.py", "scale, shift = jnp.split(", "shift, scale = jnp.split("),
    Bug("gan/networks.py", "gan/test_modulation.py", "self.self_modulation and i < len(widths) - 1", "self.self_modulation"),
    Bug("share/folding.py", "test_export.py::test_onnx_takes_the_class_of_each_image_as_a_second_input", 'np.asarray(hidden["kernel"]) * inputs', 'np.asarray(hidden["kernel"])'),
    Bug("gan/networks.py", "gan/test_modulation.py", "in_axis=1, out_axis=0", "in_axis=0, out_axis=1"),
    Bug("share/onnx_graph.py", "test_export.py::test_onnx_runs_as_decode_does_for_any_number_of_images", '"pads": [1, 1, 1, 1]', '"pads": [0, 0, 1, 1]'),
    Bug("views/grid.py", "views/test_grid.py", "padding + i % columns * (w + padding)", "padding + i // columns * (w + padding)"),
    Bug("views/grid.py", "test_report.py::test_sheets_are_cut_as_they_were_laid_out", "(side - padding) // one", "side // one + 1"),
    Bug("views/plots.py", "views/test_plots.py", "1000 * (1 - axes.height(column[finite]))", "1000 * axes.height(column[finite])"),
    Bug("views/plots.py", "views/test_plots.py", "means = [values[i : i + each].mean(0) for i in ends]", "means = [values[i] for i in ends]"),
    Bug("views/plots.py", "views/test_plots.py", "return (steps - self.low) / max(self.high - self.low, 1)", "return steps / max(self.high, 1)"),
    # --- system, settings, commands --------------------------------------------------------------------------
    Bug("system/xla.py", f"{STEP}::test_options_reach_only_the_platform_that_they_are_for", "{} if devices > 1 else", "{} if devices > 2 else"),
    Bug("system/errors.py", "test_train.py::test_bad_input_is_one_line_and_leaves_nothing", "    exit_code = 2", "    exit_code = 1"),
    Bug("system/cluster.py", "system/test_cluster.py::test_bad_cluster_flags_are_refused", "not 0 <= self.process_id < self.num_processes", "not 0 <= self.process_id <= self.num_processes"),
    Bug("system/cluster.py", "system/test_cluster.py::test_two_processes_join_add_up_and_find_out_that_they_differ", "multihost_utils.broadcast_one_to_all(tree)", "tree"),
    Bug("system/disk.py", "data/test_store.py::test_no_room_in_the_cache_is_said_before_anything_is_decoded", "if free < size:", "if free > size:"),
    Bug("config.py", "test_config.py", "(step == self.steps or seen % every < self.batch_size)", "(step == self.steps or seen % every == 0)"),
    Bug("config.py", "test_config.py", "(1 - self.beta2) * self.beta2_final > 1", "(1 - self.beta2) * self.beta2_final > 2"),
    Bug("config.py", "test_config.py", "if a != b and name not in MAY_CHANGE]", "if a != b and name in MAY_CHANGE]"),
    Bug("recipes.py", "test_recipes.py", "learning_rate=0.005)", "learning_rate=0.0005)"),
    Bug("recipes.py", "test_recipes.py", "    penalty=\"both\",", "    penalty=\"r1\","),
    Bug("run/pictures.py", "test_export.py::test_generate_draws_from_the_file", "key = random_key(seed)", "key = random_key(seed + 1)"),
]  # fmt: skip


def misfits(bugs: list[Bug]) -> list[str]:
    """A line for each bug whose text is not exactly once in its file, or whose tests are gone."""
    found = []
    for bug in bugs:
        path = ROOT / "dcgan_jax" / bug.file
        count = path.read_text().count(bug.text) if path.exists() else 0
        if count != 1:
            found.append(f"{bug.file} holds {count} times, not once: {bug.text!r}")
        name, _, test = bug.tests.partition("::")
        if not (ROOT / "tests" / name).exists() or f"def {test}" not in (ROOT / "tests" / name).read_text():
            found.append(f"tests/{bug.tests} does not exist, which should notice: {bug.file}: {bug.text!r}")
    return found


def run_tests(bug: Bug | None, tests: list[str], folder: Path) -> None:
    """Plant a bug in a copy and run tests there: the whole life of a process, whose exit code is pytest's.

    It was forked from one that has imported the libraries, but nothing of this package.
    """
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    (folder / ".pytest_cache").symlink_to(PROGRAMS)  # most programs are those of the bug before
    if bug:
        path = folder / "dcgan_jax" / bug.file
        path.write_text(path.read_text().replace(bug.text, bug.mistake))
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)  # for the commands that tests start
    os.environ["GLIBC_TUNABLES"] = ""
    sys.path.insert(0, str(folder))
    jax.config.update("jax_disable_most_optimizations", True)  # programs are compiled for one short use
    with open("said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        chosen = [] if any("::" in test for test in tests) else ["-m", "not slow"]  # a test that is named may be slow
        flags = ["-x", "-q", *chosen, "-p", "no:cacheprovider", "--tb=line"]
        code = pytest.main([*flags, *(f"tests/{test}" for test in tests)])
        sys.stdout.flush()
    os._exit(code)


class Trial:
    """The tests of one bug, or of all without any, in a process of their own."""

    def __init__(self, bug: Bug | None, tests: list[str]):
        self.bug, self._began = bug, time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="planted-")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX warns of forks, which do no harm before it has computed anything
            self._process = multiprocessing.get_context("fork").Process(
                target=run_tests, args=(bug, tests, Path(self._folder.name))
            )
            self._process.start()

    def ended(self) -> bool:
        if self._process.is_alive() and time.monotonic() - self._began > SECONDS:
            self._process.kill()
            self._process.join()
        return not self._process.is_alive()

    def failed(self) -> str:
        """The first test that failed, "" if all passed."""
        code, text = self._process.exitcode, ""
        with contextlib.suppress(FileNotFoundError):
            text = (Path(self._folder.name) / "said").read_text()
        self._folder.cleanup()
        if code == 0:
            return ""
        if code == -signal.SIGKILL:
            return "hangs"
        found = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        return found[0] if code in (1, 2) and found else f"pytest ended with {code}:\n{text[-3000:]}"

    def seconds(self) -> float:
        return time.monotonic() - self._began


def trials(bugs: list[Bug], jobs: int) -> Iterator[Trial]:
    """Those of all bugs as they end, some at a time."""
    waiting, running = list(bugs), []
    while waiting or running:
        while waiting and len(running) < jobs:
            bug = waiting.pop(0)
            running.append(Trial(bug, [bug.tests]))
        time.sleep(0.05)
        for trial in [trial for trial in running if trial.ended()]:
            running.remove(trial)
            yield trial


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant bugs, one at a time, and see whether the quick tests notice.")
    parser.add_argument("--only", nargs="+", default=[""], help="only bugs whose file, text or tests hold one of these")
    parser.add_argument("--jobs", type=int, default=1, help="bugs at a time")
    parser.add_argument("--check", action="store_true", help="run nothing: only see whether each bug fits the code")
    parser.add_argument("--sound", action="store_true", help="plant nothing: see whether the tests pass as they are")
    arguments = parser.parse_args()
    if wrong := misfits(BUGS):
        print("\n".join(wrong), file=sys.stderr)
        return 2
    bugs = [bug for bug in BUGS if any(only in part for part in bug for only in arguments.only)]
    print(f"{len(bugs)} of {len(BUGS)} bugs, all of which fit the code", flush=True)
    if arguments.check:
        return 0
    if arguments.sound:
        trial = Trial(None, sorted({bug.tests for bug in bugs}))
        while not trial.ended():
            time.sleep(0.1)
        failed = trial.failed()
        print(f"without a bug: {f'{failed} fails' if failed else 'all pass'} ({trial.seconds():.0f} s)")
        return 1 if failed else 0
    survived = []
    for trial in trials(bugs, arguments.jobs):
        bug, failed = trial.bug, trial.failed()
        survived += [] if failed else [bug]
        what = f"{'caught  ' if failed else 'SURVIVED'} {trial.seconds():4.0f} s  {bug.file}: {bug.mistake}"
        print(f"{what}  ({failed})" if failed else what, flush=True)
    print(f"{len(bugs) - len(survived)} of {len(bugs)} caught; survived: {len(survived)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())

"""Settings are declared once: their options, their bounds and what they are for."""

from dataclasses import dataclass, field, replace
from typing import get_args

import pytest
import tyro

from envs.problem import KNOBS, Problem
from envs.task import NetworkTask
from experiments.records.run_folder import identity
from experiments.settings.blocks import (
    CommandSettings,
    Flat,
    KnobName,
    LengthBlock,
    NetworkBlock,
    SettingsError,
    SpaceBlock,
)
from experiments.settings.compression import CompressSettings, FinishConfig
from pfrl.bounds import Count, Positive, Share
from pfrl.evaluation.config import EpisodeConfig


@dataclass(frozen=True)
class Some(CommandSettings):
    """Every kind of a field."""

    space: Flat[SpaceBlock] = field(default_factory=SpaceBlock)
    finish: FinishConfig = field(default_factory=FinishConfig)
    seeds: tuple[Count, ...] | None = None
    rate: Positive | None = None
    share: Share = 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--round-to 0", "round_to is a whole number from 1, got 0"),
        ("--finish.batch 0", "finish.batch is a whole number from 1, got 0"),
        ("--finish.epochs -1", "finish.epochs is a number from 0, got -1.0"),
        ("--bits 1 8", "bits is a whole number from 2 to 8, got 1"),
        ("--sparsity-range 0 1", "sparsity_range is a number from 0 to below 1, got 1.0"),
        ("--keep-min 0", "keep_min is a number above 0 and up to 1, got 0.0"),
        ("--seeds 3 0", "seeds is a whole number from 1, got 0"),
        ("--rate inf", "rate is a number above 0, got inf"),
        ("--share nan", "share is a number from 0 to 1, got nan"),
    ],
)
def test_a_setting_out_of_its_bounds_is_named(options, sentence):
    settings = tyro.cli(Some, args=options.split())
    with pytest.raises(SettingsError) as found:
        settings.resolved()
    assert str(found.value) == sentence


def test_what_is_within_its_bounds_is_left_as_it_is():
    settings = tyro.cli(Some, args="--seeds 1 2 --rate 0.5 --share 1 --bits 2 8".split())
    assert settings.resolved() == settings
    assert (settings.seeds, settings.rate, settings.space.bits) == ((1, 2), 0.5, (2, 8))


def test_a_run_is_checked_with_the_names_of_its_options():
    settings = CompressSettings(episode=EpisodeConfig(steps=-1))
    with pytest.raises(SettingsError, match=r"episode\.steps is a whole number from 0, got -1"):
        settings.resolved()


def test_the_search_space_is_all_that_the_environment_knows():
    every = tuple(KNOBS)
    assert get_args(KnobName) == every
    space = SpaceBlock(knobs=every, bits=(3, 6), sparsity_range=(0.2, 0.4), decompose="channel")
    problem = Problem(NetworkTask("resnet8", "digits", "-"), **space.bounds())
    assert (problem.knobs, problem.bits, problem.sparsity) == (every, (3, 6), (0.2, 0.4))
    assert space.opened() == {"quantized": True, "sparse": True, "decompose": "channel"}
    assert replace(space, knobs=("keep",)).opened() == {
        "quantized": False,
        "sparse": False,
        "decompose": None,
    }


def test_the_identity_of_a_run_has_its_options_side_by_side(tmp_path):
    settings = CompressSettings(network=NetworkBlock("lenet5", "digits")).resolved()
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"numbers")
    found = identity(settings, weights)
    assert (found["model"], found["knobs"], found["round_to"]) == ("lenet5", ["keep"], 4)
    assert "out" not in found
    # Weights are known by their content, wherever they lie.
    assert identity(settings, weights.rename(tmp_path / "moved.npz")) == found
    weights.write_bytes(b"other numbers")
    assert identity(settings, weights) != found


def test_a_search_is_as_long_as_its_images_allow():
    """An evaluation of 16 steps of 64 images, 256 for statistics and 2,000 judged takes 3,280."""
    each = EpisodeConfig("finetune", steps=16).images_each(10_000)
    assert each == 16 * 64 + 256 + 2_000
    assert EpisodeConfig(fidelity="reconstruct").images_each(1_000) == 256 + 800
    assert LengthBlock(images=10 * each - 1).filled(60).evaluations(each) == 9
    assert LengthBlock().filled(60).evaluations(each) == 60
    assert LengthBlock(7).filled(60).evaluations(each) == 7
    with pytest.raises(SettingsError, match=r"looks at 3,280 images; .* got 3,279"):
        LengthBlock(images=each - 1).evaluations(each)
    with pytest.raises(SettingsError, match="both say how long"):
        LengthBlock(7, 7).filled(60)

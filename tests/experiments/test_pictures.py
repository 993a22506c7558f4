"""What the pictures of a search show, and what is read out of its history."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from experiments.records.history import best_so_far, chosen_position, pareto_front, read_history
from experiments.report.pictures import save_png, search_figure, to_pixels, tradeoff_figure
from experiments.report.policy_picture import policy_figure, quantized_layers
from pfrl.files import FileError
from pfrl.tasks import Landmarks
from tests.support.invented_run import episode_line, invented_history, random_policy


def test_best_so_far_ignores_divergence_and_keeps_the_earliest():
    rewards = [0.5, 0.4, 0.7, 0.7, 0.6]
    history = [episode_line(i, r, 10) for i, r in enumerate(rewards)]
    history.insert(0, episode_line(-1, float("nan"), 10, reward=9.0, diverged=True))
    assert best_so_far(history) == [None, 1, 1, 3, 3, 3]
    estimate = {**history[3], "exact": False}
    assert best_so_far([*history[:3], estimate]) == [None, 1, 1, 1]
    assert chosen_position(history, None) == 3
    assert chosen_position([], None) is None


def test_the_chosen_episode_is_the_one_of_the_policy():
    history = invented_history(6)
    assert chosen_position(history, history[2]["policy"]) == 2


def test_pareto_front_worked_by_hand():
    points = [(10, 0.5), (20, 0.6), (20, 0.7), (15, 0.4), (30, 0.7), (40, 0.9), (5, None)]
    history = [
        episode_line(i, accuracy, macs, reward=0.0, diverged=accuracy is None)
        for i, (macs, accuracy) in enumerate(points)
    ]
    assert pareto_front(history, "macs") == [0, 2, 5]


def test_history_without_its_last_newline_loses_that_line_only(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"episode": 0}\n{"episode": 1}\n{"epis')
    assert read_history(path) == [{"episode": 0}, {"episode": 1}]
    path.write_text('{"episode": 0}\n{"epis\n')
    with pytest.raises(FileError, match=r"history\.jsonl, line 2, is damaged"):
        read_history(path)


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_search_curve_shows_phases_best_and_divergence():
    history = [
        episode_line(0, 0.5, 10, phase="warmup", reward=-1.0),
        episode_line(1, float("nan"), 10, reward=-1e9, diverged=True),
        episode_line(2, 0.6, 10, reward=-2.0),
        episode_line(3, 0.7, 10, phase="final", reward=-0.5),
    ]
    figure = search_figure(history, chosen=3)
    top, bottom = figure.axes
    curve = {line.get_label(): line for line in top.lines}
    # The curve is of the reward: episode 2 is more accurate than episode 0 and still no better.
    assert curve["best reward so far"].get_ydata() == pytest.approx([50, 50, 50, 70])
    assert np.asarray(curve["training diverged (no accuracy)"].get_xdata()).tolist() == [1]
    assert labels(figure) == [
        "warm-up, not decided by the agent",
        "agent exploring",
        "agent's own choice, no exploration",
        "training diverged (no accuracy)",
        "best reward so far",
        "handed over",
    ]
    assert top.get_ylabel() == "search accuracy (%)"
    assert figure.get_suptitle() == (
        "The search: 4 networks tried, accuracy 70.0 % at the highest reward"
    )
    assert top.get_title("left").endswith("; the highest accuracy is 70.0 %")
    # A diverged episode's reward does not squeeze the others.
    assert bottom.get_ylim()[0] > -3


def test_search_curve_is_one_panel_where_the_reward_is_the_accuracy():
    figure = search_figure([episode_line(0, 0.5, 10), episode_line(1, 0.6, 10)])
    assert [axes.get_ylabel() for axes in figure.axes] == ["search accuracy (%)"]
    assert figure.get_suptitle() == ("The search: 2 networks tried, highest accuracy 60.0 %")


def test_the_title_says_what_is_best_by_what():
    history = [episode_line(0, 0.955, 10, reward=-1.0), episode_line(1, 1.0, 10, reward=-2.0)]
    figure = search_figure(history)
    assert figure.get_suptitle().endswith("accuracy 95.5 % at the highest reward")
    assert figure.axes[0].get_title("left").endswith("the highest accuracy is 100.0 %")
    history = [episode_line(0, 0.9, 10), episode_line(1, 0.8, 10)]
    assert (
        search_figure(history, wording=Landmarks().wording)
        .get_suptitle()
        .endswith("lowest NME 10.0 %")
    )


def test_search_curve_of_nothing_but_divergence():
    figure = search_figure([episode_line(0, float("nan"), 10, reward=-1.0, diverged=True)])
    assert figure.get_suptitle() == "The search: 1 network tried, none without divergence"


def test_tradeoff_marks_limit_front_and_uniform():
    history = [episode_line(i, 0.5 + i / 10, 10e6 + i * 1e6) for i in range(3)]
    uniform = {"accuracy": 0.55, "costs": {"macs": 12e6}}
    figure = tradeoff_figure(history, "macs", 12e6, 24e6, chosen=2, uniform=uniform)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "MACs per image (millions)"
    lines = {str(line.get_label()): line for line in axes.lines}
    front = lines["Pareto front of the episodes"]
    assert np.asarray(front.get_xdata()).tolist() == [10, 11, 12]
    assert front.get_ydata() == pytest.approx([50, 60, 70])
    assert lines["limit 12.0 M; grey: too expensive"].get_xdata() == [12, 12]
    assert lines["uniform policy of the same budget"].get_ydata() == pytest.approx([55])
    assert lines["handed over"].get_xdata() == [12]
    low, high = axes.get_xlim()
    assert low < 10 < 12 < high


def test_a_legend_fits_into_its_figure():
    """Of so long a limit three columns would be cut off."""
    history = [episode_line(i, 0.5 + i / 10, 0, costs={"latency": 0.008}) for i in range(2)]
    uniform = {"accuracy": 0.55, "costs": {"latency": 0.00801}}
    figure = tradeoff_figure(
        history, "latency", 0.009731, 0.0194, chosen=1, uniform=uniform, runtime="LiteRT"
    )
    assert "against predicted latency per image in LiteRT:" in figure.get_suptitle()
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    assert any("grey: too expensive" in text.get_text() for text in legend.get_texts())


@pytest.mark.parametrize("metric", ["params", "bytes", "bops", "latency"])
def test_tradeoff_of_episodes_of_one_cost_has_a_width(metric):
    figure = tradeoff_figure([episode_line(i, 0.5, 10) for i in range(3)], metric)
    low, high = figure.axes[0].get_xlim()
    assert high > low * 1.03


def test_policy_picture_has_a_bar_for_each_group_and_layer():
    bits = {"conv1": 8, "conv2": 3}
    policy = {"keep": {"conv1": 0.25, "conv2": 1.0}, "weight_bits": bits, "act_bits": {"conv1": 32}}
    keep, quantized = policy_figure(policy).axes
    assert [text.get_text() for text in keep.texts] == ["25 %", "100 %"]
    assert [text.get_text() for text in keep.get_yticklabels()] == ["conv1", "conv2"]
    widths = [bar.get_width() for bar in quantized.patches if isinstance(bar, Rectangle)]
    assert widths == [8, 3, 10, 10]
    assert quantized.get_xticklabels()[-1].get_text() == "float"


def test_the_picture_shows_what_is_kept_after_rounding_as_the_table_does():
    policy = {"keep": {"conv1": 0.55}}
    (keep,) = policy_figure(policy, groups={"conv1": [8, 16]}).axes
    assert [text.get_text() for text in keep.texts] == ["50 %"]


def test_policy_picture_leaves_out_what_is_no_knob():
    floats = {"conv1": 32}
    assert quantized_layers({"weight_bits": floats, "act_bits": floats}) == []
    only_keep = policy_figure({"keep": {"conv1": 0.5}, "weight_bits": floats, "act_bits": {}})
    assert [axes.get_xlabel() for axes in only_keep.axes] == ["channels kept (%)"]
    only_bits = policy_figure({"keep": {}, "weight_bits": {"conv1": 4}, "act_bits": {"conv1": 4}})
    assert [axes.get_xlabel() for axes in only_bits.axes] == ["bits"]
    nothing = policy_figure({"keep": {}, "weight_bits": {}, "act_bits": {}})
    assert nothing.texts[-1].get_text() == "Nothing is pruned and nothing is quantized."


def test_the_picture_grows_with_the_network():
    rng = np.random.default_rng(0)
    small, large = (policy_figure(random_policy(rng, blocks, True)) for blocks in (3, 9))
    assert small.get_figwidth() == large.get_figwidth()
    # 0.2 inches for each of 20 and 56 layers.
    assert large.get_figheight() - small.get_figheight() == pytest.approx(0.2 * 36)


def test_a_picture_is_written_whole(tmp_path):
    path = save_png(tmp_path / "p.png", policy_figure({"keep": {"conv1": 0.5}}))
    assert matplotlib.image.imread(path).shape[:2] == (360, 1209)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_pixels_of_a_figure():
    pixels = to_pixels(policy_figure({"keep": {"conv1": 0.5}}), dpi=50)
    assert pixels.dtype == np.uint8 and pixels.shape == (125, 420, 3)
    assert 0 < pixels.mean() < 255

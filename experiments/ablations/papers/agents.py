"""Does learning earn its place? Searchers, parts and kinds of agents at equal evaluations."""

from agents import DDPGOptions, PPOOptions
from experiments.ablations.experiment import SEARCHED, Cell, Experiment
from experiments.ablations.scales import HARD, at_scales
from pfrl.registry import register

register(
    "experiment",
    "searchers",
    Experiment(
        title="learning against search at equal evaluations",
        paper="AMC (arXiv 1802.03494) and SPDY (arXiv 2201.13096)",
        table="AMC's section 4.1, with the opponents that it leaves out",
        claim="At the same number of evaluations DDPG finds better policies than random search,"
        " evolution, TPE, CMA-ES, greedy moves and a solver on measured sensitivities.",
        scales=at_scales(**HARD),
        cells=lambda settings: [
            Cell(name, agent=name)
            for name in ("ddpg", "random", "evolution", "tpe", "cmaes", "greedy", "solver")
        ],
        columns=SEARCHED,
        against="ddpg",
    ),
)

AMC = DDPGOptions(
    screen=1,
    start="random",
    warmup=0.125,
    gamma=1.0,
    hidden=(300, 300),
    actor_learning_rate=1e-4,
    bound="tanh",
)
"""What AMC's paper and code say; see the guide's page of the agents."""

register(
    "experiment",
    "agent-parts",
    Experiment(
        title="what is in the agent",
        paper="AMC (arXiv 1802.03494)",
        table="no table of its own: the parts of the agent one by one",
        claim="The actor of DDPG adds to what a Gaussian process and the memory of the best"
        " episodes find without it.",
        scales=at_scales(**HARD),
        cells=lambda settings: [
            Cell("ddpg as shipped"),
            Cell("without screening", options=DDPGOptions(screen=1)),
            # All candidates are changes of the best episodes.
            Cell("screening without the actor", options=DDPGOptions(elite=1.0)),
            # So wide that candidates are uniform, whatever the actor says.
            Cell("screening random candidates", options=DDPGOptions(elite=0.0, sigma=50.0,
                                                                    sigma_decay=1.0)),
            Cell("Gaussian process alone", agent="gp"),
            Cell("AMC's settings", options=AMC),
        ],
        columns=SEARCHED,
        against="ddpg as shipped",
    ),
)  # fmt: skip

register(
    "experiment",
    "agent-kinds",
    Experiment(
        title="DDPG, PPO, TD3 and SAC, and what AMC changed of DDPG",
        paper="AMC (arXiv 1802.03494) and its successors",
        table="no table of its own: section 3.2's choices one by one",
        claim="DDPG is as good as newer agents, and sharing the reward, the baseline and the"
        " decay of the noise each help it.",
        scales=at_scales(**HARD),
        cells=lambda settings: [
            Cell("ddpg"),
            Cell("td3", agent="td3"),
            Cell("sac", agent="sac"),
            Cell("ppo", agent="ppo", options=PPOOptions()),
            Cell("ddpg, reward at the end", options=DDPGOptions(share_reward=False)),
            Cell("ddpg, no baseline", options=DDPGOptions(baseline=False)),
            Cell("ddpg, noise that stays", options=DDPGOptions(sigma_decay=1.0)),
        ],
        columns=SEARCHED,
        against="ddpg",
    ),
)

"""The environments of one kind of decision, each with its specification."""

from envs.compression import CompressionEnv


class ChannelPruningEnv(CompressionEnv):
    """Remove channels layer by layer under a budget, as AMC does (arXiv 1802.03494).

    ## Action space
    ``Box(-1, 1, (1,))``.

    | number | action | from -1 | to 1 |
    | --- | --- | --- | --- |
    | 0 | channels of the groups that the layer produces first | ``keep_min`` of them | all |

    Under a budget 0 is the action of the largest uniform policy that meets it (see
    ``envs.decisions.Decisions``; with ``centre="middle"`` of the problem it is the middle of the
    choices). A choice over the budget becomes the largest that fits it.

    ## Observation space
    ``Box(-1, 1, (18 + L,))`` for ``L`` layers.

    | number | observation |
    | --- | --- |
    | 0-10 | AMC's features: index, c_out, c_in, height, width, stride, kernel, macs, reduced, rest, last_action |
    | 11-13 | kind of layer: conv, depthwise, dense |
    | 14-16 | budget: limit, spent, left, as shares of the base |
    | 17 | 1 if the layer decides something, else 0 |
    | 18 to 17 + L | share of channels that every layer's groups keep; -1 if not decided (yet) |

    ## Reward
    0 on every step but the last, then the problem's reward of the policy's evaluation: by
    default its accuracy on the search split, in [0, 1].

    ## Starting state
    Always the same: nothing decided, everything undecided counted at its lowest.

    ## Episode end
    ``terminated`` after ``L`` steps, one a layer; never ``truncated``. The last ``info`` holds
    ``policy`` and ``evaluation``, every one ``executed_action``.

    ## Arguments
    ``problem``: an ``envs.Problem`` with ``knobs=("keep",)``. ``BudgetError`` or ``ProblemError``
    if it has others or cannot be met.

    ## Version history
    * v0: first version.
    """  # noqa: E501

    knobs = ("keep",)


class MixedPrecisionEnv(CompressionEnv):
    """Choose bit widths layer by layer under a budget, as HAQ does (arXiv 1811.08886).

    ## Action space
    ``Box(-1, 1, (K,))``, ``K`` 2, or 1 if the problem has one of the two knobs. In the order of
    the problem's ``knobs``:

    | number | action | from -1 | to 1 |
    | --- | --- | --- | --- |
    | 0 | ``weight_bits``: of the layer's kernel | ``bits[0]`` (2) | ``bits[1]`` (8) |
    | 1 | ``act_bits``: of the layer's input | ``bits[0]`` (2) | ``bits[1]`` (8) |

    The first and the last layer have ``edge_bits`` (8) and decide nothing. Under a budget 0 is
    the action of the largest uniform policy that meets it (see ``envs.decisions.Decisions``;
    with ``centre="middle"`` of the problem it is the middle of the choices). A choice over the
    budget becomes the largest that fits it.

    ## Observation space
    ``Box(-1, 1, (17 + K + L·K,))`` for ``L`` layers.

    | number | observation |
    | --- | --- |
    | 0-10 | AMC's features: index, c_out, c_in, height, width, stride, kernel, macs, reduced, rest, last_action |
    | 11-13 | kind of layer: conv, depthwise, dense |
    | 14-16 | budget: limit, spent, left, as shares of the base |
    | 17 to 16 + K | 1 if the layer decides this width, else 0 |
    | 17 + K to 16 + K + L·K | width over the largest, layer by layer; -1 if not decided (yet) |

    ## Reward
    0 on every step but the last, then the problem's reward of the policy's evaluation: by
    default its accuracy on the search split, in [0, 1]; HAQ's is ``reward="haq"``.

    ## Starting state
    Always the same: nothing decided, everything undecided counted at its lowest.

    ## Episode end
    ``terminated`` after ``L`` steps, one a layer; never ``truncated``. The last ``info`` holds
    ``policy`` and ``evaluation``, every one ``executed_action``.

    ## Arguments
    ``problem``: an ``envs.Problem`` with ``knobs=("weight_bits", "act_bits")`` or one of them, and
    a task whose evaluations honour them. ``BudgetError`` or ``ProblemError`` if it has others or
    cannot be met.

    ## Version history
    * v0: first version.
    """  # noqa: E501

    knobs = ("weight_bits", "act_bits")


class SparsityEnv(CompressionEnv):
    """Choose shares of zeros layer by layer under a budget of bytes.

    ## Action space
    ``Box(-1, 1, (1,))``.

    | number | action | from -1 | to 1 |
    | --- | --- | --- | --- |
    | 0 | share of zeros in the layer's kernel | ``sparsity[1]`` (0.9) | ``sparsity[0]`` (0) |

    In steps of ``sparsity_step`` (0.1); by a recipe with the pattern n:m there are its own share
    and 0. Which weights become zero is the recipe's choice too. The first and the last layer are
    dense and decide nothing; of layers that share a kernel the first one decides. Under a budget 0
    is the action of the largest uniform policy that meets it (see ``envs.decisions.Decisions``;
    with ``centre="middle"`` of the problem it is the middle of the choices). A choice over the
    budget becomes the largest that fits it.

    ## Observation space
    ``Box(-1, 1, (18 + L,))`` for ``L`` layers.

    | number | observation |
    | --- | --- |
    | 0-10 | AMC's features: index, c_out, c_in, height, width, stride, kernel, macs, reduced, rest, last_action |
    | 11-13 | kind of layer: conv, depthwise, dense |
    | 14-16 | budget: limit, spent, left, as shares of the base |
    | 17 | 1 if the layer decides something, else 0 |
    | 18 to 17 + L | weights left of every layer over the most; -1 if not decided (yet) |

    ## Reward
    0 on every step but the last, then the problem's reward of the policy's evaluation: by
    default its accuracy on the search split, in [0, 1].

    ## Starting state
    Always the same: nothing decided, everything undecided counted at its lowest.

    ## Episode end
    ``terminated`` after ``L`` steps, one a layer; never ``truncated``. The last ``info`` holds
    ``policy`` and ``evaluation``, every one ``executed_action``.

    ## Arguments
    ``problem``: an ``envs.Problem`` with ``knobs=("sparsity",)`` and a task whose evaluations honour
    it. Only a budget of bytes counts zeros: all others are met by every policy or by none.
    ``BudgetError`` or ``ProblemError`` if it has other knobs or cannot be met.

    ## Version history
    * v0: first version.
    """  # noqa: E501

    knobs = ("sparsity",)


class LowRankEnv(CompressionEnv):
    """Choose ranks of decomposed layers, layer by layer, under a budget.

    The task's network has two layers for one, with a rank of channels between them (see
    ``pfrl.methods.low_rank.decompose``); the first of the two decides it.

    ## Action space
    ``Box(-1, 1, (1,))``.

    | number | action | from -1 | to 1 |
    | --- | --- | --- | --- |
    | 0 | rank: channels between the two layers | 1, or ``round_to`` | full rank |

    At full rank the two layers compute what the one did and cost more; shares of a budget are of
    the network before it was decomposed. Under a budget 0 is the action of the largest uniform
    policy that meets it (see ``envs.decisions.Decisions``; with ``centre="middle"`` of the
    problem it is the middle of the choices). A choice over the budget becomes the largest that
    fits it.

    ## Observation space
    ``Box(-1, 1, (18 + L,))`` for ``L`` layers of the decomposed network.

    | number | observation |
    | --- | --- |
    | 0-10 | AMC's features: index, c_out, c_in, height, width, stride, kernel, macs, reduced, rest, last_action |
    | 11-13 | kind of layer: conv, depthwise, dense |
    | 14-16 | budget: limit, spent, left, as shares of the base |
    | 17 | 1 if the layer decides something, else 0 |
    | 18 to 17 + L | rank over full rank of every layer; -1 if not decided (yet) |

    ## Reward
    0 on every step but the last, then the problem's reward of the policy's evaluation: by
    default its accuracy on the search split, in [0, 1].

    ## Starting state
    Always the same: nothing decided, everything undecided counted at its lowest.

    ## Episode end
    ``terminated`` after ``L`` steps, one a layer; never ``truncated``. The last ``info`` holds
    ``policy`` (its ``keep`` has the ranks, as shares of full rank) and ``evaluation``, every one
    ``executed_action``.

    ## Arguments
    ``problem``: an ``envs.Problem`` with ``knobs=("rank",)`` and a task whose network is
    decomposed, such as ``NetworkTask(..., decompose="channel", recipe=Recipe(criterion="l2"))``.
    ``BudgetError`` or ``ProblemError`` if it has others or cannot be met.

    ## Version history
    * v0: first version.
    """  # noqa: E501

    knobs = ("rank",)

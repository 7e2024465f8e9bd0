"""MADiff: teams that imagine what they will see under a high return, and act to see it."""

from __future__ import annotations

from typing import Any, Literal

from lightning_modules.planning_module import PlanningModule


class MADiff(PlanningModule):
    """Diffusion over the observations of a whole team, with attention between agents (Zhu et al., arXiv:2305.17330).

        L   = E mean |o - ô(z_k, k | o known, R)|²,   z_k = √ᾱ_k o + √(1 - ᾱ_k) ε over windows o of observations
        L_I = E -log I(a_i | o_i, Δo_i)  for choices,   E |a_i - I(o_i, Δo_i)|² / A  for continuous actions

    (``TrajectoryDiffusion``). Acting samples what the team will see, given what is known and a return R to aim at, with
    classifier-free guidance ô_∅ + w (ô_R - ô_∅), and takes the action that leads to the next observation.

    ``decentralised`` execution is N samplings, one by each agent: it knows its own observations, past and present, and
    imagines all others'. ``centralised`` execution is one sampling from everybody's observations, which agents cannot
    do without exchanging them. A model is trained for one of the two.

    An episode's last action is never learned, because nothing is seen behind it: episodes of a single step hold
    nothing to learn from.

    Differences from the original (https://github.com/zbzhu99/madiff): the two losses are added (there halved, which
    Adam does not notice); 4 steps from the present one on at most (there 4 on SMAC, 10 and 24 elsewhere) and no history
    (there 18 or 20 steps but on MPE); 100 levels, 5 of them visited when acting (there 200, of which 15 or all); w = 2
    (there 1.2); inverse dynamics know the agent's number, and continuous actions end in tanh.

    Deviation: blocks of dense layers over an agent's whole trajectory, 96 wide, take the place of a temporal U-Net with
    128 to 1,024 channels. Deviation: observations have mean 0 and deviation 1 (there most often a uniform distribution)
    and those to come are imagined, and read by the inverse dynamics, as changes from step to step in units of their
    usual size (there as observations). Deviation: L is the error of what is found (there of the noise: ``error:
    noise``). Deviation: the network is told what is known. Deviation: R is the undiscounted return of the whole episode
    in the range of the recorded ones (there what is to come, discounted, by a scale set by hand; on SMAC lowered by the
    rewards received, which agents here do not see). Deviation: nothing is learned behind an episode's end (there the
    last observation goes on).

    Args:
        execution: What is known when acting: an agent's own observations (``decentralised``), or everybody's
            (``centralised``).
        **planning_options: Options of ``PlanningModule`` but the first two; all are options of this class.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(
        self, execution: Literal["decentralised", "centralised"] = "decentralised", **planning_options: Any
    ) -> None:
        knowledge: Literal["own", "all"] = "own" if execution == "decentralised" else "all"
        super().__init__(knowledge=knowledge, weighted_noise=False, **planning_options)
        self.save_hyperparameters()

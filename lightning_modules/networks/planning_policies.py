"""Acting by imagining what the team will see, and doing what leads there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lightning_modules.flows.diffusion import sample
from lightning_modules.flows.guidance import guide
from lightning_modules.flows.noise_schedules import visited_levels
from lightning_modules.networks.actions import decode_actions
from lightning_modules.networks.changes import as_changes
from lightning_modules.networks.inverse_dynamics import InverseDynamics
from lightning_modules.networks.noise import standard_normal, team_noise
from lightning_modules.networks.trajectory_denoiser import SHOWN, TrajectoryDenoiser, execution_roles

Knowledge = Literal["own", "alone", "all"]


@dataclass(frozen=True)
class PlanningPolicy:
    """Imagines trajectories of observations that go on from what is known, and takes the action to their next step.

        ô ~ p(o_{H+1}, o_{H+2}, … | the known ones of o_0 … o_H, the return aimed at)
        a_i = I(o_{i,H}, (ô_{i,H+1} - o_{i,H}) / s)

    with o_H the present, all as changes (``networks.changes``). What is known is put in place at every step of the
    sampler, and stays.

    Attributes:
        denoiser: Finds trajectories in noise; its lagged copy acts.
        inverse: What leads from one observation to the next.
        kept: ᾱ_0..ᾱ_K of the diffusion's levels, (K+1,).
        change_scale: s, usual size of a step's change of each entry, (O,).
        length: Steps T of a trajectory, H + 2 or more.
        history: H, past observations that are known beside the present one.
        knowledge: ``own``: every agent imagines the whole team for itself, from what it alone has seen. ``alone``: it
            imagines itself only, with a denoiser in which agents do not see each other. ``all``: one plan for the team
            from everybody's observations, which agents cannot make without exchanging them.
        goal: (value, known): the return aimed at, in the data's range as [0, 1]; (0, 0) is the null condition.
        guidance_scale: w of ``flows.guidance``: 1 samples under the goal, more exaggerates it; ignored without a goal.
        sampling_steps: Steps of DDIM.
        bound: What is imagined is kept in [-bound, bound] while sampling; None does not.
        temperature: Deviation of the initial noise; 0 acts without chance.
        shared_noise: All agents of a team start from the same noise: with ``own`` of the whole team's trajectories, so
            that they imagine the same plan as far as they know the same; with ``alone`` of their own.
    """

    denoiser: TrajectoryDenoiser
    inverse: InverseDynamics
    kept: Tensor
    change_scale: Tensor
    length: int
    history: int = 0
    knowledge: Knowledge = "own"
    goal: tuple[float, float] = (1.0, 1.0)
    guidance_scale: float = 1.2
    sampling_steps: int = 10
    bound: float | None = None
    temperature: float = 0.5
    shared_noise: bool = False

    @property
    def network_calls(self) -> int:
        """Forward passes per decision: of the denoiser, and one of the inverse dynamics."""
        return self.sampling_steps * (2 if self._guided else 1) + 1

    @property
    def _guided(self) -> bool:
        return self.goal != (0.0, 0.0) and self.guidance_scale != 1.0

    def compared(self) -> dict[str, PlanningPolicy]:
        """With both kinds of noise, and without a goal, by the names of their rows in the table of an evaluation."""
        own = replace(self, shared_noise=False)
        without_goal = replace(own, goal=(0.0, 0.0))  # imagines what the recorded teams would have seen
        if self.knowledge == "all":
            return {"policy": own, "without a return": without_goal}
        shared = replace(own, shared_noise=True)
        return {"policy, own noise": own, "policy, shared noise": shared, "without a return": without_goal}

    def initial_state(self, n_envs: int) -> Tensor | None:
        """The last H observations, (E, H, N, O), NaN where there is none yet; None if H = 0."""
        if self.history == 0:
            return None
        like = self.denoiser.inputs.weight
        return like.new_full((n_envs, self.history, self.denoiser.n_agents, self.denoiser.obs_dim), torch.nan)

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Tensor | None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See ``Policy.act``. Before H steps have passed, the first observation stands for those before it."""
        known = obs.unsqueeze(1)
        if state is not None:
            known = torch.cat([torch.where(state.isnan(), known, state), known], dim=1)  # (E, H+1, N, O)
        changes = self.plan(known, generator)[:, self.history + 1]
        actions = decode_actions(self.inverse(obs, changes), legal_actions, self.inverse.discrete)
        return actions, None if state is None else known[:, 1:]

    def plan(self, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What each agent imagines of its own trajectory, as changes (E, T, N, O), from observations (E, H+1, N, O)."""
        plans = self.plans(known, generator)
        return plans.diagonal(dim1=1, dim2=3).movedim(-1, 2) if self.knowledge == "own" else plans.squeeze(1)

    def plans(self, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """All that is imagined, as changes (E, M, T, N, O): with ``own`` M = N agents imagine all N, else M = 1."""
        n_envs, present, n_agents, obs_dim = known.shape
        minds = n_agents if self.knowledge == "own" else 1
        knower = torch.arange(n_agents, device=known.device) if self.knowledge == "own" else None
        roles = execution_roles(self.length, self.history, n_agents, knower, known.device)  # (M, T, N)
        shape = (n_envs, minds, self.length, n_agents, obs_dim)
        shown = known.new_zeros(shape)
        shown[:, :, :present] = as_changes(known, self.history, self.change_scale).unsqueeze(1)
        noise = self.temperature * self._noise(shape, known, generator)
        rows = (roles.expand(shape[:-1]).flatten(0, 1), shown.flatten(0, 1), noise.flatten(0, 1))
        return self._sampled(*rows).view(shape)

    def _noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.knowledge != "own":
            return team_noise(shape, like, self.shared_noise and self.knowledge == "alone", generator)
        blocks = (shape[0], 1, *shape[2:]) if self.shared_noise else shape
        return standard_normal(blocks, like, generator).expand(shape)

    def _sampled(self, roles: Tensor, shown: Tensor, noise: Tensor) -> Tensor:
        """Trajectories (R, T, N, O) that agree with what is shown."""
        fixed, n_levels = (roles == SHOWN).unsqueeze(-1), len(self.kept) - 1
        goal = noise.new_tensor(self.goal).expand(len(noise), 2)

        def endpoint(z: Tensor, level: int) -> Tensor:
            z, kept = torch.where(fixed, shown, z), self.kept[level]
            place = (noise.new_full((len(z), 1), level / n_levels), kept.sqrt().expand(len(z), 1))
            found: Tensor = self.denoiser(z, roles, *place, goal)
            if self._guided:
                found = guide(self.denoiser(z, roles, *place, torch.zeros_like(goal)), found, self.guidance_scale)
            found = found if self.bound is None else found.clamp(-self.bound, self.bound)
            return torch.where(fixed, shown, found)

        levels = visited_levels(n_levels, self.sampling_steps)
        return sample(endpoint, noise, self.kept, levels, "ddim")

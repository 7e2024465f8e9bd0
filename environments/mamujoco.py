"""Multi-agent MuJoCo: one robot whose joints belong to different agents, all of which receive the robot's reward.

The simulator is Gymnasium-Robotics' ``mamujoco_v1`` on Gymnasium's robots of version 5. Scenarios have OG-MARL's names:
"2halfcheetah" is a half-cheetah of two agents with three joints each. Observations are padded with zeros to the
longest, the state is the robot's own observation, and episodes are cut after 1,000 steps (*truncated*) unless the robot
falls before (*terminal*; half-cheetahs cannot). Nothing is won.

What an agent observes differs between the publishers of data; a suffix says whose layout it is:

    (none)     ``mamujoco_v1`` with ``agent_obsk=1``: angles and velocities of the own joints, angles of the
    neighbouring
               ones, position and velocity of the trunk, as in OG-MARL's wrapper "gymnasium_mamujoco".
    -og_marl   The same without OG-MARL's later corrections: joints in alphabetical order, and the trunk's three
               velocities and three positions, the way travelled among them. 13 numbers for 2halfcheetah.
    -omar      The own joints only, in alphabetical order. 6 numbers for 2halfcheetah.
    -omiga     The robot's whole observation and the agent's number (one-hot), standardised by the mean and deviation of
               these very numbers; the state is the first agent's observation. 23 numbers for 6halfcheetah.

Original: https://github.com/Farama-Foundation/Gymnasium-Robotics (Peng et al., 2021, arXiv:2003.06709);
https://github.com/instadeepai/og-marl, ``og_marl/wrapped_environments/mamujoco*.py``.

Differences from the original:
    - Actions are in [-1, 1] and mapped to the actuators' range, which is the same for all robots here.
    - The published data was recorded with version 2 of the robots on MuJoCo 2.0 and 2.1, whose motion and rewards are
      nearly those of version 5; compare returns across versions with care.
    - ``-og_marl``, ``-omar`` and ``-omiga`` hand actions to the motors in the order of the agents, as the data's own
      code did; only for the ant does that differ from ``mamujoco_v1``, which gives each agent the motors of its legs.
    - OMIGA's ant observed contact forces, which were always zero in its version of MuJoCo: they are zero here, and cost
      nothing.
    - The order of the trunk's numbers in ``-og_marl`` (velocities first, then positions, each x, angle, z) is inferred
      from a setting in OG-MARL's wrapper that is commented out; the data's cards only give the number 13.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from environments.drawing import Picture, draw_robot
from environments.team_env import Array, Moment, TeamEnv


class Robot(NamedTuple):
    """A robot and how its joints are shared out: Gymnasium's name and Gymnasium-Robotics' ``agent_conf``."""

    body: str
    sharing: str


ROBOTS = {
    "2halfcheetah": Robot("HalfCheetah", "2x3"),
    "6halfcheetah": Robot("HalfCheetah", "6x1"),
    "2ant": Robot("Ant", "2x4"),
    "4ant": Robot("Ant", "4x2"),
    "3hopper": Robot("Hopper", "3x1"),
    "2walker": Robot("Walker2d", "2x3"),
}
#: Layouts of published data, for the robots that were published.
VARIANTS = ("2halfcheetah-og_marl", "2halfcheetah-omar", "6halfcheetah-omiga", "2ant-omiga", "3hopper-omiga")
NAMES = (*ROBOTS, *VARIANTS)
MAX_STEPS = 1000
_FASTEST_FILM = 50  # frames per second
_ANT_BODIES = 14  # with the world itself, whose contact force version 2 observed and version 5 does not


def import_mamujoco() -> Any:
    """Import Gymnasium-Robotics' multi-agent MuJoCo, without its greeting.

    Returns:
        The module ``gymnasium_robotics.mamujoco_v1``.

    Raises:
        ImportError: If Gymnasium-Robotics or MuJoCo is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module("mujoco")
            return importlib.import_module("gymnasium_robotics").mamujoco_v1
    except ImportError as error:
        raise ImportError(
            f"MA-MuJoCo needs the packages gymnasium-robotics and mujoco ({error}): pip install '.[mamujoco]', "
            "or pip install gymnasium-robotics mujoco"
        ) from error


@contextlib.contextmanager
def _model_warnings_dropped() -> Iterator[None]:
    """Drop what MuJoCo says about the age of a robot's description; it would write it to a file where one works."""
    mujoco = importlib.import_module("mujoco")
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


class MultiAgentMujoco(TeamEnv):
    """One robot as a PettingZoo ``ParallelEnv``.

    Args:
        name: One of ``NAMES``, such as "2halfcheetah".

    Raises:
        ImportError: If Gymnasium-Robotics or MuJoCo is not installed.
        ValueError: If there is no such robot.
    """

    def __init__(self, name: str = "2halfcheetah") -> None:
        if name not in NAMES:
            raise ValueError(f"unknown MA-MuJoCo scenario '{name}'; choose one of: {', '.join(NAMES)}")
        robot, _, self._layout = name.partition("-")
        body, sharing = ROBOTS[robot]
        options = {"contact_cost_weight": 0.0} if (body, self._layout) == ("Ant", "omiga") else {}
        parallel_env = import_mamujoco().parallel_env
        with _model_warnings_dropped():
            self._env = parallel_env(
                scenario=body,
                agent_conf=sharing,
                agent_obsk=0 if self._layout == "omar" else 1,
                max_episode_steps=MAX_STEPS,
                disable_env_checker=True,
                **options,
            )
        self._robot = self._env.single_agent_env  # Gymnasium's environment with its step limit
        self._body = body
        agents = list(self._env.possible_agents)
        self._env.reset(seed=0)
        obs, state = self._observe()
        low, high = self._robot.action_space.low, self._robot.action_space.high
        self._centre, self._reach = (high + low) / 2, (high - low) / 2
        self._motors = self._motors_of_agents()
        super().__init__(
            name=f"mamujoco/{name}",
            agents=agents,
            obs_dim=obs.shape[1],
            state_dim=state.size,
            action_dim=self._motors.shape[1],
            discrete=False,
            can_be_won=False,
            frames_per_second=min(_FASTEST_FILM, round(1.0 / self._robot.unwrapped.dt)),
        )

    def _motors_of_agents(self) -> NDArray[np.int64]:
        """Which motors each agent drives, (N, A)."""
        joints = [[joint.act_ids for joint in part] for part in self._env.agent_action_partitions]
        motors = np.array(joints, np.int64)  # rectangular: the robots here are shared out evenly
        return np.sort(motors, axis=None).reshape(motors.shape) if self._layout else motors

    def _start(self, seed: int) -> Moment:
        """Put the robot on its feet."""
        self._env.reset(seed=seed)
        return self._moment(reward=0.0, terminal=False, truncated=False)

    def _advance(self, actions: Array) -> Moment:
        """Drive all motors."""
        drive = np.empty(self._motors.size)
        drive[self._motors] = actions
        _, reward, terminal, truncated, _ = self._robot.step(self._centre + self._reach * drive)
        return self._moment(float(reward), bool(terminal), bool(truncated))

    def _moment(self, reward: float, terminal: bool, truncated: bool) -> Moment:
        """What every agent sees, and the robot's reward for each."""
        obs, state = self._observe()
        return Moment(
            obs=obs,
            state=state,
            legal_actions=np.ones((len(obs), self._motors.shape[1]), bool),
            rewards=np.full(len(obs), reward, np.float32),
            terminal=terminal,
            truncated=truncated and not terminal,
            won=False,
        )

    def _observe(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Observations (N, O) and state (S,) in the layout asked for."""
        if self._layout == "omiga":
            obs = self._whole_and_number()
            return obs, obs[0]
        state = self._robot.unwrapped._get_obs().astype(np.float32)
        if self._layout:
            return self._alphabetical(), state
        shown = [np.asarray(own, np.float32) for own in self._env._get_obs().values()]
        padded = np.zeros((len(shown), max(map(len, shown))), np.float32)
        for row, own in zip(padded, shown, strict=True):
            row[: len(own)] = own
        return padded, state

    def _alphabetical(self) -> NDArray[np.float32]:
        """OG-MARL's and OMAR's half-cheetah: joints by name, then neighbours' angles, then perhaps the trunk."""
        data = self._robot.unwrapped.data
        trunk = [data.qvel[[0, 2, 1]], data.qpos[[0, 2, 1]]] if self._layout == "og_marl" else []
        rows = []
        for near in self._env.k_dicts:
            own, *neighbours = (sorted(near[distance], key=lambda joint: joint.label) for distance in sorted(near))
            numbers = [number for joint in own for number in (data.qpos[joint.qpos_ids], data.qvel[joint.qvel_ids])]
            numbers += [data.qpos[joint.qpos_ids] for some in neighbours for joint in some]
            rows.append(np.concatenate([numbers, *trunk]))
        return np.stack(rows).astype(np.float32)

    def _whole_and_number(self) -> NDArray[np.float32]:
        """OMIGA's observations: everything and the agent's number, standardised per agent."""
        whole = self._robot.unwrapped._get_obs()
        if self._body == "Ant":
            data = self._robot.unwrapped.data
            whole = np.concatenate([data.qpos[2:], data.qvel, np.zeros(6 * _ANT_BODIES)])
        n_agents = len(self._env.possible_agents)
        obs = np.concatenate([np.tile(whole, (n_agents, 1)), np.eye(n_agents)], axis=1)
        standardised = (obs - obs.mean(axis=1, keepdims=True)) / obs.std(axis=1, keepdims=True)
        shown: NDArray[np.float32] = standardised.astype(np.float32)
        return shown

    def _draw(self, caption: str) -> Picture:
        """The robot from the side, its limbs in the colours of the agents that move them; needs no OpenGL."""
        model, data = self._robot.unwrapped.model, self._robot.unwrapped.data
        geometries = [g for g, body in enumerate(model.geom_bodyid) if body > 0]  # body 0 is the ground
        # MuJoCo's capsules and balls: a radius, and half the length along the own z axis, 0 for balls
        half = model.geom_size[geometries, 1:2] * data.geom_xmat[geometries].reshape(-1, 3, 3)[:, :, 2]
        place = data.geom_xpos[geometries]
        x, y = data.qpos[0], data.qpos[1] if self._body == "Ant" else 0.0
        return draw_robot(
            starts=place - half,
            ends=place + half,
            radii=model.geom_size[geometries, 0],
            owners=[self._owners().get(int(model.geom_bodyid[g]), -1) for g in geometries],
            camera=(float(x), float(y)),
            tilt=0.6 if self._body == "Ant" else 0.0,
            caption=f"{caption}   {round(float(x), 1) + 0.0:.1f} m",
        )

    def _owners(self) -> dict[int, int]:
        """Which agent moves a body of the robot against the one that carries it."""
        model = self._robot.unwrapped.model
        joints = model.actuator_trnid[:, 0]
        return {int(model.jnt_bodyid[joints[motor]]): agent for agent, own in enumerate(self._motors) for motor in own}

    def close(self) -> None:
        """Close Gymnasium's environment."""
        self._env.close()

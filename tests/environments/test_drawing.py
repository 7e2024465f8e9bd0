"""Pictures, read back pixel by pixel."""

import importlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from environments import drawing
from environments.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    RED,
    STRIP,
    YELLOW,
    Canvas,
    Legend,
    Picture,
    Piece,
    draw_battle,
    draw_grid,
    draw_particles,
    draw_robot,
    draw_table,
    faded,
)
from environments.registry import make_env


def is_color(picture: Picture, column: float, row: float, color: tuple[int, int, int]) -> bool:
    return tuple(picture[round(row), round(column)]) == color


def count(picture: Picture, color: tuple[int, int, int]) -> int:
    return int((picture[STRIP:] == color).all(axis=2).sum())


def columns_of(picture: Picture, color: tuple[int, int, int], below: int = STRIP) -> np.ndarray[Any, Any]:
    return np.flatnonzero((picture[below:] == color).all(axis=2).any(axis=0))


def test_the_world_is_upright_and_to_scale():
    canvas = Canvas(200, 100, left=-1.0, top=2.0, scale=50)  # x from -1 to 3, y from 0 to 2
    canvas.circle((0.0, 1.5), 0.2, BLUE)
    canvas.box((2.0, 1.0), 0.5, 0.5, RED)
    picture = canvas.picture("caption")
    assert picture.shape == (100 + STRIP, 200, 3) and picture.dtype == np.uint8
    assert canvas.at((0.0, 1.5)) == (50, STRIP + 25)
    assert is_color(picture, 50, STRIP + 25, BLUE) and is_color(picture, 42, STRIP + 25, BLUE)
    assert columns_of(picture, BLUE).tolist() == list(range(40, 60))  # 2 x 0.2 x 50 wide
    assert columns_of(picture, RED).tolist() == list(range(150, 175))
    assert count(picture, RED) == 25 * 25


def test_caption_and_legend_stay_apart_and_within():
    for caption in ("short", "mpe/simple_world_comm_discrete   step 12   return -10.25   over"):
        canvas = Canvas(480, 20, 0.0, 1.0, 1.0)
        strip = canvas.picture(caption, [Legend(RED, "predators"), Legend(BLUE, "prey")])[:STRIP]
        inked = np.flatnonzero((strip.max(axis=2) < 100).any(axis=0))
        legend = int(columns_of(np.concatenate([np.zeros_like(strip), strip]), RED)[0])
        written = inked[inked < legend]
        assert written.min() >= 8 and written.max() < legend - 4 and inked.max() < 478


def battle(health: tuple[float, ...] = (1.0, 0.5, 0.0, 1.0), shots: tuple[tuple[int, int], ...] = ()) -> Picture:
    """16 wide and 10 high around (8, 5): 40 pixels for 1 unit of length."""
    position = np.array([[2.0, 5.0], [2.0, 7.0], [14.0, 3.0], [14.0, 5.0]])
    return draw_battle(position, np.full(4, 0.5), np.array(health), ["m", "m", "Z", "Z"], 2, shots, "")


def test_units_have_their_teams_color_and_the_fallen_are_pale():
    picture = battle()
    assert picture.shape == (400 + STRIP, 640, 3)
    beside = 15  # pixels from the middle, where the letter does not reach
    assert is_color(picture, 80 + beside, STRIP + 200, BLUE) and is_color(picture, 80 + beside, STRIP + 120, BLUE)
    assert is_color(picture, 560 + beside, STRIP + 200, RED)
    assert is_color(picture, 560, STRIP + 280, faded(RED)), "a cross where it fell"
    assert not is_color(picture, 560 + beside, STRIP + 280, RED)


def test_health_bars_are_as_long_as_the_health():
    def green(row: slice) -> int:
        return int((battle()[row, 40:120] == GREEN).all(axis=2).sum(axis=1).max())

    unhurt, half = slice(STRIP + 160, STRIP + 180), slice(STRIP + 80, STRIP + 100)
    assert green(unhurt) == 40 and green(half) == 20  # 1 unit of length if unhurt
    assert int((battle()[half, 40:120] == GREY).all(axis=2).sum(axis=1).max()) == 20


def test_a_shot_is_a_line_in_the_shooters_color():
    def at_the_middle(picture: Picture) -> Any:
        return picture[STRIP + 200 - 3 : STRIP + 200 + 4, 300]

    assert (at_the_middle(battle(shots=((0, 3),))) == BLUE).all(axis=1).any()
    assert (at_the_middle(battle(shots=((3, 0),))) == RED).all(axis=1).any()
    assert not (at_the_middle(battle()) == BLUE).all(axis=1).any()


def test_a_battle_is_always_in_view():
    position = np.array([[0.0, 0.0], [32.0, 32.0]])
    picture = draw_battle(position, np.full(2, 1.0), np.ones(2), ["", ""], 1, [], "")
    assert count(picture, BLUE) > 50 and count(picture, RED) > 50
    scale = 640 / (36 * 1.6)
    assert is_color(picture, 320 - 16 * scale, STRIP + 200 + 16 * scale, BLUE), "lower left"


def test_particles_are_where_they_are():
    position, landmarks = np.array([[0.5, 0.5], [-0.5, -0.5]]), np.array([[-0.5, 0.5], [0.5, -0.5], [0.0, 0.0]])
    sizes = np.array([0.1, 0.1])
    picture = draw_particles(position, sizes, 1, landmarks, np.array([0.2, 0.05, 0.3]), 1, "")
    scale = 480 / 2.6
    places = {(0.54, 0.44): BLUE, (-0.5, -0.5): ORANGE, (-0.5, 0.5): GREY, (0.5, -0.5): YELLOW}
    for (x, y), color in places.items():
        assert is_color(picture, 240 + x * scale, STRIP + 240 - y * scale, color), (x, y)
    assert is_color(picture, 240, STRIP + 240, faded(GREEN, 0.75)), "large enough to enter"


def test_who_leaves_stays_in_view():
    near, far = (
        draw_particles(np.array([[x, 0.0]]), np.array([0.15]), 1, np.zeros((1, 2)), np.array([0.05]), 0, "")
        for x in (0.0, 3.0)
    )
    assert columns_of(far, BLUE).mean() > 400
    assert count(far, BLUE) < count(near, BLUE) / 3, "from farther away"


def robot(x: float, camera: float = 0.0) -> Picture:
    """A capsule of 1 m, 128 pixels, lying at 1 m above the ground, and its foot."""
    starts, ends = np.array([[x, 0.0, 1.0], [x, 0.0, 1.0]]), np.array([[x + 1.0, 0.0, 1.0], [x, 0.0, 0.1]])
    return draw_robot(starts, ends, np.array([0.1, 0.05]), [-1, 0], (camera, 0.0), 0.0, "")


def test_a_robot_moves_right_as_x_grows_and_the_ground_left_as_the_camera_follows():
    blue = columns_of(robot(0.0), BLUE)
    assert blue.min() == pytest.approx(320 - 6.4, abs=1.5) and blue.max() == pytest.approx(320 + 6.4, abs=1.5)
    assert columns_of(robot(0.5), BLUE).mean() - blue.mean() == pytest.approx(64, abs=0.5)
    grey = (robot(0.0)[STRIP:] == GREY).all(axis=2)
    assert np.flatnonzero(grey.any(axis=1)).mean() == pytest.approx(360 - 1.4 * 128, abs=2), "1 m above the ground"
    followed = robot(0.5, camera=0.5)
    assert columns_of(followed, BLUE).mean() == pytest.approx(blue.mean(), abs=0.5)
    assert not np.array_equal(followed, robot(0.0)), "the marks on the ground have moved"


def test_from_above_what_is_nearer_hides_what_is_behind():
    starts, ends = np.array([[-0.5, 0.0, 0.5], [0.0, -0.5, 0.5]]), np.array([[0.5, 0.0, 0.5], [0.0, -0.4, 0.5]])
    radii = np.array([0.3, 0.05])
    nearer = draw_robot(starts, ends, radii, [0, 1], (0.0, 0.0), 0.6, "")
    behind = draw_robot(starts * [1, -1, 1], ends * [1, -1, 1], radii * [2, 1], [0, 1], (0.0, 0.0), 0.6, "")
    assert count(nearer, ORANGE) > 50 and count(behind, ORANGE) == 0


def test_grids_and_tables():
    picture = draw_grid(np.array([[0, 1], [0, 0]]), (PALE, GREY), [Piece(1, 0, RED, "", (0, 1))], "")
    assert picture.shape == (2 * 64 + STRIP, 448, 3)
    left = 224 - 64
    assert is_color(picture, left + 96, STRIP + 32, GREY) and is_color(picture, left + 32 - 12, STRIP + 96, RED)
    assert not is_color(picture, left + 60, STRIP + 96, PALE), "it looks to the right"
    table = draw_table(np.array([[0.0, 1.0], [1.0, 0.0]]), (0, 1), "")
    assert count(table, GREEN) > 5000 and count(draw_table(np.eye(2), None, ""), GREEN) == 0
    assert columns_of(table, GREEN).min() > 224, "the second column"


@pytest.mark.parametrize(
    "scenario",
    [
        "matrix/xor",
        "matrix/bridge",
        "matrix/landmarks",
        "mpe/simple_spread",
        "mpe/simple_tag_discrete",
        "mpe/simple_world_comm",
        "mpe/simple_spread-omar",
        "mamujoco/2halfcheetah",
        "mamujoco/2ant",
        "rware/tiny-2ag",
    ],
)
def test_environments_draw_themselves(scenario: str):
    env = make_env(scenario)
    assert env.metadata["render_modes"] == ["rgb_array"] and env.render_mode == "rgb_array"
    with pytest.raises(RuntimeError, match=r"expected reset\(\) before render\(\)"):
        env.render()
    env.reset(seed=1)
    first, again = env.render(), env.render()
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert np.array_equal(first, again)
    for agent in env.possible_agents:
        env.action_space(agent).seed(0)
    for _ in range(2):  # mpe2's positions follow in the second step
        if env.agents:
            env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    after = env.render()
    assert after.shape == first.shape and not np.array_equal(after[STRIP:], first[STRIP:])
    env.reset(seed=1)
    assert np.array_equal(env.render(), first)
    env.close()


def test_one_copy_of_mpe2_looks_like_ours():
    env = make_env("mpe/simple_spread")
    ours = env._like  # type: ignore[attr-defined]
    env.reset(seed=5)
    ours.reset([5])
    caption = "mpe/simple_spread   step 0   return 0.00"
    assert np.array_equal(env.render(), ours.draw(caption))


def test_limbs_belong_to_the_agents_that_move_them():
    env = make_env("mamujoco/2halfcheetah")
    env.reset(seed=0)
    picture = env.render()
    assert columns_of(picture, BLUE).max() < columns_of(picture, ORANGE).min(), "the hind leg is agent 0's"
    assert count(picture, GREY) > 500, "the trunk is nobody's"


def test_without_pillow(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs Pillow .*pip install '\.\[video\]', or pip install pillow"):
        drawing.import_pillow()

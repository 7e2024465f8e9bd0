"""Pictures of episodes: numbers in, RGB arrays out.

Drawn with Pillow, without a screen or OpenGL. Every picture has a strip on top, with a caption at the left and a legend
at the right, and below it a view of the world, x to the right and y (or height) upwards. Heights and widths are even,
as video formats want them.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color), which the colour-blind can tell apart.
"""

import functools
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]
Floats = NDArray[np.floating[Any]]

BLUE, ORANGE, GREEN = (0, 114, 178), (230, 159, 0), (0, 158, 115)
RED, SKY, PINK, YELLOW = (213, 94, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66)
#: One for each agent where several have to be told apart.
AGENTS: tuple[Color, ...] = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
PAPER, INK, GREY, PALE = (250, 250, 247), (40, 40, 40), (150, 150, 150), (222, 222, 217)
STRIP = 32
_SMOOTH = 2  # drawn this much larger, then scaled down, so that edges are smooth


def import_pillow() -> Any:
    """Import Pillow.

    Returns:
        The package ``PIL`` with its modules ``Image``, ``ImageDraw`` and ``ImageFont``.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        for module in ("Image", "ImageDraw", "ImageFont"):
            importlib.import_module(f"PIL.{module}")
        return importlib.import_module("PIL")
    except ImportError as error:
        raise ImportError(
            f"drawing an environment needs Pillow ({error}): pip install '.[video]', or pip install pillow"
        ) from error


@functools.cache
def _font(size: int) -> Any:
    """Pillow's own font; the same on every machine."""
    return import_pillow().ImageFont.load_default(size)


def faded(color: Color, share: float = 0.6) -> Color:
    """A colour mixed with this share of paper."""
    red, green, blue = (round((1 - share) * own + share * paper) for own, paper in zip(color, PAPER, strict=True))
    return red, green, blue


class Legend(NamedTuple):
    """An entry of the legend: a dot of a colour and a word."""

    color: Color
    word: str


class Canvas:
    """A picture in the making.

    Args:
        width: Of the picture in pixels, even.
        height: Of the view below the strip in pixels, even.
        left: World coordinate x of the view's left edge.
        top: World coordinate y of the view's top edge.
        scale: Pixels per unit of the world.
    """

    def __init__(self, width: int, height: int, left: float, top: float, scale: float) -> None:
        pillow = import_pillow()
        self.width, self.height = width, height + STRIP
        self.left, self.top, self.scale = left, top, scale
        self._image = pillow.Image.new("RGB", (self.width * _SMOOTH, self.height * _SMOOTH), PAPER)
        self._draw = pillow.ImageDraw.Draw(self._image)

    def at(self, point: Sequence[float] | Floats) -> tuple[float, float]:
        """Column and row of the pixel at a point of the world."""
        return (float(point[0]) - self.left) * self.scale, STRIP + (self.top - float(point[1])) * self.scale

    def circle(
        self,
        centre: Sequence[float] | Floats,
        radius: float,
        fill: Color | None = None,
        outline: Color | None = None,
        line: float = 1.5,
    ) -> None:
        """A disc or a ring; radius in units of the world, line in pixels."""
        column, row = self.at(centre)
        reach = radius * self.scale
        box = [_SMOOTH * edge for edge in (column - reach, row - reach, column + reach, row + reach)]
        self._draw.ellipse(box, fill=fill, outline=outline, width=round(line * _SMOOTH) if outline else 0)

    def line(
        self, start: Sequence[float] | Floats, end: Sequence[float] | Floats, color: Color, width: float = 1.5
    ) -> None:
        """A straight line, its width in pixels."""
        ends = [_SMOOTH * number for point in (start, end) for number in self.at(point)]
        self._draw.line(ends, fill=color, width=max(1, round(width * _SMOOTH)))

    def capsule(
        self, start: Sequence[float] | Floats, end: Sequence[float] | Floats, radius: float, color: Color
    ) -> None:
        """A thick line with round ends, its radius in units of the world, set off by a thin light edge."""
        edge = 1.5 / self.scale
        for reach, fill in ((radius + edge, PAPER), (radius, color)):
            self.line(start, end, fill, 2 * reach * self.scale)
            self.circle(start, reach, fill)
            self.circle(end, reach, fill)

    def box(
        self,
        corner: Sequence[float] | Floats,
        width: float,
        height: float,
        fill: Color | None = None,
        outline: Color | None = None,
        line: float = 1.0,
    ) -> None:
        """A rectangle from its upper left corner, in units of the world."""
        column, row = self.at(corner)
        edges = [column, row, column + width * self.scale, row + height * self.scale]
        pixels = [_SMOOTH * edge for edge in edges]
        pixels[2], pixels[3] = max(pixels[0], pixels[2] - 1), max(pixels[1], pixels[3] - 1)  # Pillow counts both ends
        self._draw.rectangle(pixels, fill=fill, outline=outline, width=round(line * _SMOOTH) if outline else 0)

    def word(self, point: Sequence[float] | Floats, word: str, size: float, color: Color, anchor: str = "mm") -> None:
        """A word, its size in pixels; the anchor is Pillow's, "mm" puts its middle on the point."""
        column, row = self.at(point)
        self._draw.text(
            (column * _SMOOTH, row * _SMOOTH), word, color, font=_font(max(8, round(size * _SMOOTH))), anchor=anchor
        )

    def picture(self, caption: str, legend: Sequence[Legend] = ()) -> Picture:
        """The finished picture, (H, W, 3) uint8, with the strip on top."""
        draw, smooth, font = self._draw, _SMOOTH, self._fitting_font(caption, legend)
        middle = STRIP // 2 * smooth
        draw.rectangle([0, 0, self.width * smooth, STRIP * smooth - 1], fill=PALE)
        draw.text((10 * smooth, middle), caption, INK, font=font, anchor="lm")
        right = (self.width - 10) * smooth
        for color, word in reversed(legend):
            draw.text((right, middle), word, INK, font=font, anchor="rm")
            right -= int(draw.textlength(word, font=font)) + 10 * smooth
            draw.ellipse([right - 5 * smooth, middle - 5 * smooth, right + 5 * smooth, middle + 5 * smooth], fill=color)
            right -= 14 * smooth
        return np.asarray(self._image.reduce(smooth), dtype=np.uint8)

    def _fitting_font(self, caption: str, legend: Sequence[Legend]) -> Any:
        """The largest font, 14 pixels or less, with which caption and legend fit side by side."""
        words = "".join([caption, *(entry.word for entry in legend)])
        room = (self.width - 30 - 24 * len(legend)) * _SMOOTH
        sizes = range(14 * _SMOOTH, 8 * _SMOOTH, -1)
        return next((_font(size) for size in sizes if _font(size).getlength(words) <= room), _font(8 * _SMOOTH))


def draw_battle(
    position: Floats,
    radius: Floats,
    health: Floats,
    letters: Sequence[str],
    n_allies: int,
    shots: Sequence[tuple[int, int]],
    caption: str,
) -> Picture:
    """A battle from above: discs of the unit's size with its type's letter, a bar of health above, lines for shots.

    Fallen units stay as pale crosses where they fell. A unit that is shot at has a dark ring. The view holds all units,
    is 16 wide or more, and has a line every four units of length; it moves smoothly, as they do.

    Args:
        position: Of the units (U, 2), ours first.
        radius: Of the units, (U,).
        health: Share that is left, (U,) in [0, 1]; 0 is fallen.
        letters: Type of each unit.
        n_allies: How many of the units are ours.
        shots: Who fired at whom in the last step.
        caption: Above the picture.

    Returns:
        (432, 640, 3) uint8.
    """
    low, high = position.min(axis=0), position.max(axis=0)
    wanted = (high - low + 4.0) * np.array([1.0, 1.6])  # as wide as its height demands, too
    width = max(16.0, float(wanted.max()))
    size = np.array([width, width / 1.6])
    (left, bottom), (right, top) = (low + high - size) / 2, (low + high + size) / 2
    canvas = Canvas(640, 400, left=left, top=top, scale=640 / width)
    for k in range(0, int(max(right, top)) + 1, 4):
        canvas.line((k, bottom), (k, top), PALE, 1.5)
        canvas.line((left, k), (right, k), PALE, 1.5)
    colors = [BLUE if unit < n_allies else RED for unit in range(len(position))]
    standing = [unit for unit in range(len(position)) if health[unit] > 0.0]
    for unit in set(range(len(position))) - set(standing):
        _cross(canvas, position[unit], float(radius[unit]), faded(colors[unit]))
    for unit in standing:
        canvas.circle(position[unit], float(radius[unit]), colors[unit])
    for shooter, target in shots:
        canvas.line(position[shooter], position[target], PAPER, 5.5)
        canvas.line(position[shooter], position[target], colors[shooter], 2.5)
        canvas.circle(position[target], float(radius[target]) + 0.15, outline=INK, line=2)
    for unit in standing:
        _health_bar(canvas, position[unit], float(radius[unit]), float(health[unit]))
    for unit in standing:  # last: letters are read even where units crowd
        canvas.word(position[unit], letters[unit], 1.7 * float(radius[unit]) * canvas.scale, PAPER)
    return canvas.picture(caption, [Legend(BLUE, "team"), Legend(RED, "enemy")])


def _cross(canvas: Canvas, centre: Floats, reach: float, color: Color) -> None:
    """Two crossing lines."""
    for sign in (-1, 1):
        start, end = (centre + np.array([way, sign * way]) for way in (-reach, reach))
        canvas.line(start, end, color, 3)


def _health_bar(canvas: Canvas, centre: Floats, radius: float, share: float) -> None:
    """One unit of length if unhurt, above a unit of the battle."""
    corner = (float(centre[0]) - 0.5, float(centre[1]) + radius + 0.3)
    canvas.box(corner, 1.0, 0.16, GREY)
    canvas.box(corner, min(share, 1.0), 0.16, GREEN)


def draw_particles(
    position: Floats,
    sizes: Floats,
    n_team: int,
    landmarks: Floats,
    landmark_sizes: Floats,
    n_obstacles: int,
    caption: str,
    words: tuple[str, str, str, str] = ("team", "prey", "landmark", "landmark"),
) -> Picture:
    """A world of particles from above: numbered discs for agents, grey ones for obstacles.

    Landmarks that can be entered are yellow dots on top of everything if they are smaller than all agents, else pale
    green with a ring. The view reaches from -1.3 to 1.3, and farther if somebody is farther away; the square from -1 to
    1, in which everything starts, is drawn.

    Args:
        position: Of the agents (M, 2), the team first.
        sizes: Radius of each agent, (M,).
        n_team: How many agents belong to the team; the others are preys.
        landmarks: Their positions, (L, 2).
        landmark_sizes: Their radii, (L,).
        n_obstacles: How many landmarks cannot be entered; they come first.
        caption: Above the picture.
        words: What the legend calls the team, preys, and landmarks of both kinds.

    Returns:
        (512, 480, 3) uint8.
    """
    everything = np.concatenate([position, landmarks])
    reach = max(1.3, float(np.abs(everything).max()) + 0.2)
    canvas = Canvas(480, 480, left=-reach, top=reach, scale=480 / (2 * reach))
    canvas.box((-1, 1), 2, 2, outline=PALE, line=1.5)
    small = landmark_sizes < sizes.min()
    small[:n_obstacles] = False
    fill: Color | None
    for index, landmark in enumerate(landmarks):
        fill = GREY if index < n_obstacles else faded(GREEN, 0.75)
        canvas.circle(landmark, float(landmark_sizes[index]), None if small[index] else fill)
    for index in [*range(n_team, len(position)), *range(n_team)]:
        color = BLUE if index < n_team else ORANGE
        canvas.circle(position[index], float(sizes[index]), color, PAPER)
        if index < n_team:
            _number(canvas, index, position[index], float(sizes[index]))
    for index in range(n_obstacles, len(landmarks)):
        fill, edge = (YELLOW, INK) if small[index] else (None, GREEN)
        canvas.circle(landmarks[index], float(landmark_sizes[index]), fill, edge, line=2)
    shown = (True, n_team < len(position), bool(small.any()), bool((~small[n_obstacles:]).any()))
    entries = zip(shown, (BLUE, ORANGE, YELLOW, GREEN), words, strict=True)
    return canvas.picture(caption, [Legend(color, word) for there, color, word in entries if there])


def _number(canvas: Canvas, number: int, centre: Floats, radius: float) -> None:
    """An agent's number on its disc; in the upper half of a large one, where a dot in its middle does not hide it."""
    pixels = radius * canvas.scale
    up, size = (0.58 * radius, 0.65 * pixels) if pixels > 20 else (0.0, 1.2 * pixels)
    canvas.word((float(centre[0]), float(centre[1]) + up), str(number), size, PAPER)


def draw_robot(
    starts: Floats,
    ends: Floats,
    radii: Floats,
    owners: Sequence[int],
    camera: tuple[float, float],
    tilt: float,
    caption: str,
) -> Picture:
    """A robot from the side, made of capsules, on ground with a mark every metre.

    The eye looks along y, from ``tilt`` above the horizon: (x, y, z) is seen at (x, z cos tilt + y sin tilt). Parts
    that are nearer hide those behind.

    Args:
        starts: One end of each capsule's middle line (G, 3), in metres.
        ends: The other end (G, 3), the same for a ball.
        radii: Radius of each capsule, (G,).
        owners: Which agent moves each capsule; -1 for none. Agents have different colours.
        camera: x and y of the point that stays in the picture's middle.
        tilt: In radians; 0 looks along the ground.
        caption: Above the picture.

    Returns:
        (392, 640, 3) uint8, 5 m wide.
    """
    scale, middle = 640 / 5, 0.4 if tilt == 0.0 else 1.2
    canvas = Canvas(640, 360, left=camera[0] - 2.5, top=360 / scale - middle, scale=scale)
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, np.sin(tilt), np.cos(tilt)]])
    shift = np.array([0.0, -camera[1] * np.sin(tilt)])
    _ground(canvas, camera, tilt)
    depth = (starts[:, 1] + ends[:, 1]) / 2
    for part in np.argsort(-depth, kind="stable"):
        color = GREY if owners[part] < 0 else AGENTS[owners[part] % len(AGENTS)]
        start, end = (rotation @ point[part] + shift for point in (starts, ends))
        canvas.capsule(start, end, float(radii[part]), color)
    legend = [Legend(AGENTS[agent % len(AGENTS)], f"agent {agent}") for agent in sorted({*owners} - {-1})]
    return canvas.picture(caption, legend if len(legend) < 4 else [Legend(color, word[-1]) for color, word in legend])


def _ground(canvas: Canvas, camera: tuple[float, float], tilt: float) -> None:
    """Ground with marks at whole metres, which show that the robot moves while the camera follows."""
    left, low = canvas.left, canvas.top - (canvas.height - STRIP) / canvas.scale
    marks = range(int(np.floor(left)), int(np.ceil(left + canvas.width / canvas.scale)) + 1)
    if tilt == 0.0:
        canvas.box((left, 0.0), canvas.width / canvas.scale, -low, PALE)
        canvas.line((left, 0.0), (left + canvas.width / canvas.scale, 0.0), INK, 2)
    for mark in marks:
        if tilt == 0.0:
            canvas.line((mark, 0.0), (mark, -0.08), INK, 2)
        else:
            canvas.line((mark, low), (mark, canvas.top), PALE, 2)
        canvas.word((mark, low + 0.14), f"{mark} m", 13, INK)
    if tilt > 0.0:
        for mark in range(int(np.floor(camera[1])) - 4, int(np.ceil(camera[1])) + 5):
            height = (mark - camera[1]) * np.sin(tilt)
            canvas.line((left, height), (left + canvas.width / canvas.scale, height), PALE, 2)


class Piece(NamedTuple):
    """Something on a square of a grid.

    Attributes:
        row: From the top.
        column: From the left.
        color: Of the disc.
        word: Written on it.
        ahead: Row and column, -1 to 1, of the way it looks; (0, 0) for none.
        loaded: Whether it carries something: a thick dark edge.
    """

    row: int
    column: int
    color: Color
    word: str
    ahead: tuple[int, int] = (0, 0)
    loaded: bool = False


def draw_grid(
    squares: NDArray[np.int64],
    colors: Sequence[Color],
    pieces: Sequence[Piece],
    caption: str,
    legend: Sequence[Legend] = (),
) -> Picture:
    """A grid of coloured squares with pieces on it.

    Args:
        squares: Which of the colours each square has, (rows, columns), the first row on top.
        colors: Colours of the squares.
        pieces: What stands on it; later ones hide earlier ones.
        caption: Above the picture.
        legend: What the colours mean.

    Returns:
        (H, W, 3) uint8; a square is at most 64 pixels wide and the picture 448 to 640, or more for many columns.
    """
    rows, columns = squares.shape
    side = max(16, min(64, 640 // columns // 2 * 2))
    width = max(448, side * columns)
    canvas = Canvas(width, side * rows, left=-(width / side - columns) / 2, top=float(rows), scale=side)
    for (row, column), square in np.ndenumerate(squares):
        canvas.box((column, rows - row), 1, 1, colors[int(square)], PAPER)
    for piece in pieces:
        centre = np.array([piece.column + 0.5, rows - piece.row - 0.5])
        canvas.circle(centre, 0.36, piece.color, INK if piece.loaded else None, line=3)
        if piece.ahead != (0, 0):
            canvas.line(centre, centre + 0.46 * np.array([piece.ahead[1], -piece.ahead[0]]), INK, 3)
        canvas.word(centre, piece.word, 0.4 * side, PAPER)
    return canvas.picture(caption, legend)


def draw_table(payoffs: Floats, chosen: tuple[int, int] | None, caption: str) -> Picture:
    """Rewards of a game of two agents, and the entry that they chose.

    Args:
        payoffs: Reward by the actions of the first agent (rows) and of the second (columns).
        chosen: Both actions; None before they were taken.
        caption: Above the picture.

    Returns:
        (H, 448, 3) uint8.
    """
    rows, columns = payoffs.shape
    side = max(32, min(96, 448 // (columns + 1) // 2 * 2))
    canvas = Canvas(448, side * (rows + 1), left=-(448 / side - columns + 1) / 2, top=float(rows + 1), scale=side)
    for column in range(columns):
        canvas.word((column + 0.5, rows + 0.5), str(column), 18, ORANGE)
    for row in range(rows):
        canvas.word((-0.5, rows - row - 0.5), str(row), 18, BLUE)
        for column in range(columns):
            mine = (row, column) == chosen
            canvas.box((column, rows - row), 1, 1, GREEN if mine else PALE, PAPER, 2)
            color = PAPER if mine else INK
            canvas.word((column + 0.5, rows - row - 0.5), f"{payoffs[row, column]:g}", 24, color)
    return canvas.picture(caption, [Legend(BLUE, "agent 0"), Legend(ORANGE, "agent 1")])

"""Draw the sample data: small pictures of twelve solids, the label is the shape.

    python sample_data/make.py --out DIR

Everything but the shape varies at random: proportions, pose, size, place, colours, patterns, gloss, light,
camera and background. The solids are signed distance functions (negative inside, positive outside, slope at
most 1) and are drawn by sphere tracing: a ray steps on by the distance to the nearest surface until that is
next to nothing (Hart 1996; the distance functions, the soft shadow and the occlusion after Inigo Quilez,
https://iquilezles.org/articles/distfunctions/).

Needs numpy and Pillow. Each picture has a generator of its own, seeded by (SEED, shape, number): the same
versions of both give the same bytes, in any order. A few faults are planted on purpose: see the end of this
file, and README.md.
"""

# numpy's functions are typed as Any
# mypy: disable-error-code="no-any-return"

import argparse
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]  # of one value per point, or of shape (3, n_points): x to the right, y up
Random = np.random.Generator

SEED = 21
PER_LABEL = 28
SIZE = 192  # pixels
SUPERSAMPLING = 2
QUALITY = 85  # of the JPEG
FAR = 60.0  # where the floor ends; a solid fits into a ball of radius 1


# --- the solids: (points, proportion in [0, 1]) -> signed distances ----------------------------------------


def between(low: float, high: float, proportion: float) -> float:
    return low + (high - low) * proportion


def soft_abs(x: Array) -> Array:
    """|x| with a rounded tip: folds space over a mirror plane without leaving a razor's edge."""
    return np.sqrt(x * x + 0.0006)


def soft_max(*distances: Array) -> Array:
    """The intersection of solids with slightly rounded edges (a log-sum-exp)."""
    largest = np.maximum.reduce(distances)
    return largest + 0.015 * np.log(sum(np.exp((distance - largest) / 0.015) for distance in distances))


def cone(p: Array, proportion: float) -> Array:
    width, height = between(0.62, 0.78, proportion), between(0.78, 0.58, proportion)
    return taper(soft_abs(np.hypot(p[0], p[2])), p[1], width, height)


def pyramid(p: Array, proportion: float) -> Array:
    width, height = between(0.52, 0.66, proportion), between(0.78, 0.58, proportion)
    x, z = soft_abs(p[0]), soft_abs(p[2])
    return soft_max(taper(x, p[1], width, height), taper(z, p[1], width, height))


def taper(across: Array, y: Array, width: float, height: float) -> Array:
    """Below the slope from (0, height) to (width, -height) and above the base."""
    slope = math.hypot(width, 2 * height)
    return soft_max(-y - height, (2 * height * across + width * (y - height)) / slope)


def cylinder(p: Array, proportion: float) -> Array:
    radius, height = between(0.42, 0.7, proportion), between(0.82, 0.5, proportion)
    return soft_max(np.hypot(p[0], p[2]) - radius, soft_abs(p[1]) - height)


def hexagonal_prism(p: Array, proportion: float) -> Array:
    x, y, z = soft_abs(p[0]), soft_abs(p[1]), soft_abs(p[2])
    radius, height = between(0.42, 0.62, proportion), between(0.84, 0.58, proportion)
    return soft_max(0.866 * x + 0.5 * z - radius, z - radius, y - height)


def capsule(p: Array, proportion: float) -> Array:
    radius = between(0.36, 0.52, proportion)
    beyond = np.maximum(np.abs(p[1]) - (0.95 - radius), 0)
    return np.sqrt(p[0] ** 2 + beyond**2 + p[2] ** 2) - radius


def cube(p: Array, proportion: float) -> Array:
    half = between(0.5, 0.56, proportion)
    return soft_max(*(soft_abs(axis) - half for axis in p))


def octahedron(p: Array, proportion: float) -> Array:
    wide = between(1.4, 1.0, proportion)
    return (wide * (soft_abs(p[0]) + soft_abs(p[2])) + soft_abs(p[1]) - 0.98) / math.sqrt(2 * wide**2 + 1)


def icosahedron(p: Array, proportion: float) -> Array:
    x, y, z = (soft_abs(axis) for axis in p)
    size = between(0.68, 0.74, proportion)
    return soft_max(
        (x + y + z) * 0.5774 - size,
        0.3568 * y + 0.9342 * z - size,
        0.3568 * z + 0.9342 * x - size,
        0.3568 * x + 0.9342 * y - size,
    )


def torus(p: Array, proportion: float) -> Array:
    thickness = between(0.16, 0.27, proportion)
    return np.hypot(np.hypot(p[0], p[2]) - (0.96 - thickness), p[1]) - thickness


def star(p: Array, proportion: float) -> Array:
    """A prism over a five-pointed star: one edge, repeated by folding the angle."""
    radius, fifth = np.hypot(p[0], p[2]), 2 * math.pi / 5
    angle = np.abs((np.arctan2(p[2], p[0]) + fifth / 2) % fifth - fifth / 2)
    tip, notch = 0.98, between(0.38, 0.5, proportion)
    across, along = notch * math.sin(fifth / 2), tip - notch * math.cos(fifth / 2)
    distance = (radius * np.cos(angle) - tip) * across + radius * np.sin(angle) * along
    return soft_max(distance / math.hypot(across, along), soft_abs(p[1]) - between(0.2, 0.34, proportion))


def spring(p: Array, proportion: float) -> Array:
    """A wire around the y axis; cut off above and below, hence the flat ends."""
    pitch, radius, wire = between(0.36, 0.56, proportion), 0.52, between(0.085, 0.12, proportion)
    rise = p[1] + pitch * np.arctan2(p[2], p[0]) / (2 * math.pi)
    height = rise - pitch * np.round(rise / pitch)
    steep = math.cos(math.atan(pitch / (2 * math.pi * radius)))
    coil = np.hypot(np.hypot(p[0], p[2]) - radius, height * steep) - wire
    return np.maximum(coil, np.abs(p[1]) - 0.8) * 0.8


def knot(p: Array, proportion: float) -> Array:
    """The trefoil: two strands that turn three half rounds about each other on the way around the y axis."""
    turn = 1.5 * np.arctan2(p[2], p[0])
    across, up = np.hypot(p[0], p[2]) - 0.58, p[1]
    strand = np.abs(across * np.cos(turn) + up * np.sin(turn)) - 0.24
    wire = between(0.1, 0.15, proportion)
    return (np.hypot(strand, up * np.cos(turn) - across * np.sin(turn)) - wire) * 0.6


Solid = Callable[[Array, float], Array]
SHAPES: dict[str, Solid] = {
    "capsule": capsule,
    "cone": cone,
    "cube": cube,
    "cylinder": cylinder,
    "hexagonal_prism": hexagonal_prism,
    "icosahedron": icosahedron,
    "knot": knot,
    "octahedron": octahedron,
    "pyramid": pyramid,
    "spring": spring,
    "star": star,
    "torus": torus,
}


# --- patterns: (points, generator) -> weight of the second colour, in [0, 1] -------------------------------


def plain(p: Array, rng: Random) -> Array:
    return np.zeros_like(p[0])


def stripes(p: Array, rng: Random) -> Array:
    return smooth_step(np.sin(rng.uniform(4, 14) * tilt(rng, p) + rng.uniform(0, 6)) * 6)


def checker(p: Array, rng: Random) -> Array:
    waves = np.sin(rng.uniform(3, 7) * (turned(rng, p) + rng.uniform(0, 1)))
    return smooth_step(20 * waves[0] * waves[1] * waves[2])


def dots(p: Array, rng: Random) -> Array:
    cells = turned(rng, p) * rng.uniform(1.5, 4)
    return smooth_step((0.3 - np.sqrt(sum((axis - np.round(axis)) ** 2 for axis in cells))) * 25)


def marble(p: Array, rng: Random) -> Array:
    return 0.5 + 0.5 * np.sin(rng.uniform(2, 5) * tilt(rng, p) + 3 * clouds(p, rng))


def clouds(p: Array, rng: Random) -> Array:
    """Smooth noise: waves of random directions, the shorter the weaker."""
    slowest = rng.uniform(1, 2)
    frequencies = [slowest * 1.6**octave for octave in range(7)]
    waves = [np.sin(f * tilt(rng, p) + rng.uniform(0, 6)) / f**0.7 for f in frequencies]
    return smooth_step(1.2 * sum(waves))


def tiles(p: Array, rng: Random) -> Array:
    cells = turned(rng, p) * rng.uniform(1, 2.5)
    return smooth_step((np.max(np.abs(cells - np.round(cells)), axis=0) - 0.45) * 40)


def tilt(rng: Random, p: Array) -> Array:
    """The coordinate of the points along a random direction."""
    return turned(rng, p)[0]


def turned(rng: Random, p: Array) -> Array:
    return rotation(rng) @ p


def smooth_step(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(x)


PATTERNS = (plain, stripes, checker, dots, marble, clouds, tiles)


# --- what is drawn -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surface:
    """Two linear RGB colours, the pattern that mixes them, and the gloss."""

    colours: Array  # (2, 3)
    pattern: Callable[[Array, Random], Array]
    pattern_seed: int
    shine: float
    exponent: float

    def albedo(self, points: Array) -> Array:
        """Colours of the points, of shape (3, n_points)."""
        weight = self.pattern(points, np.random.default_rng(self.pattern_seed)).astype(np.float32)
        return self.colours[0][:, None] * (1 - weight) + self.colours[1][:, None] * weight


@dataclass(frozen=True)
class Scene:
    """A posed solid at the origin on a floor, the camera, the light and the room; colours are linear RGB."""

    solid: Callable[[Array], Array]
    pose: Array  # (3, 3), world from solid
    floor: float  # its height
    eye: Array  # (3,)
    view: Array  # (3, 3), rows: right, up, ahead
    focal: float
    shift: Array  # (2,), where the solid is on the picture, in half pictures
    light: Array  # (3,), towards it
    light_colour: Array
    ambient: Array
    hardness: float  # of the shadow
    backdrop: Array  # (2, 3), colours at the horizon and high above it
    haze: float  # the distance at which the floor has become the backdrop
    dapple: float  # how much of the light a screen of leaves takes away, at most
    room_seed: int  # of the leaves and of the backdrop's clouds
    material: Surface
    ground: Surface

    def distance(self, points: Array) -> Array:
        return self.solid(self.pose.T @ points)


def rotation(rng: Random) -> Array:
    """A random rotation, uniform over all (by a random unit quaternion)."""
    w, x, y, z = unit(rng.normal(size=4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        np.float32,
    )


def unit(vectors: Array) -> Array:
    """The vectors, columns of the array, at length 1."""
    return (vectors / np.maximum(np.sqrt(np.sum(vectors**2, axis=0)), 1e-9)).astype(np.float32)


def upright(rng: Random, wobble: float) -> Array:
    """A random turn about the vertical, then a small tilt."""
    turn, lean, towards = rng.uniform(0, 2 * math.pi), rng.normal() * wobble, rng.uniform(0, 2 * math.pi)
    return about_y(towards) @ about_x(lean) @ about_y(turn)


def about_y(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def about_x(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)


def direction(azimuth: float, degrees_up: float) -> Array:
    """The unit vector towards a point of the sky."""
    height = math.radians(degrees_up)
    flat = math.cos(height)
    return np.array([flat * math.cos(azimuth), math.sin(height), flat * math.sin(azimuth)], np.float32)


def colour(rng: Random, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    """A random linear RGB colour of any hue."""
    hue = rng.uniform(0, 6)
    pure = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return ((1 - rng.uniform(*saturation) * (1 - pure)) * rng.uniform(*value)).astype(np.float32) ** 2.2


def surface(rng: Random, plain_share: float, saturation: tuple[float, float], shine: float) -> Surface:
    pattern = plain if rng.random() < plain_share else PATTERNS[rng.integers(1, len(PATTERNS))]
    colours = np.stack([colour(rng, saturation, (0.25, 0.95)) for _ in range(2)])
    seed, exponent = int(rng.integers(2**31)), 10 ** rng.uniform(0.9, 2.2)
    return Surface(colours, pattern, seed, rng.uniform(0, shine), exponent)


def lowest(solid: Callable[[Array], Array], pose: Array) -> float:
    """The height of the lowest point of a posed solid, found on a grid."""
    axis = np.linspace(-1.02, 1.02, 52, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis)).reshape(3, -1)
    return float((pose[1] @ grid[:, solid(grid) < 0.012]).min())


def stage(shape: str, rng: Random) -> Scene:
    """A random scene around one solid."""
    proportion = rng.random()

    def solid(points: Array) -> Array:
        return SHAPES[shape](points, proportion)

    pose = rotation(rng) if rng.random() < 0.4 else upright(rng, 0.1)
    azimuth = rng.uniform(0, 2 * math.pi)
    ahead = -direction(azimuth, rng.uniform(12, 60))
    right = unit(np.cross(ahead, [0, 1, 0]) + rng.normal(size=3) * 0.05)
    view = np.stack([right, unit(np.cross(right, ahead)), ahead])
    light = direction(azimuth + rng.uniform(-2.2, 2.2), rng.uniform(28, 75))
    warmth = rng.uniform(-0.15, 0.15)
    horizon = colour(rng, (0, 0.5), (0.3, 1))
    focal = rng.uniform(1.6, 3.2)
    return Scene(
        solid=solid,
        pose=pose,
        floor=lowest(solid, pose),
        eye=(-ahead * focal / rng.uniform(0.45, 0.85)).astype(np.float32),
        view=view.astype(np.float32),
        focal=focal,
        shift=rng.uniform(-0.25, 0.25, 2).astype(np.float32),
        light=light,
        light_colour=np.array([1 + warmth, 1, 1 - warmth], np.float32) * np.float32(rng.uniform(1, 1.5)),
        ambient=np.float32(rng.uniform(0.25, 0.5)) * (0.5 + 0.5 * horizon),
        hardness=10 ** rng.uniform(0.5, 1.5),
        backdrop=np.stack([horizon, colour(rng, (0, 0.7), (0.15, 1))]),
        haze=10 ** rng.uniform(0.8, 1.6),
        dapple=rng.uniform(0.1, 0.8),
        room_seed=int(rng.integers(2**31)),
        material=surface(rng, 0.45, (0, 0.95), 0.8),
        ground=surface(rng, 0.3, (0, 0.6), 0.2),
    )


# --- drawing -----------------------------------------------------------------------------------------------


def render(shape: str, number: int, size: int = SIZE) -> Image.Image:
    """The picture of a shape with that number, `size` pixels wide and high."""
    rng = np.random.default_rng([SEED, list(SHAPES).index(shape), number])
    scene = stage(shape, rng)
    rays = camera_rays(scene, size * SUPERSAMPLING)
    colours = behind(scene, rays)

    down = np.flatnonzero(rays[1] < -1e-3)
    reach = (scene.floor - scene.eye[1]) / rays[1, down]
    down, reach = down[reach < FAR], reach[reach < FAR]
    colours[:, down] = floor_colours(scene, rays[:, down], reach, colours[:, down])

    hit, reach = trace(scene, rays)
    colours[:, hit] = solid_colours(scene, rays[:, hit], reach)

    pixels = colours.clip(0, 1) ** (1 / 2.2) * 255
    side = size * SUPERSAMPLING
    picture = Image.fromarray(np.round(pixels).astype(np.uint8).T.reshape(side, side, 3))
    return picture.resize((size, size), Image.Resampling.BOX)


def camera_rays(scene: Scene, side: int) -> Array:
    """Unit directions through the pixels' centres, row by row, of shape (3, side * side)."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    across, up = np.meshgrid(axis - scene.shift[0], -axis - scene.shift[1])
    ahead = np.full(across.size, scene.focal, np.float32)
    return unit(scene.view.T @ np.stack([across.ravel(), up.ravel(), ahead]))


def trace(scene: Scene, rays: Array) -> tuple[NDArray[np.intp], Array]:
    """Which rays from the eye meet the solid, and after how long a way."""
    closest = -scene.eye @ rays
    room = 1.05**2 - (scene.eye @ scene.eye - closest**2)
    active = np.flatnonzero(room > 0)
    reach = np.full(rays.shape[1], np.inf, np.float32)
    way = closest - np.sqrt(np.maximum(room, 0))
    end = closest + np.sqrt(np.maximum(room, 0))
    for _ in range(70):
        step = scene.distance(scene.eye[:, None] + rays[:, active] * way[active])
        found = step < 1e-3
        reach[active[found]] = way[active[found]]
        way[active] += step
        active = active[~found & (way[active] < end[active])]
    hit = np.flatnonzero(np.isfinite(reach))
    return hit, reach[hit]


def sunlight(scene: Scene, points: Array) -> Array:
    """What is left of the light: leaves somewhere above take a part, and the solid its shadow."""
    leaves = clouds(points * 0.4, np.random.default_rng(scene.room_seed))
    return (1 - scene.dapple * leaves) * shadow(scene, points)


def shadow(scene: Scene, points: Array) -> Array:
    """The share of the light that reaches the points: soft where a ray only just misses the solid."""
    light = np.ones(points.shape[1], np.float32)
    closest = -scene.light @ points
    near = np.flatnonzero((np.sum(points**2, axis=0) - closest**2 < 1.8**2) & (closest > -1.5))
    way = np.maximum(closest - 2, 0.03)
    for _ in range(28):
        distance = scene.distance(points[:, near] + scene.light[:, None] * way[near])
        light[near] = np.minimum(light[near], scene.hardness * distance / way[near])
        way[near] += np.clip(distance, 0.03, 0.3)
        near = near[(light[near] > 0.005) & (way[near] < closest[near] + 2)]
    light = light.clip(0, 1)
    return light * light * (3 - 2 * light)


def behind(scene: Scene, rays: Array) -> Array:
    """The backdrop's colours: clouded, from the horizon's upwards."""
    cloud = clouds(rays * 1.5, np.random.default_rng(scene.room_seed))
    share = np.clip(np.abs(rays[1]), 0, 0.5) + 0.5 * cloud
    return scene.backdrop[0][:, None] * (1 - share) + scene.backdrop[1][:, None] * share


def floor_colours(scene: Scene, rays: Array, reach: Array, beyond: Array) -> Array:
    points = scene.eye[:, None] + rays * reach
    normals = np.zeros_like(points)
    normals[1] = 1
    contact = np.clip(scene.distance(points) / 0.5, 0, 1)
    lit = shade(scene, scene.ground, rays, normals, sunlight(scene, points), 0.45 + 0.55 * contact, points)
    share = np.exp(-((reach / (scene.haze + np.linalg.norm(scene.eye))) ** 2))
    return lit * share + beyond * (1 - share)


def solid_colours(scene: Scene, rays: Array, reach: Array) -> Array:
    points = scene.eye[:, None] + rays * reach
    normals = gradient(scene, points)
    above = np.clip((points[1] - scene.floor) / 0.6, 0, 1)
    crevice = np.clip(scene.distance(points + normals * 0.2) / 0.2, 0, 1)
    occlusion = (0.6 + 0.4 * np.maximum(above, normals[1])) * (0.5 + 0.5 * crevice)
    light = sunlight(scene, points + normals * 0.02)
    return shade(scene, scene.material, rays, normals, light, occlusion, scene.pose.T @ points)


def gradient(scene: Scene, points: Array) -> Array:
    """Unit normals, from the distances at the corners of a small tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    step = np.float32(2e-3)
    return unit(sum(corner[:, None] * scene.distance(points + corner[:, None] * step) for corner in corners))


def shade(
    scene: Scene, skin: Surface, rays: Array, normals: Array, light: Array, occlusion: Array, textured: Array
) -> Array:
    """Blinn-Phong, with a light from all around and a reflection of the backdrop at flat angles."""
    facing = np.clip(scene.light @ normals, 0, 1) * light
    halfway = unit(scene.light[:, None] - rays)
    highlight = skin.shine * np.clip(np.sum(halfway * normals, axis=0), 0, 1) ** skin.exponent * light
    all_around = scene.ambient[:, None] * ((0.75 + 0.25 * normals[1]) * occlusion)
    cosine = np.clip(-np.sum(rays * normals, axis=0), 0, 1)
    mirrored = behind(scene, rays + 2 * cosine * normals)
    fresnel = skin.shine * (0.06 + 0.5 * (1 - cosine) ** 4) * occlusion
    diffuse = skin.albedo(textured) * (all_around + scene.light_colour[:, None] * facing)
    return diffuse * (1 - fresnel) + mirrored * fresnel + scene.light_colour[:, None] * highlight


# --- files -------------------------------------------------------------------------------------------------

# Every label has the pictures 1 ... PER_LABEL. Where a label has one more, it is a fault planted on purpose.
MISLABELLED = {  # file -> the shape and the number of the picture in it
    "cube/cube_29.jpg": ("knot", 30),
    "pyramid/pyramid_29.jpg": ("spring", 30),
}
EXACT_COPY = ("star/star_29.jpg", ("star", 4))
NEAR_COPY = ("cone/cone_29.jpg", ("cone", 7))
NEAR_COPY_SIZE, NEAR_COPY_QUALITY = 176, 60
TRUNCATED = ("spring/spring_29.jpg", ("spring", 29))
TEXT = ("capsule/capsule_29.jpg", "This is a text file that calls itself a picture.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sample data.")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the label folders")
    folder = parser.parse_args().out
    for name, content in {**sound_files(), **faulty_files()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def sound_files() -> dict[str, bytes]:
    return {
        f"{shape}/{shape}_{number:02d}.jpg": jpeg(render(shape, number))
        for shape in SHAPES
        for number in range(1, PER_LABEL + 1)
    }


def faulty_files() -> dict[str, bytes]:
    small = render(*NEAR_COPY[1]).resize((NEAR_COPY_SIZE, NEAR_COPY_SIZE), Image.Resampling.BICUBIC)
    whole = jpeg(render(*TRUNCATED[1]))
    return {
        **{name: jpeg(render(*picture)) for name, picture in MISLABELLED.items()},
        EXACT_COPY[0]: jpeg(render(*EXACT_COPY[1])),
        NEAR_COPY[0]: jpeg(small, NEAR_COPY_QUALITY),
        TRUNCATED[0]: whole[: len(whole) * 6 // 10],
        TEXT[0]: TEXT[1].encode(),
    }


def jpeg(picture: Image.Image, quality: int = QUALITY) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


if __name__ == "__main__":
    main()

"""The demo categories: stuff and things of both worlds in one list.

The order is part of the demo models' weights: a category's position is its semantic train id and its class index.
Append, never reorder. Stuff comes first, street before line; then things in the same order.
"""

from models.datasets.sample import Category

STREET_STUFF = ("sky", "building", "vegetation", "road", "pavement", "road marking")
LINE_STUFF = ("belt", "floor", "wall", "rail")
STREET_THINGS = ("car", "truck", "pedestrian", "cyclist", "traffic sign")
LINE_THINGS = ("box", "bottle", "can", "gear", "hand")

PARCELS = ("box", "bottle", "can", "gear")
"""The things whose segments carry the attribute ``condition``: ``intact`` or ``damaged``."""

CATEGORIES: tuple[Category, ...] = (
    Category("sky", False, (70, 130, 180)),
    Category("building", False, (96, 80, 76)),
    Category("vegetation", False, (107, 142, 35)),
    Category("road", False, (128, 64, 128)),
    Category("pavement", False, (244, 35, 232)),
    Category("road marking", False, (230, 230, 230)),
    Category("belt", False, (64, 96, 112)),
    Category("floor", False, (152, 132, 104)),
    Category("wall", False, (190, 190, 170)),
    Category("rail", False, (120, 120, 150)),
    Category("car", True, (0, 60, 200)),
    Category("truck", True, (0, 160, 220)),
    Category("pedestrian", True, (220, 20, 60)),
    Category("cyclist", True, (255, 110, 0)),
    Category("traffic sign", True, (240, 220, 0)),
    Category("box", True, (200, 140, 60)),
    Category("bottle", True, (0, 180, 90)),
    Category("can", True, (210, 60, 120)),
    Category("gear", True, (110, 90, 220)),
    Category("hand", True, (255, 170, 140)),
)

TRAIN_IDS: dict[str, int] = {category.name: index for index, category in enumerate(CATEGORIES)}

WORLD_CATEGORIES: dict[str, tuple[str, ...]] = {
    "street": STREET_STUFF + STREET_THINGS,
    "line": LINE_STUFF + LINE_THINGS,
}

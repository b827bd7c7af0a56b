"""The map: one bokeh figure. It holds no data: neither a place nor a name."""

import json
import re
from typing import Any

from simpipe.reporting.colours import AMOUNTS, FADED, PALETTE
from simpipe.reporting.density import Frame

SIZES = ((300, 10), (1_500, 8), (5_000, 7), (20_000, 5), (50_000, 4))
"""Up to how many points, and their width in pixels."""
SMALLEST = 3
MOST_MARKERS = 20_000
"""More points than these are not drawn one by one in WebGL, but as one picture, see raster.js."""


def load_bokeh() -> None:
    """Import now what `figure` and the others need: most of a second."""
    import bokeh.embed
    import bokeh.plotting  # noqa: F401


def figure(n: int, limits: Frame) -> Any:
    """The figure, with empty layers that the script fills: the points, mistakes, the chosen image, names.

    Args:
        n: the number of points.
        limits: what of the plane is seen at first.
    """
    from bokeh.models import ColumnDataSource, LinearColorMapper, Range1d, WheelZoomTool
    from bokeh.plotting import figure as new_figure

    left, right, bottom, top = limits
    plot = new_figure(
        name="map",
        height=560,
        sizing_mode="stretch_width",
        output_backend="webgl" if n <= MOST_MARKERS else "canvas",
        x_range=Range1d(left, right),
        y_range=Range1d(bottom, top),
        tools="pan,box_zoom,zoom_in,zoom_out,reset,save",
        active_drag="pan",
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border=4,
    )
    # The wheel alone scrolls the page.
    plot.add_tools(WheelZoomTool(modifiers="ctrl"))
    plot.toolbar.logo = None
    # BokehJS leaves no room for the lines between its tools, and would put the last one into a menu.
    plot.toolbar.stylesheets = [".bk-divider { display: none; }"]
    plot.axis.visible = False
    plot.grid.visible = False
    shade = ColumnDataSource({"url": []}, name="density")
    plot.image_url("url", left, bottom, right - left, top - bottom, source=shade, anchor="bottom_left")
    palette = [*PALETTE, FADED, *AMOUNTS]
    mapper = LinearColorMapper(name="colours", palette=palette, low=-0.5, high=len(palette) - 0.5)
    points = ColumnDataSource({"x": [], "y": [], "code": []}, name="points")
    size = next((size for most, size in SIZES if n <= most), SMALLEST)
    if n > MOST_MARKERS:
        empty: dict[str, list[Any]] = {key: [] for key in ("image", "x", "y", "dw", "dh")}
        raster = ColumnDataSource(empty, name="raster", tags=[size])
        plot.image_rgba("image", "x", "y", "dw", "dh", source=raster)
        plot.tags = [points, mapper]
    else:
        add_markers(plot, points, mapper, size)
    add_overlays(plot, size)
    return plot


def add_markers(plot: Any, points: Any, mapper: Any, size: int) -> None:
    """What is faded lies under the rest, and has no outlines to add up to black."""
    from bokeh.models import BooleanFilter, CDSView

    colours: dict[str, dict[str, Any]] = {
        "faded": {"fill_color": FADED, "line_color": None},
        "bright": {"fill_color": {"field": "code", "transform": mapper}, "line_width": 0.5},
    }
    for name, colour in colours.items():
        view = CDSView(filter=BooleanFilter(name=name))
        plot.scatter("x", "y", source=points, name=f"{name}_points", view=view, size=size, **colour)


def add_overlays(plot: Any, size: int) -> None:
    """Rings and names: in a layer of their own, so that to move them does not draw the points again."""
    from bokeh.models import ColumnDataSource

    layer = {name: ColumnDataSource({"x": [], "y": []}, name=name) for name in ("mistakes", "near", "chosen")}
    plot.scatter(
        "x", "y", source=layer["mistakes"], name="rings", size=size + 4, fill_color=None,
        line_width=1 + size / 14, level="overlay",
    )  # fmt: skip
    names = ColumnDataSource({"x": [], "y": [], "text": []}, name="names")
    plot.text(
        "x", "y", text="text", source=names, name="name_text", text_font={"value": "sans-serif"},
        text_font_size="12px", text_align="center", text_baseline="bottom", y_offset=-6, padding=2,
        border_radius=3, background_fill_alpha=0.75, level="overlay",
    )  # fmt: skip
    # White inside black can be seen on light and dark pages.
    for name, wide in (("near", 11), ("chosen", 22)):
        for colour, width in (("#000000", 4), ("#FFFFFF", 2)):
            plot.scatter(
                "x", "y", source=layer[name], size=wide, fill_color=None, line_color=colour,
                line_width=width, level="overlay",
            )  # fmt: skip


def figure_json(plot: Any) -> str:
    """The figure for `Bokeh.embed.embed_item`: equal figures give equal text."""
    from bokeh.embed import json_item

    item = json_item(plot, "map-plot")
    text = json.dumps({key: item[key] for key in ("target_id", "root_id", "doc")})
    numbers: dict[str, str] = {}
    return re.sub(r'"p\d+"', lambda match: numbers.setdefault(match[0], f'"m{len(numbers)}"'), text)


def bokeh_js(n: int = 0) -> str:
    """BokehJS for a map of n points, with WebGL where they are drawn in it: about 1.5 MB of script."""
    from bokeh.resources import Resources

    components = ["bokeh", "bokeh-gl"] if n <= MOST_MARKERS else ["bokeh"]
    return "\n".join(Resources(mode="inline", components=components, log_level="error").js_raw)

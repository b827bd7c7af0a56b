"""The map: one bokeh figure in WebGL. It holds coordinates and colour codes; no name or path enters it."""

import json
import re
from typing import Any

import numpy as np

from simpipe.reporting.colours import FADED, PALETTE


def figure(xy: np.ndarray, code: np.ndarray) -> Any:
    """The figure: every image a point, and empty layers for mistakes, the chosen image and label names.

    Args:
        xy: float32 array of shape `(n, 2)`.
        code: int array of shape `(n,)`, an index into the palette.
    """
    from bokeh.models import ColumnDataSource, LinearColorMapper, WheelZoomTool
    from bokeh.plotting import figure as new_figure

    plot = new_figure(
        name="map",
        height=560,
        sizing_mode="stretch_width",
        output_backend="webgl",
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
    plot.axis.visible = False
    plot.grid.visible = False
    palette = [*PALETTE, FADED]
    mapper = LinearColorMapper(name="colours", palette=palette, low=-0.5, high=len(palette) - 0.5)
    points = ColumnDataSource(
        {"x": xy[:, 0].astype(np.float32), "y": xy[:, 1].astype(np.float32), "code": code.astype(np.uint8)},
        name="points",
    )
    plot.scatter(
        "x", "y", source=points, size=7 if len(xy) <= 5_000 else 5, line_width=0.5, line_color="#00000055",
        fill_color={"field": "code", "transform": mapper}, name="images",
    )  # fmt: skip
    layer = {name: ColumnDataSource({"x": [], "y": []}, name=name) for name in ("mistakes", "near", "chosen")}
    ring = {"fill_color": None, "line_color": "#C3002F", "line_width": 1.5}
    plot.scatter("x", "y", source=layer["mistakes"], size=11, **ring)
    # White inside black can be seen on light and dark pages.
    for name, size in (("near", 12), ("chosen", 18)):
        plot.scatter(
            "x", "y", source=layer[name], size=size, fill_color=None, line_color="#000000", line_width=4
        )
        plot.scatter(
            "x", "y", source=layer[name], size=size, fill_color=None, line_color="#FFFFFF", line_width=2
        )
    names = ColumnDataSource({"x": [], "y": [], "text": []}, name="names")
    plot.text(
        "x", "y", text="text", source=names, name="name_text", text_font={"value": "sans-serif"},
        text_font_size="12px", text_align="center", text_baseline="bottom", y_offset=-6, padding=2,
        border_radius=3, background_fill_alpha=0.75,
    )  # fmt: skip
    return plot


def figure_json(plot: Any) -> str:
    """The figure for `Bokeh.embed.embed_item`: equal figures give equal text."""
    from bokeh.embed import json_item

    item = json_item(plot, "map-plot")
    text = json.dumps({key: item[key] for key in ("target_id", "root_id", "doc")})
    numbers: dict[str, str] = {}
    return re.sub(r'"p\d+"', lambda match: numbers.setdefault(match[0], f'"m{len(numbers)}"'), text)


def bokeh_js() -> str:
    """BokehJS with WebGL: about 1.5 MB of script."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh", "bokeh-gl"], log_level="error").js_raw)

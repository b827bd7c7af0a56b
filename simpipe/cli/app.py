"""The command line's tree. Commands import what they need when they run, so that help is instant."""

import typer

from simpipe import __version__
from simpipe.cli.configuration import config_app, init
from simpipe.cli.doctor import doctor
from simpipe.cli.options import EXIT_CODES
from simpipe.cli.pipeline import add_stage_commands, run
from simpipe.cli.reading import query, status
from simpipe.cli.upkeep import gc, verify

HELP = """From a folder of labelled images to a metric-learning baseline and an honest report.

\b
Start here:
  simpipe run photos/      one sub-folder of images for each label
  simpipe status           which stages are fresh, and why the others are not
  simpipe query new.jpg    similar images, and the label
"""

app = typer.Typer(
    name="simpipe",
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help costs a third of the time
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"simpipe {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    pass


app.command(rich_help_panel="The whole pipeline")(run)
app.command(rich_help_panel="A finished run")(status)
app.command(rich_help_panel="A finished run")(query)
app.command(rich_help_panel="A finished run")(verify)
app.command(rich_help_panel="This machine")(gc)
app.command(rich_help_panel="Configuration")(init)
app.add_typer(config_app, name="config", rich_help_panel="Configuration")
app.command(rich_help_panel="This machine")(doctor)
add_stage_commands(app)

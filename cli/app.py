"""The commands and their options. Each imports what it needs when it runs, so that help, completion
and mistakes answer at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from upscale.cli.keys import keys
from upscale.cli.requests import requests

FORMATS = "png, jpeg, webp, tiff, avif or gif"
EPILOG = "Exit codes: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted."

app = typer.Typer(
    name="upscale",
    help="Upscale images on this machine: files, folders, or as a server.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights = typer.Typer(help="Networks: what is installed, what can be had.", no_args_is_help=True)
app.add_typer(weights, name="weights")
app.add_typer(keys, name="keys")
app.command()(requests)


class Precision(StrEnum):
    """Number formats that a network can run in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _version(wanted: bool) -> None:
    if wanted:
        from upscale import __version__

        typer.echo(f"upscale {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog=EPILOG)
def image(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN", help="Files, folders (read recursively) or patterns."),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o", "--out", metavar="OUT", help="A folder; for one input also a file, by its ending."
        ),
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", help="See `upscale models`.")
    ] = "bundled-x4",
    scale: Annotated[
        str | None,
        typer.Option("-s", "--scale", help="1 to 16, fractions too. Default: the model's own."),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help=f"{FORMATS}. Default: by OUT's ending, else png.")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of jpeg, webp and avif.")
    ] = None,
    background: Annotated[
        str, typer.Option(metavar="COLOUR", help="Put under transparency in a jpeg.")
    ] = "white",
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Leave out EXIF, GPS, XMP, texts and dpi.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="For networks that draw random numbers.")] = 0,
    denoise: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Strength, for networks that come as a pair of files."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="auto takes the fastest that is proven safe.")
    ] = Precision.auto,
    tile: Annotated[
        int, typer.Option(min=0, max=8192, help="Tile side in input pixels; 0: chosen.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that stand where results go.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Do what the folder's record calls done anew.")
    ] = False,
    receipt: Annotated[
        bool, typer.Option("--receipt", help="Write what was done as JSON beside each result.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, do nothing.")] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="UPSCALE_SERVER", help="Have a running server do it."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="UPSCALE_API_KEY", help="Its key; others here can see it."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="A file with the key in it.")
    ] = None,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, max=64, help="Pictures at a server at once.")
    ] = 4,
) -> None:
    """Upscale pictures: PNG, JPEG, WebP, TIFF, GIF, BMP and AVIF; files, folders or patterns.

    Results are called NAME-4x.png and keep the tree of folders. A folder of results has a record:
    the same command goes on where it was stopped, and does what is new or changed. Put names that
    begin with a dash after a lone `--`.
    """
    from upscale.cli.image import upscale_files
    from upscale.cli.options import Options
    from upscale.cli.setup import load_settings

    options = Options(
        model=model,
        scale=scale,
        format=format,
        quality=quality,
        background=background,
        strip_metadata=strip_metadata,
        seed=seed,
        denoise=denoise,
        precision=precision.value,
        tile=tile,
        overwrite=overwrite,
        again=again,
        receipt=receipt,
        dry_run=dry_run,
    )
    at = None
    if server:
        from upscale.cli.servers import server_options

        at = server_options(server, key, key_file, in_flight)
    raise typer.Exit(upscale_files(inputs, out, options, load_settings(), at))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to; UPSCALE_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes a free one; UPSCALE_PORT.")
    ] = None,
) -> None:
    """Start the server: the hosted gateway's API on this machine."""
    from upscale.cli.serving import start
    from upscale.cli.setup import load_settings

    overrides: dict[str, Any] = {"host": host, "port": port}
    start(load_settings(**{k: v for k, v in overrides.items() if v is not None}))


@app.command()
def models(json: Json = False) -> None:
    """List the models of the catalogue, what serves them here, and the installed networks."""
    from upscale.cli.listing import print_models
    from upscale.cli.setup import load_settings

    print_models(load_settings(), as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Show the hardware, each network's precision and why, the settings in effect."""
    from upscale.cli.doctor import examine
    from upscale.cli.setup import load_settings

    raise typer.Exit(examine(load_settings(), as_json=json))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def bench(context: typer.Context) -> None:
    """Time this machine (in a checkout of the repository): `upscale bench --help` has more."""
    from upscale.cli.bench import run_benchmarks

    raise typer.Exit(run_benchmarks(context.args))


@weights.command("list")
def weights_list(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Words to look for.")
    ] = None,
    use: Annotated[
        str | None, typer.Option(help="photographs, drawings, text, faces, fast, restoration, ...")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="A licence, or a part of its name.")
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", min=1, help="1, 2, 4, ...")] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Only what this machine has.")
    ] = False,
    available: Annotated[
        bool, typer.Option("--available", help="Only what could be installed.")
    ] = False,
    json: Json = False,
) -> None:
    """List networks: installed, bundled, and known ones that can be pulled."""
    from upscale.cli.listing import Filters, print_weights
    from upscale.cli.setup import load_settings

    state = "installed" if installed else "available" if available else None
    filters = Filters(tuple(words or ()), use, licence, scale, state)
    print_weights(load_settings(), filters, as_json=json)


@weights.command("info")
def weights_info(name: str, json: Json = False) -> None:
    """Tell all that is known of a network, installed or not."""
    from upscale.cli.listing import print_info
    from upscale.cli.setup import load_settings

    print_info(load_settings(), name, as_json=json)


@weights.command("pull")
def weights_pull(
    names: Annotated[
        list[str], typer.Argument(metavar="ID...", help="See `upscale weights list`.")
    ],
    accept_license: Annotated[
        bool,
        typer.Option(
            "--accept-license",
            "--accept-licence",
            help="Take files whose licence forbids commercial use, or is not stated, too.",
        ),
    ] = False,
    new_hash: Annotated[
        bool,
        typer.Option("--new-hash", help="Forget the hash that an earlier pull of it recorded."),
    ] = False,
) -> None:
    """Pull known networks from where they are published, or from UPSCALE_WEIGHTS_MIRROR."""
    from upscale.cli.setup import load_settings
    from upscale.cli.weights_pull import pull_files

    raise typer.Exit(pull_files(load_settings(), names, consent=accept_license, new_hash=new_hash))


@weights.command("import")
def weights_import(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Checkpoints (.safetensors, .pth, .ckpt), or what `weights export` made.",
        ),
    ],
    serves: Annotated[
        str | None, typer.Option("--as", metavar="MODEL", help="A catalogue model it serves.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it; default: the file's.")] = None,
    no_sanity: Annotated[
        bool, typer.Option("--no-sanity", help="Install it even if it turns grey into colour.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take an installed one's place.")
    ] = False,
) -> None:
    """Check files of weights and install them as networks."""
    from upscale.cli.setup import load_settings
    from upscale.cli.weights import import_files

    raise typer.Exit(
        import_files(
            load_settings(), files, serves=serves, name=name, sanity=not no_sanity, replace=replace
        )
    )


@weights.command("export")
def weights_export(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A folder, or a .tar.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Default: all installed ones.")
    ] = None,
) -> None:
    """Copy installed files with their records and licences, for machines without internet."""
    from upscale.cli.setup import load_settings
    from upscale.cli.weights import export_files

    export_files(load_settings(), [name for name in names or () if name != "all"], out)


@weights.command("verify")
def weights_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Default: all installed ones.")
    ] = None,
    json: Json = False,
) -> None:
    """Hash installed files anew; exits with 1 if one is not what was installed."""
    from upscale.cli.setup import load_settings
    from upscale.cli.weights import verify_files

    raise typer.Exit(verify_files(load_settings(), names or [], as_json=json))


@weights.command("remove")
def weights_remove(names: Annotated[list[str], typer.Argument(metavar="ID...")]) -> None:
    """Remove installed networks and their files."""
    from upscale.cli.setup import load_settings
    from upscale.cli.weights import remove_files

    remove_files(load_settings(), names)

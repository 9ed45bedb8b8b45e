"""Flags, YAML files and presets, turned into a `Config`; needs no TensorFlow."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence

import jsonargparse
import yaml

from rdi_keras.errors import InputError
from rdi_keras.presets import (
    Config,
    describe_presets,
    preset,
)

SHOW = ("-h", "--help", "--print_config")


def config_parser(description: str) -> jsonargparse.ArgumentParser:
    """A parser with `--config FILE.yaml`, `--list-presets` and a flag for every field."""
    parser = jsonargparse.ArgumentParser(description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with fields to set")
    parser.add_argument(
        "--list-presets", action="store_true", help="show the presets and what to expect of them"
    )
    parser.add_class_arguments(Config, nested_key=None)
    return parser


def parse_config(
    description: str,
    argv: Sequence[str] | None,
    switches: dict[str, str] | None = None,
    options: dict[str, tuple[str, str]] | None = None,
) -> tuple[Config, dict[str, bool | str]] | None:
    """Reads the command line; `None` if it only asked for the list of presets, now printed.

    A flag beats the YAML file, which beats the preset.

    Args:
        description: of the command.
        argv: the command line; default: the process's.
        switches: flags that are no fields, without a value, and their help.
        options: flags that are no fields, with a text for a value: default and help.

    Returns:
        The configuration, and what was given of switches and options.

    Raises:
        InputError: an unknown preset, flag or field, or a value of the wrong type.
    """
    argv = _files_first(sys.argv[1:] if argv is None else argv)
    parser = config_parser(description)
    for name, help_text in (switches or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=help_text)
    for name, (default, help_text) in (options or {}).items():
        parser.add_argument(f"--{name}", type=str, default=default, help=help_text)
    # Twice: the first time for the preset alone, which a flag or the YAML file may name.
    chosen = parse(parser, [each for each in argv if each.partition("=")[0] not in SHOW]).preset
    parser.set_defaults(_flat(dataclasses.asdict(preset(chosen))))
    parsed = parse(parser, argv)
    if parsed.pop("list_presets"):
        print(describe_presets())
        return None
    parsed.pop("config")
    given = {name: parsed.pop(name) for name in (*(switches or {}), *(options or {}))}
    return Config(**vars(parser.instantiate_classes(parsed))), given


def _files_first(argv: Sequence[str]) -> list[str]:
    """`--config` before all flags: the parser lets the later of the two win."""
    is_flag = [
        "--config" not in (before, each.partition("=")[0])
        for before, each in zip(["", *argv], argv, strict=False)
    ]
    return [each for _, each in sorted(zip(is_flag, argv, strict=True), key=lambda pair: pair[0])]


def parse(parser: jsonargparse.ArgumentParser, argv: Sequence[str] | None) -> jsonargparse.Namespace:
    """Parses; what is wrong becomes one line.

    Raises:
        InputError: with what the parser says.
    """
    try:
        return parser.parse_args(argv)
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise InputError(" ".join(str(error).split())) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML that `--config` takes."""
    return yaml.dump(dataclasses.asdict(config), Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes texts such as 1e-3 too, which `--config` would read as numbers."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_config(text: str) -> Config:
    """The configuration that `dump_config` wrote.

    Raises:
        InputError: if the text is something else.
    """
    parser = config_parser("")
    try:
        parsed = parser.parse_string(text)
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise InputError(f"Not a run's configuration: {' '.join(str(error).split())}") from None
    parsed.pop("list_presets", None)
    parsed.pop("config", None)
    return Config(**vars(parser.instantiate_classes(parsed)))


def _flat(fields: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def command(main: Callable[[Sequence[str] | None], None]) -> Callable:
    """Turns a command's function into one that returns an exit status.

    Wrong input becomes one line on standard error and status 2, training that diverged or lost a process
    status 1. A stop that was asked for is a word and status 0.
    """
    import functools
    import os

    from rdi_keras.errors import StoppedError, TrainingDivergedError, WorkerLostError

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            main(argv)
        except (InputError, TrainingDivergedError, WorkerLostError) as error:
            print("error:", " ".join(str(error).split()), file=sys.stderr)
            return 2 if isinstance(error, InputError) else 1
        except StoppedError as stopped:
            print(f"{stopped}. The same command goes on from there (fit.py: with --resume)")
        return 0

    return run

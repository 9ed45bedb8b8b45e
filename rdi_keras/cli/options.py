"""Flags, YAML files and presets, turned into a `Config`; needs no TensorFlow."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import jsonargparse

from rdi_keras.errors import InputError
from rdi_keras.presets import (
    DEFAULT_PRESET,
    Config,
    describe_presets,
    preset,
)


def config_parser(description: str) -> jsonargparse.ArgumentParser:
    """A parser with `--config FILE.yaml`, `--list-presets` and a flag for every field."""
    parser = jsonargparse.ArgumentParser(description=description, exit_on_error=False, default_env=False)
    parser.add_argument("--config", action="config", help="YAML file with fields to set")
    parser.add_argument(
        "--list-presets", action="store_true", help="show the presets and what to expect of them"
    )
    parser.add_class_arguments(Config, nested_key=None)
    return parser


def parse_config(description: str, argv: Sequence[str] | None) -> Config | None:
    """Reads the command line; `None` if it only asked for the list of presets, now printed.

    A flag beats the YAML file, which beats the preset.

    Raises:
        InputError: an unknown preset, flag or field, or a value of the wrong type.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=DEFAULT_PRESET)
    chosen = first.parse_known_args(argv)[0].preset
    parser = config_parser(description)
    parser.set_defaults(_flat(dataclasses.asdict(preset(chosen))))
    parsed = parse(parser, argv)
    if parsed.pop("list_presets"):
        print(describe_presets())
        return None
    parsed.pop("config")
    return Config(**vars(parser.instantiate_classes(parsed)))


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
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def load_config(text: str) -> Config:
    """The configuration that `dump_config` wrote."""
    parser = config_parser("")
    parsed = parser.parse_string(text)
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

    Wrong input becomes one line on standard error and status 2; training that diverged status 1.
    """
    import functools
    import os
    import sys

    from rdi_keras.errors import TrainingDivergedError

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            main(argv)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except TrainingDivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    return run

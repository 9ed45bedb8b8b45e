"""Flags, YAML files and presets, turned into a `Config`; needs no TensorFlow."""

import argparse
import dataclasses
import errno
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from rdi_keras.errors import InputError
from rdi_keras.presets import (
    Config,
    describe_presets,
    preset,
)

SHOW = ("-h", "--help", "--print_config")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a configuration may be, as it may come from anybody.
MAX_LENGTH, MAX_DEPTH = 50_000, 10
SECTIONS = {"data", "model", "training", "attack", "calibration", "evaluation"}
# Fields with which a configuration would have the parser import a class, read a file or do something else.
FORBIDDEN = {"class_path", "init_args", "config", "list_presets"}
PLAIN_YAML = "plain_yaml"


def config_parser(description: str) -> jsonargparse.ArgumentParser:
    """A parser with `--config FILE.yaml`, `--list-presets` and a flag for every field."""
    jsonargparse.set_loader(PLAIN_YAML, _load_plain, exceptions=(yaml.YAMLError,))
    parser = jsonargparse.ArgumentParser(
        description=description, exit_on_error=False, allow_abbrev=False, parser_mode=PLAIN_YAML
    )
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
) -> tuple[Config, dict[str, Any]] | None:
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
    return _config(parser, parsed), given


def _load_plain(text: str) -> Any:
    """What YAML says in fields, lists and values alone.

    Raises:
        yaml.YAMLError: if it is too long or too deep, shares parts (which may multiply without end), or
            would have the parser import a class or read another file.
    """
    if len(text) > MAX_LENGTH:
        raise yaml.YAMLError(f"it is longer than {MAX_LENGTH:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) or depth > MAX_DEPTH:
            raise yaml.YAMLError(
                f"it has tags or anchors, or more than {MAX_DEPTH} levels. Write every field out"
            )
    try:
        content = jsonargparse.get_loader("yaml")(text)
    except ValueError as error:  # A number that is too long.
        raise yaml.YAMLError(str(error)) from None
    _check_fields(content)
    return content


def _check_fields(content: Any) -> None:
    for name, value in content.items() if isinstance(content, dict) else ():
        parts = str(name).split(".")  # The parser takes `training.epochs` for a field of a section.
        if FORBIDDEN & set(parts) or (parts[-1] in SECTIONS and isinstance(value, str)):
            raise yaml.YAMLError(f"the field {name!r} names a class or a file. Write its own fields out")
        _check_fields(value)


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
    except (argparse.ArgumentError, jsonargparse.ArgumentError, UnicodeDecodeError) as error:
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
    return _config(parser, parsed)


def _config(parser: jsonargparse.ArgumentParser, parsed: jsonargparse.Namespace) -> Config:
    try:
        return Config(**vars(parser.instantiate_classes(parsed)))
    except TypeError:  # The parser lets `data: null` through.
        sections = ", ".join(sorted(SECTIONS))
        raise InputError(
            f"A section of a configuration ({sections}) must hold fields. Fill it, or leave it out"
        ) from None


def read_config(path: Path) -> Config:
    """The configuration in a run's file.

    Raises:
        InputError: if the file cannot be read, or is something else.
    """
    try:
        return load_config(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {str(path)!r}: {error}. Train the run again") from None


def _flat(fields: dict, prefix: str = "") -> dict:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def command(main: Callable[[Sequence[str] | None], None]) -> Callable:
    """Turns a command's function into one that returns an exit status.

    Wrong input, or a full disk, becomes one line on standard error and status 2, training that diverged or
    lost a process status 1. A stop that was asked for is a word and status 0,
    or 1 where work is lost by it.
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
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            name = repr(error.filename) if error.filename else "a file"
            print(
                f"error: Cannot write {name}: {error.strerror}. Make room, then repeat the command (fit.py: "
                "with --resume)",
                file=sys.stderr,
            )
            return 2
        except StoppedError as stopped:
            print(f"{stopped}. The same command goes on from there (fit.py: with --resume)")
            return 0 if stopped.is_saved else 1
        return 0

    return run

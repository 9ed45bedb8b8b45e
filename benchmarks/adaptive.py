"""What leaving early saves in time, against the fastest plain runtime on the machine, in one process.

    python benchmarks/adaptive.py runs/fast --threads 2

RUN is a deployed run (training/deploy.py). Images are its calibration part, so samples leave as the model
makes them leave. Plain is the same backbone with its last exit only, BatchNorms folded, in ONNX Runtime,
OpenVINO (where installed) and TensorFlow; all calls take turns, and medians are kept. Memory is measured in
processes of their own.
"""

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

NUM_IMAGES = 2048
MODES = ("adaptive", "plain")


def main() -> None:
    """Prints the table for every batch size, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each way and batch size")
    parser.add_argument("--data_dir")
    parser.add_argument("--peak", choices=MODES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(arguments.threads)
    if arguments.peak:
        peak(arguments)
    else:
        compare(arguments)


def load(arguments) -> tuple:
    """The run's model, and images to ask it."""
    from rdi_keras.cli.options import load_config
    from rdi_keras.runs import CONFIG_FILE, RunFolder
    from rdi_keras.training import load_data

    run = RunFolder.open(arguments.run)
    config = load_config((run.path / CONFIG_FILE).read_text())
    config.data.data_dir = arguments.data_dir or config.data.data_dir
    images = load_data(config).calibration.images
    return run.load_model(), np.resize(images, (NUM_IMAGES, *images.shape[1:]))  # Repeats them if too few.


def openvino_of(graph: bytes, threads: int, size: int | None):
    """An ONNX graph in OpenVINO, at a fixed batch size if one is given; `None` where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1})
    model = core.read_model(graph)
    if size is not None:
        model.reshape({each: [size, *list(each.partial_shape)[1:]] for each in model.inputs})
    compiled = core.compile_model(model, "CPU")
    request, taken = compiled.create_infer_request(), len(compiled.inputs)  # Unused inputs are dropped.
    return lambda images, thresholds: request.infer([images, thresholds][:taken], share_inputs=True)


def compare(arguments) -> None:
    """Times all ways, batch size by batch size."""
    import onnxruntime

    from rdi_keras.inference import fold_batch_norm
    from rdi_keras.serving.engines import ONNXRUNTIME, TENSORFLOW
    from rdi_keras.serving.latency import measure_latency, median_ms, open_engine
    from rdi_keras.serving.onnx_graph import adaptive_onnx

    model, images = load(arguments)
    last_only = model.keep_exits([model.num_exits])
    graphs = {
        name: adaptive_onnx(fold_batch_norm(each)).SerializeToString()
        for name, each in (("adaptive", model), ("plain", last_only))
    }
    engines = {
        "ONNX Runtime, adaptive": open_engine(model, ONNXRUNTIME, arguments.threads),
        "ONNX Runtime, plain": open_engine(last_only, ONNXRUNTIME, arguments.threads),
        "TensorFlow, adaptive": open_engine(model, TENSORFLOW),
        "TensorFlow, plain": open_engine(last_only, TENSORFLOW),
    }
    limits = model.thresholds.numpy()
    exits = engines["ONNX Runtime, adaptive"].adaptive(images, np.tile(limits, (NUM_IMAGES, 1)))["exit"]
    shares = np.bincount(exits, minlength=model.num_exits + 1)[1:] / len(exits)
    print(
        f"{arguments.run}: {model.num_exits} exits, left at by {np.round(shares, 3).tolist()} of "
        f"{NUM_IMAGES:,} images"
    )
    print(f"onnxruntime {onnxruntime.__version__}, {arguments.threads} threads, without spinning\n")
    print("| batch | way | ms | against the fastest plain |\n|---|---|---|---|")
    for size in (1, 32, 256):
        # At batch 1 a sample leaves where it leaves: the mean over many is what counts.
        batches = [images[start : start + size] for start in range(0, min(64 * size, NUM_IMAGES), size)]

        def ask(run, width: int, batches=batches, size=size):
            thresholds = np.tile(limits[:width], (size, 1))
            return lambda: [run(batch, thresholds) for batch in batches]

        ways = {name: ask(engine.adaptive, engine.num_exits - 1) for name, engine in engines.items()}
        for name, graph in graphs.items():
            # A batch that shrinks on its way has no fixed size.
            if foreign := openvino_of(graph, arguments.threads, size if name == "plain" else None):
                ways[f"OpenVINO, {name}"] = ask(foreign, model.num_exits - 1 if name == "adaptive" else 0)
        taken = median_ms(list(ways.values()), arguments.seconds * max(1, len(batches) * size / 1024))
        taken = {name: ms / len(batches) for name, ms in zip(ways, taken, strict=True)}
        fastest = min(ms for name, ms in taken.items() if name.endswith("plain"))
        for name, ms in sorted(taken.items(), key=lambda pair: pair[1]):
            print(f"| {size} | {name} | {ms:.2f} | {ms / fastest:.2f} |")
        ratio = taken["TensorFlow, adaptive"] / taken["TensorFlow, plain"]
        print(f"| {size} | TensorFlow, adaptive against its own plain | | {ratio:.2f} |", flush=True)
        if size == 256:
            whole = taken["ONNX Runtime, adaptive"]
    table = measure_latency(model, images, ONNXRUNTIME, arguments.threads, (32, 64, 128, 192, 256), 1.0)
    counts = [
        np.bincount(exits[at : at + 256], minlength=model.num_exits + 1)[1:]
        for at in range(0, NUM_IMAGES, 256)
    ]
    stages = float(np.mean([table.of_batch(each) for each in counts]))
    print(f"\nBatch 256 against the sum of its measured stages ({stages:.1f} ms): {whole / stages:.2f}")
    peaks = {mode: ask_peak(arguments, mode) for mode in MODES}
    print(
        f"Memory added by 20 batches of 256, ONNX Runtime: adaptive {peaks['adaptive']:.0f} MB, plain "
        f"{peaks['plain']:.0f} MB"
    )


def ask_peak(arguments, mode: str) -> float:
    """What 20 batches add to the memory of a fresh process, MB."""
    command = [sys.executable, __file__, arguments.run, "--threads", str(arguments.threads), "--peak", mode]
    if arguments.data_dir:
        command += ["--data_dir", arguments.data_dir]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak(arguments) -> None:
    """Prints by how much memory grew while an engine was asked; its arena gives nothing back."""
    from rdi_keras.serving.engines import ONNXRUNTIME
    from rdi_keras.serving.latency import open_engine

    model, images = load(arguments)
    if arguments.peak == "plain":
        model = model.keep_exits([model.num_exits])
    limits = np.tile(model.thresholds.numpy(), (256, 1))
    images = images[:256].copy()
    engine = open_engine(model, ONNXRUNTIME, arguments.threads)
    before = resident()
    highest = before
    for _ in range(20):
        engine.adaptive(images, limits)
        highest = max(highest, resident())
        time.sleep(0.01)
    print(highest - before)


def resident() -> float:
    """Resident memory in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()

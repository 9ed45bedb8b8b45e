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
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

NUM_IMAGES = 2048
SINGLES = 512  # Of them, those that are asked one by one.
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
    import tensorflow as tf

    from rdi_keras.inference import fold_batch_norm
    from rdi_keras.serving.engines import ONNXRUNTIME, TENSORFLOW
    from rdi_keras.serving.latency import median_ms, open_engine
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
    }
    folded = fold_batch_norm(last_only)
    tensorflow_plain = tf.function(lambda images: tf.nn.softmax(folded.logits(images)[-1]), autograph=False)
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
        # A sample leaves where it leaves: the mean over many is what counts.
        batches = [
            images[start : start + size] for start in range(0, SINGLES if size == 1 else NUM_IMAGES, size)
        ]

        def ask(run, width: int, batches=batches, size=size):
            thresholds = np.tile(limits[:width], (size, 1))
            return lambda: [run(batch, thresholds) for batch in batches]

        ways = {name: ask(engine.adaptive, engine.num_exits - 1) for name, engine in engines.items()}
        ways["TensorFlow, plain"] = lambda batches=batches: [
            tensorflow_plain(each).numpy() for each in batches
        ]
        for name, graph in graphs.items():
            # A batch that shrinks on its way has no fixed size.
            if foreign := openvino_of(graph, arguments.threads, size if name == "plain" else None):
                ways[f"OpenVINO, {name}"] = ask(foreign, model.num_exits - 1 if name == "adaptive" else 0)
        taken = median_ms(list(ways.values()), arguments.seconds)
        taken = {name: ms / len(batches) for name, ms in zip(ways, taken, strict=True)}
        fastest = min(ms for name, ms in taken.items() if name.endswith("plain"))
        for name, ms in sorted(taken.items(), key=lambda pair: pair[1]):
            print(f"| {size} | {name} | {ms:.2f} | {ms / fastest:.2f} |")
        ratio = taken["TensorFlow, adaptive"] / taken["TensorFlow, plain"]
        print(f"| {size} | TensorFlow, adaptive against its own plain | | {ratio:.2f} |", flush=True)
    whole, stages = against_stages(model, engines["ONNX Runtime, adaptive"], images, exits, arguments)
    print(
        f"\nOne batch of 256: {whole:.1f} ms; its stages, each alone: {stages:.1f} ms; ratio "
        f"{whole / stages:.2f}"
    )
    peaks = {mode: ask_peak(arguments, mode) for mode in MODES}
    print(
        f"Memory added by 20 batches of 256, ONNX Runtime: adaptive {peaks['adaptive']:.0f} MB, plain "
        f"{peaks['plain']:.0f} MB"
    )


def against_stages(model, engine, images, exits, arguments) -> tuple[float, float]:
    """Milliseconds of one batch, and of its stages: each alone, on as many samples as reach it."""
    from rdi_keras.models import MultiExitModel
    from rdi_keras.serving.engines import ONNXRUNTIME
    from rdi_keras.serving.latency import leaving_at, median_ms, open_engine

    batch, limits = images[:256], np.tile(model.thresholds.numpy(), (256, 1))
    ways = [lambda: engine.adaptive(batch, limits)]
    for number, (segment, head) in enumerate(zip(model.segments, model.heads, strict=True), start=1):
        reaching = int(np.sum(exits[:256] >= number))
        if reaching:
            stage = open_engine(MultiExitModel([segment], [head]), ONNXRUNTIME, arguments.threads)
            features = np.random.default_rng(0).random((reaching, *segment.input_shape[1:]), dtype=np.float32)
            ways.append(partial(stage.adaptive, features, leaving_at(1, 1, reaching)))
    whole, *stages = median_ms(ways, arguments.seconds)
    return whole, sum(stages)


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

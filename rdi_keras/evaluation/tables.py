"""A report as tables: for the terminal (rich) and as Markdown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rdi_keras.inference import LatencyTable
from rdi_keras.names import exit_names

if TYPE_CHECKING:
    from rich.table import Table

MARKDOWN_FILE = "report.md"
"""Where the same report lies to be read."""
# Left out where a terminal's width is short of room.
WIDE = {"MACs", "alone %"}
HEADER = ["condition", "on", "acc. %", "95 %", "twin %", "MACs", "saved %", "exits %", "alone %"]

LEGEND = (
    "Accuracy under an attack is the ATA, with its 95 % Wilson interval. On: how many samples the attack was "
    "run on; where fewer than all, they are those that were right under everything above, and the others "
    "count as they were broken. MACs: mean per sample. Exits: the share of samples that leaves at each. "
    "Alone: accuracy on the same images if every sample left at that exit, which the attacks did not aim "
    "at. Attacks stop at a wrong adaptive answer, where published ones go on. The twin is the same backbone "
    "with its last exit only, trained and attacked alike. Worst case: a sample counts as right only if it is "
    "right clean and under every attack; its cost is the largest that any attack caused."
)


def _label(condition: str) -> str:
    return {"clean": "clean (TA)", "worst_case": "worst case"}.get(condition, condition)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def report_rows(report: dict) -> list[list[str]]:
    """One row of text per condition, under `HEADER`; see `LEGEND`."""
    twin = (report["baseline"] or {}).get("conditions", {})
    return [
        [
            _label(name),
            f"{condition.get('attacked', report['n']):,}",
            f"{100 * condition['accuracy']:.1f}",
            "–".join(f"{100 * each:.1f}" for each in condition["interval"]),
            f"{100 * twin[name]['accuracy']:.1f}" if name in twin else "–",
            f"{condition['mean_macs']:,.0f}",
            f"{100 * condition['saving']:.1f}",
            "/".join(f"{100 * share:.0f}" for share in condition["exit_shares"]),
            "/".join(f"{100 * each:.0f}" for each in condition.get("accuracy_per_exit", [])),
        ]
        for name, condition in report["conditions"].items()
    ]


def title(report: dict) -> str:
    """What was measured, in a line."""
    return (
        f"{report['dataset']} {report['split']}, n = {report['n']}, L∞ ε = {report['epsilon_text']}, "
        f"suite {report['suite']}"
    )


def three_wins(report: dict) -> list[str]:
    """Accuracy, robustness and compute beside the twin's, one line each; none without a twin."""
    if report["baseline"] is None:
        return []
    ours, twin = report["conditions"], report["baseline"]["conditions"]
    lines = [
        f"{name}: {_percent(ours[key]['accuracy'])}, the one-exit twin {_percent(twin[key]['accuracy'])}"
        for name, key in (("Accuracy (TA)", "clean"), ("Robustness (worst case)", "worst_case"))
    ]
    return [
        *lines,
        f"Compute (clean): {ours['clean']['mean_macs']:,.0f} MACs per sample, the twin "
        f"{twin['clean']['mean_macs']:,.0f}: {_percent(ours['clean']['saving'])} saved",
    ]


def remarks(report: dict) -> list[str]:
    """What the table does not show: doubts, slowdown, other libraries' attacks, passes; one line each."""
    doubts = [f"NOT TO BE BELIEVED ({each['name']}): {each['message']}" for each in report["flags"]]
    skipped = report.get("checks_left_out", [])
    left_out = f"; not looked for: {', '.join(skipped)}" if skipped else ""
    return [
        *doubts,
        *(
            []
            if doubts
            else ["No sign of masked gradients or of attacks that are too weak was found" + left_out]
        ),
        *slowdown_lines(report),
        *second_opinion_lines(report),
        *latency_lines(report),
        passes_line(report),
    ]


def latency_lines(report: dict) -> list[str]:
    """Measured time per sample, where the report holds it."""
    latency = report.get("latency")
    if latency is None:
        return []
    table = LatencyTable(**latency)
    size = table.batch_sizes[0]
    plain = table.plain_per_sample(size)
    named = {"clean": "clean", "worst_case": "in the worst case"}
    times = [
        f"{report['conditions'][name]['mean_ms']:.3g} {text} "
        f"({report['conditions'][name]['mean_ms'] / plain:.2f} ×)"
        for name, text in named.items()
    ]
    return [
        f"Milliseconds per sample, {table.engine}, {table.num_threads} thread(s), batch size "
        f"{size}, on the machine that wrote this: {', '.join(times)}; the backbone without side exits "
        f"{plain:.3g}"
    ]


def passes_line(report: dict) -> str:
    """How many passes through model and twin the attacks took."""
    networks = {"the model": report} | ({"the twin": report["baseline"]} if report["baseline"] else {})
    counts = []
    for network, part in networks.items():
        forward, backward = (
            sum(each.get(f"{kind}_passes", 0) for each in part["conditions"].values())
            for kind in ("forward", "backward")
        )
        counts.append(f"{forward:,} forward and {backward:,} backward through {network}")
    return f"Passes, summed over samples and attacks: {', '.join(counts)}"


def slowdown_lines(report: dict) -> list[str]:
    """What the slowdown attacks of the suite did to how early samples leave."""
    clean = report["conditions"]["clean"]
    return [
        f"Efficacy (1: all leave at the first exit, 0: all at the last) {clean['efficacy']:.2f} clean, "
        f"{each['efficacy']:.2f} under `{name}`"
        for name, each in report["conditions"].items()
        if name.startswith("slowdown") and len(report["macs_per_exit"]) > 1
    ]


def second_opinion_lines(report: dict) -> list[str]:
    """What other libraries' attacks found, one line each; those with another threat model say so."""
    lines = []
    for name, each in (report["second_opinions"] or {}).items():
        line = (
            f"Second opinion `{name}` ({each['library']} {each['version']}, {each['threat_model']}): "
            f"{_percent(each['accuracy'])} of {each['num_samples']} samples right, clean "
            f"{_percent(each['clean_accuracy'])}, under the suite {_percent(each['suite_accuracy'])}"
        )
        if "accuracy_in_budget" in each:
            accuracy = _percent(each["accuracy_in_budget"])
            line += f"; no part of the worst case: {accuracy} within L2 {each['l2_budget']}"
        lines.append(line)
    return lines


def rich_table(report: dict) -> "Table":
    """The report as a `rich.table.Table`."""
    from rich import box
    from rich.table import Table

    table = Table(title=title(report), caption="\n".join([*three_wins(report), "", LEGEND]), box=box.SIMPLE)
    narrow = [position for position, column in enumerate(HEADER) if column not in WIDE]
    for position in narrow:
        table.add_column(HEADER[position], justify="right" if position else "left", no_wrap=True)
    for row, condition in zip(report_rows(report), report["conditions"], strict=True):
        table.add_row(*(row[position] for position in narrow), end_section=condition == "clean")
    return table


def _paper_savings(report: dict) -> list[str]:
    """The savings as the paper counts, where the report holds them."""
    savings = [
        f"{_label(name)} {_percent(condition['saving_own_branch_only'])}"
        for name, condition in report["conditions"].items()
        if "saving_own_branch_only" in condition
    ]
    if not savings:
        return []
    return [
        "* Saved, if only the trunk and the head that answers were charged, as the paper counts: "
        f"{', '.join(savings)}."
    ]


def _method(calibration: dict) -> str:
    return f" ({calibration['method']})" if "method" in calibration else ""


def markdown(report: dict, figures: Sequence[str] = ()) -> str:
    """The report as a Markdown page; `figures` are file names beside it."""
    calibration = report["calibration"]
    costs = ", ".join(
        f"{name} {macs:,.0f}"
        for name, macs in zip(exit_names(len(report["macs_per_exit"])), report["macs_per_exit"], strict=True)
    )
    lines = [
        f"# {title(report)}",
        "",
        *(f"* {line}" for line in three_wins(report)),
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
        *(f"| {' | '.join(row)} |" for row in report_rows(report)),
        "",
        LEGEND,
        "",
        f"* Cumulative MACs, side heads passed included: {costs}; backbone without side exits "
        f"{report['macs_backbone']:,.0f}. Savings are against the latter.",
        *_paper_savings(report),
        f"* Thresholds (nats): {', '.join(f'{each:.4g}' for each in report['thresholds']) or 'none'}, "
        f"set on {calibration['n']} held-out training samples{_method(calibration)}, where accuracy is "
        f"{_percent(calibration['accuracy'])} and the saving {_percent(calibration['saving'])}.",
        f"* The test part has been looked at {report['test_evaluations']} time(s) in this run folder.",
        *(f"* {line}." for line in remarks(report)),
        f"* Preset `{report.get('preset')}`, seed {report['seed']}, weights `{report['model_digest'][:12]}`.",
        "",
        *(f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in figures),
    ]
    return "\n".join(lines).rstrip() + "\n"

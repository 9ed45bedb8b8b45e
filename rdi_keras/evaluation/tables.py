"""A report as tables: for the terminal (rich) and as Markdown."""

from typing import TYPE_CHECKING

from rdi_keras.names import exit_names

if TYPE_CHECKING:
    from rich.table import Table

MARKDOWN_FILE = "report.md"
HEADER = ["condition", "acc. %", "twin %", "MACs", "saved %", "exits %", "alone %"]

LEGEND = (
    "Accuracy under an attack is the ATA. MACs: mean per sample. Exits: the share of samples that leaves at "
    "each. Alone: accuracy if every sample left at that exit. The twin is the same backbone with its last "
    "exit only, trained and attacked alike. Worst case: a sample counts as right only if it is right clean "
    "and under every attack; its cost is the largest that any attack caused."
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
            f"{100 * condition['accuracy']:.1f}",
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


def rich_table(report: dict) -> "Table":
    """The report as a `rich.table.Table`."""
    from rich import box
    from rich.table import Table

    table = Table(title=title(report), caption="\n".join([*three_wins(report), "", LEGEND]), box=box.SIMPLE)
    for position, column in enumerate(HEADER):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
    for row, condition in zip(report_rows(report), report["conditions"], strict=True):
        table.add_row(*row, end_section=condition == "clean")
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


def markdown(report: dict, figures: list[str] = ()) -> str:
    """The report as a Markdown page; `figures` are file names beside it."""
    passes = report.get("passes_per_sample", {})
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
        f"set on {calibration['n']} held-out training samples, where accuracy is "
        f"{_percent(calibration['accuracy'])} and the saving {_percent(calibration['saving'])}.",
        f"* The test part has been looked at {report['test_evaluations']} time(s) in this run folder.",
        "* Forward / backward passes per sample: "
        + ", ".join(f"{name} {forward:,} / {backward:,}" for name, (forward, backward) in passes.items())
        + ".",
        f"* Preset `{report.get('preset')}`, seed {report['seed']}, weights `{report['model_digest'][:12]}`.",
        "",
        *(f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in figures),
    ]
    return "\n".join(lines).rstrip() + "\n"

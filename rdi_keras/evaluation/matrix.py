"""The paper's table: every defence against every attack."""

from collections.abc import Callable, Mapping

from rdi_keras.errors import InputError


def matrix_table(reports: Mapping[str, dict]) -> str:
    """Markdown tables of accuracy and of compute, defence × condition.

    Args:
        reports: defence → its report.

    Raises:
        InputError: if they are not of the same data, samples, ε and attack list.
    """
    same = ("dataset", "split", "n", "epsilon_text", "suite")
    kinds = {tuple(report[name] for name in same) for report in reports.values()}
    if len(kinds) != 1:
        raise InputError(f"A matrix takes reports of one kind. Received: {sorted(kinds)}")
    conditions = list(next(iter(reports.values()))["conditions"])
    first = next(iter(reports.values()))
    head = ["defence", *(each.replace("_", " ") for each in conditions)]

    times = [
        f"{name} {report['calibration'].get('training_seconds', {}).get('model', 0) / 60:.1f}"
        for name, report in reports.items()
    ]

    def table(cell: Callable[[dict], str]) -> list[str]:
        rows = [
            [name, *(cell(report["conditions"][each]) for each in conditions)]
            for name, report in reports.items()
        ]
        return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]

    return "\n".join(
        [
            f"# Defences against attacks: {first['dataset']}, ε = {first['epsilon_text']}",
            "",
            f"{first['n']} images ({first['split']}), attack list `{first['suite']}`. Of an attack that "
            "only meets what those before it left standing, the figures are cumulative.",
            "",
            "Accuracy, %:",
            "",
            *table(lambda each: f"{100 * each['accuracy']:.1f}"),
            "",
            "Multiply-accumulates saved, % of the backbone's, side heads passed included:",
            "",
            *table(lambda each: f"{100 * each['saving']:.1f}"),
            "",
            f"Minutes of training: {', '.join(times)}.",
            "",
        ]
    )

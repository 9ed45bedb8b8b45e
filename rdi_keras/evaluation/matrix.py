"""The paper's table: every defence against every attack."""

from collections.abc import Mapping


def matrix_table(reports: Mapping[str, dict]) -> str:
    """Markdown tables of accuracy and of compute, defence × condition.

    Args:
        reports: defence → its report; all of the same data, suite and budget.
    """
    conditions = list(next(iter(reports.values()))["conditions"])
    first = next(iter(reports.values()))
    head = ["defence", *(each.replace("_", " ") for each in conditions)]

    def table(cell) -> list[str]:
        rows = [
            [name, *(cell(report["conditions"][each]) for each in conditions)]
            for name, report in reports.items()
        ]
        return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]

    return "\n".join(
        [
            f"# Defences against attacks: {first['dataset']}, ε = {first['epsilon_text']}",
            "",
            f"First {first['n']} images of the {first['split']} part, attack list `{first['suite']}`. Of an "
            "attack that only meets what those before it left standing, the figures are cumulative.",
            "",
            "Accuracy, %:",
            "",
            *table(lambda each: f"{100 * each['accuracy']:.1f}"),
            "",
            "Multiply-accumulates saved, % of the backbone's, side heads passed included:",
            "",
            *table(lambda each: f"{100 * each['saving']:.1f}"),
            "",
        ]
    )

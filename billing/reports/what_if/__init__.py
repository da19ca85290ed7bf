"""What-if: past months under candidate catalogues, compared with what is due for them."""

from billing.reports.what_if.break_even import Grid, grid_of
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.page import notes_of
from billing.reports.what_if.running import CHEAPEST, STAY, Choices, Question, compare_catalogues
from billing.reports.what_if.shadow import Shadow, shadow_of_month
from billing.reports.what_if.varying import compare_along
from billing.reports.what_if.writing import refuse_folder, refuse_name, write_what_if

__all__ = [
    "CHEAPEST",
    "STAY",
    "Choices",
    "Comparison",
    "Grid",
    "Question",
    "Shadow",
    "compare_along",
    "compare_catalogues",
    "grid_of",
    "notes_of",
    "refuse_folder",
    "refuse_name",
    "shadow_of_month",
    "write_what_if",
]

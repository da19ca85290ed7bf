"""PDF renderer: draws issued documents from their stored content and nothing else (rules 19 and 23).

Deterministic: the same content gives the same bytes in any process. Fonts come from `invoice_templates/fonts` only, the
date in the file is the issue date, and nothing is fetched. Importing this package is cheap: WeasyPrint is loaded by the
first page.
"""

from billing.rendering.drawing import draw_page, render_pdf
from billing.rendering.environment import check_rendering_environment, drawing_libraries
from billing.rendering.errors import MachineError, RenderingError
from billing.rendering.files import Job, RenderedFile, Undrawn
from billing.rendering.workers import render_files

__all__ = [
    "Job",
    "MachineError",
    "RenderedFile",
    "RenderingError",
    "Undrawn",
    "check_rendering_environment",
    "draw_page",
    "drawing_libraries",
    "render_files",
    "render_pdf",
]

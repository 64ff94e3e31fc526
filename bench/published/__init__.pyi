from .beside import beside as beside
from .figures import Figure as Figure
from .figures import read_figures as read_figures
from .table import chart_marks as chart_marks
from .table import published_table as published_table
from .verdict import Verdict as Verdict
from .verdict import verdicts as verdicts

from .checks import examine as examine
from .dry_run import describe_dry_run as describe_dry_run

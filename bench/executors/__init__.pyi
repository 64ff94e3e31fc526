from .base import Executor as Executor
from .base import describe_cell as describe_cell
from .base import timeout_message as timeout_message
from .base import workers_died_message as workers_died_message
from .local import InProcess as InProcess
from .local import Pipelined as Pipelined
from .processes import Processes as Processes
from .waiting import waiting_since as waiting_since

from .arithmetic import refuse_unsupported as refuse_unsupported
from .checks import PluginFault as PluginFault
from .contracts import Examination as Examination
from .engine import Engine as Engine
from .engine import LoadError as LoadError
from .loader import Loader as Loader
from .meter import CountedNetwork as CountedNetwork
from .noise import RowRng as RowRng

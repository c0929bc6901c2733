"""Fork the tests' programs from a process that has imported their modules.

    python warm.py serve SOCKET MODULE...     import the modules, then fork
    python -IS warm.py run SOCKET ARGS...     as `python ARGS...`, forked

The first command is the server, the second one a client. A test starts the
client in place of an interpreter. The server forks, and the fork runs the
program without the seconds that the imports take. The fork has the client's
working directory, environment, open descriptors, signals, network and exit
status. When the client dies, the server kills the fork. The server ends when
no test holds a lease on it any more.

A fork takes ``-c``, ``-m`` or a script, and runs the ``sitecustomize`` that
PYTHONPATH leads to. It refuses the options of an interpreter but ``-u``, and
ignores the other PYTHON* variables. A test of those starts an interpreter
(``pytest.mark.starts``).
"""

import contextlib
import fcntl
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import time

LENGTH = struct.Struct('!i')
SIGNALS = 'SIGHUP SIGINT SIGQUIT SIGTERM SIGUSR1 SIGUSR2'
FORWARDED = [signal.Signals[name] for name in SIGNALS.split()]
IDLE = 20  # seconds without a lease or a fork, after which the server ends


def receive(connection, size):
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise EOFError
    return data


def inherited():
    """Yield the descriptors that an interpreter would inherit here."""
    for name in os.listdir('/proc/self/fd'):
        try:
            if os.get_inheritable(int(name)):
                yield int(name)
        except OSError:
            pass  # listdir has closed its own descriptor


def run(path, argv):
    """Let the server fork a program; pass on its signals and its status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    is_leader = os.getsid(0) == os.getpid()
    numbers = list(inherited())
    request = dict(
        argv=argv, cwd=os.getcwd(), env=dict(os.environ), numbers=numbers
    )
    data = json.dumps({**request, 'pid': os.getpid()}).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [LENGTH.pack(len(data))], numbers)
    connection.sendall(data)
    (pid,) = LENGTH.unpack(receive(connection, LENGTH.size))
    # The leader of a session passes a signal on to the fork's whole group.
    send = os.killpg if is_leader else os.kill
    for number in FORWARDED:
        signal.signal(number, lambda number, frame: send(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    (status,) = LENGTH.unpack(receive(connection, LENGTH.size))
    end(status)


def end(status):
    """End this process with a status, or by the signal that it stands for."""
    if status < 0:
        if -status != signal.SIGKILL:  # Python catches others
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


class Server:
    """Fork programs on request until nobody holds a lease any more."""

    def __init__(self, path):
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(path)
        self.listening.listen(64)
        self.clients = {}  # connection: the fork's process, None for a lease
        self.selector = selectors.DefaultSelector()
        self.watch(self.listening, self.accept)

    def watch(self, source, react):
        self.selector.register(source, selectors.EVENT_READ, react)

    def serve(self):
        """Return a request in the fork that it is for, None in the server."""
        end = time.monotonic() + IDLE
        while self.clients or time.monotonic() < end:
            for key, _ in self.selector.select(timeout=1):
                request = key.data(key.fileobj)
                if request:
                    return request
            if self.clients:
                end = time.monotonic() + IDLE
        return None

    def accept(self, listening):
        connection, _ = listening.accept()
        data, descriptors, _, _ = socket.recv_fds(connection, LENGTH.size, 250)
        pid = None
        if descriptors:
            request = receive(connection, LENGTH.unpack(data)[0])
            pid = os.fork()
            if not pid:
                self.selector.close()
                for other in (listening, connection, *self.clients):
                    other.close()
                return dict(json.loads(request), descriptors=descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            connection.sendall(LENGTH.pack(pid))
            end = os.pidfd_open(pid)
            self.watch(end, lambda end: self.reap(end, connection))
        self.clients[connection] = pid
        self.watch(connection, self.hang_up)

    def reap(self, end, connection):
        """Tell the client the status of its fork."""
        self.selector.unregister(end)
        os.close(end)
        _, status = os.waitpid(self.clients.pop(connection), 0)
        try:
            connection.sendall(LENGTH.pack(os.waitstatus_to_exitcode(status)))
        except BrokenPipeError:
            pass  # the client is gone
        if connection in self.selector.get_map():
            self.selector.unregister(connection)
        connection.close()

    def hang_up(self, connection):
        """End the lease of this connection, or kill a dead client's fork."""
        if connection not in self.clients:
            return  # reap has just closed it
        self.selector.unregister(connection)
        if self.clients[connection]:
            os.kill(self.clients[connection], signal.SIGKILL)
        else:
            del self.clients[connection]
            connection.close()


def enter_network(pid):
    """Enter the network of a process, which `ip netns exec` may have made."""
    import ctypes

    there = f'/proc/{pid}/ns/net'
    if os.readlink(there) != os.readlink('/proc/self/ns/net'):
        with open(there) as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
                raise OSError(ctypes.get_errno(), 'setns')


def become(request):
    """Give this fork the descriptors and the surroundings of its client."""
    import random
    import site

    import numpy as np

    os.setsid()
    enter_network(request['pid'])
    # No descriptor may stand on a number that another one is to get.
    above = max(request['numbers']) + 1
    for index, descriptor in enumerate(request['descriptors']):
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above)
        os.close(descriptor)
        request['descriptors'][index] = copy
    for number, descriptor in zip(request['numbers'], request['descriptors']):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # The server's own streams stand for another kind of file.
    for number, name in (1, 'stdout'), (2, 'stderr'):
        old = getattr(sys, name)
        kind = dict(encoding=old.encoding, errors=old.errors, closefd=False)
        lines = name == 'stderr' or os.isatty(number)
        setattr(sys, name, open(number, 'w', 1 if lines else -1, **kind))
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
    random.seed()
    np.random.seed()
    # The first two entries are this file's folder and the server's PYTHONPATH.
    sys.path[:2] = filter(None, os.environ.get('PYTHONPATH', '').split(':'))
    sys.modules.pop('sitecustomize', None)
    site.execsitecustomize()


def execute(argv):
    """Run a script, ``-c CODE`` or ``-m MODULE`` as the interpreter does."""
    import runpy
    import subprocess
    import types

    # multiprocessing repeats the options that started the server.
    repeated = subprocess._args_from_interpreter_flags()
    while argv[0] == '-u' or argv[0] in repeated:
        argv = argv[1:]
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)
    if argv[0] == '-c':
        sys.argv = ['-c', *argv[2:]]
        sys.path.insert(0, '')
        main = types.ModuleType('__main__')
        sys.modules['__main__'] = main
        exec(compile(argv[1], '<string>', 'exec'), main.__dict__)
    elif argv[0] == '-m':
        sys.argv = argv[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(argv[1], run_name='__main__', alter_sys=True)
    elif argv[0].startswith('-'):
        raise SystemExit(f'warm.py: {argv[0]} needs a real interpreter')
    else:
        sys.argv = argv
        sys.path.insert(0, os.path.dirname(os.path.abspath(argv[0])))
        runpy.run_path(argv[0], run_name='__main__')


def finish(run_main):
    """Call ``run_main`` and end the process as the interpreter does."""
    import atexit
    import threading

    status = 0
    try:
        run_main()
    except SystemExit as error:
        status = 0 if error.code is None else error.code
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    end(status)


def remember_formatted():
    """Let mmengine format each config once in a run.

    mmengine formats a config for the log and for each checkpoint, which takes
    longer than all the rest of a small training.
    """
    config = sys.modules.get('mmengine.config.config')
    if config is None:
        return
    format_code = config.FormatCode

    @functools.cache
    def formatted(text, style):
        return format_code(text, **json.loads(style))

    config.FormatCode = lambda text, **style: formatted(
        text, json.dumps(style, sort_keys=True)
    )


def serve(path, modules):
    import gc
    import importlib
    import multiprocessing

    server = Server(path + '.new')
    for name in modules:
        importlib.import_module(name)
    remember_formatted()
    threads = len(os.listdir('/proc/self/task'))
    if threads > 1:
        raise SystemExit(f'{threads} threads, of which a fork would keep one')
    gc.collect()
    gc.freeze()  # The forks share these pages.
    os.rename(path + '.new', path)  # Clients wait for this path.
    request = server.serve()
    if request is None:
        shutil.rmtree(os.path.dirname(path))
        return
    # The programs that this fork starts are forks, too.
    sys.executable = os.path.join(os.path.dirname(path), 'bin', 'python')
    multiprocessing.set_executable(sys.executable)
    become(request)
    finish(lambda: execute(request['argv']))


if __name__ == '__main__':
    command, path, *rest = sys.argv[1:]
    if command == 'run':
        run(path, rest)
    serve(path, rest)

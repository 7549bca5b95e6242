# SPDX-License-Identifier: MIT
"""Every kind of source and sink that a command line can name, with somebody at its far end."""
import atexit
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import tty

# Blocks of a disk, for O_DIRECT; and enough that a stream takes a pipe for the most of it.
BYTES = 200 * 4096
TERMINAL_BYTES = 16 * 4096
SMALL_BYTES = 1000
PIECE = bytes(range(256)) * 256

PLAIN = tempfile.mkdtemp(prefix='fid-why.')
SHARED = tempfile.mkdtemp(prefix='fid-why.', dir='/dev/shm')
atexit.register(shutil.rmtree, PLAIN, ignore_errors=True)
atexit.register(shutil.rmtree, SHARED, ignore_errors=True)
numbers = iter(range(1 << 30))


def content(count):
    return (PIECE * (count // len(PIECE) + 1))[:count]


class End:
    """One end: how it is named, what is handed down, and a thread at its far end."""

    def __init__(self, name='', fds=(), limit=None):
        self.name = name
        self.fds = list(fds)
        self.limit = limit      # how much to take of what has no end
        self.far = None         # gives the far end's descriptor, or a socket
        self.bytes = 0          # what the far end is to give; 0: it takes
        self.listener = None
        self.thread = None
        self.done = threading.Event()

    def start(self):
        if self.far:
            self.thread = threading.Thread(target=self.work, daemon=True)
            self.thread.start()

    def work(self):
        try:
            far = self.far()
        except OSError:
            return
        fd = far if isinstance(far, int) else far.fileno()
        os.set_blocking(fd, False)
        try:
            self.feed(fd) if self.bytes else self.drain(fd)
        except OSError:
            pass
        if isinstance(far, int):
            os.close(far)
        else:
            far.close()

    def feed(self, fd):
        left = self.bytes
        while left and not self.done.is_set():
            if select.select([], [fd], [], 0.01)[1]:
                left -= os.write(fd, PIECE[:left])

    def drain(self, fd):
        while True:
            ready = select.select([fd], [], [], 0.01)[0]
            # A FIFO whose writer is yet to come is ready, and empty.
            if not (ready and os.read(fd, 1 << 20)) and self.done.wait(0.001):
                return

    def accept(self):
        while not self.done.is_set():
            if select.select([self.listener], [], [], 0.01)[0]:
                return self.listener.accept()[0]
        raise OSError

    @staticmethod
    def remove(path):
        if not path.startswith((PLAIN + '/', SHARED + '/')):
            return
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)

    def close(self):
        self.done.set()
        if self.thread:
            self.thread.join()
        elif isinstance(self.far, Far):
            self.far.close()
        self.remove(self.name)
        for fd in self.fds:
            self.remove(os.readlink(f'/proc/self/fd/{fd}'))
            os.close(fd)
        if self.listener:
            self.listener.close()


class Far:
    """A far end that is open already."""

    def __init__(self, end):
        self.end = end

    def __call__(self):
        return self.end

    def close(self):
        os.close(self.end) if isinstance(self.end, int) else self.end.close()


def fresh(folder=PLAIN):
    return os.path.join(folder, f'n{next(numbers)}')


def file_of(count, folder=PLAIN):
    path = fresh(folder)
    with open(path, 'wb') as file:
        file.write(content(count))
    return path


def by_descriptor(fd, **more):
    return End(f'fd:{fd}', [fd], **more)


def with_far(near, far, gives, blocks, limit=None):
    """A descriptor whose other end is ours."""
    os.set_blocking(near, blocks)
    end = by_descriptor(near, limit=limit)
    end.far = Far(far)
    end.bytes = gives
    return end


def pipe(gives, blocks):
    read_end, write_end = os.pipe()
    return with_far(read_end, write_end, gives, blocks) if gives else \
        with_far(write_end, read_end, 0, blocks)


def unix(gives, blocks):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return with_far(near.detach(), far, gives, blocks)


def tcp(gives, blocks):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far = listener.accept()[0]
    return with_far(near.detach(), far, gives, blocks)


def terminal(gives, blocks):
    master, slave = os.openpty()
    tty.setraw(slave)
    return with_far(slave, master, TERMINAL_BYTES if gives else 0, blocks,
                    TERMINAL_BYTES if gives else None)


def fifo(gives, _):
    end = End(fresh())
    os.mkfifo(end.name)
    # Neither waits for the other side: O_RDWR never does, and a reader that does not block.
    end.far = lambda: os.open(end.name,
                              (os.O_RDWR if gives else os.O_RDONLY) | os.O_NONBLOCK)
    end.bytes = gives
    return end


def named_tcp(gives, _):
    end = End()
    end.listener = socket.create_server(('127.0.0.1', 0))
    end.name = f'tcp:127.0.0.1:{end.listener.getsockname()[1]}'
    end.far = end.accept
    end.bytes = gives
    return end


def named_unix(gives, _):
    end = End()
    path = fresh()
    end.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.listener.bind(path)
    end.listener.listen(1)
    end.name = f'unix:{path}'
    end.far = end.accept
    end.bytes = gives
    return end


def opened(path, flags, at=0):
    fd = os.open(path, flags)
    if at:
        os.lseek(fd, at, os.SEEK_SET)
    return by_descriptor(fd)


def in_memory(count):
    fd = os.memfd_create('test')
    os.write(fd, content(count))
    os.lseek(fd, 0, os.SEEK_SET)
    return by_descriptor(fd)


STREAMS = {
    'fifo': (fifo, True),
    'pipe': (pipe, True),
    'pipe-nonblocking': (pipe, False),
    'unix': (unix, True),
    'unix-nonblocking': (unix, False),
    'unix-name': (named_unix, False),
    'tcp': (tcp, True),
    'tcp-nonblocking': (tcp, False),
    'tcp-name': (named_tcp, False),
    'terminal': (terminal, True),
}

SOURCES = {
    'file': lambda: End(file_of(BYTES)),
    'file-in-memory': lambda: End(file_of(BYTES, SHARED)),
    'file-by-descriptor': lambda: opened(file_of(BYTES), os.O_RDONLY),
    'file-in-the-middle': lambda: opened(file_of(BYTES), os.O_RDONLY, 8192),
    'file-at-its-end': lambda: opened(file_of(BYTES), os.O_RDONLY, BYTES),
    'memfd': lambda: in_memory(BYTES),
    'empty-file': lambda: End(file_of(0)),
    'small-file': lambda: End(file_of(SMALL_BYTES)),
    'null': lambda: End('/dev/null'),
    'zero': lambda: End('/dev/zero', limit=BYTES),
    'full': lambda: End('/dev/full', limit=BYTES),
    'random': lambda: End('/dev/urandom', limit=BYTES),
    'directory': lambda: End(PLAIN),
    'missing': lambda: End(fresh()),
    'of-proc': lambda: End('/proc/version'),
    'write-only': lambda: opened(file_of(BYTES), os.O_WRONLY),
}

SINKS = {
    'new-file': lambda: End(fresh()),
    'file': lambda: End(file_of(SMALL_BYTES)),
    'file-in-memory': lambda: End(fresh(SHARED)),
    'file-by-descriptor': lambda: opened(file_of(0), os.O_WRONLY),
    'full-file-by-descriptor': lambda: opened(file_of(SMALL_BYTES), os.O_WRONLY),
    'append': lambda: opened(file_of(SMALL_BYTES), os.O_WRONLY | os.O_APPEND),
    'memfd': lambda: in_memory(0),
    'null': lambda: End('/dev/null'),
    'zero': lambda: End('/dev/zero'),
    'full': lambda: End('/dev/full'),
    'directory': lambda: End(tempfile.mkdtemp(dir=PLAIN)),
    'missing-folder': lambda: End(fresh() + '/file'),
    'read-only': lambda: opened(file_of(SMALL_BYTES), os.O_RDONLY),
}

for _name, (_make, _blocks) in STREAMS.items():
    SOURCES[_name] = lambda make=_make, blocks=_blocks: make(BYTES, blocks)
    SINKS[_name] = lambda make=_make, blocks=_blocks: make(0, blocks)

# The kinds that every machine has. Those below come where the machine lets us.
COMMON = len(SOURCES), len(SINKS)


def try_command(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          encoding='utf-8')
    return done.stdout.strip() if done.returncode == 0 else None


def add_direct():
    """O_DIRECT on the file system of the tests. Returns why not."""
    try:
        opened(file_of(4096), os.O_RDONLY | os.O_DIRECT).close()
    except OSError as error:
        return f'O_DIRECT: {error.strerror}'
    SOURCES['direct'] = lambda: opened(file_of(BYTES), os.O_RDONLY | os.O_DIRECT)
    SINKS['direct'] = lambda: opened(file_of(0), os.O_WRONLY | os.O_DIRECT)
    return None


def add_block():
    if os.geteuid() != 0 or not shutil.which('losetup'):
        return 'block device: that takes root and losetup'
    device = try_command('losetup', '--find', '--show', file_of(16 << 20))
    if not device:
        return 'block device: there is no loop device'
    atexit.register(try_command, 'losetup', '--detach', device)
    SOURCES['block'] = lambda: End(device, limit=BYTES)
    SINKS['block'] = lambda: End(device)
    return None


def add_clones():
    """A file system that shares extents, made in a file."""
    if os.geteuid() != 0 or not shutil.which('mkfs.btrfs'):
        return 'clones: that takes root and mkfs.btrfs'
    disk, folder = fresh(SHARED), fresh()
    os.mkdir(folder)
    with open(disk, 'wb') as file:
        file.truncate(256 << 20)
    if try_command('mkfs.btrfs', '-q', disk) is None or \
            try_command('mount', '-o', 'loop', disk, folder) is None:
        return 'clones: btrfs cannot be made or mounted here'
    atexit.register(try_command, 'umount', folder)
    SOURCES['clonable'] = lambda: End(file_of(BYTES, folder))
    SOURCES['clonable-in-the-middle'] = lambda: opened(file_of(BYTES, folder), os.O_RDONLY,
                                                       8192)
    SINKS['clonable'] = lambda: End(fresh(folder))
    SINKS['full-clonable'] = lambda: End(file_of(SMALL_BYTES, folder))
    return None


def add_all():
    """Adds what this machine has. Returns why the rest is missing."""
    return [why for why in (add_direct(), add_block(), add_clones()) if why]

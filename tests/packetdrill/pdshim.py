"""ctypes over libdrillshim.so (shim.h): one class, Host. Structures and names follow the header."""

import ctypes as C
import os

ACCEPT, CONNECT, RECV, SEND, POLL, EPOLL_WAIT = range(6)
NEVER = (1 << 64) - 1


class Addr(C.Structure):
    _fields_ = [('family', C.c_uint8), ('pad', C.c_uint8), ('port', C.c_uint16), ('b', C.c_uint8 * 16)]

    @classmethod
    def of(cls, raw, port):
        a = cls(family=4 if len(raw) == 4 else 6, port=port)
        a.b[:len(raw)] = raw
        return a

    def raw(self):
        return bytes(self.b[:4 if self.family == 4 else 16])


class PollFd(C.Structure):
    _fields_ = [('fd', C.c_int32), ('events', C.c_uint16), ('revents', C.c_uint16)]


class EpollEvent(C.Structure):
    _fields_ = [('events', C.c_uint32), ('pad', C.c_uint32), ('data', C.c_uint64)]


class Call(C.Structure):
    _fields_ = [('op', C.c_int32), ('fd', C.c_int32), ('flags', C.c_int32), ('timeout_ms', C.c_int32),
                ('data', C.c_void_p), ('bytes', C.c_uint64), ('addr', Addr), ('pending', C.c_int32),
                ('inq', C.c_int32), ('result', C.c_int64), ('done_at', C.c_uint64), ('moved', C.c_uint64),
                ('expire_at', C.c_uint64), ('woken', C.c_int32), ('begun', C.c_int32), ('opening', C.c_int32),
                ('pad', C.c_int32), ('next', C.c_void_p)]


class PacketInfo(C.Structure):
    _fields_ = [('at', C.c_uint64), ('bytes', C.c_uint32), ('cause', C.c_int32)]


_PROTOTYPES = {
    'drill_create': (C.c_void_p, [C.c_uint64, C.c_char_p, C.c_uint16]),
    'drill_create_at': (C.c_void_p, [C.c_uint64, C.c_char_p, C.c_uint16, C.c_uint64]),
    'drill_destroy': (None, [C.c_void_p]),
    'drill_check': (C.c_char_p, [C.c_void_p]),
    'drill_fastopen_key': (C.c_int, [C.c_void_p, C.c_char_p, C.c_uint32]),
    'drill_listens': (C.c_bool, [C.c_void_p, C.c_uint16]),
    'drill_metrics_flush': (C.c_uint32, [C.c_void_p]),
    'drill_sysctl': (C.c_int, [C.c_void_p, C.c_char_p, C.c_int64]),
    'drill_sysctl_text': (C.c_int, [C.c_void_p, C.c_char_p, C.c_char_p]),
    'drill_route': (None, [C.c_void_p, C.c_uint16, C.c_uint16, C.c_uint8, C.c_uint8]),
    'drill_device': (None, [C.c_void_p, C.c_uint32, C.c_int32]),
    'drill_now': (C.c_uint64, [C.c_void_p]),
    'drill_deadline': (C.c_uint64, [C.c_void_p]),
    'drill_advance': (C.c_bool, [C.c_void_p, C.c_uint64]),
    'drill_hold': (None, [C.c_void_p]),
    'drill_pull': (C.c_int, [C.c_void_p, C.c_bool]),
    'drill_chunks': (None, [C.c_void_p, C.c_uint32]),
    'drill_runs': (None, [C.c_void_p, C.c_bool]),
    'drill_next_hop': (None, [C.c_void_p, C.c_int, C.c_int]),
    'drill_refused': (C.c_int, [C.c_void_p, C.c_uint32]),
    'drill_expire': (C.c_int, [C.c_void_p]),
    'drill_metrics': (C.c_int, [C.c_void_p, C.c_char_p, C.c_uint32, C.c_uint32, C.c_uint32]),
    'drill_input': (C.c_int, [C.c_void_p, C.c_char_p, C.c_size_t, C.c_uint16]),
    'drill_output': (C.c_int, [C.c_void_p, C.c_void_p, C.c_size_t, C.POINTER(PacketInfo)]),
    'drill_cause_name': (C.c_char_p, [C.c_int32]),
    'drill_drops': (C.c_void_p, [C.c_void_p, C.c_void_p, C.c_size_t]),
    'drill_trace': (C.c_int64, [C.c_void_p, C.c_uint32, C.c_char_p, C.c_uint64]),
    'drill_coverage': (C.c_char_p, [C.c_void_p, C.c_char_p, C.c_uint64]),
    'drill_counter': (C.c_int64, [C.c_void_p, C.c_char_p]),
    'drill_socket': (C.c_int, [C.c_void_p, C.c_int, C.c_int]),
    'drill_bind': (C.c_int, [C.c_void_p, C.c_int, C.POINTER(Addr)]),
    'drill_listen': (C.c_int, [C.c_void_p, C.c_int, C.c_int]),
    'drill_shutdown': (C.c_int, [C.c_void_p, C.c_int, C.c_int]),
    'drill_close': (C.c_int, [C.c_void_p, C.c_int]),
    'drill_setsockopt': (C.c_int, [C.c_void_p, C.c_int, C.c_int, C.c_int, C.c_void_p, C.c_uint32]),
    'drill_getsockopt': (C.c_int, [C.c_void_p, C.c_int, C.c_int, C.c_int, C.c_void_p, C.POINTER(C.c_uint32)]),
    'drill_getname': (C.c_int, [C.c_void_p, C.c_int, C.c_int, C.POINTER(Addr)]),
    'drill_fcntl': (C.c_int, [C.c_void_p, C.c_int, C.c_int, C.c_int]),
    'drill_ioctl': (C.c_int, [C.c_void_p, C.c_int, C.c_uint32, C.POINTER(C.c_int32)]),
    'drill_epoll_create': (C.c_int, [C.c_void_p]),
    'drill_epoll_ctl': (C.c_int, [C.c_void_p, C.c_int, C.c_int, C.c_int, C.POINTER(EpollEvent)]),
    'drill_begin': (None, [C.c_void_p, C.POINTER(Call)]),
    'drill_forget': (None, [C.c_void_p, C.POINTER(Call)]),
}


def load(path):
    lib = C.CDLL(os.path.abspath(path))
    for name, (result, args) in _PROTOTYPES.items():
        f = getattr(lib, name)
        f.restype, f.argtypes = result, args
    return lib


class Host:
    """A host; every method is the function of shim.h of that name. Use as a context."""

    ROOM = 70000

    def __init__(self, lib, seed, local, mtu, held_from=None):
        """held_from: its clock's beginning in ns, and it is held; None: any, and it isn't."""
        self.lib = lib
        place = (seed, ' '.join(local).encode(), mtu)
        self.d = lib.drill_create(*place) if held_from is None else lib.drill_create_at(*place, held_from)
        if not self.d:
            raise MemoryError('drill_create')
        if held_from is not None:
            self.lib.drill_hold(self.d)
        self.room = C.create_string_buffer(self.ROOM)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.drill_destroy(self.d)
        self.d = None

    def __getattr__(self, name):
        f = getattr(self.lib, 'drill_' + name)
        method = lambda *args: f(self.d, *args)
        setattr(self, name, method)
        return method

    def packets(self):
        """Packets that left since the last call: a list of (time in ns, cause, bytes)."""
        got, info = [], PacketInfo()
        while True:
            n = self.lib.drill_output(self.d, self.room, self.ROOM, C.byref(info))
            if n <= 0:
                return got
            got.append((info.at, self.lib.drill_cause_name(info.cause).decode(), self.room.raw[:n]))

    def traces(self):
        """Dumps of what the flight recorder has, one per connection."""
        room = C.create_string_buffer(8 << 20)
        for k in range(1000):
            n = self.lib.drill_trace(self.d, k, room, len(room))
            if n <= 0:
                return
            yield room.raw[:n]

    def coverage(self):
        """Names of causes and drop reasons that were counted."""
        room = C.create_string_buffer(16384)
        return self.lib.drill_coverage(self.d, room, len(room)).decode().split()

    def drop_names(self):
        self.lib.drill_drops(self.d, self.room, self.ROOM)
        return self.room.value.decode()

    def listens(self, port):
        return self.lib.drill_listens(self.d, port)

    def set_option(self, fd, level, name, raw):
        return self.lib.drill_setsockopt(self.d, fd, level, name, raw, len(raw))

    def get_option(self, fd, level, name, room):
        buf, n = C.create_string_buffer(max(room, 1)), C.c_uint32(room)
        r = self.lib.drill_getsockopt(self.d, fd, level, name, buf, C.byref(n))
        return r, buf.raw[:n.value] if r == 0 else b''
